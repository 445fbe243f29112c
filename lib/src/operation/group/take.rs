//! What a group's members have, taken while those that are taken cold are down.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::backup::{identify, refuse_live};
use super::super::common::{real_path, refused};
use super::super::dump::is_of_stream;
use super::super::error::{During, OperationError};
use super::super::request::BackupMode;
use super::super::server::{Attached, attach};
use super::{GroupMember, GroupRequest, MemberData, MemberFiles};
use crate::archive::{ArchiveError, Draft, Payload, PayloadKind, Reserved, TreeRequest};
use crate::compression::Compression;
use crate::controller::ServiceController;
use crate::database::server::{DumpFacts, DumpStream, Looked, Part};
use crate::database::sqlite::{self, RawSet, Snapshot, SnapshotRequest};
use crate::failure::FailureKind;
use crate::name::TargetName;
use crate::quiesce::{Context, Quiesced};
use crate::world::disk::create_private_dir;

/// A member, with all that can be known before anything is stopped.
pub(super) struct Prepared<'a> {
    member: &'a GroupMember,
    data: Data<'a>,
}

enum Data<'a> {
    Files { files: &'a MemberFiles, databases: Vec<PathBuf>, sizes: Vec<u64> },
    Server { attached: Box<Attached>, looked: Looked, parts: Vec<Part> },
}

impl Prepared<'_> {
    pub(super) fn name(&self) -> &TargetName {
        &self.member.name
    }

    pub(super) fn compression(&self) -> Compression {
        self.member.compression
    }

    pub(super) fn files(&self) -> Option<&MemberFiles> {
        match &self.data {
            Data::Files { files, .. } => Some(files),
            Data::Server { .. } => None,
        }
    }

    pub(super) fn attached(&self) -> Option<&Attached> {
        match &self.data {
            Data::Files { .. } => None,
            Data::Server { attached, .. } => Some(attached),
        }
    }

    pub(super) fn service(&self) -> Option<&dyn ServiceController> {
        match &self.data {
            Data::Files { files, .. } => files.controller.as_deref(),
            Data::Server { attached, .. } => attached.service(),
        }
    }

    pub(super) fn databases(&self) -> &[PathBuf] {
        match &self.data {
            Data::Files { databases, .. } => databases,
            Data::Server { .. } => &[],
        }
    }

    pub(super) fn sizes(&self) -> &[u64] {
        match &self.data {
            Data::Files { sizes, .. } => sizes,
            Data::Server { .. } => &[],
        }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        match &self.data {
            Data::Files { .. } => Vec::new(),
            Data::Server { looked, .. } => {
                looked.notes.iter().map(|note| format!("{}: {note}", self.member.name)).collect()
            }
        }
    }
}

/// Looks at every member, and reaches every server.
pub(super) fn prepare<'a>(
    context: &Context,
    request: &'a GroupRequest,
    what: &str,
) -> Result<Vec<Prepared<'a>>, OperationError> {
    let mut prepared: Vec<Prepared<'a>> = Vec::new();
    for member in &request.members {
        let of_member = format!("{what}: {}", member.name);
        if prepared.iter().any(|other| *other.name() == member.name) {
            return Err(refused(&of_member, "it is named twice", FailureKind::Usage));
        }
        let data = match &member.data {
            MemberData::Files(files) => {
                let databases: Vec<PathBuf> = files.databases.iter().map(|path| real_path(path)).collect();
                let sizes = identify(&databases, &of_member)?;
                Data::Files { files, databases, sizes }
            }
            MemberData::Server(server) => {
                let (place, server) = &**server;
                let attached = attach(context, place, server, request.credentials.as_deref(), &of_member)?;
                let wanted = server.databases.named();
                let looked = attached.engine.look(&attached.session, wanted).during(of_member.as_str())?;
                let parts = attached.engine.parts(&looked);
                if parts.is_empty() {
                    return Err(refused(&of_member, "the server has no database of its own", FailureKind::No));
                }
                Data::Server { attached: Box::new(attached), looked, parts }
            }
        };
        prepared.push(Prepared { member, data });
    }
    refuse_overlaps(&prepared, what)?;
    Ok(prepared)
}

