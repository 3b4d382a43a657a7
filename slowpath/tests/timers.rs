// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Retransmission timeouts, probes, idleness, congestion control, and the fast path's absence.

mod common;

use abi::{
    event::kernel_event,
    flow::{slot_state, RATE_UNLIMITED},
    kernel_ring::{to_fast, to_slow},
    message::{congestion, option, tcp_state, FlowInfo},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

fn established(config: slowpath::Config) -> (World, FlowInfo) {
    let mut world = World::with(config);
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    (world, info)
}

#[test]
fn timeouts_double_and_end_the_connection() {
    let (mut world, info) = established(config());
    world.write(info.flow, 3000);
    let begin = world.now;
    let mut times = vec![];
    while world.events.is_empty() {
        world.advance(10_000);
        for entry in std::mem::take(&mut world.entries) {
            if entry.op == to_fast::RETRANSMIT {
                times.push((world.now - begin) / 1000);
                assert!(entry.value >= 1448);
            }
        }
        assert!(times.len() < 20);
    }
    assert_eq!(times.len(), 15);
    let mut timeout = 200u64;
    let mut last = 0;
    for time in &times {
        let waited = time - last;
        assert!((timeout..timeout * 13 / 10 + 20).contains(&waited), "{waited} for {timeout}: {times:?}");
        last = *time;
        timeout = (timeout * 2).min(120_000);
    }
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
    assert_eq!(world.stack.counter(Counter::GivenUp), 1);
    assert_eq!(world.state(info.flow), tcp_state::CLOSED);
    world.release(info.socket);
    world.assert_clean();
}

/// RFC 6298 §5.7: where the SYN-ACK was lost the path may be slow.
#[test]
fn after_a_repeated_syn_ack_the_first_timeout_is_three_seconds() {
    for (repeated, timeout_ms) in [(false, 1000), (true, 3000)] {
        let mut world = World::new();
        let listener = world.listener(8080, 5);
        world.peer(Tcp { options: vec![2, 4, 5, 0xb4], ..Tcp::syn(4000, 8080, 5000) });
        let syn_ack = world.sent().pop().unwrap();
        // A measurement of zero microseconds is none.
        world.advance(if repeated { 1_100_000 } else { 0 });
        world.frames.clear();
        world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
        let info = world.accept(listener).unwrap();
        world.ops();
        world.write(info.flow, 100);
        let begin = world.now;
        while !world.ops().contains(&to_fast::RETRANSMIT) {
            world.advance(10_000);
        }
        let waited_ms = (world.now - begin) / 1000;
        let least = if repeated { timeout_ms } else { 200 };
        assert!((least..timeout_ms * 13 / 10).contains(&waited_ms), "{waited_ms} ms");
    }
}

/// An answer that the core reports ends the back-off at once.
#[test]
fn an_answer_ends_the_back_off() {
    let (mut world, info) = established(config());
    world.write(info.flow, 1000);
    world.advance(2_000_000);
    let timeouts = world.stack.counter(Counter::Timeouts);
    assert!(timeouts >= 3, "{timeouts}");
    world.ops();
    world.acknowledged(info.flow);
    world.report(0, to_slow::ACTIVE, info.flow);
    world.pump();
    world.advance(1000);
    world.write(info.flow, 1000);
    let begin = world.now;
    while !world.ops().contains(&to_fast::RETRANSMIT) {
        world.advance(10_000);
    }
    let waited_ms = (world.now - begin) / 1000;
    assert!((200..300).contains(&waited_ms), "{waited_ms} ms");
}

#[test]
fn a_preempted_core_causes_no_timeout() {
    let (mut world, info) = established(config());
    world.write(info.flow, 3000);
    world.preempted = true;
    world.advance(60_000_000);
    assert_eq!(world.stack.counter(Counter::Timeouts), 0);
    world.preempted = false;
    world.advance(300_000);
    assert_eq!(world.stack.counter(Counter::Timeouts), 1);
    world.acknowledged(info.flow);
    world.advance(1_000_000);
    assert_eq!(world.stack.counter(Counter::Timeouts), 1);
}

#[test]
fn progress_restarts_the_timer() {
    let (mut world, info) = established(config());
    world.write(info.flow, 100_000);
    let hot = &world.hot[info.flow as usize];
    for _ in 0..40 {
        world.advance(150_000);
        hot.snd_una.fetch_add(1448, Relaxed);
        hot.acked_bytes.fetch_add(1448, Relaxed);
    }
    assert_eq!(world.stack.counter(Counter::Timeouts), 0);
}

#[test]
fn user_timeout_ends_earlier() {
    let (mut world, info) = established(config());
    world.set_option(info.socket, option::USER_TIMEOUT, 3000, 0).unwrap();
    world.write(info.flow, 10);
    world.advance(2_500_000);
    assert!(world.kinds().is_empty());
    world.advance(1_500_000);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
}

#[test]
fn a_closed_window_is_probed_for_ever_while_the_peer_answers() {
    let (mut world, info) = established(config());
    let hot = &world.hot[info.flow as usize];
    hot.snd_wnd.store(0, Relaxed);
    hot.snd_end.fetch_add(5000, Relaxed);
    world.report(0, to_slow::ACTIVE, info.flow);
    let mut probes = vec![];
    let begin = world.now;
    for _ in 0..100_000 {
        world.advance(100_000);
        for op in world.ops() {
            if op == to_fast::PROBE {
                probes.push((world.now - begin) / 100_000);
                hot.ts_recent.fetch_add(1, Relaxed);
            }
        }
    }
    assert!(probes.len() > 80, "{}", probes.len());
    assert!(world.events.is_empty());
    let gaps: Vec<u64> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] >= 3 && gaps[1] >= gaps[0] && gaps[5] > 60, "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 1220), "at most two minutes: {gaps:?}");
    // The window opens: nothing more to do here.
    hot.snd_wnd.store(100_000, Relaxed);
    hot.snd_nxt.fetch_add(5000, Relaxed);
    hot.snd_max.fetch_add(5000, Relaxed);
    world.acknowledged(info.flow);
    world.advance(3_000_000);
    let ops = world.ops();
    assert_eq!(ops.iter().filter(|op| **op == to_fast::IDLE).count(), 1);
    assert!(!ops.contains(&to_fast::PROBE));
}

