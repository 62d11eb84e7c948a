//! The payload of a delta: from its bytes to the values of the reconstruction.

use std::collections::VecDeque;

use super::cosine::{inverse, jpeg_table, resize};
use super::entropy::{Bits, Bytes, Model, ints, join, read_model};
use super::factors::{Factors, Trellis};
use super::wavelet::Dwt;

enum Transform {
    None,
    /// The table is in the order of the coefficients.
    Dct {
        block: usize,
        table: Vec<f32>,
    },
    /// The table is that of each band.
    Dwt {
        dwt: Dwt,
        table: Vec<f32>,
    },
    LowRank {
        rank: usize,
        basis: Vec<f32>,
    },
    Mask {
        keep: f32,
        seed: u64,
    },
    Top,
    Factors(Factors),
}

enum Quantizer {
    /// Bits of each class, bits of detail bands, predecessor mode.
    MinMax(Vec<u8>, u8, bool),
    Sign,
    Uniform,
}

/// A run of coefficients with one width: its length, and whether it is a detail band.
type Band = (usize, bool);

/// The factor and the reconstruction (rows x cols, row-major) before it is multiplied by it.
pub fn decode(payload: &[u8], rows: usize, cols: usize) -> (f32, Vec<f32>) {
    let mut input = Bytes(payload);
    let transform = read_transform(&mut input, rows, cols);
    let quantizer = read_quantizer(&mut input);
    let (factor, step) = (input.f32(), input.f32());
    let mut decoder = Decoder { transform, quantizer, step, rows, cols, classes: vec![] };
    let mut delta = Vec::new();
    let block_count = decoder.chunks().iter().map(|chunk| decoder.blocks(chunk)).sum();
    if let Quantizer::MinMax(bits, ..) = &decoder.quantizer
        && bits.len() > 1
    {
        let model = read_model(&mut input);
        decoder.classes = model.decode(input.bytes(), block_count);
    }
    let (mut lo, mut hi, mut means) = decoder.parameters(&mut input);
    let models: Vec<Option<Model>> =
        decoder.streams().into_iter().map(|used| used.then(|| read_model(&mut input))).collect();
    for chunk in decoder.chunks() {
        delta.extend(decoder.chunk(&chunk, &mut input, &models, [&mut lo, &mut hi, &mut means]));
    }
    assert!(
        input.0.is_empty() && lo.is_empty() && hi.is_empty() && means.is_empty(),
        "payload: something is left over"
    );
    (factor, delta)
}

fn read_transform(input: &mut Bytes<'_>, rows: usize, cols: usize) -> Transform {
    let id = input.u8();
    let mut params = Bytes(input.bytes());
    let transform = match id {
        0 => Transform::None,
        1 => {
            let block = params.varint() as usize;
            Transform::Dct { block, table: read_table(&mut params, block, jpeg_table) }
        }
        2 => {
            let block = params.varint() as usize;
            let table = read_table(&mut params, block / 2, |side| resize(&jpeg_table(block), block, side));
            Transform::Dwt { dwt: Dwt::read(block, &mut params), table }
        }
        3 => {
            let rank = params.varint() as usize;
            let max = f32::from((1u16 << params.u8()) - 1);
            let ranges: Vec<(f32, f32)> = (0..rank).map(|_| (params.f32(), params.f32())).collect();
            let model = read_model(&mut params);
            let levels = model.decode(params.bytes(), rank * cols);
            let value = |(at, &level): (usize, &u8)| {
                let (lo, hi) = ranges[at / cols];
                lo + f32::from(level) * ((hi - lo) / max)
            };
            Transform::LowRank { rank, basis: levels.iter().enumerate().map(value).collect() }
        }
        4 => Transform::Mask { keep: params.f32(), seed: params.u64() },
        5 => {
            params.f32();
            Transform::Top
        }
        6 => Transform::Factors(Factors::read(&mut params, rows, cols)),
        _ => panic!("transform {id}"),
    };
    assert!(params.0.is_empty());
    transform
}

/// A table of `side` x `side` in the order of the coefficients, column by column.
fn read_table(params: &mut Bytes<'_>, side: usize, jpeg: impl Fn(usize) -> Vec<f32>) -> Vec<f32> {
    let table = match params.u8() {
        0 => return Vec::new(),
        1 => jpeg(side),
        id => panic!("table {id}"),
    };
    (0..side * side).map(|at| table[at % side * side + at / side]).collect()
}

/// Multiplies by the table, over and over again; an empty one does nothing.
fn multiply(values: Vec<f32>, table: &[f32]) -> Vec<f32> {
    if table.is_empty() {
        values
    } else {
        values.iter().zip(table.iter().cycle()).map(|(x, t)| x * t).collect()
    }
}

