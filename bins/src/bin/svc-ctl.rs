//! `svc-ctl`: stop, start and watch services without ever killing a database write.
fn main() -> std::process::ExitCode {
    svckit_tools::ctl::main()
}
