// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program where nothing is running: exit status, and errors that say what to type.

use std::process::{Command, Output};

/// `tasctl` against a daemon that is not there.
fn tasctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tasctl"))
        .args(arguments)
        .env("TAS_BACKEND", "daemon")
        .env("TAS_SOCKET", "/nonexistent/tas0.sock")
        .env_remove("TAS_INSTANCE")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn without_a_daemon_every_question_says_how_to_start_one() {
    for command in [&["status"][..], &["flows", "-l"], &["counters"]] {
        let output = tasctl(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let error = text(&output.stderr);
        assert!(error.contains("/nonexistent/tas0.sock") && error.contains("sudo tas-slowpathd"), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    assert_eq!(tasctl(&["flow"]).status.code(), Some(2));
    assert_eq!(tasctl(&["run"]).status.code(), Some(2));
    assert_eq!(tasctl(&["--backend", "cloud", "status"]).status.code(), Some(2));
    let output = tasctl(&["--instance", "no/such/name", "status"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn doctor_finds_what_is_missing_in_both_formats() {
    let output = tasctl(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let daemon = findings.as_array().unwrap().iter().find(|finding| finding["check"] == "daemon").unwrap();
    assert_eq!((&daemon["result"], &daemon["fix"]), (&"fail".into(), &"sudo tas-slowpathd".into()));
    let module = findings.as_array().unwrap().iter().find(|finding| finding["check"] == "module").unwrap();
    assert_ne!(module["result"], "fail", "the daemon backend needs no module");
    let output = tasctl(&["doctor"]);
    assert!(text(&output.stdout).contains("FAIL  daemon"));
}

#[test]
fn the_manual_and_the_completions_are_made() {
    assert!(text(&tasctl(&["man"]).stdout).starts_with(".ie"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&tasctl(&["completions", shell]).stdout).contains("doctor"), "{shell}");
    }
}
