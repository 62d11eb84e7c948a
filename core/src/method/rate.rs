//! Method `auto`: how small or how faithful, and the step of the factors that gives it.
//!
//! One number decides over everything: the step of the factors, in root mean squares of each tensor's delta (see
//! `roles.rs` and `selection.rs` for what follows from it for each tensor). It is found by trying: with a finer step a
//! file grows and its error falls, nearly along a power law.

use crate::error::{Error, Result};

/// The step of `factors` where nothing is aimed at.
pub(crate) const DEFAULT_STEP: f32 = 13.0;
/// Names of qualities, the coarsest first. Each allows steps up to one (for a model as sensitive as those of language), and a
/// KL of so much, by estimate (see [`Facts::kl`]).
const QUALITIES: [(&str, f32, f64); 4] =
    [("tiny", 28.0, 0.1), ("small", 20.0, 0.03), ("good", DEFAULT_STEP, 0.0125), ("fine", 6.0, 0.001)];
/// Where a quality allows this much noise for each unit of the delta's energy, the delta is small, and the coarsest step is
/// taken untried: of all deltas that were measured, 1.75 was the most at the default step.
const UNTRIED: f64 = 1.5;
/// So many times the KL of a quality may be where that saves many bytes: the estimate is not so exact.
const NEAR: f64 = 1.1;
/// Steps that are tried.
const STEPS: (f32, f32) = (0.02, 200.0);
/// The step for a quality that no step that was tried has.
const FINEST: f32 = 0.1;
/// A size counts as met from this part of it on.
const CLOSE: f64 = 0.975;
/// Trials at most: each one codes the whole model. Hardly a pair needs more than 7.
const TRIALS: usize = 14;

/// What a person asks of a file; text form `quality=good`, `bits=0.1`, `ratio=500`, `size=200kB` or `error=0.01`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Behaviour, as far as that can be told without data.
    Quality {
        /// The largest step, in root mean squares of the delta.
        step: f32,
        /// The largest KL of the model's outputs, in nats, by estimate.
        kl: f64,
    },
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
    /// The target among `key=value` words; `-` stands for nothing, and quality counts where there is nothing else.
    pub(super) fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let given = words.filter_map(|word| word.split_once('=')).filter(|(_, value)| *value != "-");
        let (qualities, sizes): (Vec<_>, Vec<_>) = given.partition(|(key, _)| *key == "quality");
        match (qualities.as_slice(), sizes.as_slice()) {
            (_, [(key, value)]) => Self::from_word(key, value),
            ([(_, name)], []) => Self::quality(name),
            _ => Err(Error::invalid("auto takes one of quality, bits, ratio, size and error")),
        }
    }

    fn from_word(key: &str, value: &str) -> Result<Self> {
        let number = number(value).ok_or_else(|| {
            Error::invalid(format!("{key}={value}: a number above 0, as 200kB, 500 or 0.1"))
        })?;
        Ok(match key {
            "bits" => Self::Bits(number),
            "ratio" => Self::Ratio(number),
            "size" => Self::Size(number),
            _ => Self::Error(number),
        })
    }

    fn quality(name: &str) -> Result<Self> {
        let known = || QUALITIES.map(|(name, ..)| name).join(", ") + ", lossless";
        let found = QUALITIES.iter().find(|(known, ..)| *known == name);
        let &(_, step, kl) =
            found.ok_or_else(|| Error::invalid(format!("quality={name}: there are {}", known())))?;
        Ok(Self::Quality { step, kl })
    }
}

/// A number above 0, with a unit of bytes or an x behind it, or not.
fn number(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" | "x" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    digits.parse().ok().map(|x: f64| x * unit).filter(|x| x.is_finite() && *x > 0.0)
}

/// What a step gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Of the file.
    pub(crate) bytes: u64,
    /// Energy of a tensor's error for each unit of its delta's energy, on average over the weights.
    pub(crate) error: f64,
    /// Of the model's outputs, by estimate (see [`Facts::kl`]).
    pub(crate) kl: f64,
}

