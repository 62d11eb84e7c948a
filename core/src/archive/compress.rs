//! Compress: pair the tensors, encode each, write the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use super::related::{Samples, check_related};
use super::report::{Summary, TensorSummary, relation_note, relation_word};
use super::{Progress, check_cancelled, side_files, windows, with_bounded_memory};
use crate::checkpoint::Checkpoint;
use crate::container::{BEST, FileWriter, LAYOUT, RESERVED, SIDE_FILES, Sealed, digest, pack};
use crate::error::{Error, Result};
use crate::method::rate::{self, Facts, Outcome};
use crate::method::{Selection, sensitivity};
use crate::output;
use crate::pair::{Link as PairLink, Pairing, pair};
use crate::tensor::TensorInfo;
use crate::tensor_codec::{Encoded, encode};
use crate::transform::Memory;

/// How to compress.
#[derive(Clone, Debug)]
pub struct CompressOptions {
    /// Which tensors are coded how.
    pub selection: Selection,
    /// Accept a base that the fine-tuned model does not seem to come from.
    pub force_unrelated: bool,
    /// Replace the output if it exists.
    pub overwrite: bool,
    /// Do all the work, keep no file.
    pub dry_run: bool,
}

/// Writes `finetuned` as a delta against `base` to the file `output`.
///
/// Errors: Mismatch (unrelated models), InvalidArgument (a plan that does not fit), Io; then nothing is left behind.
pub fn compress(
    base: &Checkpoint,
    finetuned: &Checkpoint,
    output: &Path,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    let start = Instant::now();
    let (base_infos, infos) = (infos(base), infos(finetuned));
    let pairing = pair(&base_infos, &infos);
    check_names(&infos)?;
    check_output(output, base, finetuned, options)?;
    let samples = check_related(base, finetuned, &pairing, options)?;
    let job = Job { base, finetuned, pairing, samples, side_entries: side_entries(base, finetuned)? };
    let Coded { mut summary, file, .. } = match options.selection.default_recipe().target() {
        Some(target) => {
            let bytes = finetuned.weight_bytes();
            let weights = infos.values().map(|info| info.shape.iter().product::<usize>() as u64).sum();
            let sensitivity = sensitivity(infos.keys().map(String::as_str));
            let distance = job.samples.usual_distance(job.samples.difference);
            let facts = Facts { weights, bytes, distance, sensitivity };
            let memory = Memory::default();
            let code = |step: f32, memory: Option<&Memory>| {
                job.run(output, &options.selection.resolved(step)?, memory, progress)
            };
            let mut last = None;
            let mut trial = |step: f32| {
                let coded = code(step, Some(&memory))?;
                let outcome = job.outcome(&coded, &facts);
                last = Some((step, coded));
                Ok(outcome)
            };
            let step = rate::step(target, facts, &mut trial)?;
            match last {
                Some((tried, coded)) if tried == step => coded,
                // Without a trial nothing would be remembered for another one.
                last => code(step, last.map(|_| &memory))?,
            }
        }
        None => job.run(output, &options.selection, None, progress)?,
    };
    if !options.dry_run {
        file.keep(output, options.overwrite)?;
    }
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

/// Fails where `output` exists and must not be replaced, or is one of the models.
pub(super) fn check_output(
    output: &Path,
    base: &Checkpoint,
    finetuned: &Checkpoint,
    options: &CompressOptions,
) -> Result<()> {
    if !options.dry_run {
        output::check_free(output, options.overwrite)?;
    }
    output::check_apart(output, &[base.path(), finetuned.path()])
}

/// A pair, and what is the same for every selection: a wish for a size codes it several times.
struct Job<'a> {
    base: &'a Checkpoint,
    finetuned: &'a Checkpoint,
    pairing: Pairing,
    samples: Samples,
    /// Names and contents of the entries that hold no tensor.
    side_entries: Vec<(String, Vec<u8>)>,
}

