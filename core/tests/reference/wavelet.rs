//! The inverse wavelet transform of a block.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::entropy::Bytes;

/// A wavelet transform as a payload describes it.
pub struct Dwt {
    pub block: usize,
    pub levels: usize,
    /// All bands, no HH, or LL alone.
    pub keep: u8,
    wavelet: Wavelet,
}

enum Wavelet {
    Filter(Vec<f32>),
    /// Pairs (a, b), then K and k.
    Lifting(Vec<(f32, f32)>, f32, f32),
}

impl Dwt {
    /// Levels, kept bands and wavelet, which follow block and table.
    pub fn read(block: usize, params: &mut Bytes<'_>) -> Self {
        let (levels, keep) = (params.u8().into(), params.u8());
        let filter = |taps: &[f32]| Wavelet::Filter(taps.to_vec());
        let wavelet = match params.u8() {
            0 => filter(&[FRAC_1_SQRT_2, FRAC_1_SQRT_2]),
            1 => filter(&[0.4829629, 0.8365163, 0.22414387, -0.12940952]),
            2 => filter(&[0.33267055, 0.8068915, 0.4598775, -0.13501102, -0.08544128, 0.035226292]),
            #[rustfmt::skip]
            3 => filter(&[
                0.23037781, 0.71484657, 0.6308808, -0.02798377, -0.18703481, 0.030841382, 0.03288301, -0.010597402,
            ]),
            #[rustfmt::skip]
            4 => filter(&[
                0.0322231, -0.012603967, -0.099219546, 0.2978578, 0.8037388, 0.49761867, -0.029635528, -0.075765714,
            ]),
            5 => Wavelet::Lifting(vec![(-0.5, 0.25)], SQRT_2, FRAC_1_SQRT_2),
            6 => Wavelet::Lifting(
                vec![(-1.5861343, -0.052980117), (0.8829111, 0.44350687)],
                1.1496044,
                0.86986445,
            ),
            7 => Wavelet::Filter(learned(params)),
            id => panic!("wavelet {id}"),
        };
        Self { block, levels, keep, wavelet }
    }

    /// Rows and columns of the kept bands in stored order, and whether each is a detail band.
    pub fn bands(&self) -> Vec<(usize, usize, bool)> {
        let details: &[(bool, bool)] = match self.keep {
            0 => &[(true, false), (false, true), (true, true)],
            1 => &[(true, false), (false, true)],
            2 => &[],
            keep => panic!("kept bands {keep}"),
        };
        let mut bands = Vec::new();
        for (level, side) in self.sides().into_iter().enumerate().rev() {
            let part = |high: bool| if high { side / 2 } else { side.div_ceil(2) };
            if level + 1 == self.levels {
                bands.push((part(false), part(false), false));
            }
            bands.extend(details.iter().map(|&(down, across)| (part(down), part(across), true)));
        }
        bands
    }

    fn sides(&self) -> Vec<usize> {
        let halving = |side: &usize| Some(side.div_ceil(2));
        std::iter::successors(Some(self.block), halving).take(self.levels).collect()
    }

    /// The values of a block, row-major, from the coefficients of its kept bands.
    pub fn inverse(&self, coefficients: &[f32]) -> Vec<f32> {
        let mut rest = coefficients;
        let mut bands = self.bands().into_iter().map(|(rows, cols, _)| {
            let (band, after) = rest.split_at(rows * cols);
            rest = after;
            (0..rows).map(|i| (0..cols).map(|j| band[j * rows + i]).collect()).collect()
        });
        let mut low: Vec<Vec<f32>> = bands.next().unwrap();
        for side in self.sides().into_iter().rev() {
            let (a, b) = (side.div_ceil(2), side / 2);
            let zeros = |rows: usize, cols: usize| vec![vec![0.0; cols]; rows];
            let lh = if self.keep < 2 { bands.next().unwrap() } else { zeros(b, a) };
            let hl = if self.keep < 2 { bands.next().unwrap() } else { zeros(a, b) };
            let hh = if self.keep < 1 { bands.next().unwrap() } else { zeros(b, b) };
            // Along axis 1: every row of (LL, HL), and every row of (LH, HH).
            let top = low.iter().zip(&hl).map(|(low, high)| self.wavelet.inverse(low, high));
            let bottom = lh.iter().zip(&hh).map(|(low, high)| self.wavelet.inverse(low, high));
            let (top, bottom): (Vec<_>, Vec<_>) = (top.collect(), bottom.collect());
            // Along axis 0.
            let column = |rows: &[Vec<f32>], j: usize| rows.iter().map(|row| row[j]).collect::<Vec<_>>();
            let columns: Vec<_> =
                (0..side).map(|j| self.wavelet.inverse(&column(&top, j), &column(&bottom, j))).collect();
            low = (0..side).map(|i| column(&columns, i)).collect();
        }
        low.concat()
    }
}

/// Taps of a filter made of rotations.
fn learned(params: &mut Bytes<'_>) -> Vec<f32> {
    let r = 0.5f64.sqrt();
    let (mut low, mut high) = (vec![r, r], vec![r, -r]);
    for stage in 0..params.u8() {
        if stage > 0 {
            low.extend([0.0, 0.0]);
            high = [vec![0.0, 0.0], high].concat();
        }
        let q = i16::from_le_bytes(params.take(2).try_into().unwrap());
        let t = f64::from(q) / 16384.0;
        let (c, s) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        for (low, high) in low.iter_mut().zip(&mut high) {
            (*low, *high) = (c * *low + s * *high, c * *high - s * *low);
        }
    }
    low.into_iter().map(|tap| tap as f32).collect()
}

impl Wavelet {
    /// One level, from its low and its high values.
    fn inverse(&self, low: &[f32], high: &[f32]) -> Vec<f32> {
        let n = low.len() + high.len();
        let mut x = vec![0.0; n];
        match self {
            Self::Filter(h) => {
                let l = h.len();
                let g: Vec<f32> =
                    (0..l).map(|k| if k % 2 == 0 { h[l - 1 - k] } else { -h[l - 1 - k] }).collect();
                let half = n / 2;
                for i in 0..half {
                    for p in 0..2 {
                        let terms = (0..l / 2).flat_map(|j| {
                            let m = (i as i64 - j as i64).rem_euclid(half as i64) as usize;
                            [h[2 * j + p] * low[m], g[2 * j + p] * high[m]]
                        });
                        x[2 * i + p] = terms.reduce(|sum, term| sum + term).unwrap();
                    }
                }
                if n % 2 == 1 {
                    x[n - 1] = low[half];
                }
            }
            Self::Lifting(steps, big, small) => {
                low.iter().enumerate().for_each(|(i, &v)| x[2 * i] = small * v);
                high.iter().enumerate().for_each(|(i, &v)| x[2 * i + 1] = big * v);
                for &(a, b) in steps.iter().rev() {
                    for (first, factor) in [(0, b), (1, a)] {
                        for i in (first..n).step_by(2) {
                            let before = x[if i == 0 { 1 } else { i - 1 }];
                            let after = x[if i + 1 == n { n - 2 } else { i + 1 }];
                            x[i] -= factor * (before + after);
                        }
                    }
                }
            }
        }
        x
    }
}
