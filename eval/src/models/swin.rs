//! The Swin transformer for image classification (Liu et al. 2021): attention in windows that shift from block to
//! block, with a learned bias for every offset inside a window.
//!
//! Maps of features are [n, rows, cols, size] between the blocks.

use candle_core::Tensor;
use delta_dct::Error;

use super::config::Config;
use super::layers::{Dropout, HIDDEN, LayerNorm, Linear, check_heads, joined, shares, split_heads};
use super::vit::Patches;
use crate::error::Result;
use crate::weights::{Scope, Weights};

/// Pixels to logits: patches, stages of blocks with half the sides and twice the size each, the mean of all places.
pub(crate) struct Swin {
    patches: Patches,
    norm: LayerNorm,
    positions: Option<Tensor>,
    dropout: Dropout,
    stages: Vec<Stage>,
    last_norm: LayerNorm,
    classifier: Linear,
}

struct Stage {
    blocks: Vec<Block>,
    merging: Option<Merging>,
}

impl Swin {
    pub(crate) fn load(config: Config<'_>, weights: &Weights) -> Result<Self> {
        let (size, eps) = (config.size("embed_dim", 96)?, config.number("layer_norm_eps", 1e-5)?);
        let (depths, heads) =
            (config.sizes("depths", &[2, 2, 6, 2])?, config.sizes("num_heads", &[3, 6, 12, 24])?);
        if depths.len() != heads.len() || depths.is_empty() || depths.len() > 8 {
            return Err(Error::invalid("config.json: depths and num_heads do not go together").into());
        }
        let scope = weights.scope();
        let root = scope.model("swin");
        let mut depth_rates = depth_rates(config, depths.iter().sum())?.into_iter();
        let mut stages = Vec::with_capacity(depths.len());
        for (i, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
            let (size, scope) = (size << i, root.at("encoder.layers").at(i));
            let blocks = depth_rates.by_ref().take(depth).enumerate();
            let blocks = blocks.map(|(j, depth_rate)| {
                let block = Block::load(config, &scope.at("blocks").at(j), size, heads)?;
                Ok(Block { shifted: j % 2 == 1, depth_rate, ..block })
            });
            let blocks = blocks.collect::<Result<_>>()?;
            let last = i + 1 == depths.len();
            let merging = (!last).then(|| Merging::load(&scope.at("downsample"), size)).transpose()?;
            stages.push(Stage { blocks, merging });
        }
        let last = size << (depths.len() - 1);
        let embeddings = root.at("embeddings");
        Ok(Self {
            patches: Patches::load(config, &embeddings.at("patch_embeddings"), size)?,
            norm: LayerNorm::load(&embeddings.at("norm"), size, eps)?,
            positions: positions(config, &embeddings, size)?,
            dropout: config.dropout("hidden_dropout_prob", 0.0)?,
            stages,
            last_norm: LayerNorm::load(&root.at("layernorm"), last, eps)?,
            classifier: Linear::load(&scope.at("classifier"), last, config.labels()?)?,
        })
    }

    /// [n, channels, height, width] to [n, labels].
    pub(crate) fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        let (patches, (rows, cols)) = self.patches.forward(pixels)?;
        let mut x = self.norm.forward(&patches)?;
        if let Some(positions) = &self.positions {
            x = x.broadcast_add(positions)?;
        }
        let x = self.dropout.forward(x)?;
        let mut x = x.reshape((x.dim(0)?, rows, cols, x.dim(2)?))?;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            if let Some(merging) = &stage.merging {
                x = merging.forward(&x)?;
            }
        }
        let mean = self.last_norm.forward(&x.flatten(1, 2)?)?.mean(1)?;
        self.classifier.forward(&mean)
    }
}

/// How often training leaves out the attention of each of `blocks` blocks, for an example: rising evenly from 0 to
/// `drop_path_rate`.
fn depth_rates(config: Config<'_>, blocks: usize) -> Result<Vec<Dropout>> {
    let Dropout(most) = config.dropout("drop_path_rate", 0.1)?;
    let last = blocks.saturating_sub(1).max(1) as f64;
    Ok((0..blocks).map(|i| Dropout(most * i as f64 / last)).collect())
}

