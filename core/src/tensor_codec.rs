//! One tensor to its record: chooses between the base itself, a coded delta and the plain values.

use crate::archive::TensorSummary;
use crate::checkpoint::Checkpoint;
use crate::codec::{Coded, Pair, distance, encode_tensor as encode_delta};
use crate::container::{Body, Digest, Link as BaseLink, Record, digest};
use crate::delta;
use crate::error::{Error, Result};
use crate::exact;
use crate::method::rate::DEFAULT_STEP;
use crate::method::{Action, Recipe, Selection};
use crate::pair::{Link, Relation};
use crate::plan::Plan;
use crate::planes;
use crate::reconstruct::{cast, linked, plane_count, reconstruct};
use crate::tensor::{Dtype, Matrices, TensorView, coded_size, is_coded, row_count};
use crate::transform::Memory;

/// A tensor's record, and what is told about it.
pub(crate) struct Encoded {
    pub(crate) record: Vec<u8>,
    pub(crate) summary: TensorSummary,
    pub(crate) relative_error: Option<f64>,
    /// Of the delta, where it was coded.
    pub(crate) energy: f64,
    /// What is odd about its values.
    pub(crate) note: Option<String>,
}

/// Encodes the tensor of `link`; `tie` names another tensor that it repeats. `memory` is for those who try several selections.
pub(crate) fn encode(
    base: &Checkpoint,
    finetuned: &Checkpoint,
    link: &Link,
    tie: Option<&str>,
    selection: &Selection,
    memory: Option<&Memory>,
) -> Result<Encoded> {
    let missing = |name: &str| Error::corrupt(format!("{name} is gone"));
    let tuned = finetuned.get(&link.name).ok_or_else(|| missing(&link.name))?;
    if let Some(target) = tie {
        return Ok(finish(
            &link.name,
            tuned,
            tuned.dtype,
            Body::Alias { name: target.to_owned() },
            digest(tuned.bytes),
        ));
    }
    let (base_name, rows) = match &link.relation {
        Relation::Same { base } => (base, row_count(tuned.shape)),
        Relation::Resized { base, base_rows, rows } => (base, *base_rows.min(rows)),
        Relation::Reshaped { .. } | Relation::New => {
            let recipe = selection.recipe_alone(&link.name, tuned.dtype, tuned.shape);
            let recipe = selection.adapted(&link.name, (0, tuned.len()), recipe)?;
            return alone(&link.name, tuned, &recipe);
        }
    };
    let base = base.get(base_name).ok_or_else(|| missing(base_name))?;
    let recipe = selection.recipe(&link.name, tuned.dtype, tuned.shape);
    let recipe = selection.adapted(&link.name, (rows, tuned.len()), recipe)?;
    let dtype = if selection.keeps_base_dtype() && is_coded(base.dtype) { base.dtype } else { tuned.dtype };
    let shared = Shared { memory, ..Shared::new(&link.name, base_name, base, tuned, rows) };
    shared.encode(&recipe, dtype)
}

/// One record for `finetuned` against `base` of the same shape, from memory to memory.
///
/// `auto` aims at nothing here: it is `factors`. Errors: Mismatch if the shapes differ, InvalidArgument if the recipe does not fit.
pub fn encode_tensor(
    name: &str,
    base: TensorView<'_>,
    finetuned: TensorView<'_>,
    recipe: &Recipe,
) -> Result<Vec<u8>> {
    if base.shape != finetuned.shape {
        return Err(
            Error::mismatch(format!("{:?} against {:?}", finetuned.shape, base.shape)).in_tensor(name)
        );
    }
    let rows = row_count(base.shape);
    let shared = Shared::new(name, name, base, finetuned, rows);
    let recipe = recipe.resolved(DEFAULT_STEP)?;
    // The scope enters the thread pool once, and not for every stage.
    rayon::scope(|_| Ok(shared.encode(&recipe, finetuned.dtype)?.record))
}

