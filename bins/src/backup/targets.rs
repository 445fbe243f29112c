//! What there is to back up, and whether the configuration is right.

use serde_json::json;
use svckit::FailureKind;
use svckit::database::server::{Databases, SecretSource, ServerSpec};
use svckit::discover::{Config, DiscoverError, Discovery, Mode, Origin, ServiceRef, Target, labels};
use svckit::operation::Retries;
use svckit::progress::Cancel;
use svckit::world::raw_path::RawPath;

use crate::app::App;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{containers, dirs, render};

pub(super) fn list(app: &App) -> Result<Outcome, ToolError> {
    let mut outcomes = Vec::new();
    let discovery = found(app, &mut outcomes, None)?;
    let targets = discovery.targets();
    if targets.is_empty() && outcomes.is_empty() && !app.output.is_json() {
        let known: Vec<&str> = svckit::discover::profiles().iter().map(|profile| profile.name.as_str()).collect();
        app.output.text(&format!(
            "no target is configured, and none of the known services was found here ({})\n",
            known.join(", ")
        ))?;
    }
    for (name, target) in targets {
        match target {
            Ok(target) => {
                app.output.result(Outcome::Done, &as_json(&target), || text(&target))?;
                outcomes.push(Outcome::Done);
            }
            Err(error) => {
                let error = ToolError::from(error);
                app.output.failure(&error, Some(&name));
                outcomes.push(Outcome::Failed(error.kind()));
            }
        }
    }
    for name in discovery.groups() {
        match discovery.group(name) {
            Ok(group) => {
                let members: Vec<&str> = group.members.iter().map(|member| member.name.as_str()).collect();
                let value = json!({ "group": name, "members": members, "store": group.target.store.map(RawPath) });
                app.output.result(Outcome::Done, &value, || format!("{name} (group): {}\n", members.join(", ")))?;
                outcomes.push(Outcome::Done);
            }
            Err(error) => {
                let error = ToolError::from(error);
                app.output.failure(&error, Some(name));
                outcomes.push(Outcome::Failed(error.kind()));
            }
        }
    }
    Ok(Outcome::of_several(&outcomes))
}

/// The targets of the configuration, of containers and of known services. An engine that does not answer is an outcome of
/// its own: the others are there all the same. With `patience` it is asked again, until that is cancelled.
pub(super) fn found(app: &App, outcomes: &mut Vec<Outcome>, patience: Option<&Cancel>) -> Result<Discovery, ToolError> {
    let discovery = dirs::discovery(app.config.as_deref())?;
    let (discovery, error) = match patience {
        Some(cancel) => containers::discover_patiently(discovery, &Retries::default(), cancel),
        None => containers::discover(discovery),
    };
    for (name, error) in discovery.shadowed() {
        let error = ToolError::from(error);
        app.output.failure(&error, Some(name));
        outcomes.push(Outcome::Failed(error.kind()));
    }
    if let Some(error) = error.map(ToolError::from) {
        app.output.failure(&error, Some("containers"));
        outcomes.push(Outcome::Failed(error.kind()));
    }
    Ok(discovery)
}

/// The address of a ping is a secret, and is not among it.
fn as_json(target: &Target) -> serde_json::Value {
    let raw = |paths: &[std::path::PathBuf]| -> Vec<RawPath> { paths.iter().cloned().map(RawPath).collect() };
    json!({
        "target": target.name.as_str(),
        "title": target.title,
        "source": source(target),
        "service": service_of(target),
        "server": target.server.as_ref().map(server_json),
        "databases": raw(&target.sqlite),
        "include": raw(&target.include),
        "store": target.store.clone().map(RawPath),
        "mode": mode(target.mode),
        "ready": target.ready,
        "priority": target.order.priority,
        "after": target.order.after,
    })
}

fn text(target: &Target) -> String {
    let mut lines = vec![format!("{} ({}): {}", target.name, source(target), render::one_line(&target.title))];
    lines.extend(service_of(target).map(|service| format!("  service: {}", render::one_line(&service))));
    lines.extend(target.server.as_ref().map(|server| format!("  would dump: {}", server_text(server))));
    lines.extend(target.sqlite.iter().map(|path| format!("  database: {}", render::path(path))));
    lines.extend(target.include.iter().map(|path| format!("  with: {}", render::path(path))));
    let store = target.store.as_ref().map_or_else(|| "none: name it with --to".to_owned(), |store| render::path(store));
    lines.push(format!("  store: {store}\n"));
    lines.join("\n")
}

/// What targets of one service have in common.
pub(super) fn service_of(target: &Target) -> Option<String> {
    let address = target.address.as_ref().map(|address| format!("server {address}"));
    address.or_else(|| target.service.as_ref().map(service_text))
}

