// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scripts/sim`: runs worlds until the time or the number is over, or one is violated.

use clap::Parser;
use sim::{coverage::Coverage, plan::Plan, scenario};
use std::{
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Mutex, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

/// Runs seeded worlds of two hosts with the real stack, and checks them.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Options {
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// First seed (drawn from the clock and printed unless given). Alone: replays that one world.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many worlds.
    #[arg(long)]
    worlds: Option<u64>,
    /// Threads, one world each at a time (the processors of this machine).
    #[arg(long)]
    jobs: Option<usize>,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
    /// Print the plans instead of running them.
    #[arg(long)]
    story: bool,
    /// Fail if a state and event, or a kind of fault, that can be reached was not.
    #[arg(long)]
    reach_all: bool,
    /// Print how often every state met every event.
    #[arg(long)]
    coverage: bool,
}

/// Between two progress lines.
const PROGRESS: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Totals {
    worlds: AtomicU64,
    events: AtomicU64,
    virtual_us: AtomicU64,
    bytes: AtomicU64,
    /// Most turns in a tenth of a second, and its seed.
    busiest: Mutex<(u64, u64)>,
    violations: AtomicU64,
    stop: AtomicBool,
    coverage: Mutex<Coverage>,
}

struct Range {
    first: u64,
    worlds: u64,
    end: Option<Instant>,
}

fn work(range: &Range, next: &AtomicU64, totals: &Totals, keep_going: bool) {
    loop {
        let number = next.fetch_add(1, Relaxed);
        let late = range.end.is_some_and(|end| Instant::now() >= end);
        if number >= range.worlds || late || totals.stop.load(Relaxed) {
            return;
        }
        let seed = range.first.wrapping_add(number);
        match scenario::run(seed) {
            Ok(report) => {
                let mut busiest = totals.busiest.lock().unwrap_or_else(PoisonError::into_inner);
                *busiest = (*busiest).max((report.busiest, seed));
                drop(busiest);
                totals.events.fetch_add(report.events, Relaxed);
                totals.virtual_us.fetch_add(report.virtual_us, Relaxed);
                totals.bytes.fetch_add(report.bytes, Relaxed);
                totals.coverage.lock().unwrap_or_else(PoisonError::into_inner).add(&report.coverage);
            }
            Err(violation) => {
                totals.violations.fetch_add(1, Relaxed);
                println!("{violation}");
                if !keep_going {
                    totals.stop.store(true, Relaxed);
                }
            }
        }
        totals.worlds.fetch_add(1, Relaxed);
    }
}

fn progress(totals: &Totals, start: Instant) {
    let faults = totals.coverage.lock().unwrap_or_else(PoisonError::into_inner).faults();
    println!(
        "{:4} s: {} worlds, {} events, {faults} faults, {} violations, {} MB, {} virtual s",
        start.elapsed().as_secs(),
        totals.worlds.load(Relaxed),
        totals.events.load(Relaxed),
        totals.violations.load(Relaxed),
        totals.bytes.load(Relaxed) / 1_000_000,
        totals.virtual_us.load(Relaxed) / 1_000_000,
    );
}

fn main() -> ExitCode {
    let options = Options::parse();
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_micros() as u64);
    let first = options.seed.unwrap_or_else(clock);
    let one = options.seed.is_some() && options.seconds.is_none();
    let worlds = options.worlds.unwrap_or(if one { 1 } else { u64::MAX });
    if options.story {
        (first..first.saturating_add(worlds.min(1000))).for_each(|seed| print!("{}", Plan::draw(seed)));
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let seconds = options.seconds.or((worlds == u64::MAX).then_some(60));
    let range = Range { first, worlds, end: seconds.map(|seconds| start + Duration::from_secs(seconds)) };
    println!("sim: seeds from {first}");
    let jobs = options.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let (next, totals) = (AtomicU64::new(0), Totals::default());
    // A panic is reported with its world.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1))
            .map(|_| scope.spawn(|| work(&range, &next, &totals, options.keep_going)))
            .collect();
        let mut shown = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::park_timeout(Duration::from_millis(20));
            if shown.elapsed() >= PROGRESS {
                progress(&totals, start);
                shown = Instant::now();
            }
        }
    });
    let coverage = totals.coverage.lock().unwrap_or_else(PoisonError::into_inner);
    if options.coverage {
        println!("{}", coverage.table());
        let (turns, seed) = *totals.busiest.lock().unwrap_or_else(PoisonError::into_inner);
        println!("busiest tenth of a second: {turns} turns in world {seed}");
    }
    let missing = coverage.never_reached();
    if worlds > 1 {
        println!(
            "never reached: {}",
            if missing.is_empty() { "nothing".to_owned() } else { missing.join(", ") }
        );
    }
    let unexpected = coverage.reached_the_unreachable();
    if !unexpected.is_empty() {
        println!("reached although said to be unreachable: {}", unexpected.join(", "));
    }
    let violations = totals.violations.load(Relaxed);
    println!(
        "sim: {} worlds, {} events, {} faults, {violations} violations",
        totals.worlds.load(Relaxed),
        totals.events.load(Relaxed),
        coverage.faults()
    );
    let reached = missing.is_empty() && unexpected.is_empty();
    if violations == 0 && (reached || !options.reach_all) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
