// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Fast open, RFC 7413: both sides.

mod common;

use abi::{
    event::kernel_event,
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
    message::{connect_flags::*, option, tcp_state},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

const COOKIE: u8 = 34;

fn fast_listener(world: &mut World, limit: u32) -> u32 {
    let listener = world.listener(8080, 20);
    world.set_option(listener, option::FAST_OPEN, limit, 0).unwrap();
    listener
}

/// A SYN with a fast-open option and data.
fn fast_syn(from: u16, cookie: &[u8], data: &[u8]) -> Tcp {
    let mut syn = Tcp::syn(from, 8080, 5000);
    syn.options.extend([COOKIE, cookie.len() as u8 + 2]);
    syn.options.extend(cookie);
    while syn.options.len() % 4 != 0 {
        syn.options.push(1);
    }
    syn.payload = data.to_vec();
    syn
}

/// Makes ARP know the peer: a SYN whose answer must wait for that is not taken with its data.
fn know_peer(world: &mut World) {
    world.peer(Tcp::syn(3000, 8080, 1));
    world.peer(Tcp::new(3000, 8080, 2, 0, RST));
    world.sent();
}

/// The cookie that the listener on port 8080 gives.
fn ask_cookie(world: &mut World, from: u16) -> Vec<u8> {
    world.frames.clear();
    world.peer(fast_syn(from, &[], b""));
    let syn_ack = world.sent().pop().unwrap();
    world.peer(Tcp::new(from, 8080, 5001, 0, RST));
    syn_ack.option(COOKIE).expect("a cookie")
}

#[test]
fn data_is_delivered_before_the_handshake_completes() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 5);
    let cookie = ask_cookie(&mut world, 4000);
    assert_eq!(cookie.len(), 8);
    world.ops();
    world.peer(fast_syn(4001, &cookie, b"hello"));
    assert_eq!(world.ops(), [to_fast::INSTALL, to_fast::SYN_DATA]);
    assert_eq!(world.kinds(), [kernel_event::ACCEPTABLE]);
    let sent = world.sent();
    let [syn_ack] = &sent[..] else { panic!("{sent:?}") };
    assert!(syn_ack.has(SYN | ACK));
    assert_eq!((syn_ack.ack, syn_ack.option(COOKIE)), (5006, None), "the cookie is still the right one");
    assert_eq!(syn_ack.window, 65_530, "what was taken takes its place");
    let info = world.accept(listener).unwrap();
    assert_eq!(world.last_transmit_flow, info.flow, "it may send from now on");
    assert_eq!((info.tcp_state, info.syn_data_bytes), (tcp_state::SYN_RECEIVED, 5));
    assert_eq!((info.rx_start as u32, info.tx_start as u32), (5001, syn_ack.seq.wrapping_add(1)));
    let hot = &world.hot[info.flow as usize];
    assert!(hot.flags.load(Relaxed) & hot_flags::SYN_RECEIVED != 0);
    assert_eq!(hot.snd_wnd.load(Relaxed), 1000, "the window of a SYN is not scaled");
    assert_eq!(world.status().half_open, 1);
    world.advance(2000);
    world.report(0, to_slow::HANDSHAKE_DONE, info.flow);
    let info = world.info(info.socket).unwrap();
    assert_eq!((info.tcp_state, info.srtt_us), (tcp_state::ESTABLISHED, 2000));
    assert_eq!(world.status().half_open, 0);
    world.sent();
    world.advance(60_000_000);
    assert_eq!(world.sent(), [], "the SYN-ACK is not repeated any more");
    assert_eq!(world.stack.counter(Counter::FastOpens), 1);
    world.release(info.socket);
    world.advance(200_000);
    world.acknowledged(info.flow);
    world.peer_fin(info.flow);
    world.advance(700_000_000);
    world.release(listener);
    world.assert_clean();
}

#[test]
fn anything_else_is_an_ordinary_handshake() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 5);
    let cookie = ask_cookie(&mut world, 4000);
    let mut guess = cookie.clone();
    guess[3] ^= 1;
    for (from, shown, brings) in
        [(1, guess.as_slice(), true), (2, &cookie[..4], true), (3, b"", true), (4, &[7; 3], false)]
    {
        world.ops();
        world.peer(fast_syn(from, shown, b"hello"));
        let syn_ack = world.sent().pop().unwrap();
        assert_eq!(syn_ack.ack, 5001, "nothing was taken");
        assert_eq!(syn_ack.option(COOKIE), brings.then(|| cookie.clone()), "{shown:?}");
        assert_eq!(world.ops(), []);
        world.peer(Tcp::ack(from, 8080, 5001, syn_ack.seq.wrapping_add(1)));
        assert_eq!(world.accept(listener).unwrap().syn_data_bytes, 0);
    }
    // Without TCP_FASTOPEN the option means nothing.
    world.set_option(listener, option::FAST_OPEN, 0, 0).unwrap();
    world.peer(fast_syn(5, &cookie, b"hello"));
    let syn_ack = world.sent().pop().unwrap();
    assert_eq!((syn_ack.ack, syn_ack.option(COOKIE)), (5001, None));
}

