//! The targets that containers name by labels.

use std::os::fd::AsFd;
use std::time::Instant;

use svckit::Failure;
use svckit::controller::{ControllerError, Endpoint, docker};
use svckit::discover::{Discovery, labels};
use svckit::operation::Retries;
use svckit::progress::Cancel;
use svckit::world::wait;

/// Adds what the labels of containers say. An engine that the configuration or the environment names must answer; one
/// that might be where engines usually are need not be there, nor be ours to ask.
/// Beside it, why the engine could not be asked: what is not in containers is there all the same.
#[must_use]
pub fn discover(discovery: Discovery) -> (Discovery, Option<ControllerError>) {
    let settings = discovery.docker();
    if settings.labels == Some(false) {
        return (discovery, None);
    }
    let is_named =
        settings.endpoint.is_some() || settings.labels == Some(true) || *discovery.engine() != Endpoint::usual();
    if !is_named && !may_connect(discovery.engine()) {
        return (discovery, None);
    }
    match docker::containers(discovery.engine()) {
        Ok(found) => {
            let engine = discovery.engine().clone();
            let labelled = found.iter().filter_map(|container| labels::read(container, &engine)).collect();
            let project = |container: &docker::Container| Some((container.name.clone(), container.compose.clone()?.0));
            let projects = found.iter().filter_map(project).collect();
            (discovery.with_projects(projects).with_labels(labelled), None)
        }
        Err(error) => (discovery, Some(error)),
    }
}

/// The same, and again where the engine is away: one that is restarted at the hour of the backups is no reason to leave
/// every container out.
#[must_use]
pub fn discover_patiently(
    discovery: Discovery,
    retries: &Retries,
    cancel: &Cancel,
) -> (Discovery, Option<ControllerError>) {
    let (mut found, mut error) = discover(discovery);
    for failures in 1..retries.attempts {
        let Some(reason) = error.as_ref().filter(|error| error.is_transient()) else { break };
        let pause = retries.pause_after(failures);
        tracing::warn!("{reason}; it is asked again in {} s", pause.as_secs());
        if wait::readable(&[cancel.as_fd()], Instant::now() + pause).is_err() || cancel.is_requested() {
            break;
        }
        (found, error) = discover(found);
    }
    (found, error)
}

/// Whether there is a socket that this user may connect to. Whether anybody answers is another question.
fn may_connect(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix(path) => rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
        _ => true,
    }
}
