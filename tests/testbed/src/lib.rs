//! The test bed: services that misbehave on purpose, an observer that sees how they died, and the machinery of the
//! stories that run the real programs on them under a real systemd.
//!
//! Nothing here sleeps: stories wait for lines of a service's own record ([`record`]), for processes to end
//! ([`observer`]), or for a command ([`command`]), each with a deadline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

pub mod command;
pub mod corruptor;
pub mod docker;
pub mod leftovers;
pub mod mailbox;
pub mod observer;
pub mod random;
pub mod record;
pub mod service;
pub mod stories;
pub mod unit;
