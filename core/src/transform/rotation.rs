//! A seedless random rotation: spreads every weight over thousands, so that what is left of a delta looks like even
//! noise, and the errors of its quantiser spread over all directions of the matrix.
//!
//! Specification. A chunk of n weights (row-major) is cut into runs of 4096 weights, then what is left into runs of the
//! largest powers of two that fit. In a run of L = 2^k weights x, starting at index f of the matrix (64 bits):
//!
//! ```text
//! forward:  x[i] = -x[i] where s(f + i) = 1;   then x = H x * 2^(-k/2)
//! inverse:  x = H x * 2^(-k/2);                then x[i] = -x[i] where s(f + i) = 1
//! s(j): bit j mod 64 of z(j div 64), with z the mix of SplitMix64 (Steele et al. 2014) on 64 bits:
//!       z = (j + 1) * 0x9e3779b97f4a7c15;  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
//!       z = (z ^ z >> 27) * 0x94d049bb133111eb;  z = z ^ z >> 31
//! H x:  for h = 1, 2, 4 ... L/2 and all pairs i, i + h with i div h even: (x[i], x[i + h]) = (x[i] + x[i + h], x[i] - x[i + h])
//! ```
//!
//! All in `f32`; 2^(-k/2) for odd k is 2^(-(k+1)/2) times 1.41421354 (bits 0x3fb504f3). H is its own inverse, times L.

/// Weights of a run.
const RUN: usize = 4096;

/// Rotates the weights of a chunk that begins at `first` of its matrix.
pub(crate) fn forward(first: u64, weights: &mut [f32]) {
    pulp::Arch::new().dispatch(Rotation { first, weights, inverse: false });
}

/// Inverse of [`forward`], but for rounding.
pub(crate) fn inverse(first: u64, weights: &mut [f32]) {
    pulp::Arch::new().dispatch(Rotation { first, weights, inverse: true });
}

/// Both directions. A struct, so that its body is compiled for the vector unit.
struct Rotation<'a> {
    first: u64,
    weights: &'a mut [f32],
    inverse: bool,
}

impl pulp::NullaryFnOnce for Rotation<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (mut first, mut rest) = (self.first, self.weights);
        while !rest.is_empty() {
            let len = if rest.len() >= RUN { RUN } else { 1 << rest.len().ilog2() };
            let (run, later) = rest.split_at_mut(len);
            if !self.inverse {
                flip(first, run);
            }
            hadamard(run);
            if self.inverse {
                flip(first, run);
            }
            (first, rest) = (first + len as u64, later);
        }
    }
}

/// Changes the signs of a random half.
#[inline(always)]
fn flip(first: u64, run: &mut [f32]) {
    let mut index = first;
    let mut rest = run;
    while !rest.is_empty() {
        let skip = (index % 64) as usize;
        let (now, later) = rest.split_at_mut((64 - skip).min(rest.len()));
        let bits = mix(index / 64) >> skip;
        for (i, x) in now.iter_mut().enumerate() {
            *x = f32::from_bits(x.to_bits() ^ ((bits >> i) as u32) << 31);
        }
        (index, rest) = (index + now.len() as u64, later);
    }
}

fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// `H x * L^(-1/2)`.
#[inline(always)]
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let k = x.len().trailing_zeros();
    let scale =
        0.5f32.powi(k.div_ceil(2) as i32) * if k % 2 == 1 { f32::from_bits(0x3fb5_04f3) } else { 1.0 };
    x.iter_mut().for_each(|x| *x *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn inverse_gives_the_weights_back() {
        for n in [0, 1, 2, 3, 64, 100, 4096, 4097, 9000] {
            let mut x = weights(n);
            forward(77, &mut x);
            inverse(77, &mut x);
            for (x, y) in x.iter().zip(weights(n)) {
                assert!((x - y).abs() < 1e-5, "{n}");
            }
        }
    }

    /// Against the definition of the Hadamard matrix: `H[i, j] = (-1)^(number of common bits)`.
    #[test]
    fn forward_is_the_hadamard_matrix_times_signs() {
        let (first, n) = (1000u64, 128usize);
        let signed: Vec<f64> = (weights(n).iter().zip(first..))
            .map(|(&x, j)| if mix(j / 64) >> (j % 64) & 1 == 1 { -f64::from(x) } else { f64::from(x) })
            .collect();
        let mut found = weights(n);
        forward(first, &mut found);
        for (i, &y) in found.iter().enumerate() {
            let sign = |j: usize| if (i & j).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
            let sum: f64 = signed.iter().enumerate().map(|(j, x)| sign(j) * x).sum();
            assert!((f64::from(y) - sum / (n as f64).sqrt()).abs() < 1e-5);
        }
    }

    #[test]
    fn one_large_weight_spreads_over_its_run() {
        let mut x = vec![0.0; 4096];
        x[1234] = 64.0;
        forward(0, &mut x);
        assert!(x.iter().all(|x| (x.abs() - 1.0).abs() < 1e-6));
        assert!((1500..2600).contains(&x.iter().filter(|x| **x > 0.0).count()));
    }
}
