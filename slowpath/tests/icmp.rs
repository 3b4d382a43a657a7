// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ICMP errors (RFC 5927) and the MTU of the path (RFC 1191, RFC 4821).

mod common;

use abi::{
    event::kernel_event,
    flow::hot_flags,
    kernel_ring::to_fast,
    message::{option, tcp_state, FlowInfo},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

const SECOND: u64 = 1_000_000;

fn established() -> (World, FlowInfo) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    (world, info)
}

/// What a router quotes of a datagram of ours: header and eight bytes.
fn quote(from: u16, to: u16, seq: u32, total_bytes: u16) -> Vec<u8> {
    let mut quoted = vec![];
    if is_v6() {
        quoted.extend([0x60, 0, 0, 0]);
        quoted.extend((total_bytes - 40).to_be_bytes());
        quoted.extend([6, 63]);
    } else {
        quoted.extend([0x45, 0]);
        quoted.extend(total_bytes.to_be_bytes());
        quoted.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    }
    quoted.extend(address(LOCAL));
    quoted.extend(address(PEER));
    quoted.extend(from.to_be_bytes());
    quoted.extend(to.to_be_bytes());
    quoted.extend(seq.to_be_bytes());
    quoted
}

fn error(world: &mut World, kind: u8, code: u8, mtu: u16, quoted: &[u8]) {
    let [high, low] = mtu.to_be_bytes();
    world.receive(icmp(kind, code, &[&[0, 0, high, low], quoted].concat()));
    world.pump();
}

/// The flow's MSS, with what IPv6's header takes more.
fn mss(world: &World, flow: u32) -> u32 {
    world.cold[flow as usize].mss_bytes.load(Relaxed) + extra()
}

#[test]
fn fragmentation_needed_lowers_the_mss_of_what_is_in_flight() {
    let (mut world, info) = established();
    assert_eq!(mss(&world, info.flow), 1448);
    world.write(info.flow, 10_000);
    world.ops();
    let second = (info.tx_start as u32).wrapping_add(1448);
    error(&mut world, 3, 4, 1400, &quote(8080, 4000, second, 1500));
    assert_eq!(mss(&world, info.flow), 1400 - 52);
    assert_eq!(world.ops(), [to_fast::UPDATE], "the core cuts what is in flight anew");
    assert_eq!(world.info(info.socket).unwrap().mss_bytes, 1348 - extra());
    assert_eq!(world.stack.counter(Counter::PathMtuLowered), 1);
    // Again, larger, or of a smaller datagram than it says it takes: nothing.
    for (mtu, dropped) in [(1400, 1500), (1450, 1500), (1300, 1300), (1300, 1200)] {
        error(&mut world, 3, 4, mtu, &quote(8080, 4000, second, dropped));
        assert_eq!(mss(&world, info.flow), 1348, "{mtu} {dropped}");
    }
    assert_eq!(world.stack.counter(Counter::IcmpIgnored), 4);
    // Other connections to the same destination know it from the start; what we announce does not change.
    let listener = world.listener(9090, 5);
    let next = world.accepted(listener, 9090, 4001);
    assert_eq!(mss(&world, next.flow), 1348);
    world.peer(Tcp { from: PEER + 5, ..Tcp::syn(4002, 9090, 5000) });
    let _arp = world.frames.clone();
    world.receive(arp(2, PEER_MAC, PEER + 5, LOCAL_MAC, LOCAL));
    world.pump();
    let syn_ack = world.sent().pop().unwrap();
    assert_eq!(syn_ack.option(2), full_mss());
    world.peer(Tcp { from: PEER + 5, ..Tcp::ack(4002, 9090, 5001, syn_ack.seq.wrapping_add(1)) });
    assert_eq!(world.accept(listener).unwrap().mss_bytes, 1448 - extra(), "another destination");
}

/// Simulated worlds 151 and 285: once one flow knew of a lower path MTU, others that were there before never followed it.
#[test]
fn every_flow_of_a_path_follows_what_one_has_learned() {
    let (mut world, info) = established();
    let listener = world.listener(9090, 5);
    let [told, silent] = [4001, 4002].map(|from| world.accepted(listener, 9090, from));
    for flow in [info.flow, told.flow] {
        world.write(flow, 3000);
    }
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, info.tx_start as u32, 1500));
    assert_eq!([info.flow, told.flow].map(|flow| mss(&world, flow)), [1248, 1448]);
    error(&mut world, 3, 4, 1300, &quote(9090, 4001, told.tx_start as u32, 1500));
    assert_eq!(mss(&world, told.flow), 1248);
    // One that nobody tells of it finds out by its timeouts, if only one segment in flight is larger.
    world.write(silent.flow, 1300);
    while world.stack.counter(Counter::Timeouts) < 12 {
        world.advance(SECOND / 10);
    }
    assert!(mss(&world, silent.flow) <= 1248);
}

