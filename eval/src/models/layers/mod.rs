//! What architectures are made of.

mod dropout;
pub(crate) mod fused;
mod gradients;
mod math;

use candle_core::Tensor;
use delta_dct::Error;

pub(crate) use self::dropout::{Dropout, training};
pub(crate) use self::fused::Activation;
use crate::error::Result;
use crate::weights::Scope;

/// `x weight^T + bias`, then an activation, then in training dropout; `weight` [out, in].
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    activation: Activation,
    dropout: Dropout,
}

impl Linear {
    /// `weight` and, if the scope has one, `bias`.
    pub(crate) fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bias = scope.has("bias").then(|| scope.tensor("bias", &[outputs])).transpose()?;
        Ok(Self { bias, ..Self::tied(scope.tensor("weight", &[outputs, inputs])?) })
    }

    /// A convolution over whole patches, `weight` [out, in...], as a matrix.
    pub(crate) fn flattened(scope: &Scope<'_>, shape: &[usize; 4]) -> Result<Self> {
        let weight = scope.tensor("weight", shape)?.flatten_from(1)?;
        let [outputs, ..] = *shape;
        let bias = scope.has("bias").then(|| scope.tensor("bias", &[outputs])).transpose()?;
        Ok(Self { bias, ..Self::tied(weight) })
    }

    /// `weight` is stored [in, out].
    pub(crate) fn transposed(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.tensor("weight", &[inputs, outputs])?.t()?;
        let bias = scope.has("bias").then(|| scope.tensor("bias", &[outputs])).transpose()?;
        Ok(Self { bias, ..Self::tied(weight) })
    }

    /// A weight alone, such as one that another layer has, too.
    pub(crate) fn tied(weight: Tensor) -> Self {
        Self { weight, bias: None, activation: Activation::None, dropout: Dropout::default() }
    }

    /// With an activation of the result.
    pub(crate) fn then(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// With dropout of the result.
    pub(crate) fn dropping(self, dropout: Dropout) -> Self {
        Self { dropout, ..self }
    }

    /// `x` [.., in] to [.., out].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (inputs, outputs) = (self.weight.dim(1)?, self.weight.dim(0)?);
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        let y = gradients::product(&x.reshape(((), inputs))?, &self.weight)?;
        let y = match &self.bias {
            Some(bias) => fused::biased(&y, bias, self.activation)?,
            None if self.activation == Activation::None => y,
            None => fused::activate(&y, self.activation)?,
        };
        self.dropout.forward(y.reshape(shape)?)
    }
}

/// Rows of mean 0 and variance 1, times `weight`, plus `bias`.
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(scope: &Scope<'_>, size: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[size])?, bias: scope.tensor("bias", &[size])?, eps })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(fused::layer_norm(x, &self.weight, &self.bias, self.eps)?)
    }
}

/// Rows of root mean square 1, times `weight`.
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(scope: &Scope<'_>, size: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[size])?, eps })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps as f32)?)
    }
}

/// A row of a table per id.
pub(crate) struct Embedding {
    table: Tensor,
}

impl Embedding {
    pub(crate) fn load(scope: &Scope<'_>, size: usize) -> Result<Self> {
        Self::sized(scope, 0, size)
    }

    /// The same; a table that is not there, but new, has `rows`.
    pub(crate) fn sized(scope: &Scope<'_>, rows: usize, size: usize) -> Result<Self> {
        Ok(Self { table: scope.matrix("weight", rows, size)? })
    }

    /// The table, [ids, size].
    pub(crate) fn table(&self) -> &Tensor {
        &self.table
    }

    /// `ids` u32 [n, len] to [n, len, size].
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (n, len) = ids.dims2()?;
        let rows = self.table.index_select(&ids.flatten_all()?, 0)?;
        Ok(rows.reshape((n, len, self.table.dim(1)?))?)
    }
}

/// Attention of several heads over rows of one sequence.
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    dropout: Dropout,
}

impl Attention {
    /// Errors: InvalidArgument if the heads do not share the size evenly.
    pub(crate) fn new(
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
        heads: usize,
    ) -> Result<Self> {
        check_heads(query.weight.dim(0)?, heads)?;
        Ok(Self { query, key, value, output, heads, dropout: Dropout::default() })
    }

    /// With dropout of the shares that rows have in each other.
    pub(crate) fn dropping(self, dropout: Dropout) -> Self {
        Self { dropout, ..self }
    }

