//! Trees: what goes in comes out, whatever it is called, and nothing leaves its directory.

use super::*;
use std::os::unix::fs::symlink;
use std::sync::Mutex;

use crate::progress::Observer;

#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl Observer for Notices {
    fn notice(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }
}

impl Bed {
    fn source(&self) -> PathBuf {
        let source = self.dir.path().canonicalize().unwrap().join("app");
        std::fs::create_dir(&source).unwrap();
        source
    }

    fn add(&self, includes: &[PathBuf], databases: &[PathBuf]) -> Result<Backup, ArchiveError> {
        let mut draft = self.begin();
        draft.add_tree("files", &TreeRequest { includes, databases }, &Silent)?;
        let verified = draft.verify(&mut sound, &Silent)?;
        self.store.publish(verified)
    }

    fn extract(&self, backup: &Backup) -> Result<PathBuf, ArchiveError> {
        let into = self.dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        backup.extract(&backup.manifest().payloads[0], &into, &self.cancel, &Silent)
    }

    /// What is in the archive, as GNU tar sees it.
    fn listed(&self, backup: &Backup) -> Vec<String> {
        let names = stock(backup.dir(), "zstd -dcq files.tar.zst | tar -tf -").unwrap();
        let mut names: Vec<String> = names
            .lines()
            .map(|n| {
                n.rsplit_once("app/")
                    .map_or_else(|| n.strip_suffix("app").map_or(n, |_| ""), |(_, name)| name)
                    .to_owned()
            })
            .collect();
        names.sort();
        names
    }
}

/// Everything that a tree must keep, as text: names, types, modes, owners, times, links, contents, attributes.
fn describe(dir: &Path) -> String {
    let listing = "find . -mindepth 1 ! -name sock -printf '%p|%y|%m|%U:%G|%Ts|%n|%l|%s\\n' | sed 's/|d|\\(.*\\)|[0-9]*$/|d|\\1/' | LC_ALL=C sort; \
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; \
        getfattr -R -P -d -m - . 2>/dev/null | LC_ALL=C sort || true";
    stock(dir, listing).unwrap()
}

