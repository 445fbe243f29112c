//! A database and its side files are replaced as one thing, by a journalled roll-forward.
//!
//! Up to four files stand for one database (itself, `-wal`, `-shm`, `-journal`), and no rename covers them: a new
//! database beside the old log is malformed, and an old database without its log has lost commits while every check
//! says ok. So the caller holds the service, writes the [`Replacement`] down durably, and calls [`roll_forward`] until
//! it says that it is done; a crash anywhere between is followed by another call.
//!
//! | state found | what `roll_forward` does |
//! |---|---|
//! | nothing moved | moves the side files into `kept`, links the old database there, syncs both directories, renames |
//! | some side files moved | the same; what has moved already is recognised by device and inode |
//! | old database linked or moved | the same |
//! | side files of the new database in place | the same |
//! | `target` is the staged file | syncs the directory: done |
//! | anything that it does not know by its identity | touches nothing, and says what it found |

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{RenameFlags, renameat_with};

use super::carry::carry_over;
use super::error::SqliteError;
use super::own::beside;
use crate::journal::{KeptFile, Replacement, StagedSide};
use crate::world::disk::{AtPath, FileId, create_private_dir, parent_of, sync_dir};
use crate::world::raw_path::RawPath;

const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Makes everything ready and changes nothing of what stands at `target`: the staged database gets its owner, mode and
/// extended attributes and is synced; `kept_dir` is created with mode 0700. The answer is to be written to the journal
/// before [`roll_forward`].
///
/// `staged` is complete in one file and lies in the same file system, as `kept_dir` does. A symbolic link at `target`
/// is followed. Where nothing stands at `target`, the staged file keeps the owner and mode that it has.
///
/// # Errors
/// What can't be carried over; [`SqliteError::Replace`] where the files don't lie as they must.
pub fn prepare(target: &Path, staged: &Path, kept_dir: &Path) -> Result<Replacement, SqliteError> {
    let target = match std::fs::canonicalize(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let directory = std::fs::canonicalize(parent_of(target)).at("look up", parent_of(target))?;
            directory.join(target.file_name().unwrap_or_default())
        }
        other => other.at("look up", target)?,
    };
    let refuse = |reason: String| SqliteError::Replace { path: target.clone(), reason };
    if std::fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(refuse("it is no regular file".to_owned()));
    }
    for suffix in SIDE_FILES {
        if exists(&beside(staged, suffix)) {
            return Err(refuse(format!("the new database {} has a {suffix} beside it", staged.display())));
        }
    }
    create_private_dir(kept_dir)?;
    let file = File::open(staged).at("open", staged)?;
    let staged_id = FileId::of_open(&file).at("look at", staged)?;
    for other in [parent_of(&target), kept_dir] {
        if FileId::of(other)?.device != staged_id.device {
            return Err(refuse(format!("{} is on another file system than {}", other.display(), staged.display())));
        }
    }
    let mut old = Vec::new();
    for path in std::iter::once(target.clone()).chain(SIDE_FILES.map(|suffix| beside(&target, suffix))) {
        if let Some(id) = id_of(&path)? {
            old.push(KeptFile { path: RawPath(path), id });
        }
    }
    if old.iter().any(|kept| kept.path.0 == target) {
        carry_over(&target, &file, staged)?;
    }
    file.sync_all().at("sync", staged)?;
    sync_dir(parent_of(staged))?;
    Ok(Replacement {
        target: RawPath(target),
        staged: RawPath(staged.to_owned()),
        staged_id,
        kept: RawPath(kept_dir.to_owned()),
        old,
        beside: Vec::new(),
    })
}

/// As [`prepare`], for a database whose log or journal belongs to it: `beside` has those files, each with its suffix.
///
/// # Errors
/// Those of [`prepare`].
pub fn prepare_with(
    target: &Path,
    staged: &Path,
    beside: &[(PathBuf, String)],
    kept_dir: &Path,
) -> Result<Replacement, SqliteError> {
    let mut replacement = prepare(target, staged, kept_dir)?;
    for (staged, suffix) in beside {
        let file = File::open(staged).at("open", staged)?;
        if replacement.old.iter().any(|old| old.path == replacement.target) {
            carry_over(&replacement.target.0, &file, staged)?;
        }
        file.sync_all().at("sync", staged)?;
        let path = RawPath(self::beside(&replacement.target.0, suffix));
        let id = FileId::of_open(&file).at("look at", staged)?;
        replacement.beside.push(StagedSide { staged: RawPath(staged.clone()), id, path });
    }
    sync_dir(parent_of(staged))?;
    Ok(replacement)
}

