//! Two files that belong together: a first layer, which is a file like any other, and an enhancement, which makes it
//! exact (FORMAT.md, "Layers").

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;

use super::compress::check_output;
use super::report::{Enhancement, Summary};
use super::{Archive, CompressOptions, Progress, check_cancelled, compress, windows, with_bounded_memory};
use crate::checkpoint::Checkpoint;
use crate::container::{FileWriter, LAYER, digest};
use crate::error::{Error, Result};
use crate::output;
use crate::tensor_codec::{Encoded, refine};

/// [`compress`], and beside `output`, which has the same bytes, an enhancement by which the fine-tuned model comes back
/// bit for bit: `X.exact.ddct` for `X.ddct`.
///
/// Errors: as for [`compress`]; then neither file is left behind, unless the error says so.
pub fn compress_layers(
    base: &Checkpoint,
    finetuned: &Checkpoint,
    output: &Path,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    let start = Instant::now();
    let enhancement = enhancement_path(output);
    for path in [output, &enhancement] {
        check_output(path, base, finetuned, options)?;
    }
    let folder = output::temporary_folder(output)?;
    let inside = |path: &Path| folder.path().join(path.file_name().unwrap_or_default());
    let first = CompressOptions { dry_run: false, ..options.clone() };
    let mut summary = compress(base, finetuned, &inside(output), &first, progress)?;
    let layer = Archive::open(&inside(output))?;
    let (bytes, tensors) = with_bounded_memory(&[base, finetuned], || {
        write(&layer, base, finetuned, &inside(&enhancement), progress)
    })?;
    if !options.dry_run {
        output::persist_file_of(&folder, output, options.overwrite)?;
        output::persist_file_of(&folder, &enhancement, options.overwrite).map_err(|e| {
            Error::new(e.kind(), format!("{e}; {} was written, without its enhancement", output.display()))
        })?;
    }
    let enhancement = enhancement.to_string_lossy().into_owned();
    summary.enhancement = Some(Enhancement { output: enhancement, bytes, tensors });
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

/// `X.exact.ddct` for `X.ddct`, and for `X`.
fn enhancement_path(output: &Path) -> PathBuf {
    let is_delta = output.extension().is_some_and(|extension| extension == "ddct");
    let stem = if is_delta { output.file_stem() } else { output.file_name() };
    let mut name = stem.map(OsString::from).unwrap_or_default();
    name.push(".exact.ddct");
    output.with_file_name(name)
}

/// Writes what makes the tensors of `layer` those of `finetuned`; gives the bytes of the file, and how many tensors it
/// has.
fn write(
    layer: &Archive,
    base: &Checkpoint,
    finetuned: &Checkpoint,
    output: &Path,
    progress: &dyn Progress,
) -> Result<(u64, usize)> {
    let mut file = FileWriter::create(&output::parent(output))?;
    let mut tensors = 0;
    let bytes_of = |name: &str| finetuned.get(name).map_or(0, |view| view.bytes.len() as u64);
    progress.begin("refine", layer.names.iter().map(|name| bytes_of(name)).sum());
    for window in windows(&layer.names, |name| finetuned.get(name).map_or(0, |view| view.len())) {
        let refine_one = |name: &String| {
            check_cancelled(progress)?;
            let encoded = encode(layer, base, finetuned, name).map_err(|e| e.in_tensor(name))?;
            progress.advance(bytes_of(name));
            Ok(encoded)
        };
        let encoded: Vec<Option<Encoded>> = window.par_iter().map(refine_one).collect::<Result<_>>()?;
        for (name, encoded) in window.iter().zip(encoded) {
            let Some(encoded) = encoded else { continue };
            file.add(name, &encoded.record)?;
            tensors += 1;
        }
    }
    let name = layer.path.file_name().unwrap_or_default().to_string_lossy();
    let metadata = [
        ("created_by", concat!("delta-dct ", env!("CARGO_PKG_VERSION")).to_owned()),
        (LAYER, format!("{:016x} {name}", layer.seal()?)),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let file = file.seal(metadata)?;
    let bytes = file.bytes;
    file.keep(output, false)?;
    Ok((bytes, tensors))
}

/// The record of tensor `name` in the enhancement; none where the first layer gives it exactly.
fn encode(layer: &Archive, base: &Checkpoint, finetuned: &Checkpoint, name: &str) -> Result<Option<Encoded>> {
    let gone = |name: &str| Error::corrupt(format!("{name} is gone"));
    let record = layer.record(name)?;
    let tuned = finetuned.get(name).ok_or_else(|| gone(name))?;
    // A tied tensor has the digest of the fine-tuned one, too: what it is tied to is refined in its place.
    if record.dtype == tuned.dtype && record.result == digest(tuned.bytes) {
        return Ok(None);
    }
    let linked = match record.body.link() {
        Some(link) => Some((link, base.get(&link.name).ok_or_else(|| gone(&link.name))?)),
        None => None,
    };
    let mut prediction = Vec::with_capacity(tuned.bytes.len());
    let info = layer.stream(base, name, |bytes| {
        prediction.extend_from_slice(bytes);
        Ok(())
    })?;
    refine(name, linked, tuned, (info.dtype, prediction)).map(Some)
}
