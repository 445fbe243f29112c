//! How a running process was started, read from /proc (proc(5): cmdline, environ, cwd, status), so that the same can
//! be started again.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::controller::CommandLine;
use crate::world::ProcessId;
use crate::world::raw_path::RawPath;

/// The command line of a live process.
pub(super) fn capture(process: &ProcessId) -> std::io::Result<CommandLine> {
    let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", process.pid));
    let mut argv = words(&read("cmdline")?);
    let executable = std::fs::read_link(format!("/proc/{}/exe", process.pid))?;
    match argv.first_mut() {
        None => return Err(std::io::Error::other("it is a kernel thread, or has no command line")),
        // A program may be started by a name that is no path, or change what it shows; its executable is what runs. An
        // interpreter keeps its script as the next word.
        Some(first) if !first.0.is_absolute() => first.0 = executable,
        Some(_) => {}
    }
    let directory = std::fs::read_link(format!("/proc/{}/cwd", process.pid))?;
    let environment = words(&read("environ")?);
    let credentials = credentials(&String::from_utf8_lossy(&read("status")?));
    if !process.is_alive() {
        return Err(std::io::Error::other("it ended while it was looked at"));
    }
    Ok(CommandLine { argv, directory: Some(RawPath(directory)), environment: Some(environment), credentials })
}

fn words(bytes: &[u8]) -> Vec<RawPath> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| RawPath(PathBuf::from(OsString::from_vec(word.to_vec())))).collect()
}

/// Effective user and group and the supplementary groups, of the lines `Uid:`, `Gid:` and `Groups:`.
fn credentials(status: &str) -> Option<(u32, u32, Vec<u32>)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
    let groups = field("Groups:")?.split_whitespace().filter_map(|group| group.parse().ok()).collect();
    Some((effective("Uid:")?, effective("Gid:")?, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_every_byte_and_empty_arguments() {
        let all = words(b"a\0\0b\xff c\0");
        let texts: Vec<Vec<u8>> = all.into_iter().map(|w| w.0.into_os_string().into_vec()).collect();
        assert_eq!(texts, [b"a".to_vec(), b"".to_vec(), b"b\xff c".to_vec()]);
        assert!(words(b"").is_empty());
    }

    #[test]
    fn credentials_are_the_effective_ones() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11\n";
        assert_eq!(credentials(status), Some((2, 6, vec![10, 11])));
        assert_eq!(credentials("Uid:\tx\n"), None);
    }
}
