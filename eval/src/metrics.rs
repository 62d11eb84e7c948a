//! Outputs of models to figures: accuracy, loss and perplexity against the truth; KL divergence, agreement and the
//! paired difference of accuracy against the outputs of a reference model.
//!
//! An output is a row of logits: of an example (classification), or of a position that predicts the next token
//! (language models). All sums are `f64`.

use candle_core::Tensor;
use delta_dct::Error;

use crate::error::Result;
use crate::models::Batch;
use crate::storage::with_values;

/// Standard deviations to each side that hold 95% of a normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// Sums over rows of logits, from which all figures follow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Rows.
    pub(crate) rows: u64,
    /// Rows with a logit that is no finite number; they count as wrong, and are in none of the sums.
    pub(crate) broken: u64,
    /// Rows whose class is known.
    pub(crate) labelled: u64,
    /// Rows whose highest logit is that of their class.
    pub(crate) correct: u64,
    /// Negative log probabilities of the classes, in nats.
    pub(crate) loss: f64,
    /// Rows that were compared with the reference.
    pub(crate) compared: u64,
    /// KL divergences of the reference's distributions from these, in nats.
    pub(crate) kl: f64,
    /// Rows with the same highest logit as the reference.
    pub(crate) agreeing: u64,
    /// Rows with a known class that were compared.
    pub(crate) paired: u64,
    /// Those of them that only this model gets right.
    pub(crate) gained: u64,
    /// Those of them that only the reference gets right.
    pub(crate) lost: u64,
}

impl Tally {
    /// Counts one row of logits of a class that may be known, against the reference's row (of the same width) if there
    /// is one. With `p = softmax(reference)`, `q = softmax(row)`: KL is `sum p ln(p / q)`.
    pub(crate) fn add(&mut self, row: &[f32], class: Option<u32>, reference: Option<&[f32]>) {
        let own = Summed::of(row);
        let class = class.map(|class| class as usize);
        let right = |best: Option<usize>| class.is_some() && best == class;
        let correct = right(own.map(|own| own.best));
        self.rows += 1;
        self.broken += u64::from(own.is_none());
        self.labelled += u64::from(class.is_some());
        self.correct += u64::from(correct);
        if let (Some(own), Some(&logit)) = (own, class.and_then(|class| row.get(class))) {
            self.loss += own.log_sum - f64::from(logit);
        }
        let Some((reference, theirs)) = reference.and_then(|r| Some((r, Summed::of(r)?))) else { return };
        self.compared += 1;
        self.paired += u64::from(class.is_some());
        self.gained += u64::from(correct && !right(Some(theirs.best)));
        self.lost += u64::from(!correct && right(Some(theirs.best)));
        let Some(own) = own else { return };
        self.agreeing += u64::from(own.best == theirs.best);
        self.kl += divergence(reference, theirs, row, own);
    }

