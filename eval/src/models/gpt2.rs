//! GPT-2 (Radford et al. 2019). Its matrices are stored [in, out].

use candle_core::Tensor;
use delta_dct::Error;

use super::config::Config;
use super::layers::{Embedding, LayerNorm, Linear, attend, causal_mask, check_heads, split_heads};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// Token ids to logits of the next token; the head is the table of words.
pub(crate) struct Gpt2 {
    words: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt2 {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let (size, eps) = (config.size("n_embd", 768)?, config.number("layer_norm_epsilon", 1e-5)?);
        for (name, usual) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)] {
            if config.flag(name, usual)? != usual {
                return Err(Error::unsupported(format!("config.json: {name} cannot be computed")).into());
            }
        }
        let root = weights.scope().model("transformer");
        let words = Embedding::load(&root.at("wte"), size)?;
        let layers = 0..config.size("n_layer", 12)?;
        Ok(Self {
            head: Linear::tied(words.table().clone()),
            words,
            positions: Embedding::load(&root.at("wpe"), size)?,
            blocks: layers.map(|i| Block::load(config, &root.at("h").at(i))).collect::<Result<_>>()?,
            norm: LayerNorm::load(&root.at("ln_f"), size, eps)?,
        })
    }

    /// [n, len] to [n, len, vocabulary]. Positions count from 0, padding included.
    pub(crate) fn logits(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (n, len) = ids.dims2()?;
        let positions = Tensor::arange(0, len as u32, ids.device())?.broadcast_as((n, len))?;
        let mut x = (self.words.forward(ids)? + self.positions.forward(&positions)?)?;
        let mask = causal_mask(ids, mask)?;
        for block in &self.blocks {
            x = block.forward(&x, &mask)?;
        }
        self.head.forward(&self.norm.forward(&x)?)
    }
}

struct Block {
    attention_norm: LayerNorm,
    /// Queries, keys and values side by side.
    input: Linear,
    output: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    heads: usize,
}

impl Block {
    fn load(config: Config<'_>, scope: &Scope<'_>) -> Result<Self> {
        let (size, eps) = (config.size("n_embd", 768)?, config.number("layer_norm_epsilon", 1e-5)?);
        let (inner, heads) = (config.size("n_inner", 4 * size)?, config.size("n_head", 12)?);
        check_heads(size, heads)?;
        let (attention, mlp) = (scope.at("attn"), scope.at("mlp"));
        let activation = config.activation("activation_function", "gelu_new")?;
        Ok(Self {
            attention_norm: LayerNorm::load(&scope.at("ln_1"), size, eps)?,
            input: Linear::transposed(&attention.at("c_attn"), size, 3 * size)?,
            output: Linear::transposed(&attention.at("c_proj"), size, size)?,
            norm: LayerNorm::load(&scope.at("ln_2"), size, eps)?,
            up: Linear::transposed(&mlp.at("c_fc"), size, inner)?.then(activation),
            down: Linear::transposed(&mlp.at("c_proj"), inner, size)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let parts = self.input.forward(&self.attention_norm.forward(x)?)?.chunk(3, 2)?;
        let [query, key, value] = parts.as_slice() else {
            return Err(candle_core::Error::msg("queries, keys and values are not three").into());
        };
        let size = query.dim(2)? / self.heads;
        let split = |x: &Tensor| split_heads(x, self.heads);
        let scale = 1.0 / (size as f64).sqrt();
        let joined = attend(&split(query)?, &split(key)?, &split(value)?, scale, mask)?;
        let x = (self.output.forward(&joined)? + x)?;
        Ok((self.down.forward(&self.up.forward(&self.norm.forward(&x)?)?)? + x)?)
    }
}