#[test]
fn a_silent_peer_with_a_closed_window_is_given_up() {
    let (mut world, info) = established(config());
    let hot = &world.hot[info.flow as usize];
    hot.snd_wnd.store(0, Relaxed);
    hot.snd_end.fetch_add(5000, Relaxed);
    world.report(0, to_slow::ACTIVE, info.flow);
    world.advance(3_000_000_000);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
}

#[test]
fn keepalive_finds_a_dead_peer_and_spares_a_live_one() {
    // One a minute, counted from the answer; or as many as asked for.
    for (alive, error, expected) in [(true, 0, 4), (false, 110, 3)] {
        let (mut world, info) = established(config());
        for (name, value) in [
            (option::KEEPALIVE_IDLE, 60),
            (option::KEEPALIVE_INTERVAL, 10),
            (option::KEEPALIVE_COUNT, 3),
            (option::KEEPALIVE, 1),
        ] {
            world.set_option(info.socket, name, value, 0).unwrap();
        }
        let hot = &world.hot[info.flow as usize];
        world.advance(59_000_000);
        assert!(!world.ops().contains(&to_fast::PROBE));
        let mut probes = 0;
        for _ in 0..200 {
            world.advance(1_000_000);
            if world.ops().contains(&to_fast::PROBE) {
                probes += 1;
                hot.ts_recent.fetch_add(u32::from(alive), Relaxed);
            }
        }
        assert_eq!(probes, expected, "alive {alive}");
        assert_eq!(world.get_option(info.socket, option::ERROR), Ok(error));
    }
    let (mut world, info) = established(config());
    for value in [0, 32_768] {
        let refused = world.set_option(info.socket, option::KEEPALIVE_IDLE, value, 0);
        assert_eq!(refused, Err(22));
    }
    world.advance(20_000_000_000);
    assert_eq!(world.stack.counter(Counter::Probes), 0, "off by default");
}

