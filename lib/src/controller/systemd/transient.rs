//! Commands of our own as transient units: they live outside our process, and outside the session that started it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use zbus::{OwnedObjectPath, Variant};

use super::bus::{self, Bus, MANAGER, MANAGER_PATH};
use super::watch::Watch;
use super::{failed, label_of, name};
use crate::controller::{ControllerError, Scope};

/// For the command to be executed (Type=exec), not for it to end.
const START_MAX: Duration = Duration::from_secs(30);

/// Whether a systemd manager of that scope answers. Bounded to a few seconds.
#[must_use]
pub fn is_available(scope: Scope) -> bool {
    Bus::connect(scope).and_then(|bus| bus.property(MANAGER_PATH, MANAGER, "Version")).is_ok()
}

/// Starts `argv` as the transient service `name`, and returns once it is executed. The unit is gone when the command
/// has ended, whatever its status.
///
/// # Errors
/// [`ControllerError::Invalid`] where an argument is no UTF-8 (D-Bus carries nothing else) or the program's path is
/// not absolute; [`ControllerError::Failed`] when a unit of that name exists, or the command can't be executed.
pub fn start_transient(name: &str, scope: Scope, argv: &[PathBuf], description: &str) -> Result<(), ControllerError> {
    const ACTION: &str = "start";
    let invalid = |reason: String| ControllerError::Invalid { service: label_of(name, scope), reason };
    let name = name::full_name(name).map_err(invalid)?;
    let label = label_of(&name, scope);
    let words: Option<Vec<String>> = argv.iter().map(|word| word.to_str().map(literal)).collect();
    let words = words.ok_or_else(|| invalid("an argument is not UTF-8".to_owned()))?;
    let Some(program) = argv.first().filter(|program| program.is_absolute()).and_then(|program| program.to_str())
    else {
        return Err(invalid("the program's path is not absolute".to_owned()));
    };
    let command = vec![(program.to_owned(), words, false)];
    let properties: Vec<(&str, Variant<'static>)> = vec![
        ("Description", Variant::from(description.to_owned())),
        ("Type", Variant::from("exec")),
        ("ExecStart", Variant::new(command)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    let auxiliary: Vec<(String, Vec<(String, Variant<'static>)>)> = Vec::new();
    let context = |error| failed(ACTION, &label, scope, error);
    let bus = Bus::connect(scope).map_err(context)?;
    let watch = Watch::start(&bus).map_err(context)?;
    let answer = bus.manager("StartTransientUnit", (name, "fail", properties, auxiliary));
    let job = answer.and_then(|message| bus::parsed::<OwnedObjectPath>(&message)).map_err(context)?;
    match watch.wait_job(&job, Instant::now() + START_MAX) {
        Ok(result) if result == "done" => Ok(()),
        Ok(result) => Err(ControllerError::Failed {
            action: ACTION,
            service: label,
            reason: format!("{program} was not executed (its job ended as {result})"),
        }),
        Err(error) => Err(context(error)),
    }
}

/// systemd expands `$NAME` in arguments, also in those that come over D-Bus.
fn literal(word: &str) -> String {
    word.replace('$', "$$")
}
