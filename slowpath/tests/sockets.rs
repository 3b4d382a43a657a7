// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Control calls: Linux's errors, ports, options, garbage.

mod common;

use abi::{
    event::kernel_event,
    message::{option, *},
};
use common::{frames::*, *};
use slowpath::{counters, Caller, Outcome};
use std::{collections::HashSet, sync::atomic::Ordering::Relaxed};

#[test]
fn bind_errors_are_linuxs() {
    let mut world = World::new();
    let socket = world.socket();
    assert_eq!(world.bind(socket, LOCAL + 1, 80), Err(99));
    assert_eq!(world.bind(socket, 0, 80), Err(13));
    let privileged = Caller { net_bind_service: true, ..Caller::application(APP) };
    let body = Name { endpoint: endpoint(LOCAL, 80), reserved: 0 };
    let mut message = Message::with(Op::Bind, socket, &body);
    world.stack.handle_request(world.now, &privileged, Some(socket), &mut message);
    assert_eq!((message.error, message.get::<Name>().endpoint), (0, endpoint(LOCAL, 80)));
    assert_eq!(world.bind(socket, 0, 8080), Err(22), "bound already");
    let mut other = body;
    other.endpoint.family = if is_v6() { AF_INET } else { AF_INET6 };
    let fresh = world.socket();
    let mut message = Message::with(Op::Bind, fresh, &other);
    world.call(Some(fresh), &mut message);
    assert_eq!(message.error, 97);
    assert_eq!(message.body, [0; BODY_BYTES]);
    let port = world.bind(fresh, 0, 0).unwrap();
    assert!((32_768..61_000).contains(&port));
    let mut names = Message::new(Op::Names, fresh);
    world.call(Some(fresh), &mut names);
    assert_eq!(names.get::<Names>().local.port, port);
    assert_eq!(names.get::<Names>().remote.family, 0);
}

#[test]
fn ports_are_reusable_by_linuxs_rules() {
    let mut world = World::new();
    let first = world.listener(8080, 1);
    let second = world.socket();
    assert_eq!(world.bind(second, 0, 8080), Err(98));
    world.set_option(second, option::REUSE_ADDRESS, 1, 0).unwrap();
    assert_eq!(world.bind(second, 0, 8080), Err(98), "a listener is there");
    let info = world.accepted(first, 8080, 4000);
    world.release(first);
    assert_eq!(world.bind(second, 0, 8080), Err(98), "its connection came without SO_REUSEADDR");
    world.release(info.socket);
    world.advance(10_000);
    world.acknowledged(info.flow);
    world.peer_fin(info.flow);
    assert_eq!(world.bind(second, 0, 8080), Err(98), "TIME-WAIT as well");
    world.advance(61_000_000);
    world.bind(second, 0, 8080).unwrap();
    world.listen(second, 5).unwrap();
    // With SO_REUSEADDR on both, a server restarts over its connections.
    let info = world.accepted(second, 8080, 4001);
    world.release(second);
    let third = world.socket();
    world.set_option(third, option::REUSE_ADDRESS, 1, 0).unwrap();
    world.bind(third, 0, 8080).unwrap();
    world.listen(third, 5).unwrap();
    world.release(info.socket);
    // Options set after bind count too.
    let (a, b) = (world.socket(), world.socket());
    world.bind(a, 0, 9090).unwrap();
    world.set_option(a, option::REUSE_ADDRESS, 1, 0).unwrap();
    world.set_option(b, option::REUSE_ADDRESS, 1, 0).unwrap();
    world.bind(b, 0, 9090).unwrap();
    world.listen(a, 1).unwrap();
    assert_eq!(world.listen(b, 1), Err(98), "one of them listens");
}

