// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rates.

use super::World;
use abi::kernel_ring::to_fast;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of frames sent within `us` at a rate, polling every `step` µs.
fn run(rate_kbps: u32, us: u64, step: u64) -> u64 {
    let mut world = World::connected();
    world.tables.cold[1].rate_kbps.store(rate_kbps, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let mut bytes = 0;
    let end = world.now_us + us;
    while world.now_us < end {
        let hot = world.hot(1);
        if hot.snd_end.load(Relaxed) - hot.snd_una.load(Relaxed) < 60_000 {
            world.write(1, &[0; 20_000]);
        }
        for segment in world.sent().iter().chain(&world.after(step)) {
            bytes += segment.payload.len() as u64 + 66;
        }
        // The peer has everything at once.
        let ack = world.from_peer(1, b"");
        for segment in world.receive(&ack) {
            bytes += segment.payload.len() as u64 + 66;
        }
        world.events();
        world.reports();
    }
    bytes
}

#[test]
fn the_rate_is_kept() {
    for (rate_kbps, us, step) in
        [(1_000_000, 10_000, 3), (100_000, 50_000, 10), (10_000, 200_000, 7), (9_000_000, 3_000, 1)]
    {
        let bytes = run(rate_kbps, us, step);
        let allowed = u64::from(rate_kbps) * us / 8000;
        // The credit of 50 µs, one frame on top.
        let most = allowed + u64::from(rate_kbps) * 50 / 8000 + 1514;
        assert!(bytes <= most, "{rate_kbps} kbit/s: {bytes} > {most}");
        assert!(bytes * 100 >= allowed * 93, "{rate_kbps} kbit/s: only {bytes} of {allowed}");
    }
}

#[test]
fn a_rising_rate_ends_the_wait() {
    let mut world = World::connected();
    world.tables.cold[1].rate_kbps.store(2, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    assert_eq!(world.write(1, &[0; 5000]).len(), 1, "the first goes at once");
    assert!(world.after(1_000_000).is_empty(), "six seconds a segment");
    world.tables.cold[1].rate_kbps.store(1_000_000, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.extend(world.after(100));
    }
    assert_eq!(sent.len(), 3);
}

/// A timeout may be shorter than a frame takes at the rate: what it repeats waits for its turn all the same.
#[test]
fn timeouts_do_not_forgive_what_was_sent() {
    let mut world = World::connected();
    world.tables.cold[1].rate_kbps.store(100, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    assert_eq!(world.write(1, &[0; 5000]).len(), 1, "1500 bytes: 120 ms");
    for _ in 0..10 {
        assert!(world.ask(to_fast::RETRANSMIT, 1, 60_000).is_empty());
        assert!(world.after(10_000).is_empty());
    }
    assert_eq!(world.after(25_000).len(), 1);
}

#[test]
fn the_deadline_is_known() {
    let mut world = World::connected();
    world.tables.cold[1].rate_kbps.store(100_000, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    assert_eq!(world.core.next_deadline_us(), None);
    world.write(1, &[0; 3000]);
    assert!(world.core.may_sleep());
    // 1514 bytes at 100 Mbit/s: 121 µs, less the credit.
    let deadline = world.core.next_deadline_us().expect("a flow waits");
    assert!((world.now_us + 60..=world.now_us + 125).contains(&deadline), "{}", deadline - world.now_us);
    world.now_us = deadline;
    assert_eq!(world.poll().len(), 1);
}

/// Flows that wait stand behind one another in the wheel. Found by simulated worlds: one that went, and whose slot was used
/// again, took along whoever stood behind it.
#[test]
fn a_slot_that_is_used_again_keeps_the_wheel_whole() {
    let mut world = World::new();
    let mut sent = Vec::new();
    for flow in [1, 2] {
        world.install(flow);
        world.tables.cold[flow as usize].rate_kbps.store(1_000, Relaxed);
        world.ask(to_fast::UPDATE, flow, 0);
        sent.extend(world.write(flow, &[0; 4000]));
    }
    world.ask(to_fast::REMOVE, 2, 0);
    world.install(2);
    for _ in 0..100 {
        sent.extend(world.after(1000));
    }
    let of_first = sent.iter().filter(|segment| segment.destination_port == 40_001);
    assert_eq!(of_first.map(|segment| segment.payload.len()).sum::<usize>(), 4000);
}
