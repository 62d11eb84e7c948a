//! The extension module `delta_dct._delta_dct`: what the Python code of the package builds on.
//!
//! | place | what |
//! |---|---|
//! | `checkpoint.rs`, `archive.rs` | the classes: a checkpoint, an open `.ddct` file |
//! | `compress.rs` | a pair of checkpoints to a file |
//! | `buffers.rs` | tensors straight into memory that Python owns |
//! | `work.rs` | threads that work without the interpreter's lock; progress, Ctrl-C |
//! | `error.rs` | errors by kind to exception classes |
//!
//! Reports cross the border as JSON, with the field names of the library.

mod archive;
mod buffers;
mod checkpoint;
mod compress;
mod error;
mod work;

/// Codec, command, and classes of the package.
#[pyo3::pymodule]
mod _delta_dct {
    use std::io::Write;

    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::archive::Archive;
    #[pymodule_export]
    use crate::checkpoint::Checkpoint;
    #[pymodule_export]
    use crate::compress::compress;

    /// All methods: name, paper, summary, plan.
    #[pyfunction]
    fn methods() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
        delta_dct::METHODS.iter().map(|row| (row.name, row.paper, row.summary, row.plan)).collect()
    }

    /// Runs the command `delta-dct` with these arguments (the program's name first); gives its exit code.
    #[pyfunction]
    fn run_command(py: Python<'_>, arguments: Vec<String>) -> u8 {
        py.detach(|| {
            let code = delta_dct_cli::run(arguments);
            // The interpreter flushes its own streams only.
            let _ = std::io::stdout().flush();
            code
        })
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
