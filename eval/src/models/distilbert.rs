//! DistilBERT for sequence classification (Sanh et al. 2019).

use candle_core::Tensor;

use super::config::Config;
use super::layers::{Activation, Attention, Block, Dropout, Embedding, LayerNorm, Linear, padding_mask};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// As in `transformers`, where no config names another.
const EPS: f64 = 1e-12;

/// Token ids to logits: embeddings, blocks, two layers on the first token.
pub(crate) struct DistilBert {
    words: Embedding,
    positions: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
    blocks: Vec<Block>,
    pre_classifier: Linear,
    classifier: Linear,
}

impl DistilBert {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let size = config.size("dim", 768)?;
        let scope = weights.scope();
        let root = scope.model("distilbert");
        let embeddings = root.at("embeddings");
        let layers = 0..config.size("n_layers", 6)?;
        let (words, positions) =
            (config.size("vocab_size", 30522)?, config.size("max_position_embeddings", 512)?);
        Ok(Self {
            words: Embedding::sized(&embeddings.at("word_embeddings"), words, size)?,
            positions: Embedding::sized(&embeddings.at("position_embeddings"), positions, size)?,
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), size, EPS)?,
            dropout: config.dropout("dropout", 0.1)?,
            blocks: layers
                .map(|i| block(config, &root.at("transformer.layer").at(i)))
                .collect::<Result<_>>()?,
            pre_classifier: Linear::load(&scope.at("pre_classifier"), size, size)?
                .then(Activation::Relu)
                .dropping(config.dropout("seq_classif_dropout", 0.2)?),
            classifier: Linear::load(&scope.at("classifier"), size, config.labels()?)?,
        })
    }

    /// [n, len] to [n, labels].
    pub(crate) fn logits(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (n, len) = ids.dims2()?;
        let positions = Tensor::arange(0, len as u32, ids.device())?.broadcast_as((n, len))?;
        let x = self.norm.forward(&(self.words.forward(ids)? + self.positions.forward(&positions)?)?)?;
        let mut x = self.dropout.forward(x)?;
        let mask = padding_mask(ids, mask)?;
        for block in &self.blocks {
            x = block.forward_post_norm(&x, &mask)?;
        }
        let first = x.narrow(1, 0, 1)?.squeeze(1)?;
        self.classifier.forward(&self.pre_classifier.forward(&first)?)
    }
}

fn block(config: Config<'_>, scope: &Scope<'_>) -> Result<Block> {
    let (size, inner) = (config.size("dim", 768)?, config.size("hidden_dim", 3072)?);
    let own = scope.at("attention");
    let attention = Attention::new(
        Linear::load(&own.at("q_lin"), size, size)?,
        Linear::load(&own.at("k_lin"), size, size)?,
        Linear::load(&own.at("v_lin"), size, size)?,
        Linear::load(&own.at("out_lin"), size, size)?,
        config.size("n_heads", 12)?,
    )?
    .dropping(config.dropout("attention_dropout", 0.1)?);
    Ok(Block {
        attention,
        attention_norm: LayerNorm::load(&scope.at("sa_layer_norm"), size, EPS)?,
        up: Linear::load(&scope.at("ffn.lin1"), size, inner)?.then(config.activation("activation", "gelu")?),
        down: Linear::load(&scope.at("ffn.lin2"), inner, size)?.dropping(config.dropout("dropout", 0.1)?),
        norm: LayerNorm::load(&scope.at("output_layer_norm"), size, EPS)?,
    })
}
