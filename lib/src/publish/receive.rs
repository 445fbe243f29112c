//! The other side of a mirror: takes a generation that another tree made, under that tree's number.
//!
//! Over one connection, a line each way a JSON object: the manifest comes in, [`Message::Ready`] goes out, the files come
//! by another way, `commit` comes in, [`Message::Served`] goes out. Anything else, or the end of the connection, is no
//! commit: what came is given up, and what is served stays.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::{Depth, Generation, PublishError, Staging, Watch, Writer};
use crate::world::raw_path::RawPath;

/// A manifest is one line, and no longer than this.
const MANIFEST_LEN_MAX: u64 = 1 << 30;
/// The word that makes a generation served.
pub const COMMIT: &str = "commit";

/// What the receiving side says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The files are to be put here.
    Ready {
        /// An empty directory.
        staging: RawPath,
        /// A generation that has much of it already.
        link_dest: Option<RawPath>,
    },
    /// It is served now, or has been already.
    Served {
        /// Which.
        generation: Generation,
        /// What was served before.
        before: Option<Generation>,
    },
    /// It is not.
    Refused {
        /// The kind of the failure, as the programs' `--json` names it.
        kind: String,
        /// Why.
        error: String,
    },
}

/// What becomes of an offered generation.
#[derive(Debug)]
#[must_use]
pub enum Offer<'w> {
    /// It is wanted: fill the staging, then [`accept`].
    Wanted(Box<Staging<'w>>),
    /// It was complete here already, was verified again, and is served.
    Served {
        /// What was served before.
        before: Option<Generation>,
    },
}

impl Writer<'_> {
    /// Judges an offered generation.
    ///
    /// # Errors
    /// [`PublishError::Older`] where a newer one is served and `allow_older` is not set; [`PublishError::Source`] where
    /// another generation of that number is here.
    pub fn offered(&self, manifest: &Manifest, allow_older: bool, watch: Watch<'_>) -> Result<Offer<'_>, PublishError> {
        let (tree, offered) = (self.tree(), manifest.generation);
        if let Some(current) = tree.current()?.filter(|current| *current > offered && !allow_older) {
            return Err(PublishError::Older { tree: tree.root().to_owned(), current, offered });
        }
        if tree.complete()?.contains(&offered) {
            if !tree.manifest(offered)?.is_same_content(manifest) {
                let reason = "another generation of that number is there: it is no mirror of this tree".to_owned();
                return Err(PublishError::Source { path: tree.directory(offered), reason });
            }
            let whole = tree.verify(offered, Depth::Content, watch)?;
            return Ok(Offer::Served { before: self.switch(&whole)? });
        }
        Ok(Offer::Wanted(Box::new(self.begin_as("receive", offered)?)))
    }
}

/// Verifies what came against the manifest, and serves it. The answer is what was served before.
///
/// # Errors
/// [`PublishError::Unverified`], and those of the disk; it is given up then.
pub fn accept(
    writer: &Writer<'_>,
    staging: Staging<'_>,
    manifest: Manifest,
    watch: Watch<'_>,
) -> Result<Option<Generation>, PublishError> {
    staging.seal_as(manifest, Depth::Content, watch)?.name()?.switch(writer)
}

/// Reads the manifest that is offered.
///
/// # Errors
/// When the connection ends, or it is none.
pub fn read_offer(input: &mut impl BufRead) -> Result<Manifest, PublishError> {
    let name = PathBuf::from("the offered manifest");
    let mut line = Vec::new();
    let read = std::io::Read::take(&mut *input, MANIFEST_LEN_MAX).read_until(b'\n', &mut line);
    match read {
        Ok(_) if line.ends_with(b"\n") => Manifest::parse(&line, &name),
        Ok(_) => Err(PublishError::Cancelled { what: "the mirroring" }),
        Err(source) => Err(crate::world::disk::DiskError { action: "read", path: name, source }.into()),
    }
}

/// Waits for the commit.
///
/// # Errors
/// [`PublishError::Cancelled`] when anything else comes.
pub fn read_commit(input: &mut impl BufRead) -> Result<(), PublishError> {
    let mut line = String::new();
    let read = std::io::Read::take(&mut *input, COMMIT.len() as u64 + 1).read_line(&mut line);
    match read {
        Ok(_) if line.strip_suffix('\n') == Some(COMMIT) => Ok(()),
        _ => Err(PublishError::Cancelled { what: "the mirroring" }),
    }
}

/// Says one thing to the other side.
///
/// # Errors
/// Those of the connection.
pub fn say(output: &mut impl Write, message: &Message) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
