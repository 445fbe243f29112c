//! The containers of an engine, as its list shows them: what targets are found in. One request, whatever their number.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State, MountPoint};

use super::compose::label;
use super::engine::Engine;
use super::{Endpoint, compose, failed, scratch};
use crate::controller::ControllerError;

/// A container that there is, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was asked for: `postgres:16`.
    pub image: String,
    /// Whether it has processes.
    pub running: bool,
    /// Project and service where Compose made it, and its number where that is not 1.
    pub compose: Option<(String, String, Option<u32>)>,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted in it.
    pub mounts: Vec<Mount>,
}

/// A directory or file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is in the container.
    pub destination: PathBuf,
    /// Where it is on the host; `None` for what has no place there (tmpfs).
    pub source: Option<PathBuf>,
}

impl Container {
    /// The name that a recreation keeps: project and service of Compose, else the container's own.
    #[must_use]
    pub fn stable_name(&self) -> String {
        match &self.compose {
            Some((project, service, None)) => format!("{project}-{service}"),
            Some((project, service, Some(number))) => format!("{project}-{service}-{number}"),
            None => self.name.clone(),
        }
    }
}

/// Every container that the engine knows, those that do not run included and our own scratch ones not, by name.
///
/// # Errors
/// [`ControllerError::Unreachable`] within seconds when no engine answers, [`ControllerError::Unsafe`] for one that is
/// not Docker.
pub fn containers(endpoint: &Endpoint) -> Result<Vec<Container>, ControllerError> {
    let failed = |error| failed("list", "the containers", endpoint, error);
    let listed = Engine::connect(endpoint).and_then(|engine| engine.list(Vec::new(), true)).map_err(failed)?;
    // What restore tests make for a while is nobody's service.
    let others = listed.into_iter().filter(|one| label(one, scratch::LABEL).is_none());
    let mut all: Vec<Container> = others.filter_map(container).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The variables that a container was made with, by name. Some are secrets.
///
/// # Errors
/// As for [`containers`], and [`ControllerError::NotFound`].
pub fn variables(endpoint: &Endpoint, id: &str) -> Result<BTreeMap<String, String>, ControllerError> {
    let failed = |error| failed("read the variables of", &super::label_of(id), endpoint, error);
    let found = Engine::connect(endpoint).and_then(|engine| engine.inspect(id)).map_err(failed)?;
    let variables = found.config.and_then(|config| config.env).unwrap_or_default();
    let split = |variable: String| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(variables.into_iter().filter_map(split).collect())
}

/// `None` for what is on its way out: it has no name any more.
fn container(raw: ContainerSummary) -> Option<Container> {
    let compose = match (label(&raw, compose::PROJECT), label(&raw, compose::SERVICE)) {
        // A one-off run of a service is not the service.
        (Some(project), Some(service)) if label(&raw, compose::ONE_OFF) != Some("True") => {
            let number = label(&raw, compose::NUMBER).and_then(|number| number.parse().ok());
            Some((project.to_owned(), service.to_owned(), number.filter(|number| *number != 1)))
        }
        _ => None,
    };
    Some(Container {
        id: raw.id?,
        // Names of links (`/other/alias`) are listed beside its own.
        name: raw.names?.iter().find_map(|name| name.strip_prefix('/').filter(|name| !name.contains('/')))?.to_owned(),
        image: raw.image.unwrap_or_default(),
        running: matches!(raw.state, Some(State::RUNNING | State::PAUSED | State::STOPPING)),
        compose,
        labels: raw.labels.unwrap_or_default().into_iter().collect(),
        mounts: raw.mounts.unwrap_or_default().into_iter().filter_map(mount).collect(),
    })
}

fn mount(raw: MountPoint) -> Option<Mount> {
    let source = raw.source.filter(|source| source.starts_with('/')).map(PathBuf::from);
    Some(Mount { destination: raw.destination?.into(), source })
}