#[test]
fn a_cookie_is_of_its_address_and_its_time() {
    let mut world = World::new();
    fast_listener(&mut world, 50);
    let cookie = ask_cookie(&mut world, 4000);
    let mut other = fast_syn(4001, &cookie, b"x");
    other.from = PEER + 1;
    world.peer(other);
    assert_eq!(world.stack.counter(Counter::FastOpenRefused), 1);
    // The key changes after nine and a half hours; its cookies are good for as long again, and are renewed.
    world.advance(1 << 35);
    know_peer(&mut world);
    world.peer(fast_syn(4002, &cookie, b"x"));
    let syn_ack = world.sent().pop().unwrap();
    let renewed = syn_ack.option(COOKIE).expect("a new one");
    assert!(renewed != cookie && syn_ack.ack == 5002);
    world.advance(1 << 35);
    know_peer(&mut world);
    world.peer(fast_syn(4003, &cookie, b"x"));
    assert_eq!(world.sent().pop().unwrap().ack, 5001, "too old");
    world.peer(fast_syn(4004, &renewed, b"x"));
    assert_eq!(world.sent().pop().unwrap().ack, 5002);
}

#[test]
fn the_applications_keys_make_the_cookies() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 50);
    let own = ask_cookie(&mut world, 4000);
    assert_eq!(world.set_option(listener, option::FAST_OPEN_BACKUP_KEY, 1, 1), Err(22), "no key to back up");
    world.set_option(listener, option::FAST_OPEN_KEY, 1, 2).unwrap();
    let first = ask_cookie(&mut world, 4001);
    assert_ne!(own, first);
    world.set_option(listener, option::FAST_OPEN_KEY, 3, 4).unwrap();
    world.set_option(listener, option::FAST_OPEN_BACKUP_KEY, 1, 2).unwrap();
    world.sent();
    world.peer(fast_syn(4002, &first, b"x"));
    let syn_ack = world.sent().pop().unwrap();
    assert!(syn_ack.ack == 5002 && syn_ack.option(COOKIE).is_some_and(|cookie| cookie != first));
    world.advance(1 << 36);
    know_peer(&mut world);
    world.peer(fast_syn(4003, &first, b"x"));
    assert_eq!(world.sent().pop().unwrap().ack, 5002, "an application's keys do not age");
}

#[test]
fn no_cookie_is_needed_if_the_application_says_so() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 5);
    world.set_option(listener, option::FAST_OPEN_NO_COOKIE, 1, 0).unwrap();
    know_peer(&mut world);
    let mut syn = Tcp::syn(4000, 8080, 5000);
    syn.payload = b"abc".to_vec();
    world.peer(syn);
    assert_eq!(world.sent().pop().unwrap().ack, 5004);
    assert_eq!(world.accept(listener).unwrap().syn_data_bytes, 3);
}

#[test]
fn only_what_was_taken_is_acknowledged() {
    for (taken, answers) in [(0, true), (2, true), (0, false)] {
        let mut world = World::new();
        let listener = fast_listener(&mut world, 5);
        let cookie = ask_cookie(&mut world, 4000);
        (world.pool_bytes, world.takes_syn_data) = (taken, answers);
        world.peer(fast_syn(4001, &cookie, b"hello"));
        if !answers {
            // The fast path went away with the data: the timer goes on without it.
            assert_eq!((world.sent(), world.accept(listener)), (vec![], Err(11)));
            world.advance(world.stack.config().handshake_timeout_us);
        }
        assert_eq!(world.sent().pop().unwrap().ack, 5001 + taken as u32);
        assert_eq!(world.accept(listener).unwrap().syn_data_bytes, taken as u32);
    }
}

/// A simulated world found it (`scripts/sim`): nobody had heard of the connection yet, and it stayed for ever.
#[test]
fn a_reset_before_the_data_is_taken_leaves_nothing() {
    let mut world = World::new();
    fast_listener(&mut world, 5);
    let cookie = ask_cookie(&mut world, 4000);
    let before = world.status();
    world.takes_syn_data = false;
    world.peer(fast_syn(4001, &cookie, b"hello"));
    assert_eq!(world.status().flows_used, before.flows_used + 1);
    let flow = world.entries.last().expect("SYN_DATA").flow;
    world.peer(Tcp::new(4001, 8080, 5001, 0, RST));
    world.report(0, to_slow::SYN_DATA, flow);
    world.pump();
    assert_eq!(world.status().flows_used, before.flows_used);
}

