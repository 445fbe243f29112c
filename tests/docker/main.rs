//! Containers of a real Docker engine: stopped without a kill, held, and back with the policy that they had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod defects;
mod failures;
mod groups;
mod labelled;
mod machine;
mod proxy;
mod servers;
mod stops;
mod tls;
mod trials;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::{INSIDE, STORIES, trial};

use svckit_testbed::docker::Engine;

/// One engine for all stories that don't break it; ended with the last of them.
static SHARED: Mutex<Option<&'static Engine>> = Mutex::new(None);

/// The engine of the stories that don't break it.
pub(crate) fn shared() -> &'static Engine {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Box::leak(Box::new(Engine::start())))
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let elsewhere = std::env::var(STORIES).is_ok_and(|value| value == "elsewhere");
    let inside = std::env::var_os(INSIDE).is_some();
    let is_asked = std::env::var("SVCKIT_CONTAINERS").is_ok_and(|value| value == "run");
    let mut stories =
        [stops::STORIES, labelled::STORIES, proxy::STORIES, failures::STORIES, tls::STORIES, trials::STORIES].concat();
    stories.extend(defects::STORIES);
    stories.extend(groups::STORIES);
    stories.extend(servers::stories());
    let trials: Vec<Trial> = match (inside, elsewhere) {
        (true, _) => machine::STORIES.iter().map(|story| trial(*story, true)).collect(),
        (false, true) => Vec::new(),
        (false, false) => stories.iter().map(|story| trial(*story, is_asked)).collect(),
    };
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    if let Some(engine) = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        engine.end();
    }
    code
}