/// The file that may become the output, in its folder, and what can be said of it, but for the time that it took.
struct Coded {
    summary: Summary,
    file: Sealed,
    /// Of the matrices' deltas, and of their errors.
    energy: f64,
    noise: f64,
}

impl Job<'_> {
    /// Codes the pair for `output`.
    fn run(
        &self,
        output: &Path,
        selection: &Selection,
        memory: Option<&Memory>,
        progress: &dyn Progress,
    ) -> Result<Coded> {
        let Self { base, finetuned, pairing, samples, side_entries } = self;
        let mut file = FileWriter::create(&output::parent(output))?;
        let ties = Ties::find(finetuned, pairing, selection);
        let names = pairing.links.iter().map(|link| link.name.as_str());
        let recipe = selection.default_recipe().to_string();
        let selection =
            selection.for_model(names.filter(|name| ties.target(name).is_none()), &samples.strengths);
        let mut notes = notes(base, finetuned, pairing, &ties);
        let mut tensors = Vec::with_capacity(pairing.links.len());
        let (mut energy, mut noise) = (0.0, 0.0);
        let mut add = |link: &PairLink, encoded: Encoded| {
            file.add(&link.name, &encoded.record)?;
            let tied = ties.target(&link.name).is_some();
            let relation = if tied { "tied" } else { relation_word(&link.relation) };
            notes.extend(encoded.note);
            if samples.strengths.contains_key(&link.name) {
                energy += encoded.energy;
                noise += encoded.energy * encoded.relative_error.unwrap_or(0.0);
            }
            tensors.push(TensorSummary {
                relation,
                relative_error: encoded.relative_error,
                ..encoded.summary
            });
            Ok(())
        };
        with_bounded_memory(&[base, finetuned], || {
            self.encode_tensors(&selection, &ties, memory, progress, &mut add)
        })?;
        ties.share_errors(&mut tensors);
        side_entries.iter().try_for_each(|(name, entry)| file.add(name, entry))?;
        let metadata = [
            ("created_by", concat!("delta-dct ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("base", display_name(base)),
            ("finetuned", display_name(finetuned)),
            ("finetuned_bytes", finetuned.weight_bytes().to_string()),
            ("finetuned_mark", mark(finetuned, &tensors)),
            ("recipe", recipe),
        ];
        let metadata = metadata.into_iter().filter(|(_, value)| !value.is_empty());
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).collect();
        let file = file.seal(metadata)?;
        tensors.iter_mut().for_each(|row| row.bytes = file.size(&row.name));
        let side_size = |name: &String| (name.clone(), file.size(&format!("{SIDE_FILES}{name}")));
        let files = finetuned.side_files().iter().map(|side| side_size(&side.name)).collect();
        let summary = Summary {
            output_bytes: file.bytes,
            enhancement: None,
            finetuned_bytes: finetuned.weight_bytes(),
            weights: tensors.iter().map(|tensor| tensor.weights).sum(),
            tensors,
            notes,
            removed: pairing.removed.clone(),
            rename: pairing.rename.clone(),
            files,
            skipped_files: finetuned.skipped_files().to_vec(),
            seconds: 0.0,
        };
        Ok(Coded { summary, file, energy, noise })
    }

    /// What a trial gave. The error is that of deltas: what has no base is not one.
    fn outcome(&self, Coded { summary, energy, noise, .. }: &Coded, facts: &Facts) -> Outcome {
        let deltas = summary.tensors.iter().filter(|tensor| tensor.kind != "alone");
        let error = TensorSummary::mean_error(deltas).unwrap_or(0.0);
        let distance = self.samples.usual_distance(*energy);
        let kl = if *energy > 0.0 { facts.kl(noise / energy, distance) } else { 0.0 };
        Outcome { bytes: summary.output_bytes, error, kl }
    }

    /// Hands every tensor's record to `sink`, in the order of the links.
    fn encode_tensors(
        &self,
        selection: &Selection,
        ties: &Ties,
        memory: Option<&Memory>,
        progress: &dyn Progress,
        sink: &mut dyn FnMut(&PairLink, Encoded) -> Result<()>,
    ) -> Result<()> {
        let Self { base, finetuned, pairing, .. } = self;
        let bytes_of = |name: &str| finetuned.get(name).map_or(0, |view| view.bytes.len());
        progress.begin("compress", pairing.links.iter().map(|link| bytes_of(&link.name) as u64).sum());
        let prefetch = |link: &PairLink| {
            finetuned.prefetch(&link.name);
            link.relation.reference().into_iter().for_each(|name| base.prefetch(name));
        };
        let windows = windows(&pairing.links, |link| finetuned.get(&link.name).map_or(0, |view| view.len()));
        for (i, window) in windows.iter().enumerate() {
            windows.get(i + 1).into_iter().copied().flatten().for_each(prefetch);
            let encode_one = |link: &PairLink| {
                check_cancelled(progress)?;
                let encoded = encode(base, finetuned, link, ties.target(&link.name), selection, memory)
                    .map_err(|e| e.in_tensor(&link.name))?;
                progress.advance(bytes_of(&link.name) as u64);
                Ok(encoded)
            };
            let encoded: Vec<Encoded> = window.par_iter().map(encode_one).collect::<Result<_>>()?;
            window.iter().zip(encoded).try_for_each(|(link, encoded)| sink(link, encoded))?;
        }
        Ok(())
    }
}

