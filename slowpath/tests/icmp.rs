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

#[test]
fn a_lower_path_mtu_is_forgotten_after_ten_minutes() {
    let (mut world, info) = established();
    world.write(info.flow, 3000);
    error(&mut world, 3, 4, 1300, &quote(8080, 4000, info.tx_start as u32, 1500));
    world.acknowledged(info.flow);
    world.advance(599 * SECOND);
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
