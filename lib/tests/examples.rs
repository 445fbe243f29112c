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

#[test]
fn a_task_of_one_s_own_is_tended() {
    let text = run("tend_spool");
    let passes = "0 min: 3 done, 1 failed, 0 left alone\n10 min: 0 done, 1 failed, 0 left alone\n20 min: 0 done, 0 failed, 1 left alone\n";
    assert_eq!(text, format!("{passes}3: it has no address, 2 failures, set aside: true\ndelivered: 5\n"));
}
