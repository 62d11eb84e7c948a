//! Stage 3: the delta of one tensor to coefficients and back.
//!
//! | name | unit | coefficients |
//! |---|---|---|
//! | `none` | chunk | the delta itself |
//! | `dct` | block | 2-D DCT-II of each block |
//! | `dwt` | block | bands of a 2-D wavelet transform of each block |
//! | `lowrank` | chunk | projections onto a few fitted directions |
//! | `factors` | chunk | what coarse singular factors leave over, or nothing |
//! | `mask` | chunk | the weights that a seeded random mask keeps |
//! | `top` | chunk | the weights of largest magnitude, with their positions |
//!
//! A [`Transform`] is what a person asks for; [`Fitted`] is that, with whatever had to be learned from the delta.

mod blocks;
mod cosine;
mod dct;
mod dwt;
mod factors;
mod fitted;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod fixture;
mod grid;
mod lattice;
mod low_rank;
mod mask;
mod subspace;
mod top;
mod transpose;
mod wavelet;

use std::fmt;
use std::str::FromStr;

pub(crate) use blocks::Blocks;
pub use dwt::Keep;
pub(crate) use factors::Memory;
pub(crate) use fitted::{Band, Fitted, Source};
pub(crate) use grid::{Chunk, Grid};
pub use lattice::Lattice;
pub use wavelet::Wavelet;

use crate::error::{Error, Result};
use crate::text::Fields;

/// Which transform, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Transform {
    /// Coefficients are the weights of the delta.
    None,
    /// 2-D DCT-II of `block` x `block` blocks.
    Dct {
        /// Side of a block, 4..=128.
        block: usize,
        /// Divide coefficients by a table before quantising them.
        table: Table,
    },
    /// 2-D wavelet transform of `block` x `block` blocks.
    Dwt {
        /// Side of a block, 4..=128.
        block: usize,
        /// The filters.
        wavelet: Wavelet,
        /// Number of levels, at least 1.
        levels: usize,
        /// Which bands are coded at all.
        keep: Keep,
        /// Divide coefficients by a table (predecessor mode only).
        table: Table,
    },
    /// Projection onto the `rank` leading right singular directions.
    LowRank {
        /// Number of directions, 1..=1024.
        rank: usize,
        /// Bits for each number of the directions, 1..=8.
        bits: u8,
    },
    /// Coarse singular factors, and below some step what they leave over.
    Factors {
        /// Unit of the factors' levels in root mean squares of the delta, above 0.
        step: f32,
        /// Number of components at most, 1..=1024.
        rank: usize,
        /// The step below which what they leave over is coded, too; 0 for never.
        rest: f32,
    },
    /// A random share of the weights, scaled up by `1 / keep` (DARE, arXiv:2311.03099).
    Mask {
        /// Probability that a weight is kept, above 0 and at most 1.
        keep: f32,
        /// Seed of the mask.
        seed: u64,
    },
    /// The weights of largest magnitude.
    Top {
        /// Share of the weights that is kept, above 0 and at most 1.
        share: f32,
    },
}

/// The step of factors below which what they leave over is coded, if nothing else is asked for.
const REST: f32 = 2.0;

/// A quantisation table that divides coefficients; text form `none` or `jpeg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// No table.
    None,
    /// The JPEG luminance table (ITU-T T.81, K.1), resized to the block.
    Jpeg,
}

impl Transform {
    /// Side of the blocks, for a transform of blocks.
    pub(crate) fn block(&self) -> Option<usize> {
        match self {
            Self::Dct { block, .. } | Self::Dwt { block, .. } => Some(*block),
            _ => None,
        }
    }

    /// The step for what factors leave over, in root mean squares of the delta; 0 where it is not coded. With finer
    /// factors ever more of the rate goes there: from 6 times the root mean square, where hardly a level differs from 0.
    pub(crate) fn rest_step(&self) -> f32 {
        match self {
            Self::Factors { step, rest, .. } if step < rest => 2.0 * step.powf(1.6),
            _ => 0.0,
        }
    }

    fn check(self) -> Result<Self> {
        let share = |name: &str, x: f32| match x > 0.0 && x <= 1.0 {
            true => Ok(()),
            false => Err(Error::invalid(format!("{name}={x}: a share is above 0 and at most 1"))),
        };
        match self {
            Self::Dct { block, .. } | Self::Dwt { block, .. } if !(4..=128).contains(&block) => {
                return Err(Error::invalid(format!("block={block}: blocks are 4 to 128 wide")));
            }
            Self::Dwt { levels, .. } if levels == 0 || levels > 6 => {
                return Err(Error::invalid(format!(
                    "levels={levels}: a wavelet transform has 1 to 6 levels"
                )));
            }
            Self::LowRank { rank, bits } if !(1..=1024).contains(&rank) || !(1..=8).contains(&bits) => {
                return Err(Error::invalid(format!(
                    "rank={rank} bits={bits}: a rank of 1 to 1024, of 1 to 8 bits"
                )));
            }
            Self::Factors { step, rank, rest }
                if !((1..=1024).contains(&rank) && step.is_finite() && step > 0.0 && rest >= 0.0) =>
            {
                return Err(Error::invalid(format!(
                    "step={step} rank={rank} rest={rest}: a step above 0, a rank of 1 to 1024, a rest from 0"
                )));
            }
            Self::Mask { keep, .. } => share("keep", keep)?,
            Self::Top { share: x } => share("share", x)?,
            _ => {}
        }
        Ok(self)
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Dct { block, table } => write!(f, "dct block={block} table={table}"),
            Self::Dwt { block, wavelet, levels, keep, table } => {
                write!(f, "dwt block={block} wavelet={wavelet} levels={levels} keep={keep} table={table}")
            }
            Self::LowRank { rank, bits } => write!(f, "lowrank rank={rank} bits={bits}"),
            Self::Factors { step, rank, rest } => write!(f, "factors step={step} rank={rank} rest={rest}"),
            Self::Mask { keep, seed } => write!(f, "mask keep={keep} seed={seed}"),
            Self::Top { share } => write!(f, "top share={share}"),
        }
    }
}

impl FromStr for Transform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut fields = Fields::parse(text)?;
        let transform = match fields.name() {
            "none" => Self::None,
            "dct" => {
                Self::Dct { block: fields.take("block", 32)?, table: fields.take("table", Table::None)? }
            }
            "dwt" => Self::Dwt {
                block: fields.take("block", 32)?,
                wavelet: fields.take("wavelet", Wavelet::Haar)?,
                levels: fields.take("levels", 1)?,
                keep: fields.take("keep", Keep::All)?,
                table: fields.take("table", Table::None)?,
            },
            "lowrank" => Self::LowRank { rank: fields.take("rank", 16)?, bits: fields.take("bits", 3)? },
            "factors" => Self::Factors {
                step: fields.take("step", 8.0)?,
                rank: fields.take("rank", 256)?,
                rest: fields.take("rest", REST)?,
            },
            "mask" => Self::Mask { keep: fields.take("keep", 0.1)?, seed: fields.take("seed", 0)? },
            "top" => Self::Top { share: fields.take("share", 0.01)? },
            other => return Err(Error::invalid(format!("no transform is called {other:?}"))),
        };
        fields.finish()?;
        transform.check()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Jpeg => "jpeg",
        })
    }
}

impl FromStr for Table {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "jpeg" => Ok(Self::Jpeg),
            _ => Err(Error::invalid("table is none or jpeg")),
        }
    }
}
