//! DistilBERT for sequence classification (Sanh et al. 2019).

use candle_core::Tensor;

use super::config::Config;
use super::layers::{Activation, Attention, Block, Embedding, LayerNorm, Linear, padding_mask};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// As in `transformers`, where no config names another.
const EPS: f64 = 1e-12;

/// Token ids to logits: embeddings, blocks, two layers on the first token.
pub(crate) struct DistilBert {
    words: Embedding,
    positions: Embedding,
    norm: LayerNorm,
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
        Ok(Self {
            words: Embedding::load(&embeddings.at("word_embeddings"), size)?,
            positions: Embedding::load(&embeddings.at("position_embeddings"), size)?,
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), size, EPS)?,
            blocks: layers
                .map(|i| block(config, &root.at("transformer.layer").at(i)))
                .collect::<Result<_>>()?,
            pre_classifier: Linear::load(&scope.at("pre_classifier"), size, size)?.then(Activation::Relu),
            classifier: Linear::load(&scope.at("classifier"), size, config.labels()?)?,
        })
    }

    /// [n, len] to [n, labels].
    pub(crate) fn logits(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (n, len) = ids.dims2()?;
        let positions = Tensor::arange(0, len as u32, ids.device())?.broadcast_as((n, len))?;
        let mut x = self.norm.forward(&(self.words.forward(ids)? + self.positions.forward(&positions)?)?)?;
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
    )?;
    Ok(Block {
        attention,
        attention_norm: LayerNorm::load(&scope.at("sa_layer_norm"), size, EPS)?,
        up: Linear::load(&scope.at("ffn.lin1"), size, inner)?.then(config.activation("activation", "gelu")?),
        down: Linear::load(&scope.at("ffn.lin2"), inner, size)?,
        norm: LayerNorm::load(&scope.at("output_layer_norm"), size, EPS)?,
    })
}
