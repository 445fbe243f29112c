//! States of a tree that can be told from each other, and from a mixture of two.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use svckit::progress::{Cancel, Silent};
use svckit::publish::{Depth, Tree, Watch};

/// Longer than what a file system keeps in an inode.
const LENGTH: usize = 5000;

/// What each file of a state has; one name is its own.
fn files(state: u32) -> BTreeMap<PathBuf, String> {
    let text = format!("state {state}\n").repeat(LENGTH / 8);
    let names = ["a".to_owned(), "sub/b".to_owned(), "sub/deep/c".to_owned(), format!("only-{state}")];
    let mut files: BTreeMap<PathBuf, String> = names.into_iter().map(|name| (name.into(), text.clone())).collect();
    // The same in all of them: linked from one to the next.
    files.insert("same".into(), "the same in all\n".repeat(100));
    files
}

/// Makes a directory this state.
pub(super) fn make(directory: &Path, state: u32) {
    let _not_there = std::fs::remove_dir_all(directory);
    for (name, text) in files(state) {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    // Not of this very second: else it is compared by content.
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    std::fs::File::open(directory.join("same")).unwrap().set_modified(then).unwrap();
}

/// The state that a directory is, or that it is none.
pub(super) fn of(directory: &Path) -> Result<u32, String> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(at) = todo.pop() {
        let entries = std::fs::read_dir(directory.join(&at));
        for entry in entries.map_err(|error| format!("{}: {error}", directory.display()))? {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                todo.push(path);
            } else {
                let text = std::fs::read_to_string(entry.path()).map_err(|e| format!("{}: {e}", path.display()))?;
                found.insert(path, text);
            }
        }
    }
    let state = (1..=4).find(|state| files(*state) == found);
    let lengths = || found.iter().map(|(name, text)| (name.display().to_string(), text.len())).collect::<Vec<_>>();
    state.ok_or_else(|| format!("half of a state is served: {:?}", lengths()))
}

pub(super) fn number(tree: &Path) -> Result<u64, String> {
    let current = Tree::open(tree).and_then(|tree| tree.current()).map_err(|error| error.to_string())?;
    current.map(|current| current.0).ok_or_else(|| "nothing is current".to_owned())
}

/// What is served is what its manifest says.
pub(super) fn verify(tree: &Path) -> Result<(), String> {
    let (cancel, number) = (Cancel::new().unwrap(), number(tree)?);
    let watch = Watch { cancel: &cancel, observer: &Silent };
    let tree = Tree::open(tree).map_err(|error| error.to_string())?;
    let whole = tree.verify(svckit::publish::Generation(number), Depth::Content, watch);
    whole.map(|_| ()).map_err(|error| error.to_string())
}

/// Nothing but the current generation and what belongs to it.
pub(super) fn leftovers(tree: &Path) -> Result<(), String> {
    let number = format!("{:06}", number(tree)?);
    let expected: [(&str, &[&str]); 4] = [
        (".", &[".svc-publish", "current", "generations"]),
        ("generations", &[&number]),
        (".svc-publish", &["ceased.json", "last", "lock", "manifests"]),
        (".svc-publish/manifests", &[&format!("{number}.json")]),
    ];
    for (directory, names) in expected {
        let entries = std::fs::read_dir(tree.join(directory)).unwrap();
        let mut found: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        found.sort();
        if found != names {
            return Err(format!("{directory} has {found:?}, not {names:?}"));
        }
    }
    Ok(())
}
