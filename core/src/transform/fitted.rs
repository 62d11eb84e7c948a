//! A transform with everything that it takes to run it, both ways, and its wire form.

use super::dct::{Dct, jpeg_band_table, jpeg_table};
use super::dwt::Dwt;
use super::factors::{Factors, Fit, Memory};
use super::low_rank::{self, LowRank, Params, Projector};
use super::mask::Mask;
use super::subspace;
use super::top::{Threshold, Top, gather, scatter};
use super::wavelet::Wavelet;
use super::{Blocks, Chunk, Grid, Keep, REST, Table, Transform};
use crate::entropy::{Model, histogram};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// A run of coefficients of one block that is quantised together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    pub(crate) len: usize,
    /// A detail band of a wavelet, as opposed to the approximation or the only band.
    pub(crate) detail: bool,
}

/// A transform with everything that it takes to run it, both ways.
#[derive(Debug)]
pub(crate) enum Fitted {
    None,
    Dct(Dct, Scale),
    Dwt(Dwt, Scale),
    /// The projector is the encoder's half.
    LowRank(LowRank, Option<Projector>),
    /// What was asked for, and the factors.
    Factors(Factors, Asked),
    Mask(Mask),
    /// The threshold is the encoder's half.
    Top(Top, Option<Threshold>),
}

/// The parameters of [`Transform::Factors`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    step: f32,
    rank: usize,
    rest: f32,
}

/// The id of factors.
const FACTORS: u8 = 6;

impl Asked {
    /// Whether the rest is coded.
    fn has_rest(self) -> bool {
        self.step < self.rest
    }

