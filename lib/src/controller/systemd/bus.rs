//! The connection to one systemd manager, from synchronous code.
//!
//! Invariants: every exchange has a deadline of its own (a frozen bus costs seconds, never a hang); zbus runs on one
//! worker thread that belongs to the connection, and the caller only waits for its answer on a channel, so that it
//! may itself be on an asynchronous runtime.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use serde::Serialize;
use tokio::task::JoinHandle;
use zbus::message::{Flags, Message};
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, MatchRule, MessageStream, OwnedVariant};

use super::properties::Properties;
use crate::controller::Scope;
use crate::controller::worker::{TimedOut, Worker};

/// For the connection itself: a socket that accepts and says nothing is a frozen bus.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For one method call. systemd answers in milliseconds unless it reloads.
pub(super) const CALL_MAX: Duration = Duration::from_secs(10);
/// For a reload: systemd answers nothing while its generators run, and gives those 90 s.
pub(super) const RELOAD_MAX: Duration = Duration::from_secs(95);

const DESTINATION: &str = "org.freedesktop.systemd1";
/// The path of the manager's own object.
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Why an exchange with the manager failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BusError {
    /// No answer, or none of the manager's.
    #[error("{0}")]
    Unreachable(String),
    /// The manager, the bus or polkit refused.
    #[error("{message} ({name})")]
    Refused {
        /// The D-Bus name of the error.
        name: String,
        /// What it says.
        message: String,
    },
    /// It answered what it never should.
    #[error("an answer that can't be read: {0}")]
    Malformed(String),
}

/// A connection, and the thread that drives it.
#[derive(Debug)]
pub(super) struct Bus {
    scope: Scope,
    connection: Connection,
    worker: Worker,
}

impl Bus {
    /// Connects to the bus of `scope`, and asks its manager to emit signals.
    pub(super) fn connect(scope: Scope) -> Result<Self, BusError> {
        let worker = Worker::new("svckit-dbus")
            .map_err(|error| BusError::Unreachable(format!("no thread for the connection: {error}")))?;
        let address = address(scope);
        // The outer deadline also holds where the worker itself is stuck.
        let connecting = zbus::connection::Builder::address(address.as_str()).method_timeout(CALL_MAX).build();
        let connection = match worker.run(CONNECT_MAX, connecting) {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(BusError::Unreachable(format!("{address}: {error}"))),
            Err(TimedOut) => {
                return Err(BusError::Unreachable(format!(
                    "{address} accepts connections and does not answer within {} s",
                    CONNECT_MAX.as_secs()
                )));
            }
        };
        Ok(Self { scope, connection, worker })
    }

    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    /// Calls a method of the manager's object tree and returns its answer.
    pub(super) fn call<B>(
        &self,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: B,
        max: Duration,
    ) -> Result<Message, BusError>
    where
        B: Serialize + DynamicType + Send + Sync + 'static,
    {
        let connection = self.connection.clone();
        let path = path.to_owned();
        let calling = async move {
            connection.call_method(Some(DESTINATION), path.as_str(), Some(interface), method, &body).await
        };
        match self.worker.run(max, calling) {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(translated(error)),
            Err(TimedOut) => {
                Err(BusError::Unreachable(format!("{method} was not answered within {} s", max.as_secs())))
            }
        }
    }

