//! What is shown while a program works: a line with a bar, on a terminal only.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use svckit::progress::{Observer, Silent};

/// The observer that suits standard error and what the person asked for.
#[must_use]
pub fn observer(quiet: bool) -> Arc<dyn Observer> {
    if quiet {
        return Arc::new(Silent);
    }
    if std::io::stderr().is_terminal() { Arc::new(Bar::new()) } else { Arc::new(Notices) }
}

/// For several at once: a bar would jump between them.
#[must_use]
pub fn of_many(quiet: bool) -> Arc<dyn Observer> {
    if quiet { Arc::new(Silent) } else { Arc::new(Notices) }
}

/// Where nobody watches, only what a log should have.
struct Notices;

impl Observer for Notices {
    fn notice(&self, what: &str) {
        tracing::warn!("{what}");
    }
}

struct Bar {
    bar: ProgressBar,
    of_bytes: Option<ProgressStyle>,
    of_steps: Option<ProgressStyle>,
}

impl Bar {
    fn new() -> Self {
        let bar = Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8)),
            of_bytes: ProgressStyle::with_template("{msg}  {bar:24} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}")
                .ok(),
            of_steps: ProgressStyle::with_template("{msg}  {elapsed}").ok(),
        };
        // Else the first line that is drawn is indicatif's own, as wide as the terminal.
        bar.style(bar.of_steps.as_ref());
        bar
    }

    fn style(&self, style: Option<&ProgressStyle>) {
        if let Some(style) = style {
            self.bar.set_style(style.clone());
        }
    }
}

impl Observer for Bar {
    fn step(&self, what: &str) {
        self.bar.reset();
        self.bar.unset_length();
        self.style(self.of_steps.as_ref());
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    fn bytes(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.style(self.of_bytes.as_ref());
        }
        self.bar.set_position(done);
    }

    fn notice(&self, what: &str) {
        self.bar.suspend(|| tracing::warn!("{what}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