    fn write(self, out: &mut Writer) {
        out.f32(self.step);
        out.varint(self.rank as u64);
        out.u8(u8::from(self.has_rest()));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self> {
        let step = input.f32("step of the factors")?;
        let rank = input.varint_to(1024, "rank")?;
        let has_rest = input.varint_to(1, "whether the rest is coded")? == 1;
        // What was asked for, as far as it can be told.
        let rest = match has_rest {
            _ if has_rest == (step < REST) => REST,
            true => f32::INFINITY,
            false => 0.0,
        };
        Ok(Self { step, rank, rest })
    }

    fn transform(self) -> Transform {
        Transform::Factors { step: self.step, rank: self.rank, rest: self.rest }
    }
}

/// A table that divides the coefficients of each block, in the order in which they are stored; empty for none.
#[derive(Debug)]
pub(crate) struct Scale(Table, Vec<f32>);

/// Gives the weights of a chunk of the delta, row-major.
pub(crate) type Source<'a> = dyn Fn(&Chunk, &mut Vec<f32>) + Sync + 'a;

impl Transform {
    /// Learns from the delta what the transform needs (directions, angles, a threshold); `rms` is its root mean square,
    /// and `base_rms` gives that of the base. `memory` may know the delta by a name and a number.
    pub(crate) fn fit(
        &self,
        grid: &Grid,
        rms: f32,
        base_rms: &dyn Fn() -> f32,
        source: &Source<'_>,
        memory: Option<(&Memory, &str, usize)>,
    ) -> Result<Fitted> {
        let chunk = |i: usize, out: &mut Vec<f32>| source(&grid.chunk(i), out);
        Ok(match self.clone() {
            Self::None => Fitted::None,
            Self::Dct { block, table } => Fitted::dct(block, table)?,
            Self::Dwt { block, wavelet, levels, keep, table } => {
                let wavelet = wavelet.fit(block, || sample(grid, block, source));
                Fitted::dwt(Dwt::new(block, &wavelet, levels, keep)?, table)?
            }
            Self::LowRank { rank, bits } => {
                let basis = low_rank::fit(grid.cols, rank, bits, grid.chunks(), &chunk)?;
                let projector = basis.projector();
                Fitted::LowRank(basis, Some(projector))
            }
            Self::Factors { step, rank, rest } => {
                let asked = Asked { step, rank, rest };
                let source = subspace::Source { cols: grid.cols, chunk_count: grid.chunks(), chunk: &chunk };
                let step = (step * rms).max(f32::MIN_POSITIVE);
                let rest = self.rest_step() * rms;
                let fit = Fit { step, rank, rest, rms, relative: rms / base_rms() };
                Fitted::Factors(fit.run(source, memory), asked)
            }
            Self::Mask { keep, seed } => Fitted::Mask(Mask { keep, seed }),
            Self::Top { share } => {
                let top = Top { share };
                Fitted::Top(top, Some(top.fit(grid.chunks(), &chunk)))
            }
        })
    }
}

/// Blocks from all over the matrix, at most some thousand.
fn sample(grid: &Grid, side: usize, source: &Source<'_>) -> Vec<f32> {
    let (mut delta, mut piece, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in grid.sample() {
        source(&chunk, &mut delta);
        let which: Vec<usize> = (0..chunk.blocks.len()).collect();
        piece.resize(which.len() * side * side, 0.0);
        Blocks::new(&chunk, side).gather(&delta, &which, &mut piece);
        blocks.extend(&piece);
    }
    blocks
}

impl Fitted {
    fn dct(block: usize, table: Table) -> Result<Self> {
        let dct = Dct::new(block)?;
        let scale = match table {
            Table::None => Vec::new(),
            Table::Jpeg => by_columns(&jpeg_table(block), block),
        };
        Ok(Self::Dct(dct, Scale(table, scale)))
    }

    fn dwt(dwt: Dwt, table: Table) -> Result<Self> {
        let scale = match table {
            Table::None => Vec::new(),
            Table::Jpeg if dwt.levels() > 1 || dwt.block() % 2 == 1 => {
                return Err(Error::invalid(
                    "table=jpeg of a wavelet needs one level and blocks of even size",
                ));
            }
            Table::Jpeg => by_columns(&jpeg_band_table(dwt.block()), dwt.block() / 2),
        };
        Ok(Self::Dwt(dwt, Scale(table, scale)))
    }

    /// What was asked for, as far as it can be told from what is stored.
    pub(crate) fn transform(&self) -> Transform {
        match self {
            Self::None => Transform::None,
            Self::Dct(dct, Scale(table, _)) => Transform::Dct { block: dct.block(), table: *table },
            Self::Dwt(dwt, Scale(table, _)) => Transform::Dwt {
                block: dwt.block(),
                wavelet: dwt.wavelet().clone(),
                levels: dwt.levels(),
                keep: dwt.keep(),
                table: *table,
            },
            Self::LowRank(basis, _) => Transform::LowRank { rank: basis.rank(), bits: basis.params().bits() },
            Self::Factors(_, asked) => asked.transform(),
            Self::Mask(mask) => Transform::Mask { keep: mask.keep, seed: mask.seed },
            Self::Top(top, _) => Transform::Top { share: top.share },
        }
    }

    /// The bands of each block of `chunk`; `kept` is the number of weights that a selecting transform keeps there.
    pub(crate) fn bands(&self, chunk: &Chunk, kept: usize) -> Vec<Band> {
        let plain = |len| Band { len, detail: false };
        match self {
            Self::None => vec![plain(chunk.len())],
            Self::Dct(dct, _) => vec![plain(dct.block() * dct.block())],
            Self::Dwt(dwt, _) => {
                dwt.bands().iter().map(|b| Band { len: b.rows * b.cols, detail: b.is_detail() }).collect()
            }
            Self::LowRank(basis, _) => vec![plain(chunk.rows.len()); basis.rank()],
            Self::Factors(factors, asked) => match asked.has_rest() {
                true => vec![plain(factors.coded_rows(&chunk.rows) * chunk.cols)],
                false => Vec::new(),
            },
            Self::Mask(_) | Self::Top(..) => vec![plain(kept)],
        }
    }

    /// Whether blocks have detail bands.
    pub(crate) fn has_details(&self) -> bool {
        matches!(self, Self::Dwt(dwt, _) if dwt.bands().len() > 1)
    }

    /// Whether there are no coefficients: the transform alone says all.
    pub(crate) fn says_all(&self) -> bool {
        matches!(self, Self::Factors(_, asked) if !asked.has_rest())
    }

    /// The g of a transform whose inverse is g times its transpose: then the scalar product of a delta and an inverse is g times
    /// that of their coefficients, and the square of an inverse g^2 times that of its coefficients (less what falls into padding).
    pub(crate) fn gain_of_transpose(&self) -> Option<f32> {
        match self {
            Self::Dct(_, Scale(Table::None, _)) | Self::Top(..) => Some(1.0),
            Self::Dwt(dwt, Scale(Table::None, _)) => dwt.wavelet().is_orthonormal().then_some(1.0),
            Self::Mask(mask) => Some(mask.gain()),
            _ => None,
        }
    }

    /// Whether positions are part of the coefficients and have to be stored.
    pub(crate) fn stores_positions(&self) -> bool {
        matches!(self, Self::Top(..))
    }

    /// Positions that need not be stored, because they follow from the parameters; replaces the content of
    /// `positions`.
    pub(crate) fn implied_positions(&self, chunk: &Chunk, positions: &mut Vec<u32>) {
        positions.clear();
        if let Self::Mask(mask) = self {
            mask.kept(chunk.first(), chunk.len(), positions);
        }
    }

    /// Coefficients of blocks `which` (indices in the chunk) of `delta`, the chunk's weights, in `coeffs` or `delta`
    /// itself. A transform that selects weights puts where they are, ascending in the chunk, into `positions`.
    pub(crate) fn forward<'a>(
        &self,
        delta: &'a [f32],
        chunk: &Chunk,
        which: &[usize],
        positions: &mut Vec<u32>,
        coeffs: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        self.implied_positions(chunk, positions);
        match self {
            Self::None => return delta,
            Self::Dct(dct, scale) => {
                coeffs.resize(which.len() * dct.block() * dct.block(), 0.0);
                let (at_once, values) = dct.blocks_at_once();
                for (which, coeffs) in which.chunks(at_once).zip(coeffs.chunks_mut(values)) {
                    Blocks::new(chunk, dct.block()).gather(delta, which, coeffs);
                    dct.forward(coeffs);
                }
                scale.divide(coeffs);
            }
            Self::Dwt(dwt, scale) => {
                coeffs.resize(which.len() * dwt.coefficients(), 0.0);
                dwt.forward(&Blocks::new(chunk, dwt.block()), delta, which, coeffs);
                scale.divide(coeffs);
            }
            Self::LowRank(_, Some(projector)) => projector.forward(delta, coeffs),
            Self::Factors(factors, asked) if asked.has_rest() => {
                coeffs.resize(delta.len(), 0.0);
                factors.expand(chunk.rows.start, coeffs);
                coeffs.iter_mut().zip(delta).for_each(|(x, d)| *x = d - *x);
                factors.gather_coded(chunk.rows.start, coeffs);
            }
            Self::LowRank(_, None) | Self::Factors(..) => coeffs.clear(),
            Self::Mask(mask) => mask.forward(delta, positions, coeffs),
            Self::Top(_, threshold) => {
                if let Some(threshold) = threshold {
                    threshold.forward(delta, positions);
                }
                gather(delta, positions, coeffs);
            }
        }
        coeffs
    }

    /// The weights of blocks `which`, written into `delta`. The coefficients `values` may be overwritten, or, where
    /// they are the weights themselves, change places with `delta`. Errors: Corrupt if they are not those of the chunk.
    pub(crate) fn inverse(
        &self,
        values: &mut Vec<f32>,
        positions: &[u32],
        chunk: &Chunk,
        which: &[usize],
        delta: &mut Vec<f32>,
    ) -> Result<()> {
        match self {
            Self::None => std::mem::swap(values, delta),
            Self::Dct(dct, scale) => {
                scale.multiply(values);
                let (at_once, count) = dct.blocks_at_once();
                for (which, values) in which.chunks(at_once).zip(values.chunks_mut(count)) {
                    dct.inverse(values);
                    Blocks::new(chunk, dct.block()).scatter(values, which, delta);
                }
            }
            Self::Dwt(dwt, scale) => {
                scale.multiply(values);
                dwt.inverse(values, &Blocks::new(chunk, dwt.block()), which, delta);
            }
            Self::LowRank(basis, _) => basis.inverse(values, delta)?,
            Self::Factors(factors, asked) => {
                factors.expand(chunk.rows.start, delta);
                if asked.has_rest() {
                    factors.add_to_coded(chunk.rows.start, values, delta);
                }
            }
            Self::Mask(mask) => mask.inverse(positions, values, delta)?,
            Self::Top(..) => scatter(positions, values, 1.0, delta)?,
        }
        Ok(())
    }

    /// Sum of squares of the `corner` x `corner` coefficients of lowest frequency of each block of a chunk.
    ///
    /// Errors: InvalidArgument unless the transform is the DCT: only there do frequencies have a corner.
    pub(crate) fn corner_energies(&self, delta: &[f32], chunk: &Chunk, corner: usize) -> Result<Vec<f64>> {
        let Self::Dct(dct, _) = self else {
            return Err(Error::invalid("importance=post needs the dct"));
        };
        let side = dct.block();
        let which: Vec<usize> = (0..chunk.blocks.len()).collect();
        let mut blocks = vec![0.0; which.len() * side * side];
        Blocks::new(chunk, side).gather(delta, &which, &mut blocks);
        dct.forward(&mut blocks);
        let energy = |block: &[f32]| {
            let columns = block.chunks_exact(side).take(corner);
            columns.flat_map(|column| column.iter().take(corner)).map(|&x| f64::from(x) * f64::from(x)).sum()
        };
        Ok(blocks.chunks_exact(side * side).map(energy).collect())
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        let mut params = Writer::default();
        let id = match self {
            Self::None => 0,
            Self::Dct(dct, Scale(table, _)) => {
                params.varint(dct.block() as u64);
                params.u8(*table as u8);
                1
            }
            Self::Dwt(dwt, Scale(table, _)) => {
                params.varint(dwt.block() as u64);
                params.u8(*table as u8);
                params.u8(dwt.levels() as u8);
                params.u8(dwt.keep().id());
                dwt.wavelet().write(&mut params);
                2
            }
            Self::LowRank(basis, _) => {
                write_basis(basis, &mut params);
                3
            }
            Self::Mask(mask) => {
                params.f32(mask.keep);
                params.u64(mask.seed);
                4
            }
            Self::Top(top, _) => {
                params.f32(top.share);
                5
            }
            Self::Factors(factors, asked) => {
                asked.write(&mut params);
                factors.write(&mut params);
                FACTORS
            }
        };
        out.u8(id);
        out.bytes(&params.0);
    }

    /// What was asked for, of the wire form, without the levels of factors. Errors as for [`Self::read`].
    pub(crate) fn describe(
        input: &mut Reader<'_>,
        rows: usize,
        cols: usize,
        limit: usize,
    ) -> Result<Transform> {
        let mut ahead = Reader(input.0);
        if ahead.u8("transform id")? != FACTORS {
            return Ok(Self::read(input, rows, cols, limit)?.transform());
        }
        let asked = Asked::read(&mut Reader(ahead.bytes("transform parameters")?))?;
        *input = ahead;
        Ok(asked.transform())
    }

    /// Inverse of [`Self::write`] for a `rows` x `cols` matrix; the decoder's half only.
    ///
    /// Errors: Limit where it would hold more than `limit` numbers.
    pub(crate) fn read(input: &mut Reader<'_>, rows: usize, cols: usize, limit: usize) -> Result<Self> {
        let id = input.u8("transform id")?;
        let mut params = Reader(input.bytes("transform parameters")?);
        let fitted = match id {
            0 => Self::None,
            1 => {
                let block = read_block(&mut params)?;
                Self::dct(block, read_table(&mut params)?)?
            }
            2 => {
                let (block, table) = (read_block(&mut params)?, read_table(&mut params)?);
                let levels = usize::from(params.u8("wavelet levels")?);
                let keep = Keep::from_id(params.u8("kept bands")?)?;
                let wavelet = Wavelet::read(&mut params)?;
                let dwt = Dwt::new(block, &wavelet, levels, keep).and_then(|dwt| Self::dwt(dwt, table));
                dwt.map_err(|e| Error::corrupt(e.to_string()))?
            }
            3 => Self::LowRank(read_basis(&mut params, rows, cols, limit)?, None),
            4 => {
                let mask = Mask { keep: params.f32("kept share")?, seed: params.u64("seed")? };
                if !(mask.keep > 0.0 && mask.keep <= 1.0) {
                    return Err(Error::corrupt(format!("a mask that keeps {}", mask.keep)));
                }
                Self::Mask(mask)
            }
            FACTORS => {
                let asked = Asked::read(&mut params)?;
                Self::Factors(Factors::read(&mut params, rows, cols, limit)?, asked)
            }
            5 => Self::Top(Top { share: params.f32("kept share")? }, None),
            _ => return Err(Error::unsupported(format!("transform id {id} is not known to this version"))),
        };
        params.finish("transform parameters")?;
        Ok(fitted)
    }
}

/// A row-major square table in the order of coefficients, which are stored column by column.
fn by_columns(table: &[f32], side: usize) -> Vec<f32> {
    (0..side).flat_map(|col| table.iter().skip(col).step_by(side).copied()).collect()
}

impl Scale {
    fn divide(&self, coeffs: &mut [f32]) {
        self.combine(coeffs, |x, t| x / t);
    }

