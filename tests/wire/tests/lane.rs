// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lane does what its specification says, the same for the same seed, and counts all of it.

use wire::{Lane, Spec};

const MS: u64 = 1_000_000;

fn lane(text: &str) -> Lane {
    let spec: Spec = text.parse().unwrap();
    Lane::new(spec.lanes[0], spec.seed, 0)
}

/// An ECN-capable IPv4 packet with a number in it, `length` bytes with the Ethernet header.
fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length.max(40)];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..16].copy_from_slice(&[0x45, 2]);
    frame[34..38].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[34..38].try_into().unwrap())
}

/// What arrives by `now_ns`, with its arrival time.
fn drain(lane: &mut Lane, now_ns: u64) -> Vec<(u64, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(frame) = lane.arrived(now_ns).map(<[u8]>::to_vec) {
        out.push((lane.next_arrival_ns().unwrap(), frame));
        lane.delivered();
    }
    out
}

/// Offers `count` frames, one each microsecond, and drains the lane.
fn run(text: &str, count: u32) -> (Vec<(u64, Vec<u8>)>, Lane) {
    let mut lane = lane(text);
    for index in 0..count {
        lane.offer(u64::from(index) * 1000, frame(index, 100));
    }
    let out = drain(&mut lane, u64::MAX);
    assert!(lane.counters().is_balanced(lane.in_flight() as u64), "{:?}", lane.counters());
    (out, lane)
}

fn numbers(out: &[(u64, Vec<u8>)]) -> Vec<u32> {
    out.iter().map(|(_, frame)| number(frame)).collect()
}

#[test]
fn a_perfect_wire_changes_nothing() {
    let (out, lane) = run("", 1000);
    assert_eq!(numbers(&out), (0..1000).collect::<Vec<_>>());
    assert!(out
        .iter()
        .enumerate()
        .all(|(index, (at, bytes))| { *at == index as u64 * 1000 && *bytes == frame(index as u32, 100) }));
    assert_eq!(lane.counters().delivered_bytes, 100_000);
}

#[test]
fn the_same_seed_does_the_same_and_kinds_do_not_disturb_each_other() {
    let text = "loss=2%,jitter=1ms,reorder=10%/2ms,duplicate=1%,corrupt=1%,ecn=5%";
    let (first, _) = run(&format!("{text},seed=11"), 5000);
    let (again, _) = run(&format!("{text},seed=11"), 5000);
    let (other, _) = run(&format!("{text},seed=12"), 5000);
    assert_eq!(first, again);
    assert_ne!(numbers(&first), numbers(&other));
    // The frames lost are those that are lost without the rest.
    let survivors =
        |out: &[(u64, Vec<u8>)]| numbers(out).into_iter().collect::<std::collections::BTreeSet<_>>();
    let (lossy, _) = run("loss=2%,seed=11", 5000);
    let (busy, _) = run("loss=2%,jitter=1ms,reorder=10%/2ms,duplicate=1%,ecn=5%,seed=11", 5000);
    assert_eq!(survivors(&lossy), survivors(&busy));
}

#[test]
fn loss_and_duplication_are_as_frequent_as_asked() {
    let (out, lane) = run("loss=5%,duplicate=1%", 60_000);
    let counters = lane.counters();
    assert!((2800..3200).contains(&counters.lost), "{counters:?}");
    assert!((480..660).contains(&counters.duplicated), "{counters:?}");
    assert_eq!(out.len() as u64, 60_000 - counters.lost + counters.duplicated);
}

#[test]
fn delay_is_exact_and_jitter_keeps_the_order() {
    let (out, _) = run("delay=5ms", 10);
    assert!(out.iter().enumerate().all(|(index, (at, _))| *at == 5 * MS + index as u64 * 1000));
    let (out, lane) = run("delay=5ms,jitter=2ms", 1000);
    assert_eq!(numbers(&out), (0..1000).collect::<Vec<_>>());
    let sent = |bytes: &[u8]| u64::from(number(bytes)) * 1000;
    assert!(out.iter().all(|(at, bytes)| (5 * MS..7 * MS + 1).contains(&(at - sent(bytes)))));
    assert_eq!(lane.counters().overtaken, 0);
}

