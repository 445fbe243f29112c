//! A tree: where its parts are, and what it has.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::generation::of_name;
use super::manifest::{Manifest, Totals};
use super::{Generation, PublishError, lease, state, steps};
use crate::world::disk::{AtPath, parent_of, sync_dir};
use crate::world::raw_path::RawPath;

const CURRENT: &str = "current";
const GENERATIONS: &str = "generations";
const STATE: &str = ".svc-publish";
const MANIFESTS: &str = "manifests";
/// Readers come in, and nobody else writes.
const MODE: u32 = 0o755;
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// A tree that generations are published in. Reading of it needs no lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
}

/// One generation as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: Generation,
    /// Whether readers are sent to it.
    pub current: bool,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// How much it holds.
    #[serde(flatten)]
    pub totals: Totals,
    /// Why nothing is known of it: its manifest is lost, or can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How many leases readers hold on it now.
    pub leases: usize,
    /// Since when it is not the current one any more: seconds since the epoch.
    pub ceased: Option<u64>,
}

impl Tree {
    /// A tree that is there.
    ///
    /// # Errors
    /// [`PublishError::NoTree`] when it is none, [`PublishError::Rights`] when others could replace its parts.
    pub fn open(path: &Path) -> Result<Self, PublishError> {
        let root = match std::fs::canonicalize(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(PublishError::NoTree { path: path.to_owned(), reason: "it is not there".to_owned() });
            }
            other => other.at("look at", path)?,
        };
        let tree = Self { root };
        if !tree.state().is_dir() || !tree.generations().is_dir() {
            let reason = format!("it has no {GENERATIONS} and {STATE}");
            return Err(PublishError::NoTree { path: path.to_owned(), reason });
        }
        tree.check_rights()?;
        Ok(tree)
    }

    /// Where the directory is, or will be once it is made. Makes nothing.
    ///
    /// # Errors
    /// [`PublishError::NoTree`] within another tree, whose generations nobody writes to.
    pub fn real_root(path: &Path) -> Result<PathBuf, PublishError> {
        let root = match (std::fs::canonicalize(path), path.file_name()) {
            (Err(error), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::canonicalize(parent_of(path)).at("look at", parent_of(path))?.join(name)
            }
            (other, _) => other.at("look at", path)?,
        };
        let is_tree = |at: &&Path| at.join(STATE).is_dir() && at.join(GENERATIONS).is_dir();
        if let Some(tree) = root.ancestors().skip(1).find(is_tree) {
            let reason = format!("it lies in the tree {}", tree.display());
            return Err(PublishError::NoTree { path: path.to_owned(), reason });
        }
        Ok(root)
    }

    /// The directory itself, made where it is missing: what a lock on the tree is taken on, before anything is looked at.
    ///
    /// # Errors
    /// When it can't be made, and those of [`Self::real_root`].
    pub fn make_root(path: &Path) -> Result<PathBuf, PublishError> {
        let root = Self::real_root(path)?;
        make(&root)?;
        Ok(root)
    }

    /// A tree, made where there is none yet. An empty directory can become one, and one whose other names are none of
    /// ours.
    ///
    /// # Errors
    /// When `current` is there and is not a link of ours, [`PublishError::Foreign`] when `generations` has something and
    /// nothing says that it is ours, and those of [`Self::open`].
    pub(super) fn create(path: &Path) -> Result<Self, PublishError> {
        let tree = Self { root: Self::make_root(path)? };
        let current = tree.current_link();
        let _leads_to_a_generation = current.is_symlink().then(|| tree.current()).transpose()?;
        if let Ok(metadata) = std::fs::symlink_metadata(&current)
            && !metadata.is_symlink()
        {
            let reason = format!("{} is there, and is no link to a generation: move it away", current.display());
            return Err(PublishError::NoTree { path: path.to_owned(), reason });
        }
        check_rights_of(tree.root())?;
        let generations = tree.generations();
        if !tree.state().exists() && generations.is_dir() {
            let mut inside = std::fs::read_dir(&generations).at("list", &generations)?;
            if inside.next().is_some() {
                let reason = format!("there is no {STATE} beside it");
                return Err(PublishError::Foreign { path: generations, reason });
            }
        }
        // What says that the tree is ours comes first: what an interruption leaves is known as ours.
        for directory in [tree.state(), tree.manifests(), generations] {
            make(&directory)?;
        }
        tree.check_rights()?;
        Ok(tree)
    }

    fn check_rights(&self) -> Result<(), PublishError> {
        [self.root.clone(), self.generations(), self.state(), self.manifests()]
            .iter()
            .try_for_each(|path| check_rights_of(path))
    }

    /// The real directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The link that readers follow.
    #[must_use]
    pub fn current_link(&self) -> PathBuf {
        self.root.join(CURRENT)
    }

    pub(super) fn new_link(&self) -> PathBuf {
        self.root.join(".current.new")
    }

    pub(super) fn link_target(generation: Generation) -> PathBuf {
        Path::new(GENERATIONS).join(generation.to_string())
    }

    pub(super) fn generations(&self) -> PathBuf {
        self.root.join(GENERATIONS)
    }

    /// The directory of a generation, whether it is there or not.
    #[must_use]
    pub fn directory(&self, generation: Generation) -> PathBuf {
        self.generations().join(generation.to_string())
    }

    pub(super) fn staging(&self, generation: Generation) -> PathBuf {
        self.generations().join(format!(".{generation}.new"))
    }

    pub(super) fn gone(&self, generation: Generation) -> PathBuf {
        self.generations().join(format!(".{generation}.gone"))
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join(STATE)
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.state().join(MANIFESTS)
    }

    pub(super) fn manifest_path(&self, generation: Generation) -> PathBuf {
        self.manifests().join(format!("{generation}.json"))
    }

    /// The generation that readers are sent to; `None` before the first.
    ///
    /// # Errors
    /// When the link can't be read, or leads elsewhere.
    pub fn current(&self) -> Result<Option<Generation>, PublishError> {
        let link = self.current_link();
        let target = match std::fs::read_link(&link) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("read the link", &link)?,
        };
        let generation = target.file_name().and_then(of_name).filter(|g| Self::link_target(*g) == target);
        generation.map(Some).ok_or_else(|| PublishError::NoTree {
            path: self.root.clone(),
            reason: format!("{} leads to {}, which is no generation", link.display(), target.display()),
        })
    }

    /// The complete generations, the oldest first: those that have their name and a manifest.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn complete(&self) -> Result<Vec<Generation>, PublishError> {
        let mut all = self.named()?;
        all.retain(|generation| self.manifest_path(*generation).is_file());
        Ok(all)
    }

    /// The generations that have their name and no manifest, the oldest first. No interruption leaves such a one: its
    /// manifest was lost, or somebody else made it. Nothing of ours removes it.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn unknown(&self) -> Result<Vec<Generation>, PublishError> {
        let mut all = self.named()?;
        all.retain(|generation| !self.manifest_path(*generation).is_file());
        Ok(all)
    }

    /// All that have their name, the oldest first.
    pub(super) fn named(&self) -> Result<Vec<Generation>, PublishError> {
        let mut all = numbers_in(&self.generations(), of_name)?;
        all.sort_unstable();
        Ok(all)
    }

    /// The manifest of a generation.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn manifest(&self, generation: Generation) -> Result<Manifest, PublishError> {
        let path = self.manifest_path(generation);
        if !path.is_file() || !self.directory(generation).is_dir() {
            return Err(PublishError::Missing {
                tree: self.root.clone(),
                what: format!("no complete generation {generation}"),
            });
        }
        let manifest = Manifest::read(&path)?;
        if manifest.generation != generation {
            let reason = format!("it is the manifest of {}", manifest.generation);
            return Err(PublishError::Unverified { path, reason });
        }
        Ok(manifest)
    }

    /// All generations with what is known of them, the oldest first.
    ///
    /// # Errors
    /// When they can't be listed. A manifest that is lost or can't be read is the generation's `problem`.
    pub fn status(&self) -> Result<Vec<GenerationStatus>, PublishError> {
        let current = self.current()?;
        let (ceased, leases) = (state::Ceased::read(self), lease::Leases::now());
        let mut all = Vec::new();
        for generation in self.named()? {
            let (manifest, problem) = match self.manifest(generation) {
                Ok(manifest) => (Some(manifest), None),
                Err(PublishError::Missing { .. }) => (None, Some("its manifest is not there".to_owned())),
                Err(error) => (None, Some(error.to_string())),
            };
            all.push(GenerationStatus {
                generation,
                current: current == Some(generation),
                created: manifest.as_ref().map_or_else(String::new, |manifest| manifest.created.clone()),
                totals: manifest.map_or_else(Totals::default, |manifest| manifest.totals()),
                problem,
                leases: leases.on(&self.directory(generation)),
                ceased: if current == Some(generation) { None } else { ceased.since(self, generation) },
            });
        }
        Ok(all)
    }

    /// The update that is running, or that did not end well.
    #[must_use]
    pub fn interrupted(&self) -> Option<steps::Interrupted> {
        steps::read(self)
    }

    /// The root as it goes into a report.
    #[must_use]
    pub fn as_raw(&self) -> RawPath {
        RawPath(self.root.clone())
    }
}