#[test]
fn a_reuseport_group_shares_connections() {
    let mut world = World::new();
    let mut group = vec![];
    for _ in 0..4 {
        let socket = world.socket();
        world.set_option(socket, option::REUSE_PORT, 1, 0).unwrap();
        world.bind(socket, 0, 8080).unwrap();
        world.listen(socket, 100).unwrap();
        group.push(socket);
    }
    for from in 0..40u16 {
        world.peer(Tcp::syn(4000 + from, 8080, 5000));
        let syn_ack = world.sent().pop().unwrap();
        world.peer(Tcp::ack(4000 + from, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    }
    let counts: Vec<usize> = group
        .iter()
        .map(|s| std::iter::repeat_with(|| world.accept(*s)).take_while(Result::is_ok).count())
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 40);
    assert!(counts.iter().all(|count| *count >= 2), "{counts:?}");
    for socket in group {
        world.release(socket);
    }
    assert_eq!(world.status().listeners, 0);
}

#[test]
fn one_ephemeral_port_serves_many_peers() {
    let mut world = World::with(slowpath::Config { flows: 512, prefix: 8, ipv6_prefix: 104, ..config() });
    world.answers_arp = true;
    let mut tuples = HashSet::new();
    for peer in 0..400u32 {
        let socket = world.socket();
        assert_eq!(world.connect(socket, PEER + 1 + peer, 80), 115);
        let syn = world.sent().pop().unwrap();
        assert!(tuples.insert((syn.source, syn.to)));
    }
    // Take every port but one from the ephemeral range.
    let mut world = World::new();
    let mut sockets = vec![];
    let kept = 40_000u16;
    for port in (32_768..=60_999u16).filter(|port| *port != kept).take(4000) {
        let socket = world.socket();
        world.bind(socket, 0, port).unwrap();
        sockets.push(socket);
    }
    let socket = world.socket();
    world.connect(socket, PEER, 80);
    let syn = world.sent().pop().unwrap();
    assert!(syn.source == kept || syn.source >= 36_768, "bound ports are left alone");
}

#[test]
fn listen_connect_accept_shutdown_errors() {
    let mut world = World::new();
    let socket = world.socket();
    assert_eq!(world.accept(socket), Err(22));
    assert_eq!(world.shutdown(socket, 1, 0), Err(107));
    assert_eq!(world.info(socket).err(), Some(107));
    world.listen(socket, u32::MAX).unwrap();
    world.listen(socket, 3).unwrap();
    assert_eq!(world.connect(socket, PEER, 80), 106);
    assert_eq!(world.accept(socket), Err(11));
    assert_eq!(world.shutdown(socket, 7, 0), Err(22));
    world.shutdown(socket, 0, 0).unwrap();
    assert_eq!(world.accept(socket), Err(22), "shut down: it listens no more");
    let info = world.connected();
    assert_eq!(world.listen(info.socket, 1), Err(22));
    assert_eq!(world.bind(info.socket, 0, 7777), Err(22));
    assert_eq!(world.accept(info.socket), Err(22));
    let mut message = Message::new(Op::Move, info.socket);
    message.flags = CONTEXT + 1;
    world.call(Some(info.socket), &mut message);
    assert_eq!(message.error, 22);
    world.stack.add_context(APP, CONTEXT + 1).unwrap();
    world.call(Some(info.socket), &mut message);
    assert_eq!(
        world.events.pop().map(|(context, event)| (context, event.kind)),
        Some((CONTEXT + 1, kernel_event::MOVED))
    );
    assert_eq!(world.cold[info.flow as usize].owner.load(Relaxed), APP << 16 | (CONTEXT + 1));
    for (request, error) in [(Op::Bind, 9), (Op::FlowInfo, 9), (Op::Close, 9)] {
        for id in [None, Some(u32::MAX), Some(999_999), Some(4000)] {
            let mut message = Message::new(request, 0);
            world.call(id, &mut message);
            assert_eq!(message.error, error);
        }
    }
}

#[test]
fn events_wait_for_a_context() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.stack.remove_context(world.now, CONTEXT);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = world.sent().pop().unwrap();
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    assert!(world.events.is_empty());
    world.stack.add_context(APP, 9).unwrap();
    let mut message = Message::new(Op::Move, listener);
    message.flags = 9;
    world.call(Some(listener), &mut message);
    assert_eq!(
        world.events.iter().map(|(c, e)| (*c, e.kind)).collect::<Vec<_>>(),
        [(9, kernel_event::ACCEPTABLE)]
    );
}

