// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two worlds joined by a wire that loses, repeats and reorders: the streams arrive.

use super::{Random, World};
use crate::testing::*;
use abi::kernel_ring::to_fast;
use std::sync::atomic::Ordering::Relaxed;

/// Turns a frame of one world into one for the other: both believe to be the server.
fn mirror(segment: &TestSegment) -> TestSegment {
    TestSegment {
        destination_mac: LOCAL_MAC,
        source_mac: REMOTE_MAC,
        source_ip: World::remote_ip(),
        destination_ip: World::local_ip(),
        source_port: 40_001,
        destination_port: 6379,
        ..segment.clone()
    }
}

fn side(start_snd: u64, start_rcv: u64, ts: u32) -> World {
    let mut world = World::new();
    world.prepare(1);
    let hot = world.hot(1);
    for word in [&hot.snd_una, &hot.snd_nxt, &hot.snd_end, &hot.snd_max] {
        word.store(start_snd, Relaxed);
    }
    hot.rcv_nxt.store(start_rcv, Relaxed);
    hot.rcv_read.store(start_rcv, Relaxed);
    hot.rcv_adv.store((start_rcv + 32_768) as u32, Relaxed);
    hot.snd_wnd.store(32_768, Relaxed);
    hot.ts_recent.store(ts, Relaxed);
    hot.flags.fetch_or(abi::flow::hot_flags::SACK, Relaxed);
    world.tables.cold[1].cwnd_bytes.store(20_000, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    world.events();
    world
}

#[test]
fn a_lossy_wire_delivers_both_streams() {
    for seed in 1..=25u64 {
        let mut random = Random::new(seed);
        let ts = abi::clock::timestamp_value(START_US, 0);
        let starts = [0x1_ffff_f000u64, 0x1_7fff_fff0];
        let mut sides = [side(starts[0], starts[1], ts), side(starts[1], starts[0], ts)];
        let streams: [Vec<u8>; 2] =
            std::array::from_fn(|_| (0..60_000).map(|_| random.next() as u8).collect());
        let (mut written, mut got) = ([0usize; 2], [Vec::new(), Vec::new()]);
        let mut wires: [Vec<TestSegment>; 2] = [Vec::new(), Vec::new()];
        let (mut progress, mut una) = ([0u64; 2], [0u64; 2]);
        for step in 0.. {
            assert!(step < 60_000, "seed {seed}: stalled at {} and {}", got[0].len(), got[1].len());
            if got.iter().zip(streams.iter().rev()).all(|(got, stream)| got.len() == stream.len()) {
                break;
            }
            for me in 0..2 {
                let world = &mut sides[me];
                let hot = world.hot(1);
                let room =
                    16_000u64.saturating_sub(hot.snd_end.load(Relaxed) - hot.snd_una.load(Relaxed)) as usize;
                let len = (random.below(3000) as usize).min(room).min(streams[me].len() - written[me]);
                let mut sent = Vec::new();
                if len > 0 && random.below(3) == 0 {
                    // Transmit chunks are reused by the harness's map as the stream wraps around it.
                    sent.extend(world.write(1, &streams[me][written[me]..written[me] + len]));
                    written[me] += len;
                }
                let (from, to) = (hot.rcv_read.load(Relaxed), hot.rcv_nxt.load(Relaxed));
                if to > from && random.below(2) == 0 {
                    got[me].extend(world.received(1, from, to));
                    sent.extend(world.read_to(1, to));
                }
                sent.extend(world.after(20));
                // The slow path's timeout, in a nutshell.
                if hot.snd_una.load(Relaxed) != una[me]
                    || hot.snd_una.load(Relaxed) == hot.snd_end.load(Relaxed)
                {
                    una[me] = hot.snd_una.load(Relaxed);
                    progress[me] = world.now_us;
                } else if world.now_us - progress[me] > 3000 {
                    progress[me] = world.now_us;
                    sent.extend(world.ask(to_fast::RETRANSMIT, 1, 20_000));
                }
                world.events();
                world.reports();
                for segment in sent {
                    match random.below(20) {
                        0 => {}
                        1 => wires[me].extend([mirror(&segment), mirror(&segment)]),
                        2 => wires[me]
                            .insert(random.below(wires[me].len() as u64 + 1) as usize, mirror(&segment)),
                        _ => wires[me].push(mirror(&segment)),
                    }
                }
                let deliver = random.below(6) as usize;
                let frames: Vec<_> = wires[1 - me].drain(..deliver.min(wires[1 - me].len())).collect();
                for segment in frames {
                    sides[me].core.port_mut().incoming.push_back(segment.encode());
                }
            }
        }
        assert!(got[0] == streams[1] && got[1] == streams[0], "seed {seed}");
        assert!(
            sides.iter().all(|world| world.counter(abi::core_status::Counter::RefusedEntries) == 0),
            "seed {seed}"
        );
    }
}