fn source(target: &Target) -> &'static str {
    match target.origin {
        Origin::Configured => "configured",
        Origin::Profile => "found here",
        Origin::Labels { .. } => "by labels",
    }
}

fn server_json(server: &ServerSpec) -> serde_json::Value {
    json!({
        "engine": server.engine.word(),
        "databases": match &server.databases {
            Databases::All => json!("all"),
            Databases::Named(names) => json!(names),
        },
        "user": server.user,
        "password": secret_word(&server.secret),
    })
}

fn server_text(server: &ServerSpec) -> String {
    let databases = match &server.databases {
        Databases::All => "all databases".to_owned(),
        Databases::Named(names) => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            format!("{} {}", if names.len() == 1 { "the database" } else { "the databases" }, names.join(", "))
        }
    };
    let user = server.user.as_ref().map_or_else(String::new, |user| format!(" as {user}"));
    let text = format!("{databases} of {}{user}, password: {}", server.engine.title(), secret_word(&server.secret));
    render::one_line(&text)
}

/// Where it is looked for; never what it is.
fn secret_word(secret: &SecretSource) -> String {
    match secret {
        SecretSource::Image => "the image's own".to_owned(),
        SecretSource::None => "none".to_owned(),
        SecretSource::File(path) => format!("file {}", render::path(path)),
        SecretSource::ContainerEnv(name) => format!("variable {name}"),
        SecretSource::DockerSecret(name) => format!("Docker secret {name}"),
        SecretSource::SystemdCredential(name) => format!("credential {name}"),
        SecretSource::Command(_) => "what a command prints".to_owned(),
    }
}

/// The labels that there are, as a table.
pub(super) fn labels(app: &App) -> Result<Outcome, ToolError> {
    if !app.output.is_json() {
        app.output.text(&labels::markdown())?;
        return Ok(Outcome::Done);
    }
    for key in labels::KEYS {
        let label = format!("svckit.{}", key.name);
        let value = json!({ "label": label, "value": key.kind, "example": key.example, "meaning": key.meaning });
        app.output.result(Outcome::Done, &value, String::new)?;
    }
    Ok(Outcome::Done)
}

fn mode(mode: Option<Mode>) -> &'static str {
    match mode {
        None | Some(Mode::Hot) => "hot",
        Some(Mode::Fenced) => "fenced",
        Some(Mode::Cold) => "cold",
    }
}

pub(super) fn service_text(service: &ServiceRef) -> String {
    match service {
        ServiceRef::Unit(name) => format!("unit {name}"),
        ServiceRef::UserUnit(name) => format!("user unit {name}"),
        ServiceRef::FirstUnit(names) => format!("unit {}", names.join(" or ")),
        ServiceRef::PidFile(path, _) => format!("pid file {}", render::path(path)),
        ServiceRef::Container(container) => format!("container {}", container.name),
        // Without its arguments: they may hold secrets.
        ServiceRef::Command(command) => {
            format!("command {}", command.argv.first().map_or_else(String::new, |program| render::path(&program.0)))
        }
    }
}

pub(super) fn check(app: &App) -> Result<Outcome, ToolError> {
    let Some(path) = dirs::config_file(app.config.as_deref()) else {
        let looked: Vec<String> = dirs::config_candidates().iter().map(|path| render::path(path)).collect();
        return Err(ToolError::Other {
            what: format!("there is no configuration: looked for {}", looked.join(" and ")),
            kind: FailureKind::No,
            hint: Some("none is needed for a known service: svc-backup targets".to_owned()),
        });
    };
    match Config::read(&path) {
        Ok(config) => {
            let targets: Vec<&str> = config.target_names().map(|name| name.as_str()).collect();
            let value = json!({ "file": RawPath(path.clone()), "targets": targets });
            app.output.result(Outcome::Done, &value, || {
                format!("{}: valid, targets: {}\n", render::path(&path), targets.join(", "))
            })?;
            Ok(Outcome::Done)
        }
        Err(DiscoverError::Invalid { findings, .. }) => {
            let outcome = Outcome::Failed(FailureKind::Config);
            for finding in findings {
                let value = json!({
                    "file": RawPath(path.clone()), "line": finding.line, "column": finding.column,
                    "error": finding.what, "instead": finding.instead,
                });
                let place = format!("{}:{}:{}", render::path(&path), finding.line, finding.column);
                app.output.done(outcome, &value, || {
                    let instead =
                        finding.instead.as_ref().map_or_else(String::new, |text| format!("    write: {text}\n"));
                    format!("{place}: {}\n{instead}", render::one_line(&finding.what))
                });
            }
            Ok(outcome)
        }
        Err(error) => Err(error.into()),
    }
}