/// The numbers that the names in a directory stand for.
pub(super) fn numbers_in(
    directory: &Path,
    number: impl Fn(&std::ffi::OsStr) -> Option<Generation>,
) -> Result<Vec<Generation>, PublishError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).at("list", directory)? {
        found.extend(number(&entry.at("list", directory)?.file_name()));
    }
    Ok(found)
}

fn check_rights_of(path: &Path) -> Result<(), PublishError> {
    let ours = rustix::process::geteuid().as_raw();
    let metadata = std::fs::symlink_metadata(path).at("look at", path)?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let refuse = |reason: String| Err(PublishError::Rights { path: path.to_owned(), reason });
    if !metadata.is_dir() {
        return refuse("is not a directory".to_owned());
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return refuse(format!("can be written by everybody (mode {:04o})", mode & 0o7777));
    }
    // A reader of somebody else's tree changes nothing.
    if owner != 0 && owner != ours && ours == 0 {
        return refuse(format!("belongs to user {owner}, who could replace it under root"));
    }
    Ok(())
}

/// One directory, durably; one that exists is left as it is.
fn make(path: &Path) -> Result<(), PublishError> {
    match DirBuilder::new().mode(MODE).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        other => other.at("create the directory", path)?,
    }
    Ok(sync_dir(parent_of(path))?)
}
