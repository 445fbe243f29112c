//! A tool that stops a service, replaces its binary, and starts it again: nothing else may touch the service
//! meanwhile, and whatever happens to this tool, the service comes back.
//!
//! Run it with `cargo run --example replace_binary`: it makes a service of its own in a temporary directory.
#![allow(clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use svckit::controller::process::CommandService;
use svckit::controller::{CommandLine, ServiceController};
use svckit::lock::{Holder, LockRules, OperationLock, Wait};
use svckit::progress::{Cancel, Silent};
use svckit::quiesce::{Context, StopPlan, StopPolicy, quiesce, start_service};
use svckit::world::{StateDirs, disk};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match &arguments[..] {
        // The guard is this very program: it brings the service back if the tool dies.
        [mode, root, owner, entry] if mode == Path::new("guard") => {
            let context = context(root)?;
            svckit::operation::guard(&context, &owner.to_string_lossy(), entry, || println!("waiting"))?;
            Ok(())
        }
        _ => demonstrate(),
    }
}

fn context(root: &Path) -> Outcome<Context> {
    Ok(Context {
        dirs: StateDirs::below(root.join("svckit")),
        locks: LockRules::default(),
        guard_argv: vec![std::env::current_exe()?, "guard".into(), root.to_owned()],
        cancel: Cancel::new()?,
        observer: Arc::new(Silent),
    })
}

fn demonstrate() -> Outcome<()> {
    let root = tempfile::tempdir()?;
    let binary = root.path().join("service");
    disk::write_durably(&binary, b"#!/bin/sh\necho old\nexec tail -f /dev/null\n", 0o700)?;
    let command = CommandLine::new([&binary]);
    let service = CommandService::open("example".parse()?, command, &root.path().join("records"))?;
    start_service(&service, &["log:^old".parse()?])?;
    println!("before: {}", service.state()?.detail);

    replace_binary(&context(root.path())?, &service, &binary, b"#!/bin/sh\necho new\nexec tail -f /dev/null\n")?;

    println!("after: {}, logged {:?}", service.state()?.detail, service.log_since_start(1)?);
    service.request_stop()?;
    Ok(())
}

/// The story: lock, stop and hold, replace, start, wait until it is ready.
fn replace_binary(context: &Context, service: &dyn ServiceController, binary: &Path, new: &[u8]) -> Outcome<()> {
    let holder = Holder::own("upgrade", &service.label())?;
    let keys = service.lock_keys()?;
    let lock = OperationLock::acquire(&context.dirs.lock, &context.locks, &keys, &holder, Wait::No, &context.cancel)?;
    let ready = ["log:^new;timeout=20s".parse()?];
    let plan = StopPlan {
        operation: "upgrade",
        databases: &[],
        policy: &StopPolicy::default(),
        ready: &ready,
        persistent_hold: false,
        stays_stopped: false,
    };
    let stopped = quiesce(&lock, context, service, &plan)?;
    println!("stopped: {:?}", stopped.outcome());
    let replaced = disk::write_durably(binary, new, 0o700);
    // Always attempted, before the result of the work is looked at.
    stopped.resume()?;
    Ok(replaced?)
}
