//! A server, reached: in its container, or at its address.

use std::path::Path;

use super::common::refused;
use super::error::{During, OperationError};
use crate::controller::docker::DockerContainer;
use crate::controller::{Activity, ContainerSpec, ServiceController};
use crate::database::server::{
    Place, ServerAddress, ServerEngine, ServerSpec, Session, engine_of, open_host_session, open_session,
};
use crate::failure::FailureKind;
use crate::lock::LockKey;
use crate::quiesce::Context;

/// Where a server is.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerPlace {
    /// In a container, whose own programs are used.
    Container(Box<ContainerSpec>),
    /// At an address, which programs of this host reach.
    Address(ServerAddress),
}

impl std::fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(container) => write!(f, "container {}", container.name),
            Self::Address(address) => write!(f, "server {address}"),
        }
    }
}

/// Where it was found.
pub(super) enum Reached {
    InContainer(Box<DockerContainer>),
    At { name: String, key: LockKey },
}

/// The server, what is done with its kind, and the way to speak to it.
pub(super) struct Attached {
    reached: Reached,
    pub(super) engine: Box<dyn ServerEngine>,
    pub(super) session: Session,
}

impl Attached {
    /// For people: `container db`.
    pub(super) fn label(&self) -> String {
        self.session.place().to_owned()
    }

    /// What a backup of it is named after, where nobody says.
    pub(super) fn name(&self) -> &str {
        match &self.reached {
            Reached::InContainer(container) => container.name(),
            Reached::At { name, .. } => name,
        }
    }

    /// The service that it is, where it is one that can be stopped.
    pub(super) fn service(&self) -> Option<&dyn ServiceController> {
        match &self.reached {
            Reached::InContainer(container) => Some(&**container),
            Reached::At { .. } => None,
        }
    }

    /// What an operation on it locks.
    pub(super) fn lock_keys(&self) -> Result<Vec<LockKey>, OperationError> {
        match &self.reached {
            Reached::InContainer(container) => super::common::lock_keys(Some(&**container), &[]),
            Reached::At { key, .. } => Ok(vec![key.clone()]),
        }
    }
}

pub(super) fn attach(
    context: &Context,
    place: &ServerPlace,
    server: &ServerSpec,
    credentials: Option<&Path>,
    what: &str,
) -> Result<Attached, OperationError> {
    let engine = engine_of(server.engine);
    let (reached, session) = match place {
        ServerPlace::Container(container) => {
            let container = running(container, what)?;
            let at = Place::Container(container.inside());
            let session = open_session(server, at, credentials, &context.cancel).during(what)?;
            (Reached::InContainer(Box::new(container)), session)
        }
        ServerPlace::Address(address) => {
            let found = address.found(server.engine).during(what)?;
            // By its real path: a link to a socket is the socket.
            let key = LockKey::service("server", &found.to_string());
            let session = open_host_session(server, &found, key.hash(), credentials, &context.cancel).during(what)?;
            let name = match &found {
                ServerAddress::Tcp { host, .. } => format!("{}-{host}", server.engine),
                ServerAddress::Socket(_) => server.engine.word().to_owned(),
            };
            (Reached::At { name, key }, session)
        }
    };
    let session = engine.admit(session).during(what)?;
    Ok(Attached { reached, engine, session })
}

fn running(container: &ContainerSpec, what: &str) -> Result<DockerContainer, OperationError> {
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
    Ok(container)
}
