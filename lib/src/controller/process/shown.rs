//! What a process shows of its command line, and whether that is a given command.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::controller::CommandLine;
use crate::world::ProcessId;
use crate::world::process::is_gone;
use crate::world::raw_path::RawPath;

/// Programs that run the file which is their first argument.
const INTERPRETERS: [&str; 8] = ["python", "perl", "ruby", "node", "php", "bash", "dash", "sh"];

/// Whether a process runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// It shows the command, or the command with more words after it (a daemon that started itself again).
    Same,
    /// It can't be told: a launcher's process shows another command than the launcher.
    Possible,
    /// It runs something that the command does not name.
    Other,
}

/// A process in the middle of an execve(2) has its new program and no arguments yet: so often it is looked at again.
const EXEC_LOOKS_MAX: u32 = 1000;

/// The words that the process shows; none for a thread of the kernel.
pub(super) fn argv_of(process: &ProcessId) -> std::io::Result<Vec<RawPath>> {
    let base = PathBuf::from(format!("/proc/{}", process.pid));
    let mut argv = words(&std::fs::read(base.join("cmdline"))?);
    for _ in 0..EXEC_LOOKS_MAX {
        if !argv.is_empty() || std::fs::read_link(base.join("exe")).is_err() {
            break;
        }
        std::thread::yield_now();
        argv = words(&std::fs::read(base.join("cmdline"))?);
    }
    Ok(argv)
}

pub(super) fn words(bytes: &[u8]) -> Vec<RawPath> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| RawPath(PathBuf::from(OsString::from_vec(word.to_vec())))).collect()
}

/// Compares what the process shows with the command.
///
/// # Errors
/// When the process is there and can't be looked at.
pub(super) fn likeness(process: &ProcessId, command: &CommandLine) -> std::io::Result<Likeness> {
    let argv = match argv_of(process) {
        Err(error) if is_gone(&error) || error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Ok(Likeness::Possible);
        }
        other => other?,
    };
    let base = PathBuf::from(format!("/proc/{}", process.pid));
    let mut names = BTreeSet::new();
    // Its program can be seen by its user and root only, its name by everybody.
    let exe = std::fs::read_link(base.join("exe")).ok();
    names.extend(exe.as_deref().and_then(file_name));
    names.extend(std::fs::read(base.join("comm")).ok().map(|comm| comm.trim_ascii_end().to_vec()));
    Ok(compare(&argv, names, &command.argv, is_script))
}

fn compare(
    shown: &[RawPath],
    mut names: BTreeSet<Vec<u8>>,
    command: &[RawPath],
    is_script: impl Fn(&Path) -> bool,
) -> Likeness {
    let Some((program, rest)) = command.split_first() else { return Likeness::Possible };
    if let Some((first, shown_rest)) = shown.split_first() {
        let same_program = first == program || file_name(&first.0) == file_name(&program.0);
        // A script shows its interpreter first; a service of ours that waits at its gate shows the gate.
        if same_program && shown_rest.starts_with(rest) || shown.ends_with(command) {
            return Likeness::Same;
        }
        // Daemons write over it: `app: main process`.
        let title = first.0.as_os_str().as_bytes().split(|b| matches!(b, b':' | b' ')).next().unwrap_or_default();
        names.extend(file_name(Path::new(OsStr::from_bytes(title))));
    }
    // A command may be a line for a shell: every word of it counts.
    let pieces = command.iter().flat_map(|word| word.0.as_os_str().as_bytes().split(u8::is_ascii_whitespace));
    let mut named = pieces.filter_map(|piece| file_name(Path::new(OsStr::from_bytes(piece))));
    let real = std::fs::canonicalize(&program.0).ok();
    let is_named = named.any(|name| names.contains(&name))
        || real.as_deref().and_then(file_name).is_some_and(|name| names.contains(&name));
    match (script_of(shown), script_of(command)) {
        (Some(theirs), Some(ours)) if theirs != ours => Likeness::Other,
        _ if is_named || is_script(&program.0) => Likeness::Possible,
        _ => Likeness::Other,
    }
}

fn file_name(path: &Path) -> Option<Vec<u8>> {
    path.file_name().map(|name| name.as_bytes().strip_suffix(b" (deleted)").unwrap_or(name.as_bytes()).to_vec())
}

/// The name of the file that an interpreter runs.
fn script_of(argv: &[RawPath]) -> Option<Vec<u8>> {
    let (program, rest) = argv.split_first()?;
    let program = file_name(&program.0)?;
    INTERPRETERS.iter().find(|name| program.starts_with(name.as_bytes()))?;
    let script = rest.iter().find(|word| !word.0.as_os_str().as_bytes().starts_with(b"-"))?;
    file_name(&script.0)
}

/// Whether it is a text for an interpreter, or can't be looked at: what it starts in the end is not known then.
fn is_script(program: &Path) -> bool {
    let mut start = [0; 2];
    std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut start)).map_or(true, |()| start == *b"#!")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<RawPath> {
        line.split(' ').filter(|word| !word.is_empty()).map(|word| RawPath(PathBuf::from(word))).collect()
    }

    fn like(shown: &str, exe: &str, command: &str, script: bool) -> Likeness {
        compare(&split(shown), BTreeSet::from([exe.as_bytes().to_vec()]), &split(command), |_| script)
    }

    #[test]
    fn words_keep_every_byte_and_empty_arguments() {
        let all = words(b"a\0\0b\xff c\0");
        let texts: Vec<Vec<u8>> = all.into_iter().map(|w| w.0.into_os_string().into_vec()).collect();
        assert_eq!(texts, [b"a".to_vec(), b"".to_vec(), b"b\xff c".to_vec()]);
        assert!(words(b"").is_empty());
    }

    #[test]
    fn the_same_command_is_the_same() {
        assert_eq!(like("noted --daemon", "noted", "/usr/sbin/noted --daemon", false), Likeness::Same);
        assert_eq!(like("/usr/sbin/noted --daemon --forked", "noted", "noted --daemon", false), Likeness::Same);
        assert_eq!(like("/usr/bin/python3 /opt/app --x", "python3.11", "/opt/app --x", true), Likeness::Same);
    }

    #[test]
    fn a_launcher_s_process_is_possible() {
        assert_eq!(like("/usr/sbin/noted", "noted", "/etc/init.d/noted start", true), Likeness::Possible);
        assert_eq!(like("daemon", "daemon", "/opt/start.sh", true), Likeness::Possible);
        assert_eq!(like("noted: main process", "noted", "/usr/sbin/noted -c x", false), Likeness::Possible);
        assert_eq!(like("/usr/sbin/noted", "noted", "setsid /usr/sbin/noted -D", false), Likeness::Possible);
    }

    #[test]
    fn somebody_else_s_process_is_another() {
        assert_eq!(like("sleep 1000", "sleep", "/usr/sbin/noted --daemon", false), Likeness::Other);
        assert_eq!(like("python3 b.py", "python3.11", "/usr/bin/python3 a.py", false), Likeness::Other);
        assert_eq!(like("", "kworker/0:1", "/usr/sbin/noted", false), Likeness::Other);
    }

    #[test]
    fn a_live_process_is_compared_by_what_it_shows() {
        let own = ProcessId::own().unwrap();
        let argv = argv_of(&own).unwrap();
        let mut command = CommandLine::new(argv.iter().map(|word| word.0.clone()));
        assert_eq!(likeness(&own, &command).unwrap(), Likeness::Same);
        command = CommandLine::new(["/bin/true"]);
        assert_eq!(likeness(&own, &command).unwrap(), Likeness::Other);
    }
}
