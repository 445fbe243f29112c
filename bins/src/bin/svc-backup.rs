//! `svc-backup`: back up databases of services that run, prove the backups, and restore them.
fn main() -> std::process::ExitCode {
    svckit_tools::backup::main()
}