#[test]
fn options_are_kept_and_checked() {
    let mut world = World::new();
    let socket = world.socket();
    for (name, value) in [
        (option::REUSE_ADDRESS, 1),
        (option::REUSE_PORT, 1),
        (option::KEEPALIVE, 1),
        (option::NODELAY, 1),
        (option::USER_TIMEOUT, 5000),
        (option::RECEIVE_BUFFER, 65_536),
        (option::CONGESTION, congestion::NEWRENO),
    ] {
        world.set_option(socket, name, value, 0).unwrap();
        assert_eq!(world.get_option(socket, name), Ok(value));
    }
    world.set_option(socket, option::RECEIVE_BUFFER, u32::MAX, 0).unwrap();
    assert_eq!(world.get_option(socket, option::RECEIVE_BUFFER), Ok(abi::pool::BUFFER_BYTES_MAX));
    world.set_option(socket, option::RECEIVE_BUFFER, 0, 0).unwrap();
    assert_eq!(world.get_option(socket, option::RECEIVE_BUFFER), Ok(4096));
    assert_eq!(world.set_option(socket, option::USER_TIMEOUT, u32::MAX, 0), Err(22));
    for unknown in [0, 99, u32::MAX] {
        assert_eq!(world.set_option(socket, unknown, 1, 0), Err(92));
        assert_eq!(world.get_option(socket, unknown), Err(92));
    }
    // A small buffer shows in the SYN.
    world.connect(socket, PEER, 80);
    let syn = world.sent().pop().unwrap();
    assert_eq!((syn.window, syn.option(3)), (4096, Some(vec![0])));
}

#[test]
fn records_run_out_cleanly_and_are_reused() {
    let mut world = World::with(slowpath::Config { flows: 8192, ..config() });
    let listener = world.listener(8080, 4096);
    // 4096 records, 8192 flows.
    let mut count = 0u32;
    'all: for peer in 0..3u32 {
        for from in 1..2000u16 {
            world.peer(Tcp { from: PEER + peer, ..Tcp::syn(from, 8080, 5000) });
            let Some(syn_ack) = world.sent().pop() else {
                break 'all;
            };
            world.peer(Tcp { from: PEER + peer, ..Tcp::ack(from, 8080, 5001, syn_ack.seq.wrapping_add(1)) });
            if world.accept(listener).is_err() {
                break 'all;
            }
            count += 1;
        }
    }
    assert_eq!(count, 4096);
    let socket = world.socket();
    assert_eq!(world.connect(socket, PEER, 80), 105);
    assert!(world.events.iter().any(|(_, event)| event.kind == kernel_event::POOL_LOW && event.error == 9));
    world.stack.set_map_records(APP, 8192).unwrap();
    assert_eq!(world.connect(socket, PEER, 80), 115);
    let flows: HashSet<u32> =
        world.cold.iter().filter(|c| c.state.load(Relaxed) != 0).map(|c| c.buffers.load(Relaxed)).collect();
    assert_eq!(flows.len(), 4097, "every record once");
}