/// Does what is left to do of a replacement, in an order in which every crash can be followed by another call. When
/// it returns, the new database stands at the target, durably, and everything that stood there is in `kept`.
///
/// # Errors
/// [`SqliteError::Replace`] where a file is not the one that was recorded; nothing was moved by this call then, unless
/// it says so.
pub fn roll_forward(replacement: &Replacement) -> Result<(), SqliteError> {
    roll_forward_with(replacement, &mut |_| Ok(()))
}

/// As [`roll_forward`]; `before` is called before each step that changes something, with its name.
pub(super) fn roll_forward_with(
    replacement: &Replacement,
    before: &mut dyn FnMut(&str) -> Result<(), SqliteError>,
) -> Result<(), SqliteError> {
    let target = replacement.target.as_ref();
    let directory = parent_of(target);
    let refuse = |reason: String| SqliteError::Replace { path: target.to_owned(), reason };
    let now = id_of(target)?;
    if now == Some(replacement.staged_id) {
        return Ok(sync_dir(directory)?);
    }
    // Everything is looked at before anything is moved.
    let staged = replacement.staged.as_ref();
    if id_of(staged)? != Some(replacement.staged_id) {
        return Err(refuse(format!("the new database is not at {} any more", staged.display())));
    }
    let mut to_move = Vec::new();
    for old in &replacement.old {
        let kept = kept_path(replacement, &old.path.0);
        match (id_of(old.path.as_ref())?, id_of(&kept)?) {
            (here, there) if here != Some(old.id) && there == Some(old.id) => {
                if here.is_some() && !is_new(replacement, &old.path.0, here) {
                    return Err(refuse(format!("{} is there anew", old.path.0.display())));
                }
            }
            (Some(here), there) if here == old.id && (there.is_none() || there == Some(old.id)) => {
                to_move.push((&old.path.0, kept));
            }
            (Some(here), Some(_)) if here == old.id => {
                return Err(refuse(format!("{} is another file", kept.display())));
            }
            // An empty log or index may go with the last connection; what was recorded must be somewhere otherwise.
            (None, _) if old.path.0 == beside(target, "-shm") => {}
            _ => return Err(refuse(format!("{} is not the file that was recorded", old.path.0.display()))),
        }
    }
    for path in std::iter::once(target.to_owned()).chain(SIDE_FILES.map(|suffix| beside(target, suffix))) {
        let known = replacement.old.iter().any(|old| old.path.0 == path) || is_new(replacement, &path, id_of(&path)?);
        if exists(&path) && !known {
            return Err(refuse(format!("{} was not there when the replacement was prepared", path.display())));
        }
    }

    let moves_target = |path: &&PathBuf| path.as_path() == target;
    for (path, kept) in to_move.iter().filter(|(path, _)| !moves_target(path)) {
        before("move a side file aside")?;
        std::fs::rename(path, kept).at("move aside", path)?;
    }
    if let Some((path, kept)) = to_move.iter().find(|(path, _)| moves_target(path)) {
        before("keep the old database")?;
        // Side files of the new database must never lie beside the old one.
        let linked = if replacement.beside.is_empty() {
            std::fs::hard_link(path, kept)
        } else {
            Err(std::io::ErrorKind::Unsupported.into())
        };
        match linked {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            // A file system without hard links: for a moment nothing stands at the target, which the hold covers.
            Err(_) => std::fs::rename(path, kept).at("move aside", path)?,
            Ok(()) => {}
        }
    }
    before("sync what is kept")?;
    sync_dir(replacement.kept.as_ref())?;
    sync_dir(directory)?;
    put_beside(replacement, before)?;
    before("put the new database in place")?;
    if exists(target) {
        std::fs::rename(staged, target).at("rename into place", target)?;
    } else {
        let cwd = rustix::fs::CWD;
        // Nobody's file is overwritten unseen.
        match renameat_with(cwd, staged, cwd, target, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL) => std::fs::rename(staged, target).at("rename into place", target)?,
            other => other.at("rename into place", target)?,
        }
    }
    before("sync the directory")?;
    sync_dir(directory)?;
    Ok(sync_dir(parent_of(staged))?)
}

