//! A container's server, reached.

use std::path::Path;

use super::common::refused;
use super::error::{During, OperationError};
use crate::controller::docker::DockerContainer;
use crate::controller::{Activity, ContainerSpec, ServiceController};
use crate::database::server::{ServerEngine, ServerSpec, Session, engine_of, open_session};
use crate::failure::FailureKind;
use crate::quiesce::Context;

/// The container, what is done with its kind of server, and the way to speak to it.
pub(super) struct Attached {
    pub(super) container: DockerContainer,
    pub(super) engine: Box<dyn ServerEngine>,
    pub(super) session: Session,
}

pub(super) fn attach(
    context: &Context,
    container: &ContainerSpec,
    server: &ServerSpec,
    credentials: Option<&Path>,
    what: &str,
) -> Result<Attached, OperationError> {
    let engine = engine_of(server.engine);
    let container = DockerContainer::find(container).during(what)?;
    let state = container.state().during(what)?;
    if state.activity != Activity::Up {
        return Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!("{} is {}: its server is dumped while it runs", container.label(), state.detail),
            kind: FailureKind::No,
            hint: Some(format!("start it: svc-ctl start --container {}", container.name())),
        });
    }
    if state.detail.starts_with("paused") {
        return Err(refused(what, format!("{} is paused", container.label()), FailureKind::No));
    }
    let session = open_session(server, container.inside(), credentials, &context.cancel).during(what)?;
    let session = engine.admit(session).during(what)?;
    Ok(Attached { container, engine, session })
}