fn read_quantizer(input: &mut Bytes<'_>) -> Quantizer {
    let id = input.u8();
    let mut params = Bytes(input.bytes());
    let quantizer = match id {
        1 => {
            let classes = params.varint();
            let class = |_| {
                let bits = params.u8();
                params.f32();
                bits
            };
            let bits = (0..classes).map(class).collect();
            params.u8();
            Quantizer::MinMax(bits, params.u8(), params.u8() != 0)
        }
        2 => Quantizer::Sign,
        3 => {
            params.f32();
            Quantizer::Uniform
        }
        // Like uniform, but for how the writer came to its levels.
        4 => Quantizer::Uniform,
        _ => panic!("quantiser {id}"),
    };
    assert!(params.0.is_empty());
    quantizer
}

/// Rows of a chunk, and the index of its first block.
struct Chunk {
    first_row: usize,
    rows: usize,
    first_block: usize,
}

struct Decoder {
    transform: Transform,
    quantizer: Quantizer,
    step: f32,
    rows: usize,
    cols: usize,
    /// Empty where there is but one class.
    classes: Vec<u8>,
}

impl Decoder {
    fn block(&self) -> Option<usize> {
        match &self.transform {
            Transform::Dct { block, .. } => Some(*block),
            Transform::Dwt { dwt, .. } => Some(dwt.block),
            _ => None,
        }
    }

    /// Chunks have the fewest rows, a multiple of the block's side, that hold 2^16 weights.
    fn chunks(&self) -> Vec<Chunk> {
        let side = self.block().unwrap_or(1);
        let strip = (side * self.cols).max(1);
        let height = side * (1usize << 16).div_ceil(strip);
        let mut first_block = 0;
        let mut chunks = Vec::new();
        for first_row in (0..self.rows).step_by(height) {
            let chunk = Chunk { first_row, rows: height.min(self.rows - first_row), first_block };
            first_block += self.blocks(&chunk);
            chunks.push(chunk);
        }
        chunks
    }

    /// Number of blocks of a chunk; without blocks it is one itself.
    fn blocks(&self, chunk: &Chunk) -> usize {
        self.block().map_or(1, |side| chunk.rows.div_ceil(side) * self.cols.div_ceil(side))
    }

    fn bands(&self, chunk: &Chunk, kept: usize) -> Vec<Band> {
        match &self.transform {
            Transform::None => vec![(chunk.rows * self.cols, false)],
            Transform::Dct { block, .. } => vec![(block * block, false)],
            Transform::Dwt { dwt, .. } => {
                dwt.bands().into_iter().map(|(r, c, detail)| (r * c, detail)).collect()
            }
            Transform::LowRank { rank, .. } => vec![(chunk.rows, false); *rank],
            Transform::Mask { .. } | Transform::Top => vec![(kept, false)],
            Transform::Factors(Factors { rest: false, .. }) => vec![],
            Transform::Factors(factors) => {
                let rows = chunk.first_row..chunk.first_row + chunk.rows;
                vec![(rows.filter(|row| factors.coded.contains(row)).count() * self.cols, false)]
            }
        }
    }

    fn class(&self, block: usize) -> usize {
        self.classes.get(block).map_or(0, |&class| class.into())
    }

    fn class_bits(&self, class: usize) -> u8 {
        match &self.quantizer {
            Quantizer::MinMax(bits, ..) => bits.get(class).copied().unwrap_or(0),
            _ => 1,
        }
    }

    fn predecessor(&self) -> bool {
        matches!(self.quantizer, Quantizer::MinMax(_, _, true))
    }

    /// Whether a block has coefficients, as opposed to a mean alone.
    fn is_transformed(&self, class: usize) -> bool {
        self.class_bits(class) > 0 || self.predecessor()
    }

    /// Bits of a band, and the stream of its levels.
    fn width(&self, class: usize, detail: bool) -> (u8, usize) {
        match &self.quantizer {
            Quantizer::MinMax(bits, _, true) if detail => (1, bits.len()),
            Quantizer::MinMax(bits, details, false) if detail => (*details, bits.len()),
            _ => (self.class_bits(class), class),
        }
    }

    fn has_rest(&self) -> bool {
        matches!(self.transform, Transform::Factors(Factors { rest: true, .. }))
    }

