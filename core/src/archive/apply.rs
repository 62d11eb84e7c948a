//! A `.ddct` file applied to its base, or verified.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use super::report::{Applied, Verified};
use super::{Archive, Progress, check_cancelled, one_file, side_files, windows, with_bounded_memory};
use crate::checkpoint::{Checkpoint, CheckpointWriter};
use crate::container::{Body, Link, Record, SIDE_FILES, digest};
use crate::error::{Error, ErrorKind, Result};
use crate::output;
use crate::reconstruct::{check_structure, linked, reconstruct, reconstruct_refined, tensor_bytes};
use crate::tensor::{Dtype, TensorInfo, TensorView, is_coded, row_count};

/// Takes `bytes` at `offset` of a tensor of the result.
type Write<'a> = dyn Fn(&str, u64, &[u8]) -> Result<()> + Sync + 'a;

/// A record that has values of its own, the tensors that get them, and the base tensor it needs.
struct Job<'a> {
    name: &'a str,
    /// Other tensors with the same values.
    also: Vec<&'a str>,
    record: Record<'a>,
    base: Option<TensorView<'a>>,
    /// The same tensor in the first layer, where the record refines that.
    layer: Option<Box<Job<'a>>>,
}

impl Archive {
    /// Writes the fine-tuned model to `output`: one file if its name ends in `.safetensors`, else a folder.
    ///
    /// `output` appears whole or not at all. Errors: Mismatch (wrong base), Corrupt, Io.
    pub fn apply(
        &self,
        base: &Checkpoint,
        output: &Path,
        overwrite: bool,
        progress: &dyn Progress,
    ) -> Result<Applied> {
        let start = Instant::now();
        output::check_free(output, overwrite)?;
        let layer = self.layer.iter().map(|layer| layer.path.as_path());
        let inputs: Vec<&Path> = [base.path(), &self.path].into_iter().chain(layer).collect();
        output::check_apart(output, &inputs)?;
        let jobs = self.jobs(Some(base))?;
        let mut layout = self.layout()?;
        let single = output.extension().is_some_and(|extension| extension == "safetensors");
        if single {
            layout = one_file(layout, output)?;
        }
        let folder = output::temporary_folder(output)?;
        let mut files = Vec::new();
        let writer = CheckpointWriter::create(folder.path(), &layout, &self.tensor_infos(&jobs))?;
        let write = |name: &str, offset, bytes: &[u8]| writer.write(name, offset, bytes);
        let bytes = with_bounded_memory(&[base], || self.run(&jobs, base, progress, &write))?;
        writer.finish()?;
        // After the weights: a wrong base is told by its first tensor.
        if !single {
            for (name, _) in self.files() {
                let entry = self.entry(&format!("{SIDE_FILES}{name}"))?;
                let content = side_files::decode(entry, &name, base)?;
                output::write_inside(folder.path(), &name, &content)?;
                files.push(name);
            }
        }
        match single {
            true => output::persist_file_of(&folder, output, overwrite)?,
            false => output::persist_folder(folder, output, overwrite)?,
        }
        files.extend(layout.shards.iter().map(|shard| shard.file.clone()));
        Ok(Applied { tensors: self.names.len(), bytes, files, seconds: start.elapsed().as_secs_f64() })
    }

    /// One tensor of the fine-tuned model, in memory; `base` is checked as far as this tensor needs it.
    ///
    /// Errors: InvalidArgument (no such tensor), Mismatch (wrong base), Corrupt.
    pub fn load(&self, base: &Checkpoint, name: &str) -> Result<(TensorInfo, Vec<u8>)> {
        let mut bytes = Vec::new();
        let append = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        Ok((self.stream(base, name, append)?, bytes))
    }

    /// [`Archive::load`], where the bytes of the tensor go to `sink` piece by piece, in order. They are right once the
    /// call has succeeded: their digest is compared at the end.
    pub fn stream(
        &self,
        base: &Checkpoint,
        name: &str,
        sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<TensorInfo> {
        let info = self.tensor(name)?;
        let (owner, record) = self.values(name)?;
        let job = self.job(owner, record, Some(base))?;
        if job.record.shape != info.shape || job.record.dtype != info.dtype {
            return Err(Error::corrupt("is tied to a tensor of another shape").in_tensor(name));
        }
        job.decode(self, base, sink).map_err(|e| e.in_tensor(name))?;
        Ok(info)
    }

    /// Whether `base` is the base of this file: all tensors that the file depends on are read, and nothing is decoded.
    ///
    /// Errors: Mismatch, told by the first tensor that differs; Corrupt.
    pub fn check_base(&self, base: &Checkpoint, progress: &dyn Progress) -> Result<()> {
        let jobs = self.jobs(Some(base))?;
        let size = |job: &Job<'_>| job.ground().base.map_or(0, |view| view.bytes.len() as u64);
        progress.begin("check", jobs.iter().map(size).sum());
        let check = |job: &Job<'_>| {
            check_cancelled(progress)?;
            job.ground().base_part(self, base).map_err(|e| e.in_tensor(job.name))?;
            progress.advance(size(job));
            Ok(())
        };
        let checked = || jobs.par_iter().map(check).collect::<Vec<Result<()>>>();
        with_bounded_memory(&[base], checked).into_iter().collect()
    }

