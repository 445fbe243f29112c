//! The targets that containers name by labels.

use svckit::controller::{ControllerError, Endpoint, docker};
use svckit::discover::{Discovery, labels};

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
            (discovery.with_labels(labelled), None)
        }
        Err(error) => (discovery, Some(error)),
    }
}

/// Whether there is a socket that this user may connect to. Whether anybody answers is another question.
fn may_connect(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix(path) => rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
        _ => true,
    }
}
