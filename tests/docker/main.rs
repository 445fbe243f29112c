//! Containers of a real Docker engine: stopped without a kill, held, and back with the policy that they had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod engine;
mod failures;
mod labelled;
mod proxy;
mod servers;
mod stops;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::{INSIDE, STORIES, trial};

use engine::Engine;

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
    let mut stories = [stops::STORIES, labelled::STORIES, proxy::STORIES, failures::STORIES].concat();
    stories.extend(servers::stories());
    let trials: Vec<Trial> = match elsewhere || inside {
        true => Vec::new(),
        false => stories.iter().map(|story| trial(*story, is_asked)).collect(),
    };
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    if let Some(engine) = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        engine.end();
    }
    code
}
