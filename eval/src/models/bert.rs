//! BERT for sequence classification (Devlin et al. 2018), and the encoder that RoBERTa shares.

use candle_core::{DType, Tensor};

use super::config::Config;
use super::layers::{Activation, Attention, Block, Dropout, Embedding, LayerNorm, Linear, padding_mask};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// Token ids to logits: embeddings, blocks, the first token through the pooler.
pub(crate) struct Bert {
    encoder: Encoder,
    pooler: Linear,
    classifier: Linear,
}

impl Bert {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let size = config.size("hidden_size", 768)?;
        let root = weights.scope().model("bert");
        Ok(Self {
            encoder: Encoder::load(config, &root, 512)?,
            pooler: Linear::load(&root.at("pooler.dense"), size, size)?
                .then(Activation::Tanh)
                .dropping(head_dropout(config)?),
            classifier: Linear::load(&weights.scope().at("classifier"), size, config.labels()?)?,
        })
    }

    /// [n, len] to [n, labels].
    pub(crate) fn logits(
        &self,
        ids: &Tensor,
        mask: Option<&Tensor>,
        types: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (n, len) = ids.dims2()?;
        let positions = Tensor::arange(0, len as u32, ids.device())?.broadcast_as((n, len))?;
        let first = self.encoder.first_token(ids, &positions, mask, types)?;
        self.classifier.forward(&self.pooler.forward(&first)?)
    }
}

/// The dropout before the classifier.
pub(super) fn head_dropout(config: Config<'_>) -> Result<Dropout> {
    config.dropout("classifier_dropout", config.dropout("hidden_dropout_prob", 0.1)?.0)
}

/// Embeddings of words, positions and segments, and the blocks above them.
pub(crate) struct Encoder {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
    blocks: Vec<Block>,
}

impl Encoder {
    /// `scope` is that of `embeddings` and `encoder`.
    pub(crate) fn load(config: Config<'_>, scope: &Scope<'_>, max_positions: usize) -> Result<Self> {
        let size = config.size("hidden_size", 768)?;
        let eps = config.number("layer_norm_eps", 1e-12)?;
        let (words, types) = (config.size("vocab_size", 30522)?, config.size("type_vocab_size", 2)?);
        let positions = config.size("max_position_embeddings", max_positions)?;
        let embeddings = scope.at("embeddings");
        let layers = 0..config.size("num_hidden_layers", 12)?;
        Ok(Self {
            words: Embedding::sized(&embeddings.at("word_embeddings"), words, size)?,
            positions: Embedding::sized(&embeddings.at("position_embeddings"), positions, size)?,
            types: Embedding::sized(&embeddings.at("token_type_embeddings"), types, size)?,
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), size, eps)?,
            dropout: config.dropout("hidden_dropout_prob", 0.1)?,
            blocks: layers.map(|i| block(config, &scope.at("encoder.layer").at(i))).collect::<Result<_>>()?,
        })
    }

    /// The last hidden state of the first token, [n, size].
    pub(crate) fn first_token(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        mask: Option<&Tensor>,
        types: Option<&Tensor>,
    ) -> Result<Tensor> {
        let types = match types {
            Some(types) => types.clone(),
            None => ids.zeros_like()?.to_dtype(DType::U32)?,
        };
        let words = (self.words.forward(ids)? + self.types.forward(&types)?)?;
        let x = self.norm.forward(&(words + self.positions.forward(positions)?)?)?;
        let mut x = self.dropout.forward(x)?;
        let mask = padding_mask(ids, mask)?;
        for block in &self.blocks {
            x = block.forward_post_norm(&x, &mask)?;
        }
        Ok(x.narrow(1, 0, 1)?.squeeze(1)?)
    }
}

fn block(config: Config<'_>, scope: &Scope<'_>) -> Result<Block> {
    let (size, inner) = (config.size("hidden_size", 768)?, config.size("intermediate_size", 3072)?);
    let eps = config.number("layer_norm_eps", 1e-12)?;
    let (own, dropout) = (scope.at("attention.self"), config.dropout("hidden_dropout_prob", 0.1)?);
    let attention = Attention::new(
        Linear::load(&own.at("query"), size, size)?,
        Linear::load(&own.at("key"), size, size)?,
        Linear::load(&own.at("value"), size, size)?,
        Linear::load(&scope.at("attention.output.dense"), size, size)?.dropping(dropout),
        config.size("num_attention_heads", 12)?,
    )?
    .dropping(config.dropout("attention_probs_dropout_prob", 0.1)?);
    Ok(Block {
        attention,
        attention_norm: LayerNorm::load(&scope.at("attention.output.LayerNorm"), size, eps)?,
        up: Linear::load(&scope.at("intermediate.dense"), size, inner)?
            .then(config.activation("hidden_act", "gelu")?),
        down: Linear::load(&scope.at("output.dense"), inner, size)?.dropping(dropout),
        norm: LayerNorm::load(&scope.at("output.LayerNorm"), size, eps)?,
    })
}
