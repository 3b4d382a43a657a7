// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tas-packetdrill [--verbose] [--known FILE] PATHS…`: runs scripts, each in a process of its own, because
//! a process has one sockets layer.

use anyhow::{bail, Context as _, Result};
use clap::Parser;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Mutex, PoisonError,
    },
};

/// Runs packetdrill scripts against a simulated TAS host, in virtual time.
#[derive(Debug, Parser)]
#[command(name = "tas-packetdrill", version)]
struct Options {
    /// Print every event.
    #[arg(long, short)]
    verbose: bool,
    /// Only parse.
    #[arg(long)]
    dry_run: bool,
    /// List of scripts that are known to fail ("path: reason"), relative to its own directory.
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Scripts, or directories that are searched for *.pkt.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "pkt") {
            collect(&path, into)?;
        }
    }
    Ok(())
}

/// Scripts that are known to fail, and why.
fn known_failures(list: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let folder = list.parent().unwrap_or(Path::new("."));
    let mut known = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (path, reason) = line.split_once(": ").with_context(|| format!("no reason: {line}"))?;
        let path = folder.join(path);
        let path = path.canonicalize().with_context(|| format!("{}", path.display()))?;
        known.insert(path, reason.to_owned());
    }
    Ok(known)
}

/// Runs one script in this process.
fn run_here(path: &Path, options: &Options) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let script = packetdrill::parse(&text).with_context(|| path.display().to_string())?;
    if options.dry_run {
        return Ok(());
    }
    // Nothing may be Linux's here. No other thread runs.
    std::env::set_var("TAS_REQUIRE", "1");
    let mut verbose = |line: &str| {
        if options.verbose {
            println!("{line}");
        }
    };
    match packetdrill::run(&script, &mut verbose) {
        Ok(()) => Ok(()),
        Err(mismatch) => bail!("{}:{mismatch}", path.display()),
    }
}

/// Runs one script in a process of its own: true if it passes, and what it printed.
fn run_apart(path: &Path) -> Result<(bool, String)> {
    let output = Command::new(std::env::current_exe()?).arg(path).output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    known: usize,
}

fn run_all(scripts: &[PathBuf], known: &BTreeMap<PathBuf, String>) -> Tally {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let work = || {
        while let Some(path) = scripts.get(next.fetch_add(1, Relaxed)) {
            let (passed, text) = run_apart(path).unwrap_or_else(|error| (false, format!("{error:#}\n")));
            let reason = path.canonicalize().ok().and_then(|path| known.get(&path));
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match (passed, reason) {
                (true, None) => {
                    tally.passed += 1;
                    println!("ok    {}", path.display());
                }
                (false, Some(reason)) => {
                    tally.known += 1;
                    println!("known {}: {reason}", path.display());
                }
                (true, Some(_)) => {
                    tally.failed += 1;
                    println!("FAIL  {} passes: take it from the list of known failures", path.display());
                }
                (false, None) => {
                    tally.failed += 1;
                    println!("FAIL  {}\n{text}", path.display());
                }
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let mut scripts = Vec::new();
    for path in &options.paths {
        collect(path, &mut scripts)?;
    }
    scripts.sort();
    if let ([one], None) = (scripts.as_slice(), &options.known) {
        return match run_here(one, &options) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                eprintln!("{error:#}");
                Ok(ExitCode::FAILURE)
            }
        };
    }
    let known = options.known.as_deref().map(known_failures).transpose()?.unwrap_or_default();
    let tally = run_all(&scripts, &known);
    println!("{} passed, {} failed, {} known to fail, 0 skipped", tally.passed, tally.failed, tally.known);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
