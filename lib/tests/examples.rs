//! The examples do what they say: they are run, and what they print is read.
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn run(name: &str) -> String {
    let output = Command::new(env!("CARGO")).args(["run", "--quiet", "--example", name]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn a_controller_of_one_s_own_is_stopped_and_brought_back() {
    let text = run("custom_controller");
    assert_eq!(text, "started: up\nstopped: down, Clean\nback: up\n");
}

#[test]
fn a_binary_is_replaced_while_its_service_is_stopped() {
    let text = run("replace_binary");
    assert!(text.contains("stopped: Clean"), "{text}");
    assert!(text.contains("logged [\"new\"]"), "{text}");
}
