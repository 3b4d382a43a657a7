// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays the corpus of every target. A failure names the file: `fuzz-replay --show TARGET FILE` prints what it does.

use std::{fs, panic, path::Path};

fn replay(name: &str) {
    let target = fuzz::TARGETS.iter().find(|target| target.name == name).expect("a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in &files {
        let data = fs::read(file).unwrap();
        if let Err(panic) = panic::catch_unwind(|| (target.check)(&data)) {
            eprintln!("{}:\n{}", file.display(), (target.show)(&data));
            panic::resume_unwind(panic);
        }
    }
}

#[test]
fn segments() {
    replay("segments");
}

#[test]
fn options() {
    replay("options");
}

#[test]
fn reassembly() {
    replay("reassembly");
}

#[test]
fn scoreboard() {
    replay("scoreboard");
}

#[test]
fn events() {
    replay("events");
}

#[test]
fn recovery() {
    replay("recovery");
}

#[test]
fn messages() {
    replay("messages");
}

#[test]
fn ring() {
    replay("ring");
}

/// A target without a test above would never be replayed.
#[test]
fn every_target_is_replayed() {
    let source = include_str!("corpus.rs");
    for target in fuzz::TARGETS {
        assert!(source.contains(&format!("replay(\"{}\");", target.name)), "{}", target.name);
    }
}