/// What is known of a pair before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Elements of the fine-tuned model, and bytes of its tensors.
    pub(crate) weights: u64,
    pub(crate) bytes: u64,
    /// Energy of the delta for each unit of the weights', from samples, with the scale that is usual among the base's matrices.
    pub(crate) distance: f64,
    /// Of the model's outputs to errors of its weights: see [`sensitivity`](super::sensitivity).
    pub(crate) sensitivity: f64,
}

impl Facts {
    /// By how much the model's outputs diverge, in nats, where errors have the energy `noise` for each unit of the delta's, and
    /// the delta has `distance` for each unit of the weights'. As measured (docs/measured.md), for steps below 15.
    pub(crate) fn kl(&self, noise: f64, distance: f64) -> f64 {
        self.sensitivity * distance * noise * (0.8 + 6.4 * noise)
    }
}

/// The step for `target`; `trial` says what a step gives. Errors: InvalidArgument if no step gives so small a file.
pub(crate) fn step(
    target: Target,
    facts: Facts,
    trial: &mut dyn FnMut(f32) -> Result<Outcome>,
) -> Result<f32> {
    let mut tried = Vec::new();
    let mut record = |step| {
        let outcome = trial(step)?;
        tried.push((step, outcome));
        Ok(outcome)
    };
    let size = match target {
        Target::Quality { step, kl } => {
            // KL grows about as the cube of the step, and faster beyond the coarsest.
            let step = (step / facts.sensitivity.cbrt() as f32).min(QUALITIES[0].1);
            if kl >= facts.kl(UNTRIED, facts.distance) {
                return Ok(step);
            }
            let found = search(step, step, kl, |step| Ok(record(step)?.kl), 1.0)?;
            // On a plateau a hair of KL may cost many bytes: a percent more is taken for three percent of them.
            let price = |outcome: &Outcome| outcome.bytes as f64 * outcome.kl.max(kl).powi(3);
            let near = tried
                .iter()
                .filter(|(step, outcome)| found == Some(*step) || (kl..=NEAR * kl).contains(&outcome.kl));
            let best = near.min_by(|a, b| price(&a.1).total_cmp(&price(&b.1)));
            return Ok(best.map_or(FINEST, |(step, _)| *step));
        }
        Target::Error(limit) => {
            let found = search(DEFAULT_STEP, STEPS.1, limit, |step| Ok(record(step)?.error), 1.0)?;
            return found.ok_or_else(|| {
                let least = tried.iter().map(|(_, outcome)| outcome.error).fold(f64::INFINITY, f64::min);
                Error::invalid(format!("an error of {limit:e} is out of reach for this pair: the least that was tried is {least:.3e}"))
            });
        }
        Target::Bits(bits) => bits * facts.weights as f64 / 8.0,
        Target::Ratio(ratio) => facts.bytes as f64 / ratio,
        Target::Size(size) => size,
    };
    let found = search(DEFAULT_STEP, STEPS.1, size, |step| Ok(record(step)?.bytes as f64), -1.0)?;
    found.ok_or_else(|| {
        let least = tried.iter().map(|(_, outcome)| outcome.bytes).min().unwrap_or(0);
        Error::invalid(format!(
            "{size:.0} bytes are too few for this pair: the smallest file that was tried has {least}"
        ))
    })
}