    /// Adds what another tally counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.broken += other.broken;
        self.labelled += other.labelled;
        self.correct += other.correct;
        self.loss += other.loss;
        self.compared += other.compared;
        self.kl += other.kl;
        self.agreeing += other.agreeing;
        self.paired += other.paired;
        self.gained += other.gained;
        self.lost += other.lost;
    }

    /// Share of the rows with a known class that are right.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        share(self.correct, self.labelled)
    }

    /// Mean negative log probability of the classes, in nats; none where a row is broken.
    pub(crate) fn loss(&self) -> Option<f64> {
        (self.labelled > 0 && self.broken == 0).then(|| self.loss / self.labelled as f64)
    }

    /// `exp` of the mean loss.
    pub(crate) fn perplexity(&self) -> Option<f64> {
        self.loss().map(f64::exp)
    }

    /// Mean KL divergence from the reference in nats per row; none where a row is broken.
    pub(crate) fn kl(&self) -> Option<f64> {
        (self.compared > 0 && self.broken == 0).then(|| self.kl / self.compared as f64)
    }

    /// Share of the compared rows with the same highest logit as the reference.
    pub(crate) fn agreement(&self) -> Option<f64> {
        share(self.agreeing, self.compared)
    }

    /// Accuracy less that of the reference on the same rows.
    pub(crate) fn difference(&self) -> Option<f64> {
        (self.paired > 0).then(|| (self.gained as f64 - self.lost as f64) / self.paired as f64)
    }

    /// The 95% interval of the accuracy ([`wilson`]).
    pub(crate) fn accuracy_interval(&self) -> Option<(f64, f64)> {
        (self.labelled > 0).then(|| wilson(self.correct, self.labelled))
    }

    /// The 95% interval of the difference ([`paired_interval`]).
    pub(crate) fn difference_interval(&self) -> Option<(f64, f64)> {
        (self.paired > 0).then(|| paired_interval(self.gained, self.lost, self.paired))
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The 95% interval of a share of `correct` in `n > 0` (Wilson 1927).
fn wilson(correct: u64, n: u64) -> (f64, f64) {
    let (n, z2) = (n as f64, Z95 * Z95);
    let p = correct as f64 / n;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// The 95% interval of the difference of two shares of the same `n > 0` rows, of which `gained` are right only in the
/// one and `lost` only in the other: Wald's for pairs, with one row more of each kind (Bonett and Price 2012), so that
/// it has a width where the two never differ.
fn paired_interval(gained: u64, lost: u64, n: u64) -> (f64, f64) {
    let n = n as f64 + 2.0;
    let (gained, lost) = ((gained as f64 + 1.0) / n, (lost as f64 + 1.0) / n);
    let (middle, spread) = (gained - lost, gained + lost);
    let half = Z95 * ((spread - middle * middle) / n).sqrt();
    ((middle - half).max(-1.0), (middle + half).min(1.0))
}

/// The highest logit and the normaliser of a row.
#[derive(Clone, Copy)]
struct Summed {
    best: usize,
    highest: f64,
    /// `ln sum exp`
    log_sum: f64,
}

impl Summed {
    /// None if a logit is not finite, or if there is none.
    fn of(row: &[f32]) -> Option<Self> {
        let (&first, _) = row.split_first()?;
        let mut best = (0, first);
        for (i, &x) in row.iter().enumerate() {
            if !x.is_finite() {
                return None;
            }
            if x > best.1 {
                best = (i, x);
            }
        }
        let highest = f64::from(best.1);
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - highest).exp()).sum();
        Some(Self { best: best.0, highest, log_sum: highest + sum.ln() })
    }
}

/// `sum p (ln p - ln q)` for `p = softmax(reference)` and `q = softmax(row)`, not below zero where rounding puts it.
fn divergence(reference: &[f32], theirs: Summed, row: &[f32], own: Summed) -> f64 {
    let (mut weights, mut sum) = (0.0, 0.0);
    for (&r, &x) in reference.iter().zip(row) {
        let weight = (f64::from(r) - theirs.highest).exp();
        weights += weight;
        sum += weight * (f64::from(r) - f64::from(x));
    }
    (sum / weights - theirs.log_sum + own.log_sum).max(0.0)
}

/// The rows of one batch that count, and the class of each where it is known.
#[derive(Clone, Debug)]
pub(crate) struct Targets(Vec<(usize, Option<u32>)>);

impl Targets {
    /// One row per example, with the classes of the examples.
    pub(crate) fn classes(labels: &[Option<u32>]) -> Self {
        Self(labels.iter().copied().enumerate().collect())
    }

    /// One row per position that predicts a token from tokens: all but the last of each row, without padding.
    pub(crate) fn next_tokens(batch: &Batch) -> Result<Self> {
        let (ids, mask) = match batch {
            Batch::Tokens { ids, mask, .. } => (ids, mask.as_ref()),
            Batch::Seq2Seq { decoder_ids, .. } => (decoder_ids, None),
            Batch::Pixels(_) => return Err(Error::invalid("images have no next tokens to predict").into()),
        };
        let len = ids.dim(1)?;
        let ids = ids.flatten_all()?.to_vec1::<u32>()?;
        let mask = mask.map(|mask| mask.flatten_all()?.to_vec1::<u32>()).transpose()?;
        let is_token = |i: usize| mask.as_ref().is_none_or(|mask| mask.get(i).is_some_and(|&m| m != 0));
        let counts = |i: usize| i % len + 1 < len && is_token(i) && is_token(i + 1);
        let row = |i: usize| (i, ids.get(i + 1).copied());
        Ok(Self((0..ids.len()).filter(|&i| counts(i)).map(row).collect()))
    }
}

