//! The progress bar: on stderr, only where that is a terminal, gone when the work is done.

use delta_dct::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt;

/// Of work that is counted in something else than bytes.
#[cfg(feature = "eval")]
const COUNTING: &str = "{msg:10} [{bar:32}] {human_pos}/{human_len} {per_sec} {eta}";
const TEMPLATE: &str =
    "{msg:10} [{bar:32}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";

/// Shows the library's progress, and passes on that the user wants to stop.
pub(crate) struct Bar {
    bar: ProgressBar,
    quiet: bool,
}

impl Bar {
    /// A bar that appears when the first work begins, or never if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self::with(quiet, TEMPLATE)
    }

    /// A bar of things that are not bytes: examples, runs, steps.
    #[cfg(feature = "eval")]
    pub(crate) fn counting(quiet: bool) -> Self {
        Self::with(quiet, COUNTING)
    }

    /// Says how the work goes, where the bar says what it is.
    #[cfg(feature = "eval")]
    pub(crate) fn say(&self, text: String) {
        self.bar.set_message(text);
    }

    fn with(quiet: bool, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        Self { bar: bar.with_style(style.progress_chars("=> ")), quiet }
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total_bytes: u64) {
        // Hidden while it changes: every single change would be drawn.
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        self.bar.reset();
        self.bar.set_length(total_bytes);
        self.bar.set_message(what.to_owned());
        if !self.quiet {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn cancelled(&self) -> bool {
        interrupt::requested()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
