//! Everyone who could SIGKILL a unit during a stop, from its properties.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;
use zbus::OwnedObjectPath;

use super::SystemdUnit;
use super::bus::{self, BusError};
use super::properties::Properties;
use super::shield::THE_KILL;
use crate::controller::{ControllerError, KillSource, Scope};

/// A script that a command runs is read up to this size.
const SCRIPT_MAX: u64 = 256 * 1024;
/// For the look at every loaded unit; a host with more than can be asked in this time is told of those that were.
const EDITS_MAX: Duration = Duration::from_secs(3);
const BY_NO_KILL: &str = "the shield: SendSIGKILL=no, or SIGTERM as the final signal";

impl SystemdUnit {
    pub(super) fn kill_sources_of(
        &self,
        unit: &Properties,
        stop_wait_max: Duration,
    ) -> Result<Vec<KillSource>, ControllerError> {
        let mut found = from_settings(unit, stop_wait_max);
        found.extend(from_commands(unit));
        if self.bus.scope() == Scope::User && !lingers() {
            found.push(KillSource {
                id: "user-manager".to_owned(),
                what: "the user's systemd ends with the last login session and kills what is left; `loginctl enable-linger` keeps it"
                    .to_owned(),
                neutralised_by: None,
            });
        }
        Ok(found)
    }
}

impl SystemdUnit {
    /// A reload also applies what an administrator has half edited elsewhere. It kills nothing, and is said before.
    pub(super) fn edits_that_a_reload_applies(&self) -> Result<Option<KillSource>, ControllerError> {
        let edited = self.edited_units().map_err(|error| self.failed("audit", error))?;
        Ok((!edited.is_empty()).then(|| KillSource {
            id: "pending-edits".to_owned(),
            what: format!("the reload for the shield also applies edited unit files of {}", edited.join(", ")),
            neutralised_by: Some("no kill: they take effect as after `systemctl daemon-reload`".to_owned()),
        }))
    }

    fn edited_units(&self) -> Result<Vec<String>, BusError> {
        type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let until = Instant::now() + EDITS_MAX;
        let mut edited = Vec::new();
        for unit in bus::parsed::<Vec<Listed>>(&self.bus.manager("ListUnits", ())?)? {
            if unit.2 != "loaded" || Instant::now() > until {
                continue;
            }
            // A unit that is gone by now has no edits.
            let needs = self.bus.property(unit.6.as_str(), "org.freedesktop.systemd1.Unit", "NeedDaemonReload");
            if needs.is_ok_and(|needs| bool::try_from(needs).is_ok_and(|needs| needs)) {
                edited.push(unit.0);
            }
        }
        Ok(edited)
    }
}

fn from_settings(unit: &Properties, stop_wait_max: Duration) -> Vec<KillSource> {
    let mut found = Vec::new();
    let mut add = |id: &str, what: String, by: &str| {
        found.push(KillSource { id: id.to_owned(), what, neutralised_by: Some(by.to_owned()) });
    };
    let kills = unit.flag("SendSIGKILL") == Some(true) && unit.small("FinalKillSignal").unwrap_or(THE_KILL) == THE_KILL;
    let stop = unit.number("TimeoutStopUSec");
    if let Some(timeout) = stop.filter(|timeout| kills && *timeout != u64::MAX) {
        add(
            "stop-timeout",
            format!("TimeoutStopSec={}, then SIGKILL", seconds(timeout)),
            &format!("the shield: TimeoutStopSec longer than {} s, SendSIGKILL=no", stop_wait_max.as_secs()),
        );
    }
    if kills && unit.text("KillMode") == Some("mixed") {
        add(
            "kill-mode-mixed",
            "KillMode=mixed: SIGKILL for its other processes as soon as the main process has ended".to_owned(),
            "the shield: FinalKillSignal=SIGTERM",
        );
    }
    if unit.small("KillSignal") == Some(THE_KILL) {
        add("kill-signal", "KillSignal=SIGKILL: a stop begins with it".to_owned(), "the shield: KillSignal=SIGTERM");
    }
    if let Some(signal) = unit.small("FinalKillSignal").filter(|signal| ![15, THE_KILL].contains(signal)) {
        add(
            "final-kill-signal",
            format!("FinalKillSignal={signal} after TimeoutStopSec"),
            "the shield: FinalKillSignal=SIGTERM",
        );
    }
    for (setting, id) in
        [("TimeoutStopFailureMode", "timeout-failure-mode"), ("TimeoutStartFailureMode", "start-timeout-failure-mode")]
    {
        if let Some(mode) = unit.word(setting).filter(|mode| *mode != "terminate") {
            add(id, format!("{setting}={mode}"), &format!("the shield: {setting}=terminate"));
        }
    }
    // The property keeps the last run's value when the unit is down.
    let up = unit.text("ActiveState") != Some("inactive");
    if let Some(watchdog) = unit.number("WatchdogUSec").filter(|value| up && *value > 0 && *value != u64::MAX) {
        add(
            "watchdog",
            format!("WatchdogSec={}: SIGABRT, and SIGKILL after TimeoutAbortSec", seconds(watchdog)),
            "the shield takes the SIGKILL; systemd does not run the watchdog during a stop",
        );
    }
    if let Some(policy) = unit.word("OOMPolicy").filter(|policy| *policy != "continue") {
        add(
            "oom-policy",
            format!("OOMPolicy={policy}: SIGKILL when memory runs out"),
            "the shield: OOMPolicy=continue",
        );
    }
    for setting in ["ManagedOOMSwap", "ManagedOOMMemoryPressure"] {
        if unit.word(setting).is_some_and(|policy| policy != "auto") {
            add(
                "oomd",
                format!("{setting}=kill: systemd-oomd kills the group"),
                &format!("the shield: {setting}=auto"),
            );
        }
    }
    if let Some(max) = unit.number("RuntimeMaxUSec").filter(|value| *value > 0 && *value != u64::MAX) {
        add(
            "runtime-max",
            format!("RuntimeMaxSec={}: a stop that nobody asked for, with the same timeouts", seconds(max)),
            BY_NO_KILL,
        );
    }
    if unit.text("ActiveState") == Some("reloading") {
        add(
            "reload",
            "a reload is under way: when it times out its helper gets SIGKILL".to_owned(),
            "the stop ends the reload, and the helper is not the service",
        );
    }
    found
}

