//! Mirror: the served generation is taken to another tree, on this machine or another, verified there, and served there.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{as_writer, holder, locked, watch};
use crate::failure::{Failure, FailureKind};
use crate::lock::Wait;
use crate::operation::common::refused;
use crate::operation::error::{During, OperationError};
use crate::publish::{
    COMMIT, Comparison, Generation, Manifest, Message, Offer, PublishError, Tree, Writer, accept, read_commit,
    read_offer, say,
};
use crate::quiesce::Context;
use crate::world::disk::AtPath;
use crate::world::program::wait_for;
use crate::world::raw_path::RawPath;
use crate::world::wait::readable;

/// Where a mirror is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A tree of this machine.
    Local(PathBuf),
    /// A tree of another one.
    Remote {
        /// `host` or `user@host`, as the transport takes it.
        host: OsString,
        /// The tree there.
        path: PathBuf,
    },
}

impl Destination {
    /// As rsync tells them apart: a colon before the first slash makes it remote.
    ///
    /// # Errors
    /// A host or path that can't be meant.
    pub fn parse(text: &std::ffi::OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let end = bytes.iter().position(|b| *b == b'/').unwrap_or(bytes.len());
        let Some(colon) = bytes[..end].iter().position(|b| *b == b':') else {
            return Ok(Self::Local(PathBuf::from(text)));
        };
        let (host, path) = (&bytes[..colon], &bytes[colon + 1..]);
        if host.is_empty() || host.starts_with(b"-") || path.is_empty() || path.starts_with(b":") {
            return Err("write it as HOST:PATH, or as ./PATH where the path has a colon".to_owned());
        }
        let of = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Ok(Self::Remote { host: of(host), path: of(path).into() })
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote { host, path } => write!(f, "{}:{}", host.to_string_lossy(), path.display()),
        }
    }
}

/// How the other machine is reached.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The words of ssh and its options.
    pub ssh: Vec<OsString>,
    /// The program there.
    pub remote_program: OsString,
    /// Compare files by their content.
    pub comparison: Comparison,
    /// Also go back to an older generation than the mirror serves.
    pub allow_older: bool,
    /// How long the copying may take.
    pub wait_max: Duration,
}

/// What came of a mirroring. `Serialize` is the `--json` form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MirrorReport {
    /// The mirror.
    pub destination: String,
    /// What it serves now.
    pub generation: Generation,
    /// What it served before.
    pub before: Option<Generation>,
}

/// Takes the served generation to a mirror. The tree's lock is held meanwhile.
///
/// # Errors
/// Whatever fails leaves the mirror as it is.
pub fn mirror(
    context: &Context,
    tree: &Path,
    destination: &Destination,
    transport: &Transport,
    wait: Wait,
) -> Result<MirrorReport, OperationError> {
    as_writer(context, "mirror", tree, wait, |writer| mirror_of(context, writer.tree(), destination, transport, wait))
}

/// The same under a lock that is held.
pub(super) fn mirror_of(
    context: &Context,
    tree: &Tree,
    destination: &Destination,
    transport: &Transport,
    wait: Wait,
) -> Result<MirrorReport, OperationError> {
    let what = format!("mirror {} to {destination}", tree.root().display());
    let none = || refused(&what, "the tree has no generation yet", FailureKind::No);
    let generation = tree.current().during(what.as_str())?.ok_or_else(none)?;
    let manifest = tree.manifest(generation).during(what.as_str())?;
    let before = match destination {
        Destination::Local(path) => local(context, tree, manifest, path, transport, wait)?,
        Destination::Remote { host, path } => {
            let remote = Remote { context, tree, destination, transport, host, path };
            remote.send(&manifest).during(what)?
        }
    };
    Ok(MirrorReport { destination: destination.to_string(), generation, before })
}

fn local(
    context: &Context,
    tree: &Tree,
    manifest: Manifest,
    path: &Path,
    transport: &Transport,
    wait: Wait,
) -> Result<Option<Generation>, OperationError> {
    let what = format!("mirror {} to {}", tree.root().display(), path.display());
    let root = Tree::real_root(path).during(what.as_str())?;
    if root.starts_with(tree.root()) || tree.root().starts_with(&root) {
        return Err(refused(&what, "one of them lies in the other", FailureKind::Usage));
    }
    Tree::make_root(&root).during(what.as_str())?;
    let lock = locked(context, "mirror", &root, wait)?;
    let writer = Writer::create(&root, &lock, &holder("mirror", &root)?).during(what.as_str())?;
    let mut staging = match writer.offered(&manifest, transport.allow_older, watch(context)).during(what.as_str())? {
        Offer::Served { before } => return Ok(before),
        Offer::Wanted(staging) => staging,
    };
    let source = tree.directory(manifest.generation);
    if let Err(error) = staging.build_from(&source, transport.comparison, watch(context)) {
        staging.give_up(&error);
        return Err(error).during(what);
    }
    accept(&writer, *staging, manifest, watch(context)).during(what)
}

