//! Method `auto`: how small or how faithful, and the step of the factors that gives it.
//!
//! One number decides over everything: the step of the factors, in root mean squares of each tensor's delta (see
//! `selection.rs` for what follows from it for vectors and embeddings). It is found by trying: with a finer step a
//! file grows and its error falls, nearly along a power law.

use crate::error::{Error, Result};

/// The step that keeps a model's behaviour where the delta is a small part of the weights, and the largest that the
/// default takes.
pub(crate) const DEFAULT_STEP: f32 = 10.0;
/// The error that the default allows, as a part of the weights' energy: what breaks a model is noise that its weights
/// feel.
const DEFAULT_NOISE: f64 = 0.005;
/// Steps that are tried.
const STEPS: (f32, f32) = (0.02, 200.0);
/// A size counts as met from this part of it on.
const CLOSE: f64 = 0.975;
/// Trials at most: each one codes the whole model.
const TRIALS: usize = 9;

/// What a person asks of a file; text form `bits=0.1`, `ratio=500`, `size=200000` or `error=0.01`, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Target {
    /// Behaviour as before, as far as that can be told without data: a step of 10, and an error of at most 0.5% of
    /// the weights' energy.
    #[default]
    Default,
    /// Bits of the file for each weight of the model.
    Bits(f64),
    /// Bytes of the fine-tuned checkpoint for each byte of the file.
    Ratio(f64),
    /// Bytes of the file.
    Size(f64),
    /// Energy of the error for each unit of the delta's energy.
    Error(f64),
}

impl Target {
    /// The target among `key=value` words; `-` stands for nothing.
    pub(super) fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut target = Self::Default;
        for (key, value) in words.filter_map(|word| word.split_once('=')).filter(|(_, value)| *value != "-") {
            let number = value.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
            let number = number.ok_or_else(|| Error::invalid(format!("{key}={value}: a number above 0")))?;
            if target != Self::Default {
                return Err(Error::invalid("auto takes one of bits, ratio, size and error"));
            }
            target = match key {
                "bits" => Self::Bits(number),
                "ratio" => Self::Ratio(number),
                "size" => Self::Size(number),
                _ => Self::Error(number),
            };
        }
        Ok(target)
    }
}

/// What a step gives: bytes of the file, and energies of the error and of the delta.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) bytes: u64,
    pub(crate) error: f64,
    pub(crate) delta: f64,
}

/// What is known of a pair before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Elements of the fine-tuned model, and bytes of its tensors.
    pub(crate) weights: u64,
    pub(crate) bytes: u64,
    /// Energy of the delta for each unit of the base's energy.
    pub(crate) distance: f64,
}

/// The step for `target`; `trial` says what a step gives. Errors: InvalidArgument if no step gives so small a file.
pub(crate) fn step(
    target: Target,
    facts: Facts,
    trial: &mut dyn FnMut(f32) -> Result<Outcome>,
) -> Result<f32> {
    let error = |outcome: Outcome| if outcome.delta > 0.0 { outcome.error / outcome.delta } else { 0.0 };
    let size = match target {
        Target::Default => {
            let limit = DEFAULT_NOISE / facts.distance.max(f64::MIN_POSITIVE);
            // Above that the error hardly depends on the step.
            if limit >= 0.8 {
                return Ok(DEFAULT_STEP);
            }
            let step = search(limit, |step| Ok(error(trial(step)?)), 1.0)?;
            return Ok(step.min(DEFAULT_STEP));
        }
        Target::Error(limit) => return search(limit, |step| Ok(error(trial(step)?)), 1.0),
        Target::Bits(bits) => bits * facts.weights as f64 / 8.0,
        Target::Ratio(ratio) => facts.bytes as f64 / ratio,
        Target::Size(size) => size,
    };
    search(size, |step| Ok(trial(step)?.bytes as f64), -1.0)
}

/// A step at which `value`, about a power of it that rises (`sign` 1) or falls (-1), is at most `limit` and close.
fn search(limit: f64, mut value: impl FnMut(f32) -> Result<f64>, sign: f64) -> Result<f32> {
    /// A typical exponent, before two trials tell.
    const SLOPE: f64 = 1.6;
    let (low, high) = (f64::from(STEPS.0).ln(), f64::from(STEPS.1).ln());
    // Logarithms of steps: the best that is within the limit, and the nearest that is not, with their values.
    let (mut good, mut bad) = (None::<(f64, f64)>, None::<(f64, f64)>);
    let mut at = f64::from(DEFAULT_STEP).ln();
    for _ in 0..TRIALS {
        let log = (value(at.exp() as f32)?.max(1e-12) / limit).ln();
        if log <= 0.0 {
            good = Some((at, log));
            if log >= CLOSE.ln() {
                break;
            }
        } else {
            bad = Some((at, log));
        }
        // A little inside of the limit.
        let aim = 0.5 * CLOSE.ln();
        let next = match (good, bad) {
            (Some(good), Some(bad)) => {
                let part = ((aim - good.1) / (bad.1 - good.1)).clamp(0.1, 0.9);
                good.0 + part * (bad.0 - good.0)
            }
            _ => at + sign * (aim - log) / SLOPE,
        };
        let next = next.clamp(low, high);
        if (next - at).abs() < 1e-4 {
            break;
        }
        at = next;
    }
    let found = good.ok_or_else(|| {
        Error::invalid("no file that small, or that faithful, can be made of this pair: ask for less")
    })?;
    Ok(found.0.exp() as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FACTS: Facts = Facts { weights: 1_000_000, bytes: 4_000_000, distance: 0.01 };

    fn law(step: f32) -> Outcome {
        let step = f64::from(step);
        Outcome { bytes: (5000.0 + 2e6 / step.powf(1.4)) as u64, error: 0.03 * step * step, delta: 2.0 }
    }

    #[test]
    fn sizes_are_met_from_below() {
        for target in [Target::Size(50_000.0), Target::Bits(3.0), Target::Ratio(300.0), Target::Ratio(40.0)] {
            let mut trials = 0;
            let found = step(target, FACTS, &mut |step| Ok((law(step), trials += 1).0)).unwrap();
            let limit = match target {
                Target::Bits(bits) => bits * 1e6 / 8.0,
                Target::Ratio(ratio) => 4e6 / ratio,
                _ => 50_000.0,
            };
            let bytes = law(found).bytes as f64;
            assert!(
                bytes <= limit && bytes >= 0.97 * limit && trials <= 6,
                "{target:?}: {bytes} in {trials}"
            );
        }
    }

    #[test]
    fn errors_are_met_from_below() {
        let found = step(Target::Error(0.1), FACTS, &mut |step| Ok(law(step))).unwrap();
        let error = 0.015 * f64::from(found * found);
        assert!((0.09..=0.1).contains(&error), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(step(Target::Size(4000.0), FACTS, &mut |step| Ok(law(step))).is_err());
        assert!(Target::from_words(["bits=1", "size=3"].into_iter()).is_err());
        assert!(Target::from_words(["bits=-1"].into_iter()).is_err());
    }

    #[test]
    fn the_default_follows_the_distance() {
        let found = |distance| step(Target::Default, Facts { distance, ..FACTS }, &mut |step| Ok(law(step)));
        assert_eq!(found(0.001).unwrap(), DEFAULT_STEP);
        let near = found(0.1).unwrap();
        assert!(0.015 * f64::from(near * near) <= 0.05 && near > 1.5, "{near}");
    }
}