/// A member that is stopped must take no other member along that is dumped, nor be two members.
fn refuse_overlaps(prepared: &[Prepared<'_>], what: &str) -> Result<(), OperationError> {
    let label = |one: &Prepared<'_>| one.service().map(|service| service.label());
    let is_stopped = |one: &&Prepared<'_>| one.files().is_some_and(|files| files.mode == BackupMode::Cold);
    for (index, cold) in prepared.iter().enumerate().filter(|(_, one)| is_stopped(one)) {
        let Some(service) = cold.service() else { continue };
        let mut stops: Vec<String> = Vec::new();
        for dependant in service.dependants().during(what)? {
            stops.push(dependant.label());
        }
        stops.push(service.label());
        let others = prepared.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, one)| one);
        for other in others {
            let refuse = |reason: String, hint: &str| {
                let (what, hint) = (what.to_owned(), Some(hint.to_owned()));
                Err(OperationError::Refused { what, reason, kind: FailureKind::Usage, hint })
            };
            if other.attached().is_some() && label(other).is_some_and(|label| stops.contains(&label)) {
                let reason = format!("{} would stop the server that {} is dumped from", cold.name(), other.name());
                return refuse(reason, "take it hot, or leave one of them out of the group");
            }
            if is_stopped(&other) && label(other) == Some(service.label()) {
                let reason = format!("{} and {} stop the same service", cold.name(), other.name());
                return refuse(reason, "make one target of the two");
            }
        }
    }
    Ok(())
}

/// What was taken: dumps are in the draft, copies in its scratch space.
pub(super) struct Taken {
    /// By the name of their payload: whose it is, and what it has.
    pub(super) dumps: BTreeMap<String, (usize, DumpFacts)>,
    pub(super) snapshots: Vec<(usize, Snapshot)>,
    /// Of those that were stopped: recovered when they are back.
    pub(super) raw: Vec<(usize, RawSet)>,
}

/// A dump that runs, and where it goes.
struct Begun<'a> {
    index: usize,
    name: String,
    reserved: Reserved,
    stream: Box<dyn DumpStream + 'a>,
    image: (String, String),
}

/// Begins every dump, copies beside them, and waits for the ends of all.
pub(super) fn take(
    context: &Context,
    request: &GroupRequest,
    prepared: &[Prepared<'_>],
    stopped: &[(usize, Quiesced<'_>)],
    draft: &mut Draft,
    what: &str,
) -> Result<Taken, OperationError> {
    let begun = begin_dumps(context, prepared, draft, what)?;
    let given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut draining = Vec::new();
        for one in begun {
            let (given_up, what) = (&given_up, what);
            let thread = std::thread::Builder::new().name(one.name.clone());
            let run = move || {
                let done = drain(context, one, given_up, what);
                given_up.fetch_or(done.is_err(), Ordering::SeqCst);
                done
            };
            match thread.spawn_scoped(scope, run) {
                Ok(handle) => draining.push(handle),
                Err(error) => {
                    given_up.store(true, Ordering::SeqCst);
                    return Err(refused(what, format!("no thread for a dump: {error}"), FailureKind::Failed));
                }
            }
        }
        let copied = copy(context, request, prepared, stopped, draft, what);
        given_up.fetch_or(copied.is_err(), Ordering::SeqCst);
        let mut dumps = BTreeMap::new();
        let mut failed = None;
        for handle in draining {
            let done =
                handle.join().unwrap_or_else(|_| Err(refused(what, "a dump's thread panicked", FailureKind::Failed)));
            match done {
                // Where something else failed, the draft may be given up by now.
                Ok(Some((index, payload, facts))) if copied.is_ok() && failed.is_none() => {
                    dumps.insert(payload.name.clone(), (index, facts));
                    failed = draft.adopt(payload).during(what).err();
                }
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match (failed, copied) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok((snapshots, raw))) => Ok(Taken { dumps, snapshots, raw }),
        }
    })
}

/// Programs of all servers, started one right after the other. Each waits with a full pipe until it is read.
fn begin_dumps<'a>(
    context: &Context,
    prepared: &'a [Prepared<'_>],
    draft: &mut Draft,
    what: &str,
) -> Result<Vec<Begun<'a>>, OperationError> {
    let mut begun = Vec::new();
    for (index, member) in prepared.iter().enumerate() {
        let Data::Server { attached, looked, parts } = &member.data else { continue };
        context.observer.step(&format!("beginning the dump of {}", member.name()));
        let label = attached.label();
        looked.notes.iter().for_each(|note| draft.note(format!("{}: {note}", member.name())));
        let image = attached.session.image().during(what)?;
        for part in parts {
            let name = format!("{}/{}", member.name(), part.name);
            let source = PathBuf::from(format!("{label}: {}", part.name));
            draft.pack(member.compression(), Some(member.name()));
            let reserved = draft.reserve(PayloadKind::Dump, &name, &source).during(what)?;
            let stream = attached.engine.dump(&attached.session, looked, part).during(what)?;
            begun.push(Begun { index, name, reserved, stream, image: image.clone() });
        }
    }
    Ok(begun)
}

