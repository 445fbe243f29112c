//! Programs interrupted at their system calls, then looked at.

pub(crate) mod points;
mod run;
mod sweep;
pub(crate) mod trace;

pub(crate) use points::{Fault, Point};
pub(crate) use run::{Interrupted, Program, interrupt_on};
pub(crate) use sweep::{Fixture, Tally, control, is_thorough, seed, sweep, tell};
