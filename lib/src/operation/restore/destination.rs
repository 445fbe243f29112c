//! Where a backup goes: a file for one database, a directory for a set or for files.
//!
//! | the path | the backup | what it is |
//! |---|---|---|
//! | is a directory | any | that directory |
//! | is a file, or nothing under the database's own name | one database | that file |
//! | nothing, and ends in `/` | any | a new directory |
//! | nothing | several databases, or files | a new directory |
//! | nothing | one database alone | that file |

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::common::{real_path, refused};
use super::super::error::{During, OperationError};
use super::super::request::{RestoreReport, RestoreRequest};
use super::super::staging;
use super::super::verification::of_backup;
use crate::archive::{Backup, Estimate, Payload, PayloadKind, Rights, Store};
use crate::controller::ServiceController;
use crate::database::sqlite;
use crate::failure::FailureKind;
use crate::quiesce::Context;
use crate::world::disk::{AtPath, parent_of, sync_dir};
use crate::world::raw_path::RawPath;

/// One database of the backup and where it goes.
pub(super) struct Item {
    payload: Payload,
    pub(super) target: PathBuf,
    staging: PathBuf,
    pub(super) staged: PathBuf,
}

/// The files of the backup: into a directory of their own, they never overwrite what is there.
pub(super) struct Files {
    payload: Payload,
    target: PathBuf,
    staging: PathBuf,
}

/// Where everything goes. Nothing is made yet.
pub(super) struct Destination {
    pub(super) items: Vec<Item>,
    pub(super) files: Option<Files>,
    /// The directory that is to be made, and whose it will be.
    new_directory: Option<(PathBuf, Option<Rights>)>,
    /// What of the backup has no place there.
    pub(super) notices: Vec<String>,
}

impl Destination {
    pub(super) fn of(backup: &Backup, request: &RestoreRequest, what: &str) -> Result<Self, OperationError> {
        let to = real_path(&request.to);
        let of_kind = |kind| backup.manifest().payloads.iter().filter(move |payload| payload.kind == kind);
        let databases: Vec<&Payload> = of_kind(PayloadKind::Sqlite).collect();
        let files = of_kind(PayloadKind::Files).next();
        let is_new = std::fs::symlink_metadata(&to).is_err();
        if is_new && !parent_of(&to).is_dir() {
            return Err(OperationError::Refused {
                what: what.to_owned(),
                reason: format!("there is no directory {}", parent_of(&to).display()),
                kind: FailureKind::Usage,
                hint: Some("create it, or restore to another place".to_owned()),
            });
        }
        let store = real_path(&request.store);
        if to.starts_with(&store) {
            return Err(OperationError::Refused {
                what: what.to_owned(),
                reason: format!("{} lies inside the store {}", to.display(), store.display()),
                kind: FailureKind::Usage,
                hint: Some("restore to a place outside of it".to_owned()),
            });
        }
        let own_name = databases.first().and_then(|payload| payload.source.file_name());
        let asks_for_directory = request.to.as_os_str().as_bytes().ends_with(b"/");
        let is_directory = match (is_new, &databases[..]) {
            (false, _) => to.is_dir(),
            (true, [_]) => asks_for_directory || files.is_some() && own_name != to.file_name(),
            (true, _) => true,
        };
        if databases.len() != 1 && !is_directory {
            let reason = format!(
                "the backup holds {} databases and {} is a file: a set goes into a directory",
                databases.len(),
                to.display()
            );
            return Err(refused(what, reason, FailureKind::Usage));
        }
        let mut destination = Self { items: Vec::new(), files: None, new_directory: None, notices: Vec::new() };
        for payload in &databases {
            let target = if is_directory { destination.place_in(&to, payload) } else { to.clone() };
            let target = real_path(&target);
            // A device would be replaced by a file, for the whole machine.
            match std::fs::metadata(&target) {
                Ok(metadata) if !metadata.is_file() => {
                    let reason = format!("{} is not a file that a database could replace", target.display());
                    return Err(refused(what, reason, FailureKind::Usage));
                }
                _ => {}
            }
            let staging = staging::directory_for(&target, &backup.manifest().id);
            let staged = staging.join(Backup::extracted_name(payload));
            destination.items.push(Item { payload: (*payload).clone(), target, staging, staged });
        }
        if is_directory && is_new {
            let rights = databases.first().and_then(|payload| payload.directory_rights);
            destination.new_directory = Some((to.clone(), rights));
        }
        match files {
            Some(payload) if is_directory => {
                let name = format!("files-{}", backup.manifest().id);
                let numbered = (2..).map(|n| to.join(format!("{name}-{n}")));
                let mut names = std::iter::once(to.join(&name)).chain(numbered);
                let target = names.find(|path| std::fs::symlink_metadata(path).is_err()).unwrap_or_default();
                let staging = staging::directory_for(&to.join("files"), &backup.manifest().id);
                destination.files = Some(Files { payload: payload.clone(), target, staging });
            }
            Some(_) => {
                let notice = "the backup also holds files: restore to a directory to get them";
                destination.notices.push(notice.to_owned());
            }
            None => {}
        }
        Ok(destination)
    }