/// The learned positions of models that have them, [1, patches, size].
fn positions(config: Config<'_>, embeddings: &Scope<'_>, size: usize) -> Result<Option<Tensor>> {
    if !config.flag("use_absolute_embeddings", false)? {
        return Ok(None);
    }
    let ((height, width), (patch_height, patch_width)) =
        (config.sides("image_size", 224)?, config.sides("patch_size", 4)?);
    let patches = (height / patch_height.max(1)) * (width / patch_width.max(1));
    embeddings.tensor("position_embeddings", &[1, patches, size]).map(Some)
}

/// Four neighbours joined to one place of twice the size.
struct Merging {
    norm: LayerNorm,
    reduction: Linear,
}

impl Merging {
    fn load(scope: &Scope<'_>, size: usize) -> Result<Self> {
        // transformers leaves this eps at PyTorch's default.
        let norm = LayerNorm::load(&scope.at("norm"), 4 * size, 1e-5)?;
        let reduction = scope.at("reduction").tensor("weight", &[2 * size, 4 * size])?;
        Ok(Self { norm, reduction: Linear::tied(reduction) })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, rows, cols, size) = x.dims4()?;
        let x = x.pad_with_zeros(1, 0, rows % 2)?.pad_with_zeros(2, 0, cols % 2)?;
        let (rows, cols) = (rows.div_ceil(2), cols.div_ceil(2));
        // Column by column inside a square of four: (0, 0), (1, 0), (0, 1), (1, 1).
        let squares = x.reshape(&[n, rows, 2, cols, 2, size][..])?.permute([0, 1, 3, 4, 2, 5])?;
        let squares = squares.reshape((n, rows, cols, 4 * size))?;
        self.reduction.forward(&self.norm.forward(&squares)?)
    }
}

struct Block {
    norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// A bias for each offset and head, [(2 window - 1)^2, heads].
    offsets: Tensor,
    norm_after: LayerNorm,
    up: Linear,
    down: Linear,
    heads: usize,
    window: usize,
    shifted: bool,
    /// Of the shares that places have in each other.
    dropout: Dropout,
    depth_rate: Dropout,
}

