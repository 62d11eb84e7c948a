//! Resizing of 8-bit images with the fixed-point arithmetic of Pillow, so that pixels are equal to the bit.
//!
//! Two passes, first along rows, then along columns, each rounded to 8 bits. Output `i` of `n` from `m` inputs has its
//! centre at `c = (i + 0.5) m / n`; input `j` weighs `f((j - c + 0.5) / s)`, `s = max(1, m / n)`, for `j` within the
//! support of the filter times `s`; weights are divided by their sum and rounded to 22 fractional bits.

use super::images::Image;

/// Fractional bits of a weight.
const FRACTION: u32 = 22;

/// How neighbouring pixels are weighed, with the numbers that `resample` has in configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// 0: the nearest pixel, without weights.
    Nearest,
    /// 1: Lanczos, three lobes.
    Lanczos,
    /// 2: triangle.
    Bilinear,
    /// 3: cubic with a = -0.5.
    Bicubic,
    /// 4: equal weights.
    Box,
    /// 5: Hamming.
    Hamming,
}

/// The weighted inputs of one output: the first of them, and their weights.
type Window = (usize, Vec<i32>);

impl Filter {
    /// That of a number.
    pub(super) fn of(number: u64) -> Option<Self> {
        let all = [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];
        all.get(usize::try_from(number).ok()?).copied()
    }

    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| {
            if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) }
        };
        // The constants in single precision, as Pillow has them.
        let cosine = |x: f64| f64::from(0.54f32) + f64::from(0.46f32) * (x * std::f64::consts::PI).cos();
        let distance = x.abs();
        match self {
            Self::Nearest | Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Hamming if distance < 1.0 => sinc(distance) * cosine(distance),
            Self::Bicubic if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
            Self::Bicubic if distance < 2.0 => ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }

    /// The inputs that each of `to` outputs takes of `from`.
    fn windows(self, from: usize, to: usize) -> Vec<Window> {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = self.support() * stretch;
        if self == Self::Nearest {
            // Summed up as Pillow does: which of two equally near pixels is taken depends on the rounding.
            let centers = std::iter::successors(Some(0.5 * scale), |center| Some(center + scale));
            let nearest = |center: f64| (center as usize).min(from.saturating_sub(1));
            return centers.take(to).map(|center| (nearest(center), vec![1 << FRACTION])).collect();
        }
        let window = |i: usize| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            let weigh = |j: usize| self.weight((j as f64 - center + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (first..end).map(weigh).collect();
            let sum: f64 = weights.iter().sum();
            let rounded = |w: f64| {
                let fixed = w / sum * f64::from(1 << FRACTION);
                (fixed + 0.5_f64.copysign(fixed)) as i32
            };
            (first, weights.into_iter().map(rounded).collect())
        };
        (0..to).map(window).collect()
    }
}

/// `image` in another size; all sizes at least 1.
pub(super) fn resize(image: Image, width: usize, height: usize, filter: Filter) -> Image {
    let image = if image.width == width { image } else { along_rows(&image, width, filter) };
    if image.height == height { image } else { along_columns(&image, height, filter) }
}

fn along_rows(image: &Image, width: usize, filter: Filter) -> Image {
    let channels = image.channels;
    let windows = filter.windows(image.width, width);
    let mut bytes = Vec::with_capacity(image.height * width * channels);
    for row in image.bytes.chunks_exact(image.width * channels) {
        for (first, weights) in &windows {
            let pixels = row.get(first * channels..).unwrap_or_default();
            for channel in 0..channels {
                bytes.push(weighted(weights, pixels.iter().skip(channel).step_by(channels)));
            }
        }
    }
    Image { width, bytes, ..*image }
}

fn along_columns(image: &Image, height: usize, filter: Filter) -> Image {
    let stride = image.width * image.channels;
    let mut bytes = Vec::with_capacity(height * stride);
    let mut sums = vec![0; stride];
    for (first, weights) in filter.windows(image.height, height) {
        sums.fill(1 << (FRACTION - 1));
        for (row, weight) in image.bytes.chunks_exact(stride).skip(first).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        bytes.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    Image { height, bytes, ..*image }
}

fn weighted<'a>(weights: &[i32], values: impl Iterator<Item = &'a u8>) -> u8 {
    let products = weights.iter().zip(values).map(|(&weight, &value)| i32::from(value) * weight);
    to_byte((1 << (FRACTION - 1)) + products.sum::<i32>())
}

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}
