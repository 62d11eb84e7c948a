//! What a `preprocessor_config.json` does with an image: resize, crop, rescale, normalise, as `transformers` does.

use delta_dct::{Error as DeltaError, Result as DeltaResult};
use serde_json::Value;

use super::images::{Image, Picture};
use super::resample::{Filter, resize};
use crate::error::Result;

/// The longest side that an image is resized to.
const MAX_SIDE: u64 = 1 << 13;
const FILE: &str = "preprocessor_config.json";

/// The steps from an image to a model's input.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    resize: Option<(Size, Filter)>,
    /// Height and width.
    crop: Option<(usize, usize)>,
    /// For each channel, what becomes of each of the 256 values.
    values: Vec<Vec<f32>>,
}

/// The size that an image is resized to.
#[derive(Clone, Copy, Debug)]
enum Size {
    /// Height and width.
    Exact(usize, usize),
    /// The shorter side; the longer one in proportion.
    Shortest(usize),
}

/// Pixels by which an image is moved, down and to the right.
pub(crate) type Shift = (isize, isize);

/// Pixels of one image: channels x height x width.
#[derive(Clone, Debug)]
pub(super) struct Pixels {
    /// Channels, height, width.
    pub(super) shape: (usize, usize, usize),
    /// The values, plane by plane.
    pub(super) values: Vec<f32>,
}

impl Recipe {
    /// That of a `preprocessor_config.json` for the model of `config`. What a ViT processor leaves out is as in
    /// `transformers`. Errors: `InvalidArgument`, `Unsupported`.
    pub(super) fn of(recipe: &Value, config: &Value) -> DeltaResult<Self> {
        let kind = ["image_processor_type", "feature_extractor_type"];
        let kind =
            kind.iter().find_map(|key| recipe[*key].as_str()).unwrap_or("ViTImageProcessor").to_lowercase();
        let (resize, crop) = match recipe["do_resize"].as_bool() {
            Some(false) => (None, None),
            _ => Size::of(recipe, &kind)?,
        };
        let crop = match recipe["do_center_crop"].as_bool() {
            Some(true) => Some(square_or_both(&recipe["crop_size"], "crop_size")?),
            _ => crop,
        };
        let channels = match config["num_channels"].as_u64() {
            None | Some(3) => 3,
            Some(1) => 1,
            Some(n) => return Err(DeltaError::unsupported(format!("config.json: images of {n} channels"))),
        };
        let values = (0..channels).map(|channel| values(recipe, channel)).collect::<DeltaResult<_>>()?;
        Ok(Self { resize, crop, values })
    }

    /// The input that `picture` makes when it is moved by `shift` pixels, down and to the right.
    pub(super) fn apply(&self, picture: &Picture, (down, right): Shift) -> Result<Pixels> {
        let mut image = picture.image(self.values.len())?;
        if let Some((size, filter)) = self.resize {
            let (height, width) = size.of_image(&image)?;
            image = resize(image, width, height, filter);
        }
        if let Some((height, width)) = self.crop {
            image = center(&image, height, width);
        }
        if (down, right) != (0, 0) {
            image = window(&image, (-down, -right), image.height, image.width);
        }
        let plane = |(c, values): (usize, &Vec<f32>)| {
            let bytes = image.bytes.iter().skip(c).step_by(image.channels);
            bytes
                .map(|&byte| values.get(usize::from(byte)).copied().unwrap_or_default())
                .collect::<Vec<f32>>()
        };
        let values = self.values.iter().enumerate().flat_map(plane).collect();
        Ok(Pixels { shape: (image.channels, image.height, image.width), values })
    }
}

/// What an image is resized to, and the middle of that which is kept.
type Resize = (Option<(Size, Filter)>, Option<(usize, usize)>);

impl Size {
    fn of(recipe: &Value, kind: &str) -> DeltaResult<Resize> {
        let convnext = kind.starts_with("convnext");
        let filter = recipe["resample"].as_u64().unwrap_or(if convnext { 3 } else { 2 });
        let unknown =
            || DeltaError::unsupported(format!("{FILE}: `resample` is {filter}, not one of 0 to 5"));
        let filter = Filter::of(filter).ok_or_else(unknown)?;
        let size = &recipe["size"];
        let shortest = if size.is_number() && (convnext || kind.starts_with("clip")) {
            size
        } else {
            &size["shortest_edge"]
        };
        if convnext {
            let (size, crop) = Self::for_convnext(side(shortest, "size")?, recipe)?;
            return Ok((Some((size, filter)), crop));
        }
        let size = if shortest.is_number() && size["longest_edge"].is_null() {
            Self::Shortest(side(shortest, "size")?)
        } else if size.is_null() && kind.starts_with("vit") {
            Self::Exact(224, 224)
        } else {
            square_or_both(size, "size").map(|(height, width)| Self::Exact(height, width))?
        };
        Ok((Some((size, filter)), None))
    }

