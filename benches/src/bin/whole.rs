//! Times compress and apply on a pair on disk, beside a plain read and a plain copy of the same files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Parser;
use delta_dct::{Archive, Checkpoint, CompressOptions, Recipe, Result, Selection, Silent, compress};
use delta_dct_benches::{cpu_seconds, peak_resident, reset_peak};

/// Bytes of a read.
const BUFFER: usize = 4 << 20;

/// Compress and apply a pair in this process and print seconds, MB/s and peak resident memory of each phase.
#[derive(Parser)]
struct Options {
    /// Base model: a folder of safetensors files
    #[arg(long)]
    base: PathBuf,
    /// Fine-tuned model: a folder of safetensors files
    #[arg(long)]
    finetuned: PathBuf,
    /// Method and its options in text form; several are run one after the other
    #[arg(long, default_value = "dct block=32 bits=2:0.5,0:0.5")]
    method: Vec<String>,
    /// Threads; all cores if 0
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Runs of each phase, of which the fastest counts
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Drop the files from the page cache before each run, so that they come from the disk (needs GNU dd)
    #[arg(long)]
    cold: bool,
    /// Leave the plain copy and apply out: nothing large is written
    #[arg(long)]
    no_write: bool,
    /// Folder for what is written, on the disk that is measured; it is emptied again
    #[arg(long, default_value = ".")]
    scratch: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|e| delta_dct::Error::invalid(format!("{} threads: {e}", options.threads)))?;
    pool.install(|| run(&options))
}

fn run(options: &Options) -> Result<()> {
    let (base, finetuned) = (weight_files(&options.base)?, weight_files(&options.finetuned)?);
    let both = [&base[..], &finetuned[..]].concat();
    let bench = Bench { options, both: &both };
    println!(
        "{} threads, {} MB + {} MB",
        rayon::current_num_threads(),
        size(&base)? / 1_000_000,
        size(&finetuned)? / 1_000_000
    );
    println!("{:44} {:>8} {:>8} {:>7} {:>8}", "phase", "seconds", "cpu", "MB/s", "peak MiB");
    bench.phase("read both", size(&both)?, || read(&both))?;
    if !options.no_write {
        let copy = options.scratch.join("whole-copy");
        bench.phase("copy finetuned, sync", size(&finetuned)?, || copy_synced(&finetuned, &copy))?;
        fs::remove_file(&copy).map_err(|e| delta_dct::Error::io("remove", &copy, e))?;
    }
    for method in &options.method {
        bench.method(method, size(&base)?)?;
    }
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    both: &'a [PathBuf],
}

impl Bench<'_> {
    fn method(&self, method: &str, base_bytes: u64) -> Result<()> {
        let options = self.options;
        let recipe: Recipe = method.parse()?;
        let file = options.scratch.join("whole.ddct");
        let both_bytes = size(self.both)?;
        let mut told = String::new();
        self.phase(&format!("compress {method}"), both_bytes, || {
            let (base, finetuned) = (Checkpoint::open(&options.base)?, Checkpoint::open(&options.finetuned)?);
            let wishes = CompressOptions {
                selection: Selection::new(recipe.clone())?,
                force_unrelated: false,
                overwrite: true,
                dry_run: false,
            };
            let summary = compress(&base, &finetuned, &file, &wishes, &Silent)?;
            let ratio = summary.finetuned_bytes as f64 / summary.output_bytes as f64;
            let bits = summary.output_bytes as f64 * 8.0 / summary.weights as f64;
            told = format!("  {} bytes, ratio {ratio:.1}, {bits:.3} bits per weight", summary.output_bytes);
            Ok(())
        })?;
        println!("{told}");
        self.phase(&format!("verify {method}"), base_bytes, || {
            Archive::open(&file)?.verify(Some(&Checkpoint::open(&options.base)?), &Silent).map(|_| ())
        })?;
        if !options.no_write {
            let out = options.scratch.join("whole-applied");
            self.phase(&format!("apply {method}"), base_bytes, || {
                Archive::open(&file)?
                    .apply(&Checkpoint::open(&options.base)?, &out, true, &Silent)
                    .map(|_| ())
            })?;
            fs::remove_dir_all(&out).map_err(|e| delta_dct::Error::io("remove", &out, e))?;
        }
        fs::remove_file(&file).map_err(|e| delta_dct::Error::io("remove", &file, e))
    }

    /// Runs `work`, which reads `bytes`, and prints its least times (by the clock, and of all processors) and its largest memory.
    fn phase(&self, name: &str, bytes: u64, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        let (mut best, mut cpu, mut peak) = (f64::INFINITY, f64::INFINITY, 0);
        for _ in 0..self.options.repeat.max(1) {
            if self.options.cold {
                self.both.iter().try_for_each(|file| drop_from_cache(file))?;
            }
            reset_peak();
            let (start, cpu_start) = (Instant::now(), cpu_seconds());
            work()?;
            cpu = cpu.min(cpu_seconds() - cpu_start);
            best = best.min(start.elapsed().as_secs_f64());
            peak = peak.max(peak_resident().unwrap_or(0));
        }
        println!("{name:44} {best:8.2} {cpu:8.2} {:7.0} {:8}", bytes as f64 / 1e6 / best, peak >> 20);
        Ok(())
    }
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e| delta_dct::Error::io("list", folder, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn size(files: &[PathBuf]) -> Result<u64> {
    let len = |file: &PathBuf| {
        fs::metadata(file).map(|about| about.len()).map_err(|e| delta_dct::Error::io("open", file, e))
    };
    files.iter().map(len).sum()
}

/// Reads every byte once, in order.
fn read(files: &[PathBuf]) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    for path in files {
        let mut read_one = || {
            let mut file = File::open(path)?;
            while file.read(&mut buffer)? > 0 {}
            Ok(())
        };
        read_one().map_err(|e| delta_dct::Error::io("read", path, e))?;
    }
    Ok(())
}

/// All files, one after the other, in one new file.
fn copy_synced(files: &[PathBuf], to: &Path) -> Result<()> {
    let write = || {
        let mut out = File::create(to)?;
        for path in files {
            io::copy(&mut File::open(path)?, &mut out)?;
        }
        out.sync_all()
    };
    write().map_err(|e| delta_dct::Error::io("write", to, e))
}

/// Asks the system to forget what it holds of `file`.
fn drop_from_cache(file: &Path) -> Result<()> {
    let done = Command::new("dd")
        .arg(format!("if={}", file.display()))
        .args(["iflag=nocache", "count=0", "status=none"])
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(delta_dct::Error::invalid(format!("dd failed: {status}"))),
        Err(e) => Err(delta_dct::Error::io("drop from the cache", file, e)),
    }
}
