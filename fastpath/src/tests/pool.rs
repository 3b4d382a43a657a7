// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receive chunks: taken when data comes, freed when it is read, never created twice.

use super::World;
use crate::testing::*;
use crate::Command;
use abi::{core_status::Counter, kernel_ring::to_slow, pool::SEGMENT_RECEIVE_CHUNKS};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn an_idle_flow_holds_no_chunk() {
    let mut world = World::connected();
    assert_eq!(world.chunks_in_use(), 0);
    // RCV_START is 16 bytes before a chunk's edge.
    world.receive(&world.from_peer(1, &[1; 10]));
    assert_eq!(world.chunks_in_use(), 1);
    world.receive(&world.from_peer(1, &[1; 10]));
    assert_eq!(world.chunks_in_use(), 2);
    world.read_to(1, RCV_START + 18);
    assert_eq!(world.chunks_in_use(), 1, "the first is read to its end");
    world.read_to(1, RCV_START + 20);
    assert_eq!(world.chunks_in_use(), 0, "all is read");
}

#[test]
fn an_empty_pool_drops_counts_and_asks_for_more() {
    let mut world = World::with(64, crate::Config::default());
    // One byte in flight per flow takes two chunks at most; fill with many flows.
    let mut total = 0;
    for flow in 1..64 {
        world.install(flow);
        for offset in [0u32, 16, 16 + 4096, 16 + 8192, 16 + 12_288] {
            let mut segment = world.from_peer(flow, &[flow as u8]);
            segment.seq = (RCV_START as u32).wrapping_add(offset);
            if offset == 0 {
                segment.payload = vec![flow as u8; 16];
            } else if world.hot(flow).rcv_nxt.load(Relaxed) as u32 != segment.seq {
                let gap = segment.seq.wrapping_sub(world.hot(flow).rcv_nxt.load(Relaxed) as u32);
                for _ in 0..gap / 1024 {
                    world.receive(&world.from_peer(flow, &[2; 1024]));
                }
                let left = segment.seq.wrapping_sub(world.hot(flow).rcv_nxt.load(Relaxed) as u32);
                segment = world.from_peer(flow, &vec![3; left as usize + 1]);
            }
            world.receive(&segment);
        }
        total = world.chunks_in_use();
        world.events();
    }
    assert_eq!(total as u32, SEGMENT_RECEIVE_CHUNKS, "every chunk is in use, none twice");
    let mut chunks: Vec<u32> = (0..64)
        .flat_map(|flow| world.receive_map(flow))
        .map(|w| w.load(Relaxed))
        .filter(|w| *w != 0)
        .collect();
    chunks.sort_unstable();
    chunks.dedup();
    assert_eq!(chunks.len(), total);
    assert!(world.counter(Counter::PoolEmpty) > 0);
    let reports = world.reports();
    let empty: Vec<_> = reports.iter().filter(|(entry, _)| entry.op == to_slow::POOL_EMPTY).collect();
    assert_eq!(empty.len(), 1, "once per millisecond");
    assert_eq!(empty[0].0.value, u64::from(APPLICATION));
    // Dropped, not acknowledged: the peer sends again, and after the pool has grown it is taken.
    let flow = 63;
    let before = world.hot(flow).rcv_nxt.load(Relaxed);
    world.receive(&world.from_peer(flow, b"dropped"));
    assert_eq!(world.hot(flow).rcv_nxt.load(Relaxed), before);
    let bytes = zeroed_bytes(abi::pool::SEGMENT_BYTES as usize);
    world.core.command(Command::AddPoolSegment { application: APPLICATION, segment: 1, bytes }).unwrap();
    world.core.shared.add_pool_segment(APPLICATION, 1);
    world.receive(&world.from_peer(flow, b"taken"));
    assert_eq!(world.hot(flow).rcv_nxt.load(Relaxed), before + 5);
    assert!(world.chunks_in_use() as u32 > SEGMENT_RECEIVE_CHUNKS);
}

#[test]
fn a_flow_without_memory_drops() {
    let mut world = World::connected();
    world.core.command(Command::RemoveApplication { application: APPLICATION }).unwrap();
    world.receive(&world.from_peer(1, b"data"));
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START);
    assert_eq!(world.counter(Counter::PoolEmpty), 1);
    assert!(world.write(1, b"data").is_empty());
}

/// Everything received and read many times over: no chunk is lost.
#[test]
fn chunks_come_back() {
    let mut world = World::connected();
    for round in 0..2000u64 {
        let segment = world.from_peer(1, &[round as u8; 1428]);
        world.receive(&segment);
        let next = world.hot(1).rcv_nxt.load(Relaxed);
        assert_eq!(next, RCV_START + (round + 1) * 1428);
        if round % 3 == 0 {
            world.read_to(1, next);
        }
        world.events();
    }
    let next = world.hot(1).rcv_nxt.load(Relaxed);
    world.read_to(1, next);
    assert_eq!(world.chunks_in_use(), 0);
    assert_eq!(world.counter(Counter::PoolEmpty), 0);
}
