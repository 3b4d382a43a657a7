// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! How long we wait for a peer, and who decides: keepalive, user timeout, numbers of tries (RFC 9293
//! §3.8.3, §3.8.4, RFC 5482).

mod common;

use abi::{
    event::kernel_event,
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
    message::{option, FlowInfo},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

const SECOND: u64 = 1_000_000;

/// A connection with a peer that has no timestamps.
fn plain() -> (World, FlowInfo) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp { options: vec![2, 4, 5, 0xb4], ..Tcp::syn(4000, 8080, 5000) });
    let syn_ack = world.sent().pop().unwrap();
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    let info = world.accept(listener).unwrap();
    world.ops();
    world.events.clear();
    (world, info)
}

fn keepalive(world: &mut World, socket: u32) {
    for (name, value) in [
        (option::KEEPALIVE_IDLE, 60),
        (option::KEEPALIVE_INTERVAL, 10),
        (option::KEEPALIVE_COUNT, 3),
        (option::KEEPALIVE, 1),
    ] {
        world.set_option(socket, name, value, 0).unwrap();
    }
}

/// Runs for `seconds`; how many probes were sent, each answered or not.
fn probed(world: &mut World, flow: u32, seconds: u64, answered: bool) -> usize {
    let mut probes = 0;
    for _ in 0..seconds * 10 {
        world.advance(SECOND / 10);
        for _ in world.ops().into_iter().filter(|op| *op == to_fast::PROBE) {
            probes += 1;
            let flags = &world.hot[flow as usize].flags;
            flags.fetch_and(!hot_flags::HEARD, Relaxed);
            if answered {
                flags.fetch_or(hot_flags::HEARD, Relaxed);
            }
        }
    }
    probes
}

#[test]
fn keepalive_without_timestamps_spares_a_live_peer_and_gives_up_a_dead_one() {
    for answered in [true, false] {
        let (mut world, info) = plain();
        // What was heard before the first probe says nothing about now.
        world.hot[info.flow as usize].flags.fetch_or(hot_flags::HEARD, Relaxed);
        keepalive(&mut world, info.socket);
        world.frames.clear();
        assert_eq!(probed(&mut world, info.flow, 59, answered), 0);
        let probes = probed(&mut world, info.flow, 600, answered);
        let error = world.get_option(info.socket, option::ERROR);
        if answered {
            assert_eq!((probes, error), (10, Ok(0)), "one a minute");
        } else {
            assert_eq!((probes, error), (3, Ok(110)));
            let sent = world.sent();
            assert_eq!(sent.len(), 1, "and told, as Linux does");
            assert!(sent[0].has(RST));
        }
    }
}

#[test]
fn user_timeout_takes_the_place_of_the_number_of_probes() {
    let (mut world, info) = plain();
    keepalive(&mut world, info.socket);
    world.set_option(info.socket, option::USER_TIMEOUT, 115_000, 0).unwrap();
    assert_eq!(probed(&mut world, info.flow, 115, false), 6, "more than three");
    assert!(world.kinds().is_empty());
    probed(&mut world, info.flow, 10, false);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    let (mut world, info) = plain();
    keepalive(&mut world, info.socket);
    world.set_option(info.socket, option::USER_TIMEOUT, 61_000, 0).unwrap();
    assert_eq!(probed(&mut world, info.flow, 75, false), 1, "fewer than three");
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
}

fn close_window(world: &mut World, flow: u32) {
    let hot = &world.hot[flow as usize];
    hot.snd_wnd.store(0, Relaxed);
    hot.snd_end.fetch_add(5000, Relaxed);
    world.report(0, to_slow::ACTIVE, flow);
    world.pump();
}

/// RFC 9293 MUST-37: a peer that answers keeps its connection open, timestamps or not.
#[test]
fn a_closed_window_without_timestamps() {
    let (mut world, info) = plain();
    close_window(&mut world, info.flow);
    assert!(probed(&mut world, info.flow, 4000, true) > 30);
    assert!(world.kinds().is_empty());
    let probes = probed(&mut world, info.flow, 4000, false);
    assert!((15..=17).contains(&probes), "{probes}");
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
}

/// As Linux: the user's own limit counts although the peer answers every probe.
#[test]
fn user_timeout_ends_a_closed_window() {
    let (mut world, info) = plain();
    world.set_option(info.socket, option::USER_TIMEOUT, 30_000, 0).unwrap();
    close_window(&mut world, info.flow);
    assert!(probed(&mut world, info.flow, 29, true) >= 4);
    assert!(world.kinds().is_empty());
    probed(&mut world, info.flow, 10, true);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(110));
    assert_eq!(world.stack.counter(Counter::GivenUp), 1);
}

#[test]
fn syns_are_counted_as_the_application_says() {
    for (count, last_us) in [(1u32, 3 * SECOND), (3, 15 * SECOND)] {
        let mut world = World::new();
        let socket = world.socket();
        assert_eq!(world.get_option(socket, option::SYN_COUNT), Ok(7));
        world.set_option(socket, option::SYN_COUNT, count, 0).unwrap();
        assert_eq!(world.get_option(socket, option::SYN_COUNT), Ok(count));
        world.connect(socket, PEER, 80);
        world.advance(last_us - SECOND / 10);
        assert_eq!(world.sent().len() as u32, 1 + count);
        assert!(world.kinds().is_empty());
        world.advance(SECOND / 5);
        assert_eq!(world.get_option(socket, option::ERROR), Ok(110));
        world.assert_clean();
    }
    let mut world = World::new();
    let socket = world.socket();
    for wrong in [0, 128] {
        assert_eq!(world.set_option(socket, option::SYN_COUNT, wrong, 0), Err(22));
    }
}

/// RFC 9293 MUST-23: three minutes at least, unless the application says otherwise.
#[test]
fn a_connection_attempt_lasts_three_minutes_or_the_user_timeout() {
    let mut world = World::new();
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    world.advance(180 * SECOND);
    assert!(world.kinds().is_empty());
    world.advance(80 * SECOND);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    world.set_option(socket, option::USER_TIMEOUT, 5000, 0).unwrap();
    world.frames.clear();
    world.connect(socket, PEER, 80);
    world.advance(5 * SECOND - 1000);
    assert!(world.kinds().is_empty());
    world.advance(2000);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.get_option(socket, option::ERROR), Ok(110));
    assert_eq!(world.sent().len(), 3, "none is sent when the time is over");
}

/// Traffic starts the idle time anew from when it came, not from when it is seen.
#[test]
fn keepalive_counts_from_the_last_traffic() {
    let (mut world, info) = plain();
    keepalive(&mut world, info.socket);
    assert_eq!(probed(&mut world, info.flow, 40, false), 0);
    world.received(info.flow, 100, true);
    assert_eq!(probed(&mut world, info.flow, 60, false), 0);
    assert_eq!(probed(&mut world, info.flow, 2, false), 1);
}

/// The application has closed, and a descriptor that the library keeps hides it: fewer tries, as for any orphan.
#[test]
fn an_abandoned_connection_is_given_up_as_an_orphan() {
    let (mut world, info) = plain();
    world.write(info.flow, 100);
    world.hot[info.flow as usize].flags.fetch_or(hot_flags::ABANDONED, Relaxed);
    let mut timeouts = 0;
    for _ in 0..400 {
        world.advance(SECOND);
        timeouts += world.ops().into_iter().filter(|op| *op == to_fast::RETRANSMIT).count();
    }
    assert_eq!((timeouts, world.kinds()), (8, vec![kernel_event::FAILED]));
}
