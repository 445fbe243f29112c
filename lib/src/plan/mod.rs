//! Pure planning: facts and policy in, steps in words and figures out. A dry run prints a plan and stops.

use std::path::PathBuf;

/// What a backup would touch.
#[derive(Debug, Clone)]
pub struct BackupFacts {
    /// The databases and their sizes in bytes.
    pub databases: Vec<(PathBuf, u64)>,
    /// Paths and patterns of further files.
    pub includes: Vec<PathBuf>,
    /// `hot`, `fenced`, `cold`.
    pub mode: &'static str,
    /// The service, and whether it runs.
    pub service: Option<(String, bool)>,
    /// Running services that are stopped first and started last.
    pub dependants: Vec<String>,
    /// The store.
    pub store: PathBuf,
    /// The name in it.
    pub target: String,
}

/// The steps of a backup, in the order in which they are done.
#[must_use]
pub fn backup_steps(facts: &BackupFacts) -> Vec<String> {
    let mut steps = Vec::new();
    let names: Vec<String> = facts.databases.iter().map(|(path, _)| path.display().to_string()).collect();
    let stopped = match &facts.service {
        Some((service, true)) if facts.mode == "cold" => Some(service),
        _ => None,
    };
    if let Some(service) = stopped {
        steps.extend(facts.dependants.iter().map(|unit| format!("stop {unit}, which needs {service}")));
        steps.push(format!("stop {service}, prove that it is stopped, and hold it"));
    }
    match (facts.mode, names.len()) {
        (_, 0) => {}
        ("hot", _) => steps.push(format!("take a consistent snapshot of {} while the service runs", names.join(", "))),
        ("fenced", _) => steps.push(format!("copy {} while writers wait", names.join(", "))),
        _ => steps.push(format!("copy {} at rest", names.join(", "))),
    }
    if !facts.includes.is_empty() {
        let list: Vec<String> = facts.includes.iter().map(|path| path.display().to_string()).collect();
        steps.push(format!("pack {} into one archive", list.join(", ")));
    }
    if let Some(service) = stopped {
        steps.push(format!("start {service} and wait until it is ready"));
        steps.extend(facts.dependants.iter().rev().map(|unit| format!("start {unit}")));
    }
    steps.push("compress into the store, read back what was written, and verify that".to_owned());
    steps.push(format!("publish as a new backup of {} in {}", facts.target, facts.store.display()));
    steps
}

/// A readable name for a target, from a unit's or a file's name: what is not allowed in a name becomes `-`.
#[must_use]
pub fn name_from(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@') { c } else { '-' })
        .take(crate::name::NAME_LEN_MAX)
        .collect();
    let cleaned = cleaned.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if cleaned.is_empty() { "target".to_owned() } else { cleaned.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: &'static str, running: bool) -> BackupFacts {
        BackupFacts {
            databases: vec![("/srv/app.db".into(), 10)],
            includes: vec!["/srv/app.conf".into()],
            mode,
            service: Some(("unit app.service".to_owned(), running)),
            dependants: vec!["unit web.service".to_owned()],
            store: "/backup".into(),
            target: "app".to_owned(),
        }
    }

    #[test]
    fn only_a_cold_backup_of_a_running_service_stops_it_and_the_start_comes_before_the_verification() {
        let cold = backup_steps(&facts("cold", true));
        let position = |needle: &str| cold.iter().position(|step| step.contains(needle)).unwrap();
        assert!(position("stop unit web.service") < position("stop unit app.service"));
        assert!(position("copy /srv/app.db") < position("start unit app.service"));
        assert!(position("start unit app.service") < position("start unit web.service"));
        assert!(position("start unit web.service") < position("compress"));
        for other in [facts("hot", true), facts("fenced", true), facts("cold", false)] {
            assert!(!backup_steps(&other).iter().any(|step| step.contains("stop ")), "{other:?}");
        }
    }

    #[test]
    fn any_text_becomes_a_name() {
        for text in ["", "...", "/a b", "app@1.service", "ünit"] {
            name_from(text).parse::<crate::name::TargetName>().unwrap();
        }
    }
}
