//! Programs that a user has, run and waited for.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use svckit_testbed::docker::Engine;

use crate::Outcome;

/// Runs a program to its end; its output is in the error where it fails. The answer is how long it took.
pub(crate) fn timed(command: &mut Command) -> Outcome<Duration> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let took = began.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        return Err(format!("{command:?} ended with {}: {said}", output.status).into());
    }
    Ok(took)
}

/// A script of the shell, with its arguments as `$1`, `$2`...
pub(crate) fn shell(script: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", script, "sh"]).args(arguments);
    command
}

/// A Docker engine of its own, as the tests have it; ended when it is dropped.
pub(crate) fn engine() -> Outcome<Engine> {
    if !rustix::process::geteuid().is_root() {
        return Err("a Docker engine of its own needs root".into());
    }
    for program in ["dockerd", "docker"] {
        if said(program, "--version").is_empty() {
            return Err(format!("{program} is missing (apt-get install docker.io)").into());
        }
    }
    Ok(Engine::start())
}

/// The first word that a program says, `?` where it is not there.
pub(crate) fn first_word(program: &str, argument: &str) -> String {
    said(program, argument).split_whitespace().next().unwrap_or("?").to_owned()
}

/// The version of zstd(1).
pub(crate) fn zstd_version() -> String {
    let text = said("zstd", "--version");
    text.split_whitespace().find_map(|word| word.strip_prefix('v')).unwrap_or("?").trim_end_matches(',').to_owned()
}

/// Whether systemd runs this machine (sd_booted(3)).
pub(crate) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn said(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