#[test]
fn errors_count_only_for_what_is_in_flight() {
    let (mut world, info) = established();
    let start = info.tx_start as u32;
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, start, 1500));
    assert_eq!(mss(&world, info.flow), 1448, "nothing was sent");
    world.write(info.flow, 3000);
    for seq in [start.wrapping_sub(1), start.wrapping_add(3000), start.wrapping_add(1 << 31)] {
        error(&mut world, 3, 4, 1300, &quote(8080, 4000, seq, 1500));
        error(&mut world, 3, 3, 0, &quote(8080, 4000, seq, 1500));
    }
    error(&mut world, 3, 4, 1300, &quote(8080, 4001, start, 1500));
    error(&mut world, 3, 4, 1300, &[0x45; 7]);
    assert_eq!(mss(&world, info.flow), 1448);
    assert_eq!(world.stack.counter(Counter::IcmpErrors), 0);
    assert_eq!(world.stack.counter(Counter::IcmpIgnored), 9);
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, start.wrapping_add(2999), 1500));
    assert_eq!(mss(&world, info.flow), 1248, "the last byte is in flight");
}

#[test]
fn the_path_mtu_is_bounded_and_guessed_where_a_router_does_not_tell_it() {
    // IPv6 links carry 1280 bytes, and every router tells.
    let v6 = [(68, 1500, 1448), (0, 1500, 1448), (1279, 1500, 1448), (1280, 1500, 1228)];
    let v4 = [(68, 1500, 500), (0, 1500, 1440), (0, 1492, 954), (1, 1500, 500)];
    for (told, dropped, expected) in if is_v6() { v6 } else { v4 } {
        let (mut world, info) = established();
        world.write(info.flow, 3000);
        error(&mut world, 3, 4, told, &quote(8080, 4000, info.tx_start as u32, dropped));
        assert_eq!(mss(&world, info.flow), expected, "{told} {dropped}");
    }
}

/// As [`established`], and whether the peer permits SACK.
fn established_with(sack: bool) -> (World, FlowInfo) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let mut syn = Tcp::syn(4000, 8080, 5000);
    if !sack {
        syn.options[4..6].fill(1);
    }
    world.peer(syn);
    let syn_ack = world.sent().pop().unwrap();
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    let info = world.accept(listener).unwrap();
    (world, info)
}

/// RFC 1191 §6.3. With SACK it is probed for first; without, or if nothing was sent that could be a probe, the whole is
/// tried when it is forgotten.
#[test]
fn a_lower_path_mtu_is_forgotten_after_ten_minutes() {
    for (sack, life) in [(false, 600), (true, 1200)] {
        let (mut world, info) = established_with(sack);
        world.write(info.flow, 3000);
        error(&mut world, 3, 4, 1300, &quote(8080, 4000, info.tx_start as u32, 1500));
        world.acknowledged(info.flow);
        world.advance((life - 1) * SECOND);
        world.write(info.flow, 3000);
        world.advance(SECOND / 100);
        assert_eq!(mss(&world, info.flow), 1248);
        world.acknowledged(info.flow);
        world.advance(2 * SECOND);
        world.ops();
        world.write(info.flow, 3000);
        world.advance(SECOND / 100);
        assert_eq!(mss(&world, info.flow), 1448);
        assert!(world.ops().contains(&to_fast::UPDATE));
        assert_eq!(world.stack.counter(Counter::PathMtuRaised), 1);
        assert_eq!(world.stack.counter(Counter::PathProbes), 0);
    }
}

/// A flow whose path took 1300 bytes ten minutes ago, with much to send.
fn narrow() -> (World, FlowInfo) {
    let (mut world, info) = established();
    world.write(info.flow, 3000);
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, info.tx_start as u32, 1500));
    world.acknowledged(info.flow);
    world.advance(601 * SECOND);
    world.write(info.flow, 0);
    world.hot[info.flow as usize].snd_end.fetch_add(50_000, Relaxed);
    world.ops();
    (world, info)
}