/// Whether the new database stands at the target.
#[must_use]
pub fn is_in_place(replacement: &Replacement) -> bool {
    id_of(replacement.target.as_ref()).is_ok_and(|id| id == Some(replacement.staged_id))
}

/// Takes a replacement back, complete or not: what was moved aside returns, and the staged file to its place. Cut off
/// anywhere, it can be followed by another call or by [`roll_forward`].
///
/// The caller knows that nobody has opened the new database.
///
/// # Errors
/// [`SqliteError::Replace`] where a name is taken, or side files say that the new database has been used.
pub fn roll_back(replacement: &Replacement) -> Result<(), SqliteError> {
    let target: &Path = replacement.target.as_ref();
    let refuse = |reason: String| SqliteError::Replace { path: target.to_owned(), reason };
    if is_in_place(replacement) {
        if let Some(side) = SIDE_FILES.map(|suffix| beside(target, suffix)).iter().find(|side| exists(side)) {
            return Err(refuse(format!("{} says that the new database has been used", side.display())));
        }
        let (cwd, staged): (_, &Path) = (rustix::fs::CWD, replacement.staged.as_ref());
        match renameat_with(cwd, target, cwd, staged, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL) => std::fs::rename(target, staged).at("take back", target)?,
            other => other.at("take back", target)?,
        }
        sync_dir(parent_of(staged))?;
    }
    for side in &replacement.beside {
        if id_of(&side.path.0)? == Some(side.id) {
            std::fs::rename(&side.path.0, &side.staged.0).at("move back", &side.path.0)?;
        }
    }
    // The database first: it must never stand there without the log that it had.
    for old in &replacement.old {
        let kept = kept_path(replacement, &old.path.0);
        if id_of(&kept)? != Some(old.id) {
            continue;
        }
        match id_of(old.path.as_ref())? {
            Some(here) if here == old.id => std::fs::remove_file(&kept).at("remove the second name", &kept)?,
            Some(_) => return Err(refuse(format!("{} is there anew", old.path.0.display()))),
            None => std::fs::rename(&kept, &old.path.0).at("move back", &kept)?,
        }
    }
    sync_dir(parent_of(target))?;
    match sync_dir(replacement.kept.as_ref()) {
        // There is nothing in it that could come back after a power cut.
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// The side files of the new database, before it: it must never stand there without its log.
fn put_beside(
    replacement: &Replacement,
    before: &mut dyn FnMut(&str) -> Result<(), SqliteError>,
) -> Result<(), SqliteError> {
    for side in &replacement.beside {
        let path = &side.path.0;
        if id_of(path)? == Some(side.id) {
            continue;
        }
        if exists(path) || id_of(&side.staged.0)? != Some(side.id) {
            let reason = format!("its {} is not where it was prepared", path.display());
            return Err(SqliteError::Replace { path: replacement.target.0.clone(), reason });
        }
        before("put a side file in place")?;
        std::fs::rename(&side.staged.0, path).at("rename into place", path)?;
    }
    if !replacement.beside.is_empty() {
        sync_dir(parent_of(&replacement.target.0))?;
    }
    Ok(())
}

/// Whether what lies there belongs to the new database.
fn is_new(replacement: &Replacement, path: &Path, id: Option<FileId>) -> bool {
    replacement.beside.iter().any(|side| side.path.0 == path && Some(side.id) == id)
}

/// Where a replaced file is kept: under its own name.
fn kept_path(replacement: &Replacement, path: &Path) -> PathBuf {
    replacement.kept.0.join(path.file_name().unwrap_or_default())
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn id_of(path: &Path) -> Result<Option<FileId>, SqliteError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => {
            other.at("look at", path).map(|m| Some(FileId { device: m.dev(), inode: m.ino() })).map_err(Into::into)
        }
    }
}