#[test]
fn owners_modes_links_attributes_and_odd_names_survive_and_tar_agrees() {
    let bed = Bed::new();
    let app = bed.source();
    let root = rustix::process::geteuid().is_root();
    std::fs::create_dir_all(app.join("conf.d/empty")).unwrap();
    std::fs::write(app.join("conf.d/a.toml"), b"x = 1\n").unwrap();
    std::fs::hard_link(app.join("conf.d/a.toml"), app.join("same.toml")).unwrap();
    std::fs::write(app.join("run.sh"), b"#!/bin/sh\n").unwrap();
    std::fs::set_permissions(app.join("run.sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::copy("/proc/self/exe", app.join("big")).unwrap();
    std::fs::write(app.join(std::ffi::OsStr::from_bytes(b"new\nline\xff")), b"odd").unwrap();
    let long = "n".repeat(200);
    std::fs::create_dir(app.join(&long)).unwrap();
    std::fs::write(app.join(&long).join(&long), b"long").unwrap();
    symlink("..//conf.d/./a.toml", app.join("tidy-not")).unwrap();
    symlink("/etc/passwd", app.join("absolute")).unwrap();
    symlink(format!("/{}", "t".repeat(300)), app.join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(app.join("sock")).unwrap();
    // tmpfs and a few others have no user attributes; then there are none to compare.
    let _where_there_are_attributes = rustix::fs::lsetxattr(
        app.join("conf.d/a.toml"),
        "user.note",
        b"two\nlines=\0",
        rustix::fs::XattrFlags::empty(),
    );
    let _likewise = rustix::fs::lsetxattr(
        app.join(&long),
        "user.note",
        b"of a directory with a\xff byte",
        rustix::fs::XattrFlags::empty(),
    );
    if root {
        std::os::unix::fs::lchown(app.join("run.sh"), Some(1234), Some(4_000_000)).unwrap();
        std::fs::set_permissions(app.join("run.sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::lchown(app.join("absolute"), Some(77), Some(78)).unwrap();
        std::os::unix::fs::lchown(app.join("conf.d"), Some(5), Some(6)).unwrap();
    }
    let read_only = app.join("conf.d/empty");
    std::fs::write(read_only.join("inside"), b"").unwrap();
    std::fs::set_permissions(&read_only, std::fs::Permissions::from_mode(0o555)).unwrap();

    let notices = Notices::default();
    let mut draft = bed.begin();
    let includes = [app.clone()];
    draft.add_tree("files", &TreeRequest { includes: &includes, databases: &[] }, &notices).unwrap();
    let backup = bed.store.publish(draft.verify(&mut sound, &Silent).unwrap()).unwrap();
    let noted = notices.0.into_inner().unwrap();
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert!(noted[0].ends_with("app/sock\": it is a socket or a pipe"), "{noted:?}");
    assert_eq!(backup.manifest().notes, noted);
    assert_eq!(backup.manifest().payloads[0].rungs, ["stored sha256", "content sha256", "full parse"]);

    let into = bed.extract(&backup).unwrap();
    let out = into.join(app.strip_prefix("/").unwrap());
    assert_eq!(describe(&out), describe(&app));
    let by_tar = bed.dir.path().join("by-tar");
    std::fs::create_dir(&by_tar).unwrap();
    let untar = format!(
        "zstd -dcq '{}' | tar -xpf - --xattrs --xattrs-include='*'",
        backup.dir().join("files.tar.zst").display()
    );
    stock(&by_tar, &untar).unwrap();
    // The one attribute that GNU tar passes over.
    let _where_there_are_attributes = rustix::fs::lremovexattr(app.join("conf.d/a.toml"), "user.note");
    assert_eq!(describe(&by_tar.join(app.strip_prefix("/").unwrap())), describe(&app));
    // So that the bed can be removed without being root.
    for dir in [&app, &out, &by_tar.join(app.strip_prefix("/").unwrap())] {
        std::fs::set_permissions(dir.join("conf.d/empty"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn patterns_match_and_what_matches_nothing_is_an_error() {
    let bed = Bed::new();
    let app = bed.source();
    for name in ["a.toml", "b.toml", "c.txt", "[literal]"] {
        std::fs::write(app.join(name), name).unwrap();
    }
    let backup = bed.add(&[app.join("*.toml"), app.join("a.toml"), app.join("[literal]")], &[]).unwrap();
    assert_eq!(bed.listed(&backup), ["[literal]", "a.toml", "b.toml"]);
    let before = bed.names();
    for (include, says) in [
        (app.join("*.yaml"), "there is nothing of the name or pattern"),
        (app.join("gone"), "there is nothing of the name or pattern"),
        (app.join("../app"), "'..'"),
        (PathBuf::from("relative"), "not absolute"),
        (app.join("[*"), "malformed"),
    ] {
        let error = bed.add(std::slice::from_ref(&include), &[]).unwrap_err();
        assert!(error.to_string().contains(says), "{include:?}: {error}");
        assert_eq!(bed.names(), before);
    }
}

#[test]
fn databases_are_left_to_their_own_backup() {
    let bed = Bed::new();
    let app = bed.source();
    for name in ["x.db", "x.db-wal", "x.db-shm", "x.db-journal", "x.db.txt", "y.db"] {
        std::fs::write(app.join(name), b"").unwrap();
    }
    std::fs::create_dir(app.join("sub")).unwrap();
    std::fs::write(app.join("sub/x.db"), b"another one").unwrap();
    let alias = bed.dir.path().join("alias.db");
    symlink(app.join("x.db"), &alias).unwrap();
    let databases = [alias];
    let request = TreeRequest { includes: std::slice::from_ref(&app), databases: &databases };
    let size = bed.store.measure_tree(&request, &bed.cancel).unwrap();
    assert_eq!((size.entries, size.bytes), (5, 5 * 2048 + 11));
    let backup = bed.add(&[app], &databases).unwrap();
    assert_eq!(bed.listed(&backup), ["", "sub", "sub/x.db", "x.db.txt", "y.db"]);
}

#[test]
fn a_store_inside_the_source_is_refused_and_nothing_is_left() {
    let bed = Bed::new();
    let link = bed.dir.path().join("link");
    symlink(bed.dir.path(), &link).unwrap();
    let real = bed.dir.path().canonicalize().unwrap();
    for include in [real.clone(), bed.store.root().to_owned(), bed.store.root().join("plex"), link.join("store")] {
        let request = TreeRequest { includes: std::slice::from_ref(&include), databases: &[] };
        assert!(bed.store.measure_tree(&request, &bed.cancel).is_err(), "known before anything is touched");
        let error = match bed.add(std::slice::from_ref(&include), &[]) {
            Err(error) => error,
            Ok(_) => panic!("{include:?} was accepted"),
        };
        assert!(error.to_string().contains("store"), "{error}");
        assert_eq!(error.kind() == FailureKind::Usage, !include.ends_with("plex"), "{error}");
    }
    assert_eq!(bed.names(), [".lock"]);
}

#[test]
fn an_entry_that_would_leave_its_directory_is_refused() {
    for (name, link) in [("../evil", None), ("/tmp/evil", None), ("up/evil", Some("..")), ("up/evil/x", Some("/tmp"))] {
        let bed = Bed::new();
        let app = bed.source();
        std::fs::write(app.join("x"), b"").unwrap();
        let backup = bed.add(&[app], &[]).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o755);
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, "up", link).unwrap();
        }
        let kind = if name.ends_with("x") { tar::EntryType::Directory } else { tar::EntryType::Regular };
        header.set_entry_type(kind);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().name[name.len()] = 0;
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        let content = tar.into_inner().unwrap();
        let stored = zstd::encode_all(&*content, 3).unwrap();
        std::fs::write(backup.dir().join("files.tar.zst"), &stored).unwrap();
        let mut payload = backup.manifest().payloads[0].clone();
        payload.content_bytes = content.len() as u64;
        payload.content_sha256 = codec::sha256_hex(&content);
        payload.stored_bytes = stored.len() as u64;
        payload.stored_sha256 = codec::sha256_hex(&stored);
        let into = bed.dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        let error = backup.extract(&payload, &into, &bed.cancel, &Silent).unwrap_err();
        assert!(!bed.dir.path().join("evil").exists() && !Path::new("/tmp/evil").exists(), "{name}: {error}");
    }
}

#[test]
fn a_cancellation_ends_a_large_file_in_its_middle() {
    struct CancelAtFirst(Cancel);
    impl Observer for CancelAtFirst {
        fn bytes(&self, _: u64, _: u64) {
            self.0.request();
        }
    }
    let bed = Bed::new();
    let app = bed.source();
    std::fs::write(app.join("a"), b"").unwrap();
    std::fs::File::create(app.join("b")).unwrap().set_len(1 << 40).unwrap();
    let mut draft = bed.begin();
    let request = TreeRequest { includes: &[app], databases: &[] };
    let error = draft.add_tree("files", &request, &CancelAtFirst(bed.cancel.clone())).unwrap_err();
    assert!(matches!(error, ArchiveError::Cancelled { .. }), "{error}");
    drop(draft);
    assert_eq!(bed.names(), [".lock"]);
}

#[test]
fn a_tree_that_is_being_written_to_is_stored_truthfully() {
    /// Does something to the tree at the first byte count, which comes after the first file.
    struct Meddler<F: Fn() + Send + Sync>(F, std::sync::Once);
    impl<F: Fn() + Send + Sync> Observer for Meddler<F> {
        fn bytes(&self, _: u64, _: u64) {
            self.1.call_once(&self.0);
        }
    }
    let bed = Bed::new();
    let app = bed.source();
    for name in ["a", "b", "c", "d/e"] {
        std::fs::create_dir_all(app.join(name).parent().unwrap()).unwrap();
        std::fs::write(app.join(name), name).unwrap();
    }
    let meddled = app.clone();
    let meddler = Meddler(
        move || {
            std::fs::remove_file(meddled.join("b")).unwrap();
            std::fs::remove_file(meddled.join("c")).unwrap();
            symlink("/etc/passwd", meddled.join("c")).unwrap();
            std::fs::remove_dir_all(meddled.join("d")).unwrap();
        },
        std::sync::Once::new(),
    );
    let mut draft = bed.begin();
    draft.add_tree("files", &TreeRequest { includes: &[app], databases: &[] }, &meddler).unwrap();
    let backup = bed.store.publish(draft.verify(&mut sound, &Silent).unwrap()).unwrap();
    assert_eq!(bed.listed(&backup), ["", "a", "c"]);
    let notes = backup.manifest().notes.join("\n");
    assert!(notes.contains("app/b\": it vanished") && notes.contains("app/d\": it vanished"), "{notes}");
}
