// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slow path lowers and raises the MSS (RFC 1191).

use super::World;
use crate::testing::*;
use abi::{
    clock::timestamp_value,
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
};
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

const SMALL: u64 = 1000;
const PROBE: u64 = 1428;
/// Where the probe begins, counted from the start of the stream, and what the congestion window is.
const AT: u64 = 20 * SMALL;

/// A flow with SACK on a path of a lower MTU; its window is full and more waits to be sent.
fn on_a_narrow_path() -> World {
    let mut world = World::new();
    world.prepare(1);
    world.hot(1).flags.fetch_or(hot_flags::SACK, Relaxed);
    world.tables.cold[1].mss_bytes.store(SMALL as u32, Relaxed);
    world.tables.cold[1].cwnd_bytes.store(AT as u32, Relaxed);
    world.tables.cold[1].srtt_us.store(4000, Relaxed);
    world.hot(1).snd_wnd.store(200_000, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    let mut sent = world.write(1, &[7; 60 * SMALL as usize]);
    for _ in 0..8 {
        sent.extend(world.poll());
    }
    assert_eq!(sizes(&sent).len(), 20);
    world.now_us += 4000;
    world.reports();
    world
}

/// An acknowledgement up to `ack` with SACK blocks, all counted from the start of the stream.
fn answer(world: &mut World, ack: u64, blocks: &[(u64, u64)]) -> Vec<(u32, usize)> {
    let position = |at: u64| ((SND_START + at) as u32).to_be_bytes();
    let echo = timestamp_value(world.now_us - 4000, 0);
    let mut segment = TestSegment { ack: (SND_START + ack) as u32, ..world.from_peer(1, b"") };
    segment.options = TestSegment::timestamps(world.hot(1).ts_recent.load(Relaxed), echo);
    if !blocks.is_empty() {
        segment.options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
        blocks
            .iter()
            .for_each(|(from, to)| segment.options.extend([position(*from), position(*to)].concat()));
    }
    let mut sent = world.receive(&segment);
    sent.extend(world.poll());
    sizes(&sent)
}

fn is_probing(world: &World) -> bool {
    world.hot(1).flags.load(Relaxed) & hot_flags::PATH_PROBE != 0
}

fn recoveries(world: &World) -> u32 {
    world.hot(1).loss_counts.load(Relaxed) & 0xffff
}

/// A probe in flight, and seven segments behind it.
fn probed() -> World {
    let mut world = on_a_narrow_path();
    assert_eq!(sizes(&world.ask(to_fast::PROBE_PATH, 1, PROBE)), [], "no room yet");
    assert_eq!(answer(&mut world, SMALL, &[]), [], "what room there is is kept for it");
    world.reports();
    assert_eq!(answer(&mut world, 2 * SMALL, &[]), [(AT as u32, PROBE as usize)]);
    assert!(is_probing(&world));
    let reports: Vec<_> = world.reports().into_iter().map(|(entry, _)| (entry.op, entry.value)).collect();
    assert!(reports.contains(&(to_slow::PATH_PROBE, SND_START + AT + PROBE)), "{reports:?}");
    let behind = answer(&mut world, 9 * SMALL, &[]);
    assert!(behind.iter().all(|(_, bytes)| *bytes == SMALL as usize) && behind.len() == 7, "{behind:?}");
    world
}

/// RFC 4821 §7.4: one segment, and everything after it as before.
#[test]
fn a_probe_that_passes_changes_nothing_by_itself() {
    let mut world = probed();
    answer(&mut world, AT + PROBE, &[]);
    assert!(is_probing(&world), "the slow path sees that it passed");
    assert_eq!((recoveries(&world), world.hot(1).cwnd_bytes.load(Relaxed)), (0, AT as u32));
    assert_eq!(world.hot(1).mss_scale.load(Relaxed) & 0xffff, SMALL as u32);
    // What is lost later is a loss.
    let next = AT + PROBE + SMALL;
    for end in 2..=5 {
        answer(&mut world, AT + PROBE, &[(next, next + (end - 1) * SMALL)]);
    }
    assert_eq!(recoveries(&world), 1);
    assert!(is_probing(&world), "and not the probe's");
}

/// RFC 4821 §7.5: its loss is repaired, and is no sign of congestion.
#[test]
fn a_lost_probe_is_sent_again_in_pieces_and_no_window_shrinks() {
    let mut world = probed();
    let mut sent = vec![];
    for end in 1..=4 {
        sent.extend(answer(&mut world, AT, &[(AT + PROBE, AT + PROBE + end * SMALL)]));
    }
    let again: Vec<_> = sent.iter().filter(|(at, _)| u64::from(*at) < AT + PROBE).collect();
    assert_eq!(again, [&(AT as u32, SMALL as usize), &((AT + SMALL) as u32, (PROBE - SMALL) as usize)]);
    assert!(!is_probing(&world));
    assert_eq!((recoveries(&world), world.hot(1).cwnd_bytes.load(Relaxed)), (0, AT as u32));
    answer(&mut world, AT + PROBE + 4 * SMALL, &[]);
    assert_eq!(world.hot(1).flags.load(Relaxed) & (hot_flags::RECOVERY | hot_flags::DISORDER), 0);
    assert_eq!((recoveries(&world), world.hot(1).cwnd_bytes.load(Relaxed)), (0, AT as u32));
}

#[test]
fn a_probe_lost_with_others_says_nothing_and_their_loss_counts() {
    let mut world = probed();
    let end = AT + PROBE;
    // The segment behind the probe is lost too.
    for more in 1..=4 {
        answer(&mut world, AT, &[(end + SMALL, end + SMALL + more * SMALL)]);
    }
    assert_eq!(recoveries(&world), 1);
    assert!(!is_probing(&world));
    let mut world = probed();
    world.ask(to_fast::RETRANSMIT, 1, 2 * SMALL);
    assert!(!is_probing(&world), "a timeout is a timeout");
}

#[test]
fn a_probe_that_cannot_be_judged_is_not_sent() {
    for (bytes, flags, case) in [
        (SMALL, 0, "no larger"),
        (u64::from(World::MSS_MAX) + 1, 0, "larger than a frame holds"),
        (PROBE, hot_flags::SACK, "without SACK"),
    ] {
        let mut world = on_a_narrow_path();
        world.hot(1).flags.fetch_and(!flags, Relaxed);
        world.ask(to_fast::PROBE_PATH, 1, bytes);
        assert_eq!(answer(&mut world, 2 * SMALL, &[])[0], (AT as u32, SMALL as usize), "{case}");
    }
    // With too little behind it, in a window that never fits it, or while something is missing.
    let mut world = on_a_narrow_path();
    let end = world.hot(1).snd_nxt.load(Relaxed) + PROBE + 2 * SMALL;
    world.hot(1).snd_end.store(end, Relaxed);
    world.ask(to_fast::PROBE_PATH, 1, PROBE);
    assert_eq!(answer(&mut world, 2 * SMALL, &[])[0].1, SMALL as usize);
    let mut world = on_a_narrow_path();
    world.hot(1).cwnd_bytes.store(4 * SMALL as u32, Relaxed);
    world.ask(to_fast::PROBE_PATH, 1, PROBE);
    assert_eq!(answer(&mut world, 20 * SMALL, &[])[0].1, SMALL as usize);
    let mut world = on_a_narrow_path();
    world.ask(to_fast::PROBE_PATH, 1, PROBE);
    answer(&mut world, 0, &[(SMALL, 3 * SMALL)]);
    assert!(answer(&mut world, 18 * SMALL, &[]).iter().all(|(_, bytes)| *bytes == SMALL as usize));
    assert!(!is_probing(&world));
}
