//! `svc-repair`: check databases without touching them.
fn main() -> std::process::ExitCode {
    svckit_tools::repair::main()
}
