// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Opening connections, both ways.

mod common;

use abi::{
    event::kernel_event,
    flow::hot_flags,
    kernel_ring::to_fast,
    message::{option, tcp_state},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn passive_open_negotiates_and_queues_before_accept() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let sent = world.sent();
    let [syn_ack] = &sent[..] else { panic!("{sent:?}") };
    assert!(syn_ack.has(SYN | ACK) && !syn_ack.has(ECE));
    assert_eq!((syn_ack.ack, syn_ack.destination), (5001, 4000));
    assert_eq!(syn_ack.option(2), full_mss());
    assert_eq!(syn_ack.option(3), Some(vec![2]), "258,048 bytes need a shift of 2");
    assert_eq!(syn_ack.option(8).unwrap()[4..], [0, 0, 0, 77]);
    assert!(syn_ack.option(4).is_some());
    assert_eq!(world.accept(listener), Err(11));
    world.advance(3000);
    world.frames.clear();
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    assert_eq!(world.ops(), [to_fast::INSTALL]);
    assert_eq!(world.kinds(), [kernel_event::ACCEPTABLE]);
    let info = world.accept(listener).unwrap();
    assert_eq!(
        (info.mss_bytes, info.tcp_state, info.context),
        (1448 - extra(), tcp_state::ESTABLISHED, CONTEXT)
    );
    assert_eq!(info.rx_start, 1 << 32 | 5001);
    assert_eq!(info.tx_start, 1 << 32 | u64::from(syn_ack.seq.wrapping_add(1)));
    assert_eq!(info.srtt_us, 3000);
    let hot = &world.hot[info.flow as usize];
    assert_eq!(hot.snd_wnd.load(Relaxed), 1000 << 7);
    assert_eq!(hot.mss_scale.load(Relaxed), (1448 - extra()) | 7 << 16 | 2 << 24);
    let flags = hot_flags::INSTALLED | hot_flags::TIMESTAMPS | hot_flags::SACK | family_flag();
    assert_eq!(hot.flags.load(Relaxed), flags);
    assert_eq!(hot.owner.load(Relaxed) >> 16, APP);
    assert_eq!(world.cold[info.flow as usize].owner.load(Relaxed), APP << 16 | CONTEXT);
    assert_eq!(world.ops(), [to_fast::UPDATE]);
}

#[test]
fn data_with_the_final_ack_is_handed_on_after_install() {
    let mut world = World::new();
    world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = world.sent().pop().unwrap();
    let mut segment = Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1));
    segment.payload = b"hello".to_vec();
    world.peer(segment.clone());
    assert_eq!(world.injected, [(0, segment.frame())]);
    // A frame that raced with INSTALL is handed back too; one with IP options is simplified. URG stays.
    segment.ip_options = vec![1, 1, 1, 0];
    segment.flags |= URG;
    world.peer(segment.clone());
    let back = Tcp::parse(&world.injected[1].1);
    assert_eq!(back.payload, b"hello");
    assert!(back.ip_options.is_empty() && back.flags == ACK | URG);
}

#[test]
fn peers_without_options_are_served() {
    let default = if is_v6() { 1220 } else { 536 };
    for (options, mss, flags) in [
        (vec![], default, 0),
        (vec![2, 4, 2, 0], 512, 0),
        (vec![2, 4, 0, 1], 48, 0),
        (vec![1, 3, 3, 255], default, 0),
        (vec![8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0], default - 12, hot_flags::TIMESTAMPS),
    ] {
        let mut world = World::new();
        let listener = world.listener(8080, 5);
        let scaled = options.starts_with(&[1, 3]);
        world.peer(Tcp { options, ..Tcp::new(4000, 8080, 5000, 0, SYN) });
        let syn_ack = world.sent().pop().unwrap();
        assert_eq!(syn_ack.option(8).is_some(), flags == hot_flags::TIMESTAMPS);
        assert_eq!(syn_ack.option(3).is_some(), scaled);
        assert_eq!(syn_ack.option(4), None);
        world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
        let info = world.accept(listener).unwrap();
        assert_eq!(info.mss_bytes, mss);
        let hot = &world.hot[info.flow as usize];
        assert_eq!(hot.flags.load(Relaxed), hot_flags::INSTALLED | flags | family_flag());
        let shift = if scaled { 14 } else { 0 };
        assert_eq!(hot.snd_wnd.load(Relaxed), 1000 << shift);
    }
}

