//! Putting shield and hold on a unit and taking them off, with as few reloads as it takes: a reload runs every
//! generator of the host. The shield brings the hold's drop-in along, which says nothing until the hold's file exists,
//! and takes it away again.
//!
//! | drop-in of shield | drop-in of hold | file of hold | means |
//! |---|---|---|---|
//! | - | - | - | untouched |
//! | yes | yes | - | shielded; a hold costs one file |
//! | yes | yes | yes | shielded and held |
//! | - | yes | yes | held |
//! | any | - | yes | not held: the file alone says nothing; `release` removes it |

use std::path::Path;
use std::time::Duration;

use super::dropin::{self, Life};
use super::properties::Properties;
use super::shield::Shield;
use super::{SystemdUnit, at_boot};
use crate::controller::{Activity, ControllerError, ServiceController};
use crate::world::disk::DiskError;

impl SystemdUnit {
    pub(super) fn put_shield_on(&self, stop_wait_max: Duration) -> Result<(), ControllerError> {
        const ACTION: &str = "shield";
        let unit = self.unit(ACTION)?;
        self.refuse_remaining_kills(&unit, stop_wait_max)?;
        let mut shield = Shield::for_unit(&self.id, &unit, stop_wait_max).map_err(|why| self.refused(ACTION, why))?;
        if shield.settings.is_empty() {
            return Ok(());
        }
        let path = self.paths.shield();
        if has_drop_in(&unit, &path) && shield.missing(&unit).is_empty() {
            return Ok(());
        }
        if let Ok(earlier) = std::fs::read_to_string(&path) {
            shield.keep(&earlier);
        }
        let put_on = self.write_shield(&path, &shield).and_then(|()| self.prove_shield(&path, &shield, stop_wait_max));
        let Err(error) = put_on else {
            return Ok(());
        };
        // A shield that does not hold is no reason to leave files behind.
        match self.take_shield_off() {
            Ok(()) => Err(error),
            Err(left) => Err(self.refused(ACTION, format!("{error}; and {} stays: {left}", path.display()))),
        }
    }

    fn write_shield(&self, path: &Path, shield: &Shield) -> Result<(), ControllerError> {
        const ACTION: &str = "shield";
        let content = dropin::shield_content(&self.id, &shield.settings);
        dropin::write(path, &content).map_err(|error| self.disk(ACTION, error))?;
        self.write_hold_drop_in(ACTION, Life::UntilReboot)?;
        self.reload(ACTION)
    }

    /// Reads back what systemd has made of it.
    fn prove_shield(&self, path: &Path, shield: &Shield, stop_wait_max: Duration) -> Result<(), ControllerError> {
        const ACTION: &str = "shield";
        let unit = self.unit(ACTION)?;
        let mut missing = shield.missing(&unit);
        if !has_drop_in(&unit, path) {
            missing.push(format!("systemd did not read {}", path.display()));
        }
        if missing.is_empty() {
            // The reload may have brought edits of the administrator's with it.
            return self.refuse_remaining_kills(&unit, stop_wait_max);
        }
        let drop_ins = unit.texts("DropInPaths");
        let ours = drop_ins.iter().position(|known| Path::new(known) == path).map_or(0, |at| at + 1);
        let later: Vec<&String> = drop_ins.iter().skip(ours).collect();
        let why = if later.is_empty() { String::new() } else { format!(" (read after it: {later:?})") };
        Err(self.refused(ACTION, format!("the drop-in {} did not take: {}{why}", path.display(), missing.join(", "))))
    }

    fn refuse_remaining_kills(&self, unit: &Properties, stop_wait_max: Duration) -> Result<(), ControllerError> {
        let remaining: Vec<String> = self
            .kill_sources_of(unit, stop_wait_max)?
            .into_iter()
            .filter(|source| source.neutralised_by.is_none())
            .map(|source| source.what)
            .collect();
        if remaining.is_empty() {
            return Ok(());
        }
        Err(self.refused("shield", format!("what could kill it can't be switched off: {}", remaining.join("; "))))
    }

    pub(super) fn take_shield_off(&self) -> Result<(), ControllerError> {
        const ACTION: &str = "take the shield from";
        self.remove_shield(ACTION, Some(&self.unit(ACTION)?))?.and_then(|| self.reload(ACTION))
    }