/// The probe was lost, or not; in the end everything is acknowledged.
fn probed(world: &mut World, flow: u32, passes: bool) {
    if !passes {
        world.hot[flow as usize].flags.fetch_and(!hot_flags::PATH_PROBE, Relaxed);
        world.advance(LOOK);
    }
    world.acknowledged(flow);
}

/// RFC 4821 §7.3: what the link takes is tried first.
#[test]
fn a_path_that_widened_is_found_by_one_probe() {
    let (mut world, info) = narrow();
    assert_eq!(world.path_probe(info.flow), Some(1448));
    world.advance(LOOK);
    assert_eq!(mss(&world, info.flow), 1248, "as long as it is in flight");
    probed(&mut world, info.flow, true);
    world.advance(LOOK);
    assert_eq!(mss(&world, info.flow), 1448);
    assert!(world.ops().contains(&to_fast::UPDATE));
    assert_eq!(world.info(info.socket).unwrap().mss_bytes, 1448 - extra());
    assert_eq!(world.path_probe(info.flow), None);
    let counters = [Counter::PathProbes, Counter::PathProbesLost, Counter::PathMtuRaised];
    assert_eq!(counters.map(|counter| world.stack.counter(counter)), [1, 0, 1]);
    // It is proof: a router that asks for less has to wait for a timeout.
    world.write(info.flow, 3000);
    let una = world.hot[info.flow as usize].snd_una.load(Relaxed) as u32;
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, una, 1500));
    assert_eq!(mss(&world, info.flow), 1448);
}

/// What is between is found by halves, and remembered for others; a lost probe changes nothing else.
#[test]
fn the_size_that_passes_is_searched_for() {
    let (mut world, info) = narrow();
    let cwnd = world.cold[info.flow as usize].cwnd_bytes.load(Relaxed);
    let mut sizes = vec![];
    while let Some(size) = world.path_probe(info.flow) {
        sizes.push(size);
        probed(&mut world, info.flow, size <= 1348);
        assert!(sizes.len() < 20, "{sizes:?}");
    }
    assert_eq!(sizes, [1448, 1348, 1398, 1373, 1360, 1354]);
    assert_eq!(mss(&world, info.flow), 1348);
    assert_eq!(world.stack.counter(Counter::PathProbesLost), 5);
    assert_eq!(world.stack.counter(Counter::Timeouts), 0);
    assert!(world.cold[info.flow as usize].cwnd_bytes.load(Relaxed) >= cwnd);
    let listener = world.listener(9090, 5);
    let next = world.accepted(listener, 9090, 4001);
    assert_eq!(mss(&world, next.flow), 1348, "others begin with it");
    // Ten minutes later it is searched for again.
    world.write(info.flow, 0);
    world.acknowledged(info.flow);
    world.advance(601 * SECOND);
    world.write(info.flow, 0);
    world.hot[info.flow as usize].snd_end.fetch_add(50_000, Relaxed);
    assert_eq!(world.path_probe(info.flow), Some(1448));
    // A router tells what it takes: that is that.
    let at = world.hot[info.flow as usize].snd_una.load(Relaxed) as u32;
    error(&mut world, 3, 4, 1420, &quote(8080, 4000, at, 1500));
    assert_eq!(mss(&world, info.flow), 1368);
    probed(&mut world, info.flow, false);
    world.advance(LOOK);
    assert_eq!((mss(&world, info.flow), world.path_probe(info.flow)), (1368, None));
}

#[test]
fn a_probe_needs_something_behind_it_and_a_calm_flow() {
    for (case, room) in
        [("as it is", true), ("little to send", false), ("recovery", false), ("window", false)]
    {
        let (mut world, info) = narrow();
        let hot = &world.hot[info.flow as usize];
        match case {
            "little to send" => hot.snd_end.store(hot.snd_nxt.load(Relaxed) + 6000, Relaxed),
            "recovery" => _ = hot.flags.fetch_or(hot_flags::RECOVERY, Relaxed),
            "window" => hot.snd_wnd.store(6000, Relaxed),
            _ => {}
        }
        assert_eq!(world.path_probe(info.flow).is_some(), room, "{case}");
    }
    // One that the fast path could not send is asked for anew.
    let (mut world, info) = narrow();
    world.advance(LOOK);
    assert_eq!(world.ops().iter().filter(|op| **op == to_fast::PROBE_PATH).count(), 1);
    let mut looks = 0;
    while !world.ops().contains(&to_fast::PROBE_PATH) {
        world.write(info.flow, 0);
        world.hot[info.flow as usize].snd_end.fetch_add(50_000, Relaxed);
        world.acknowledged(info.flow);
        world.advance(LOOK / 3);
        looks += 1;
    }
    assert!((7..=13).contains(&looks), "after a second: {looks}");
}

