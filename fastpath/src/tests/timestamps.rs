// SPDX-License-Identifier: MIT OR Apache-2.0
//! RFC 7323: echo, PAWS, TS.Recent.

use super::World;
use crate::testing::*;
use abi::{clock::timestamp_value, core_status::Counter, flow::hot_flags};
use std::sync::atomic::Ordering::Relaxed;

fn with_timestamp(world: &World, payload: &[u8], value: u32) -> TestSegment {
    TestSegment { options: TestSegment::timestamps(value, 0), ..world.from_peer(1, payload) }
}

#[test]
fn our_clock_and_the_echo() {
    let mut world = World::new();
    world.prepare(1);
    world.tables.cold[1].timestamp_offset.store(123_456, Relaxed);
    world.ask(abi::kernel_ring::to_fast::INSTALL, 1, 0);
    world.receive(&with_timestamp(&world, b"a", 2000));
    let sent = world.write(1, b"b");
    let expected = TestSegment::timestamps(timestamp_value(world.now_us, 123_456), 2000);
    assert_eq!(sent[0].options, expected);
}

#[test]
fn a_stale_timestamp_is_refused_and_answered() {
    let mut world = World::connected();
    world.receive(&with_timestamp(&world, b"new", 5000));
    for (value, stale) in
        [(4999, true), (5000u32.wrapping_sub(1 << 31).wrapping_add(1), true), (5000, false), (5001, false)]
    {
        let before = world.hot(1).rcv_nxt.load(Relaxed);
        let sent = world.receive(&with_timestamp(&world, b"d", value));
        assert_eq!(world.hot(1).rcv_nxt.load(Relaxed) == before, stale, "{value}");
        if stale {
            assert_eq!(sent.len(), 1);
        }
    }
    assert_eq!(world.counter(Counter::StaleTimestamp), 2);
}

#[test]
fn after_24_days_of_silence_any_timestamp_is_taken() {
    let mut world = World::connected();
    world.receive(&with_timestamp(&world, b"new", 5000));
    world.after((24 * 24 - 1) * 3_600_000_000);
    world.receive(&with_timestamp(&world, b"d", 4000));
    assert_eq!(world.counter(Counter::StaleTimestamp), 1);
    world.after(2 * 3_600_000_000);
    world.receive(&with_timestamp(&world, b"d", 4000));
    assert_eq!(world.counter(Counter::StaleTimestamp), 1);
    assert_eq!(world.hot(1).ts_recent.load(Relaxed), 4000);
}

/// TS.Recent follows the segment that the next acknowledgement answers first (RFC 7323 §4.3), and only acceptable ones.
#[test]
fn ts_recent_is_of_the_earliest_unacknowledged_segment() {
    let mut world = World::connected();
    world.receive(&with_timestamp(&world, b"one", 2000));
    world.receive(&with_timestamp(&world, b"two", 2050));
    assert_eq!(world.hot(1).ts_recent.load(Relaxed), 2000, "the acknowledgement of `one` is still owed");
    let sent = world.after(100);
    assert_eq!(sent[0].options, TestSegment::timestamps(timestamp_value(world.now_us, 0), 2000));
    world.receive(&with_timestamp(&world, b"three", 2060));
    assert_eq!(world.hot(1).ts_recent.load(Relaxed), 2060);
    // Out of the window, with a timestamp that would make every honest one stale.
    let mut forged = with_timestamp(&world, b"forged", 2060 + (1 << 30));
    forged.seq = forged.seq.wrapping_sub(100_000);
    world.receive(&forged);
    // In the window, but acknowledging what was never sent.
    let mut forged = with_timestamp(&world, b"forged", 2060 + (1 << 30));
    forged.ack = forged.ack.wrapping_add(1);
    world.receive(&forged);
    assert_eq!(world.hot(1).ts_recent.load(Relaxed), 2060);
}

#[test]
fn a_peer_without_timestamps() {
    let mut world = World::new();
    world.prepare(1);
    world.hot(1).flags.store(World::FAMILY_FLAG, Relaxed);
    world.ask(abi::kernel_ring::to_fast::INSTALL, 1, 0);
    let mut segment = world.from_peer(1, b"plain");
    segment.options.clear();
    world.receive(&segment);
    let sent = world.write(1, b"reply");
    assert!(sent[0].options.is_empty());
    assert_eq!((sent[0].payload.as_slice(), sent[0].ack), (&b"reply"[..], RCV_START as u32 + 5));
    // RTT is measured all the same.
    world.now_us += 250;
    let mut segment = world.from_peer(1, b"");
    segment.options.clear();
    world.receive(&segment);
    assert_eq!(world.hot(1).rtt_sample.load(Relaxed) & 0x00ff_ffff, 250);
    assert_eq!(world.hot(1).flags.load(Relaxed) & hot_flags::TIMESTAMPS, 0);
}
