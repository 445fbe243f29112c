//! `svc-backup install-units`: the timer and service of a target, and the resume at boot.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use svckit::FailureKind;
use svckit::world::disk::write_durably;
use svckit::world::raw_path::RawPath;

use crate::app::App;
use crate::cli::backup::InstallUnitsArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render;

/// Where systemd looks for the administrator's units: only units written there can be enabled.
const UNIT_DIR: &str = "/etc/systemd/system";

const SERVICE: &str = include_str!("../units/svc-backup@.service");
const TIMER: &str = include_str!("../units/svc-backup@.timer");

/// The units, by name. That of all targets is that of one target, but for what it backs up.
#[must_use]
pub fn units() -> [(&'static str, String); 6] {
    let of_all = |template: &str| {
        template
            .replace(
                "the target %i of /etc/svckit/svckit.toml, or the known service of that name",
                "every target of /etc/svckit/svckit.toml and of the labels of containers",
            )
            .replace("Back up %i", "Back up all targets")
            .replace("backup %i", "backup --all")
            .replace("svc-backup@NAME", "svc-backup-all")
    };
    [
        ("svc-backup@.service", SERVICE.to_owned()),
        ("svc-backup@.timer", TIMER.to_owned()),
        ("svc-backup-all.service", of_all(SERVICE)),
        ("svc-backup-all.timer", of_all(TIMER)),
        ("svc-resume.service", include_str!("../units/svc-resume.service").to_owned()),
        ("svc-tend.service", include_str!("../units/svc-tend.service").to_owned()),
    ]
}

/// Writes the units and enables the resume at boot.
///
/// # Errors
/// When a file can't be written or systemd refuses.
pub fn install(app: &App, args: &InstallUnitsArgs) -> Result<Outcome, ToolError> {
    let program = std::env::current_exe().map_err(ToolError::io("find", "the program that runs"))?;
    let beside = program.parent().unwrap_or(Path::new("/usr/bin"));
    let bin_dir = usable_in_a_unit(args.bin_dir.as_deref().unwrap_or(beside))?;
    for (name, template) in units() {
        let text = template.replace("@BINDIR@", bin_dir);
        let path = args.dir.join(name);
        if args.dry_run {
            let value = json!({ "unit": name, "path": RawPath(path.clone()), "text": text, "written": false });
            app.output.result(Outcome::Done, &value, || format!("# would write {}\n{text}\n", render::path(&path)))?;
            continue;
        }
        let is_there = std::fs::read_to_string(&path).is_ok_and(|old| old == text);
        if !is_there {
            write_durably(&path, text.as_bytes(), 0o644)?;
        }
        let value = json!({ "unit": name, "path": RawPath(path.clone()), "written": !is_there });
        let did = if is_there { "unchanged" } else { "written" };
        app.output.done(Outcome::Done, &value, || format!("{}: {did}\n", render::path(&path)));
    }
    if args.dry_run {
        return Ok(Outcome::Done);
    }
    if args.dir != Path::new(UNIT_DIR) || !Path::new("/run/systemd/system").is_dir() {
        let why = "not enabled: this is not where the running systemd looks. There, run:\n";
        return said(app, &format!("{why}  systemctl enable svc-resume.service\n"));
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "svc-resume.service"])?;
    said(
        app,
        "svc-resume.service: enabled\nA target is backed up daily after:\n  systemctl enable --now svc-backup@TARGET.timer\n\
         All of them, those of containers' labels too, after:\n  systemctl enable --now svc-backup-all.timer\n",
    )
}

fn said(app: &App, text: &str) -> Result<Outcome, ToolError> {
    if !app.output.is_json() {
        app.output.text(text)?;
    }
    Ok(Outcome::Done)
}

/// A unit file has quoting rules of its own; a program in such a place is better moved.
fn usable_in_a_unit(dir: &Path) -> Result<&str, ToolError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    dir.to_str().filter(|text| text.chars().all(plain)).ok_or_else(|| {
        ToolError::usage(
            format!("the program lies in {}, which a unit file can't name", render::path(dir)),
            "install it as /usr/bin/svc-backup",
        )
    })
}

fn systemctl(arguments: &[&str]) -> Result<(), ToolError> {
    let output = Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(ToolError::io("run", "systemctl"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = render::one_line(String::from_utf8_lossy(&output.stderr).trim());
    Err(ToolError::Other {
        what: format!("systemctl {}: {reason}", arguments.join(" ")),
        kind: FailureKind::Failed,
        hint: Some("the units are written; enable svc-resume.service by hand".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_names_our_programs_only_through_the_directory_they_are_in() {
        for (name, text) in units() {
            assert!(!text.contains("/usr/bin"), "{name}");
            assert_eq!(text.contains("%i") || text.contains("NAME"), name.contains('@'), "{name}");
            assert_eq!(text.contains("ExecStart="), name.ends_with(".service"), "{name}");
        }
        assert!(usable_in_a_unit(Path::new("/usr/bin")).is_ok());
        for bad in ["/my programs", "/a%n", "/a\"b", "/a\nExecStart=/bin/sh"] {
            assert!(usable_in_a_unit(Path::new(bad)).is_err(), "{bad:?}");
        }
    }
}
