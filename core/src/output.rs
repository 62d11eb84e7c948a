//! Putting finished work in its place: whole or not at all, and never over something by accident.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::checkpoint;
use crate::error::{Error, Result};

/// A folder that is written under another name, and appears at its place when it is finished, or not at all.
#[derive(Debug)]
pub struct OutputFolder {
    folder: TempDir,
    output: PathBuf,
    overwrite: bool,
}

impl OutputFolder {
    /// Begins an empty folder for `output`. Errors: Io (something lies there, and `overwrite` is not allowed; or nothing
    /// can be written), InvalidArgument (it would take the place of one of the `inputs`).
    pub fn create(output: &Path, overwrite: bool, inputs: &[&Path]) -> Result<Self> {
        check_apart(output, inputs)?;
        check_free(output, overwrite)?;
        Ok(Self { folder: temporary_folder(output)?, output: output.to_owned(), overwrite })
    }

    /// Where it lies until it is finished.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in it. Errors: Io, Corrupt (a name that leads outside).
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        write_inside(self.path(), name, content)
    }

    /// Moves it to its place. Errors: Io.
    pub fn finish(self) -> Result<()> {
        persist_folder(self.folder, &self.output, self.overwrite)
    }
}

/// The folder that `path` will lie in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Fails if something that must not be overwritten lies at `output`; an empty folder is free to use.
pub(crate) fn check_free(output: &Path, overwrite: bool) -> Result<()> {
    let empty_folder = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    if overwrite || empty_folder || fs::symlink_metadata(output).is_err() {
        return Ok(());
    }
    Err(already_exists(output))
}

/// Fails if `output` would take the place of one of the `inputs`, of a file in it, or of the folder around it.
pub(crate) fn check_apart(output: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(parent) = parent(output).canonicalize() else { return Ok(()) };
    let place = parent.join(output.file_name().unwrap_or_default());
    let is_delta = output.extension().is_some_and(|extension| extension == "ddct");
    for path in inputs {
        let Ok(input) = path.canonicalize() else { continue };
        let is_index = input.extension().is_some_and(|extension| extension == "json");
        let folder = if is_index { self::parent(&input) } else { input.clone() };
        let is_part = place.is_file() && parent == folder && !is_delta;
        if is_part || input.starts_with(&place) {
            return Err(Error::invalid(format!(
                "{} is part of the input {}: choose another output",
                output.display(),
                path.display()
            )));
        }
    }
    Ok(())
}

/// Moves a finished temporary file to `output`.
pub(crate) fn persist(file: NamedTempFile, output: &Path, overwrite: bool) -> Result<()> {
    let fail = |e| Error::io("write", output, e);
    set_usual_permissions(file.path()).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    let moved = match overwrite {
        true => file.persist(output),
        false => file.persist_noclobber(output),
    };
    match moved {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(already_exists(output)),
        Err(e) => Err(fail(e.error)),
    }
}

/// Writes `content` to the file `output`, whole or not at all.
///
/// Errors: Io; also if something lies there and `overwrite` is false.
pub fn write_whole(output: &Path, content: &[u8], overwrite: bool) -> Result<()> {
    check_free(output, overwrite)?;
    let fail = |e| Error::io("write", output, e);
    let mut file = NamedTempFile::new_in(parent(output)).map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    persist(file, output, overwrite)
}

/// An empty folder beside `output` that is removed again unless it is put in its place.
pub(crate) fn temporary_folder(output: &Path) -> Result<TempDir> {
    let parent = parent(output);
    tempfile::Builder::new()
        .prefix(".delta-dct-")
        .tempdir_in(&parent)
        .map_err(|e| Error::io("write to", &parent, e))
}

/// Writes a file whose name comes from a `.ddct` file; it may lie in a sub-folder, but not outside of `folder`.
pub(crate) fn write_inside(folder: &Path, name: &str, content: &[u8]) -> Result<()> {
    if !checkpoint::is_side_name(name) {
        return Err(Error::corrupt(format!("{name:?} is not the name of a side file")));
    }
    let path = folder.join(name);
    let written = fs::create_dir_all(parent(&path))
        .and_then(|()| fs::File::create_new(&path))
        .and_then(|mut file| file.write_all(content));
    written.map_err(|e| Error::io("write", &path, e))
}

/// Moves the one file of a finished temporary folder to `output`, which has the same file name.
pub(crate) fn persist_file_of(folder: &TempDir, output: &Path, overwrite: bool) -> Result<()> {
    check_free(output, overwrite)?;
    let file = folder.path().join(output.file_name().unwrap_or_default());
    set_usual_permissions(&file)
        .and_then(|()| fs::rename(&file, output))
        .map_err(|e| Error::io("write", output, e))
}

/// Moves a finished temporary folder to `output`; what lies there is replaced if `overwrite`.
pub(crate) fn persist_folder(folder: TempDir, output: &Path, overwrite: bool) -> Result<()> {
    check_free(output, overwrite)?;
    let fail = |e| Error::io("write", output, e);
    set_usual_permissions(folder.path()).map_err(fail)?;
    let old = match fs::symlink_metadata(output) {
        Err(_) => None,
        Ok(_) => {
            let aside = tempfile::tempdir_in(parent(output)).map_err(fail)?;
            fs::rename(output, aside.path().join("replaced")).map_err(fail)?;
            Some(aside)
        }
    };
    if let Err(e) = fs::rename(folder.path(), output) {
        if let Some(aside) = old {
            fs::rename(aside.path().join("replaced"), output).map_err(fail)?;
        }
        return Err(fail(e));
    }
    // The folder has moved: there is nothing left to remove under its old name.
    let _ = folder.keep();
    Ok(())
}

fn already_exists(output: &Path) -> Error {
    let source = io::Error::new(io::ErrorKind::AlreadyExists, "it exists already (--force overwrites it)");
    Error::io("write", output, source)
}

/// Temporary files are private; what a person asked for gets the permissions that other new files get.
fn set_usual_permissions(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let is_folder = fs::metadata(path)?.is_dir();
        let probe = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(parent(path))?;
        let usual = fs::metadata(probe.path())?.permissions().mode() & 0o666;
        let mode = if is_folder { usual | (usual & 0o444) >> 2 } else { usual };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
