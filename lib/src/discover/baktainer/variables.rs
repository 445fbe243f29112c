//! The `BT_*` variables of Baktainer itself.

use std::fmt::Write;
use std::path::Path;

use super::{Settings, is_true, on_host};
use crate::controller::Endpoint;

/// What it keeps where nobody says otherwise: so many days.
const RETENTION_DAYS: u32 = 30;

/// The configuration, and what a person should know.
pub(super) fn import(settings: &Settings) -> (String, Vec<String>) {
    let get = |name: &str| {
        settings.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty() && !has_control(value))
    };
    let mut notes = Vec::new();
    let mut text = String::new();
    // Writing to a String can't fail.
    let line = |text: &mut String, line: String| {
        let _infallible = writeln!(text, "{line}");
    };
    if let Some(url) = get("BT_DOCKER_URL") {
        match url.parse::<Endpoint>() {
            Ok(endpoint) if endpoint == Endpoint::usual() => {}
            Ok(endpoint) => line(&mut text, format!("[docker]\nendpoint = {}\n", quoted(&endpoint.to_string()))),
            Err(_) => notes.push(format!(
                "BT_DOCKER_URL={url:?} can't be used: svckit runs on the host of the engine, at its socket"
            )),
        }
    }
    line(&mut text, "[defaults]".to_owned());
    let directory = get("BT_BACKUP_DIR").unwrap_or("/backups");
    match on_host(Path::new(directory), &settings.mounts) {
        Some(path) => {
            line(&mut text, format!("store = {}", quoted(&format!("{}/svckit", path.display()))));
            notes.push(format!(
                "Baktainer's own backups stay in {}: svckit neither reads nor removes them",
                path.display()
            ));
        }
        None => {
            line(&mut text, "store = \"/srv/backups\"".to_owned());
            notes.push(format!(
                "{directory} is a path in Baktainer's container: write to `store` which directory of the host is meant"
            ));
        }
    }
    let days = get("BT_RETENTION_DAYS").and_then(|days| days.parse().ok()).unwrap_or(RETENTION_DAYS);
    let count = get("BT_RETENTION_COUNT").and_then(|count| count.parse::<u32>().ok()).unwrap_or_default();
    if get("BT_ROTATION_ENABLED").is_none_or(is_true) && days.saturating_add(count) > 0 {
        let last = if count > 0 { format!("last = {count}, ") } else { String::new() };
        line(&mut text, format!("retention = {{ {last}daily = {days} }}"));
        notes.push(
            "Baktainer's rotation had no floor: it could remove the last good backup. svckit counts verified backups only, \
             and never removes the last"
                .to_owned(),
        );
    }
    for (name, value) in &settings.variables {
        if has_control(value.trim()) {
            notes.push(format!("{name} has a control character, and is not taken over"));
        } else {
            notes.extend(said_of(name, value.trim()));
        }
    }
    (text, notes)
}

/// No path and no address has one; a file of the configuration could not hold every one.
fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}

/// What is to be known of a variable. Of those that may be secrets the value is not among it.
fn said_of(name: &str, value: &str) -> Option<String> {
    Some(match name {
        "BT_DOCKER_URL" | "BT_BACKUP_DIR" | "BT_RETENTION_DAYS" | "BT_RETENTION_COUNT" | "BT_ROTATION_ENABLED" => {
            return None;
        }
        "BT_CRON" => match daily(value) {
            Some(time) => format!(
                "BT_CRON={value:?}: svc-backup install-units writes the timers; for this time of day, OnCalendar={time}"
            ),
            None => format!(
                "BT_CRON={value:?}: svc-backup install-units writes the timers; set OnCalendar= in a drop-in (systemd.time(7))"
            ),
        },
        "BT_THREADS" => format!("BT_THREADS={value:?}: svc-backup backup --all --at-once N"),
        "BT_COMPRESS" if is_true(value) => return None,
        "BT_COMPRESS" => "BT_COMPRESS is off: svckit compresses every dump".to_owned(),
        "BT_LOG_LEVEL" => {
            "BT_LOG_LEVEL: svc-backup has -v, -vv and -q. At `debug` Baktainer wrote passwords to its log".to_owned()
        }
        "BT_SSL" if !is_true(value) => return None,
        "BT_SSL" | "BT_CA" | "BT_CERT" | "BT_KEY" => {
            format!("{name}: svckit asks the engine at its socket, on its own host, and needs no certificate")
        }
        "BT_MIN_FREE_SPACE_GB" => {
            "BT_MIN_FREE_SPACE_GB never had an effect; svckit looks for room before each backup, by what it needs"
                .to_owned()
        }
        "BT_ENCRYPTION_ENABLED" | "BT_KEY_ROTATION_ENABLED" if !is_true(value) => return None,
        "BT_ENCRYPTION_ENABLED"
        | "BT_ENCRYPTION_KEY"
        | "BT_ENCRYPTION_KEY_FILE"
        | "BT_ENCRYPTION_PASSPHRASE"
        | "BT_KEY_ROTATION_ENABLED" => {
            format!("{name}: svckit does not encrypt yet; keep the key, Baktainer's own backups need it")
        }
        "BT_HEALTH_SERVER_ENABLED" | "BT_HEALTH_PORT" | "BT_HEALTH_BIND" => {
            format!(
                "{name}: svckit serves nothing; ask svc-backup status --json. Baktainer listened on all addresses, without a password"
            )
        }
        _ if name.starts_with("BT_NOTIFY") || name == "BT_NOTIFICATION_CHANNELS" || name.ends_with("WEBHOOK_URL") => {
            format!(
                "{name}: write on-failure = [\"/path/to/a/program\"] to [defaults], or ping = \"https://...\" (healthchecks.io)"
            )
        }
        _ if name.starts_with("BT_") => format!("{name} is no variable of Baktainer's"),
        _ => return None,
    })
}

/// The time of a cron expression that means once a day.
fn daily(cron: &str) -> Option<String> {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let [minute, hour, "*", "*", "*"] = fields[..] else { return None };
    let (minute, hour): (u8, u8) = (minute.parse().ok()?, hour.parse().ok()?);
    (minute < 60 && hour < 24).then(|| format!("*-*-* {hour:02}:{minute:02}:00"))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
