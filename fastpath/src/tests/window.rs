// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window we offer and the peer's window.

use super::{Random, World};
use crate::testing::*;
use abi::{flow::mss_scale, kernel_ring::to_fast};
use std::sync::atomic::Ordering::Relaxed;

/// Fills the buffer; returns the last acknowledgement.
fn fill(world: &mut World) -> TestSegment {
    let mut last = None;
    for _ in 0..23 {
        let left = 32_768 - (world.hot(1).rcv_nxt.load(Relaxed) - RCV_START);
        let segment = world.from_peer(1, &vec![1; left.min(1428) as usize]);
        last = world.receive(&segment).pop().or(last);
    }
    world.after(100).pop().or(last).unwrap()
}

#[test]
fn the_window_closes_and_opens() {
    let mut world = World::connected();
    let last = fill(&mut world);
    assert_eq!((last.ack, last.window), (RCV_START as u32 + 32_768, 0));
    // Too little to be worth an announcement (silly window), then enough.
    assert!(world.read_to(1, RCV_START + 100).is_empty());
    assert!(world.read_to(1, RCV_START + 1427).is_empty());
    let sent = world.read_to(1, RCV_START + 1428);
    assert_eq!((sent.len(), sent[0].window), (1, 1428));
    // The next announcement when the window has doubled.
    assert!(world.read_to(1, RCV_START + 2000).is_empty());
    let sent = world.read_to(1, RCV_START + 2856);
    assert_eq!((sent.len(), sent[0].window), (1, 2856));
    let sent = world.read_to(1, RCV_START + 32_768);
    assert_eq!((sent.len(), sent[0].window), (1, 32_768));
}

#[test]
fn an_open_window_needs_no_announcements() {
    let mut world = World::connected();
    for _ in 0..40 {
        let segment = world.from_peer(1, &[1; 1000]);
        world.receive(&segment);
        let read = world.hot(1).rcv_nxt.load(Relaxed);
        let sent = world.read_to(1, read);
        assert!(sent.iter().all(|ack| ack.window > 20_000), "{sent:?}");
        assert!(sent.is_empty());
        world.after(100);
    }
}

/// Random reads, arrivals and shifts: the edge the peer knows never moves left by more than the scale's
/// rounding, never beyond the buffer, and everything it covers is accepted.
#[test]
fn the_right_edge_never_retreats() {
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let shift = random.below(9) as u8;
        let mut world = World::new();
        world.prepare(1);
        world.hot(1).mss_scale.store(mss_scale(1428, 0, shift), Relaxed);
        world.ask(to_fast::INSTALL, 1, 0);
        let hot = world.hot(1);
        let mut edge = RCV_START + 32_768;
        for step in 0..300 {
            let (next, read) = (hot.rcv_nxt.load(Relaxed), hot.rcv_read.load(Relaxed));
            let sent = if random.below(2) == 0 {
                let room = edge.saturating_sub(next).min(1428);
                if room == 0 {
                    continue;
                }
                let len = 1 + random.below(room);
                let sent = world.receive(&world.from_peer(1, &vec![1; len as usize]));
                assert_eq!(
                    hot.rcv_nxt.load(Relaxed),
                    next + len,
                    "seed {seed} step {step}: within the window, yet refused"
                );
                sent
            } else {
                world.read_to(1, read + random.below(next - read + 1))
            };
            for ack in sent.iter().chain(&world.after(100)) {
                let next = abi::flow::extend(ack.ack, RCV_START);
                let offered = next + (u64::from(ack.window) << shift);
                assert!(offered + (1 << shift) > edge, "seed {seed} step {step}: {offered:#x} < {edge:#x}");
                assert!(
                    offered <= hot.rcv_read.load(Relaxed).max(read) + 32_768,
                    "seed {seed} step {step}: beyond the buffer"
                );
                edge = edge.max(offered);
            }
        }
    }
}

#[test]
fn the_peers_window_is_scaled_and_obeyed() {
    let mut world = World::new();
    world.prepare(1);
    world.hot(1).mss_scale.store(mss_scale(1428, 3, 0), Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    let mut update = world.from_peer(1, b"");
    update.window = 250;
    world.receive(&update);
    let sent: usize = world.write(1, &[5; 6000]).iter().chain(&world.poll()).map(|s| s.payload.len()).sum();
    assert_eq!(sent, 1428, "2000 bytes: a full segment; the rest would be silly");
    let mut ack = world.from_peer(1, b"");
    ack.window = 1000;
    let sent: usize = world.receive(&ack).iter().map(|s| s.payload.len()).sum();
    assert_eq!(sent, 6000 - 1428);
}

#[test]
fn a_shrunk_window_stops_and_an_update_resumes() {
    let mut world = World::connected();
    world.write(1, &[1; 1428]);
    let mut shrunk = world.from_peer(1, b"");
    shrunk.window = 0;
    world.receive(&shrunk);
    assert!(world.write(1, &[2; 3000]).is_empty());
    let mut probe_answer = world.from_peer(1, b"");
    probe_answer.window = 1428;
    let sent = world.receive(&probe_answer);
    assert_eq!((sent.len(), sent[0].payload.len()), (1, 1428));
    // An older segment does not take the window back.
    let mut older = world.from_peer(1, b"");
    older.window = 60_000;
    world.receive(&older);
    world.receive(&world.from_peer(1, b"newer"));
    let before = world.hot(1).snd_wnd.load(Relaxed);
    let mut late = world.from_peer(1, b"");
    late.seq = late.seq.wrapping_sub(5);
    late.window = 1;
    world.receive(&late);
    assert_eq!(world.hot(1).snd_wnd.load(Relaxed), before);
}

#[test]
fn half_open_windows_do_not_deadlock() {
    let mut world = World::connected();
    let mut update = world.from_peer(1, b"");
    update.window = 0;
    world.receive(&update);
    world.write(1, &[1; 5000]);
    // Less than a segment, but nothing is in flight.
    let mut update = world.from_peer(1, b"");
    update.window = 10;
    let sent = world.receive(&update);
    assert_eq!((sent.len(), sent[0].payload.len()), (1, 10));
}
