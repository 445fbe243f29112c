//! What systemd, the bus and polkit answer, in the words of the trait.

use super::bus::BusError;
use super::properties::Properties;
use crate::controller::{ControllerError, Scope};

/// A unit that is masked, or whose file is gone while it runs, can still be stopped.
pub(super) fn refuse_unusable(unit: &Properties, label: &str) -> Result<(), ControllerError> {
    let runs = unit.text("ActiveState").is_some_and(|state| state != "inactive");
    let service = label.to_owned();
    match unit.text("LoadState") {
        Some("not-found") if !runs => {
            Err(ControllerError::NotFound { service, reason: "systemd finds no unit of this name".to_owned() })
        }
        Some(bad @ ("bad-setting" | "error")) if !runs => Err(ControllerError::Failed {
            action: "load",
            service,
            reason: format!("its unit file is not usable ({bad}); `systemd-analyze verify` says where"),
        }),
        _ => Ok(()),
    }
}

pub(super) fn label_of(name: &str, scope: Scope) -> String {
    match scope {
        Scope::System => format!("unit {name}"),
        Scope::User => format!("user unit {name}"),
    }
}

fn manager_of(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "systemd on the system bus",
        Scope::User => "systemd on the user's bus",
    }
}

pub(super) fn failed(action: &'static str, service: &str, scope: Scope, error: BusError) -> ControllerError {
    let service = service.to_owned();
    match error {
        BusError::Unreachable(reason) => ControllerError::Unreachable { manager: manager_of(scope).to_owned(), reason },
        BusError::Malformed(_) => ControllerError::Failed { action, service, reason: error.to_string() },
        BusError::Refused { name, message } => {
            let reason = if message.is_empty() { name.clone() } else { message };
            match name.rsplit('.').next().unwrap_or_default() {
                "NoSuchUnit" | "UnknownObject" => ControllerError::NotFound { service, reason },
                "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => {
                    ControllerError::Permission { action, service, reason }
                }
                "UnitMasked" => ControllerError::Unsafe {
                    action,
                    service,
                    reason: format!(
                        "{reason}: somebody made sure that it does not start; `systemctl unmask` undoes it"
                    ),
                },
                "InvalidArgs" => ControllerError::Invalid { service, reason },
                _ => ControllerError::Failed { action, service, reason },
            }
        }
    }
}

pub(super) fn job_result_for_people(result: &str) -> &str {
    match result {
        "assert" => "an assertion of the unit is not met (a hold, or its own AssertPathExists= and the like)",
        "dependency" => "a unit that it requires did not start",
        "failed" => "it failed",
        "timeout" => "it timed out",
        "skipped" => "its conditions are not met",
        other => other,
    }
}