#[test]
fn idle_flows_cost_nothing() {
    let (mut world, info) = established(config());
    world.write(info.flow, 100);
    world.acknowledged(info.flow);
    world.advance(2_000_000);
    assert_eq!(world.ops(), [to_fast::IDLE]);
    world.advance(30_000_000);
    // Only the neighbour's ageing is left.
    let deadline = world.stack.next_deadline().unwrap();
    assert!(deadline > world.now + 1_000_000, "{deadline} {}", world.now);
    world.write(info.flow, 100);
    world.advance(250_000);
    assert!(world.ops().contains(&to_fast::RETRANSMIT), "it is watched again");
}

#[test]
fn dctcp_grows_when_limited_by_its_rate_only() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = world.sent().pop().unwrap();
    world.advance(3000);
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    let info = world.accept(listener).unwrap();
    let cold = &world.cold[info.flow as usize];
    let hot = &world.hot[info.flow as usize];
    let first = cold.rate_kbps.load(Relaxed);
    assert_eq!(first, (14_480 - 10 * extra()) * 8 / 3, "the initial window in the handshake's RTT");
    world.write(info.flow, 100);
    for _ in 0..100 {
        world.acknowledged(info.flow);
        world.write(info.flow, 100);
        world.advance(1000);
    }
    assert_eq!(cold.rate_kbps.load(Relaxed), first, "limited by the application");
    // More to send than the rate lets out.
    hot.rtt_sample.store(1 << 24 | 500, Relaxed);
    hot.snd_wnd.store(1 << 20, Relaxed);
    hot.cwnd_bytes.store(1 << 20, Relaxed);
    hot.snd_end.fetch_add(200_000, Relaxed);
    for _ in 0..40 {
        world.advance(1000);
        let rate = u64::from(cold.rate_kbps.load(Relaxed));
        hot.snd_una.fetch_add(rate / 8, Relaxed);
        hot.acked_bytes.fetch_add((rate / 8) as u32, Relaxed);
        hot.snd_nxt.store(hot.snd_una.load(Relaxed) + 3000, Relaxed);
        hot.snd_max.store(hot.snd_una.load(Relaxed) + 3000, Relaxed);
        hot.snd_end.store(hot.snd_una.load(Relaxed) + 200_000, Relaxed);
    }
    let grown = cold.rate_kbps.load(Relaxed);
    assert!(grown > first * 4, "{first} {grown}");
    hot.loss_counts.fetch_add(1, Relaxed);
    world.advance(20_000);
    let halved = cold.rate_kbps.load(Relaxed);
    assert!(halved < grown && halved >= 1, "{grown} {halved}");
}

#[test]
fn congestion_control_is_chosen_per_connection() {
    let (mut world, info) = established(slowpath::Config { congestion: congestion::NEWRENO, ..config() });
    let cold = &world.cold[info.flow as usize];
    assert_eq!(cold.rate_kbps.load(Relaxed), RATE_UNLIMITED);
    assert_eq!(cold.cwnd_bytes.load(Relaxed), 14_480 - 10 * extra());
    world.set_option(info.socket, option::CONGESTION, congestion::DCTCP_RATE, 0).unwrap();
    assert!(cold.rate_kbps.load(Relaxed) < RATE_UNLIMITED);
    assert!(world.ops().contains(&to_fast::UPDATE));
    assert_eq!(world.set_option(info.socket, option::CONGESTION, 77, 0), Err(2));
    assert_eq!(world.get_option(info.socket, option::CONGESTION), Ok(congestion::DCTCP_RATE));
}

