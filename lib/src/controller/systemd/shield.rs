//! The shield: settings under which systemd has no way left to send SIGKILL during a stop, and the proof that they
//! are in force.
//!
//! Why each setting:
//! - `TimeoutStopSec`: longer than the ladder's whole bound, so that systemd does not end the stop before we do, and
//!   finite, so that a shield that is left behind by a crash can't stall a shutdown of the host.
//! - `SendSIGKILL=no`: and when it is over, nothing is killed.
//! - `FinalKillSignal=SIGTERM`: the signal that systemd takes wherever it would kill, an out-of-memory event during
//!   the stop included, which does not look at SendSIGKILL.
//! - `KillMode=mixed` stays, with `SendSIGKILL=yes`: it means that the main process alone is asked first and that
//!   its children get the final signal once it has ended, which now is SIGTERM. `control-group` would signal children
//!   while the main process still uses them; `process` would never ask those that are left.
//! - `KillSignal`, `TimeoutStopFailureMode`, `TimeoutStartFailureMode`, `OOMPolicy`, `ManagedOOM*`: the remaining
//!   settings that make a kill the first step.
//! - `WatchdogSec` is left alone: without it the service would run unwatched.

use std::time::Duration;

use super::name;
use super::properties::Properties;

/// What the ladder's bound is exceeded by: the time to notice its end and to queue the start.
const MARGIN: Duration = Duration::from_secs(60);
/// The number of the signal that is to be kept from the service; only ever compared with.
pub(super) const THE_KILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Settings that are to be written, and what the properties then must say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shield {
    pub(super) settings: Vec<(&'static str, String)>,
    expected: Vec<Expected>,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    AtLeast(&'static str, u64),
    Number(&'static str, i32),
    Flag(&'static str, bool),
    Text(&'static str, &'static str),
}

impl Shield {
    /// The shield that this unit needs; empty for a unit without processes. `Err`: none is possible.
    pub(super) fn for_unit(id: &str, unit: &Properties, stop_wait_max: Duration) -> Result<Self, String> {
        let mut shield = Self::default();
        match name::kind_of(id) {
            "service" | "scope" | "socket" | "mount" | "swap" => {}
            "slice" => return Err("stopping a slice stops every unit in it, each by its own settings".to_owned()),
            _ => return Ok(shield),
        }
        if unit.small("FinalKillSignal").is_none() {
            return Err("this systemd has no FinalKillSignal= (it is older than version 240)".to_owned());
        }
        let needed = micros(stop_wait_max + MARGIN);
        if unit.number("TimeoutStopUSec").is_some() {
            // A longer one of the administrator's is kept; u64::MAX is `infinity`.
            if unit.number("TimeoutStopUSec").is_some_and(|now| now < needed) {
                shield.set("TimeoutStopSec", format!("{}s", needed.div_ceil(1_000_000)));
            }
            shield.expected.push(Expected::AtLeast("TimeoutStopUSec", needed));
        }
        // An administrator's own SendSIGKILL=no is kept.
        let mixed = unit.text("KillMode") == Some("mixed") && unit.flag("SendSIGKILL") == Some(true);
        shield.set("SendSIGKILL", if mixed { "yes" } else { "no" });
        shield.expected.push(Expected::Flag("SendSIGKILL", mixed));
        shield.set("FinalKillSignal", "SIGTERM");
        shield.expected.push(Expected::Number("FinalKillSignal", SIGTERM));
        if unit.small("KillSignal") == Some(THE_KILL) {
            shield.set("KillSignal", "SIGTERM");
            shield.expected.push(Expected::Number("KillSignal", SIGTERM));
        }
        for setting in ["TimeoutStopFailureMode", "TimeoutStartFailureMode"] {
            shield.set_where_known(unit, setting, "terminate");
        }
        shield.set_where_known(unit, "OOMPolicy", "continue");
        for setting in ["ManagedOOMSwap", "ManagedOOMMemoryPressure"] {
            if unit.word(setting).is_some_and(|policy| policy != "auto") {
                shield.set_where_known(unit, setting, "auto");
            }
        }
        Ok(shield)
    }

    /// Keeps what an earlier shield set and this one, computed under it, no longer sees a need for.
    pub(super) fn keep(&mut self, earlier: &str) {
        const KEPT: [&str; 4] = ["TimeoutStopSec", "KillSignal", "ManagedOOMSwap", "ManagedOOMMemoryPressure"];
        for (setting, value) in earlier.lines().filter_map(|line| line.split_once('=')) {
            if let Some(known) = KEPT.iter().find(|known| **known == setting)
                && self.settings.iter().all(|(set, _)| set != known)
            {
                self.settings.push((known, value.to_owned()));
            }
        }
    }

    fn set(&mut self, setting: &'static str, value: impl Into<String>) {
        self.settings.push((setting, value.into()));
    }

    fn set_where_known(&mut self, unit: &Properties, setting: &'static str, value: &'static str) {
        if unit.word(setting).is_some() {
            self.set(setting, value);
            self.expected.push(Expected::Text(setting, value));
        }
    }

    /// What the properties say otherwise than the shield; empty when it is in force.
    pub(super) fn missing(&self, unit: &Properties) -> Vec<String> {
        let mut missing = Vec::new();
        for expected in &self.expected {
            let (name, is_so, now) = match expected {
                Expected::AtLeast(name, least) => {
                    let now = unit.number(name);
                    (name, now.is_some_and(|now| now >= *least), format!("{now:?}"))
                }
                Expected::Number(name, value) => {
                    let now = unit.small(name);
                    (name, now == Some(*value), format!("{now:?}"))
                }
                Expected::Flag(name, value) => {
                    let now = unit.flag(name);
                    (name, now == Some(*value), format!("{now:?}"))
                }
                Expected::Text(name, value) => {
                    let now = unit.text(name);
                    (name, now == Some(*value), format!("{now:?}"))
                }
            };
            if !is_so {
                missing.push(format!("{name} is {now}"));
            }
        }
        missing
    }
}

/// Microseconds, as systemd counts.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use zbus::{OwnedVariant, Variant};

    use super::*;

    fn unit(changes: &[(&str, Variant<'static>)]) -> Properties {
        let mut all: HashMap<String, OwnedVariant> = HashMap::new();
        let defaults = [
            ("TimeoutStopUSec", Variant::from(4_000_000_u64)),
            ("SendSIGKILL", Variant::from(true)),
            ("KillMode", Variant::from("control-group")),
            ("KillSignal", Variant::from(15_i32)),
            ("FinalKillSignal", Variant::from(9_i32)),
            ("OOMPolicy", Variant::from("stop")),
        ];
        for (name, value) in defaults.iter().chain(changes) {
            all.insert((*name).to_owned(), value.try_to_owned().unwrap());
        }
        Properties::new(all)
    }

    fn value<'a>(shield: &'a Shield, setting: &str) -> Option<&'a str> {
        shield.settings.iter().find(|(name, _)| *name == setting).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_timeout_outlasts_the_ladder_and_is_finite() {
        let shield = Shield::for_unit("a.service", &unit(&[]), Duration::from_millis(90_500)).unwrap();
        assert_eq!(value(&shield, "TimeoutStopSec"), Some("151s"));
        assert_eq!(value(&shield, "SendSIGKILL"), Some("no"));
        assert_eq!(value(&shield, "TimeoutStopFailureMode"), None, "not written where systemd does not know it");
        assert_eq!(value(&shield, "OOMPolicy"), Some("continue"));
    }

    #[test]
    fn a_longer_timeout_of_the_administrator_is_kept() {
        let endless = unit(&[("TimeoutStopUSec", Variant::from(u64::MAX))]);
        let shield = Shield::for_unit("a.service", &endless, Duration::from_secs(90)).unwrap();
        assert_eq!(value(&shield, "TimeoutStopSec"), None);
    }

    #[test]
    fn mixed_stays_mixed_and_its_final_signal_is_no_kill() {
        let mixed = unit(&[("KillMode", Variant::from("mixed"))]);
        let shield = Shield::for_unit("a.service", &mixed, Duration::from_secs(90)).unwrap();
        assert_eq!(value(&shield, "KillMode"), None);
        assert_eq!(value(&shield, "SendSIGKILL"), Some("yes"));
        assert_eq!(value(&shield, "FinalKillSignal"), Some("SIGTERM"));
    }

    #[test]
    fn what_did_not_take_is_named() {
        let shield = Shield::for_unit("a.service", &unit(&[]), Duration::from_secs(90)).unwrap();
        let missing = shield.missing(&unit(&[("SendSIGKILL", Variant::from(false))])).join(", ");
        assert!(missing.contains("FinalKillSignal is Some(9)"), "{missing}");
        assert!(!missing.contains("SendSIGKILL"), "{missing}");
    }

    #[test]
    fn a_target_needs_no_shield_and_a_slice_can_have_none() {
        assert_eq!(Shield::for_unit("a.target", &unit(&[]), Duration::ZERO).unwrap(), Shield::default());
        assert!(Shield::for_unit("a.slice", &unit(&[]), Duration::ZERO).is_err());
    }
}