    /// Under its own name; where two came from directories of their own, under the one that it has in the backup.
    fn place_in(&mut self, directory: &Path, payload: &Payload) -> PathBuf {
        let in_backup = OsStr::new(Backup::extracted_name(payload));
        let own = directory.join(payload.source.file_name().unwrap_or(in_backup));
        if !self.items.iter().any(|item| item.target == real_path(&own)) {
            return own;
        }
        let other = directory.join(in_backup);
        self.notices.push(format!(
            "{} becomes {}: another database of the backup has its name",
            payload.source.display(),
            other.display()
        ));
        other
    }

    /// Where a database is to take the place of another one that the store has backups of: likely a mistake.
    pub(super) fn of_others(&self, store: &Store) -> Vec<String> {
        let elsewhere: Vec<&Item> = self.items.iter().filter(|item| item.target != item.payload.source).collect();
        if elsewhere.is_empty() {
            return Vec::new();
        }
        // What can't be read of the store says nothing here.
        let others = store.targets().and_then(|targets| store.backups_of(&targets)).unwrap_or_default();
        let is_known = |path: &Path| {
            let mut payloads = others.iter().flat_map(|backup| &backup.manifest().payloads);
            payloads.any(|payload| payload.kind == PayloadKind::Sqlite && payload.source == path)
        };
        let told = elsewhere.into_iter().filter(|item| is_known(&item.target)).map(|item| {
            let (source, target) = (item.payload.source.display(), item.target.display());
            format!("this is a backup of {source}, and {target} is another database that the store has backups of")
        });
        told.collect()
    }

    /// What the operation locks, as [`crate::lock::LockKey::database`] takes it.
    pub(super) fn locked(&self) -> Vec<PathBuf> {
        let files = self.files.iter().map(|files| parent_of(&files.target).join("files"));
        self.items.iter().map(|item| item.target.clone()).chain(files).collect()
    }

    pub(super) fn staging(&self) -> Vec<PathBuf> {
        let files = self.files.iter().map(|files| files.staging.clone());
        self.items.iter().map(|item| item.staging.clone()).chain(files).collect()
    }