#[test]
fn without_a_fast_path_time_stands_still_and_nothing_is_lost() {
    let (mut world, info) = established(config());
    let connecting = world.socket();
    world.connect(connecting, PEER, 80);
    let syn = world.sent().pop().unwrap();
    world.write(info.flow, 500);
    let closing = {
        let listener = world.listener(8081, 5);
        world.accepted(listener, 8081, 4001)
    };
    world.removes = false;
    world.stack.fast_path_detached(world.now);
    world.pump();
    assert_eq!(world.events.pop().unwrap().1.error, 0);
    world.advance(1_000_000_000);
    assert!(world.entries.is_empty() && world.frames.is_empty());
    assert_eq!(world.stack.next_deadline(), None);
    let refused = world.socket();
    assert_eq!(world.connect(refused, PEER, 80), 100);
    // An end that comes meanwhile is queued.
    world.set_option(closing.socket, option::LINGER, 1, 0).unwrap();
    world.release(closing.socket);
    assert!(world.entries.is_empty());
    // Another process attaches; its clock and its loops begin anew.
    world.core.run_us.store(0, Relaxed);
    world.core.loops.store(0, Relaxed);
    let other = slowpath::Config { flows: 128, ..config() };
    assert!(world.stack.fast_path_attached(world.now, &other, 43).is_err());
    assert_eq!(world.stack.fast_path_attached(world.now, &config(), 43), Ok(true));
    world.removes = true;
    world.pump();
    assert_eq!(world.events.pop().unwrap().1.error, 1);
    assert!(world.ops().contains(&to_fast::REMOVE));
    assert!(world.sent().iter().any(|segment| segment.has(RST)));
    assert_eq!(world.cold[info.flow as usize].state.load(Relaxed), slot_state::INSTALLED);
    world.advance(100_000);
    assert_eq!(world.stack.counter(Counter::Timeouts), 0);
    world.advance(300_000);
    assert_eq!(world.stack.counter(Counter::Timeouts), 1, "the flow is watched without a report");
    world.advance(1_000_000);
    assert!(world.sent().iter().any(|segment| segment.seq == syn.seq && segment.has(SYN)));
    world.peer(Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1)));
    assert!(world.info(connecting).is_ok());
}

#[test]
fn a_removal_that_was_cut_off_is_asked_for_again() {
    let (mut world, info) = established(config());
    world.removes = false;
    world.set_option(info.socket, option::LINGER, 1, 0).unwrap();
    world.release(info.socket);
    assert_eq!(world.ops(), [to_fast::REMOVE]);
    world.stack.fast_path_detached(world.now);
    world.stack.fast_path_attached(world.now, &config(), 43).unwrap();
    world.removes = true;
    world.pump();
    assert_eq!(world.ops(), [to_fast::REMOVE]);
    world.assert_clean();
}

#[test]
fn full_rings_lose_nothing() {
    let mut world = World::new();
    let listener = world.listener(8080, 50);
    world.room = 1;
    for from in 4000..4030 {
        world.receive(Tcp::syn(from, 8080, 5000).frame());
        world.pump();
    }
    world.room = 2;
    world.advance(100_000);
    let answers = world.sent();
    let mut ports: Vec<u16> = answers.iter().map(|segment| segment.destination).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 30);
    world.room = 0;
    for syn_ack in answers.iter().take(30) {
        world.receive(Tcp::ack(syn_ack.destination, 8080, 5001, syn_ack.seq.wrapping_add(1)).frame());
        world.pump();
    }
    assert!(world.entries.is_empty());
    world.room = 3;
    world.advance(100_000);
    assert_eq!(world.ops().iter().filter(|op| **op == to_fast::INSTALL).count(), 30);
    assert!(world.kinds().contains(&kernel_event::ACCEPTABLE));
    world.room = usize::MAX;
    let mut accepted = 0;
    while world.accept(listener).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 30);
}

