//! A container of our own, for a while: of the image of a dumped server, without network, with nothing of the server's
//! in it. It is removed with everything that it wrote.
//!
//! What a killed run left is found by its label, which names the process that made it, and is removed by the next.
//! A scratch container is removed as it is, without an orderly stop: there is nothing in it that anybody keeps.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig};

use super::engine::{Engine, EngineError};
use super::exec::Inside;
use crate::controller::ControllerError;
use crate::controller::Endpoint;
use crate::name::BackupId;
use crate::world::mark;

/// Whose it is: `PID:START_TICKS:BOOT_ID:PID_NAMESPACE`.
pub(super) const LABEL: &str = "svckit.scratch";
/// It does nothing until it is removed; programs are run in it beside.
const IDLE: [&str; 3] = ["tail", "-f", "/dev/null"];

/// A container that is removed when this is dropped.
#[derive(Debug)]
#[must_use = "the container is removed when this is dropped"]
pub(crate) struct Scratch {
    inside: Inside,
}

impl Scratch {
    /// Removes what killed runs left, and starts a container of an image that the engine has; by id, else by name.
    pub(crate) fn create(endpoint: &Endpoint, id: &str, name: &str) -> Result<Self, ControllerError> {
        const ACTION: &str = "make a scratch container for";
        let label = format!("image {name}");
        let failed = |error: EngineError| match error {
            EngineError::Refused { status: 404, .. } => ControllerError::NotFound {
                service: label.clone(),
                reason: format!("{endpoint} does not have it: docker pull {name}"),
            },
            other => super::failed(ACTION, &label, endpoint, other),
        };
        let engine = Arc::new(Engine::connect(endpoint).map_err(failed)?);
        sweep(&engine).map_err(failed)?;
        let image = match engine.has_image(id) {
            Ok(()) => id,
            Err(error) if error.is_absence() => {
                engine.has_image(name).map_err(failed)?;
                name
            }
            Err(error) => return Err(failed(error)),
        };
        let io = |error: std::io::Error| failed(EngineError::Malformed(error.to_string()));
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec![IDLE[0].to_owned()]),
            cmd: Some(IDLE[1..].iter().map(|word| (*word).to_owned()).collect()),
            user: Some("0".to_owned()),
            labels: Some(HashMap::from([(LABEL.to_owned(), mark::own().map_err(io)?)])),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..Default::default() }),
            ..Default::default()
        };
        let id = engine.create(&format!("svckit-scratch-{}", BackupId::fresh()), body).map_err(failed)?;
        let scratch = Self {
            inside: Inside { engine: engine.clone(), id: id.clone(), label: format!("a scratch container of {name}") },
        };
        engine.start(&id).map_err(failed)?;
        Ok(scratch)
    }

    /// Where programs run.
    pub(crate) fn inside(&self) -> Inside {
        self.inside.clone()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.inside.engine.remove(&self.inside.id) {
            tracing::warn!(%error, id = self.inside.id, "a scratch container could not be removed: the next run does it");
        }
    }
}

/// Removes what processes made that are gone. Of one in another namespace of processes nobody here can tell.
fn sweep(engine: &Engine) -> Result<(), EngineError> {
    for one in engine.list(vec![LABEL.to_owned()], true)? {
        let mark = one.labels.as_ref().and_then(|labels| labels.get(LABEL));
        if let (Some(id), Some(mark)) = (&one.id, mark)
            && mark::is_dead(mark).unwrap_or(false)
        {
            tracing::info!(id, "removing a scratch container that a killed run left");
            // Another run may be at it at this moment.
            if let Err(error) = engine.remove(id) {
                tracing::debug!(%error, id, "it was not removed");
            }
        }
    }
    Ok(())
}
