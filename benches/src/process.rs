//! What Linux says of this process: processor time, and resident memory, mapped pages of files included.

use std::fs;

/// Largest resident memory since the start or the last [`reset_peak`], in bytes; `None` where the system does not say.
pub fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Processor time of all threads so far, in seconds; 0 where the system does not say.
pub fn cpu_seconds() -> f64 {
    // The kernel counts in ticks of 1/100 s towards programs, on every architecture.
    const TICKS: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the program's name in parentheses; user and system time are the 14th and 15th of all.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// Begins a new measurement of [`peak_resident`]; does nothing where the system has no such thing.
pub fn reset_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}