/// Takes a generation from another machine, over a connection: the other side of [`mirror`].
///
/// # Errors
/// Those of the parts; the other side is told before.
pub fn receive(
    context: &Context,
    tree: &Path,
    allow_older: bool,
    wait: Wait,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<Generation, OperationError> {
    let what = format!("receive a generation in {}", tree.display());
    let received = (|| {
        let manifest = read_offer(input).during(what.as_str())?;
        let root = Tree::make_root(tree).during(what.as_str())?;
        let lock = locked(context, "receive", &root, wait)?;
        let writer = Writer::create(&root, &lock, &holder("receive", &root)?).during(what.as_str())?;
        let generation = manifest.generation;
        let before = match writer.offered(&manifest, allow_older, watch(context)).during(what.as_str())? {
            Offer::Served { before } => before,
            Offer::Wanted(staging) => {
                let current = writer.tree().current().during(what.as_str())?;
                let link_dest = current.map(|current| RawPath(writer.tree().directory(current)));
                let ready = Message::Ready { staging: RawPath(staging.directory().to_owned()), link_dest };
                let told = say(output, &ready).at("answer", tree).map_err(PublishError::from);
                if let Err(error) = told.and_then(|()| read_commit(input)) {
                    staging.give_up(&error);
                    return Err(error).during(what.as_str());
                }
                accept(&writer, *staging, manifest, watch(context)).during(what.as_str())?
            }
        };
        Ok((generation, before))
    })();
    let message = match &received {
        Ok((generation, before)) => Message::Served { generation: *generation, before: *before },
        Err(error) => Message::Refused { kind: kind_word(error.kind()).to_owned(), error: error.to_string() },
    };
    // Whoever does not hear it any more does not take it for done.
    let _gone = say(output, &message);
    received.map(|(generation, _)| generation)
}

/// The kinds that a refusal over the connection tells apart.
const KINDS: [(FailureKind, &str); 5] = [
    (FailureKind::LockHeld, "lock-held"),
    (FailureKind::Unsafe, "unsafe"),
    (FailureKind::Unverified, "unverified"),
    (FailureKind::Permission, "permission"),
    (FailureKind::Usage, "usage"),
];

fn kind_word(kind: FailureKind) -> &'static str {
    KINDS.iter().find(|(one, _)| *one == kind).map_or("failed", |(_, word)| word)
}

fn kind_of(word: &str) -> FailureKind {
    KINDS.iter().find(|(_, one)| *one == word).map_or(FailureKind::Failed, |(kind, _)| *kind)
}

struct Remote<'a> {
    context: &'a Context,
    tree: &'a Tree,
    destination: &'a Destination,
    transport: &'a Transport,
    host: &'a OsString,
    path: &'a Path,
}

