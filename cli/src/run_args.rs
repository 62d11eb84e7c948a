//! Options that several subcommands share.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct::{Archive, Error, ErrorKind, Result};
use serde::Serialize;

use crate::failure::{Advise, Outcome};
use crate::place;

/// The file that a command reads.
#[derive(Args)]
pub(crate) struct FileArgs {
    /// The .ddct file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where the first layer of FILE is, if FILE is an enhancement (`compress --layers`) [default: beside it]
    #[arg(long, value_name = "FILE")]
    layer: Option<PathBuf>,
}

impl FileArgs {
    /// Opens the file. Errors: those of [`Archive::open_with_layer`].
    pub(crate) fn open(&self, quiet: bool) -> Outcome<Archive> {
        const WRONG_LAYER: &str = "the two files of one `compress --layers` belong together";
        let file = place::local(&self.file, quiet)?;
        let layer = self.layer.as_deref().map(|layer| place::local(layer, quiet)).transpose()?;
        Archive::open_with_layer(&file, layer.as_deref()).advise(ErrorKind::Mismatch, WRONG_LAYER)
    }
}

/// What is said, and how.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ReportArgs {
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Print errors only (and JSON, if asked for)
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl ReportArgs {
    /// Prints `value` as JSON if asked for; otherwise what `text` writes, unless quiet.
    pub(crate) fn print<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Outcome {
        let mut out = io::BufWriter::new(io::stdout().lock());
        if self.json {
            serde_json::to_writer_pretty(&mut out, value)?;
            writeln!(out)?;
        } else if !self.quiet {
            text(&mut out)?;
        }
        Ok(out.flush()?)
    }
}

/// How the work is done.
#[derive(Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct WorkArgs {
    /// Worker threads [default: one per core]. The result does not depend on it
    #[arg(short = 'T', long, value_name = "N")]
    threads: Option<usize>,
}

impl WorkArgs {
    /// Starts the worker threads.
    pub(crate) fn start(&self) -> Result<()> {
        self.threads.map_or(Ok(()), start_threads)
    }
}

/// Starts `threads` worker threads; to be called once.
pub(crate) fn start_threads(threads: usize) -> Result<()> {
    if threads == 0 {
        return Err(Error::invalid("--threads must be at least 1"));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::invalid(format!("--threads {threads}: {e}")))
}