#[test]
fn active_open_asks_for_the_neighbour_first() {
    let mut world = World::new();
    world.answers_arp = false;
    let socket = world.socket();
    assert_eq!(world.connect(socket, PEER, 80), 115);
    assert_eq!(world.connect(socket, PEER, 80), 114);
    assert!(world.info(socket).is_err());
    let request = world.frames.pop().unwrap();
    assert_eq!(asks_for(&request), Some(PEER));
    world.receive(arp(2, PEER_MAC, PEER, LOCAL_MAC, LOCAL));
    world.pump();
    let syn = world.sent().pop().unwrap();
    assert_eq!(syn.flags, SYN | ECE | CWR);
    assert!((32_768..61_000).contains(&syn.source));
    assert_eq!(world.adjacencies[0].mac.load(Relaxed), PEER_MAC | 1 << 63);
    let mut answer = Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1));
    answer.flags |= ECE;
    world.advance(2000);
    world.peer(answer);
    assert_eq!(world.ops(), [to_fast::INSTALL, to_fast::ACKNOWLEDGE]);
    assert_eq!(
        world.events,
        [(
            CONTEXT,
            abi::event::KernelEvent { kind: kernel_event::CONNECTED, error: 0, socket, flow: 0, opaque: 99 }
        )]
    );
    let info = world.info(socket).unwrap();
    assert_eq!((info.rx_start as u32, info.srtt_us), (9001, 2000));
    assert!(world.hot[0].flags.load(Relaxed) & hot_flags::ECN != 0);
    assert_eq!(world.hot[0].snd_wnd.load(Relaxed), 1000, "a SYN's window is not scaled");
    assert_eq!(world.connect(socket, PEER, 80), 106);
}

#[test]
fn refused_and_wrong_answers() {
    let mut world = World::new();
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    let syn = world.sent().pop().unwrap();
    // RST without ACK, and with a wrong ACK, change nothing.
    world.peer(Tcp::new(80, syn.source, 0, 0, RST));
    world.peer(Tcp::new(80, syn.source, 0, syn.seq, RST | ACK));
    assert!(world.sent().is_empty() && world.events.is_empty());
    // An ACK of something else is reset, with its own number.
    world.peer(Tcp::syn_ack(80, syn.source, 1, syn.seq.wrapping_add(7)));
    let rst = world.sent().pop().unwrap();
    assert_eq!((rst.flags, rst.seq), (RST, syn.seq.wrapping_add(7)));
    world.peer(Tcp::new(80, syn.source, 0, syn.seq.wrapping_add(1), RST | ACK));
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.get_option(socket, option::ERROR), Ok(111));
    assert_eq!(world.get_option(socket, option::ERROR), Ok(0));
    world.assert_clean();
    assert_eq!(world.connect(socket, PEER, 80), 115, "the socket may try again");
}

#[test]
fn syn_is_repeated_with_back_off_and_given_up() {
    let mut world = World::new();
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    let begin = world.now;
    let mut times = vec![];
    for _ in 0..2000 {
        for syn in world.sent() {
            times.push((world.now - begin) / 100_000);
            assert_eq!(syn.has(ECE), times.len() == 1, "ECN only on the first");
        }
        world.advance(150_000);
    }
    assert_eq!(times.len(), 8);
    for (time, expected) in times.iter().zip([0u64, 10, 30, 70, 150, 310, 630, 1270]) {
        assert!(time.abs_diff(expected) <= 2, "{times:?}");
    }
    assert_eq!(world.get_option(socket, option::ERROR), Ok(110));
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    world.assert_clean();
}

