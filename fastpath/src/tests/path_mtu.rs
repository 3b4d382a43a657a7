// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slow path lowers and raises the MSS (RFC 1191).

use super::World;
use crate::testing::*;
use abi::kernel_ring::to_fast;
use std::sync::atomic::Ordering::Relaxed;

fn sizes(sent: &[TestSegment]) -> Vec<(u32, usize)> {
    sent.iter()
        .filter(|segment| !segment.payload.is_empty())
        .map(|segment| (segment.seq.wrapping_sub(SND_START as u32), segment.payload.len()))
        .collect()
}

#[test]
fn what_is_in_flight_is_cut_anew_when_the_mss_shrinks() {
    let mut world = World::connected();
    world.tables.cold[1].cwnd_bytes.store(100_000, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let data: Vec<u8> = (0..4000u32).map(|byte| byte as u8).collect();
    let mut sent = world.write(1, &data);
    sent.extend(world.poll());
    assert_eq!(sizes(&sent), [(0, 1428), (1428, 1428), (2856, 1144)]);
    world.tables.cold[1].mss_bytes.store(1000, Relaxed);
    let mut sent = world.ask(to_fast::UPDATE, 1, 0);
    sent.extend(world.poll());
    assert_eq!(sizes(&sent), [(0, 1000), (1000, 1000), (2000, 1000), (3000, 1000)]);
    let again: Vec<u8> = sent.iter().flat_map(|segment| segment.payload.clone()).collect();
    assert_eq!(again, data);
    assert_eq!(world.hot(1).cwnd_bytes.load(Relaxed), 100_000, "no congestion");
    // The window shifts share the word.
    assert_eq!(world.hot(1).mss_scale.load(Relaxed) & 0xffff, 1000);
    // Told again, nothing is repeated; larger again, only what comes next is.
    assert_eq!(sizes(&world.ask(to_fast::UPDATE, 1, 0)), []);
    let mut ack = world.from_peer(1, b"");
    ack.ack = SND_START as u32 + 4000;
    world.receive(&ack);
    world.tables.cold[1].mss_bytes.store(1428, Relaxed);
    assert_eq!(sizes(&world.ask(to_fast::UPDATE, 1, 0)), []);
    let mut sent = world.write(1, &data);
    sent.extend(world.poll());
    assert_eq!(sizes(&sent)[0], (4000, 1428));
}

#[test]
fn any_mss_is_bounded() {
    for told in [1, 0x1_0000, u32::MAX, 1449] {
        let mut world = World::connected();
        let scale = world.hot(1).mss_scale.load(Relaxed) >> 16;
        world.tables.cold[1].mss_bytes.store(told, Relaxed);
        world.ask(to_fast::UPDATE, 1, 0);
        let word = world.hot(1).mss_scale.load(Relaxed);
        assert!((1..=World::MSS_MAX).contains(&(word & 0xffff)), "{told}: {word:#x}");
        assert_eq!(word >> 16, scale);
    }
}
