// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays inputs of a fuzz target without an engine.
//!
//! ```text
//! fuzz-replay --list                 targets, and the files their corpus covers
//! fuzz-replay TARGET PATH…           runs files, or all files of folders
//! fuzz-replay --show TARGET PATH…    prints their operations first
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--list") {
        for target in fuzz::TARGETS {
            println!("{} {}", target.name, target.covers.join(" "));
        }
        return ExitCode::SUCCESS;
    }
    let shows = arguments.first().is_some_and(|first| first == "--show");
    if shows {
        arguments.remove(0);
    }
    let target = arguments.first().and_then(|name| fuzz::TARGETS.iter().find(|target| target.name == name));
    let (Some(target), [_, paths @ ..]) = (target, arguments.as_slice()) else {
        eprintln!("usage: fuzz-replay [--show] TARGET PATH… | --list");
        return ExitCode::from(2);
    };
    let mut count = 0;
    for path in paths.iter().flat_map(|path| files(Path::new(path))) {
        let data = match std::fs::read(&path) {
            Ok(data) => data,
            Err(error) => {
                eprintln!("fuzz-replay: {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        };
        if shows {
            println!("{}:\n{}", path.display(), (target.show)(&data));
        }
        (target.check)(&data);
        count += 1;
    }
    println!("{}: {count} inputs", target.name);
    ExitCode::SUCCESS
}

/// The file, or the files of the folder in order of their names.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}