fn infos(checkpoint: &Checkpoint) -> BTreeMap<String, TensorInfo> {
    let info = |name: &str| {
        let view = checkpoint.get(name)?;
        Some((name.to_owned(), TensorInfo { dtype: view.dtype, shape: view.shape.to_vec() }))
    };
    checkpoint.names().filter_map(info).collect()
}

fn check_names(infos: &BTreeMap<String, TensorInfo>) -> Result<()> {
    match infos.keys().find(|name| name.starts_with(RESERVED)) {
        Some(name) => {
            Err(Error::invalid(format!("names that begin with {RESERVED} are reserved")).in_tensor(name))
        }
        None => Ok(()),
    }
}

/// Tensors that repeat another one, and which.
struct Ties(BTreeMap<String, String>);

impl Ties {
    /// Tensors on the same storage, or of the same dtype, shape and bytes, point to one of them. Small tensors may be
    /// equal by chance (zeros, ones) and cost nothing to store: those need the same storage. Two tensors for which
    /// `selection` has different recipes are not tied: the choice that a person made for each counts.
    fn find(checkpoint: &Checkpoint, pairing: &Pairing, selection: &Selection) -> Self {
        const MIN_BYTES: usize = 1 << 12;
        let is_tied =
            |a: &str, b: &str| checkpoint.tied_to(a).unwrap_or(a) == checkpoint.tied_to(b).unwrap_or(b);
        let mut groups = BTreeMap::<_, Vec<Vec<&str>>>::new();
        for name in checkpoint.names() {
            let Some(view) = checkpoint.get(name) else { continue };
            let head = view.bytes.get(..64.min(view.bytes.len())).unwrap_or_default();
            let recipe = selection.recipe(name, view.dtype, view.shape).to_string();
            let same = groups.entry((view.dtype, view.shape, head, recipe)).or_default();
            let equals = |other: &str| match view.bytes.len() >= MIN_BYTES {
                true => checkpoint.get(other).is_some_and(|other| other.bytes == view.bytes),
                false => is_tied(name, other),
            };
            match same.iter_mut().find(|group| group.first().is_some_and(|other| equals(other))) {
                Some(group) => group.push(name),
                None => same.push(vec![name]),
            }
        }
        Self(groups.into_values().flatten().flat_map(|group| aliases(&group, pairing)).collect())
    }