#[test]
fn tables_are_listed_for_tasctl() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.received(info.flow, 10, false);
    world.write(info.flow, 30);
    let mut message = Message::new(Op::FlowEntry, 0);
    world.call(None, &mut message);
    let entry: FlowEntry = message.get();
    assert_eq!((entry.id, entry.pid, entry.receive_queue, entry.send_queue), (info.flow, 4242, 10, 30));
    assert_eq!((entry.rx_bytes, entry.tx_bytes, entry.options, entry.mss_bytes), (10, 0, 7, 1448 - extra()));
    let mut message = Message::new(Op::FlowEntry, info.flow + 1);
    world.call(None, &mut message);
    assert_eq!(message.error, 2);
    let mut message = Message::new(Op::ListenEntry, 0);
    world.call(None, &mut message);
    let entry: FlowEntry = message.get();
    assert_eq!((entry.id, entry.local.port, entry.send_queue), (listener, 8080, 5));
    let mut message = Message::new(Op::ApplicationEntry, 0);
    world.call(None, &mut message);
    let entry: ApplicationEntry = message.get();
    assert_eq!((entry.id, entry.flows, entry.sockets, entry.contexts), (APP, 1, 2, 1));
    let mut message = Message::new(Op::SlowCounters, 0);
    world.call(None, &mut message);
    let values = message.get::<SlowCounters>().values;
    let place = counters::NAMES.iter().position(|name| *name == "passive_opens").unwrap();
    assert_eq!(values[place], 1);
    // The next page begins where the message says; behind the last is nothing.
    let mut message = Message::new(Op::SlowCounters, place as u32);
    world.call(None, &mut message);
    assert_eq!(message.get::<SlowCounters>().values[0], 1);
    let mut message = Message::new(Op::SlowCounters, u32::MAX);
    world.call(None, &mut message);
    assert_eq!(message.get::<SlowCounters>().values, [0; counters::PAGE]);
    let mut message = Message::new(Op::ResetFlow, info.flow);
    let plain = Caller::application(APP);
    world.stack.handle_request(world.now, &plain, None, &mut message);
    assert_eq!(message.error, 1);
    let mut message = Message::new(Op::Grow, 0);
    assert_eq!(world.call(None, &mut message), Outcome::NotForStack);
}

/// (IPv6's own options are not offered: `docs/limits.md`.)
#[test]
fn tos_and_ttl_are_in_every_segment_of_a_connection() {
    // DiffServ field and time to live of the segments sent; their checksums are right.
    fn chosen(world: &mut World) -> Vec<(u8, u8)> {
        let tcp = world.frames.iter().filter(|frame| is_tcp(frame));
        let of = |f: &Vec<u8>| if is_v6() { (f[14] << 4 | f[15] >> 4, f[21]) } else { (f[15], f[22]) };
        let frames: Vec<_> = tcp.map(of).collect();
        assert_eq!(world.sent().len(), frames.len());
        frames
    }
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    assert_eq!(world.set_option(listener, option::TRAFFIC_CLASS, 0xbb, 0), Ok(()));
    assert_eq!(world.set_option(listener, option::HOP_LIMIT, 7, 0), Ok(()));
    assert_eq!(world.set_option(listener, option::HOP_LIMIT, 256, 0), Err(22));
    assert_eq!(world.get_option(listener, option::TRAFFIC_CLASS), Ok(0xb8), "without the ECN bits");
    world.sent();
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = Tcp::parse(world.frames.last().unwrap());
    assert_eq!(chosen(&mut world), [(0xb8, 7)], "SYN-ACK");
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    let info = world.accept(listener).unwrap();
    let service = &world.cold[info.flow as usize].service;
    assert_eq!(service.load(Relaxed), 0xb8 | 7 << 8, "inherited");
    assert_eq!(world.set_option(info.socket, option::TRAFFIC_CLASS, 0x20, 0), Ok(()));
    assert_eq!(service.load(Relaxed), 0x20 | 7 << 8, "followed");
    // Only that connection's.
    assert_eq!(world.get_option(listener, option::TRAFFIC_CLASS), Ok(0xb8));

    let mut world = World::new();
    world.sent();
    let socket = world.socket();
    assert_eq!(world.set_option(socket, option::TRAFFIC_CLASS, 0x48, 0), Ok(()));
    world.connect(socket, PEER, 80);
    assert_eq!(chosen(&mut world), [(0x48, 64)], "SYN");
}
