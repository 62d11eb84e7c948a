//! Elementwise work of a model in one pass over memory: bias and activation, softmax with mask, layer norm. Each
//! operation has its gradient, so that models can be trained.
//!
//! Tensors are `f32` and contiguous; rows lie in the last dimension. Rows are worked on in parallel.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{gradients, math};
use crate::storage::values;

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 15;

/// A function of each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x`
    None,
    /// `max(x, 0)`
    Relu,
    /// `x Phi(x)`, Phi being the normal distribution function.
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`
    GeluTanh,
    /// `x / (1 + exp(-1.702 x))`
    QuickGelu,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `tanh(x)`
    Tanh,
}

impl Activation {
    /// By its name in `config.json`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "linear" => Self::None,
            "relu" => Self::Relu,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }
}

/// `activation(x + bias)`; `x` [.., n], `bias` [n].
pub(crate) fn biased(x: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, Biased(activation))
}

struct Biased(Activation);

impl CustomOp2 for Biased {
    fn name(&self) -> &'static str {
        "bias and activation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (values(x, x_layout)?, values(bias, bias_layout)?);
        let rows = rows_of(x_layout, bias.len())?;
        let out = by_rows([x], bias.len(), |_, [x], out| math::biased(x, bias, self.0, out));
        debug_assert_eq!(rows * bias.len(), out.len());
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = match self.0 {
            Activation::None => grad.clone(),
            activation => gradients::activation(x, bias, grad, activation)?,
        };
        let by_bias = gradients::column_sums(&grad, bias.elem_count())?;
        Ok((Some(grad), Some(by_bias)))
    }
}

/// `softmax(scale x + mask)` over the last dimension; `x` [a, b, rows, n]; `mask` [a or 1, b or 1, rows or 1, n].
pub(crate) fn softmax(x: &Tensor, scale: f64, mask: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&mask.contiguous()?, Softmax(scale))
}

struct Softmax(f64);

impl CustomOp2 for Softmax {
    fn name(&self) -> &'static str {
        "softmax with mask"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        mask: &CpuStorage,
        mask_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, mask) = (values(x, x_layout)?, values(mask, mask_layout)?);
        let (a, b, rows, n) = x_layout.shape().dims4()?;
        let (mask_a, mask_b, mask_rows, mask_n) = mask_layout.shape().dims4()?;
        let fits = |mask: usize, x: usize| mask == x || mask == 1;
        if !(fits(mask_a, a) && fits(mask_b, b) && fits(mask_rows, rows) && mask_n == n) {
            candle_core::bail!("mask {:?} for scores {:?}", mask_layout.shape(), x_layout.shape());
        }
        let mask_row = |row: usize| {
            let (i, j, k) = (row / (b * rows), row / rows % b, row % rows);
            let at = ((i % mask_a) * mask_b + j % mask_b) * mask_rows + k % mask_rows;
            mask.get(at * n..(at + 1) * n).unwrap_or_default()
        };
        let out = by_rows([x], n, |at, [x], out| {
            for (i, (x, out)) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).enumerate() {
                math::softmax(x, self.0 as f32, mask_row(at / n + i), out);
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        mask: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let weighted = (grad * result)?;
        let grad = (&weighted - result.broadcast_mul(&weighted.sum_keepdim(D::Minus1)?)?)?;
        if !mask.track_op() {
            return Ok((Some((grad * self.0)?), None));
        }
        let mut by_mask = grad.clone();
        for (dim, &size) in mask.dims().iter().enumerate() {
            if size == 1 && by_mask.dim(dim)? != 1 {
                by_mask = by_mask.sum_keepdim(dim)?;
            }
        }
        Ok((Some((grad * self.0)?), Some(by_mask)))
    }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of every row; `x` [.., n], `weight` and `bias` [n].
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm(eps))
}

struct LayerNorm(f64);

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values(x, x_layout)?, values(weight, weight_layout)?);
        let (bias, n) = (values(bias, bias_layout)?, weight.len());
        rows_of(x_layout, n)?;
        let out = by_rows([x], n, |_, [x], out| {
            for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                math::layer_norm(x, weight, bias, self.0 as f32, out);
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let n = weight.elem_count();
        let (ones, zeros) = (weight.ones_like()?, weight.zeros_like()?);
        let by_weight = (grad * x.apply_op3_no_bwd(&ones, &zeros, &LayerNorm(self.0))?)?;
        Ok((
            Some(gradients::layer_norm(x, weight, grad, self.0)?),
            Some(gradients::column_sums(&by_weight, n)?),
            Some(gradients::column_sums(grad, n)?),
        ))
    }
}

/// `activation(x)` of every element.
pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Activate(activation))
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = by_rows([values(x, layout)?], 1, |_, [x], out| math::biased(x, &[], self.0, out));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let bias = Tensor::zeros(x.dim(D::Minus1)?, x.dtype(), x.device())?;
        Ok(Some(gradients::activation(x, &bias, grad, self.0)?))
    }
}

/// The number of rows of `n` elements.
fn rows_of(layout: &Layout, n: usize) -> Result<usize> {
    match layout.dims().last() {
        Some(&last) if last == n && n > 0 => Ok(layout.shape().elem_count() / n),
        _ => candle_core::bail!("rows of {n} elements asked of a tensor of shape {:?}", layout.shape()),
    }
}

/// As many elements as each of `inputs` has, made by `f(start, parts, out)` of the same whole rows of all at a time.
pub(super) fn by_rows<const N: usize>(
    inputs: [&[f32]; N],
    row: usize,
    f: impl Fn(usize, [&[f32]; N], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = vec![0.0; inputs.first().map_or(0, |input| input.len())];
    let part = TASK.div_ceil(row.max(1)) * row.max(1);
    let work = |(i, out): (usize, &mut [f32])| {
        let (start, end) = (i * part, i * part + out.len());
        f(start, inputs.map(|input| input.get(start..end).unwrap_or_default()), out);
    };
    match out.len() <= part {
        true => work((0, &mut out)),
        false => out.par_chunks_mut(part).enumerate().for_each(work),
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Var};

    use super::*;

    const ACTIVATIONS: [Activation; 7] = [
        Activation::None,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Tanh,
    ];

    fn normal(shape: &[usize], seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..shape.iter().product()).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    fn var(shape: &[usize], seed: u64) -> Var {
        Var::from_slice(&normal(shape, seed), shape, &Device::Cpu).unwrap()
    }

    /// The gradients of `sum(w f(vars))` are those of central differences.
    fn check(vars: &[Var], f: impl Fn() -> Result<Tensor>) {
        let shape = f().unwrap().dims().to_vec();
        let weights = Tensor::from_slice(&normal(&shape, 99), shape, &Device::Cpu).unwrap();
        let loss = || (f().unwrap() * &weights).unwrap().sum_all().unwrap();
        let grads = loss().backward().unwrap();
        for var in vars {
            let grad = grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let start = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, grad) in grad.iter().enumerate() {
                let at = |step: f32| {
                    let mut moved = start.clone();
                    moved[i] += step;
                    var.set(&Tensor::from_slice(&moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    f64::from(loss().to_scalar::<f32>().unwrap())
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((difference - f64::from(*grad)).abs() < 2e-2, "{i}: {difference} {grad}");
            }
            var.set(&Tensor::from_slice(&start, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        let (x, bias) = (var(&[2, 3, 5], 1), var(&[5], 2));
        for activation in ACTIVATIONS.into_iter().filter(|&a| a != Activation::Relu) {
            check(&[x.clone(), bias.clone()], || biased(&x, &bias, activation));
            check(std::slice::from_ref(&x), || activate(&x, activation));
        }
        let (rows, matrix) = (var(&[4, 3], 7), var(&[5, 3], 8));
        check(&[rows.clone(), matrix.clone()], || gradients::product(&rows, &matrix));
        let weight = var(&[5], 3);
        check(&[x.clone(), weight.clone(), bias.clone()], || layer_norm(&x, &weight, &bias, 1e-5));
        let (scores, mask) = (var(&[2, 2, 3, 4], 4), var(&[1, 2, 3, 4], 5));
        check(&[scores.clone(), mask.clone()], || softmax(&scores, 0.5, &mask));
        let mask = var(&[2, 1, 1, 4], 6);
        check(&[scores.clone(), mask.clone()], || softmax(&scores, 0.5, &mask));
    }

    #[test]
    fn values_are_those_of_plain_operations() {
        let (x, bias) = (var(&[300, 7], 1), var(&[7], 2));
        let sum = x.broadcast_add(&bias).unwrap().to_dtype(candle_core::DType::F64).unwrap();
        let same = |a: &Tensor, b: &Tensor| {
            let b = b.to_dtype(candle_core::DType::F32).unwrap();
            let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(worst < 2e-6, "{worst}");
        };
        let cases = [
            (Activation::None, sum.clone()),
            (Activation::Relu, sum.relu().unwrap()),
            (Activation::Gelu, sum.gelu_erf().unwrap()),
            (Activation::GeluTanh, sum.gelu().unwrap()),
            (Activation::Silu, sum.silu().unwrap()),
            (Activation::Tanh, sum.tanh().unwrap()),
        ];
        for (activation, expected) in cases {
            same(&biased(&x, &bias, activation).unwrap(), &expected);
        }
        let far = Tensor::new(&[[-200f32, -20.0, 0.0, 20.0, 200.0]], &Device::Cpu).unwrap();
        for activation in ACTIVATIONS {
            let y = activate(&far, activation).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(y.iter().all(|y| y.is_finite()), "{activation:?} {y:?}");
        }
        let (weight, bias) = (var(&[7], 3), var(&[7], 4));
        let slow = candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-5).unwrap();
        same(&layer_norm(&x, &weight, &bias, 1e-5).unwrap(), &slow);
        let scores = var(&[3, 2, 4, 9], 5);
        let mask = var(&[3, 1, 1, 9], 6);
        let slow = (scores.as_tensor() * 0.3).unwrap().broadcast_add(&mask).unwrap();
        same(&softmax(&scores, 0.3, &mask).unwrap(), &candle_nn::ops::softmax(&slow, D::Minus1).unwrap());
    }
}