    fn target(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// An alias is as exact as its target.
    fn share_errors(&self, tensors: &mut [TensorSummary]) {
        let errors: BTreeMap<_, _> =
            tensors.iter().map(|row| (row.name.clone(), row.relative_error)).collect();
        for row in tensors {
            let target = self.target(&row.name).and_then(|target| errors.get(target));
            row.relative_error = target.copied().unwrap_or(row.relative_error);
        }
    }
}

/// (alias, target) for all but one of `group`: the target is the first tensor that the base has, too.
fn aliases(group: &[&str], pairing: &Pairing) -> Vec<(String, String)> {
    let in_base = |name: &&&str| pairing.link(name).is_some_and(|link| link.relation.reference().is_some());
    let Some(&target) = group.iter().find(in_base).or(group.first()) else { return Vec::new() };
    group.iter().filter(|name| **name != target).map(|name| ((*name).to_owned(), target.to_owned())).collect()
}

/// The layout of the checkpoint and its side files, as entries.
fn side_entries(base: &Checkpoint, finetuned: &Checkpoint) -> Result<Vec<(String, Vec<u8>)>> {
    let layout =
        serde_json::to_vec(finetuned.layout()).map_err(|e| Error::corrupt(format!("layout: {e}")))?;
    let layout = pack(&layout, &[], BEST).map(|entry| (LAYOUT.to_owned(), entry));
    let files = finetuned.side_files().iter().map(|side| {
        let entry = side_files::encode(&side_files::read(&side.path)?, &side.name, base)?;
        Ok((format!("{SIDE_FILES}{}", side.name), entry))
    });
    std::iter::once(layout).chain(files).collect()
}

/// Digest (16 hex digits) and name of a small tensor that differs from the base: by it a reader recognises the
/// fine-tuned model where the base is expected. Empty if there is none.
fn mark(finetuned: &Checkpoint, tensors: &[TensorSummary]) -> String {
    let is_base = |row: &TensorSummary| row.kind == "base" && row.relative_error.is_none();
    let changed = tensors.iter().filter(|row| row.kind != "alias" && row.weights > 1 && !is_base(row));
    let smallest = changed.min_by_key(|row| (row.kind != "delta", row.weights));
    let view = smallest.and_then(|row| Some((finetuned.get(&row.name)?, &row.name)));
    view.map(|(view, name)| format!("{:016x} {name}", digest(view.bytes))).unwrap_or_default()
}

/// What a person calls the checkpoint: the last component of its path, or its id if it lies in the hub's cache.
fn display_name(checkpoint: &Checkpoint) -> String {
    let path = checkpoint.path();
    if let Some(name) = hub_name(path) {
        return name;
    }
    path.canonicalize()
        .ok()
        .as_deref()
        .unwrap_or(path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// `ORG/NAME@COMMIT` of a path `.../models--ORG--NAME/snapshots/COMMIT/...` in the Hugging Face hub's cache.
fn hub_name(path: &Path) -> Option<String> {
    let parts: Vec<_> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
    let at = parts.iter().position(|part| *part == "snapshots")?;
    let repo = parts.get(at.checked_sub(1)?)?.strip_prefix("models--")?;
    Some(format!("{}@{}", repo.replace("--", "/"), parts.get(at + 1)?))
}

fn notes(base: &Checkpoint, finetuned: &Checkpoint, pairing: &Pairing, ties: &Ties) -> Vec<String> {
    let note = |link: &PairLink| match ties.target(&link.name) {
        Some(target) => Some(format!("{} repeats {target}: stored once", link.name)),
        None => relation_note(&link.name, &link.relation),
    };
    let mut notes: Vec<String> = pairing.links.iter().filter_map(note).collect();
    if let Some(rename) = &pairing.rename {
        notes.insert(
            0,
            format!(
                "names differ: {:?} in the fine-tuned model is {:?} in the base",
                rename.finetuned, rename.base
            ),
        );
    }
    notes.extend(
        pairing.removed.iter().map(|name| format!("{name} of the base is not in the fine-tuned model")),
    );
    let ignored = finetuned.ignored().iter().chain(base.ignored());
    notes.extend(ignored.map(|name| format!("{name} in the pickle is not a tensor: left out")));
    notes
}