    /// Which streams there are: one a class, one for details, tokens of integers, tokens of gaps or of the second quantiser.
    fn streams(&self) -> Vec<bool> {
        let symbols = !matches!(self.quantizer, Quantizer::Uniform);
        let mut used: Vec<bool> = match &self.quantizer {
            Quantizer::MinMax(bits, ..) => bits.iter().map(|&bits| bits > 0).collect(),
            _ => vec![symbols],
        };
        let details = matches!(&self.transform, Transform::Dwt { dwt, .. } if dwt.bands().len() > 1);
        let second = matches!(self.transform, Transform::Top) || self.has_rest();
        let no_rest = matches!(self.transform, Transform::Factors(Factors { rest: false, .. }));
        used.extend([symbols && details, !symbols && !no_rest, second]);
        used
    }

    /// The lists of lo, of hi, and of means.
    fn parameters(&self, input: &mut Bytes<'_>) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let Quantizer::MinMax(_, _, exact) = self.quantizer else { return Default::default() };
        let (mut ranges, mut means) = (0, 0);
        for chunk in self.chunks() {
            for block in 0..self.blocks(&chunk) {
                let class = self.class(chunk.first_block + block);
                if !self.is_transformed(class) {
                    means += 1;
                    continue;
                }
                for (_, detail) in self.bands(&chunk, 0) {
                    let bits = self.width(class, detail).0;
                    *(if bits == 0 { &mut means } else { &mut ranges }) += 1;
                }
            }
        }
        let (lo, hi) = (floats(input, ranges, exact), floats(input, ranges, exact));
        let means = match exact {
            true => floats(input, means, true),
            false => ints(input, means).into_iter().map(|mean| mean as f32).collect(),
        };
        (lo, hi, means)
    }

    /// The weights of a chunk, row-major.
    fn chunk(
        &self,
        chunk: &Chunk,
        input: &mut Bytes<'_>,
        models: &[Option<Model>],
        [lo, hi, means]: [&mut Vec<f32>; 3],
    ) -> Vec<f32> {
        let weights = chunk.rows * self.cols;
        let mut positions = match self.transform {
            Transform::Mask { keep, seed } => {
                masked(keep, seed, (chunk.first_row * self.cols) as u64, weights)
            }
            Transform::Top => vec![0; input.varint() as usize],
            _ => vec![],
        };
        let of_first = if self.has_rest() { input.varint() as usize } else { 0 };
        let bands = self.bands(chunk, positions.len());
        let blocks: Vec<usize> = (0..self.blocks(chunk)).map(|i| self.class(chunk.first_block + i)).collect();

        // How many symbols each stream has.
        let mut counts = vec![0; models.len()];
        let last = models.len() - 1;
        counts[last] = positions.len();
        for &class in blocks.iter().filter(|&&class| self.is_transformed(class)) {
            for &(len, detail) in &bands {
                let (bits, context) = self.width(class, detail);
                let stream = if matches!(self.quantizer, Quantizer::Uniform) { last - 1 } else { context };
                counts[stream] += if bits > 0 { len } else { 0 };
            }
        }
        if self.has_rest() {
            counts[last] = counts[last - 1] - of_first;
            counts[last - 1] = of_first;
        }
        let decode = |(model, &count): (&Option<Model>, &usize)| {
            model.as_ref().map(|model| model.decode(input.bytes(), count)).unwrap_or_default().into_iter()
        };
        let mut streams: Vec<_> = models.iter().zip(&counts).map(decode).collect();
        let has_extra = models[last].is_some() || models[last - 1].is_some();
        let mut extra = Bits::new(if has_extra { input.bytes() } else { &[] });
        if matches!(self.transform, Transform::Top) {
            let mut next = 0;
            for position in &mut positions {
                *position = next + join(streams[last].next().unwrap(), &mut extra) as usize;
                next = *position + 1;
            }
        }

        let mut delta = vec![0.0; weights];
        for (i, &class) in blocks.iter().enumerate() {
            if !self.is_transformed(class) {
                let mean = means.remove(0) * self.step;
                self.place(chunk, i, &[], mean, &mut delta);
                continue;
            }
            let mut values = Vec::new();
            for &(len, detail) in &bands {
                let (bits, context) = self.width(class, detail);
                match &self.quantizer {
                    Quantizer::Uniform if self.has_rest() => {
                        let mut levels = [last - 1, last].map(|stream| {
                            let tokens = streams[stream].by_ref();
                            tokens.map(|token| join(token, &mut extra) as i32).collect::<VecDeque<_>>()
                        });
                        let mut trellis = Trellis(0);
                        values.extend((0..len).map(|_| {
                            let level = levels[trellis.0 % 2].pop_front().unwrap();
                            trellis.value(level) as f32 * self.step
                        }));
                    }
                    Quantizer::Uniform => {
                        let tokens = streams[last - 1].by_ref().take(len);
                        values.extend(tokens.map(|token| join(token, &mut extra) as f32 * self.step));
                    }
                    Quantizer::Sign => {
                        values.extend(
                            streams[context].by_ref().take(len).map(|s| if s == 0 { -1.0 } else { 1.0 }),
                        );
                    }
                    Quantizer::MinMax(..) if bits == 0 => values.extend(vec![means.remove(0); len]),
                    Quantizer::MinMax(..) => {
                        let (lo, hi) = (lo.remove(0), hi.remove(0));
                        let n = f32::from((1u16 << bits) - 1);
                        let levels = streams[context].by_ref().take(len);
                        values.extend(levels.map(|level| f32::from(level) / n * (hi - lo) + lo));
                    }
                }
            }
            match &self.transform {
                Transform::None => delta.copy_from_slice(&values),
                Transform::Dct { block, table } => {
                    self.place(chunk, i, &inverse(&multiply(values, table), *block), 0.0, &mut delta);
                }
                Transform::Dwt { dwt, table } => {
                    self.place(chunk, i, &dwt.inverse(&multiply(values, table)), 0.0, &mut delta);
                }
                Transform::LowRank { rank, basis } => {
                    for (at, out) in delta.iter_mut().enumerate() {
                        let (row, col) = (at / self.cols, at % self.cols);
                        let product = |k: usize| values[k * chunk.rows + row] * basis[k * self.cols + col];
                        *out = (0..*rank).map(product).fold(0.0, |sum, next| sum + next);
                    }
                }
                Transform::Factors(factors) => {
                    let mut rest = values.iter();
                    for (at, out) in delta.iter_mut().enumerate() {
                        let row = chunk.first_row + at / self.cols;
                        *out = factors.weight(row, at % self.cols);
                        if factors.rest && factors.coded.contains(&row) {
                            *out += rest.next().unwrap();
                        }
                    }
                }
                Transform::Mask { keep, .. } => {
                    positions.iter().zip(&values).for_each(|(&at, x)| delta[at] = x * (1.0 / keep));
                }
                Transform::Top => positions.iter().zip(&values).for_each(|(&at, &x)| delta[at] = x),
            }
        }
        assert!(streams.iter_mut().all(|stream| stream.next().is_none()));
        delta
    }