/// A step, if one is found, at which `value`, about a power of it that rises (`sign` 1) or falls (-1), is at most `limit`
/// and close, or a step of `most`. Begins at `first`.
fn search(
    first: f32,
    most: f32,
    limit: f64,
    mut value: impl FnMut(f32) -> Result<f64>,
    sign: f64,
) -> Result<Option<f32>> {
    /// A typical exponent, before two trials tell, and the least and the largest.
    const SLOPE: f64 = 1.6;
    const SLOPES: (f64, f64) = (0.5, 6.0);
    /// A guess goes no further outside of what was tried.
    const REACH: f64 = 2.5;
    /// After so many trials that were guessed from the last two, from the two that are nearest on either side: always nearer.
    const GUESSES: usize = 7;
    /// After so many trials on one side of the limit they are on a plateau, which ends further away: a guess goes at least so far,
    /// then four times as far, and so on.
    const PLATEAU: usize = 4;
    const LEAP: f64 = 0.3;
    let (low, high) = (f64::from(STEPS.0).ln(), f64::from(most).ln());
    // Logarithms of steps: the best that is within the limit, the nearest that is not, and the last, with their values.
    let (mut good, mut bad, mut last) = (None::<(f64, f64)>, None::<(f64, f64)>, None::<(f64, f64)>);
    let mut at = f64::from(first).ln();
    for trial in 1..=TRIALS {
        let log = (value(at.exp() as f32)?.max(1e-12) / limit).ln();
        let (side, other) = if log <= 0.0 { (&mut good, &mut bad) } else { (&mut bad, &mut good) };
        *side = Some((at, log));
        if log <= 0.0 && log >= CLOSE.ln() {
            break;
        }
        // As in the Illinois method: what stays where it is counts half.
        if trial > GUESSES && last.is_some_and(|last| (last.1 <= 0.0) == (log <= 0.0)) {
            other.iter_mut().for_each(|other| other.1 /= 2.0);
        }
        let slope =
            last.map_or(SLOPE, |last| (sign * (log - last.1) / (at - last.0)).clamp(SLOPES.0, SLOPES.1));
        last = Some((at, log));
        // A little inside of the limit.
        let inside = 0.5 * CLOSE.ln();
        let way = sign * (inside - log) / slope;
        let next = match (good, bad) {
            (Some((good, least)), Some((bad, most))) => {
                let part = match trial < GUESSES {
                    true => (at + way.clamp(-REACH, REACH) - good) / (bad - good),
                    false => (inside - least) / (most - least),
                };
                good + part.clamp(0.1, 0.9) * (bad - good)
            }
            _ => {
                let leap = if trial < PLATEAU { 0.0 } else { LEAP * 4f64.powi((trial - PLATEAU) as i32) };
                (at + way.signum() * way.abs().max(leap).min(REACH)).clamp(low, high)
            }
        };
        if (next - at).abs() < 1e-4 {
            break;
        }
        at = next;
    }
    Ok(good.map(|(at, _)| at.exp() as f32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::method::Recipe;

    const FACTS: Facts = Facts { weights: 1_000_000, bytes: 4_000_000, distance: 0.01, sensitivity: 1.0 };

    fn law(step: f32) -> Outcome {
        let step = f64::from(step);
        let error = 0.015 * step * step;
        Outcome { bytes: (5000.0 + 2e6 / step.powf(1.4)) as u64, error, kl: error }
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
                bytes <= limit && bytes >= 0.97 * limit && trials <= 8,
                "{target:?}: {bytes} in {trials}"
            );
        }
    }

    /// As of directions above noise: nothing between them and the noise, which then comes all at once.
    #[test]
    fn sizes_are_met_where_the_law_breaks() {
        const SIZES: [(f64, f64); 10] = [
            (13.0, 10_900.0),
            (4.0, 20_700.0),
            (2.0, 28_200.0),
            (1.5, 37_300.0),
            (1.24, 52_800.0),
            (1.11, 90_400.0),
            (0.93, 136_100.0),
            (0.76, 221_200.0),
            (0.66, 295_500.0),
            (0.1, 900_000.0),
        ];
        let bytes = |step: f32| {
            let at = f64::from(step).clamp(0.11, 12.9);
            let i = SIZES.iter().skip(1).position(|(step, _)| *step < at).unwrap();
            let ((from, most), (to, least)) = (SIZES[i], SIZES[i + 1]);
            most * (least / most).powf((at / from).ln() / (to / from).ln())
        };
        for percent in 0..=120 {
            let size = 15_000.0 * 1.03f64.powi(percent);
            let mut trial = |step| Ok(Outcome { bytes: bytes(step) as u64, error: 0.1, kl: 0.1 });
            let found = bytes(step(Target::Size(size), FACTS, &mut trial).unwrap());
            assert!(found <= size && found >= 0.97 * size, "{size}: {found}");
        }
    }

    /// As of weak directions in noise that a limit has to have: nearly nothing is gained until the noise comes.
    #[test]
    fn limits_below_a_plateau_are_met() {
        let noise = |step: f32| {
            let step = f64::from(step);
            if step > 1.1 { 0.5 * step.powf(0.02) } else { 0.5 * 1.1f64.powf(0.02) * (step / 1.1).powi(2) }
        };
        let facts = Facts { distance: 1.0, ..FACTS };
        for percent in 1..=120 {
            let limit = 0.1 + 0.004 * f64::from(percent);
            let bytes = |step: f32| (1e6 / step) as u64;
            let mut trial = |step| Ok(Outcome { bytes: bytes(step), error: noise(step), kl: noise(step) });
            let error = noise(step(Target::Error(limit), facts, &mut trial).unwrap());
            let kl = noise(step(Target::Quality { step: 13.0, kl: limit }, facts, &mut trial).unwrap());
            assert!(kl <= NEAR * limit && error <= limit, "{limit}: {kl}, {error}");
            assert!(kl >= 0.9 * limit.min(noise(13.0)) && error >= 0.9 * limit, "{limit}: {kl}, {error}");
        }
    }

    #[test]
    fn a_quality_takes_the_near_side_of_a_plateau() {
        let noise = |step: f32| Outcome {
            kl: if step > 1.0 { 0.0128 } else { 0.0128 * f64::from(step) },
            bytes: if step > 1.0 { 5000 } else { 20_000 },
            error: 0.1,
        };
        let found = step(Target::quality("good").unwrap(), Facts { distance: 0.01, ..FACTS }, &mut |step| {
            Ok(noise(step))
        });
        assert!(found.unwrap() > 1.0);
        let found = step(Target::quality("fine").unwrap(), FACTS, &mut |step| Ok(noise(step)));
        assert!((0.07..0.08).contains(&found.unwrap()));
    }

    #[test]
    fn errors_are_met_from_below() {
        let found = step(Target::Error(0.1), FACTS, &mut |step| Ok(law(step))).unwrap();
        let error = 0.015 * f64::from(found * found);
        assert!((0.09..=0.1).contains(&error), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |target| step(target, FACTS, &mut |step| Ok(law(step))).unwrap_err().to_string();
        let smallest = law(STEPS.1).bytes.to_string();
        assert!(refused(Target::Size(4000.0)).contains(&smallest));
        assert!(refused(Target::Error(1e-9)).contains("6.000e-6"));
        for words in [&["bits=1", "size=3"][..], &["bits=-1"], &["quality=best"], &["size=3kk"]] {
            assert!(Target::from_words(words.iter().copied()).is_err(), "{words:?}");
        }
        let recipe = |text: &str| text.parse::<Recipe>();
        assert_eq!(recipe("auto quality=lossless").unwrap(), recipe("lossless").unwrap());
        assert!(
            recipe("auto quality=lossless size=3").is_err() && recipe("auto quality=losslessly").is_err()
        );
    }

    #[test]
    fn sizes_have_units() {
        let target = |word| Target::from_words(["quality=good", word, "error=-"].into_iter()).unwrap();
        assert_eq!(target("size=200kB"), Target::Size(200_000.0));
        assert_eq!(target("size=2MiB"), Target::Size(2_097_152.0));
        assert_eq!(target("ratio=500x"), Target::Ratio(500.0));
        assert_eq!(target("bits=-"), Target::quality("good").unwrap());
    }

    #[test]
    fn quality_follows_the_distance() {
        let good = Target::quality("good").unwrap();
        let outcome =
            |step, facts: Facts| Outcome { kl: facts.kl(law(step).error, facts.distance), ..law(step) };
        let found = |facts| step(good, facts, &mut |step| Ok(outcome(step, facts))).unwrap();
        assert_eq!(found(Facts { distance: 0.0004, ..FACTS }), DEFAULT_STEP);
        assert_eq!(found(Facts { distance: 0.0004, sensitivity: 0.125, ..FACTS }), 2.0 * DEFAULT_STEP);
        for (distance, sensitivity) in [(0.005, 1.0), (0.1, 1.0), (0.1, 0.25)] {
            let facts = Facts { distance, sensitivity, ..FACTS };
            let near = found(facts);
            assert!((0.012..=0.0125).contains(&outcome(near, facts).kl), "{near}");
        }
        // Its first trial is as coarse as it may be, and good enough.
        let mut trials = 0;
        let mild = &mut |step| Ok((Outcome { kl: 0.01, ..law(step) }, trials += 1).0);
        assert_eq!(step(good, FACTS, mild).unwrap(), DEFAULT_STEP);
        assert_eq!(trials, 1);
    }
}
