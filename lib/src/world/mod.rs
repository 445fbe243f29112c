//! The operating-system seam: clock, durable files, processes, signals.
//!
//! Everything above reaches the kernel's process and file primitives through here, so that the order of
//! durable steps and the identity checks of processes stand in one place each.

pub mod clock;
pub mod dirs;
pub mod disk;
pub mod filesystem;
pub(crate) mod inherited;
pub(crate) mod mark;
pub(crate) mod piped;
pub mod process;
pub(crate) mod program;
pub mod raw_path;
pub(crate) mod rights;
pub(crate) mod secret_file;
pub mod wait;
pub(crate) mod wake;

pub use dirs::StateDirs;
pub use process::{Pidfd, ProcessId, StopSignal};