/// The tally of one batch: logits f32 [..., classes], against those of the reference of the same shape if there are
/// any. Fails with `Mismatch` if the model has fewer rows or classes than the batch has.
pub(crate) fn tally(logits: &Tensor, targets: &Targets, reference: Option<&Tensor>) -> Result<Tally> {
    let width = logits.dims().last().copied().unwrap_or(0).max(1);
    with_values(&logits.contiguous()?, |own| match reference {
        Some(reference) => {
            with_values(&reference.contiguous()?, |theirs| rows(own, width, targets, Some(theirs)))?
        }
        None => rows(own, width, targets, None),
    })?
}

fn rows(own: &[f32], width: usize, targets: &Targets, theirs: Option<&[f32]>) -> Result<Tally> {
    let mut tally = Tally::default();
    for &(row, class) in &targets.0 {
        let cut = |all| <[f32]>::get(all, row * width..(row + 1) * width);
        let fits = class.is_none_or(|class| (class as usize) < width);
        match cut(own).filter(|_| fits) {
            Some(own) => tally.add(own, class, theirs.and_then(cut)),
            None => {
                let class = class.map_or(String::new(), |class| format!(" and class {class}"));
                let message = format!("the data has row {row}{class}, but the model gives {width} classes");
                return Err(Error::mismatch(message).into());
            }
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    fn softmax(row: &[f32]) -> Vec<f64> {
        let powers: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }

    fn close(a: Option<f64>, b: f64) {
        assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
    }

    const A: [[f32; 3]; 4] = [[1.0, 2.0, 0.5], [0.1, 0.0, -1.0], [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]];
    const B: [[f32; 3]; 4] = [[1.5, 1.0, 0.5], [0.1, 0.3, -1.0], [2.0, 1.0, 2.5], [0.0, -1.0, 4.0]];

    #[test]
    fn naive_reference() {
        let classes = [Some(0), Some(1), None, Some(2)];
        let mut tally = Tally::default();
        for i in 0..4 {
            tally.add(&A[i], classes[i], Some(&B[i]));
        }
        // A: 1, 0, 0, 0 (the first of equals); B: 0, 1, 2, 2.
        assert_eq!((tally.rows, tally.labelled, tally.correct, tally.agreeing), (4, 3, 0, 0));
        assert_eq!((tally.paired, tally.gained, tally.lost), (3, 0, 3));
        let losses = [(0, 0), (1, 1), (3, 2)].map(|(i, class)| -softmax(&A[i])[class].ln());
        close(tally.loss(), losses.iter().sum::<f64>() / 3.0);
        close(tally.perplexity(), (losses.iter().sum::<f64>() / 3.0).exp());
        let kl = |i: usize| {
            let (p, q) = (softmax(&B[i]), softmax(&A[i]));
            p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
        };
        close(tally.kl(), (0..4).map(kl).sum::<f64>() / 4.0);
        close(tally.accuracy(), 0.0);
        close(tally.difference(), -1.0);
        close(tally.agreement(), 0.0);
    }

    #[test]
    fn far_logits_do_not_overflow() {
        let mut tally = Tally::default();
        tally.add(&[10000.0, -10000.0], Some(1), Some(&[-10000.0, 10000.0]));
        close(tally.loss(), 20000.0);
        close(tally.kl(), 20000.0);
    }

    #[test]
    fn the_same_row_has_no_divergence() {
        let row: Vec<f32> = (0..1000u16).map(|i| f32::from(i * 7919 % 997) / 100.0).collect();
        let mut tally = Tally::default();
        tally.add(&row, None, Some(&row));
        assert!(tally.kl().unwrap() < 1e-13);
        assert_eq!((tally.agreement(), tally.accuracy(), tally.difference()), (Some(1.0), None, None));
    }

    #[test]
    fn broken_rows_are_wrong() {
        let mut tally = Tally::default();
        tally.add(&[f32::NAN, 1.0], Some(0), Some(&[1.0, 0.0]));
        tally.add(&[f32::INFINITY, 1.0], Some(0), Some(&[1.0, 0.0]));
        tally.add(&[2.0, 1.0], Some(0), Some(&[1.0, 0.0]));
        assert_eq!(
            (tally.broken, tally.correct, tally.lost, tally.agreeing, tally.compared),
            (2, 1, 2, 1, 3)
        );
        assert_eq!((tally.loss(), tally.kl(), tally.perplexity()), (None, None, None));
    }

    #[test]
    fn merged_is_as_added_together() {
        let (mut all, mut first, mut second) = (Tally::default(), Tally::default(), Tally::default());
        for i in 0..4 {
            let class = Some(i as u32 % 3);
            all.add(&A[i], class, Some(&B[i]));
            if i < 2 { &mut first } else { &mut second }.add(&A[i], class, Some(&B[i]));
        }
        first.merge(&second);
        assert!((first.loss - all.loss).abs() < 1e-12 && (first.kl - all.kl).abs() < 1e-12);
        assert_eq!(Tally { loss: 0.0, kl: 0.0, ..first }, Tally { loss: 0.0, kl: 0.0, ..all });
    }

    /// Against the definition: the shares at which the observed one is 1.96 standard deviations away.
    #[test]
    fn wilson_solves_its_definition() {
        for (correct, n) in [(573, 597), (250, 597), (1, 10), (9, 10)] {
            let (low, high) = wilson(correct, n);
            let observed = correct as f64 / n as f64;
            for bound in [low, high] {
                let away = (observed - bound).abs() / (bound * (1.0 - bound) / n as f64).sqrt();
                assert!((away - Z95).abs() < 1e-9, "{correct}/{n}: {away}");
            }
            assert!(low < observed && observed < high);
        }
        assert_eq!((wilson(0, 5).0, wilson(5, 5).1), (0.0, 1.0));
    }

    #[test]
    fn paired_intervals() {
        let (low, high) = paired_interval(0, 0, 598);
        assert!((low + high).abs() < 1e-15 && (high - Z95 * (2.0f64 / 600.0 / 600.0).sqrt()).abs() < 1e-12);
        let (low, high) = paired_interval(3, 30, 598);
        assert!(low < -27.0 / 598.0 && -27.0 / 598.0 < high && high < 0.0, "{low} {high}");
        // Worked by hand: (4 - 31) / 600, spread 35 / 600.
        let half = Z95 * ((35.0 / 600.0 - (27.0f64 / 600.0).powi(2)) / 600.0).sqrt();
        assert!((high - (-27.0 / 600.0 + half)).abs() < 1e-12);
    }

    #[test]
    fn next_tokens_skip_padding_on_both_sides() {
        let ids = Tensor::new(&[[1u32, 2, 3, 4], [5, 6, 7, 0], [0, 0, 8, 9]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[1u32, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 1]], &Device::Cpu).unwrap();
        let batch = Batch::Tokens { ids, mask: Some(mask), types: None };
        let rows = [(0, 2), (1, 3), (2, 4), (4, 6), (5, 7), (10, 9)];
        assert_eq!(Targets::next_tokens(&batch).unwrap().0, rows.map(|(row, id)| (row, Some(id))));
    }

    #[test]
    fn a_batch_is_the_sum_of_its_rows() {
        let device = &Device::Cpu;
        let (a, b) = (Tensor::new(&A, device).unwrap(), Tensor::new(&B, device).unwrap());
        let classes = [Some(2), None, Some(0), Some(1)];
        let mut wanted = Tally::default();
        for i in 0..4 {
            wanted.add(&A[i], classes[i], Some(&B[i]));
        }
        assert_eq!(tally(&a, &Targets::classes(&classes), Some(&b)).unwrap(), wanted);
        // A view with other strides gives the same.
        let view = a.t().unwrap().contiguous().unwrap().t().unwrap();
        assert_eq!(tally(&view, &Targets::classes(&classes), Some(&b)).unwrap(), wanted);
        assert!(tally(&a, &Targets::classes(&[Some(3)]), None).is_err());
        assert!(tally(&a, &Targets::classes(&[None; 5]), None).is_err());
    }
}
