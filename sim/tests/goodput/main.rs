// SPDX-License-Identifier: MIT OR Apache-2.0
//! Goodput of one bulk transfer against loss, delay and reordering, in virtual time: a table beside this file, so that a
//! change of behaviour shows in review. One frame sent earlier makes another run of every loss that follows, so that rows
//! may differ by [`TOLERANCE`] before the test asks for a new table. `GOODPUT_WRITE=1` writes the table anew; `GOODPUT_ONLY=text` runs the rows that
//! contain the text and prints them.

mod path;

use abi::message::congestion;
use path::{transfer, Path};
use std::fmt::Write as _;

/// Link rate of every path, kilobits per second.
const LINK_KBPS: u64 = 100_000;
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
    let payload = LINK_KBPS as f64 * MSS_BYTES / 1514.0;
    let rtt_s = (2 * path.delay_us) as f64 / 1e6 + MSS_BYTES * 8.0 / (LINK_KBPS as f64 * 1e3);
    let window = f64::from(path::BUFFER_BYTES) * 8.0 / rtt_s / 1e3;
    let loss = f64::from(path.loss) / 10_000.0;
    let mathis = if loss == 0.0 { f64::MAX } else { 1.22 * MSS_BYTES * 8.0 / (rtt_s * loss.sqrt()) / 1e3 };
    payload.min(window).min(mathis) as u64
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
        "{name:<5} loss {:>4.1} %  delay {:>5.1} ms  reorder {:>3.1} ms",
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
    }
    let share = sum.goodput_kbps * 100 / ideal_kbps(path);
    write!(
        text,
        "  {:>6.2} Mbit/s  {share:>3} % of ideal  lost {:>5}  resent {:>5}  recoveries {:>4}  undone {:>4}  timeouts {:>3}",
        sum.goodput_kbps as f64 / 1000.0,
        sum.lost,
        sum.retransmits,
        sum.recoveries,
        sum.undone,
        sum.timeouts
    )
    .expect("a string");
    println!("{text}");
    (text + "\n", share)
}

fn table(name: &str, congestions: &[u32], delays_us: &[u64], reorders_us: &[u64]) {
    let mut text = String::new();
    let mut short = Vec::new();
    for algorithm in congestions {
        for delay_us in delays_us {
            for reorder_us in reorders_us {
                for loss in [0, 10, 100, 200, 500] {
                    let path =
                        Path { congestion: *algorithm, delay_us: *delay_us, reorder_us: *reorder_us, loss };
                    let (line, share) = row(&path, 1);
                    let least = if *algorithm == congestion::NEWRENO { SHARE_MIN } else { SHARE_MIN_RATE };
                    if share < least {
                        short.push(line.clone());
                    }
                    text += &line;
                }
            }
        }
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
    table("loss.txt", &[congestion::NEWRENO, congestion::DCTCP_RATE], &[100, 2000], &[0]);
}

#[test]
fn reordering() {
    table("reorder.txt", &[congestion::NEWRENO], &[2000], &[1000, 5000]);
}
