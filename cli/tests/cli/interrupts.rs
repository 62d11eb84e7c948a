//! Signals: exit code 130, and no trace of the run.
#![cfg(unix)]

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::run::{Run, command, files, write_pair};

#[test]
fn a_signal_ends_a_run_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), 40, 512, 1);
    let before = files(dir.path());
    for signal in ["-INT", "-TERM"] {
        let line = "compress -b base -f ft -o X.ddct --method lowrank --rank 64 --threads 1";
        let mut child = command(dir.path())
            .args(line.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "the run was too short to be interrupted");
        let start = Instant::now();
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(130), "{}", run.stderr);
        assert!(run.stderr.starts_with("delta-dct: error: "), "{}", run.stderr);
        assert!(start.elapsed() < Duration::from_secs(20));
        assert!(files(dir.path()) == before, "{signal} left files behind");
    }
}