#[test]
fn a_silent_neighbour_is_no_route_to_host() {
    let mut world = World::new();
    world.answers_arp = false;
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    let listener = world.listener(8080, 5);
    world.peer(Tcp { from: PEER + 1, ..Tcp::syn(4000, 8080, 1) });
    world.advance(20_000_000);
    assert_eq!(world.get_option(socket, option::ERROR), Ok(113));
    assert!(world.sent().is_empty());
    world.assert_clean();
    assert_eq!(world.accept(listener), Err(11));
    let far = world.socket();
    assert_eq!(world.connect(far, 0x0808_0808, 80), 101, "no route");
    assert_eq!(world.connect(far, LOCAL, 80), 101, "our own address");
    assert_eq!(world.connect(far, 0xe000_0001, 80), 101, "multicast");
}

#[test]
fn routes_lead_through_the_gateway() {
    let mut world = World::new();
    assert!(world.stack.add_route(&default_route(0x0b00_0001)).is_err(), "the gateway is not on the link");
    world.stack.add_route(&default_route(PEER)).unwrap();
    let socket = world.socket();
    assert_eq!(world.connect(socket, 0x0808_0808, 80), 115);
    let syn = world.sent().pop().unwrap();
    assert_eq!(syn.to, 0x0808_0808);
    assert_eq!(world.adjacencies[0].next_hop.load(Relaxed), hot_address(PEER));
}

#[test]
fn icmp_errors_count_only_for_a_syn_under_way() {
    let mut world = World::new();
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    let frame = world.frames.last().unwrap().clone();
    let mut quote = vec![0, 0, 0, 0];
    quote.extend(&frame[14..42 + extra() as usize]);
    let mut wrong = quote.clone();
    wrong[28 + extra() as usize] ^= 1; // sequence number
    world.receive(icmp(3, 3, &wrong));
    world.pump();
    assert!(world.events.is_empty());
    world.receive(icmp(3, 1, &quote));
    world.pump();
    assert!(world.events.is_empty(), "soft");
    world.receive(icmp(3, 3, &quote));
    world.pump();
    assert_eq!(world.get_option(socket, option::ERROR), Ok(111), "hard");
    // The soft error is told when the handshake fails for good.
    world.connect(socket, PEER, 80);
    let frame = world.frames.last().unwrap().clone();
    let mut quote = vec![0, 0, 0, 0];
    quote.extend(&frame[14..42 + extra() as usize]);
    world.receive(icmp(3, 1, &quote));
    world.advance(300_000_000);
    assert_eq!(world.get_option(socket, option::ERROR), Ok(113));
}

#[test]
fn simultaneous_open() {
    let mut world = World::new();
    let socket = world.socket();
    world.bind(socket, 0, 5555).unwrap();
    world.connect(socket, PEER, 80);
    let syn = world.sent().pop().unwrap();
    world.peer(Tcp::syn(80, 5555, 700));
    let syn_ack = world.sent().pop().unwrap();
    assert_eq!((syn_ack.flags & (SYN | ACK), syn_ack.seq, syn_ack.ack), (SYN | ACK, syn.seq, 701));
    world.peer(Tcp::syn_ack(80, 5555, 700, syn.seq.wrapping_add(1)));
    assert_eq!(world.ops(), [to_fast::INSTALL, to_fast::ACKNOWLEDGE]);
    assert_eq!(world.kinds(), [kernel_event::CONNECTED]);
    assert_eq!(world.info(socket).unwrap().rx_start as u32, 701);
}

#[test]
fn syn_ack_is_repeated_and_given_up() {
    let mut world = World::new();
    world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    world.peer(Tcp::syn(4000, 8080, 5000));
    assert_eq!(world.sent().len(), 2, "a repeated SYN is answered again");
    world.advance(300_000_000);
    assert!((5..=8).contains(&world.sent().len()));
    world.assert_clean();
}

/// RFC 7323 §4.1: an echoed timestamp says which of the repeated segments was answered. Without a measurement the first
/// timeout would be three seconds.
#[test]
fn timestamps_measure_the_rtt_of_what_was_repeated() {
    // A tenth of a second after the repetition, in ticks of 1024 µs that began at some time.
    let is_right = |srtt_us: u32| assert!((98_000..=103_000).contains(&srtt_us), "{srtt_us}");
    let echo = |value: &[u8]| [&[1, 1, 8, 10, 0, 0, 0, 78], &value[..4]].concat();
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    world.advance(1_100_000);
    let syn_ack = world.sent().pop().unwrap();
    let options = echo(&syn_ack.option(8).unwrap());
    world.peer(Tcp { options, ..Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)) });
    is_right(world.accept(listener).unwrap().srtt_us);

    let socket = world.socket();
    world.connect(socket, PEER, 80);
    world.advance(1_100_000);
    let syn = world.sent().pop().unwrap();
    let options = [vec![2, 4, 5, 0xb4], echo(&syn.option(8).unwrap())].concat();
    world.peer(Tcp { options, ..Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1)) });
    is_right(world.info(socket).unwrap().srtt_us);
}