    /// The content of a file that travels along.
    ///
    /// Errors: InvalidArgument (no such file), Mismatch (wrong base), Corrupt.
    pub fn load_file(&self, base: &Checkpoint, name: &str) -> Result<Vec<u8>> {
        if !self.files().iter().any(|(file, _)| file == name) {
            return Err(Error::invalid(format!("{} has no file {name}", self.path.display())));
        }
        side_files::decode(self.entry(&format!("{SIDE_FILES}{name}"))?, name, base)
    }

    /// Checks every entry's checksum and structure; with `base`, also decodes every tensor and compares its digest.
    pub fn verify(&self, base: Option<&Checkpoint>, progress: &dyn Progress) -> Result<Verified> {
        let start = Instant::now();
        let jobs = self.jobs(base)?;
        self.layout()?;
        match base {
            Some(base) => {
                with_bounded_memory(&[base], || self.run(&jobs, base, progress, &|_, _, _| Ok(())))?;
            }
            None => {
                for job in &jobs {
                    [job, job.ground()]
                        .into_iter()
                        .try_for_each(|job| check_structure(&job.record))
                        .map_err(|e| e.in_tensor(job.name))?;
                }
            }
        }
        for (name, _) in self.files() {
            let entry = self.entry(&format!("{SIDE_FILES}{name}"))?;
            if let Some(base) = base {
                side_files::decode(entry, &name, base)?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(Verified { tensors: self.names.len(), decoded: base.is_some(), bytes: self.info().bytes, seconds })
    }

    /// All records, tied tensors joined to their target. With `base`, its tensors are found and their dtypes, shapes
    /// and names checked before any work.
    fn jobs<'a>(&'a self, base: Option<&'a Checkpoint>) -> Result<Vec<Job<'a>>> {
        let mut ties = BTreeMap::<String, Vec<(&str, Vec<usize>)>>::new();
        let mut jobs = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let record = self.record(name)?;
            if let Body::Alias { name: target } = &record.body {
                ties.entry(target.clone()).or_default().push((name, record.shape));
                continue;
            }
            jobs.push(self.job(name, record, base)?);
        }
        for job in &mut jobs {
            let tied = ties.remove(job.name).unwrap_or_default();
            if let Some((name, shape)) = tied.iter().find(|(_, shape)| *shape != job.record.shape) {
                let message = format!("{shape:?} is tied to {} of {:?}", job.name, job.record.shape);
                return Err(Error::corrupt(message).in_tensor(name));
            }
            job.also = tied.into_iter().map(|(name, _)| name).collect();
        }
        match ties.first_key_value() {
            None => Ok(jobs),
            Some((target, tied)) => {
                let name = tied.first().map_or("", |(name, _)| name);
                Err(Error::corrupt(format!("tied to {target}, which has no values")).in_tensor(name))
            }
        }
    }

    /// The work on one record; with `base`, its tensor is found, and its dtype and shape checked.
    fn job<'a>(&'a self, name: &'a str, record: Record<'a>, base: Option<&'a Checkpoint>) -> Result<Job<'a>> {
        let layer = match &record.body {
            Body::Refined { .. } => Some(Box::new(self.layer_job(name, &record, base)?)),
            _ => None,
        };
        let base = match (base, record.body.link()) {
            (Some(base), Some(link)) => {
                Some(find(base, link, &record.shape).map_err(|e| self.explain(e, base).in_tensor(name))?)
            }
            _ => None,
        };
        Ok(Job { name, also: Vec::new(), record, base, layer })
    }

    /// The work on tensor `name` of the first layer, which `record` refines.
    fn layer_job<'a>(
        &'a self,
        name: &str,
        record: &Record<'_>,
        base: Option<&'a Checkpoint>,
    ) -> Result<Job<'a>> {
        let none = || Error::corrupt("refines a first layer that does not have it").in_tensor(name);
        let layer = self.layer.as_deref().ok_or_else(none)?;
        let (owner, below) = layer
            .values(name)
            .map_err(|e| if e.kind() == ErrorKind::InvalidArgument { none() } else { e })?;
        let castable = below.dtype == record.dtype || (is_coded(below.dtype) && is_coded(record.dtype));
        if below.shape != record.shape || !castable {
            let message = format!("refines {:?} of {} in the first layer", below.shape, below.dtype);
            return Err(Error::corrupt(message).in_tensor(name));
        }
        layer.job(owner, below, base)
    }

    /// Dtype and shape of every tensor of the result.
    fn tensor_infos(&self, jobs: &[Job<'_>]) -> BTreeMap<String, (Dtype, Vec<usize>)> {
        let names = |job: &Job<'_>| {
            std::iter::once(job.name).chain(job.also.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
        };
        let info = |job: &Job<'_>| (job.record.dtype, job.record.shape.clone());
        jobs.iter().flat_map(|job| names(job).into_iter().map(|name| (name, info(job)))).collect()
    }

    /// Decodes every job and hands the bytes to `write(tensor, offset, bytes)`; gives the number of bytes.
    fn run(
        &self,
        jobs: &[Job<'_>],
        base: &Checkpoint,
        progress: &dyn Progress,
        write: &Write<'_>,
    ) -> Result<u64> {
        let size = |job: &Job<'_>| tensor_bytes(job.record.dtype, &job.record.shape).unwrap_or(0);
        let total = jobs.iter().map(|job| (size(job) * (1 + job.also.len())) as u64).sum();
        progress.begin("apply", total);
        let windows = windows(jobs, |job| job.record.shape.iter().product());
        for (i, window) in windows.iter().enumerate() {
            let soon = windows.get(i + 1).into_iter().copied().flatten();
            soon.filter_map(|job| job.ground().record.body.link()).for_each(|link| base.prefetch(&link.name));
            let run = |job: &Job<'_>| {
                job.run(self, base, progress, write).map_err(|e| e.in_tensor(job.name))?;
                progress.advance((size(job) * (1 + job.also.len())) as u64);
                Ok(())
            };
            // Not try_for_each: of several errors it gives any, and a wrong base is to be told by its first tensor.
            let done: Vec<Result<()>> = window.par_iter().map(run).collect();
            done.into_iter().collect::<Result<()>>()?;
        }
        Ok(total)
    }
}

