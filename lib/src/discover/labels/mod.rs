//! Targets that containers carry themselves: `svckit.*` labels.
//!
//! Whoever can start a container writes its labels; whoever runs svckit on the host is often someone else, and root. So
//! a label is data: it runs no command, names no place of the host and holds no secret. What is wrong with one stops its
//! own target and no other.

mod finding;
mod image;
mod place;
mod read;
mod schema;
mod values;

#[cfg(test)]
mod tests;

pub use finding::LabelFinding;
pub use read::{Labelled, read};
pub use schema::{KEYS, LabelKey, VERSION, markdown};

pub(in crate::discover) use read::{KEEP_MAX, refuse_doubles};
