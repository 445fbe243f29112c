//! From flags and targets to a controller and the options of an operation.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use svckit::controller::{self, CommandLine, ContainerSpec, ControllerError, Scope, ServiceController, ServiceSpec};
use svckit::discover::{Discovery, ServiceRef, Target};
use svckit::lock::Wait;
use svckit::name::ServiceName;
use svckit::operation::ServiceOptions;
use svckit::quiesce::{LastResort, Rung, StopPolicy};
use svckit::ready::ReadyCheck;
use svckit::world::StateDirs;

use crate::app::callers_umask;
use crate::cli::{LastResortArg, ServiceFlags, StopFlags};
use crate::error::ToolError;

/// A controller that an operation can borrow.
pub type Controller = Box<dyn ServiceController>;

/// The service that flags name; the target where they name one of the configuration.
///
/// # Errors
/// When it does not exist, can't be reached, or is of a kind that this version does not support.
pub fn of_flags(
    flags: &ServiceFlags,
    discovery: &Discovery,
    dirs: &StateDirs,
) -> Result<(Option<Controller>, Option<Target>), ToolError> {
    if let Some(name) = &flags.service_name {
        let target = discovery.service(name)?;
        let controller = of_target(&target, dirs)?;
        let controller = controller.ok_or_else(|| {
            ToolError::usage(
                format!("{name} names no service"),
                format!("add to [target.{name}]: unit = \"NAME.service\", or pid-file, or command"),
            )
        })?;
        return Ok((Some(controller), Some(target)));
    }
    let unit = |name: &String, scope| ServiceSpec::Unit { name: name.clone(), scope };
    let spec = if let Some(name) = &flags.unit {
        unit(name, Scope::System)
    } else if let Some(name) = &flags.user_unit {
        unit(name, Scope::User)
    } else if let Some(path) = &flags.pid_file {
        let command = flags.start_command.as_deref().map(|line| command_line(line.as_bytes())).transpose()?;
        ServiceSpec::PidFile { path: absolute(path)?, command: command.map(started_by_us), seen: Vec::new() }
    } else if let Some(name) = &flags.container {
        ServiceSpec::Container(ContainerSpec::named(name.clone(), discovery.engine().clone()))
    } else {
        return Ok((None, None));
    };
    Ok((Some(controller::open(&spec)?), None))
}

/// The service of a target, if it has one.
///
/// # Errors
/// When it does not exist or can't be reached.
pub fn of_target(target: &Target, dirs: &StateDirs) -> Result<Option<Controller>, ToolError> {
    let Some(service) = &target.service else { return Ok(None) };
    let unit = |name: &String, scope| ServiceSpec::Unit { name: name.clone(), scope };
    let spec = match service {
        ServiceRef::Unit(name) => unit(name, Scope::System),
        ServiceRef::UserUnit(name) => unit(name, Scope::User),
        ServiceRef::FirstUnit(names) => return first_unit(names).map(Some),
        ServiceRef::PidFile(path, command) => {
            ServiceSpec::PidFile { path: path.clone(), command: command.clone().map(started_by_us), seen: Vec::new() }
        }
        ServiceRef::Container(container) => ServiceSpec::Container(container.clone()),
        ServiceRef::Command(command) => {
            let name: ServiceName = target.name.as_str().parse()?;
            ServiceSpec::Command {
                name,
                command: started_by_us(command.clone()),
                record_dir: dirs.runtime.join("commands"),
                seen: Vec::new(),
            }
        }
    };
    Ok(Some(controller::open(&spec)?))
}

fn first_unit(names: &[String]) -> Result<Controller, ToolError> {
    let mut last = None;
    for name in names {
        match controller::open(&ServiceSpec::Unit { name: name.clone(), scope: Scope::System }) {
            Err(error @ ControllerError::NotFound { .. }) => last = Some(error),
            other => return Ok(other?),
        }
    }
    Err(last.map_or_else(|| ToolError::usage("a profile names no unit", "name it with --unit"), ToolError::from))
}

