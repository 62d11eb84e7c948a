//! T5 (Raffel et al. 2019), encoder and decoder.

use candle_core::Tensor;

use super::config::Config;
use super::layers::{Embedding, Linear, RmsNorm, attend, causal_mask, padding_mask, split_heads};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// Token ids of encoder and decoder to logits of the decoder's next token.
pub(crate) struct T5 {
    words: Embedding,
    encoder: Stack,
    decoder: Stack,
    head: Linear,
    /// What the decoder's output is multiplied by before the head.
    scale: f64,
}

impl T5 {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let (size, scope) = (config.size("d_model", 512)?, weights.scope());
        let words = Embedding::load(&scope.at("shared"), size)?;
        let tied = config.flag("tie_word_embeddings", true)?;
        let head = match scope.has("lm_head.weight") {
            true => Linear::load(&scope.at("lm_head"), size, words.table().dim(0)?)?,
            false => Linear::tied(words.table().clone()),
        };
        let layers = config.size("num_layers", 6)?;
        let scaled = config.flag("scale_decoder_outputs", tied)?;
        Ok(Self {
            words,
            encoder: Stack::load(config, &scope.at("encoder"), layers, false)?,
            decoder: Stack::load(
                config,
                &scope.at("decoder"),
                config.size("num_decoder_layers", layers)?,
                true,
            )?,
            head,
            scale: if scaled { 1.0 / (size as f64).sqrt() } else { 1.0 },
        })
    }

    /// [n, len] and [n, decoder len] to [n, decoder len, vocabulary].
    pub(crate) fn logits(&self, ids: &Tensor, mask: Option<&Tensor>, decoder_ids: &Tensor) -> Result<Tensor> {
        let padding = padding_mask(ids, mask)?;
        let seen = self.encoder.forward(self.words.forward(ids)?, &padding, None)?;
        let causal = causal_mask(decoder_ids, None)?;
        let x = self.decoder.forward(self.words.forward(decoder_ids)?, &causal, Some((&seen, &padding)))?;
        self.head.forward(&(x * self.scale)?)
    }
}

/// Blocks that share the bias of their distances.
struct Stack {
    blocks: Vec<Block>,
    norm: RmsNorm,
    distances: Distances,
}

struct Block {
    own: (RmsNorm, Attention),
    /// To the encoder's output; decoders only.
    cross: Option<(RmsNorm, Attention)>,
    norm: RmsNorm,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl Stack {
    fn load(config: Config<'_>, scope: &Scope<'_>, layers: usize, decoder: bool) -> Result<Self> {
        let (size, eps) = (config.size("d_model", 512)?, config.number("layer_norm_epsilon", 1e-6)?);
        let block = |i| Block::load(config, &scope.at("block").at(i).at("layer"), decoder);
        Ok(Self {
            blocks: (0..layers).map(block).collect::<Result<_>>()?,
            norm: RmsNorm::load(&scope.at("final_layer_norm"), size, eps)?,
            distances: Distances::load(config, &scope.at("block.0.layer.0.SelfAttention"), decoder)?,
        })
    }

    /// `x` [n, len, size]; `other` is what the decoder looks at, and its mask.
    fn forward(&self, x: Tensor, mask: &Tensor, other: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
        let mask = mask.broadcast_add(&self.distances.bias(x.dim(1)?)?)?;
        let mut x = x;
        for block in &self.blocks {
            let (norm, own) = &block.own;
            let normal = norm.forward(&x)?;
            x = (own.forward(&normal, &normal, &mask)? + x)?;
            if let (Some((norm, cross)), Some((seen, padding))) = (&block.cross, other) {
                x = (cross.forward(&norm.forward(&x)?, seen, padding)? + x)?;
            }
            x = (block.network(&block.norm.forward(&x)?)? + x)?;
        }
        self.norm.forward(&x)
    }
}

impl Block {
    /// `scope` numbers its parts: attention, for decoders attention to the encoder, network.
    fn load(config: Config<'_>, scope: &Scope<'_>, decoder: bool) -> Result<Self> {
        let (size, inner) = (config.size("d_model", 512)?, config.size("d_ff", 2048)?);
        let eps = config.number("layer_norm_epsilon", 1e-6)?;
        let projection = config.word("feed_forward_proj").unwrap_or("relu");
        let gated = projection.strip_prefix("gated-");
        // What the config calls gated-gelu is the tanh form of it.
        let default = if gated == Some("gelu") { "gelu_new" } else { gated.unwrap_or(projection) };
        let activation = config.activation("dense_act_fn", default)?;
        let attention = |part: Scope<'_>, name: &str| -> Result<_> {
            let norm = RmsNorm::load(&part.at("layer_norm"), size, eps)?;
            Ok((norm, Attention::load(config, &part.at(name))?))
        };
        let last = scope.at(if decoder { 2 } else { 1 });
        let network = last.at("DenseReluDense");
        let linear = |name| Linear::load(&network.at(name), size, inner);
        Ok(Self {
            own: attention(scope.at(0), "SelfAttention")?,
            cross: decoder.then(|| attention(scope.at(1), "EncDecAttention")).transpose()?,
            norm: RmsNorm::load(&last.at("layer_norm"), size, eps)?,
            gate: gated
                .map(|_| Ok::<_, crate::error::Error>(linear("wi_0")?.then(activation)))
                .transpose()?,
            up: match gated {
                Some(_) => linear("wi_1")?,
                None => linear("wi")?.then(activation),
            },
            down: Linear::load(&network.at("wo"), inner, size)?,
        })
    }