    /// Writes block `i` of the chunk, or `fill` where there are no values, to its place.
    fn place(&self, chunk: &Chunk, i: usize, values: &[f32], fill: f32, delta: &mut [f32]) {
        let side = self.block().unwrap();
        let across = self.cols.div_ceil(side);
        for at in 0..side * side {
            let (row, col) = (i / across * side + at / side, i % across * side + at % side);
            if row < chunk.rows && col < self.cols {
                delta[row * self.cols + col] = values.get(at).copied().unwrap_or(fill);
            }
        }
    }
}

/// Numbers of bfloat16, or of f32 if `exact`.
fn floats(input: &mut Bytes<'_>, count: usize, exact: bool) -> Vec<f32> {
    let middle = input.u64() as i64;
    let value = |offset: i64| {
        let key = middle + offset;
        let magnitude = f32::from_bits((key.unsigned_abs() as u32) << if exact { 0 } else { 16 });
        if key < 0 { -magnitude } else { magnitude }
    };
    ints(input, count).into_iter().map(value).collect()
}

/// Positions that the mask keeps among `n` weights from index `first` on.
fn masked(keep: f32, seed: u64, first: u64, n: usize) -> Vec<usize> {
    fn m(mut x: u32, key: u32) -> u32 {
        x ^= x >> 17;
        x = x.wrapping_mul(0xed5a_d4bb);
        x ^= x >> 11;
        x = x.wrapping_add(key);
        x = x.wrapping_mul(0xac4c_1b51);
        x ^= x >> 15;
        x = x.wrapping_mul(0x3184_8bab);
        x ^ x >> 14
    }
    const GOLDEN: u32 = 0x9e37_79b9;
    let limit = ((f64::from(keep) * 4_294_967_296.0 + 0.5).floor() as u64).max(1) - 1;
    let kept = |i: &usize| {
        let index = first + *i as u64;
        let a = m(m((seed as u32).wrapping_add(GOLDEN), 0).wrapping_add((seed >> 32) as u32), 0);
        let b = m(a.wrapping_add((index >> 32) as u32), 0);
        let c = m(b.wrapping_add(GOLDEN), 0);
        u64::from(m((index as u32).wrapping_add(b), c)) <= limit
    };
    (0..n).filter(kept).collect()
}
