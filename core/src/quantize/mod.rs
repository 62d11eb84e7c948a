//! Stage 4: coefficients to levels (small integers) and back.
//!
//! | name | levels | parameters stored |
//! |---|---|---|
//! | [`MinMax`] | `0..2^bits` between the smallest and the largest coefficient of a band | two per coded band |
//! | [`Sign`](Quantizer::Sign) | 0 or 1: below zero, or not | none: the rescale factor is the scale |
//! | [`Uniform`] | any integer: multiples of one step | one step per tensor |
//! | [`Rest`](Quantizer::Rest) | any integer, mostly 0 | one gain per tensor |

mod min_max;
pub(crate) mod rest;
mod strategy;
pub(crate) mod trellis;
pub(crate) mod uniform;

use std::fmt;
use std::str::FromStr;

pub use min_max::{Importance, MinMax};
pub(crate) use min_max::{dequantize_band, quantize_band};
pub use strategy::Strategy;
pub use uniform::Uniform;

use crate::error::{Error, Result};
use crate::text::Fields;
use crate::wire::{Reader, Writer};

/// How coefficients become levels.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// Uniform levels between the extremes of each band, with more bits for more important blocks.
    MinMax(MinMax),
    /// The sign alone.
    Sign,
    /// Multiples of one step, for the whole tensor.
    Uniform(Uniform),
    /// Multiples of one step along a trellis; the step follows from that of the factors whose rest it is.
    Rest,
}

impl Quantizer {
    /// The widths that blocks can have: one entry a class, in the order of the strategy.
    pub(crate) fn classes(&self) -> &[(u8, f64)] {
        match self {
            Self::MinMax(min_max) => min_max.bits.classes(),
            Self::Sign | Self::Uniform(_) | Self::Rest => &[(1, 1.0)],
        }
    }

    /// Whether levels are integers of any size.
    pub(crate) fn has_integers(&self) -> bool {
        matches!(self, Self::Uniform(_) | Self::Rest)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        let mut params = Writer::default();
        let id = match self {
            Self::MinMax(min_max) => {
                min_max.write(&mut params);
                1
            }
            Self::Sign => 2,
            Self::Uniform(uniform) => {
                uniform.write(&mut params);
                3
            }
            Self::Rest => 4,
        };
        out.u8(id);
        out.bytes(&params.0);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let id = input.u8("quantiser id")?;
        let mut params = Reader(input.bytes("quantiser parameters")?);
        let quantizer = match id {
            1 => Self::MinMax(MinMax::read(&mut params)?),
            2 => Self::Sign,
            3 => Self::Uniform(Uniform::read(&mut params)?),
            4 => Self::Rest,
            _ => return Err(Error::unsupported(format!("quantiser id {id} is not known to this version"))),
        };
        params.finish("quantiser parameters")?;
        Ok(quantizer)
    }
}

impl fmt::Display for Quantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax(min_max) => min_max.fmt(f),
            Self::Sign => f.write_str("sign"),
            Self::Uniform(uniform) => uniform.fmt(f),
            Self::Rest => f.write_str("rest"),
        }
    }
}

impl FromStr for Quantizer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut fields = Fields::parse(text)?;
        let quantizer = match fields.name() {
            "minmax" => Self::MinMax(MinMax::from_fields(&mut fields)?),
            "sign" => Self::Sign,
            "rest" => Self::Rest,
            "uniform" => Self::Uniform(Uniform::from_fields(&mut fields)?),
            other => {
                return Err(Error::invalid(format!(
                    "no quantiser is called {other:?}: minmax, sign, uniform, rest"
                )));
            }
        };
        fields.finish()?;
        Ok(quantizer)
    }
}
