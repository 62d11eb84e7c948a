//! Multiples of one step for the whole tensor: `level = round_half_even(x / step)`, `value = level * step`.

use std::fmt;

use crate::error::{Error, Result};
use crate::text::Fields;
use crate::wire::{Reader, Writer};

/// Parameters of the uniform quantiser; text form `uniform step=0.25`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// The step in units of the root mean square of the tensor's delta, above 0.
    pub step: f32,
}

impl Uniform {
    /// Levels are cut to this magnitude.
    const MAX_LEVEL: f32 = (1 << 24) as f32;

    pub(crate) fn from_fields(fields: &mut Fields<'_>) -> Result<Self> {
        Self { step: fields.take("step", 0.25)? }.check()
    }

    fn check(self) -> Result<Self> {
        if self.step.is_finite() && self.step > 0.0 {
            return Ok(self);
        }
        Err(Error::invalid(format!("step={}: the step is a number above 0", self.step)))
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.f32(self.step);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self> {
        Self { step: input.f32("uniform step")? }.check().map_err(|e| Error::corrupt(e.to_string()))
    }
}

/// Appends the level of each coefficient; `step` is absolute.
#[inline(always)]
pub(crate) fn quantize(coeffs: &[f32], step: f32, levels: &mut Vec<i32>) {
    let limit = Uniform::MAX_LEVEL;
    let start = levels.len();
    levels.resize(start + coeffs.len(), 0);
    // A loop over places that are there: `extend` calls a function to round each value, this is compiled to vectors.
    for (level, &x) in levels[start..].iter_mut().zip(coeffs) {
        *level = (x / step).round_ties_even().clamp(-limit, limit) as i32;
    }
}

/// The value of each level.
#[inline(always)]
pub(crate) fn dequantize(levels: &[i32], step: f32, coeffs: &mut [f32]) {
    for (value, &level) in coeffs.iter_mut().zip(levels) {
        *value = level as f32 * step;
    }
}

impl fmt::Display for Uniform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uniform step={}", self.step)
    }
}
