// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What the slow path does about losses that the fast path found: the controller follows, and goes back when there was none.

mod common;

use abi::{
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
    message::FlowInfo,
};
use common::*;
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

/// A connection with an RTT of 1 ms that has 100,000 bytes in flight and an open window.
fn busy() -> (World, FlowInfo) {
    let mut world = World::with(config());
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let hot = &world.hot[info.flow as usize];
    hot.flags.fetch_or(hot_flags::SACK, Relaxed);
    hot.rtt_sample.store(1 << 24 | 1000, Relaxed);
    hot.snd_wnd.store(200_000, Relaxed);
    world.write(info.flow, 100_000);
    world.advance(3000);
    world.entries.clear();
    (world, info)
}

fn allowance(world: &World, info: &FlowInfo) -> (u32, u32) {
    let cold = &world.cold[info.flow as usize];
    (cold.rate_kbps.load(Relaxed), cold.cwnd_bytes.load(Relaxed))
}

#[test]
fn a_recovery_that_is_undone_is_undone_here() {
    let (mut world, info) = busy();
    let hot = &world.hot[info.flow as usize];
    let before = allowance(&world, &info);
    hot.loss_counts.fetch_add(1, Relaxed);
    world.advance(4000);
    let after = allowance(&world, &info);
    assert!(after.0 < before.0 || after.1 < before.1, "{before:?} {after:?}");
    hot.loss_counts.fetch_sub(1, Relaxed);
    world.report(0, to_slow::ACTIVE, info.flow);
    world.advance(100);
    assert_eq!(allowance(&world, &info), before);
    assert!(world.ops().contains(&to_fast::UPDATE));
    // Undone before it was seen: nothing happens.
    world.advance(4000);
    assert_eq!(allowance(&world, &info), before);
}

#[test]
fn a_timeout_that_is_undone_is_undone_here() {
    let (mut world, info) = busy();
    let before = allowance(&world, &info);
    world.advance(400_000);
    assert!(world.stack.counter(Counter::Timeouts) >= 1);
    assert!(world.ops().contains(&to_fast::RETRANSMIT));
    let after = allowance(&world, &info);
    assert!(after.0 < before.0 || after.1 < before.1, "{before:?} {after:?}");
    let hot = &world.hot[info.flow as usize];
    hot.loss_counts.fetch_add(1 << 24, Relaxed);
    world.report(0, to_slow::ACTIVE, info.flow);
    world.advance(100);
    assert_eq!(allowance(&world, &info), before);
    // Said once.
    world.advance(1000);
    assert_eq!(allowance(&world, &info), before);
}

#[test]
fn a_stall_is_probed_once_before_the_timeout() {
    let (mut world, info) = busy();
    world.hot[info.flow as usize].snd_una.fetch_add(1448, Relaxed);
    let mut probes = 0;
    for _ in 0..100 {
        world.advance(1000);
        let ops = world.ops();
        probes += ops.iter().filter(|op| **op == to_fast::TAIL_PROBE).count();
        assert!(!ops.contains(&to_fast::RETRANSMIT));
    }
    assert_eq!(probes, 1);
    // After progress again; not while the fast path recovers.
    let hot = &world.hot[info.flow as usize];
    hot.snd_una.fetch_add(1448, Relaxed);
    hot.flags.fetch_or(hot_flags::RECOVERY, Relaxed);
    for _ in 0..20 {
        world.advance(1000);
        assert!(!world.ops().contains(&to_fast::TAIL_PROBE));
    }
    hot.flags.fetch_and(!hot_flags::RECOVERY, Relaxed);
    world.advance(40_000);
    assert!(world.ops().contains(&to_fast::TAIL_PROBE));
}
