// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end-to-end suite: unmodified applications on TAS against a Linux peer.
//!
//! One list of cases for both backends. Everything is run through `scripts/lab`, so a case does not
//! know where TAS is; the TAS side has no interface to fall back to, falling back is an error,
//! and every case must see TAS's own segment counters rise.

mod cases;
mod lab;
mod python;

use anyhow::Result;
use clap::Parser;
use lab::Lab;
use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    process::ExitCode,
    time::Instant,
};

/// Runs the end-to-end cases in the lab that is up (`scripts/lab up`).
#[derive(Parser)]
struct Options {
    /// The lab script.
    #[arg(long, default_value = "scripts/lab")]
    lab: String,
    /// Volume of each case in percent; a guest under emulation or KASAN gets less.
    #[arg(long, default_value_t = 100)]
    volume: u32,
    /// Run only cases whose name contains this; may be given several times.
    #[arg(long)]
    filter: Vec<String>,
    /// List the cases.
    #[arg(long)]
    list: bool,
    /// Directory that both sides see at the same path, for large files.
    #[arg(long, default_value = "/var/tmp/tas-e2e")]
    share: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let chosen: Vec<_> = cases::ALL
        .iter()
        .filter(|case| {
            options.filter.is_empty() || options.filter.iter().any(|wanted| case.name.contains(wanted))
        })
        .collect();
    if options.list {
        for case in chosen {
            println!("{:28} {}", case.name, case.about);
        }
        return ExitCode::SUCCESS;
    }
    let lab = Lab::new(&options.lab, options.volume, &options.share);
    let (mut failed, mut unsteady) = (0, Vec::new());
    for (index, case) in chosen.iter().enumerate() {
        println!("[{}/{}] {}: {}", index + 1, chosen.len(), case.name, case.about);
        // A loaded machine can stretch any pause: what fails is run once more, and named at the end.
        if !attempt(&lab, case) {
            println!("  once more");
            if attempt(&lab, case) {
                unsteady.push(case.name);
            } else {
                failed += 1;
            }
        }
    }
    if !unsteady.is_empty() {
        println!("passed only when run again: {}", unsteady.join(" "));
    }
    println!("{} passed, {failed} failed, 0 skipped", chosen.len() - failed);
    if failed == 0 && !chosen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one case and says how it went.
fn attempt(lab: &Lab, case: &cases::Case) -> bool {
    let start = Instant::now();
    match run(lab, case) {
        Ok(segments) => {
            println!("  ok, {segments} TAS segments, {:.1} s", start.elapsed().as_secs_f64());
            true
        }
        Err(error) => {
            println!("  FAILED {}: {error:#}", case.name);
            false
        }
    }
}

/// Runs one case; the number of segments that TAS carried for it.
fn run(lab: &Lab, case: &cases::Case) -> Result<u64> {
    let before = lab.tas_segments()?;
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(lab)));
    lab.end_background();
    match outcome {
        Ok(result) => result?,
        Err(_) => anyhow::bail!("the case panicked"),
    }
    let segments = lab.tas_segments()?.saturating_sub(before);
    anyhow::ensure!(
        segments >= case.least_segments,
        "TAS carried {segments} segments, at least {} were expected: did the application use Linux?",
        case.least_segments
    );
    Ok(segments)
}
