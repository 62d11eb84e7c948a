//! The vision transformer for image classification (Dosovitskiy et al. 2020).

use candle_core::Tensor;
use delta_dct::Error;

use super::config::Config;
use super::layers::{Attention, Block, Dropout, LayerNorm, Linear};
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// Pixels to logits: patches, blocks, the class token.
pub(crate) struct Vit {
    patches: Patches,
    class_token: Tensor,
    positions: Tensor,
    dropout: Dropout,
    blocks: Vec<Block>,
    norm: LayerNorm,
    classifier: Linear,
}

impl Vit {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let (size, eps) = (config.size("hidden_size", 768)?, config.number("layer_norm_eps", 1e-12)?);
        let (height, width) = config.sides("image_size", 224)?;
        let scope = weights.scope();
        let root = scope.model("vit");
        let patches = Patches::load(config, &root.at("embeddings.patch_embeddings"), size)?;
        let (rows, cols) = (height / patches.height, width / patches.width);
        let layers = 0..config.size("num_hidden_layers", 12)?;
        Ok(Self {
            class_token: root.tensor("embeddings.cls_token", &[1, 1, size])?,
            positions: root.tensor("embeddings.position_embeddings", &[1, rows * cols + 1, size])?,
            dropout: config.dropout("hidden_dropout_prob", 0.0)?,
            blocks: layers.map(|i| block(config, &root.at("encoder.layer").at(i))).collect::<Result<_>>()?,
            norm: LayerNorm::load(&root.at("layernorm"), size, eps)?,
            classifier: Linear::load(&scope.at("classifier"), size, config.labels()?)?,
            patches,
        })
    }

    /// [n, channels, height, width] to [n, labels].
    pub(crate) fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        let (patches, _) = self.patches.forward(pixels)?;
        let (n, _, size) = patches.dims3()?;
        let class = self.class_token.broadcast_as((n, 1, size))?;
        let x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        let mut x = self.dropout.forward(x)?;
        let mask = Tensor::zeros((1, 1, 1, x.dim(1)?), x.dtype(), x.device())?;
        for block in &self.blocks {
            x = block.forward_pre_norm(&x, &mask)?;
        }
        let class = x.narrow(1, 0, 1)?.squeeze(1)?;
        self.classifier.forward(&self.norm.forward(&class)?)
    }
}

fn block(config: Config<'_>, scope: &Scope<'_>) -> Result<Block> {
    let (size, inner) = (config.size("hidden_size", 768)?, config.size("intermediate_size", 3072)?);
    let eps = config.number("layer_norm_eps", 1e-12)?;
    let (own, dropout) = (scope.at("attention.attention"), config.dropout("hidden_dropout_prob", 0.0)?);
    let attention = Attention::new(
        Linear::load(&own.at("query"), size, size)?,
        Linear::load(&own.at("key"), size, size)?,
        Linear::load(&own.at("value"), size, size)?,
        Linear::load(&scope.at("attention.output.dense"), size, size)?.dropping(dropout),
        config.size("num_attention_heads", 12)?,
    )?
    .dropping(config.dropout("attention_probs_dropout_prob", 0.0)?);
    Ok(Block {
        attention,
        attention_norm: LayerNorm::load(&scope.at("layernorm_before"), size, eps)?,
        up: Linear::load(&scope.at("intermediate.dense"), size, inner)?
            .then(config.activation("hidden_act", "gelu")?),
        down: Linear::load(&scope.at("output.dense"), inner, size)?.dropping(dropout),
        norm: LayerNorm::load(&scope.at("layernorm_after"), size, eps)?,
    })
}

/// A convolution whose steps are as long as its kernel: one product of patches and weights.
pub(crate) struct Patches {
    projection: Linear,
    channels: usize,
    height: usize,
    width: usize,
}

impl Patches {
    /// `projection` of `scope`, to `size` features.
    pub(crate) fn load(config: Config<'_>, scope: &Scope<'_>, size: usize) -> Result<Self> {
        let (height, width) = config.sides("patch_size", 16)?;
        let channels = config.size("num_channels", 3)?;
        if height == 0 || width == 0 {
            return Err(Error::invalid("config.json: patch_size is 0").into());
        }
        let shape = [size, channels, height, width];
        let projection = Linear::flattened(&scope.at("projection"), &shape)?;
        Ok(Self { projection, channels, height, width })
    }

    /// [n, channels, height, width] to [n, patches, size], row by row, and the numbers of rows and columns. Pixels
    /// beyond whole patches are zero-padded to one.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<(Tensor, (usize, usize))> {
        let (n, channels, height, width) = pixels.dims4()?;
        if channels != self.channels {
            let message = format!("images have {channels} channels, and the model takes {}", self.channels);
            return Err(Error::mismatch(message).into());
        }
        let (rows, cols) = (height.div_ceil(self.height), width.div_ceil(self.width));
        let pixels = pixels.pad_with_zeros(2, 0, rows * self.height - height)?;
        let pixels = pixels.pad_with_zeros(3, 0, cols * self.width - width)?;
        let cut = pixels.reshape(&[n, channels, rows, self.height, cols, self.width][..])?;
        let patches = cut.permute([0, 2, 4, 1, 3, 5].as_slice())?;
        let patches = patches.reshape((n, rows * cols, channels * self.height * self.width))?;
        Ok((self.projection.forward(&patches)?, (rows, cols)))
    }
}
