//! Which paths a tree consists of.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::TreeRequest;
use crate::archive::ArchiveError;
use crate::world::disk::{AtPath, FileId, parent_of};

/// The paths that the includes name, sorted, each once; what lies below another one of them is left to it.
pub(super) fn roots(request: &TreeRequest<'_>) -> Result<Vec<PathBuf>, ArchiveError> {
    let mut found = BTreeSet::new();
    for include in request.includes {
        if !include.is_absolute() {
            return Err(source(include, "the path is not absolute"));
        }
        // Normalised: no `.`, no doubled or trailing slash; `..` is refused, as it need not mean what it says.
        let normal: PathBuf = include.components().collect();
        if normal.components().any(|c| c == std::path::Component::ParentDir) {
            return Err(source(include, "the path has a '..' in it"));
        }
        match std::fs::symlink_metadata(&normal) {
            Ok(_) => {
                found.insert(normal);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let before = found.len();
                found.extend(globbed(include)?);
                if found.len() == before {
                    return Err(ArchiveError::NoMatch { path: include.clone() });
                }
            }
            Err(error) => Err(error).at("look at", &normal)?,
        }
    }
    let all: Vec<PathBuf> = found.into_iter().collect();
    Ok(all
        .iter()
        .filter(|p| {
            !all.iter().any(|other| other != *p && p.starts_with(other) && other.is_dir() && !other.is_symlink())
        })
        .cloned()
        .collect())
}

/// Whether an include has anything to take: something of that name, or that the pattern matches.
#[must_use]
pub fn matches_anything(include: &Path) -> bool {
    std::fs::symlink_metadata(include).is_ok() || globbed(include).is_ok_and(|found| !found.is_empty())
}

fn globbed(pattern: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let Some(text) = pattern.to_str().filter(|text| text.contains(['*', '?', '['])) else {
        return Ok(Vec::new());
    };
    let paths = glob::glob(text).map_err(|e| source(pattern, &format!("the pattern is malformed: {e}")))?;
    let read = |e: glob::GlobError| {
        let path = e.path().to_owned();
        Err::<PathBuf, _>(std::io::Error::from(e)).at("list", &path)
    };
    paths.map(|path| path.or_else(read).map_err(ArchiveError::from)).collect()
}

/// Refuses a store at or below an included path.
pub(in crate::archive) fn refuse_store_inside(store: &Path, roots: &[PathBuf]) -> Result<(), ArchiveError> {
    for root in roots {
        let real = std::fs::canonicalize(root).unwrap_or_else(|_| root.clone());
        if store.starts_with(&real) {
            return Err(inside(store, root));
        }
        if real.starts_with(store) {
            return Err(source(root, "it is a part of the store"));
        }
    }
    Ok(())
}

pub(super) fn inside(store: &Path, root: &Path) -> ArchiveError {
    ArchiveError::StoreInsideSource { store: store.to_owned(), source_path: root.to_owned() }
}

pub(super) fn source(path: &Path, reason: &str) -> ArchiveError {
    ArchiveError::Source { path: path.to_owned(), reason: reason.to_owned() }
}

/// The files of databases, by the identity of their directory and their name: `-wal` and `-shm` come and go.
#[derive(Debug)]
pub(super) struct DatabaseFiles {
    files: BTreeSet<(FileId, OsString)>,
    names: BTreeSet<OsString>,
}

impl DatabaseFiles {
    pub(super) fn of(databases: &[PathBuf]) -> Result<Self, ArchiveError> {
        let (mut files, mut names) = (BTreeSet::new(), BTreeSet::new());
        for database in databases {
            // SQLite names the files beside a database after its real path.
            let real = std::fs::canonicalize(database).at("look at", database)?;
            let directory = FileId::of(parent_of(&real))?;
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let mut name = real.file_name().unwrap_or_default().to_owned();
                name.push(suffix);
                files.insert((directory, name.clone()));
                names.insert(name);
            }
        }
        Ok(Self { files, names })
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        // The directory is looked at only for the few files that have such a name.
        self.names.contains(name)
            && FileId::of(parent_of(path)).is_ok_and(|directory| self.files.contains(&(directory, name.to_owned())))
    }
}
