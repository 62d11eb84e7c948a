//! Integer factors with adaptive probabilities.

use super::entropy::Bytes;

/// The binary decoder of FORMAT.md, "Adaptive integers".
struct Adaptive<'a> {
    bytes: &'a [u8],
    at: usize,
    range: u64,
    code: u64,
    /// (p, n) of each decision of each context.
    averages: Vec<[(u32, u32); 15]>,
}

impl<'a> Adaptive<'a> {
    fn new(bytes: &'a [u8], contexts: usize) -> Self {
        let averages = vec![[(1 << 15, 0); 15]; contexts];
        let mut decoder = Self { bytes, at: 0, range: 0xffff_ffff, code: 0, averages };
        for _ in 0..4 {
            decoder.code = decoder.code * 256 + decoder.byte();
        }
        decoder
    }

    fn byte(&mut self) -> u64 {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or(0).into()
    }

    fn split(&mut self, bound: u64) -> bool {
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        while self.range < 1 << 24 {
            self.range *= 256;
            self.code = self.code * 256 + self.byte();
        }
        bit
    }

    fn decision(&mut self, context: usize, which: usize) -> bool {
        let (p, n) = self.averages[context][which];
        let bit = self.split((self.range >> 12) * u64::from((p / 16).max(1)));
        let weight = (1 << 17) / (2 * n + 3);
        let p = if bit { p - p * weight / 65536 } else { p + (65536 - p) * weight / 65536 };
        self.averages[context][which] = (p, (n + 1).min(40));
        bit
    }

    /// `range` is halved before the bit is known.
    fn plain(&mut self) -> bool {
        self.range /= 2;
        let half = self.range;
        let bit = self.code >= half;
        if bit {
            self.code -= half;
        }
        while self.range < 1 << 24 {
            self.range *= 256;
            self.code = self.code * 256 + self.byte();
        }
        bit
    }

    fn integer(&mut self, context: usize) -> i32 {
        if !self.decision(context, 0) {
            return 0;
        }
        let sign = if self.plain() { -1 } else { 1 };
        for magnitude in 1..15 {
            if !self.decision(context, magnitude) {
                return sign * magnitude as i32;
            }
        }
        let mut bits = 0;
        while self.plain() {
            bits += 1;
        }
        let rest = (0..bits).fold(1, |rest, _| 2 * rest + i32::from(self.plain()));
        sign * (14 + rest)
    }
}

/// The state of a trellis.
pub struct Trellis(pub usize);

impl Trellis {
    /// The value of a level, after which another state follows.
    pub fn value(&mut self, level: i32) -> i32 {
        let q = (self.0 % 2) as i32;
        let value = if level < 0 {
            2 * level + q
        } else if level > 0 {
            2 * level - q
        } else {
            0
        };
        let odd = level.rem_euclid(2) as usize;
        self.0 = (self.0 / 2) ^ if q == 1 { 5 } else { 0 } ^ (2 * odd);
        value
    }
}

pub struct Factors {
    gains: Vec<f32>,
    /// Values of every component.
    a: Vec<Vec<i32>>,
    b: Vec<Vec<i32>>,
    pub rest: bool,
    /// The rows that are coded.
    pub coded: Vec<usize>,
}

impl Factors {
    pub fn read(params: &mut Bytes<'_>, rows: usize, cols: usize) -> Self {
        params.f32();
        params.varint();
        let rest = params.u8() == 1;
        let rank = params.varint() as usize;
        let stream = params.bytes();
        let mut decoder = Adaptive::new(stream, 19);
        let mut coded = vec![];
        for row in 0..rows {
            let behind_one = row == 0 || coded.last() == Some(&(row - 1));
            if decoder.decision(if behind_one { 18 } else { 17 }, 0) {
                coded.push(row);
            }
        }
        let (mut a, mut b): (Vec<Vec<i32>>, Vec<Vec<i32>>) = (vec![], vec![]);
        let (mut gains, mut gain_bits) = (vec![], 0);
        let mut averages = [vec![0; coded.len()], vec![0; cols]];
        for _ in 0..rank {
            gain_bits += decoder.integer(16);
            gains.push(f32::from_bits((gain_bits as u32) << 16));
            for (side, all) in [&mut a, &mut b].into_iter().enumerate() {
                let mut trellis = Trellis(0);
                let mut component = vec![];
                for average in &mut averages[side] {
                    let reached = [2, 8, 32].iter().filter(|&&limit| *average >= limit).count();
                    let level = decoder.integer(8 * side + 4 * (trellis.0 % 2) + reached);
                    let value = trellis.value(level);
                    *average = *average - *average / 8 + 2 * value.abs();
                    component.push(value);
                }
                all.push(component);
            }
        }
        assert!(decoder.at >= stream.len(), "bytes left over");
        for component in &mut a {
            let mut all = vec![0; rows];
            coded.iter().zip(&*component).for_each(|(&row, &value)| all[row] = value);
            *component = all;
        }
        Self { gains, a, b, rest, coded }
    }

    /// The weight in a row and a column, without the rest.
    pub fn weight(&self, row: usize, col: usize) -> f32 {
        let product = |k: usize| (self.gains[k] * self.a[k][row] as f32) * self.b[k][col] as f32;
        (0..self.gains.len()).map(product).fold(0.0, |sum, next| sum + next)
    }
}