/// RFC 5927 §7.2: whoever has shown that large segments arrive is not made to send small ones by one ICMP error, which
/// anybody can forge who guesses what is in flight.
#[test]
fn a_lower_mtu_waits_for_a_timeout_if_larger_segments_were_acknowledged() {
    for (unsent, nodelay) in [(0, false), (3000, true)] {
        let (mut world, info) = established();
        world.set_option(info.socket, option::NODELAY, nodelay.into(), 0).unwrap();
        let hot = &world.hot[info.flow as usize];
        world.write(info.flow, 10_000);
        // With small segments allowed, only one that waits in full is known to be full.
        hot.snd_end.fetch_add(unsent, Relaxed);
        world.advance(1000);
        let end = hot.snd_end.load(Relaxed);
        hot.snd_nxt.store(end, Relaxed);
        hot.snd_max.store(end, Relaxed);
        world.acknowledged(info.flow);
        world.advance(1000);
        world.write(info.flow, 10_000);
        let una = world.hot[info.flow as usize].snd_una.load(Relaxed) as u32;
        error(&mut world, 3, 4, 1300, &quote(8080, 4000, una, 1500));
        assert_eq!(mss(&world, info.flow), 1448, "later");
        assert_eq!(world.stack.counter(Counter::PathMtuDelayed), 1);
        // The segment that was dropped, so it said, is acknowledged: no timeout lowers it any more.
        world.hot[info.flow as usize].snd_una.fetch_add(1448, Relaxed);
        world.advance(1000);
        world.advance(SECOND / 2);
        assert_eq!((world.stack.counter(Counter::Timeouts), mss(&world, info.flow)), (1, 1448));
        world.acknowledged(info.flow);
        world.advance(SECOND / 10);
        // This time it is true.
        world.write(info.flow, 10_000);
        error(&mut world, 3, 4, 1300, &quote(8080, 4000, una.wrapping_add(10_000), 1500));
        error(&mut world, 3, 4, 1280, &quote(8080, 4000, una.wrapping_add(10_000), 1500));
        assert_eq!(mss(&world, info.flow), 1448);
        world.advance(SECOND / 2);
        assert_eq!(mss(&world, info.flow), 1248, "the larger of the two");
        assert_eq!(world.stack.counter(Counter::PathMtuLowered), 1);
        // One that lets through what was acknowledged since is heeded at once.
        world.acknowledged(info.flow);
        world.advance(1000);
        world.write(info.flow, 1300);
        let una = world.hot[info.flow as usize].snd_una.load(Relaxed) as u32;
        if !is_v6() {
            error(&mut world, 3, 4, 700, &quote(8080, 4000, una, 1300));
            assert_eq!(mss(&world, info.flow), 1248, "what is left of the proof");
        }
    }
}

/// Small segments that were acknowledged prove nothing.
#[test]
fn a_lower_mtu_is_believed_at_once_after_small_segments() {
    let (mut world, info) = established();
    world.set_option(info.socket, option::NODELAY, 1, 0).unwrap();
    for _ in 0..5 {
        world.write(info.flow, 4000);
        world.advance(1000);
        world.acknowledged(info.flow);
        world.advance(1000);
    }
    world.write(info.flow, 3000);
    let una = world.hot[info.flow as usize].snd_una.load(Relaxed) as u32;
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, una, 1500));
    assert_eq!(mss(&world, info.flow), 1248);
}

/// RFC 5927 §5.2: no error ends a connection that is beyond its handshake.
#[test]
fn hard_and_soft_errors_are_told_only_if_timeouts_end_the_connection() {
    let unknown_protocol = if is_v6() { 13 } else { 92 };
    for (kind, code, errno) in
        [(3, 3, 111), (3, 2, unknown_protocol), (3, 1, 113), (3, 0, 101), (11, 0, 113), (12, 0, 71)]
    {
        let (mut world, info) = established();
        world.write(info.flow, 3000);
        error(&mut world, kind, code, 0, &quote(8080, 4000, info.tx_start as u32, 1500));
        assert_eq!(world.stack.counter(Counter::IcmpErrors), 1);
        world.advance(10 * SECOND);
        assert_eq!(world.state(info.flow), tcp_state::ESTABLISHED);
        assert!(world.kinds().is_empty());
        world.advance(2000 * SECOND);
        assert_eq!(world.kinds(), [kernel_event::FAILED]);
        assert_eq!(world.get_option(info.socket, option::ERROR), Ok(errno), "{kind} {code}");
    }
    // Progress outdates it.
    let (mut world, info) = established();
    world.write(info.flow, 3000);
    error(&mut world, 3, 1, 0, &quote(8080, 4000, info.tx_start as u32, 1500));
    world.acknowledged(info.flow);
    world.write(info.flow, 3000);
    world.advance(2000 * SECOND);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
}