impl Job<'_> {
    fn run(
        &self,
        archive: &Archive,
        base: &Checkpoint,
        progress: &dyn Progress,
        write: &Write<'_>,
    ) -> Result<()> {
        let mut offset = 0;
        self.decode(archive, base, |bytes| {
            check_cancelled(progress)?;
            for name in std::iter::once(&self.name).chain(&self.also) {
                write(name, offset, bytes)?;
            }
            offset += bytes.len() as u64;
            Ok(())
        })
    }

    /// Feeds the bytes of the tensor to `sink`, in order.
    fn decode(
        &self,
        archive: &Archive,
        base: &Checkpoint,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let part = self.ground().base_part(archive, base)?;
        match &self.layer {
            None => reconstruct(&self.record, part, &mut sink),
            Some(layer) => reconstruct_refined(&self.record, &layer.record, part, &mut sink),
        }
    }

    /// The job that works on the base.
    fn ground(&self) -> &Self {
        self.layer.as_deref().unwrap_or(self)
    }

    /// What the record depends on of the base, its digest compared; nothing for a raw record.
    fn base_part(&self, archive: &Archive, base: &Checkpoint) -> Result<(Dtype, &[u8])> {
        match (self.record.body.link(), self.base) {
            (Some(link), Some(view)) => {
                Ok((link.dtype, linked(link, view).map_err(|e| archive.explain(e, base))?))
            }
            _ => Ok((self.record.dtype, &[])),
        }
    }
}

impl Archive {
    /// Says more about a wrong base where more can be seen: it may be the fine-tuned model itself.
    fn explain(&self, error: Error, base: &Checkpoint) -> Error {
        let holds_mark = || {
            let (mark, name) = self.metadata("finetuned_mark").split_once(' ')?;
            Some(format!("{:016x}", digest(base.get(name)?.bytes)) == mark)
        };
        if error.kind() != ErrorKind::Mismatch || !holds_mark().unwrap_or(false) {
            return error;
        }
        Error::mismatch(format!("{error}; {} seems to be the fine-tuned model itself", base.path().display()))
    }
}

/// The base tensor of `link`, found by name, of its dtype, and with enough rows of those of `shape`.
fn find<'a>(base: &'a Checkpoint, link: &Link, shape: &[usize]) -> Result<TensorView<'a>> {
    let wrong = |what: String| {
        Error::mismatch(format!("{} is not the base of this file: {what}", base.path().display()))
    };
    let view = base.get(&link.name).ok_or_else(|| wrong(format!("it has no tensor {}", link.name)))?;
    if view.dtype != link.dtype {
        return Err(wrong(format!("its {} is {}, not {}", link.name, view.dtype, link.dtype)));
    }
    let row = |shape: &[usize]| shape.get(1..).unwrap_or_default().to_vec();
    if row(view.shape) != row(shape) || row_count(view.shape) < link.rows {
        return Err(wrong(format!("its {} has the shape {:?}", link.name, view.shape)));
    }
    Ok(view)
}
