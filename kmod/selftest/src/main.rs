// SPDX-License-Identifier: GPL-2.0-only
//! Exercises `/dev/tas` where tas.ko is loaded and no instance runs: roles and refusals, who may map
//! what, lifetimes of sockets and applications, death of the fast path, unloading, garbage.
//!
//! `tas-kmod-selftest [--seed N] [--rounds N] [NAME…]`: all cases, or those whose name contains one of
//! the words. Needs root. The last line is `N passed, N failed, 0 skipped`.

mod attach;
mod garbage;
mod lifetimes;
mod mappings;
mod roles;
mod sockets;
mod sys;
mod unload;

/// A case: its name and what it does; it panics if the module is wrong.
type Case = (&'static str, fn(&Options));

/// Command line.
pub(crate) struct Options {
    /// Seed of random messages.
    pub(crate) seed: u64,
    /// Random messages sent to each kind of file.
    pub(crate) rounds: u32,
}

fn main() {
    let mut options = Options { seed: seed_from_clock(), rounds: 4000 };
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| usage());
        match argument.as_str() {
            "--seed" => options.seed = number(),
            "--rounds" => options.rounds = number() as u32,
            word if !word.starts_with('-') => words.push(word.to_owned()),
            _ => usage(),
        }
    }
    println!("seed {}", options.seed);
    let groups: [&[Case]; 6] =
        [attach::CASES, mappings::CASES, lifetimes::CASES, sockets::CASES, unload::CASES, garbage::CASES];
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in groups.into_iter().flatten() {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        match std::panic::catch_unwind(|| case(&options)) {
            Ok(()) => {
                passed += 1;
                println!("ok {name}");
            }
            Err(_) => {
                failed += 1;
                println!("FAILED {name}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    std::process::exit(i32::from(failed != 0));
}

fn usage() -> ! {
    eprintln!("usage: tas-kmod-selftest [--seed N] [--rounds N] [NAME…]");
    std::process::exit(2);
}

fn seed_from_clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 & 0xffff_ffff
}