#[test]
fn soft_errors_are_told_at_once_to_who_asked() {
    let (mut world, info) = established();
    assert_eq!(world.set_option(info.socket, option::RECEIVE_ERRORS, 1, 0), Ok(()));
    world.write(info.flow, 3000);
    error(&mut world, 3, 1, 0, &quote(8080, 4000, info.tx_start as u32, 1500));
    let events = std::mem::take(&mut world.events);
    let told: Vec<_> = events.iter().map(|(_, event)| (event.kind, event.error, event.socket)).collect();
    assert_eq!(told, [(kernel_event::SOFT_ERROR, 113, info.socket)]);
    assert_eq!(world.state(info.flow), tcp_state::ESTABLISHED);
    // It was told: it is not the reason for the end.
    world.advance(2000 * SECOND);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
    // What is not in flight is nobody's error.
    let (mut world, info) = established();
    assert_eq!(world.set_option(info.socket, option::RECEIVE_ERRORS, 1, 0), Ok(()));
    error(&mut world, 3, 1, 0, &quote(8080, 4000, info.tx_start as u32, 1500));
    assert!(world.kinds().is_empty());
}

#[test]
fn source_quench_and_unknown_errors_are_ignored() {
    let (mut world, info) = established();
    world.write(info.flow, 3000);
    world.ops();
    for (kind, code) in [(4, 0), (5, 1), (3, 200), (40, 0)] {
        error(&mut world, kind, code, 0, &quote(8080, 4000, info.tx_start as u32, 1500));
    }
    assert!(world.ops().is_empty());
    assert_eq!(world.stack.counter(Counter::IcmpErrors), 0);
}

#[test]
fn a_half_open_connection_ends_with_a_hard_error_about_its_syn_ack() {
    let mut world = World::new();
    world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let iss = world.sent().pop().unwrap().seq;
    error(&mut world, 3, 1, 0, &quote(8080, 4000, iss, 60));
    error(&mut world, 3, 3, 0, &quote(8080, 4000, iss.wrapping_add(1), 60));
    assert_eq!(world.status().half_open, 1);
    error(&mut world, 3, 3, 0, &quote(8080, 4000, iss, 60));
    assert_eq!(world.status().half_open, 0);
}

/// RFC 4821 §7.7: when timeouts follow each other, smaller segments are tried; RFC 9293 §3.8.3 R1: the
/// next hop is asked whether it is there.
#[test]
fn a_black_hole_is_found_and_the_next_hop_suspected() {
    let (mut world, info) = established();
    world.write(info.flow, 3000);
    world.frames.clear();
    let mut seen = vec![];
    let mut asked = None;
    for _ in 0..600 {
        world.advance(SECOND / 10);
        let timeouts = world.stack.counter(Counter::Timeouts);
        let request =
            world.frames.iter().any(|f| asks_for(f) == Some(PEER) && f[..6] == PEER_MAC.to_be_bytes()[2..]);
        if request && asked.is_none() {
            asked = Some(timeouts);
        }
        let now = (timeouts, mss(&world, info.flow));
        if seen.last().is_none_or(|(_, last)| *last != now.1) {
            seen.push(now);
        }
    }
    let v6 = &[(0, 1448), (3, 1228)][..];
    let expected = if is_v6() { v6 } else { &[(0, 1448), (3, 1012), (6, 500)] };
    assert_eq!(seen, expected);
    assert_eq!(asked, Some(3));
    assert_eq!(world.stack.counter(Counter::BlackHoles), expected.len() as u64 - 1);
    // Small segments that get lost say nothing about large ones.
    let (mut world, info) = established();
    world.write(info.flow, 100);
    world.advance(60 * SECOND);
    assert!(world.stack.counter(Counter::Timeouts) > 6);
    assert_eq!(mss(&world, info.flow), 1448);
    assert!(world.hot[info.flow as usize].flags.load(Relaxed) & hot_flags::INSTALLED != 0);
}