    /// Makes the directory where there is none yet, for us alone until the databases are in it.
    pub(super) fn make(&self, what: &str) -> Result<Made<'_>, OperationError> {
        let Some((path, _)) = &self.new_directory else { return Ok(Made(None)) };
        DirBuilder::new().mode(0o700).create(path).at("create the directory", path).during(what)?;
        let made = Made(Some(path));
        sync_dir(parent_of(path)).during(what)?;
        Ok(made)
    }

    /// Before anything is written.
    pub(super) fn check_space(&self, what: &str) -> Result<(), OperationError> {
        let mut needs: BTreeMap<&Path, Estimate> = BTreeMap::new();
        let items = self.items.iter().map(|item| (parent_of(&item.target), &item.payload));
        let files = self.files.iter().map(|files| (parent_of(&files.target), &files.payload));
        for (directory, payload) in items.chain(files) {
            let need = needs.entry(directory).or_default();
            need.bytes = need.bytes.saturating_add(payload.content_bytes);
            need.files += 4;
        }
        for (directory, need) in needs {
            need.check("the restore", directory).map_err(|error| OperationError::Refused {
                what: what.to_owned(),
                reason: error.to_string(),
                kind: FailureKind::Failed,
                hint: Some("free some space there, or restore to another file system".to_owned()),
            })?;
        }
        Ok(())
    }

    /// Extracts everything beside where it goes and checks it there, while the service still runs.
    pub(super) fn stage(&self, context: &Context, backup: &Backup, what: &str) -> Result<(), OperationError> {
        let observer = context.observer.as_ref();
        for Item { payload, target, staging, staged } in &self.items {
            observer.step(&format!("extracting {}", target.display()));
            DirBuilder::new().mode(0o700).create(staging).at("create the directory", staging).during(what)?;
            backup.extract(payload, staging, &context.cancel, observer).during(what)?;
            sqlite::validate(staged, &context.cancel, observer)
                .map_err(|error| OperationError::Part { what: what.to_owned(), cause: of_backup(error) })?;
            // Where something stands, its owner and mode are carried over.
            if let Some(recorded) = payload.rights.filter(|_| !target.exists()) {
                // In its own place everybody may do what they could; another place may be open to more people.
                let is_its_own = *target == payload.source;
                let rights = if is_its_own { recorded } else { recorded.without_others() };
                rights.give(&File::open(staged).at("open", staged).during(what)?, staged).during(what)?;
            }
        }
        if let Some(Files { payload, staging, .. }) = &self.files {
            DirBuilder::new().mode(0o700).create(staging).at("create the directory", staging).during(what)?;
            backup.extract(payload, staging, &context.cancel, observer).during(what)?;
        }
        Ok(())
    }

    /// What comes after the databases, before the service is started on them: the files get their name, and a new
    /// directory its owner and mode.
    pub(super) fn complete(&self, report: &mut RestoreReport) {
        if let Some(Files { target, staging, .. }) = &self.files {
            let placed = std::fs::rename(staging, target).at("rename into place", target);
            match placed.and_then(|()| sync_dir(parent_of(target))) {
                Ok(()) => report.restored.push(RawPath(target.clone())),
                Err(error) => report.notices.push(format!(
                    "the files of the backup are not in place ({error}): restore them to another directory"
                )),
            }
        }
        if let Some((path, Some(rights))) = &self.new_directory
            && let Err(error) = File::open(path).at("open", path).and_then(|directory| rights.give(&directory, path))
        {
            report.notices.push(format!("the new directory has not the owner and mode of the old: {error}"));
        }
    }
}

impl Destination {
    /// The steps, for people.
    pub(super) fn plan(&self, service: Option<&dyn ServiceController>, backup: &Backup) -> Vec<String> {
        let id = &backup.manifest().id;
        let mut steps = Vec::new();
        if let Some((path, _)) = &self.new_directory {
            steps.push(format!("create the directory {}", path.display()));
        }
        for item in &self.items {
            steps.push(format!("extract {id} beside {} and check it", item.target.display()));
        }
        if let Some(service) = service {
            steps.push(format!("stop {}, prove that it is stopped, and hold it", service.label()));
        }
        for target in self.items.iter().map(|item| &item.target) {
            steps.push(match target.exists() {
                true => format!("keep {} and its side files aside, and put the backup in its place", target.display()),
                false => format!("put the backup at {}", target.display()),
            });
        }
        if let Some(files) = &self.files {
            steps.push(format!("put the files of the backup into {}", files.target.display()));
        }
        if let Some(service) = service {
            steps.push(format!("start {} if it was running, and wait until it is ready", service.label()));
        }
        steps
    }
}

/// A directory that was made for a restore: it goes again where nothing came into it.
#[must_use = "it is removed at its end, while it is empty"]
pub(super) struct Made<'a>(Option<&'a Path>);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            drop(std::fs::remove_dir(path));
        }
    }
}
