//! What is locked. Names and databases are keys as they stand; which key a service has is known to whoever manages it.
//!
//! Systemd, an engine and the configuration are asked by `svc-ctl lock-keys`, so that the code for them is not loaded and
//! relocated with each `svc-lock run --name`: that was more than half of such a run's time.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use svckit::FailureKind;
use svckit::lock::LockKey;

use crate::app::App;
use crate::cli::ServiceFlags;
use crate::cli::lock::Which;
use crate::error::ToolError;
use crate::exit::{ALL, Outcome};
use crate::{dirs, service};

/// What `svc-ctl lock-keys` prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Keys(Vec<LockKey>),
    /// As `svc-lock` would have failed itself.
    Failure {
        error: String,
        hint: Option<String>,
        exit: u8,
    },
}

/// The locks of everything that was named.
pub(super) fn keys(app: &App, which: &Which) -> Result<Vec<LockKey>, ToolError> {
    let mut keys: Vec<LockKey> = which.name.iter().map(|name| LockKey::named(name)).collect();
    for path in &which.database {
        keys.push(LockKey::database(&service::absolute(path)?)?);
    }
    let services = services(which);
    if !services.is_empty() {
        keys.extend(asked(app, services)?);
    }
    Ok(keys)
}

/// The options that name services, each in one word: a value may begin with a dash.
fn services(which: &Which) -> Vec<OsString> {
    let option = |name: &str, value: &OsStr| {
        let mut word = OsString::from(name);
        word.push(value);
        word
    };
    let named = |name: &'static str, values: &[String]| {
        values.iter().map(|value| option(name, value.as_ref())).collect::<Vec<_>>()
    };
    let mut words = named("--unit=", &which.unit);
    words.extend(named("--user-unit=", &which.user_unit));
    words.extend(named("--container=", &which.container));
    words.extend(which.pid_file.iter().map(|path| option("--pid-file=", path.as_ref())));
    words.extend(named("--service=", &which.service));
    words
}

/// Asks the `svc-ctl` that lies beside us. It has bounds of its own for everything that it asks.
fn asked(app: &App, services: Vec<OsString>) -> Result<Vec<LockKey>, ToolError> {
    let own = std::env::current_exe().map_err(ToolError::io("find", "the program that runs"))?;
    let program = own.with_file_name("svc-ctl");
    let mut command = Command::new(&program);
    command.arg("lock-keys").args(services).stdin(Stdio::null()).stderr(Stdio::inherit());
    if let Some(config) = &app.config {
        command.arg("--config").arg(config);
    }
    if let Some(word) = app.verbosity() {
        command.arg(word);
    }
    let output = command.output().map_err(ToolError::io("run", program.clone()))?;
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Keys(keys)) if output.status.success() => Ok(keys),
        Ok(Answer::Failure { error, hint, exit }) => {
            let kind = ALL.iter().find_map(|outcome| match outcome {
                Outcome::Failed(kind) if outcome.code() == exit => Some(*kind),
                _ => None,
            });
            Err(ToolError::Other { what: error, kind: kind.unwrap_or(FailureKind::Failed), hint })
        }
        _ => Err(ToolError::Other {
            what: format!("{} could not say what is to be locked: it ended with {}", program.display(), output.status),
            kind: FailureKind::Failed,
            hint: Some("svc-lock and svc-ctl belong together: install both from one release".to_owned()),
        }),
    }
}

/// `svc-ctl lock-keys`: the locks of the services that were named, on standard output. What fails is for `svc-lock` to
/// tell, and is no failure here.
///
/// # Errors
/// When standard output can't be written to.
pub fn print(app: &App, which: &Which) -> Result<Outcome, ToolError> {
    let answer = match of_services(app, which) {
        Ok(keys) => Answer::Keys(keys),
        Err(error) => Answer::Failure {
            error: svckit::failure::with_causes(error.to_string(), error.cause()),
            hint: error.hint(),
            exit: Outcome::Failed(error.kind()).code(),
        },
    };
    let text = serde_json::to_string(&answer).map_err(|error| ToolError::io("write", "the locks")(error.into()));
    app.output.text(&format!("{}\n", text?))?;
    Ok(Outcome::Done)
}

fn of_services(app: &App, which: &Which) -> Result<Vec<LockKey>, ToolError> {
    let dirs = dirs::state()?;
    let none = ServiceFlags::default;
    let mut services: Vec<ServiceFlags> = Vec::new();
    services.extend(which.unit.iter().map(|unit| ServiceFlags { unit: Some(unit.clone()), ..none() }));
    services.extend(which.user_unit.iter().map(|unit| ServiceFlags { user_unit: Some(unit.clone()), ..none() }));
    services.extend(which.container.iter().map(|name| ServiceFlags { container: Some(name.clone()), ..none() }));
    services.extend(which.pid_file.iter().map(|path| ServiceFlags { pid_file: Some(path.clone()), ..none() }));
    services.extend(which.service.iter().map(|name| ServiceFlags { service_name: Some(name.clone()), ..none() }));
    let discovery = dirs::discovery(app.config.as_deref())?;
    let mut keys = Vec::new();
    for flags in &services {
        let (controller, target) = service::of_flags(flags, &discovery, &dirs)?;
        if let Some(controller) = controller {
            keys.extend(controller.lock_keys()?);
        }
        for database in target.iter().flat_map(|target| &target.sqlite) {
            keys.push(LockKey::database(database)?);
        }
    }
    Ok(keys)
}