    /// `unit` is needed only where the shield's file is gone: systemd may know it still.
    fn remove_shield(&self, action: &'static str, unit: Option<&Properties>) -> Result<Removed, ControllerError> {
        let path = self.paths.shield();
        let known = unit.is_some_and(|unit| has_drop_in(unit, &path));
        let held = self.paths.held(Life::UntilReboot).is_some_and(|held| held.symlink_metadata().is_ok());
        let hold = self.paths.hold(Life::UntilReboot).filter(|_| !held);
        let hold_is_left = hold.as_ref().is_some_and(|hold| hold.symlink_metadata().is_ok());
        if !known && path.symlink_metadata().is_err() && !hold_is_left {
            // A program that died while it wrote or removed it left a temporary file or the directory.
            dropin::remove(&path).map_err(|error| self.disk(action, error))?;
            return Ok(Removed { must_reload: false, outcome: Ok(()) });
        }
        self.refuse_while_stopping(action, unit)?;
        let removed = dropin::remove(&path);
        let hold_removed = hold.map_or(Ok(false), |hold| dropin::remove(&hold));
        let outcome = removed.and(hold_removed).map(drop).map_err(|error| self.disk(action, error));
        Ok(Removed { must_reload: true, outcome })
    }

    /// For a unit that stays stopped. The reload is not waited for: it takes longer than all the rest of a stop, and
    /// what it takes away means nothing to a unit that does not run.
    pub(super) fn take_both_off(&self) -> Result<(), ControllerError> {
        const ACTION: &str = "release";
        // With the shield's file in place systemd reads the unit anew, whatever it knows now: it need not be asked.
        let shielded = self.paths.shield().symlink_metadata().is_ok();
        let unit = if shielded { None } else { Some(self.unit(ACTION)) };
        // In this order the shield takes what is left of the hold along.
        let hold = self.remove_hold(ACTION, unit.as_ref().and_then(|unit| unit.as_ref().ok()))?;
        let shield = unit.transpose().and_then(|unit| self.remove_shield(ACTION, unit.as_ref()));
        let shield = shield.unwrap_or_else(|error| Removed { must_reload: false, outcome: Err(error) });
        let both =
            Removed { must_reload: hold.must_reload || shield.must_reload, outcome: hold.outcome.and(shield.outcome) };
        both.and_then(|| self.bus.request_reload().map_err(|error| self.failed(ACTION, error)))
    }

    /// With a stop under way, taking the settings away means that systemd finds its old timeout long over, and kills.
    fn refuse_while_stopping(&self, action: &'static str, unit: Option<&Properties>) -> Result<(), ControllerError> {
        let processes = match unit {
            Some(unit) => self.processes_of(unit)?,
            None => self.processes()?,
        };
        if processes.is_empty() {
            return Ok(());
        }
        let looked_at;
        let unit = match unit {
            Some(unit) => unit,
            None => {
                looked_at = self.unit(action)?;
                &looked_at
            }
        };
        let state = super::state::state_of(unit).map_err(|error| self.failed_io(action, &error))?;
        let stops = match unit.job() {
            Some(job) => self.stops_by_job(&job),
            None => false,
        };
        // Processes that such a unit leaves behind are left by intention, and no timer of systemd's counts for them.
        let leaves = matches!(unit.text("KillMode"), Some("process" | "none"));
        let safe = match state.activity {
            Activity::Up | Activity::Starting => !stops,
            Activity::Down | Activity::Failed => leaves && !stops,
            Activity::Stopping => false,
        };
        if safe {
            return Ok(());
        }
        Err(self.refused(
            action,
            format!("it is {} with processes left: without the shield systemd would kill them at once", state.detail),
        ))
    }

    /// A job that can't be asked has ended, or is taken for a stop.
    fn stops_by_job(&self, job: &str) -> bool {
        match self.bus.property(job, "org.freedesktop.systemd1.Job", "JobType") {
            Ok(kind) => matches!(<&str>::try_from(&kind), Ok("stop" | "restart" | "try-restart") | Err(_)),
            Err(_) => self.unit("look at").map_or(true, |unit| unit.job().is_some()),
        }
    }

