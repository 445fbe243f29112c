//! Power cuts: a restore, or a repair, is cut off at each of its steps together with its file system, its guard and its service; then
//! the machine comes up again, resumes, and starts the service in the order of a boot.

use std::path::{Path, PathBuf};
use std::process::Command;

use svckit_testbed::command::{ended, ours, run, sh, signal};
use tempfile::TempDir;

use crate::engine::{Fault, Fixture, Interrupted, Program, Tally, control, sweep};
use crate::plain::fixture::{Guard, Plain, Work};
use crate::plain::{data, scratch, service};

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h): what is not on the disk is lost. perl,
/// because an ioctl(2) of one's own is unsafe code; it is on every Debian.
const CUT: &str = r#"$how = pack("I", 2); open(F, "<", $ARGV[0]) && ioctl(F, 0x8004587D, $how) or die "can't cut: $!""#;
/// Another boot, as far as /proc can say it.
const NEXT_BOOT: &str = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";

/// An ext4 file system of its own in a file.
pub(crate) struct Disk {
    directory: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let disk = Self { directory: scratch() };
        std::fs::File::create(disk.image()).unwrap().set_len(64 << 20).unwrap();
        sh("mkfs.ext4", [Path::new("-q"), Path::new("-F"), &disk.image()]).expect(0);
        std::fs::create_dir(disk.mount_point()).unwrap();
        disk.mount().expect("a loop device");
        disk
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub(crate) fn mount(&self) -> Result<(), String> {
        let outcome = sh("mount", [Path::new("-o"), Path::new("loop"), &self.image(), &self.mount_point()]);
        if outcome.status == 0 { Ok(()) } else { Err(outcome.stderr) }
    }

    pub(crate) fn cut(&self, file: &Path) -> Result<(), String> {
        sh("perl", [Path::new("-e"), Path::new(CUT), file]).expect(0);
        sh("umount", [self.mount_point()]).expect(0);
        // Mounted elsewhere still, it would be the same file system that comes back, cut off for good.
        let attached = sh("losetup", [Path::new("-j"), &self.image()]).expect(0).stdout;
        if attached.is_empty() { Ok(()) } else { Err(format!("the disk is still in use: {attached}")) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _not_mounted_any_more = sh("umount", [Path::new("-l"), &self.mount_point()]);
    }
}

struct Machine {
    plain: Plain,
    disk: Disk,
    /// Rows that were on the disk before the program ran.
    durable: Vec<(i32, i64)>,
}

impl Machine {
    fn new(work: Work) -> Self {
        let disk = Disk::new();
        let directory = tempfile::tempdir_in(disk.mount_point()).unwrap();
        let plain = Plain::within(directory, work, Guard::Killed, "crash");
        // The service's own commits are durable at checkpoints only; these are made so.
        let durable = service::record(plain.root()).acknowledged();
        sh("sync", [Path::new("-f"), &service::database(plain.root())]).expect(0);
        Self { plain, disk, durable }
    }

    fn stop_everything(&self) {
        let root = self.plain.root();
        for pid in service::helpers(root).into_iter().chain(service::processes(root)) {
            signal(pid, rustix::process::Signal::KILL);
            assert!(ended(pid, service::QUICK), "{pid} survives SIGKILL");
        }
    }

    fn boot(&self) -> Result<(), String> {
        let root = self.plain.root();
        // /run is in memory.
        for gone in ["state/run", "state/lock"] {
            let _never_made = std::fs::remove_dir_all(root.join(gone));
        }
        let boot_id = self.disk.directory.path().join("boot_id");
        std::fs::write(&boot_id, "00000000-0000-4000-8000-000000000002\n").unwrap();
        let resume = ours("svc-ctl", ["resume", "--boot"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", NEXT_BOOT, "sh"]).arg(&boot_id);
        command.arg(resume.get_program()).args(resume.get_args()).env("SVCKIT_STATE_DIR", root.join("state"));
        let outcome = run(command, service::QUICK);
        if outcome.status != 0 {
            return Err(format!("svc-ctl resume --boot ends with {}: {}", outcome.status, outcome.stderr));
        }
        // What the resume has just started is not to be started twice.
        if service::settled_processes(root).is_empty() {
            service::start(root);
        }
        Ok(())
    }
}

impl Fixture for Machine {
    // What is started in a mount namespace of its own keeps every mount that is there at that moment.
    const ALONE: bool = true;

    fn root(&self) -> &Path {
        self.plain.root()
    }

    fn program(&self) -> Program {
        self.plain.program()
    }

    fn check(&mut self, _end: &Interrupted, _fault: Fault) -> Result<Option<&'static str>, String> {
        // The writers first: what one of them says after the cut is in nobody's promise.
        self.stop_everything();
        self.disk.cut(self.plain.root())?;
        self.disk.mount()?;
        self.boot()?;
        self.plain.check_service()?;
        let now = service::pid(self.plain.root()).ok_or("no process")?;
        let of_now = service::record(self.plain.root()).acknowledged().into_iter().filter(|(pid, _)| *pid == now);
        let required = self.durable.iter().copied().chain(of_now).collect();
        let in_place = self.plain.check_database(required)?;
        if !self.plain.journal().is_empty() {
            return Err(format!("a journal entry remains: {:?}", self.plain.journal()));
        }
        self.plain.check_state()?;
        Ok(Some(match in_place {
            data::InPlace::Old => "the old database is in place",
            data::InPlace::New => "the new database is in place",
        }))
    }

    fn tear_down(&mut self) {
        self.stop_everything();
    }
}

/// Whether this machine lets us cut the power of a file system.
pub(crate) fn can_cut() -> bool {
    let works = || {
        let disk = Disk::new();
        let file = disk.mount_point().join("file");
        std::fs::write(&file, b"x").unwrap();
        disk.cut(&file).unwrap();
    };
    std::panic::catch_unwind(works).is_ok()
}

pub(crate) fn restore() {
    swept("restore, power cut", Work::Restore);
}

pub(crate) fn repair() {
    swept("repair, power cut", Work::Repair);
}

pub(crate) fn undo() {
    swept("undo, power cut", Work::Undo);
}

fn swept(name: &str, work: Work) {
    let tally = sweep(name, &[Fault::Kill], || Machine::new(work));
    // Both outcomes were met: the sweep has gone through the moment of the replacement.
    assert!(tally.remarks.len() >= 2, "{:?}", tally.remarks);
    Tally::assert_hold(&[tally]);
}

pub(crate) fn naive_restore() {
    // Whatever fails: what a power cut leaves of it is not always the same.
    control("naive restore, power cut", &[Fault::Kill], || Machine::new(Work::NaiveDurableRestore), &[""]);
}