impl Remote<'_> {
    fn failed(&self, reason: impl Into<String>, kind: FailureKind) -> PublishError {
        PublishError::Mirror { destination: self.destination.to_string(), reason: reason.into(), kind }
    }

    fn io(&self, doing: &str) -> impl FnOnce(std::io::Error) -> PublishError {
        let (destination, reason) = (self.destination.to_string(), doing.to_owned());
        move |error| PublishError::Mirror {
            destination,
            reason: format!("{reason}: {error}"),
            kind: FailureKind::Failed,
        }
    }

    fn send(&self, manifest: &Manifest) -> Result<Option<Generation>, PublishError> {
        self.context.observer.step("asking the mirror");
        let mut child = self.connect()?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(self.failed("ssh has no pipes", FailureKind::Failed));
        };
        let mut output = BufReader::new(output);
        let served = self.talk(manifest, &mut input, &mut output);
        // The end of the connection, which aborts what was not committed.
        drop(input);
        let ended = wait_for(child, Duration::from_secs(60), Some(self.context.cancel.as_fd()));
        let served = served?;
        ended.map_err(self.io("ssh did not end"))?;
        Ok(served)
    }

    fn talk(
        &self,
        manifest: &Manifest,
        input: &mut ChildStdin,
        output: &mut BufReader<ChildStdout>,
    ) -> Result<Option<Generation>, PublishError> {
        let line = manifest.to_line().map_err(self.io("the manifest could not be written"))?;
        // A side that refuses at once closes the connection: what it says tells why.
        let offered = input.write_all(&line).and_then(|()| input.flush());
        match self.hear(output)? {
            Message::Ready { staging, link_dest } => {
                offered.map_err(self.io("the manifest could not be sent"))?;
                self.copy(manifest.generation, staging.as_ref(), link_dest.as_ref().map(AsRef::as_ref))?;
                self.context.observer.step("the mirror verifies it");
                input.write_all(format!("{COMMIT}\n").as_bytes()).map_err(self.io("the commit could not be sent"))?;
                input.flush().map_err(self.io("the commit could not be sent"))?;
            }
            Message::Served { before, .. } => return Ok(before),
            Message::Refused { kind, error } => return Err(self.failed(error, kind_of(&kind))),
        }
        match self.hear(output)? {
            Message::Served { before, .. } => Ok(before),
            Message::Refused { kind, error } => Err(self.failed(error, kind_of(&kind))),
            Message::Ready { .. } => Err(self.failed("it answers out of turn", FailureKind::Failed)),
        }
    }

    fn hear(&self, output: &mut BufReader<ChildStdout>) -> Result<Message, PublishError> {
        let mut line = String::new();
        if output.buffer().is_empty() {
            let fds = [output.get_ref().as_fd(), self.context.cancel.as_fd()];
            let ready = readable(&fds, Instant::now() + self.transport.wait_max).map_err(self.io("no answer"))?;
            if !ready.contains(&0) {
                return Err(self.failed("it did not answer in time, or the end was asked for", FailureKind::Failed));
            }
        }
        output.read_line(&mut line).map_err(self.io("its answer could not be read"))?;
        serde_json::from_str(&line).map_err(|_| {
            let said: String = line.chars().take(200).collect();
            self.failed(
                format!("the connection ended, or it does not speak as svc-publish does: {said:?}"),
                FailureKind::Failed,
            )
        })
    }

    fn connect(&self) -> Result<Child, PublishError> {
        let Some((ssh, options)) = self.transport.ssh.split_first() else {
            return Err(self.failed("the transport has no word", FailureKind::Usage));
        };
        // ssh hands one line to a shell of the other side.
        let words: [&std::ffi::OsStr; 3] = [&self.transport.remote_program, "receive".as_ref(), "--".as_ref()];
        let mut line = Vec::new();
        let older: Option<&std::ffi::OsStr> = self.transport.allow_older.then(|| "--allow-older".as_ref());
        let words = words[..2].iter().copied().chain(older).chain([words[2], self.path.as_os_str()]);
        for word in words {
            let quoted = shlex::bytes::try_quote(word.as_bytes());
            let quoted = quoted.map_err(|_| self.failed("its path can't be quoted for a shell", FailureKind::Usage))?;
            line.extend_from_slice(&quoted);
            line.push(b' ');
        }
        let mut command = Command::new(ssh);
        command.args(options).arg("--").arg(self.host).arg(OsString::from_vec(line));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(self.io("ssh can't be started"))
    }

    /// The files themselves: rsync knows which of them the other side has.
    fn copy(&self, generation: Generation, staging: &Path, link_dest: Option<&Path>) -> Result<(), PublishError> {
        self.context.observer.step("copying to the mirror");
        let mut source = self.tree.directory(generation).into_os_string();
        source.push("/");
        let mut target = self.host.clone();
        target.push(":");
        target.push(staging);
        target.push("/");
        let mut command = Command::new("rsync");
        // By content: rsync's own look compares times by the second, and two generations may be of the same one.
        command.args(["--archive", "--checksum", "--delete", "--protect-args", "--quiet"]);
        if let Some(link_dest) = link_dest {
            let mut option = OsString::from("--link-dest=");
            option.push(link_dest);
            command.arg(option);
        }
        command.arg("--rsh").arg(self.rsh()?).arg("--").arg(source).arg(target);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(self.io("rsync can't be started (apt-get install rsync)"))?;
        let ended = wait_for(child, self.transport.wait_max, Some(self.context.cancel.as_fd()));
        match ended.map_err(self.io("rsync"))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failed(format!("rsync ended with {status}"), FailureKind::Failed)),
            None if self.context.cancel.is_requested() => Err(PublishError::Cancelled { what: "the mirroring" }),
            None => Err(self.failed("rsync was asked to end: it took too long", FailureKind::Failed)),
        }
    }

    /// rsync takes the transport as one line and splits it itself; quotes have no escapes there.
    fn rsh(&self) -> Result<OsString, PublishError> {
        let mut line = Vec::new();
        for word in &self.transport.ssh {
            let word = word.as_bytes();
            if word.contains(&b'\'') {
                return Err(
                    self.failed("a word of the transport has a quote, which rsync can't take", FailureKind::Usage)
                );
            }
            let is_plain = !word.is_empty() && !word.iter().any(|b| b.is_ascii_whitespace() || *b == b'"');
            let quote: &[u8] = if is_plain { b"" } else { b"'" };
            line.extend([quote, word, quote, b" "].concat());
        }
        Ok(OsString::from_vec(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_the_first_slash_makes_a_mirror_remote() {
        let parse = |text: &str| Destination::parse(text.as_ref());
        assert_eq!(parse("/srv/a:b"), Ok(Destination::Local("/srv/a:b".into())));
        assert_eq!(parse("./a:b"), Ok(Destination::Local("./a:b".into())));
        let remote = |host: &str, path: &str| Ok(Destination::Remote { host: host.into(), path: path.into() });
        assert_eq!(parse("web@host:/srv/x y"), remote("web@host", "/srv/x y"));
        assert_eq!(parse("host:tree"), remote("host", "tree"));
        for bad in [":x", "host:", "-oProxyCommand=x:/y", "host::module"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
