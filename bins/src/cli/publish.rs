//! The command line of `svc-publish`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use svckit::publish::Generation;

use super::ctl::{CompletionsArgs, ManArgs};
use super::{Global, duration};

/// Publish a directory tree so that readers always see one whole state of it
#[derive(Debug, Parser)]
#[command(name = "svc-publish", version, styles = super::styles(), after_help = EXAMPLES, after_long_help = long_help(), long_about = LONG)]
pub struct Cli {
    #[command(flatten)]
    /// What every command understands.
    pub global: Global,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  svc-publish update /srv/repo --from /srv/build/out --keep 3
  svc-publish update /srv/repo --check 'apt-ftparchive release dists' --run -- /usr/local/bin/merge
  svc-publish status /srv/repo
  svc-publish switch /srv/repo --back
  svc-publish read /srv/repo -- tar -cf /tmp/repo.tar .
  svc-publish gc /srv/repo --keep 3 --grace 1h";

const LONG: &str = "Publish a directory tree so that readers always see one whole state of it

TREE/current is a symbolic link to TREE/generations/NUMBER, and readers use TREE/current. A generation is never written to \
once it has its number: an update makes a new one beside it, makes it durable, has it checked and verified, and only then \
replaces the link by a rename. Whatever fails or is killed before that leaves readers with the generation that they have.

A reader that opens several files one after the other by the path of the link may meet two generations. It sees one \
if it opens the directory once (chdir into it) and the generation is kept for long enough, or for certain under a lease: \
svc-publish read.";

fn long_help() -> String {
    format!("{EXAMPLES}\n\nExit status:\n{}", crate::exit::table())
}

/// What `svc-publish` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish a new generation, from a directory or by running a command
    #[command(
        after_help = "Examples:\n  svc-publish update /srv/repo --from /srv/build/out\n  \
        svc-publish update /srv/repo --from out --check 'test -s index.html' --keep 3 --grace 1h\n  \
        svc-publish update /srv/repo --run -- rsync -a --delete upstream::repo/ .\n  \
        svc-publish update /srv/repo --from out --carry '**/by-hash/**' --carry-for 3\n  \
        svc-publish update /srv/repo --resume",
        long_about = UPDATE_LONG
    )]
    Update(Box<UpdateArgs>),
    /// Send readers to another generation, after it was verified (exit 12: it is not what it was)
    #[command(after_help = "Examples:\n  svc-publish switch /srv/repo --back\n  svc-publish switch /srv/repo 42")]
    Switch(SwitchArgs),
    /// Remove old generations, and what interruptions left; never what is served or read
    #[command(after_help = "Example:\n  svc-publish gc /srv/repo --keep 3 --grace 1h --dry-run")]
    Gc(GcArgs),
    /// Run a command in the current generation, which stays whole and there for as long as it runs
    #[command(after_help = "Examples:\n  svc-publish read /srv/repo -- tar -cf /tmp/repo.tar .\n  \
        svc-publish read /srv/repo -- sh -c 'sha256sum -c SHA256SUMS'")]
    Read(ReadArgs),
    /// Take the current generation to another tree, on this machine or by rsync over ssh
    #[command(
        after_help = "Examples:\n  svc-publish mirror /srv/repo mirror@pub.example.org:/srv/repo\n  \
        svc-publish mirror /srv/repo /mnt/copy\n  \
        svc-publish mirror /srv/repo host:/srv/repo --ssh 'ssh -p 2222 -i /etc/keys/mirror'",
        long_about = MIRROR_LONG
    )]
    Mirror(MirrorArgs),
    /// Take a generation from another machine; `mirror` starts this there
    #[command(hide = true, after_help = "Example: started by svc-publish mirror, over ssh")]
    Receive(ReceiveArgs),
    /// Show the generations, who reads them, and where an update stopped
    #[command(after_help = "Example:\n  svc-publish status /srv/repo --json")]
    Status(StatusArgs),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  svc-publish completions fish > ~/.config/fish/completions/svc-publish.fish")]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  svc-publish man target/man")]
    Man(ManArgs),
}

const UPDATE_LONG: &str = "Publish a new generation, from a directory or by running a command

--from: the new generation has exactly what the directory has. What is the same as in the current one (size, time of \
modification, mode, owner; with --checksum the content) is a hard link to it, the rest is copied. Extended attributes are \
not taken along. If the directory changes meanwhile, nothing is published.

--run: the command runs in the directory of the new generation, which has what the current one has (--seed). Its \
environment has SVC_PUBLISH_STAGING, SVC_PUBLISH_GENERATION and SVC_PUBLISH_TREE. It must end with 0, and leave nothing \
behind that still writes. Its output goes to standard error.

Then: everything is written to the disk, each --check must end with 0 in the new generation, all of it is compared with its \
manifest, it gets its number, and the link is replaced. The lock of the tree is held from the beginning to the end, and by \
the commands too.";

const MIRROR_LONG: &str = "Take the current generation to another tree, on this machine or by rsync over ssh

The mirror gets a new generation of the same number, compares every byte with the manifest, and only then serves it; \
until then, and whatever is interrupted, it serves what it has. Its lock is held all the while. It refuses a generation \
that is older than its own (exit 22) unless --allow-older is given.

Over ssh the other machine needs svc-publish and rsync; this one needs ssh and rsync.";

/// When the tree is in use.
#[derive(Debug, Clone, Args)]
pub struct WaitFlags {
    /// How long to wait while another operation works on the tree
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub wait: Duration,
}

/// What is kept of old generations.
#[derive(Debug, Clone, Args)]
pub struct GraceFlag {
    /// Keep what was the current one less than so long ago: for readers who look each path up anew, as over HTTP
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub grace: Duration,
}