    /// `x` [n, len, size]; `mask` as [`attend`] takes it.
    pub(crate) fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let split = |x: Tensor| split_heads(&x, self.heads);
        let (query, key) = (split(self.query.forward(x)?)?, split(self.key.forward(x)?)?);
        let value = split(self.value.forward(x)?)?;
        let size = query.dim(3)? as f64;
        let shares = shares(&query, &key, 1.0 / size.sqrt(), mask)?;
        self.output.forward(&joined(&self.dropout.forward(shares)?, &value)?)
    }
}

/// Fails unless `heads` share `size` evenly.
pub(crate) fn check_heads(size: usize, heads: usize) -> Result<()> {
    match heads > 0 && size.is_multiple_of(heads) {
        true => Ok(()),
        false => {
            let message = format!("config.json: {heads} attention heads cannot share a size of {size}");
            Err(Error::invalid(message).into())
        }
    }
}

/// [n, len, heads x size] to [n, heads, len, size].
pub(crate) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, len, size) = x.dims3()?;
    Ok(x.reshape((n, len, heads, size / heads))?.transpose(1, 2)?.contiguous()?)
}

/// `softmax(scale query key^T + mask) value`, heads joined: [n, heads, len, size] each to [n, len, heads x size].
///
/// `mask` is added to the scores: [n or 1, heads or 1, len or 1, len].
pub(crate) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    scale: f64,
    mask: &Tensor,
) -> Result<Tensor> {
    joined(&shares(query, key, scale, mask)?, value)
}

/// `softmax(scale query key^T + mask)`, [n, heads, len, len]; arguments as in [`attend`].
pub(crate) fn shares(query: &Tensor, key: &Tensor, scale: f64, mask: &Tensor) -> Result<Tensor> {
    Ok(fused::softmax(&query.matmul(&key.t()?)?, scale, mask)?)
}

/// `shares value`, heads joined: [n, len, heads x size].
pub(crate) fn joined(shares: &Tensor, value: &Tensor) -> Result<Tensor> {
    let joined = shares.matmul(value)?.transpose(1, 2)?;
    let (n, len, heads, size) = joined.dims4()?;
    Ok(joined.reshape((n, len, heads * size))?)
}

/// What is added to the scores of padding: far below all others, and finite, so that a row that sees nothing at all
/// stays finite, too.
pub(crate) const HIDDEN: f32 = f32::MIN;

/// The mask of padding, [n, 1, 1, len]: 0 for tokens and [`HIDDEN`] for padding; `mask` u32 [n, len].
pub(crate) fn padding_mask(ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (n, len) = ids.dims2()?;
    let hide = |&token: &u32| if token == 0 { HIDDEN } else { 0.0 };
    let added: Vec<f32> = match mask {
        Some(mask) => mask.flatten_all()?.to_vec1::<u32>()?.iter().map(hide).collect(),
        None => vec![0.0; n * len],
    };
    Ok(Tensor::from_vec(added, (n, 1, 1, len), ids.device())?)
}

/// The mask of a language model, [n or 1, 1, len, len]: nothing sees padding, or what comes later.
pub(crate) fn causal_mask(ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (n, len) = ids.dims2()?;
    let later = |i: usize| if i % len > i / len { HIDDEN } else { 0.0 };
    let causal = Tensor::from_iter((0..len * len).map(later), ids.device())?.reshape((1, 1, len, len))?;
    match mask {
        // Never the sum of two masks, which would be infinite.
        Some(_) => Ok(padding_mask(ids, mask)?.broadcast_minimum(&causal.broadcast_as((n, 1, len, len))?)?),
        None => Ok(causal),
    }
}

/// Attention and a network of two layers, each with a residual and a norm.
pub(crate) struct Block {
    pub(crate) attention: Attention,
    pub(crate) attention_norm: LayerNorm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) norm: LayerNorm,
}

impl Block {
    /// Norms behind the residuals (BERT).
    pub(crate) fn forward_post_norm(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = self.attention_norm.forward(&(self.attention.forward(x, mask)? + x)?)?;
        self.norm.forward(&(self.down.forward(&self.up.forward(&x)?)? + x)?)
    }

    /// Norms before attention and network (ViT).
    pub(crate) fn forward_pre_norm(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (self.attention.forward(&self.attention_norm.forward(x)?, mask)? + x)?;
        Ok((self.down.forward(&self.up.forward(&self.norm.forward(&x)?)?)? + x)?)
    }
}