    fn multiply(&self, coeffs: &mut [f32]) {
        self.combine(coeffs, |x, t| x * t);
    }

    fn combine(&self, coeffs: &mut [f32], f: impl Fn(f32, f32) -> f32) {
        if self.1.is_empty() {
            return;
        }
        for block in coeffs.chunks_exact_mut(self.1.len()) {
            block.iter_mut().zip(&self.1).for_each(|(x, &t)| *x = f(*x, t));
        }
    }
}

fn read_block(input: &mut Reader<'_>) -> Result<usize> {
    match input.varint_to(128, "block size")? {
        block @ 4.. => Ok(block),
        block => Err(Error::corrupt(format!("blocks of size {block}"))),
    }
}

fn read_table(input: &mut Reader<'_>) -> Result<Table> {
    match input.u8("table")? {
        0 => Ok(Table::None),
        1 => Ok(Table::Jpeg),
        id => Err(Error::unsupported(format!("table id {id} is not known to this version"))),
    }
}

fn write_basis(basis: &LowRank, out: &mut Writer) {
    basis.params().write(out);
    let model = Model::fit(&histogram(basis.levels()), 1);
    let mut stream = Vec::new();
    model.encode(basis.levels(), &mut stream);
    model.write(out);
    out.bytes(&stream);
}

fn read_basis(input: &mut Reader<'_>, rows: usize, cols: usize, limit: usize) -> Result<LowRank> {
    let params = Params::read(input, rows, cols)?;
    if params.level_count() > limit {
        return Err(Error::limit(format!("a basis of {} numbers", params.level_count())));
    }
    let model = Model::read(input)?;
    let stream = input.bytes("levels of the basis")?;
    LowRank::new(params.clone(), model.decode_new(stream, params.level_count())?)
}
