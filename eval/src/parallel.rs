//! Work on many small pieces at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use delta_dct::Error;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Result;

/// Threads that each do whole pieces of work.
///
/// Parallel loops inside a piece stay on its thread: one piece per thread is faster than many threads on one piece, and
/// no thread puts a piece aside for a part of another.
pub(crate) struct Workers(Vec<ThreadPool>);

impl Workers {
    /// As many as there are threads for parallel work, but no more than `pieces` (at least one).
    pub(crate) fn new(pieces: usize) -> Result<Self> {
        let count = rayon::current_num_threads().min(pieces).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..count).map(pool).collect::<std::result::Result<_, _>>();
        Ok(Self(pools.map_err(|e| Error::limit(format!("cannot start {count} threads: {e}")))?))
    }

    /// What `work` gives for each item, in the order of the items. Stops at the first error.
    pub(crate) fn map<I: Sync, T: Send>(
        &self,
        items: &[I],
        work: impl Fn(&I) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done = Mutex::new(Vec::with_capacity(items.len()));
        let run = || {
            while let Some((i, item)) = take(items, &next).filter(|_| !failed.load(Ordering::Relaxed)) {
                let result = work(item);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                done.lock().unwrap_or_else(|e| e.into_inner()).push((i, result));
            }
        };
        let run = &run;
        thread::scope(|scope| {
            for pool in &self.0 {
                scope.spawn(move || pool.install(run));
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
        done.sort_by_key(|(i, _)| *i);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

fn take<'a, I>(items: &'a [I], next: &AtomicUsize) -> Option<(usize, &'a I)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    items.get(i).map(|item| (i, item))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn results_keep_their_order() {
        let items: Vec<u64> = (0..200).collect();
        let workers = Workers::new(items.len()).unwrap();
        let uneven = |&i: &u64| {
            thread::sleep(std::time::Duration::from_micros(i * 37 % 101));
            Ok(i * i)
        };
        assert_eq!(workers.map(&items, uneven).unwrap(), items.iter().map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_the_work() {
        let items: Vec<usize> = (0..1000).collect();
        let (workers, calls) = (Workers::new(2).unwrap(), AtomicUsize::new(0));
        let failing = |&i: &usize| {
            calls.fetch_add(1, Ordering::Relaxed);
            thread::sleep(std::time::Duration::from_micros(100));
            if i == 5 { Err(Error::invalid("five").into()) } else { Ok(()) }
        };
        assert!(workers.map(&items, failing).unwrap_err().to_string().contains("five"));
        assert!(calls.into_inner() < 100);
    }
}
