//! A transform with everything that it takes to run it, both ways, and its wire form.

use super::dct::{Dct, jpeg_band_table, jpeg_table};
use super::dwt::Dwt;
use super::low_rank::{self, LowRank};
use super::mask::Mask;
use super::top::{Threshold, Top, gather, scatter};
use super::wavelet::Wavelet;
use super::{Blocks, Chunk, Grid, Table, Transform};
use crate::entropy::{Model, histogram};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// Coefficients of some blocks of a chunk, one block after the other, each band after band.
#[derive(Debug, Default)]
pub(crate) struct Coefficients {
    pub(crate) values: Vec<f32>,
    /// Where the values go, for a transform that selects weights: ascending positions in the chunk.
    pub(crate) positions: Vec<u32>,
}

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
    Dct(Dct, Option<Vec<f32>>),
    Dwt(Dwt, Option<Vec<f32>>),
    LowRank(LowRank),
    Mask(Mask),
    Top(Top),
}

/// Gives the weights of a chunk of the delta, row-major.
pub(crate) type Source<'a> = dyn Fn(&Chunk, &mut Vec<f32>) + Sync + 'a;

impl Transform {
    /// Learns from the delta what the transform needs (directions, angles, a threshold).
    pub(crate) fn fit(&self, grid: &Grid, source: &Source<'_>) -> Result<Fitted> {
        let chunk = |i: usize, out: &mut Vec<f32>| source(&grid.chunk(i), out);
        Ok(match *self {
            Self::None => Fitted::None,
            Self::Dct { block, table } => Fitted::dct(block, table)?,
            Self::Dwt { block, ref wavelet, levels, keep, table } => {
                let wavelet = wavelet.fit(block, || sample(grid, block, source));
                Fitted::dwt(Dwt::new(block, wavelet, levels, keep)?, table)
            }
            Self::LowRank { rank, bits } => {
                Fitted::LowRank(low_rank::fit(grid.cols, rank, bits, grid.chunks(), &chunk)?, )
            }
            Self::Mask { keep, seed } => Fitted::Mask(Mask { keep, seed }),
            Self::Top { share } => {
                let top = Top { share };
                Fitted::Top(top, top.fit(grid.chunks(), &chunk))
            }
        })
    }
}

/// Blocks from all over the matrix, at most some thousand.
fn sample(grid: &Grid, side: usize, source: &Source<'_>) -> Vec<f32> {
    const CHUNKS: usize = 16;
    let step = grid.chunks().div_ceil(CHUNKS).max(1);
    let mut delta = Vec::new();
    let mut blocks = Vec::new();
    for i in (0..grid.chunks()).step_by(step) {
        let chunk = grid.chunk(i);
        source(&chunk, &mut delta);
        let which: Vec<usize> = (0..chunk.blocks.len()).collect();
        blocks.extend(Blocks::new(&chunk, side).gather(&delta, &which));
    }
    blocks
}

impl Fitted {
    /// The bands of each block of `chunk`; `kept` is the number of weights that a selecting transform keeps there.
    pub(crate) fn bands(&self, chunk: &Chunk, kept: usize) -> Vec<Band> {
        let plain = |len| Band { len, detail: false };
        match self {
            Self::None => vec![plain(chunk.len())],
            Self::Dct(dct, _) => vec![plain(dct.block() * dct.block())],
            Self::Dwt(dwt, _) => dwt.bands().iter().map(|b| Band { len: b.rows * b.cols, detail: b.detail }).collect(),
            Self::LowRank(low_rank) => vec![plain(chunk.rows.len()); low_rank.rank()],
            Self::Mask(_) | Self::Top(_) => vec![plain(kept)],
        }
    }

    /// Whether positions are part of the coefficients and have to be stored.
    pub(crate) fn stores_positions(&self) -> bool {
        matches!(self, Self::Top(_))
    }

    /// Positions that need not be stored, because they follow from the parameters.
    pub(crate) fn implied_positions(&self, chunk: &Chunk) -> Vec<u32> {
        match self {
            Self::Mask(mask) => mask.kept(chunk.first(), chunk.len()),
            _ => Vec::new(),
        }
    }

    /// Coefficients of blocks `which` (indices in the chunk) of `delta`, the chunk's weights.
    pub(crate) fn forward(&self, delta: &[f32], chunk: &Chunk, which: &[usize]) -> Coefficients {
        let values = match self {
            Self::None => delta.to_vec(),
            Self::Dct(dct, table) => {
                let mut blocks = Blocks::new(chunk, dct.block()).gather(delta, which);
                dct.forward(&mut blocks);
                scale(&mut blocks, table, |x, t| x / t);
                blocks
            }
            Self::Dwt(dwt, table) => {
                let blocks = Blocks::new(chunk, dwt.block()).gather(delta, which);
                let mut coeffs = vec![0.0; which.len() * dwt.coefficients()];
                dwt.forward(&blocks, &mut coeffs);
                scale(&mut coeffs, table, |x, t| x / t);
                coeffs
            }
            Self::LowRank(low_rank) => low_rank.forward(delta),
            Self::Mask(_) | Self::Top(_) => {
                let positions = match self {
                    Self::Top(top) => top.kept(delta),
                    _ => self.implied_positions(chunk),
                };
                let values = positions.iter().map(|&at| delta[at as usize]).collect();
                return Coefficients { values, positions };
            }
        };
        Coefficients { values, positions: Vec::new() }
    }

    /// The weights of blocks `which`, written into `delta`; a selecting transform leaves the others as they are.
    pub(crate) fn inverse(&self, coeffs: Coefficients, chunk: &Chunk, which: &[usize], delta: &mut [f32]) {
        let Coefficients { mut values, positions } = coeffs;
        match self {
            Self::None => delta.copy_from_slice(&values),
            Self::Dct(dct, table) => {
                scale(&mut values, table, |x, t| x * t);
                dct.inverse(&mut values);
                Blocks::new(chunk, dct.block()).scatter(&values, which, delta);
            }
            Self::Dwt(dwt, table) => {
                scale(&mut values, table, |x, t| x * t);
                let mut blocks = vec![0.0; which.len() * dwt.block() * dwt.block()];
                dwt.inverse(&values, &mut blocks);
                Blocks::new(chunk, dwt.block()).scatter(&blocks, which, delta);
            }
            Self::LowRank(low_rank) => low_rank.inverse(&values, delta),
            Self::Mask(mask) => mask.inverse(&positions, &values, delta),
            Self::Top(_) => {
                for (&at, &value) in positions.iter().zip(&values) {
                    delta[at as usize] = value;
                }
            }
        }
    }
}

/// Combines the coefficients of each block with the table, element by element.
fn scale(coeffs: &mut [f32], table: &Option<Vec<f32>>, f: impl Fn(f32, f32) -> f32) {
    let Some(table) = table else { return };
    for block in coeffs.chunks_exact_mut(table.len()) {
        for (x, &t) in block.iter_mut().zip(table) {
            *x = f(*x, t);
        }
    }
}
