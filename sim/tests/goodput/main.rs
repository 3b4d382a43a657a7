// SPDX-License-Identifier: MIT OR Apache-2.0
//! Goodput of bulk transfers against loss, delay and reordering, in virtual time: a table beside this file, so that a
//! change of behaviour shows in review. One frame sent earlier makes another run of every loss that follows, so that rows
//! may differ by [`TOLERANCE`] before the test asks for a new table. `GOODPUT_WRITE=1` writes the table anew; `GOODPUT_ONLY=text` runs the rows that
//! contain the text and prints them.

mod path;

use abi::message::congestion;
use path::{transfer, Path};
use std::fmt::Write as _;

/// What the paths of a table have in common where nothing else is said: one flow on a link of 100 Mbit/s whose queue holds
/// 128 frames, and a least timeout for networks like that: with 200 ms, as RFC 6298 and Linux want it, the few timeouts of the
/// shortest path at 5 % of loss are most of the time.
const ONE: Path = Path {
    congestion: congestion::DCTCP_RATE,
    flows: 1,
    link_kbps: 100_000,
    queue_frames: 128,
    delay_us: 2000,
    reorder_us: 0,
    held_back: 50,
    loss: 0,
    rto_min_us: 5_000,
};
/// Many flows on one link, as `scripts/bench wire` has them, with the timeout that is the default.
const MANY: Path = Path {
    flows: 100,
    link_kbps: 400_000,
    queue_frames: 1000,
    delay_us: 1000,
    held_back: 1000,
    rto_min_us: 200_000,
    ..ONE
};
/// Payload of a full segment with timestamps.
const MSS_BYTES: f64 = 1448.0;
/// Least share of the ideal sender's goodput, in per cent; of NewReno's rows. Without a window, DCTCP by rate leaves no
/// queue behind that would fill the link after a loss.
const SHARE_MIN: u64 = 80;
/// The same of DCTCP by rate.
const SHARE_MIN_RATE: u64 = 70;

/// What an ideal loss-based sender gets: the link's payload rate, the window per RTT, or the limit of Mathis et al. (CCR
/// 1997) for random loss, whichever is least. Linux's CUBIC is in its Reno-friendly region (RFC 9438 §4.3) on all of these
/// paths, so that the same limit holds for it. In kilobits per second.
fn ideal_kbps(path: &Path) -> u64 {
    let payload = path.link_kbps as f64 * MSS_BYTES / 1514.0;
    let rtt_s = (2 * path.delay_us) as f64 / 1e6 + MSS_BYTES * 8.0 / (path.link_kbps as f64 * 1e3);
    let window = f64::from(path::BUFFER_BYTES) * 8.0 / rtt_s / 1e3;
    let loss = f64::from(path.loss) / 10_000.0;
    let mathis = if loss == 0.0 { f64::MAX } else { 1.22 * MSS_BYTES * 8.0 / (rtt_s * loss.sqrt()) / 1e3 };
    let flows = f64::from(path.flows);
    payload.min(window * flows).min(mathis * flows) as u64
}

/// By how much of itself, in per cent, a row may differ from the table: the spread of seeds.
const TOLERANCE: u64 = 25;

/// The share of ideal in a row of the table.
fn share_of(row: &str) -> Option<u64> {
    row.split(" % of ideal").next()?.rsplit(' ').next()?.parse().ok()
}

/// True if both rows are of the same path and close to each other.
fn is_alike(old: &str, new: &str) -> bool {
    let name = |row: &str| row.split("  ").take(3).collect::<String>();
    let (Some(before), Some(after)) = (share_of(old), share_of(new)) else {
        return false;
    };
    name(old) == name(new) && before.abs_diff(after) * 100 <= before.max(after) * TOLERANCE
}

fn row(path: &Path, seeds: u64) -> (String, u64) {
    let name = match path.congestion {
        congestion::NEWRENO => "reno",
        _ => "dctcp",
    };
    let mut text = format!(
        "{name:<5} flows {:>3}  loss {:>4.1} %  delay {:>5.1} ms  reorder {:>3.1} ms",
        path.flows,
        f64::from(path.loss) / 100.0,
        path.delay_us as f64 / 1000.0,
        path.reorder_us as f64 / 1000.0
    );
    if !std::env::var("GOODPUT_ONLY").map_or(true, |only| text.contains(&only)) {
        return (String::new(), 100);
    }
    let mut sum = path::Outcome::default();
    for seed in 1..=seeds {
        let one = transfer(path, seed);
        sum.goodput_kbps += one.goodput_kbps / seeds;
        sum.recoveries += one.recoveries;
        sum.timeouts += one.timeouts;
        sum.retransmits += one.retransmits;
        sum.lost += one.lost;
        sum.undone += one.undone;
        sum.starved += one.starved;
    }
    let share = sum.goodput_kbps * 100 / ideal_kbps(path);
    write!(
        text,
        "  {:>6.2} Mbit/s  {share:>3} % of ideal  lost {:>5}  resent {:>5}  recoveries {:>4}  undone {:>4}  timeouts {:>3}  starved {}",
        sum.goodput_kbps as f64 / 1000.0,
        sum.lost,
        sum.retransmits,
        sum.recoveries,
        sum.undone,
        sum.timeouts,
        sum.starved
    )
    .expect("a string");
    println!("{text}");
    (text + "\n", share)
}

const LOSSES: [u32; 5] = [0, 10, 100, 200, 500];

fn table(name: &str, paths: &[Path]) {
    let mut text = String::new();
    let mut short = Vec::new();
    for path in paths {
        let (line, share) = row(path, 1);
        let least = if path.congestion == congestion::NEWRENO { SHARE_MIN } else { SHARE_MIN_RATE };
        if share < least {
            short.push(line.clone());
        }
        text += &line;
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goodput").join(name);
    if std::env::var_os("GOODPUT_WRITE").is_some() {
        std::fs::write(&file, &text).expect("the table is written");
    }
    if std::env::var_os("GOODPUT_ONLY").is_none() {
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        let mut changed = known.lines().count() != text.lines().count();
        for (old, new) in known.lines().zip(text.lines()).filter(|(old, new)| !is_alike(old, new)) {
            println!("- {old}\n+ {new}");
            changed = true;
        }
        assert!(
            !changed,
            "{name} changed: look at it, then GOODPUT_WRITE=1 cargo test -p tas-sim --test goodput"
        );
    }
    assert!(short.is_empty(), "too little:\n{}", short.concat());
}

#[test]
fn loss_and_delay() {
    let mut paths = Vec::new();
    for congestion in [congestion::NEWRENO, congestion::DCTCP_RATE] {
        for delay_us in [100, 2000] {
            paths.extend(LOSSES.map(|loss| Path { congestion, delay_us, loss, ..ONE }));
        }
    }
    table("loss.txt", &paths);
}

#[test]
fn reordering() {
    let mut paths = Vec::new();
    for reorder_us in [1000, 5000] {
        paths.extend(LOSSES.map(|loss| Path { congestion: congestion::NEWRENO, reorder_us, loss, ..ONE }));
    }
    table("reorder.txt", &paths);
}

#[test]
fn many_flows() {
    let mut paths = Vec::new();
    for reorder_us in [0, 5000] {
        paths.extend(LOSSES.map(|loss| Path { reorder_us, loss, ..MANY }));
    }
    table("flows.txt", &paths);
}