    pub(super) fn put_hold_on(&self, life: Life) -> Result<(), ControllerError> {
        const ACTION: &str = "hold";
        let held =
            self.paths.held(life).ok_or_else(|| self.refused(ACTION, "its user has no home directory".to_owned()))?;
        if life == Life::Persistent {
            self.refuse_without_resume_at_boot(ACTION)?;
        }
        // The file first: from the moment in which systemd knows the drop-in, the hold is on.
        dropin::create_held(&held).map_err(|error| self.disk(ACTION, error))?;
        let wanted = format!("!{}", held.display());
        let is_known = |unit: &Properties| unit.asserts("AssertPathExists").contains(&wanted);
        self.write_hold_drop_in(ACTION, life)?;
        if is_known(&self.unit(ACTION)?) {
            return Ok(());
        }
        self.reload(ACTION)?;
        if is_known(&self.unit(ACTION)?) {
            return Ok(());
        }
        self.take_hold_off()?;
        Err(self.refused(ACTION, format!("systemd did not take the drop-in with AssertPathExists={wanted}")))
    }

    fn refuse_without_resume_at_boot(&self, action: &'static str) -> Result<(), ControllerError> {
        if at_boot::is_enabled(&self.bus) {
            return Ok(());
        }
        Err(self.refused(action, at_boot::not_enabled("nothing would lift the hold")))
    }

    pub(super) fn take_hold_off(&self) -> Result<(), ControllerError> {
        const ACTION: &str = "release";
        // Asked before and needed last: a unit that can't be read keeps no hold on.
        self.remove_hold(ACTION, self.unit(ACTION).ok().as_ref())?.and_then(|| self.reload(ACTION))
    }

    fn remove_hold(&self, action: &'static str, unit: Option<&Properties>) -> Result<Removed, ControllerError> {
        let knows = |hold: &Path| unit.is_some_and(|unit| has_drop_in(unit, hold));
        let (mut removed, mut failed) = (false, Ok(()));
        for life in [Life::UntilReboot, Life::Persistent] {
            // The file first: that lifts the hold at once, also where the rest fails.
            if let Some(held) = self.paths.held(life) {
                dropin::remove_held(&held).map_err(|error| self.disk(action, error))?;
            }
            let shielded = self.paths.shield().symlink_metadata().is_ok();
            if life == Life::UntilReboot && shielded {
                // It says nothing any more, and goes with the shield.
                continue;
            }
            if let Some(hold) = self.paths.hold(life) {
                // One that is gone and that systemd still knows was removed by a program that died before the reload.
                let outcome = dropin::remove(&hold).map_err(|error| self.disk(action, error));
                removed |= *outcome.as_ref().unwrap_or(&true) || knows(&hold);
                failed = failed.and(outcome.map(drop));
            }
        }
        Ok(Removed { must_reload: removed, outcome: failed })
    }

    fn write_hold_drop_in(&self, action: &'static str, life: Life) -> Result<(), ControllerError> {
        let (Some(path), Some(held)) = (self.paths.hold(life), self.paths.held(life)) else {
            return Ok(());
        };
        dropin::write(&path, &dropin::hold_content(&held, life)).map(drop).map_err(|error| self.disk(action, error))
    }

    fn reload(&self, action: &'static str) -> Result<(), ControllerError> {
        self.bus.reload().map_err(|error| self.failed(action, error))
    }

    pub(super) fn refused(&self, action: &'static str, reason: String) -> ControllerError {
        ControllerError::Unsafe { action, service: self.label(), reason }
    }

    fn disk(&self, action: &'static str, error: DiskError) -> ControllerError {
        let (service, reason) = (self.label(), error.to_string());
        match error.source.kind() {
            std::io::ErrorKind::PermissionDenied => ControllerError::Permission { action, service, reason },
            _ => ControllerError::Failed { action, service, reason },
        }
    }
}

/// What became of drop-ins that were to go.
struct Removed {
    must_reload: bool,
    outcome: Result<(), ControllerError>,
}

impl Removed {
    /// Whatever failed, a sync after the removal perhaps: systemd must not go on with what is gone.
    fn and_then(self, reload: impl FnOnce() -> Result<(), ControllerError>) -> Result<(), ControllerError> {
        let reloaded = if self.must_reload { reload() } else { Ok(()) };
        self.outcome.and(reloaded)
    }
}

fn has_drop_in(unit: &Properties, path: &Path) -> bool {
    unit.texts("DropInPaths").iter().any(|known| Path::new(known) == path)
}
