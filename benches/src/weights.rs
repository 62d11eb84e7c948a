//! Weights of a base and of a fine-tuned model, by seed: any rows of any tensor, in any order.

/// Standard deviation of the base's weights.
const BASE: f32 = 0.02;
/// Root mean square of the delta, by that of the base.
const DELTA: f32 = 0.025;
/// Share of the delta's energy that is of low rank.
const LOW_RANK_SHARE: f32 = 0.5;
const RANK: usize = 8;
/// Strength of each rank-one part by that of the one before.
const DECAY: f32 = 0.75;
/// How much the strength of the noise differs from row to row.
const ROW_SPREAD: f32 = 0.3;

/// One tensor of both models.
pub struct Tensor {
    seed: u64,
    cols: usize,
    /// Norms lie around 1 and have noise only.
    vector: bool,
    /// `RANK` rows of `cols`: the right factors.
    right: Vec<f32>,
}

/// A seed for the tensor `name` of the pair `seed` (FNV-1a).
pub fn hash_name(seed: u64, name: &str) -> u64 {
    name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Tensor {
    /// A tensor of `shape`, at most two-dimensional.
    pub fn new(seed: u64, shape: &[usize]) -> Self {
        let vector = shape.len() < 2;
        let cols = if vector { 1 } else { shape.iter().skip(1).product() };
        let right = (0..RANK * cols).map(|i| gaussian(seed ^ 1, i as u64)).collect();
        Self { seed, cols, vector, right }
    }

    /// Row `row` of the base and of the fine-tuned tensor.
    pub fn row(&self, row: usize, base: &mut [f32], finetuned: &mut [f32]) {
        let first = (row * self.cols) as u64;
        let offset = if self.vector { 1.0 } else { 0.0 };
        for (i, x) in base.iter_mut().enumerate() {
            *x = offset + BASE * gaussian(self.seed ^ 2, first + i as u64);
        }
        let share = if self.vector { 0.0 } else { LOW_RANK_SHARE };
        let spread =
            (1.0 + ROW_SPREAD * gaussian(self.seed ^ 3, row as u64)) / (1.0 + ROW_SPREAD * ROW_SPREAD).sqrt();
        let noise = BASE * DELTA * (1.0 - share).sqrt() * spread;
        for (i, (y, x)) in finetuned.iter_mut().zip(&*base).enumerate() {
            *y = x + noise * gaussian(self.seed ^ 4, first + i as u64);
        }
        if !self.vector {
            self.add_low_rank(row, finetuned);
        }
    }

    fn add_low_rank(&self, row: usize, finetuned: &mut [f32]) {
        let energy: f32 = (0..RANK).map(|k| DECAY.powi(2 * k as i32)).sum();
        let scale = BASE * DELTA * (LOW_RANK_SHARE / energy).sqrt();
        for (k, right) in self.right.chunks(self.cols.max(1)).enumerate() {
            let left = gaussian(self.seed ^ 5, (row * RANK + k) as u64);
            let factor = scale * DECAY.powi(k as i32) * left;
            finetuned.iter_mut().zip(right).for_each(|(y, v)| *y += factor * v);
        }
    }
}

/// About a standard normal number, the `i`-th of `seed`: the sum of four uniform ones of 16 bits.
#[inline(always)]
fn gaussian(seed: u64, i: u64) -> f32 {
    // Mean of the sum, and its standard deviation 65536 / sqrt(3).
    const MEAN: i32 = 2 * 65535;
    const DEVIATION: f32 = 37_837.227;
    // SplitMix64: a counter through a mixing function.
    let mut z = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48);
    (sum as i32 - MEAN) as f32 * (1.0 / DEVIATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_have_the_stated_size_and_rows_do_not_depend_on_order() {
        let (rows, cols) = (256, 512);
        let tensor = Tensor::new(hash_name(7, "a.weight"), &[rows, cols]);
        let (mut base, mut finetuned) = (vec![0.0; cols], vec![0.0; cols]);
        let (mut dd, mut ww) = (0.0, 0.0);
        for row in 0..rows {
            tensor.row(row, &mut base, &mut finetuned);
            ww += base.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            dd += base.iter().zip(&finetuned).map(|(&x, &y)| f64::from(y - x).powi(2)).sum::<f64>();
        }
        assert!(((ww / (rows * cols) as f64).sqrt() / f64::from(BASE) - 1.0).abs() < 0.02);
        assert!(((dd / ww).sqrt() / f64::from(DELTA) - 1.0).abs() < 0.2, "{}", (dd / ww).sqrt());
        let (mut again, mut other) = (vec![0.0; cols], vec![0.0; cols]);
        tensor.row(rows - 1, &mut again, &mut other);
        assert_eq!((again, other), (base, finetuned));
    }
}
