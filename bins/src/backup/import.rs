//! What another tool was told, in our words.

use std::collections::BTreeMap;
use std::fmt::Write;

use svckit::FailureKind;
use svckit::controller::docker::{self, Container};
use svckit::discover::baktainer::{self, Imported, Settings, Source};

use crate::app::App;
use crate::cli::backup::ImportArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, render};

pub(super) fn baktainer(app: &App, args: &ImportArgs) -> Result<Outcome, ToolError> {
    let discovery = dirs::discovery(app.config.as_deref())?;
    let engine = discovery.engine();
    let all = docker::containers(engine)?;
    let itself = all.iter().find(|container| container.image.contains("baktainer"));
    let variables = match (&args.env_file, itself) {
        (Some(path), _) => of_file(&std::fs::read_to_string(path).map_err(ToolError::io("read", path))?),
        (None, Some(container)) => docker::variables(engine, &container.id)?,
        (None, None) => BTreeMap::new(),
    };
    let mounts = itself.map(|container| container.mounts.clone()).unwrap_or_default();
    let labelled = all.iter().filter(|container| container.labels.keys().any(|label| baktainer::is_label(label)));
    let source = |container: &Container| -> Result<Source, ToolError> {
        Ok(Source {
            container: container.name.clone(),
            labels: container.labels.clone(),
            variables: docker::variables(engine, &container.id)?,
        })
    };
    let sources = labelled.map(source).collect::<Result<Vec<Source>, ToolError>>()?;
    if sources.is_empty() && variables.keys().all(|name| !name.starts_with("BT_")) {
        return Err(ToolError::Other {
            what: format!("nothing of Baktainer's was found at {engine}: no container has its labels, none is its own"),
            kind: FailureKind::No,
            hint: Some("name the file of its variables: --env-file FILE".to_owned()),
        });
    }
    let imported = baktainer::import(&Settings { variables, mounts }, &sources);
    app.output.result(Outcome::Done, &imported, || text(&imported))?;
    Ok(Outcome::Done)
}

/// Lines of `NAME=value`, as Docker reads them: no quotes, no expansion.
fn of_file(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// As a text of which the parts can be copied: what is to be known stands in comments.
fn text(imported: &Imported) -> String {
    let mut text = String::from("# /etc/svckit/svckit.toml\n");
    text.push_str(&imported.configuration);
    // Writing to a String can't fail.
    for container in &imported.containers {
        let _infallible = writeln!(text, "\n# labels of the container {}:", render::one_line(&container.container));
        for (label, value) in &container.labels {
            let _infallible = writeln!(text, "{}", render::one_line(&format!("{label}: {value:?}")));
        }
        notes(&mut text, &container.notes);
    }
    text.push('\n');
    notes(&mut text, &imported.notes);
    text
}

fn notes(text: &mut String, notes: &[String]) {
    for note in notes {
        let _infallible = writeln!(text, "# note: {}", render::one_line(note));
    }
}