impl Block {
    fn load(config: Config<'_>, scope: &Scope<'_>, size: usize, heads: usize) -> Result<Self> {
        let (eps, window) = (config.number("layer_norm_eps", 1e-5)?, config.size("window_size", 7)?);
        let inner = (config.number("mlp_ratio", 4.0)? * size as f64) as usize;
        if window == 0 || window > MAX_WINDOW {
            return Err(Error::invalid(format!("config.json: window_size is {window}")).into());
        }
        check_heads(size, heads)?;
        let (own, dropout) = (scope.at("attention.self"), config.dropout("hidden_dropout_prob", 0.0)?);
        let side = 2 * window - 1;
        Ok(Self {
            norm: LayerNorm::load(&scope.at("layernorm_before"), size, eps)?,
            query: Linear::load(&own.at("query"), size, size)?,
            key: Linear::load(&own.at("key"), size, size)?,
            value: Linear::load(&own.at("value"), size, size)?,
            output: Linear::load(&scope.at("attention.output.dense"), size, size)?.dropping(dropout),
            offsets: own.tensor("relative_position_bias_table", &[side * side, heads])?,
            norm_after: LayerNorm::load(&scope.at("layernorm_after"), size, eps)?,
            up: Linear::load(&scope.at("intermediate.dense"), size, inner)?
                .then(config.activation("hidden_act", "gelu")?),
            down: Linear::load(&scope.at("output.dense"), inner, size)?.dropping(dropout),
            heads,
            window,
            shifted: false,
            dropout: config.dropout("attention_probs_dropout_prob", 0.0)?,
            depth_rate: Dropout::default(),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // As in transformers, which never leaves out the second half.
        let x = (self.depth_rate.forward_examples(self.attention(&self.norm.forward(x)?)?)? + x)?;
        Ok((self.down.forward(&self.up.forward(&self.norm_after.forward(&x)?)?)? + x)?)
    }

    /// Attention inside windows. A map no larger than a window is one window, and is not shifted.
    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (n, rows, cols, size) = x.dims4()?;
        let window = self.window.min(rows).min(cols);
        if window != self.window {
            let message = format!(
                "the map of features is {rows} x {cols}, smaller than the window of {}: larger images are needed",
                self.window
            );
            return Err(Error::unsupported(message).into());
        }
        let shift = if self.shifted && rows.min(cols) > window { window / 2 } else { 0 };
        let padded = [rows.next_multiple_of(window), cols.next_multiple_of(window)];
        let [down, across] = padded.map(|side| side / window);
        let x = x.pad_with_zeros(1, 0, padded[0] - rows)?.pad_with_zeros(2, 0, padded[1] - cols)?;
        let x = roll(&roll(&x, 1, shift)?, 2, shift)?;
        let cut = x.reshape(&[n, down, window, across, window, size][..])?.permute([0, 1, 3, 2, 4, 5])?;
        let windows = cut.reshape((n * down * across, window * window, size))?;

        let split = |layer: &Linear| split_heads(&layer.forward(&windows)?, self.heads);
        let (query, key, value) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        let mut bias = self.bias()?;
        if shift > 0 {
            bias = bias.broadcast_add(&regions(padded, window, shift)?)?.repeat((n, 1, 1, 1))?;
        }
        let scale = 1.0 / ((size / self.heads) as f64).sqrt();
        let shares = self.dropout.forward(shares(&query, &key, scale, &bias)?)?;
        let y = self.output.forward(&joined(&shares, &value)?)?;

        let y = y.reshape(&[n, down, across, window, window, size][..])?.permute([0, 1, 3, 2, 4, 5])?;
        let y = y.reshape((n, padded[0], padded[1], size))?;
        let y = roll(&roll(&y, 1, padded[0] - shift)?, 2, padded[1] - shift)?;
        Ok(y.narrow(1, 0, rows)?.narrow(2, 0, cols)?.contiguous()?)
    }

    /// The bias of every pair of places of a window, [1, heads, places, places].
    fn bias(&self) -> Result<Tensor> {
        let (window, places) = (self.window, self.window * self.window);
        let offset = |from: usize, to: usize| {
            let (down, across) =
                (from / window + window - 1 - to / window, from % window + window - 1 - to % window);
            (down * (2 * window - 1) + across) as u32
        };
        let index: Vec<u32> = (0..places * places).map(|i| offset(i / places, i % places)).collect();
        let index = Tensor::from_vec(index, places * places, self.offsets.device())?;
        let bias = self.offsets.index_select(&index, 0)?.reshape((1, places, places, self.heads))?;
        Ok(bias.permute((0, 3, 1, 2))?.contiguous()?)
    }
}

/// Above any real window; its fourth power fits the memory.
const MAX_WINDOW: usize = 64;

/// `x` moved by `shift` places towards the start of dimension `dim`, what falls off coming back at the end.
fn roll(x: &Tensor, dim: usize, shift: usize) -> Result<Tensor> {
    let len = x.dim(dim)?;
    let shift = shift % len.max(1);
    if shift == 0 {
        return Ok(x.clone());
    }
    Ok(Tensor::cat(&[&x.narrow(dim, shift, len - shift)?, &x.narrow(dim, 0, shift)?], dim)?)
}

/// The mask of the windows of a shifted map, [windows, 1, places, places]: places that were not neighbours before the
/// shift do not see each other.
fn regions([rows, cols]: [usize; 2], window: usize, shift: usize) -> Result<Tensor> {
    let region = |at: usize, len: usize| usize::from(at >= len - window) + usize::from(at >= len - shift);
    let mut mask = Vec::new();
    for (top, left) in
        (0..rows / window).flat_map(|i| (0..cols / window).map(move |j| (i * window, j * window)))
    {
        let place = |k: usize| (region(top + k / window, rows), region(left + k % window, cols));
        let places: Vec<_> = (0..window * window).map(place).collect();
        let hide = |&(a, b): &(_, _)| if a == b { 0.0 } else { HIDDEN };
        let pairs: Vec<_> = places.iter().flat_map(|a| places.iter().map(move |b| (a, b))).collect();
        mask.extend(pairs.iter().map(hide));
    }
    let (windows, places) = (rows / window * (cols / window), window * window);
    debug_assert_eq!(mask.len(), windows * places * places);
    Ok(Tensor::from_vec(mask, (windows, 1, places, places), &candle_core::Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use candle_core::Device;
    use serde_json::{Value, json};

    use super::*;
    use crate::comparison::random_tensor;
    use crate::models::layers::training;
    use crate::random::Random;

    fn config(drop_path_rate: f64) -> Value {
        json!({"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2, "image_size": 32,
               "num_channels": 3, "patch_size": 4, "drop_path_rate": drop_path_rate})
    }

    fn swin(config: &Value) -> Swin {
        let config = Config(config);
        let asked = Weights::default().shapes_asked(|weights| Swin::load(config, weights).map(drop)).unwrap();
        let mut weights = Weights::default();
        for (i, (name, shape)) in (0..).zip(asked) {
            weights.insert(&name, random_tensor(&name, &shape, 0.5, i).unwrap());
        }
        Swin::load(config, &weights).unwrap()
    }

    /// The values of each example.
    fn examples(x: &Tensor) -> Vec<Vec<f32>> {
        x.flatten_from(1).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn depth_rates_rise_evenly_over_all_stages() {
        let of = |rate| {
            let stages = swin(&config(rate)).stages;
            let rates = stages.iter().flat_map(|stage| stage.blocks.iter().map(|block| block.depth_rate.0));
            rates.collect::<Vec<_>>()
        };
        let off = of(0.6).iter().zip([0.0, 0.2, 0.4, 0.6]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-12);
        assert_eq!(of(0.0), [0.0; 4]);
        assert_eq!(depth_rates(Config(&json!({"drop_path_rate": 0.3})), 1).unwrap()[0].0, 0.0);
        assert!(depth_rates(Config(&json!({"drop_path_rate": 1.0})), 4).is_err());
    }

    /// `x + attention / (1 - rate)` or `x` alone, and then the network in any case.
    #[test]
    fn training_leaves_out_attention_of_some_examples() {
        let swin = swin(&config(0.6));
        let block = &swin.stages[1].blocks[0];
        let x = random_tensor("x", &[300, 4, 4, 16], 1.0, 7).unwrap();
        let attention = block.attention(&block.norm.forward(&x).unwrap()).unwrap();
        let whole = |x: Tensor| {
            let inner = block.up.forward(&block.norm_after.forward(&x).unwrap()).unwrap();
            examples(&(block.down.forward(&inner).unwrap() + &x).unwrap())
        };
        let (left_out, kept) = (whole(x.clone()), whole((&x + (attention / 0.6).unwrap()).unwrap()));
        let seen = training(Some(Random::new(3)), || examples(&block.forward(&x).unwrap()));
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        let mut dropped = 0;
        for ((seen, left_out), kept) in seen.iter().zip(&left_out).zip(&kept) {
            assert!(near(seen, left_out) != near(seen, kept));
            dropped += usize::from(near(seen, left_out));
        }
        assert!(dropped.abs_diff(120) < 30, "{dropped} of 300 with a rate of 0.4");
        let image = Tensor::ones((2, 3, 32, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
        let plain = examples(&swin.logits(&image).unwrap());
        assert_eq!(plain[0], plain[1], "left out when not training");
    }
}
