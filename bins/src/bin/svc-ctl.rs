//! svc-ctl
fn main() {}
