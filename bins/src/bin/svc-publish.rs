//! `svc-publish`: a directory tree of which readers always see one whole state.
fn main() -> std::process::ExitCode {
    svckit_tools::publish::main()
}
