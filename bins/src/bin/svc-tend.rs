//! `svc-tend`: run maintenance loops that do not die.
fn main() -> std::process::ExitCode {
    svckit_tools::tend::main()
}