#[test]
fn a_lost_syn_ack_is_repeated_and_given_up() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 5);
    let cookie = ask_cookie(&mut world, 4000);
    world.peer(fast_syn(4001, &cookie, b"hello"));
    let first = world.sent().pop().unwrap();
    let info = world.accept(listener).unwrap();
    // The peer repeats its SYN without data, as it must.
    world.advance(600_000);
    world.sent();
    world.peer(Tcp::syn(4001, 8080, 5000));
    let again = world.sent().pop().unwrap();
    assert_eq!((again.seq, again.ack, again.flags), (first.seq, 5006, SYN | ACK));
    world.events.clear();
    world.advance(300_000_000);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.state(info.flow), tcp_state::CLOSED);
    world.release(info.socket);
    world.advance(1_000_000);
    world.release(listener);
    world.assert_clean();
}

#[test]
fn the_limit_holds_and_resets_count_for_a_minute() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 2);
    let cookie = ask_cookie(&mut world, 4000);
    let taken = |world: &mut World, from: u16| {
        world.sent();
        world.peer(fast_syn(from, &cookie, b"hello"));
        world.sent().pop().unwrap().ack == 5006
    };
    assert!(taken(&mut world, 4001) && taken(&mut world, 4002));
    assert!(!taken(&mut world, 4003), "two are pending");
    assert_eq!(world.stack.counter(Counter::FastOpenOverflows), 1);
    let flow = world.accept(listener).unwrap().flow;
    world.report(0, to_slow::HANDSHAKE_DONE, flow);
    assert!(taken(&mut world, 4004), "a complete one does not count");
    // Whoever resets does not get its place back at once (RFC 7413 §5.1).
    world.peer(Tcp::new(4004, 8080, 5006, 0, RST));
    assert!(!taken(&mut world, 4005));
    world.advance(61_000_000);
    assert!(taken(&mut world, 4006));
    world.release(listener);
    world.advance(300_000_000);
    assert_eq!(world.status().half_open, 0);
}

#[test]
fn a_listener_that_closes_takes_them_along() {
    let mut world = World::new();
    let listener = fast_listener(&mut world, 5);
    let cookie = ask_cookie(&mut world, 4000);
    world.peer(fast_syn(4001, &cookie, b"hello"));
    world.takes_syn_data = false;
    world.peer(fast_syn(4002, &cookie, b"hello"));
    world.release(listener);
    world.report(0, to_slow::SYN_DATA, 1);
    world.pump();
    world.advance(1_000_000);
    world.assert_clean();
}

/// A client socket whose destination has given a cookie, unless it is asked for none.
fn client_with_cookie(world: &mut World) -> Vec<u8> {
    let socket = world.socket();
    world.frames.clear();
    assert_eq!(world.connect_fast(socket, FAST_OPEN), Ok((0, true)));
    let syn = world.sent().pop().unwrap();
    assert_eq!(syn.option(COOKIE), Some(vec![]), "asks");
    let mut answer = Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1));
    let cookie = vec![1, 2, 3, 4, 5, 6];
    answer.options.extend([COOKIE, 8, 1, 2, 3, 4, 5, 6]);
    world.peer(answer);
    world.release(socket);
    world.sent();
    cookie
}

/// Starts to connect with `data` in the SYN.
fn connect_with(world: &mut World, data: &[u8]) -> (u32, Tcp) {
    let socket = world.socket();
    let (room, started) = world.connect_fast(socket, DEFER).unwrap();
    assert!(!started && room as usize >= data.len());
    world.syn_data(socket, data).unwrap();
    world.sent();
    assert_eq!(world.connect_fast(socket, FAST_OPEN), Ok((data.len() as u32, true)));
    (socket, world.sent().pop().unwrap())
}

#[test]
fn a_cookie_is_kept_and_data_goes_with_the_next_syn() {
    let mut world = World::new();
    let cookie = client_with_cookie(&mut world);
    let data: Vec<u8> = (0..1000).map(|byte| byte as u8).collect();
    let (socket, syn) = connect_with(&mut world, &data);
    assert_eq!((syn.flags & SYN, syn.option(COOKIE)), (SYN, Some(cookie)));
    assert_eq!(syn.payload, data);
    // All, some and none of it may be acknowledged.
    world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(601)));
    let info = world.info(socket).unwrap();
    assert_eq!(info.syn_data_bytes, 600);
    assert_eq!(info.tx_start as u32, syn.seq.wrapping_add(601));
    let hot = &world.hot[info.flow as usize];
    assert_eq!(hot.snd_una.load(Relaxed) as u32, syn.seq.wrapping_add(601));
    assert_eq!(hot.snd_max.load(Relaxed), hot.snd_una.load(Relaxed));
}

