//! The gradients of the fused operations, and a product whose gradients lie as its inputs do.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::fused::{Activation, by_rows};
use super::math;
use crate::storage::values;

/// `x weight^T`; `x` [rows, in], `weight` [out, in].
pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, Product)
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product with a transposed matrix"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((m, k), transposed) = (x_layout.shape().dims2()?, weight_layout.transpose(0, 1)?);
        let (inner, n) = transposed.shape().dims2()?;
        if inner != k {
            candle_core::bail!("a matrix of {inner} columns for rows of {k} elements");
        }
        let product = x.matmul(weight, (1, m, n, k), x_layout, &transposed)?;
        Ok((product, Shape::from((m, n))))
    }

    /// Laid out as `x` and `weight` are: as the plain product's gradient of a transposed matrix, that of `weight` would
    /// have to be transposed again.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.matmul(weight)?), Some(grad.t()?.matmul(x)?)))
    }
}

/// The sums of the columns of `x`, whose rows have `n` elements; [n]. A product is faster than a sum across rows.
pub(super) fn column_sums(x: &Tensor, n: usize) -> Result<Tensor> {
    let x = x.reshape(((), n))?;
    Tensor::ones((1, x.dim(0)?), x.dtype(), x.device())?.matmul(&x)?.squeeze(0)
}

/// `grad activation'(x + bias)`.
pub(super) fn activation(x: &Tensor, bias: &Tensor, grad: &Tensor, activation: Activation) -> Result<Tensor> {
    x.apply_op3_no_bwd(bias, &grad.contiguous()?, &Slope(activation))
}

struct Slope(Activation);

impl CustomOp3 for Slope {
    fn name(&self) -> &'static str {
        "gradient of an activation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias, grad) = (values(x, x_layout)?, values(bias, bias_layout)?, values(grad, grad_layout)?);
        let out = by_rows([x, grad], bias.len(), |_, [x, grad], out| math::slope(x, bias, grad, self.0, out));
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

/// The gradient of a layer norm with respect to `x`.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, grad: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op3_no_bwd(weight, &grad.contiguous()?, &NormSlope(eps))
}

struct NormSlope(f64);

impl CustomOp3 for NormSlope {
    fn name(&self) -> &'static str {
        "gradient of a layer norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values(x, x_layout)?, values(weight, weight_layout)?);
        let (grad, n) = (values(grad, grad_layout)?, weight.len());
        let out = by_rows([x, grad], n, |_, [x, grad], out| {
            for ((x, grad), out) in x.chunks_exact(n).zip(grad.chunks_exact(n)).zip(out.chunks_exact_mut(n)) {
                math::layer_norm_slope(x, weight, grad, self.0 as f32, out);
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}