/// The options of `update`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["from", "run", "resume"]))]
pub struct UpdateArgs {
    /// The tree; it is made where it is missing
    pub tree: PathBuf,
    /// The directory that has what is to be published
    #[arg(long, value_name = "DIR", help_heading = "What is published")]
    pub from: Option<PathBuf>,
    /// Compare files by their content, not by size and time of modification
    #[arg(long, requires = "from", help_heading = "What is published")]
    pub checksum: bool,
    /// Run the command that follows `--` in the new generation
    #[arg(long, requires = "words", help_heading = "What is published")]
    pub run: bool,
    /// What the command finds there: the current generation, by
    #[arg(long, value_name = "WORD", default_value = "auto", help_heading = "What is published")]
    pub seed: SeedArg,
    /// Go on with an update that was interrupted when its generation was complete (exit 10: none was)
    #[arg(long, conflicts_with_all = ["check", "carry", "keep", "no_switch", "dry_run"], help_heading = "What is published")]
    pub resume: bool,
    /// Keep names that vanish and match, as `**/by-hash/**`; may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "What is published")]
    pub carry: Vec<String>,
    /// For so many generations
    #[arg(long, value_name = "N", default_value_t = 3, requires = "carry", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "What is published")]
    pub carry_for: u32,
    /// A command that must end with 0 in the new generation; words as a shell quotes them, no shell; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    pub check: Vec<Words>,
    /// How long each command may take
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1day")]
    pub command_timeout: Duration,
    /// Do not send readers to it; `switch` does
    #[arg(long)]
    pub no_switch: bool,
    /// Afterwards keep so many of the newest generations and remove older ones, as `gc` does [default: all stay]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    #[command(flatten)]
    /// For how long.
    pub grace: GraceFlag,
    #[command(flatten)]
    /// How long.
    pub wait: WaitFlags,
    /// Then take it to a mirror, under the same lock; may be repeated
    #[arg(long, value_name = "DEST", conflicts_with_all = ["no_switch", "resume"], help_heading = "Mirrors")]
    pub mirror: Vec<OsString>,
    #[command(flatten)]
    /// How they are reached.
    pub transport: TransportFlags,
    /// Say what would be copied and what would vanish, and do nothing
    #[arg(long, conflicts_with = "run")]
    pub dry_run: bool,
    /// The command and its words
    #[arg(last = true, value_name = "CMD", requires = "run")]
    pub words: Vec<OsString>,
}

/// The words of a command.
#[derive(Debug, Clone)]
pub struct Words(pub Vec<OsString>);

fn words(text: &str) -> Result<Words, String> {
    let words = shlex::split(text).ok_or_else(|| "its quotes do not match".to_owned())?;
    if words.is_empty() {
        return Err("it has no word".to_owned());
    }
    Ok(Words(words.into_iter().map(Into::into).collect()))
}

/// What a command finds in the new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeedArg {
    /// reflink where the file system can, else copy
    Auto,
    /// Files that share their blocks until they are written to
    Reflink,
    /// Copies
    Copy,
    /// The same files: for a command that only ever replaces files; checked afterwards
    Hardlink,
    /// Nothing
    None,
}

/// The options of `switch`.
#[derive(Debug, Clone, Args)]
pub struct SwitchArgs {
    /// The tree
    pub tree: PathBuf,
    /// The generation [default: the newest complete one]
    pub generation: Option<Generation>,
    /// The one before the one that is served
    #[arg(long, conflicts_with = "generation")]
    pub back: bool,
    /// Verify it only
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// How long.
    pub wait: WaitFlags,
}

/// The options of `gc`.
#[derive(Debug, Clone, Args)]
pub struct GcArgs {
    /// The tree
    pub tree: PathBuf,
    /// Keep so many of the newest generations; the current one stays beside
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,
    #[command(flatten)]
    /// For how long.
    pub grace: GraceFlag,
    /// Say what would go, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// How long.
    pub wait: WaitFlags,
}

/// How a mirror is reached.
#[derive(Debug, Clone, Args)]
pub struct TransportFlags {
    /// The transport: words as a shell quotes them, no shell
    #[arg(long, value_name = "COMMAND", value_parser = words, default_value = "ssh", help_heading = "Mirrors")]
    pub ssh: Words,
    /// svc-publish on the other machine
    #[arg(long, value_name = "PATH", default_value = "svc-publish", help_heading = "Mirrors")]
    pub remote_program: OsString,
}

/// The options of `mirror`.
#[derive(Debug, Clone, Args)]
pub struct MirrorArgs {
    /// The tree
    pub tree: PathBuf,
    /// The mirror: a path, or HOST:PATH
    pub destination: OsString,
    #[command(flatten)]
    /// How it is reached.
    pub transport: TransportFlags,
    /// Compare files by their content, not by size and time of modification
    #[arg(long)]
    pub checksum: bool,
    /// Also go back to an older generation than the mirror serves
    #[arg(long)]
    pub allow_older: bool,
    /// How long the copying may take
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1day")]
    pub command_timeout: Duration,
    #[command(flatten)]
    /// How long.
    pub wait: WaitFlags,
}

/// The options of `receive`.
#[derive(Debug, Clone, Args)]
pub struct ReceiveArgs {
    /// The tree
    pub tree: PathBuf,
    /// Also an older generation than is served
    #[arg(long)]
    pub allow_older: bool,
    /// How long the other side may take
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1day")]
    pub command_timeout: Duration,
}

/// The options of `read`.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// The tree
    pub tree: PathBuf,
    /// The command and its words
    #[arg(last = true, required = true, value_name = "CMD")]
    pub words: Vec<OsString>,
}

/// The options of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The tree
    pub tree: PathBuf,
}
