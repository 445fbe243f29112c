//! svc-backup
fn main() {}
