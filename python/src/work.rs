//! Work without the interpreter's lock, while the thread that called waits for it: it reports the progress and looks
//! for Ctrl-C, because only it may run Python's signal handlers.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use delta_dct::{Error, ErrorKind, Progress};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;

use crate::error::exception;

/// How often progress and signals are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How far some work is, and whether it is to stop.
#[derive(Default)]
pub(crate) struct Watch {
    what: Mutex<String>,
    total: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
    finished: AtomicBool,
}

impl Progress for Watch {
    fn begin(&self, what: &str, total: u64) {
        what.clone_into(&mut self.what.lock().unwrap_or_else(PoisonError::into_inner));
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Waits for the end of the work; what `callback` or a signal handler raises makes it stop early.
    fn wait(&self, py: Python<'_>, callback: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut stopped = Ok(());
        while !self.finished.load(Ordering::Acquire) {
            py.detach(|| thread::park_timeout(TICK));
            if stopped.is_ok() {
                stopped = py.check_signals().and_then(|()| match self.report(callback)? {
                    true => Ok(()),
                    false => {
                        Err(exception(Error::new(ErrorKind::Interrupted, "stopped by the progress callback")))
                    }
                });
                self.cancelled.store(stopped.is_err(), Ordering::Relaxed);
            }
        }
        stopped
    }

    /// Calls `callback(what, done, total)`, once work has begun; gives whether to go on: unless it returned `False`.
    fn report(&self, callback: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let what = self.what.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(callback) = callback.filter(|_| !what.is_empty()) else { return Ok(true) };
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let answer = callback.call1((what, done, total))?;
        Ok(answer.extract::<bool>().unwrap_or(true))
    }
}

/// Says that the work has ended, even by a panic.
struct Finish<'a>(&'a Watch, Thread);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finished.store(true, Ordering::Release);
        self.1.unpark();
    }
}

/// Does `work` on the threads of the pool, without the interpreter's lock. `callback(what, done, total)` is called on
/// this thread, now and then and at the end.
///
/// Errors: those of `work` as exceptions; whatever the callback or a signal handler raises.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    callback: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Watch) -> delta_dct::Result<T> + Send,
) -> PyResult<T> {
    let pool = pool()?;
    let (watch, waiting) = (Watch::default(), thread::current());
    let mut outcome = None;
    pool.in_place_scope(|scope| {
        scope.spawn(|_| {
            let _finish = Finish(&watch, waiting);
            outcome = Some(work(&watch));
        });
        watch.wait(py, callback)
    })?;
    let nothing = || Err(Error::new(ErrorKind::Interrupted, "the work ended early"));
    let result = outcome.unwrap_or_else(nothing).map_err(exception)?;
    watch.report(callback)?;
    Ok(result)
}

/// Fails if the work is to stop.
pub(crate) fn check(watch: &Watch) -> delta_dct::Result<()> {
    if watch.cancelled() { Err(Error::new(ErrorKind::Interrupted, "stopped")) } else { Ok(()) }
}

/// The worker threads of this process: those of its parent do not survive a fork.
fn pool() -> PyResult<Arc<ThreadPool>> {
    static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let mut slot = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, pool)) = slot.as_ref()
        && *owner == process::id()
    {
        return Ok(pool.clone());
    }
    let refused = |e| exception(Error::new(ErrorKind::Io, format!("cannot start threads: {e}")));
    let pool = Arc::new(ThreadPoolBuilder::new().build().map_err(refused)?);
    // To let go of the parent's pool would be to wait for locks that its threads may have held.
    std::mem::forget(slot.replace((process::id(), pool.clone())));
    Ok(pool)
}

/// `report` as JSON.
pub(crate) fn json(report: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(report).map_err(|e| exception(Error::corrupt(format!("JSON: {e}"))))
}