    /// Calls a method of the manager itself.
    pub(super) fn manager<B>(&self, method: &'static str, body: B) -> Result<Message, BusError>
    where
        B: Serialize + DynamicType + Send + Sync + 'static,
    {
        self.call(MANAGER_PATH, MANAGER, method, body, CALL_MAX)
    }

    /// Makes systemd read its unit files again. Its answer means that it has.
    pub(super) fn reload(&self) -> Result<(), BusError> {
        // A frozen bus is noticed by the short deadline, not by the long one.
        self.property(MANAGER_PATH, MANAGER, "Version")?;
        self.call(MANAGER_PATH, MANAGER, "Reload", (), RELOAD_MAX).map(drop)
    }

    /// Asks for a reload and returns once the bus has the request. systemd answers nobody while it reloads, half a
    /// second on a small host, and handles what it is asked afterwards with the new files.
    pub(super) fn request_reload(&self) -> Result<(), BusError> {
        let request = Message::method_call(MANAGER_PATH, "Reload")
            .destination(DESTINATION)
            .interface(MANAGER)
            .with_flags(Flags::NO_REPLY_EXPECTED)
            .build(&())
            .map_err(translated)?;
        let connection = self.connection.clone();
        match self.worker.run(CALL_MAX, async move { connection.send(&request).await }) {
            Ok(sent) => sent.map_err(translated),
            Err(TimedOut) => Err(BusError::Unreachable("the bus does not take a request".to_owned())),
        }
    }

    /// One property.
    pub(super) fn property(
        &self,
        path: &str,
        interface: &'static str,
        name: &'static str,
    ) -> Result<OwnedVariant, BusError> {
        parsed(&self.call(path, PROPERTIES, "Get", (interface, name), CALL_MAX)?)
    }

    /// Every property of an object, of all its interfaces, at one moment: an empty interface name means all of them
    /// to systemd.
    pub(super) fn properties(&self, path: &str) -> Result<Properties, BusError> {
        let message = self.call(path, PROPERTIES, "GetAll", ("",), CALL_MAX)?;
        parsed::<HashMap<String, OwnedVariant>>(&message).map(Properties::new)
    }

    /// Hands every signal that `rule` matches to `seen`, until the answer is dropped. `None` is handed over once the
    /// connection has ended. The match is registered with the bus when this returns.
    pub(super) fn on_signal(
        &self,
        rule: MatchRule<'static>,
        mut seen: impl FnMut(Option<&Message>) + Send + 'static,
    ) -> Result<Subscription, BusError> {
        let connection = self.connection.clone();
        let opening = async move { MessageStream::for_match_rule(rule, &connection, None).await };
        let mut stream = match self.worker.run(CALL_MAX, opening) {
            Ok(opened) => opened.map_err(translated)?,
            Err(TimedOut) => return Err(BusError::Unreachable("the bus does not register a match".to_owned())),
        };
        let task = self.worker.spawn(async move {
            // Always polled: an idle stream of zbus would stop the whole connection once its queue is full.
            loop {
                match poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
                    Some(Ok(message)) => seen(Some(&message)),
                    Some(Err(_)) => {}
                    None => break seen(None),
                }
            }
        });
        Ok(Subscription { task })
    }
}

/// Signals that are handed over as long as this lives.
#[derive(Debug)]
pub(super) struct Subscription {
    task: JoinHandle<()>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body of an answer.
pub(super) fn parsed<R>(message: &Message) -> Result<R, BusError>
where
    R: for<'d> DynamicDeserialize<'d>,
{
    message.body().deserialize().map_err(|error| BusError::Malformed(error.to_string()))
}

/// Where the manager listens. From the user's id, not from the environment: the library reads none, and a guard or
/// a unit at boot has none.
fn address(scope: Scope) -> String {
    match scope {
        Scope::System => "unix:path=/run/dbus/system_bus_socket".to_owned(),
        Scope::User => format!("unix:path={}/bus", runtime_dir_of_user()),
    }
}

/// The user's runtime directory, as pam_systemd(8) makes it.
pub(super) fn runtime_dir_of_user() -> String {
    format!("/run/user/{}", rustix::process::geteuid().as_raw())
}

fn translated(error: zbus::Error) -> BusError {
    use zbus::Error;
    match error {
        Error::MethodError(name, message, _) => {
            BusError::Refused { name: name.to_string(), message: message.unwrap_or_default() }
        }
        Error::FDO(error) => {
            use zbus::DBusError;
            let name = error.name().to_string();
            let message = error.description().unwrap_or_default().to_owned();
            match name.rsplit('.').next() {
                Some(
                    "ServiceUnknown" | "NameHasNoOwner" | "NoReply" | "Disconnected" | "NoServer" | "Timeout"
                    | "TimedOut" | "ExecFailed" | "ChildExited" | "ChildSignaled",
                ) => BusError::Unreachable(format!("{message} ({name})")),
                _ => BusError::Refused { name, message },
            }
        }
        other => BusError::Unreachable(other.to_string()),
    }
}
