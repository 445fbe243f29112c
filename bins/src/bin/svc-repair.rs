//! `svc-repair`: check and repair databases; the original is preserved, and every row is accounted for.
fn main() -> std::process::ExitCode {
    svckit_tools::repair::main()
}
