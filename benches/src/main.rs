//! svckit measured side by side with what a user would pick instead; see `RESULTS.md` for the last figures.
//!
//! `cargo run --release -p svckit-benches -- all` measures everything; the programs must have been built before
//! (`cargo build --release`). Nothing here is a test: no figure fails anything.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program

mod actors;
mod args;
mod bench;
mod data;
mod environment;
mod measures;
mod report;
mod samples;
mod service;
mod tools;

use std::process::ExitCode;

/// Whatever keeps a measurement from being made; the person who runs it reads it.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match args::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("svckit-benches: {error}");
            ExitCode::FAILURE
        }
    }
}
