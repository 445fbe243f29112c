//! Names that vanished from the source and are kept for a while: readers over HTTP look each path up anew, and ask for
//! what an index told them that they read one generation earlier.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::build::join;
use super::manifest::{Carried, Entry, Kind, Manifest};
use super::{PublishError, Watch};
use crate::world::disk::AtPath;

/// `*` stays within one name; `**` does not.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Which names are kept, and for how many generations.
#[derive(Debug, Clone, Default)]
pub struct Carry {
    patterns: Vec<Pattern>,
    generations: u32,
}

impl Carry {
    /// `patterns` match paths below the generation, as `**/by-hash/**`; paths that are no UTF-8 match none. What
    /// vanished is kept for so many generations after the last that had it.
    ///
    /// # Errors
    /// The pattern that is none, and why.
    pub fn new<S: AsRef<str>>(patterns: &[S], generations: u32) -> Result<Self, String> {
        let parse = |text: &S| Pattern::new(text.as_ref()).map_err(|error| format!("{:?}: {error}", text.as_ref()));
        Ok(Self { patterns: patterns.iter().map(parse).collect::<Result<_, _>>()?, generations })
    }

    /// Whether it keeps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty() || self.generations == 0
    }

    /// The mark of an entry that is to be kept; `None` for one that is not, or not any longer.
    fn of(&self, entry: &Entry, last: &Manifest) -> Option<Carried> {
        let matches = |path: &Path| self.patterns.iter().any(|pattern| pattern.matches_path_with(path, OPTIONS));
        if entry.kind == Kind::Directory || !matches(&entry.path) {
            return None;
        }
        let carried = entry.carried.unwrap_or(Carried { from: last.generation, generations: 0 });
        let carried = Carried { generations: carried.generations + 1, ..carried };
        (carried.generations <= self.generations).then_some(carried)
    }
}

/// Links what is to be kept from the last generation, and adds it to the entries.
pub(super) fn carry(
    from: &Path,
    last: &Manifest,
    into: &Path,
    entries: &mut Vec<Entry>,
    rules: &Carry,
    watch: Watch<'_>,
) -> Result<u64, PublishError> {
    let mut all: BTreeMap<PathBuf, Entry> = entries.drain(..).map(|entry| (entry.path.clone(), entry)).collect();
    let mut count = 0;
    for entry in &last.entries {
        watch.go_on("the update")?;
        let Some(carried) = rules.of(entry, last).filter(|_| !all.contains_key(&entry.path)) else { continue };
        if !make_parents(into, &entry.path, last, &mut all)? {
            continue;
        }
        let (old, new) = (from.join(&entry.path), into.join(&entry.path));
        // A link to a link is a link: what it leads to is not looked at.
        match std::fs::hard_link(&old, &new) {
            // What vanished from the generation itself can't be kept: its manifest tells whoever verifies it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.at("link", &new)?,
        }
        all.insert(entry.path.clone(), Entry { carried: Some(carried), ..entry.clone() });
        count += 1;
    }
    *entries = all.into_values().collect();
    Ok(count)
}

/// Makes the directories above a name as the last generation had them. `false` where the new generation has something
/// else of that name.
fn make_parents(
    into: &Path,
    path: &Path,
    last: &Manifest,
    all: &mut BTreeMap<PathBuf, Entry>,
) -> Result<bool, PublishError> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    for directory in above {
        match all.get(directory) {
            Some(entry) if entry.kind == Kind::Directory => {}
            Some(_) => return Ok(false),
            None => {
                let Some(entry) = last.entry(directory) else { return Ok(false) };
                let at = join(into, directory);
                DirBuilder::new().mode(0o755).create(&at).at("create the directory", &at)?;
                let mode = std::fs::Permissions::from_mode(entry.mode | 0o700);
                std::fs::set_permissions(&at, mode).at("set the mode of", &at)?;
                all.insert(directory.to_owned(), Entry { mode: entry.mode | 0o700, ..entry.clone() });
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stays_within_names_unless_it_says_otherwise() {
        let matches = |pattern: &str, path: &str| {
            let carry = Carry::new(&[pattern], 1).unwrap();
            carry.patterns[0].matches_path_with(Path::new(path), OPTIONS)
        };
        assert!(matches("**/by-hash/**", "dists/x/main/by-hash/SHA256/abc"));
        assert!(matches("pool/**", "pool/a/b.deb"));
        assert!(!matches("pool/*", "pool/a/b.deb"));
        assert!(!matches("**/by-hash/**", "dists/x/Packages"));
        assert!(Carry::new(&["a**"], 1).unwrap_err().contains("a**"));
    }
}
