//! The file level: a base and a fine-tuned checkpoint to one `.ddct` file, and back.

mod apply;
mod compress;
mod layers;
mod open;
mod pretty;
mod related;
mod report;
mod side_files;

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

pub use self::compress::{CompressOptions, compress};
pub use self::layers::compress_layers;
pub use self::open::Archive;
pub use self::report::{Applied, Enhancement, FirstLayer, Info, Summary, TensorSummary, Verified};

use crate::checkpoint::{Checkpoint, Layout};
use crate::error::{Error, ErrorKind, Result};

/// Weights that are worked on together: enough to keep all threads busy, few enough to bound the memory.
const WINDOW_WEIGHTS: usize = 1 << 24;

/// Told how far the work is, and asked whether to go on.
pub trait Progress: Sync {
    /// Work of `total` bytes begins.
    fn begin(&self, what: &str, total: u64) {
        let _ = (what, total);
    }

    /// `bytes` more are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether to stop: the call then fails with `Interrupted` and leaves nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Does `work` while a second thread gives the memory of the mapped checkpoints back, again and again.
///
/// Mapped pages count as the program's memory until they are given back, and a single tensor can have gigabytes.
/// What is still in use comes back from the system's cache at once, so that no stage has to tell what it is done with.
fn with_bounded_memory<T>(checkpoints: &[&Checkpoint], work: impl FnOnce() -> T) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    let (done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let release = move || {
            while wait.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                checkpoints.iter().for_each(|checkpoint| checkpoint.release());
            }
        };
        // Without the thread the work is the same, it only takes more memory.
        let _ = thread::Builder::new().spawn_scoped(scope, release);
        let result = work();
        drop(done);
        result
    })
}

/// Reports nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}

/// Cuts `items` into runs of about a window of weights each (at least one item).
fn windows<T>(items: &[T], weights: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (i, item) in items.iter().enumerate() {
        let n = weights(item);
        if i > start && sum + n > WINDOW_WEIGHTS {
            runs.extend(items.get(start..i));
            (start, sum) = (i, 0);
        }
        sum += n;
    }
    runs.extend(items.get(start..).filter(|rest| !rest.is_empty()));
    runs
}

/// Fails if the work is to stop.
fn check_cancelled(progress: &dyn Progress) -> Result<()> {
    match progress.cancelled() {
        false => Ok(()),
        true => Err(Error::new(ErrorKind::Interrupted, "stopped; nothing was written")),
    }
}

/// The layout with all tensors in one file of the name of `output`.
fn one_file(mut layout: Layout, output: &Path) -> Result<Layout> {
    let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match layout.shards.as_mut_slice() {
        [shard] => shard.file = name,
        shards => {
            return Err(Error::invalid(format!(
                "the fine-tuned model has {} files: give a folder as the output",
                shards.len()
            )));
        }
    }
    Ok(layout)
}