#[test]
fn half_open_connections_validate() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = world.sent().pop().unwrap();
    let next = syn_ack.seq.wrapping_add(1);
    world.peer(Tcp::ack(4000, 8080, 5001, next.wrapping_add(1)));
    assert_eq!(world.sent().pop().unwrap().flags, RST, "wrong ACK");
    world.peer(Tcp::ack(4000, 8080, 5001 + 70_000, next));
    assert_eq!(world.sent().pop().unwrap().flags, ACK, "outside the window");
    world.advance(500_000);
    world.peer(Tcp::syn(4000, 8080, 900_000));
    assert_eq!(world.sent().pop().unwrap().flags, ACK, "another SYN is challenged");
    assert_eq!(world.accept(listener), Err(11));
    world.peer(Tcp::new(4000, 8080, 5001, next, RST));
    world.assert_clean();
    world.peer(Tcp::ack(4000, 8080, 5001, next));
    assert_eq!(world.sent().pop().unwrap().flags, RST);
}

#[test]
fn backlogs_are_bounded_and_counted() {
    let mut world = World::new();
    let listener = world.listener(8080, 1);
    for from in 4000..4050 {
        world.peer(Tcp::syn(from, 8080, 5000));
    }
    assert_eq!(world.status().half_open, 16);
    assert_eq!(world.stack.counter(Counter::CookiesSent), 34);
    assert_eq!(world.stack.counter(Counter::SynsDropped), 0);
    let mut answers = world.sent();
    answers.truncate(16);
    for syn_ack in &answers {
        world.peer(Tcp::ack(syn_ack.destination, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    }
    // As Linux, one more than the backlog.
    assert_eq!(world.status().flows_used, 2);
    assert_eq!(world.stack.counter(Counter::AcceptOverflows), 14);
    world.accept(listener).unwrap();
    let syn_ack = &answers[9];
    world.peer(Tcp::ack(syn_ack.destination, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    assert_eq!(world.status().flows_used, 3, "a later ACK gets in");
    world.accept(listener).unwrap();
    world.accept(listener).unwrap();
    assert_eq!(world.accept(listener), Err(11));
}

#[test]
fn segments_for_nobody_are_reset() {
    let mut world = World::new();
    world.peer(Tcp::syn(4000, 9999, 5000));
    let rst = world.sent().pop().unwrap();
    assert_eq!((rst.flags, rst.seq, rst.ack), (RST | ACK, 0, 5001));
    world.peer(Tcp { payload: vec![0; 9], ..Tcp::new(4000, 9999, 5000, 31, ACK | FIN) });
    let rst = world.sent().pop().unwrap();
    assert_eq!((rst.flags, rst.seq), (RST, 31));
    world.peer(Tcp::new(4000, 9999, 1, 1, RST));
    assert!(world.sent().is_empty());
    // SYN for a listener with ACK set is not a SYN.
    world.listener(8080, 1);
    world.peer(Tcp::syn_ack(4000, 8080, 1, 2));
    assert_eq!(world.sent().pop().unwrap().flags, RST);
    // Neither SYN nor ACK: nothing.
    world.peer(Tcp { payload: vec![1; 10], ..Tcp::new(4000, 8080, 1, 0, FIN) });
    assert!(world.sent().is_empty());
}

#[test]
fn ecn_is_accepted_only_when_asked_for() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp { flags: SYN | ECE | CWR, ..Tcp::syn(4000, 8080, 5000) });
    let syn_ack = world.sent().pop().unwrap();
    assert_eq!(syn_ack.flags, SYN | ACK | ECE);
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    let info = world.accept(listener).unwrap();
    assert!(world.hot[info.flow as usize].flags.load(Relaxed) & hot_flags::ECN != 0);
}

/// TCP_MAXSEG bounds what is announced and what is sent, both ways to open, with cookies too.
#[test]
fn the_application_bounds_the_mss() {
    let mut world = World::new();
    for wrong in [1, 87, 32_768, u32::MAX] {
        let socket = world.socket();
        assert_eq!(world.set_option(socket, option::MAX_SEGMENT, wrong, 0), Err(22));
    }
    let listener = world.socket();
    world.set_option(listener, option::MAX_SEGMENT, 500, 0).unwrap();
    world.bind(listener, 0, 8080).unwrap();
    world.listen(listener, 5).unwrap();
    for from in 4000..4017 {
        // The last is answered with a cookie.
        world.peer(Tcp::syn(from, 8080, 5000));
        assert_eq!(world.sent().pop().unwrap().option(2), Some(vec![1, 0xf4]));
    }
    let info = world.accepted(listener, 8080, 4001);
    assert_eq!(info.mss_bytes, 488);
    let socket = world.socket();
    world.set_option(socket, option::MAX_SEGMENT, 1000, 0).unwrap();
    world.connect(socket, PEER, 80);
    let syn = world.sent().pop().unwrap();
    assert_eq!(syn.option(2), Some(vec![3, 0xe8]));
    world.peer(Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1)));
    assert_eq!(world.info(socket).unwrap().mss_bytes, 988);
}

