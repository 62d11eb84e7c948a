//! RoBERTa for sequence classification (Liu et al. 2019): BERT's encoder, positions that skip padding, another head.

use candle_core::Tensor;

use super::bert::{Encoder, head_dropout};
use super::config::Config;
use super::layers::{Activation, Dropout, Linear};
use crate::error::Result;
use crate::weights::Weights;

/// Token ids to logits.
pub(crate) struct Roberta {
    encoder: Encoder,
    dropout: Dropout,
    dense: Linear,
    classifier: Linear,
    padding: u32,
}

impl Roberta {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let size = config.size("hidden_size", 768)?;
        let (head, dropout) = (weights.scope().at("classifier"), head_dropout(config)?);
        Ok(Self {
            encoder: Encoder::load(config, &weights.scope().model("roberta"), 514)?,
            dropout,
            dense: Linear::load(&head.at("dense"), size, size)?.then(Activation::Tanh).dropping(dropout),
            classifier: Linear::load(&head.at("out_proj"), size, config.labels()?)?,
            padding: config.size("pad_token_id", 1)? as u32,
        })
    }

    /// [n, len] to [n, labels].
    pub(crate) fn logits(
        &self,
        ids: &Tensor,
        mask: Option<&Tensor>,
        types: Option<&Tensor>,
    ) -> Result<Tensor> {
        let first = self.encoder.first_token(ids, &self.positions(ids)?, mask, types)?;
        self.classifier.forward(&self.dense.forward(&self.dropout.forward(first)?)?)
    }

    /// Tokens are numbered from `padding + 1`; padding itself, told by its id, has the position `padding`.
    fn positions(&self, ids: &Tensor) -> Result<Tensor> {
        let mut positions = Vec::with_capacity(ids.elem_count());
        for row in ids.to_vec2::<u32>()? {
            let mut last = self.padding;
            positions.extend(row.iter().map(|&id| {
                last += u32::from(id != self.padding);
                if id == self.padding { self.padding } else { last }
            }));
        }
        Ok(Tensor::from_vec(positions, ids.shape(), ids.device())?)
    }
}