fn from_commands(unit: &Properties) -> Vec<KillSource> {
    let mut found = Vec::new();
    for setting in ["ExecStop", "ExecStopPost"] {
        for command in unit.commands(setting) {
            let line = command.argv.join(" ");
            let by = if kills(&line) {
                Some(String::new())
            } else {
                command.argv.iter().find(|word| script_kills(Path::new(word))).map(|script| format!(" (in {script})"))
            };
            if let Some(place) = by {
                found.push(KillSource {
                    id: "exec-stop-kill".to_owned(),
                    what: format!(
                        "{setting}={line} can kill{place}: the unit's own command, which no setting holds back"
                    ),
                    neutralised_by: None,
                });
            }
        }
    }
    found
}

/// Whether a command line, or a line of a script, can send SIGKILL or stops a container (with a timeout and a
/// SIGKILL of its own).
fn kills(text: &str) -> bool {
    static KILLS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?m)^[^#\n]*(?:",
            // kill, pkill, killall, systemctl kill with the signal as -9, -KILL, -s KILL, --signal=KILL
            r"\b(?:kill|pkill|killall5?|skill)\b[^;&|#\n]*?\s(?:-|-s\s*|--signal[= ])(?:9|KILL|SIGKILL)\b",
            r"|\btimeout\s+(?:-\S+\s+)*(?:-k|--kill-after)",
            r"|\btimeout\s+(?:-\S+\s+)*(?:-s\s*|--signal[= ])(?:9|KILL|SIGKILL)\b",
            r"|\bkillall5?\b[^;&|#\n]*?\s-9",
            // a schedule, which ends in KILL unless it is written out without
            r"|\bstart-stop-daemon\b[^;&|#\n]*?\s(?:-R|--retry)",
            r"|\bstart-stop-daemon\b[^;&|#\n]*?\s(?:-s\s*|--signal[= ])(?:9|KILL|SIGKILL)\b",
            r"|\b(?:docker|podman|nerdctl)\b[^;&|#\n]*?\s(?:stop|kill|restart|rm|down)\b",
            r"|cgroup\.kill",
            r")"
        ))
        .ok()
    });
    // Without the pattern nothing could be told apart; a test compiles it.
    KILLS.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// Whether the file is a script that can kill. A binary is not read: whatever it does is its own stop.
fn script_kills(path: &Path) -> bool {
    if !path.is_absolute() || !std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= SCRIPT_MAX) {
        return false;
    }
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!") && kills(&String::from_utf8_lossy(&bytes)))
}

/// Whether the user's manager outlives the sessions: what `loginctl enable-linger` leaves.
fn lingers() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user.name).exists())
}

fn seconds(micros: u64) -> String {
    humantime::format_duration(Duration::from_micros(micros)).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_can_kill_are_known() {
        for line in [
            "/bin/kill -9 $MAINPID",
            "/bin/kill -KILL 4711",
            "/usr/bin/pkill -SIGKILL plexd",
            "/usr/bin/killall -s KILL plexd",
            "/bin/sh -c kill -TERM $MAINPID; sleep 5; kill -9 $MAINPID",
            "/usr/bin/systemctl kill --signal=SIGKILL x.service",
            "/usr/bin/timeout -k 5 60 /opt/stop",
            "/usr/bin/timeout -s KILL 60 /opt/stop",
            "start-stop-daemon --stop --quiet --retry=TERM/30/KILL/5 --name x",
            "/usr/bin/docker stop plex",
            "/usr/bin/podman --log-level=info rm -f -t 10 x",
        ] {
            assert!(kills(line), "{line}");
        }
    }

    #[test]
    fn commands_that_ask_are_no_kill() {
        for line in [
            "/bin/kill -TERM $MAINPID",
            "/bin/kill -s INT $MAINPID",
            "/usr/sbin/nginx -s quit",
            "/usr/bin/pg_ctl stop -m fast",
            "/usr/bin/redis-cli shutdown",
            "/usr/bin/kill -1 99",
            "# kill -9 is what we never do",
            "/usr/bin/timeout 60 /opt/stop -9",
        ] {
            assert!(!kills(line), "{line}");
        }
    }

    #[test]
    fn a_script_is_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("stop.sh");
        std::fs::write(&script, "#!/bin/sh\nkill $1\nsleep 5\nkill -9 $1\n").unwrap();
        assert!(script_kills(&script));
        std::fs::write(&script, "#!/bin/sh\nkill $1 # not kill -9\n").unwrap();
        assert!(!script_kills(&script));
    }
}
