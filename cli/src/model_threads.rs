//! How the tensor library divides its work, which it reads from the environment before it begins.
//!
//! Models run on threads that each do whole batches. The library's own threads, which divide single operations, would
//! only stand in their way, waiting in a loop; and unless told it finds out the number of cores at every product.

use std::env;
use std::process::Command;
use std::thread::available_parallelism;

const OWN_THREADS: &str = "CANDLE_NUM_THREADS";
const THREADS: &str = "RAYON_NUM_THREADS";

/// Begins the program again, under the same number, with an environment that says so. Where that fails, or is not
/// possible, work goes on as before, only slower.
pub(crate) fn settle() {
    #[cfg(unix)]
    if let (None, Ok(program)) = (env::var_os(OWN_THREADS), env::current_exe()) {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.args(env::args_os().skip(1)).env(OWN_THREADS, "1");
        if let (None, Ok(threads)) = (env::var_os(THREADS), available_parallelism()) {
            command.env(THREADS, threads.to_string());
        }
        let _ = command.exec();
    }
}