#[test]
fn an_acknowledgement_of_more_than_was_sent_is_refused() {
    let mut world = World::new();
    client_with_cookie(&mut world);
    let (socket, syn) = connect_with(&mut world, b"hello");
    world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(7)));
    assert!(world.sent().pop().unwrap().has(RST));
    assert_eq!(world.info(socket), Err(107));
    world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(6)));
    assert_eq!(world.info(socket).unwrap().syn_data_bytes, 5);
}

#[test]
fn the_data_is_bounded_by_the_mss_that_was_announced() {
    let mut world = World::new();
    let socket = world.socket();
    world.connect_fast(socket, FAST_OPEN).unwrap();
    let syn = world.sent().pop().unwrap();
    let mut answer = Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1));
    answer.options = vec![2, 4, 2, 88, COOKIE, 6, 1, 2, 3, 4, 1, 1];
    world.peer(answer);
    let socket = world.socket();
    assert_eq!(world.connect_fast(socket, DEFER), Ok((600 - 40, false)));
    world.syn_data(socket, &[3; 1000]).unwrap();
    assert_eq!(world.connect_fast(socket, FAST_OPEN), Ok((560, true)));
    assert_eq!(world.sent().pop().unwrap().payload.len(), 560);
}

#[test]
fn a_repeated_syn_has_neither_data_nor_cookie() {
    let mut world = World::new();
    client_with_cookie(&mut world);
    let (socket, syn) = connect_with(&mut world, b"hello");
    world.advance(world.stack.config().handshake_timeout_us);
    let again = world.sent().pop().unwrap();
    assert_eq!((again.seq, again.payload.len(), again.option(COOKIE)), (syn.seq, 0, None));
    world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(1)));
    assert_eq!(world.info(socket).unwrap().syn_data_bytes, 0);
}

#[test]
fn a_path_that_swallows_syns_with_data_is_spared() {
    let mut world = World::new();
    client_with_cookie(&mut world);
    let lose = |world: &mut World| {
        let (socket, syn) = connect_with(world, b"hello");
        world.advance(world.stack.config().handshake_timeout_us);
        world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(1)));
        world.release(socket);
        world.sent();
    };
    let plain = |world: &mut World| {
        let socket = world.socket();
        let started = world.connect_fast(socket, DEFER).unwrap();
        world.release(socket);
        started.1
    };
    lose(&mut world);
    assert!(!plain(&mut world), "one loss proves nothing");
    lose(&mut world);
    let socket = world.socket();
    assert_eq!(world.connect_fast(socket, DEFER), Ok((0, true)));
    assert_eq!(world.sent().pop().unwrap().option(COOKIE), None, "not even asked");
    world.release(socket);
    world.advance(50_000_000);
    assert!(plain(&mut world));
    world.advance(11_000_000);
    assert!(!plain(&mut world), "tried again after a minute");
    lose(&mut world);
    world.advance(70_000_000);
    assert!(plain(&mut world), "now for two");
    world.advance(60_000_000);
    // A SYN that gets through ends it.
    let (_, syn) = connect_with(&mut world, b"hello");
    world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(6)));
    lose(&mut world);
    assert!(!plain(&mut world));
}

#[test]
fn a_path_that_takes_the_data_and_nothing_after_it_is_spared() {
    let mut world = World::new();
    client_with_cookie(&mut world);
    let (socket, syn) = connect_with(&mut world, b"hello");
    world.peer(Tcp::syn_ack(80, syn.source, 7000, syn.seq.wrapping_add(6)));
    let flow = world.info(socket).unwrap().flow;
    world.write(flow, 1000);
    world.advance(10_000_000);
    let socket = world.socket();
    assert_eq!(world.connect_fast(socket, DEFER), Ok((0, true)));
}

#[test]
fn an_application_gets_its_share_of_the_room_for_data() {
    let mut world = World::new();
    client_with_cookie(&mut world);
    let mut sockets = vec![];
    let refused = loop {
        let socket = world.socket();
        sockets.push(socket);
        if let Err(errno) = world.syn_data(socket, b"hello") {
            break errno;
        }
    };
    assert_eq!((refused, sockets.len()), (105, 17));
    assert_eq!(world.syn_data(sockets[0], &[0; 1416]), Err(105), "more than any SYN can hold");
    for socket in sockets {
        world.release(socket);
    }
    connect_with(&mut world, b"hello");
}
