//! Our drop-ins: files that systemd reads after everybody else's, and that leave no trace once they are removed.
//!
//! Drop-ins of a unit are sorted by file name over all directories, so `zzz-` and not the directory decides
//! [systemd.unit(5)]: one in /run named `50-...` loses to the administrator's `override.conf` in /etc.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::bus::runtime_dir_of_user;
use super::name;
use crate::controller::Scope;
use crate::world::disk::{AtPath, DiskError, create_private_dir, parent_of, remove_durably, write_durably};

const SHIELD: &str = "zzz-svckit.conf";
const HOLD: &str = "zzz-svckit-hold.conf";
/// Another name: a file in /etc hides one of the same name in /run.
const HOLD_PERSISTENT: &str = "zzz-svckit-hold-persistent.conf";

/// Whether something is to outlive a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    UntilReboot,
    Persistent,
}

/// The paths that belong to one unit.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    id: String,
    /// Where units of the administrator and of this boot lie.
    persistent: Option<PathBuf>,
    runtime: PathBuf,
    held_persistent: Option<PathBuf>,
    held_runtime: PathBuf,
}

impl Paths {
    pub(super) fn new(id: &str, scope: Scope) -> Self {
        let id = id.to_owned();
        match scope {
            Scope::System => Self {
                id,
                persistent: Some("/etc/systemd/system".into()),
                runtime: "/run/systemd/system".into(),
                held_persistent: Some("/var/lib/svckit/hold".into()),
                held_runtime: "/run/svckit/hold".into(),
            },
            Scope::User => {
                let run = PathBuf::from(runtime_dir_of_user());
                let home = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
                Self {
                    id,
                    persistent: home.as_ref().map(|home| home.join(".config/systemd/user")),
                    runtime: run.join("systemd/user"),
                    held_persistent: home.map(|home| home.join(".local/state/svckit/hold")),
                    held_runtime: run.join("svckit/hold"),
                }
            }
        }
    }

    fn in_unit_dir(&self, root: &Path, file: &str) -> PathBuf {
        root.join(format!("{}.d", self.id)).join(file)
    }

    /// The drop-in of the shield.
    pub(super) fn shield(&self) -> PathBuf {
        self.in_unit_dir(&self.runtime, SHIELD)
    }

    /// The drop-in of a hold; `None` for a user whose home is not known.
    pub(super) fn hold(&self, life: Life) -> Option<PathBuf> {
        match life {
            Life::UntilReboot => Some(self.in_unit_dir(&self.runtime, HOLD)),
            Life::Persistent => self.persistent.as_ref().map(|root| self.in_unit_dir(root, HOLD_PERSISTENT)),
        }
    }

    /// The file whose existence is the hold.
    pub(super) fn held(&self, life: Life) -> Option<PathBuf> {
        match life {
            Life::UntilReboot => Some(self.held_runtime.join(&self.id)),
            Life::Persistent => self.held_persistent.as_ref().map(|root| root.join(&self.id)),
        }
    }
}

/// The drop-in of a hold: while the file exists, every start is refused, by whomever it is asked for.
pub(super) fn hold_content(held: &Path, life: Life) -> String {
    let order = match life {
        Life::UntilReboot => "",
        // At boot, what was interrupted is finished or undone before the unit may start.
        Life::Persistent => "After=svc-resume.service\n",
    };
    format!(
        "# Written by svckit: a backup or repair holds this unit. `svc-ctl resume` lifts it.\n[Unit]\n{order}AssertPathExists=!{}\n",
        specifiers_escaped(&held.to_string_lossy())
    )
}

fn specifiers_escaped(text: &str) -> String {
    text.replace('%', "%%")
}

/// The drop-in of the shield.
pub(super) fn shield_content(id: &str, settings: &[(&'static str, String)]) -> String {
    let kind = name::kind_of(id);
    let mut section = kind.to_owned();
    section[..1].make_ascii_uppercase();
    let mut content = format!(
        "# Written by svckit: nothing kills this unit while it stops. `svc-ctl resume` removes it.\n[{section}]\n"
    );
    for (setting, value) in settings {
        content.push_str(&format!("{setting}={value}\n"));
    }
    content
}

/// Writes a drop-in; `false` when it stood there already.
pub(super) fn write(path: &Path, content: &str) -> Result<bool, DiskError> {
    if std::fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    let directory = parent_of(path);
    // Readable for everybody, as systemd's own: `systemctl cat` of a user shows it.
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).at("create the directory", directory)?;
    write_durably(path, content.as_bytes(), 0o644)?;
    Ok(true)
}

/// Removes a drop-in, and its directory when nothing else is in it; `false` when there was none.
pub(super) fn remove(path: &Path) -> Result<bool, DiskError> {
    let existed = path.symlink_metadata().is_ok();
    remove_durably(path).or_else(no_directory)?;
    // It stays where others have files in it.
    drop(std::fs::remove_dir(parent_of(path)));
    Ok(existed)
}

fn no_directory(error: DiskError) -> Result<(), DiskError> {
    if error.source.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Creates the file that is the hold.
pub(super) fn create_held(path: &Path) -> Result<(), DiskError> {
    create_private_dir(parent_of(path))?;
    write_durably(path, b"", 0o600)
}

/// Removes it. The directory stays: somebody else may be about to hold another unit.
pub(super) fn remove_held(path: &Path) -> Result<(), DiskError> {
    remove_durably(path).or_else(no_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_leaves_no_directory_that_it_made_and_keeps_one_of_others() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.service.d/zzz-svckit.conf");
        assert!(write(&path, "[Service]\n").unwrap());
        assert!(!write(&path, "[Service]\n").unwrap(), "unchanged");
        std::fs::write(path.with_file_name(".zzz-svckit.conf.svckit-tmp"), b"torn").unwrap();
        assert!(remove(&path).unwrap());
        assert!(!path.parent().unwrap().exists());
        assert!(!remove(&path).unwrap(), "idempotent");

        write(&path, "[Service]\n").unwrap();
        let other = path.with_file_name("override.conf");
        std::fs::write(&other, b"[Service]\n").unwrap();
        remove(&path).unwrap();
        assert!(other.exists());
    }

    #[test]
    fn the_section_is_named_by_the_kind_of_the_unit() {
        let content = shield_content("a.service", &[("SendSIGKILL", "no".to_owned())]);
        assert!(content.ends_with("[Service]\nSendSIGKILL=no\n"), "{content}");
    }
}