/// The tensor `tuned` exactly, by `prediction`, which is what the first layer gives for it, or where this is smaller without
/// that: against the base tensor that is `linked`, if there is one, or by itself.
pub(crate) fn refine(
    name: &str,
    linked: Option<(&BaseLink, TensorView<'_>)>,
    tuned: TensorView<'_>,
    (dtype, prediction): (Dtype, Vec<u8>),
) -> Result<Encoded> {
    let residual = exact::encode((dtype, &prediction), (tuned.dtype, tuned.bytes))?;
    let body = Body::Refined { residual: &residual };
    let refined = finish(name, tuned, tuned.dtype, body, digest(tuned.bytes));
    // A tensor may be large: no more copies of it than have to be.
    drop((prediction, residual));
    let other = match linked {
        Some((link, base)) => Shared::new(name, &link.name, base, tuned, link.rows).exact(None, false)?,
        None => raw(name, tuned),
    };
    Ok(if other.record.len() < refined.record.len() { other } else { refined })
}

/// The bytes of the tensor in `record`, into `out` of just their length. `base` is needed unless the record is raw; for
/// a refined one it is the tensor that the first layer gives.
///
/// Errors: Mismatch (wrong base, wrong length of `out`), Corrupt, Truncated, Unsupported.
pub fn decode_tensor(name: &str, record: &[u8], base: Option<TensorView<'_>>, out: &mut [u8]) -> Result<()> {
    let record = Record::read(name, record).map_err(|e| e.in_tensor(name))?;
    let base = match (&record.body, record.body.link(), base) {
        (_, Some(link), Some(base)) => (link.dtype, linked(link, base)?),
        (_, Some(link), None) => {
            return Err(Error::mismatch(format!("the base tensor {} is needed", link.name)));
        }
        (Body::Refined { .. }, None, Some(base)) if base.shape == record.shape => (base.dtype, base.bytes),
        (Body::Refined { .. }, ..) => {
            let message = format!("the tensor {name} of the first layer is needed, {:?}", record.shape);
            return Err(Error::mismatch(message));
        }
        _ => (record.dtype, &[][..]),
    };
    rayon::scope(|_| decode_into(&record, base, out))
}

fn decode_into(record: &Record<'_>, base: (Dtype, &[u8]), out: &mut [u8]) -> Result<()> {
    let mut rest = out;
    reconstruct(record, base, &mut |bytes: &[u8]| {
        let taken = std::mem::take(&mut rest);
        let Some((to, left)) = taken.split_at_mut_checked(bytes.len()) else {
            return Err(Error::mismatch("the output is too short for the tensor"));
        };
        to.copy_from_slice(bytes);
        rest = left;
        Ok(())
    })?;
    match rest.is_empty() {
        true => Ok(()),
        false => Err(Error::mismatch(format!("the output is {} bytes too long", rest.len()))),
    }
}

/// A tensor carried exactly.
fn raw(name: &str, tuned: TensorView<'_>) -> Encoded {
    let planes = planes::encode(tuned.bytes, plane_count(tuned.dtype));
    finish(name, tuned, tuned.dtype, Body::Raw { planes: &planes }, digest(tuned.bytes))
}

/// A tensor that no base tensor corresponds to.
fn alone(name: &str, tuned: TensorView<'_>, recipe: &Recipe) -> Result<Encoded> {
    let exact = raw(name, tuned);
    let Action::Code(plan) = &recipe.action else { return Ok(exact) };
    let (dtype, zeros) = (tuned.dtype, vec![0; tuned.bytes.len()]);
    let matrices = Matrices::of(tuned.shape, row_count(tuned.shape));
    let pair = Pair { base: (dtype, &zeros), finetuned: (dtype, tuned.bytes), matrices, memory: None };
    let mut hasher = Digest::default();
    let coded = encode_delta(&pair, &plan.for_own(digest(name.as_bytes())), dtype, &mut |bytes| {
        hasher.write(bytes);
        Ok(())
    })?;
    let Some(Coded { payload, energy, error }) = coded else { return Ok(exact) };
    let relative_error = error / energy;
    let coded = finish(name, tuned, dtype, Body::Alone { payload: &payload }, hasher.finish());
    // A record of few bytes for many weights is one that no reader takes.
    let is_read = Record::read(name, &coded.record).is_ok();
    let is_better = relative_error.is_finite() && coded.record.len() < exact.record.len() && is_read;
    Ok(if is_better { Encoded { relative_error: Some(relative_error), ..coded } } else { exact })
}

fn finish(name: &str, tuned: TensorView<'_>, dtype: Dtype, body: Body<'_>, result: u64) -> Encoded {
    let record = Record { dtype, shape: tuned.shape.to_vec(), result, body };
    let bytes = record.write(name);
    Encoded {
        summary: TensorSummary::new(name, &record, bytes.len()),
        record: bytes,
        relative_error: None,
        energy: 0.0,
        note: None,
    }
}

/// A fine-tuned tensor and the base tensor that shares its leading rows.
struct Shared<'a> {
    name: &'a str,
    tuned: TensorView<'a>,
    rows: usize,
    base: (Dtype, &'a [u8]),
    base_name: &'a str,
    /// The tuned tensor's bytes of those rows, and of the rows after them.
    head: &'a [u8],
    tail: &'a [u8],
    memory: Option<&'a Memory>,
}

impl<'a> Shared<'a> {
    fn new(
        name: &'a str,
        base_name: &'a str,
        base: TensorView<'a>,
        tuned: TensorView<'a>,
        rows: usize,
    ) -> Self {
        let part = |view: TensorView<'a>| {
            let row = view.bytes.len() / row_count(view.shape).max(1);
            view.bytes.split_at((row * rows).min(view.bytes.len()))
        };
        let (head, tail) = part(tuned);
        Self { name, tuned, rows, base: (base.dtype, part(base).0), base_name, head, tail, memory: None }
    }

    /// The smallest record that the recipe allows.
    fn encode(&self, recipe: &Recipe, dtype: Dtype) -> Result<Encoded> {
        if self.is_base() {
            return self.base_itself(false);
        }
        let comparable = is_coded(self.base.0) && is_coded(self.tuned.dtype);
        match &recipe.action {
            Action::Code(plan) if comparable => match self.code_best(plan, dtype)? {
                Some(coded) if coded.record.len() < self.tuned.bytes.len() => Ok(self.unless_odd(coded)),
                Some(_) => Ok(raw(self.name, self.tuned)),
                None => Ok(self.odd()),
            },
            Action::Exact { plan, always } if comparable => self.exact(plan.as_ref(), *always),
            Action::Exact { .. } if self.base.0 == self.tuned.dtype => self.exact(None, false),
            Action::Zero if comparable => Ok(self.unless_odd(self.base_itself(true)?)),
            _ => Ok(raw(self.name, self.tuned)),
        }
    }

    /// `coded` if its error is a number. It is none where a value is not finite, be it in the inputs or because the
    /// reconstruction is too large for the dtype, and where the tensors differ only in the signs of zeros.
    fn unless_odd(&self, coded: Encoded) -> Encoded {
        if coded.relative_error.is_none_or(f64::is_finite) { coded } else { self.odd() }
    }

    /// The tensor carried exactly although it was to be coded, and why.
    fn odd(&self) -> Encoded {
        let finite = |(dtype, bytes)| delta::all_finite(dtype, bytes);
        let why = match (finite(self.base), finite((self.tuned.dtype, self.head))) {
            (_, false) => "has values that are not finite",
            (false, true) => "is not finite in the base",
            (true, true) => "cannot be coded as a delta (zeros of another sign, or out of its dtype's range)",
        };
        Encoded { note: Some(format!("{} {why}: carried exactly", self.name)), ..raw(self.name, self.tuned) }
    }

    /// Whether the shared rows are those of the base, in the tuned tensor's dtype.
    fn is_base(&self) -> bool {
        if self.base.0 == self.tuned.dtype {
            return self.base.1 == self.head;
        }
        if !is_coded(self.base.0) || !is_coded(self.tuned.dtype) {
            return false;
        }
        let mut rest = self.head;
        let equal = cast(self.base, self.tuned.dtype, &mut |piece| {
            rest = rest.strip_prefix(piece).ok_or_else(|| Error::mismatch("another value"))?;
            Ok(())
        });
        equal.is_ok() && rest.is_empty()
    }

    fn pair(&self) -> Pair<'a> {
        let matrices = Matrices::of(self.tuned.shape, self.rows);
        let finetuned = (self.tuned.dtype, self.head);
        Pair { base: self.base, finetuned, matrices, memory: self.memory.map(|memory| (memory, self.name)) }
    }

    fn link(&self, digest: u64) -> BaseLink {
        BaseLink { name: self.base_name.to_owned(), dtype: self.base.0, rows: self.rows, digest }
    }

    /// The base itself: the truth, or a choice (`lossy`).
    fn base_itself(&self, lossy: bool) -> Result<Encoded> {
        let dtype = self.tuned.dtype;
        let tail = planes::encode(self.tail, plane_count(dtype));
        if !lossy {
            let body = Body::Base { link: self.link(digest(self.base.1)), tail: &tail };
            return Ok(finish(self.name, self.tuned, dtype, body, digest(self.tuned.bytes)));
        }
        let mut check = Check::new(self, dtype);
        let (mut error, mut rest) = (0.0, self.head);
        cast(self.base, dtype, &mut |bytes| {
            let (now, later) = rest.split_at(bytes.len().min(rest.len()));
            rest = later;
            error += distance((dtype, bytes), (dtype, now))?;
            check.add(bytes);
            Ok(())
        })?;
        let relative_error = Some(error / distance(self.base, (dtype, self.head))?);
        let body = Body::Base { link: self.link(check.base_hasher.finish()), tail: &tail };
        let encoded = finish(self.name, self.tuned, dtype, body, check.digest(self.tail));
        Ok(Encoded { relative_error, ..encoded })
    }

    /// The tensor exactly: against the base, or the base and the delta as `plan` codes it, or by itself, whichever is
    /// smallest. What takes long is tried only where it may be worth it, the plan also if `always`.
    fn exact(&self, plan: Option<&Plan>, always: bool) -> Result<Encoded> {
        // Weights by themselves hardly ever pack into less than that.
        let much = self.tuned.bytes.len() / 8 * 5;
        let mut best = self.exact_by(&[], self.base)?;
        if let Some(plan) = plan.filter(|_| always || best.record.len() >= much)
            && let Some(predicted) = self.exact_by_delta(plan)?
            && predicted.record.len() < best.record.len()
        {
            best = predicted;
        }
        if best.record.len() < much {
            return Ok(best);
        }
        let alone = raw(self.name, self.tuned);
        Ok(if alone.record.len() < best.record.len() { alone } else { best })
    }

    /// The tensor exactly, predicted by its delta as `plan` codes it; `None` where some difference is not finite.
    fn exact_by_delta(&self, plan: &Plan) -> Result<Option<Encoded>> {
        let dtype = self.tuned.dtype;
        let pair = self.pair();
        let mut predicted = Vec::with_capacity(self.head.len());
        let coded = encode_delta(&pair, plan, dtype, &mut |bytes| {
            predicted.extend(bytes);
            Ok(())
        })?;
        coded.map(|coded| self.exact_by(&coded.payload, (dtype, &predicted))).transpose()
    }

    /// The tensor exactly by `prediction`, which is what a reader makes of the base and `payload`.
    fn exact_by(&self, payload: &[u8], prediction: (Dtype, &[u8])) -> Result<Encoded> {
        let dtype = self.tuned.dtype;
        let residual = exact::encode(prediction, (dtype, self.head))?;
        let tail = planes::encode(self.tail, plane_count(dtype));
        let link = self.link(digest(self.base.1));
        let body = Body::Exact { link, payload, residual: &residual, tail: &tail };
        Ok(finish(self.name, self.tuned, dtype, body, digest(self.tuned.bytes)))
    }

    /// The delta as coded by `plan`; where many weights did not change, by the plan that is for few changes if that is better,
    /// or exactly if that takes no more bytes. `None` where some difference is not finite.
    fn code_best(&self, plan: &Plan, dtype: Dtype) -> Result<Option<Encoded>> {
        /// From this part of the weights that did not change on, the others are tried.
        const MANY: f64 = 0.25;
        /// What it may be off by, as a part of the delta's energy: where it drops more, small changes are missing, and
        /// with them more of the directions than the error tells.
        const MOST: f64 = 1.0 / 12.0;
        let Some(coded) = self.code(plan, dtype)? else { return Ok(None) };
        let Some(other) = plan.for_few_changes().filter(|_| self.unchanged() >= MANY) else {
            return Ok(Some(coded));
        };
        let error = |encoded: &Encoded| encoded.relative_error.unwrap_or(f64::INFINITY);
        let weights = (self.head.len() / coded_size(self.tuned.dtype)) as f64;
        let bits = |encoded: &Encoded| 8.0 * encoded.record.len() as f64 / weights;
        // A bit more for each weight makes an error a quarter.
        let cost = |encoded: &Encoded| error(encoded) * 4f64.powf(bits(encoded));
        let is_better = |other: &Encoded| error(other) <= MOST && cost(other) < cost(&coded);
        let best = self.code(&other, dtype)?.filter(is_better).unwrap_or(coded);
        let exact = self.exact_by(&[], self.base)?;
        Ok(Some(if exact.record.len() <= best.record.len() { exact } else { best }))
    }

    /// The part of the shared weights that are those of the base, bit for bit.
    fn unchanged(&self) -> f64 {
        let (dtype, base) = self.base;
        if dtype != self.tuned.dtype {
            return 0.0;
        }
        let words = base.chunks_exact(coded_size(dtype)).zip(self.head.chunks_exact(coded_size(dtype)));
        words.clone().filter(|(base, tuned)| base == tuned).count() as f64 / words.len().max(1) as f64
    }

    /// The coded delta; `None` where some difference is not finite.
    fn code(&self, plan: &Plan, dtype: Dtype) -> Result<Option<Encoded>> {
        let dtype = if self.tail.is_empty() { dtype } else { self.tuned.dtype };
        let plan = plan.for_own(digest(self.name.as_bytes()));
        let pair = self.pair();
        let mut check = Check::new(self, dtype);
        let coded = encode_delta(&pair, &plan, dtype, &mut |bytes| {
            check.add(bytes);
            Ok(())
        })?;
        let Some(Coded { payload, energy, error }) = coded else { return Ok(None) };
        let tail = planes::encode(self.tail, plane_count(dtype));
        let link = self.link(check.base_hasher.finish());
        let body = Body::Delta { link, payload: &payload, tail: &tail };
        let relative_error = Some(error / energy);
        let encoded = finish(self.name, self.tuned, dtype, body, check.digest(self.tail));
        Ok(Some(Encoded { relative_error, energy, ..encoded }))
    }
}

/// Digests of what a reader will reconstruct and of the base.
struct Check<'a> {
    size: usize,
    base_size: usize,
    base: &'a [u8],
    hasher: Digest,
    base_hasher: Digest,
}

impl<'a> Check<'a> {
    fn new(shared: &Shared<'a>, dtype: Dtype) -> Self {
        let (hasher, base_hasher) = (Digest::default(), Digest::default());
        let (size, base_size) = (coded_size(dtype), coded_size(shared.base.0));
        Self { size, base_size, base: shared.base.1, hasher, base_hasher }
    }

    /// Takes the next bytes of the reconstruction of the shared rows. The base has just been read for them, so that
    /// its digest costs no memory traffic here.
    fn add(&mut self, bytes: &[u8]) {
        let base_len = bytes.len() / self.size * self.base_size;
        let (now, later) = self.base.split_at(base_len.min(self.base.len()));
        self.base = later;
        self.hasher.write(bytes);
        self.base_hasher.write(now);
    }

    /// The digest of the shared rows and then `tail`.
    fn digest(mut self, tail: &[u8]) -> u64 {
        self.hasher.write(tail);
        self.hasher.finish()
    }
}