    /// ConvNeXT: below 384 resized to a little more and cropped, else to a square.
    fn for_convnext(side: usize, recipe: &Value) -> DeltaResult<(Self, Option<(usize, usize)>)> {
        let part = recipe["crop_pct"].as_f64().unwrap_or(224.0 / 256.0);
        if side >= 384 {
            return Ok((Self::Exact(side, side), None));
        }
        if !(0.1..=1.0).contains(&part) {
            return Err(DeltaError::invalid(format!("{FILE}: `crop_pct` is {part}")));
        }
        Ok((Self::Shortest((side as f64 / part) as usize), Some((side, side))))
    }

    /// Height and width that an image gets.
    fn of_image(self, image: &Image) -> DeltaResult<(usize, usize)> {
        let (short, long) = (image.width.min(image.height), image.width.max(image.height));
        match self {
            _ if short == 0 => Err(DeltaError::corrupt("an image without pixels")),
            Self::Exact(height, width) => Ok((height, width)),
            Self::Shortest(side) => {
                let other = side * long / short;
                if other as u64 > 2 * MAX_SIDE {
                    return Err(DeltaError::limit(format!("an image of {} x {}", image.width, image.height)));
                }
                Ok(if image.width <= image.height { (other, side) } else { (side, other) })
            }
        }
    }
}

/// What becomes of each of the 256 values in one channel.
fn values(recipe: &Value, channel: usize) -> DeltaResult<Vec<f32>> {
    let is_set = |key: &str| recipe[key].as_bool().unwrap_or(true);
    let factor = recipe["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0);
    let scale = if is_set("do_rescale") { factor } else { 1.0 };
    let (mean, std) = match is_set("do_normalize") {
        true => (per_channel(recipe, "image_mean", channel)?, per_channel(recipe, "image_std", channel)?),
        false => (0.0, 1.0),
    };
    Ok((0..256).map(|value| ((f64::from(value) * scale) as f32 - mean as f32) / std as f32).collect())
}

/// The middle of `image`; black where it is smaller.
fn center(image: &Image, height: usize, width: usize) -> Image {
    let start = |all: usize, part: usize| (all as isize - part as isize).div_euclid(2);
    window(image, (start(image.height, height), start(image.width, width)), height, width)
}

/// What is seen of `image` through a window that begins at `top` and `left`; black beyond the image.
fn window(image: &Image, (top, left): (isize, isize), height: usize, width: usize) -> Image {
    let mut bytes = vec![0; height * width * image.channels];
    let inside = |at: isize, all: usize| usize::try_from(at).ok().filter(|&at| at < all);
    for (y, row) in bytes.chunks_exact_mut((width * image.channels).max(1)).enumerate() {
        let Some(from) = inside(y as isize + top, image.height) else { continue };
        for (x, pixel) in row.chunks_exact_mut(image.channels).enumerate() {
            let Some(column) = inside(x as isize + left, image.width) else { continue };
            let at = (from * image.width + column) * image.channels;
            for (to, value) in pixel.iter_mut().zip(image.bytes.iter().skip(at)) {
                *to = *value;
            }
        }
    }
    Image { width, height, channels: image.channels, bytes }
}

fn square_or_both(value: &Value, key: &str) -> DeltaResult<(usize, usize)> {
    if value.is_number() {
        return side(value, key).map(|side| (side, side));
    }
    Ok((side(&value["height"], key)?, side(&value["width"], key)?))
}

fn side(value: &Value, key: &str) -> DeltaResult<usize> {
    let wrong = || {
        let kinds = "a side, height and width, or shortest_edge";
        DeltaError::invalid(format!("{FILE}: `{key}` has to be {kinds}, 1 to {MAX_SIDE}"))
    };
    Ok(value.as_u64().filter(|n| (1..=MAX_SIDE).contains(n)).ok_or_else(wrong)? as usize)
}

/// The number of a channel: one of a list, or one for all; 0.5 where the recipe has none, as ViT.
fn per_channel(recipe: &Value, key: &str, channel: usize) -> DeltaResult<f64> {
    let number = match &recipe[key] {
        Value::Null => Some(0.5),
        Value::Array(list) if list.len() == 1 => list.first().and_then(Value::as_f64),
        Value::Array(list) => list.get(channel).and_then(Value::as_f64),
        other => other.as_f64(),
    };
    let wrong = || DeltaError::invalid(format!("{FILE}: `{key}` has no number for channel {channel}"));
    number.filter(|n| *n != 0.0 || key == "image_mean").ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moved_image_lets_black_in() {
        let settings =
            json!({"do_resize": false, "rescale_factor": 1.0, "image_mean": [0.0], "image_std": [1.0]});
        let recipe = Recipe::of(&settings, &json!({"num_channels": 1})).unwrap();
        let picture = Picture::Raw(Image { width: 3, height: 2, channels: 1, bytes: vec![1, 2, 3, 4, 5, 6] });
        let moved = |shift: Shift| recipe.apply(&picture, shift).unwrap().values;
        assert_eq!(moved((0, 0)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(moved((1, 0)), [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(moved((-1, 1)), [0.0, 4.0, 5.0, 0.0, 0.0, 0.0]);
        assert_eq!(moved((0, -2)), [3.0, 0.0, 0.0, 6.0, 0.0, 0.0]);
    }
}