/// `None`: it was ended because something else had failed.
fn drain(
    context: &Context,
    begun: Begun<'_>,
    given_up: &AtomicBool,
    what: &str,
) -> Result<Option<(usize, Payload, DumpFacts)>, OperationError> {
    let Begun { index, reserved, mut stream, image, .. } = begun;
    let mut watched = Watched { inner: &mut *stream, given_up };
    let filled = reserved.fill(&mut watched, &context.cancel, context.observer.as_ref());
    if given_up.load(Ordering::SeqCst) {
        return Ok(None);
    }
    // How the program ended explains a stream that broke, and a stream that did not break proves nothing.
    let (payload, mut facts) = match filled {
        Ok(payload) => (payload, stream.finish().during(what)?),
        Err(error) if is_of_stream(&error) => {
            stream.finish().during(what)?;
            return Err(error).during(what);
        }
        Err(error) => return Err(error).during(what),
    };
    (facts.image, facts.image_id) = image;
    Ok(Some((index, payload, facts)))
}

/// A stream that breaks when the group is given up.
struct Watched<'a> {
    inner: &'a mut dyn DumpStream,
    given_up: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given_up.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("another member of the group failed"));
        }
        self.inner.read(buffer)
    }
}

type Copied = (Vec<(usize, Snapshot)>, Vec<(usize, RawSet)>);

/// Databases and files: of stopped services as they are, of running ones at one instant.
fn copy(
    context: &Context,
    request: &GroupRequest,
    prepared: &[Prepared<'_>],
    stopped: &[(usize, Quiesced<'_>)],
    draft: &mut Draft,
    what: &str,
) -> Result<Copied, OperationError> {
    let mut raw = Vec::new();
    let (mut running, mut is_fenced) = (Vec::new(), false);
    for (index, member) in prepared.iter().enumerate() {
        let (Some(files), databases) = (member.files(), member.databases()) else { continue };
        if let Some((_, quiesced)) = stopped.iter().find(|(of, _)| *of == index) {
            context.observer.step(&format!("copying {} at rest", member.name()));
            let into = draft.scratch().join(format!("member-{index}"));
            create_private_dir(&into).during(what)?;
            let taken = sqlite::take_cold(&snapshot_of(context, request, databases, &into), &quiesced.at_rest());
            raw.push((index, taken.during(what)?));
        } else {
            if files.mode == BackupMode::Cold {
                refuse_live(databases, what)?;
            }
            is_fenced |= files.mode == BackupMode::Fenced;
            running.extend(databases.iter().map(|path| (index, path.clone())));
        }
    }
    let paths: Vec<PathBuf> = running.iter().map(|(_, path)| path.clone()).collect();
    let mut snapshots = Vec::new();
    if !paths.is_empty() {
        context.observer.step("taking the snapshot");
        let snapshot = if is_fenced { sqlite::snapshot_fenced } else { sqlite::snapshot_hot };
        for taken in snapshot(&snapshot_of(context, request, &paths, draft.scratch())).during(what)? {
            let of = running.iter().find(|(_, path)| *path == taken.source).map_or(0, |(index, _)| *index);
            snapshots.push((of, taken));
        }
    }
    for member in prepared {
        add_includes(context, member, draft).during(what)?;
    }
    Ok((snapshots, raw))
}

fn snapshot_of<'a>(
    context: &'a Context,
    request: &GroupRequest,
    databases: &'a [PathBuf],
    into: &'a Path,
) -> SnapshotRequest<'a> {
    SnapshotRequest {
        databases,
        into,
        fence_hold_max: request.fence_hold_max,
        cancel: &context.cancel,
        observer: context.observer.as_ref(),
    }
}

fn add_includes(context: &Context, member: &Prepared<'_>, draft: &mut Draft) -> Result<(), ArchiveError> {
    let Some(files) = member.files().filter(|files| !files.includes.patterns.is_empty()) else { return Ok(()) };
    context.observer.step(&format!("packing the files of {}", member.name()));
    let wanted = TreeRequest { includes: &files.includes.patterns, databases: member.databases() };
    draft.pack(member.compression(), Some(member.name()));
    draft.add_tree(&format!("{}/files", member.name()), &wanted, context.observer.as_ref()).map(drop)
}