#[test]
fn reordering_holds_back_some_and_no_longer_than_asked() {
    let (out, lane) = run("delay=1ms,reorder=10%/5ms", 10_000);
    let counters = lane.counters();
    assert!((900..1100).contains(&counters.held_back), "{counters:?}");
    assert!(counters.overtaken > 800 && counters.overtaken <= counters.held_back, "{counters:?}");
    assert!(out.iter().all(|(at, bytes)| {
        let took = at - u64::from(number(bytes)) * 1000;
        (MS..6 * MS).contains(&took)
    }));
    let mut sorted = numbers(&out);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn the_rate_is_kept_and_the_queue_is_finite() {
    // 1000 bytes at 8 Mbit/s: one millisecond each.
    let mut lane = lane("rate=8mbit,queue=10");
    for index in 0..30 {
        lane.offer(0, frame(index, 1000));
    }
    assert_eq!(lane.counters().overflowed, 20);
    let out = drain(&mut lane, u64::MAX);
    assert_eq!(
        out.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        (1..=10).map(|i| i * MS).collect::<Vec<_>>()
    );
    // An idle wire does not save up.
    lane.offer(100 * MS, frame(0, 1000));
    lane.offer(100 * MS, frame(1, 1000));
    assert_eq!(
        drain(&mut lane, u64::MAX).iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [101 * MS, 102 * MS]
    );
    assert!(lane.counters().is_balanced(0));
}

#[test]
fn the_queue_marks_above_its_threshold() {
    let mut lane = lane("rate=8mbit,mark=5");
    for index in 0..12 {
        lane.offer(0, frame(index, 1000));
    }
    let marked: Vec<_> = drain(&mut lane, u64::MAX)
        .iter()
        .filter(|(_, bytes)| bytes[15] & 3 == 3)
        .map(|(_, f)| number(f))
        .collect();
    assert_eq!(marked, (5..12).collect::<Vec<_>>());
    assert_eq!(lane.counters().marked, 7);
}

#[test]
fn marks_by_chance_and_corruption_are_counted() {
    let (out, lane) = run("ecn=10%", 10_000);
    let marked = out.iter().filter(|(_, bytes)| bytes[15] & 3 == 3).count() as u64;
    assert_eq!(marked, lane.counters().marked);
    assert!((850..1150).contains(&marked), "{marked}");
    let (out, lane) = run("corrupt=10%", 10_000);
    let corrupted = (0..).zip(&out).filter(|(index, (_, bytes))| *bytes != frame(*index, 100)).count() as u64;
    assert_eq!(corrupted, lane.counters().corrupted);
    assert!((850..1150).contains(&corrupted), "{corrupted}");
}

#[test]
fn long_packets_vanish_in_the_black_hole() {
    let mut lane = lane("mtu=1400");
    lane.offer(0, frame(0, 1414));
    lane.offer(0, frame(1, 1415));
    assert_eq!(numbers(&drain(&mut lane, 0)), [0]);
    assert_eq!(lane.counters().too_long, 1);
}

#[test]
fn an_endless_delay_does_not_take_all_memory() {
    let mut lane = lane("delay=1000s");
    for index in 0..70_000 {
        lane.offer(0, frame(index, 60));
    }
    assert_eq!(lane.counters().overflowed, 70_000 - 65_536);
    assert!(lane.counters().is_balanced(lane.in_flight() as u64));
}

#[test]
fn a_replaced_lane_keeps_what_is_on_its_way_and_its_balance() {
    let mut old = lane("delay=5ms");
    (0..3).for_each(|index| old.offer(0, frame(index, 100)));
    let first = drain(&mut old, 5 * MS).len();
    (3..6).for_each(|index| old.offer(6 * MS, frame(index, 100)));
    old.replace_by(lane("loss=100%"));
    old.offer(7 * MS, frame(6, 100));
    let then = drain(&mut old, u64::MAX);
    assert_eq!((first, numbers(&then)), (3, vec![3, 4, 5]));
    assert_eq!((old.counters().offered, old.counters().lost, old.counters().delivered), (4, 1, 3));
    assert!(old.counters().is_balanced(0));
}
