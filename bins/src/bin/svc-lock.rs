//! `svc-lock`: run a command under the lock of a whole operation.
fn main() -> std::process::ExitCode {
    svckit_tools::lock::main()
}