/// The options of an operation: the flags, else what the target says, else the defaults.
///
/// # Errors
/// When a readiness check or a path can't be meant.
pub fn options(databases: &[PathBuf], stop: &StopFlags, target: Option<&Target>) -> Result<ServiceOptions, ToolError> {
    let mut policy = StopPolicy::default();
    let mut all = databases.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    let mut ready = stop.ready.clone();
    if let Some(target) = target {
        all.extend(target.sqlite.iter().filter(|path| !databases.contains(path)).cloned());
        let rung = |(signal, after): &(_, _)| Rung { signal: *signal, after: *after };
        policy.rungs = target.stop.signals.iter().map(rung).collect();
        policy.stop_wait_max = target.stop.timeout.unwrap_or(policy.stop_wait_max);
        if target.stop.fenced_kill == Some(true) {
            policy.last_resort = LastResort::FencedKill;
        }
        if ready.is_empty() {
            ready = target.ready.iter().map(|spec| spec.parse::<ReadyCheck>()).collect::<Result<_, _>>()?;
        }
    }
    policy.stop_wait_max = stop.stop_timeout.unwrap_or(policy.stop_wait_max);
    policy.write_extension_max = stop.write_wait.unwrap_or(policy.write_extension_max);
    match stop.last_resort {
        Some(LastResortArg::Never) => policy.last_resort = LastResort::Never,
        Some(LastResortArg::FencedKill) => policy.last_resort = LastResort::FencedKill,
        None => {}
    }
    Ok(ServiceOptions { databases: all, policy, ready, wait: stop.wait.map_or(Wait::No, Wait::AtMost) })
}

/// An absolute path, without following links.
///
/// # Errors
/// For an empty path, and when the working directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, ToolError> {
    std::path::absolute(path).map_err(ToolError::io("resolve", path))
}

/// Our own umask is narrow for our own files' sake.
fn started_by_us(command: CommandLine) -> CommandLine {
    CommandLine { umask: callers_umask(), ..command }
}

/// What means something to a shell only.
const OF_A_SHELL: [&[u8]; 9] = [b"&&", b"||", b"|", b"&", b";", b"<", b">", b">>", b"2>&1"];

/// The words of a line as a shell splits them; no shell runs. What needs one would fail when the service is to be started
/// again, so it is refused before anything is stopped.
fn command_line(line: &[u8]) -> Result<CommandLine, ToolError> {
    let words: Option<Vec<Vec<u8>>> = shlex::bytes::Shlex::new(line).map(Some).collect();
    let words = words.filter(|words| !words.is_empty() && !line.contains(&0));
    let words = words.ok_or_else(|| {
        ToolError::usage("--start-command is empty", "write it as --start-command '/usr/sbin/noted --daemon'")
    })?;
    let needs_shell = |what: &[u8]| {
        let what = String::from_utf8_lossy(what);
        let hint = "no shell runs it; where it needs one, write --start-command \"sh -c '...'\"";
        ToolError::usage(format!("--start-command has {what:?}, which only a shell knows"), hint)
    };
    let first = &words[0];
    let is_setting = first.iter().position(|byte| *byte == b'=').is_some_and(|at| !first[..at].contains(&b'/'));
    let of_shell = words.iter().find(|word| OF_A_SHELL.contains(&word.as_slice()) || word.ends_with(b";"));
    if let Some(word) = of_shell.or(is_setting.then_some(first)) {
        return Err(needs_shell(word));
    }
    if !first.contains(&b'/') && !is_in_path(std::ffi::OsStr::from_bytes(first)) {
        return Err(ToolError::usage(
            format!("--start-command begins with {:?}, which is no program in PATH", String::from_utf8_lossy(first)),
            "write its whole path; where it needs a shell, write --start-command \"sh -c '...'\"",
        ));
    }
    Ok(CommandLine::new(words.into_iter().map(std::ffi::OsString::from_vec)))
}

fn is_in_path(program: &std::ffi::OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
