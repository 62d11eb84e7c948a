//! Llama (Touvron et al. 2023) and Qwen2, which differs by biases of queries, keys and values.

use candle_core::Tensor;
use candle_nn::rotary_emb::rope;
use delta_dct::Error;

use super::config::Config;
use super::layers::{Embedding, Linear, RmsNorm, attend, causal_mask, check_heads, split_heads};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// Token ids to logits of the next token: embeddings, blocks, norm, head.
pub(crate) struct Llama {
    words: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    frequencies: Vec<f64>,
}

impl Llama {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let (size, eps) = (config.size("hidden_size", 4096)?, config.number("rms_norm_eps", 1e-6)?);
        if config.flag("use_sliding_window", false)? {
            return Err(Error::unsupported("config.json: use_sliding_window cannot be computed").into());
        }
        let root = weights.scope().model("model");
        let words = Embedding::load(&root.at("embed_tokens"), size)?;
        let head = match weights.scope().has("lm_head.weight") {
            true => Linear::load(&weights.scope().at("lm_head"), size, words.table().dim(0)?)?,
            false => Linear::tied(words.table().clone()),
        };
        let layers = 0..config.size("num_hidden_layers", 32)?;
        Ok(Self {
            words,
            blocks: layers.map(|i| Block::load(config, &root.at("layers").at(i))).collect::<Result<_>>()?,
            norm: RmsNorm::load(&root.at("norm"), size, eps)?,
            head,
            frequencies: frequencies(config)?,
        })
    }

    /// [n, len] to [n, len, vocabulary]. Positions count from 0, padding included.
    pub(crate) fn logits(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let len = ids.dim(1)?;
        let angles = |f: fn(f64) -> f64| {
            let row = |at| self.frequencies.iter().map(move |w| f(at as f64 * w) as f32);
            Tensor::from_iter((0..len).flat_map(row), ids.device())?.reshape((len, self.frequencies.len()))
        };
        let (cos, sin) = (angles(f64::cos)?, angles(f64::sin)?);
        let mask = causal_mask(ids, mask)?;
        let mut x = self.words.forward(ids)?;
        for block in &self.blocks {
            x = block.forward(&x, &mask, &cos, &sin)?;
        }
        self.head.forward(&self.norm.forward(&x)?)
    }
}

/// The size of one head.
fn head_size(config: Config<'_>) -> Result<usize> {
    let (size, heads) = (config.size("hidden_size", 4096)?, config.size("num_attention_heads", 32)?);
    config.size("head_dim", size / heads.max(1))
}

/// Radians a position of every pair of a head's features, slower and slower; `llama3` slows the slow ones further.
fn frequencies(config: Config<'_>) -> Result<Vec<f64>> {
    let rope = config.object("rope_parameters").or_else(|| config.object("rope_scaling")).unwrap_or(config);
    let base = rope.number("rope_theta", config.number("rope_theta", 10000.0)?)?;
    let size = head_size(config)?;
    let plain = (0..size / 2).map(|i| base.powf(-2.0 * i as f64 / size as f64));
    match rope.word("rope_type").or_else(|| rope.word("type")).unwrap_or("default") {
        "default" => Ok(plain.collect()),
        "linear" => {
            let factor = rope.number("factor", 1.0)?;
            Ok(plain.map(|w| w / factor).collect())
        }
        "llama3" => {
            let (factor, low) = (rope.number("factor", 8.0)?, rope.number("low_freq_factor", 1.0)?);
            let high = rope.number("high_freq_factor", 4.0)?;
            let context = rope.number("original_max_position_embeddings", 8192.0)?;
            let slowed = |w: f64| {
                let turns = context * w / std::f64::consts::TAU;
                let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - share) * w / factor + share * w
            };
            Ok(plain.map(slowed).collect())
        }
        other => {
            Err(Error::unsupported(format!("config.json: rope_type {other:?} cannot be computed")).into())
        }
    }
}

struct Block {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    heads: usize,
    /// Heads of keys and values; each serves the same number of heads of queries.
    shared_heads: usize,
}

impl Block {
    fn load(config: Config<'_>, scope: &Scope<'_>) -> Result<Self> {
        let (size, inner) = (config.size("hidden_size", 4096)?, config.size("intermediate_size", 11008)?);
        let (eps, heads) = (config.number("rms_norm_eps", 1e-6)?, config.size("num_attention_heads", 32)?);
        let shared_heads = config.size("num_key_value_heads", heads)?;
        let head = head_size(config)?;
        check_heads(heads, shared_heads)?;
        let (own, mlp) = (scope.at("self_attn"), scope.at("mlp"));
        Ok(Self {
            attention_norm: RmsNorm::load(&scope.at("input_layernorm"), size, eps)?,
            query: Linear::load(&own.at("q_proj"), size, heads * head)?,
            key: Linear::load(&own.at("k_proj"), size, shared_heads * head)?,
            value: Linear::load(&own.at("v_proj"), size, shared_heads * head)?,
            output: Linear::load(&own.at("o_proj"), heads * head, size)?,
            norm: RmsNorm::load(&scope.at("post_attention_layernorm"), size, eps)?,
            gate: Linear::load(&mlp.at("gate_proj"), size, inner)?
                .then(config.activation("hidden_act", "silu")?),
            up: Linear::load(&mlp.at("up_proj"), size, inner)?,
            down: Linear::load(&mlp.at("down_proj"), inner, size)?,
            heads,
            shared_heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let normal = self.attention_norm.forward(x)?;
        let query = split_heads(&self.query.forward(&normal)?, self.heads)?;
        let key = split_heads(&self.key.forward(&normal)?, self.shared_heads)?;
        let value = split_heads(&self.value.forward(&normal)?, self.shared_heads)?;
        let (query, key) = (rope(&query, cos, sin)?, rope(&key, cos, sin)?);
        let scale = 1.0 / (query.dim(3)? as f64).sqrt();
        let joined = attend(&query, &self.spread(&key)?, &self.spread(&value)?, scale, mask)?;
        let x = (self.output.forward(&joined)? + x)?;
        let normal = self.norm.forward(&x)?;
        let inner = (self.gate.forward(&normal)? * self.up.forward(&normal)?)?;
        Ok((self.down.forward(&inner)? + x)?)
    }

    /// [n, shared heads, len, size] to [n, heads, len, size], each repeated.
    fn spread(&self, x: &Tensor) -> Result<Tensor> {
        let (n, shared, len, size) = x.dims4()?;
        let times = self.heads / self.shared_heads;
        if times == 1 {
            return Ok(x.clone());
        }
        let spread = x.unsqueeze(2)?.expand((n, shared, times, len, size))?;
        Ok(spread.reshape((n, shared * times, len, size))?)
    }
}