    fn network(&self, x: &Tensor) -> Result<Tensor> {
        let up = self.up.forward(x)?;
        match &self.gate {
            Some(gate) => self.down.forward(&(gate.forward(x)? * up)?),
            None => self.down.forward(&up),
        }
    }
}

/// Attention whose scores are not scaled.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

impl Attention {
    fn load(config: Config<'_>, scope: &Scope<'_>) -> Result<Self> {
        let (size, heads) = (config.size("d_model", 512)?, config.size("num_heads", 8)?);
        let inner = heads * config.size("d_kv", 64)?;
        let linear = |name| Linear::load(&scope.at(name), size, inner);
        Ok(Self {
            query: linear("q")?,
            key: linear("k")?,
            value: linear("v")?,
            output: Linear::load(&scope.at("o"), inner, size)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, seen: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let split = |x: Tensor| split_heads(&x, self.heads);
        let (query, key) = (split(self.query.forward(x)?)?, split(self.key.forward(seen)?)?);
        let value = split(self.value.forward(seen)?)?;
        self.output.forward(&attend(&query, &key, &value, 1.0, mask)?)
    }
}

/// A learned bias for classes of distances, small ones one by one, larger ones in logarithmic steps.
struct Distances {
    table: Embedding,
    classes: usize,
    farthest: usize,
    /// Whether only what lies before is seen.
    causal: bool,
}

impl Distances {
    fn load(config: Config<'_>, scope: &Scope<'_>, causal: bool) -> Result<Self> {
        let heads = config.size("num_heads", 8)?;
        Ok(Self {
            table: Embedding::load(&scope.at("relative_attention_bias"), heads)?,
            classes: config.size("relative_attention_num_buckets", 32)?,
            farthest: config.size("relative_attention_max_distance", 128)?,
            causal,
        })
    }

    /// [1, heads, len, len].
    fn bias(&self, len: usize) -> Result<Tensor> {
        let table = self.table.table();
        let class = |i: usize| self.class(i % len, i / len) as u32;
        let classes: Vec<u32> = (0..len * len).map(class).collect();
        let classes = Tensor::from_vec(classes, len * len, table.device())?;
        let bias = table.index_select(&classes, 0)?.reshape((1, len, len, table.dim(1)?))?;
        Ok(bias.permute((0, 3, 1, 2))?.contiguous()?)
    }

    /// The class of looking from `at` to `to`.
    fn class(&self, to: usize, at: usize) -> usize {
        let (classes, start) = match self.causal {
            true => (self.classes, 0),
            false => (self.classes / 2, if to > at { self.classes / 2 } else { 0 }),
        };
        let distance = if self.causal { at.saturating_sub(to) } else { at.abs_diff(to) };
        let exact = classes / 2;
        if distance < exact {
            return start + distance;
        }
        // In f32, as the model was trained.
        let far = (distance as f32 / exact as f32).ln() / (self.farthest as f64 / exact as f64).ln() as f32;
        start + (exact + (far * (classes - exact) as f32) as usize).min(classes.saturating_sub(1))
    }
}