#[test]
fn neighbours_age_and_are_confirmed() {
    let (mut world, _) = established(config());
    // Over IPv6 the groups are reported once more (`membership.rs`).
    world.advance(1_000_000);
    world.frames.clear();
    world.answers_arp = false;
    world.advance(58_000_000);
    assert!(world.frames.is_empty());
    world.advance(2_000_000);
    let request = world.frames.pop().unwrap();
    assert_eq!(request[..6], PEER_MAC.to_be_bytes()[2..], "asked directly first");
    assert_ne!(world.adjacencies[0].mac.load(Relaxed), 0, "still in use");
    world.receive(arp(2, PEER_MAC + 5, PEER, LOCAL_MAC, LOCAL));
    world.pump();
    assert_eq!(world.adjacencies[0].mac.load(Relaxed), (PEER_MAC + 5) | 1 << 63);
    world.frames.clear();
    world.advance(90_000_000);
    assert_eq!(world.adjacencies[0].mac.load(Relaxed), 0, "silent for good: unreachable");
    let everybody = if is_v6() { &[0x33, 0x33, 0xff][..] } else { &[0xff; 6] };
    assert!(world.frames.iter().any(|frame| frame.starts_with(everybody)));
    world.answers_arp = true;
    world.advance(10_000_000);
    assert_eq!(world.adjacencies[0].mac.load(Relaxed), PEER_MAC | 1 << 63, "back again");
}

/// (Neighbor Discovery: `discovery.rs`.)
#[test]
fn arp_is_answered_and_learned_from() {
    if is_v6() {
        return;
    }
    let mut world = World::new();
    world.receive(arp(1, PEER_MAC, PEER, 0, LOCAL));
    world.pump();
    let reply = world.frames.pop().unwrap();
    assert_eq!(reply[20..22], [0, 2]);
    assert_eq!(reply[22..28], LOCAL_MAC.to_be_bytes()[2..]);
    assert_eq!(reply[..6], PEER_MAC.to_be_bytes()[2..]);
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    assert_eq!(world.sent().len(), 1, "no request was needed");
    // Not for us, from elsewhere, from us, from a group: nothing is learned or answered.
    for frame in [
        arp(1, PEER_MAC + 1, PEER, 0, LOCAL + 7),
        arp(2, PEER_MAC + 1, 0x0b00_0001, LOCAL_MAC, LOCAL),
        arp(2, PEER_MAC + 1, LOCAL, LOCAL_MAC, LOCAL),
        arp(2, 0x0100_0000_0009, PEER, LOCAL_MAC, LOCAL),
    ] {
        world.receive(frame);
        world.pump();
        assert!(world.frames.is_empty());
        assert_eq!(world.adjacencies[0].mac.load(Relaxed), PEER_MAC | 1 << 63);
        assert_eq!(world.adjacencies[1].mac.load(Relaxed), 0);
    }
    // A probe for our address is answered without learning.
    world.receive(arp(1, PEER_MAC + 3, 0, 0, LOCAL));
    world.pump();
    assert_eq!(world.frames.len(), 1);
}

/// (ICMPv6: `discovery.rs`.)
#[test]
fn echo_is_answered() {
    if is_v6() {
        return;
    }
    let mut world = World::new();
    let frame = icmp(8, 0, &[0x12, 0x34, 0, 1, 9, 9, 9, 9, 9]);
    world.receive(frame.clone());
    world.pump();
    let reply = world.frames.pop().unwrap();
    assert_eq!(reply[34], 0);
    assert_eq!(reply[38..47], frame[38..47]);
    assert_eq!((&reply[26..30], &reply[30..34]), (&frame[30..34], &frame[26..30]));
    let mut bad = frame;
    bad[40] ^= 1;
    world.receive(bad);
    world.pump();
    assert!(world.frames.is_empty(), "wrong checksum");
}