/// RFC 3168 §6.1.1: what a repeated SYN-ACK says is what the connection does.
#[test]
fn ecn_of_repeated_syns_and_syn_acks() {
    for (asks_again, flags) in [(true, SYN | ACK | ECE), (false, SYN | ACK)] {
        let mut world = World::new();
        let listener = world.listener(8080, 5);
        world.peer(Tcp { flags: SYN | ECE | CWR, ..Tcp::syn(4000, 8080, 5000) });
        world.frames.clear();
        let again = if asks_again { SYN | ECE | CWR } else { SYN };
        world.peer(Tcp { flags: again, ..Tcp::syn(4000, 8080, 5000) });
        world.advance(1_100_000);
        let sent = world.sent();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|syn_ack| syn_ack.flags == flags), "{sent:?}");
        world.peer(Tcp::ack(4000, 8080, 5001, sent[0].seq.wrapping_add(1)));
        let info = world.accept(listener).unwrap();
        let ecn = world.hot[info.flow as usize].flags.load(Relaxed) & hot_flags::ECN != 0;
        assert_eq!(ecn, asks_again);
    }
}

#[test]
fn sequence_numbers_are_keyed_and_advance() {
    let mut first = World::new();
    let mut second = World::with(slowpath::Config { secret: [9, 9, 9, 9], ..config() });
    let mut numbers = vec![];
    for world in [&mut first, &mut second] {
        world.listener(8080, 5);
        for from in [4000, 4001] {
            world.peer(Tcp::syn(from, 8080, 5000));
            numbers.push(world.sent().pop().unwrap().seq);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 4);
}

/// (IPv6's routing header: `src/wire/ipv6.rs`.)
#[test]
fn source_routes_are_not_followed() {
    if is_v6() {
        return;
    }
    for (options, dropped) in [
        (vec![131, 7, 4, 10, 0, 0, 9, 0], 1),
        (vec![137, 7, 4, 10, 0, 0, 9, 0], 1),
        (vec![1, 1, 1, 137, 7, 4, 10, 0, 0, 9, 0, 0], 1),
        // Record route, and one behind the end of the list, and a malformed one.
        (vec![7, 7, 4, 0, 0, 0, 0, 0], 0),
        (vec![0, 131, 7, 4], 0),
        (vec![7, 1, 131, 3], 0),
    ] {
        let mut world = World::new();
        world.listener(8080, 5);
        world.sent();
        world.peer(Tcp { ip_options: options.clone(), ..Tcp::syn(4000, 8080, 5000) });
        assert_eq!(world.stack.counter(Counter::SourceRouted), dropped, "{options:?}");
        assert_eq!(world.sent().len(), 1 - dropped as usize, "{options:?}");
    }
}
