// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What IPv6 alone has: Neighbor Discovery (RFC 4861), detection of duplicates, both families on one socket, and
//! whose packets are refused.

mod common;

use abi::{
    flow::{address_fold, hot_flags, slot_state},
    limits::IPV6_MTU_MIN,
    message::*,
};
use common::{frames::*, *};
use slowpath::{counters::Counter, Config};
use std::sync::atomic::Ordering::Relaxed;

const GLOBAL: [u32; 4] = [0x2001_0db8, 0, 0, 0x11];
const NEIGHBOR: [u32; 4] = [0x2001_0db8, 0, 0, 0x22];
const LINK_LOCAL: [u32; 4] = [0xfe80_0000, 0, 0, 0x11];
const ALL_NODES: [u32; 4] = [0xff02_0000, 0, 0, 1];
/// The group of both addresses of ours.
const GROUP: [u32; 4] = [0xff02_0000, 0, 1, 0xff00_0011];
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

fn dual() -> Config {
    Config { ipv6: GLOBAL, ipv6_prefix: 64, ipv6_link_local: LINK_LOCAL, ..config() }
}

fn bytes(words: [u32; 4]) -> [u8; 16] {
    let mut all = [0; 16];
    for (bytes, word) in all.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    all
}

/// A message about `target`, with a MAC address if `link` says so.
fn discovery(
    kind: u8,
    flags: u8,
    from: [u32; 4],
    to: [u32; 4],
    target: [u32; 4],
    link: Option<u64>,
) -> Vec<u8> {
    let mut rest = vec![flags, 0, 0, 0];
    rest.extend(bytes(target));
    if let Some(mac) = link {
        rest.extend([if kind == SOLICITATION { 1 } else { 2 }, 1]);
        rest.extend(&mac.to_be_bytes()[2..]);
    }
    icmpv6(&bytes(from), &bytes(to), 255, kind, 0, &rest)
}

/// Kind, flags, destination MAC, source, destination and target of a message of ours.
fn said(frame: &[u8]) -> (u8, u8, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) {
    assert_eq!((&frame[12..14], frame[20], frame[21]), (&[0x86, 0xdd][..], 58, 255), "hop limit");
    let part = |from: usize, to: usize| frame[from..to].to_vec();
    (frame[54], frame[58], part(0, 6), part(22, 38), part(38, 54), part(62, 78))
}

fn socket(world: &mut World, v6only: bool) -> u32 {
    let body = Socket { family: AF_INET6.into(), context: CONTEXT, ..Socket::default() };
    let mut message = Message::with(Op::Socket, 0, &body);
    world.call(None, &mut message);
    let socket = message.get::<Socket>().socket;
    world.set_option(socket, option::V6ONLY, v6only.into(), 0).unwrap();
    socket
}

fn bind(world: &mut World, socket: u32, endpoint: Endpoint) -> Result<Endpoint, u32> {
    let mut message = Message::with(Op::Bind, socket, &Name { endpoint, reserved: 0 });
    world.call(Some(socket), &mut message);
    result(&message).map(|()| message.get::<Name>().endpoint)
}

fn connect(world: &mut World, socket: u32, remote: Endpoint) -> u32 {
    let body = Connect { remote, context: CONTEXT, ..Connect::default() };
    let mut message = Message::with(Op::Connect, socket, &body);
    world.call(Some(socket), &mut message);
    message.error
}

/// A SYN over IPv6 to port `port`.
fn syn(from: [u32; 4], to: [u32; 4], port: u16) -> Vec<u8> {
    let segment = Tcp::syn(4000, port, 5000).frame()[34..].to_vec();
    let mut segment = segment;
    segment[16..18].fill(0);
    // The checksum of TCP is made as that of ICMPv6, but for the protocol and its place.
    let sum =
        |bytes: &[u8]| bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let mut total = sum(&bytes(from)) + sum(&bytes(to)) + 6 + segment.len() as u32 + sum(&segment);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    segment[16..18].copy_from_slice(&(!(total as u16)).to_be_bytes());
    ipv6(&bytes(from), &bytes(to), 6, 64, &segment)
}

fn receive(world: &mut World, frame: Vec<u8>) -> Vec<Vec<u8>> {
    world.frames.clear();
    world.receive(frame);
    world.pump();
    world.frames.clone()
}

#[test]
fn solicitations_for_our_addresses_are_answered() {
    for (target, from) in [(GLOBAL, NEIGHBOR), (LINK_LOCAL, [0xfe80_0000, 0, 0, 0x22])] {
        let mut world = World::with(dual());
        let asked = discovery(SOLICITATION, 0, from, GROUP, target, Some(PEER_MAC));
        let sent = receive(&mut world, asked);
        let [answer] = &sent[..] else { panic!("{sent:?}") };
        let mac = PEER_MAC.to_be_bytes()[2..].to_vec();
        let expected = (
            ADVERTISEMENT,
            SOLICITED | OVERRIDE,
            mac,
            bytes(target).to_vec(),
            bytes(from).to_vec(),
            bytes(target).to_vec(),
        );
        assert_eq!(said(answer), expected);
        assert_eq!(answer[78..86], [&[2, 1][..], &LOCAL_MAC.to_be_bytes()[2..]].concat());
        // Whoever asks is known from then on.
        assert_eq!(world.adjacencies[0].mac.load(Relaxed), PEER_MAC | 1 << 63);
        assert_eq!(world.adjacencies[0].next_hop.load(Relaxed), address_fold(from));
    }
}

#[test]
fn what_did_not_come_from_the_link_is_no_discovery() {
    let good = discovery(SOLICITATION, 0, NEIGHBOR, GROUP, GLOBAL, Some(PEER_MAC));
    let routed = icmpv6(&bytes(NEIGHBOR), &bytes(GROUP), 254, SOLICITATION, 0, &good[58..]);
    let wrong_code = icmpv6(&bytes(NEIGHBOR), &bytes(GROUP), 255, SOLICITATION, 1, &good[58..]);
    let mut wrong_sum = good.clone();
    wrong_sum[56] ^= 1;
    let elsewhere = discovery(SOLICITATION, 0, NEIGHBOR, GROUP, NEIGHBOR, Some(PEER_MAC));
    let far = discovery(SOLICITATION, 0, [0x2001_0db9, 0, 0, 1], GROUP, GLOBAL, Some(PEER_MAC));
    let from_group = discovery(SOLICITATION, 0, ALL_NODES, GROUP, GLOBAL, Some(PEER_MAC));
    let probe_with_mac = discovery(SOLICITATION, 0, [0; 4], GROUP, GLOBAL, Some(PEER_MAC));
    let probe_to_us = discovery(SOLICITATION, 0, [0; 4], GLOBAL, GLOBAL, None);
    for (number, frame) in
        [routed, wrong_code, wrong_sum, elsewhere, far, from_group, probe_with_mac, probe_to_us]
            .into_iter()
            .enumerate()
    {
        let mut world = World::with(dual());
        assert!(receive(&mut world, frame).is_empty(), "{number}");
        assert_eq!(world.adjacencies[0].mac.load(Relaxed), 0, "{number}");
    }
    let mut world = World::with(dual());
    assert_eq!(receive(&mut world, good).len(), 1);
    // From a group's MAC address it is answered, but not believed.
    let group = discovery(SOLICITATION, 0, NEIGHBOR, GROUP, GLOBAL, Some(0x3333_0000_0001));
    let mut world = World::with(dual());
    assert_eq!(receive(&mut world, group).len(), 1);
    assert_eq!(world.adjacencies[0].mac.load(Relaxed), 0);
}

#[test]
fn advertisements_change_what_is_asked_for_and_nothing_else() {
    let mut world = World::with(dual());
    world.answers_arp = false;
    let told = |flags, mac| discovery(ADVERTISEMENT, flags, NEIGHBOR, GLOBAL, NEIGHBOR, mac);
    receive(&mut world, told(SOLICITED | OVERRIDE, Some(PEER_MAC)));
    assert_eq!(world.adjacencies[0].mac.load(Relaxed), 0, "nobody asked");
    let socket = socket(&mut world, false);
    world.frames.clear();
    assert_eq!(connect(&mut world, socket, Endpoint::ipv6(NEIGHBOR, 80, 0)), 115);
    let (kind, flags, mac, source, destination, target) = said(&world.frames[0]);
    assert_eq!((kind, flags, mac), (SOLICITATION, 0, vec![0x33, 0x33, 0xff, 0, 0, 0x22]));
    let group = bytes([0xff02_0000, 0, 1, 0xff00_0022]).to_vec();
    assert_eq!((source, destination, target), (bytes(GLOBAL).to_vec(), group, bytes(NEIGHBOR).to_vec()));
    let mac_of = |world: &World| world.adjacencies[0].mac.load(Relaxed) & !(1 << 63);
    receive(&mut world, told(SOLICITED, None));
    assert_eq!(mac_of(&world), 0, "no address in it");
    let sent = receive(&mut world, told(SOLICITED, Some(PEER_MAC)));
    assert_eq!(mac_of(&world), PEER_MAC);
    assert_eq!((sent.len(), sent[0][20]), (1, 6), "the SYN that waited");
    // Another address without OVERRIDE: the known one is asked whether it still is there.
    let sent = receive(&mut world, told(SOLICITED, Some(77)));
    assert_eq!((mac_of(&world), said(&sent[0]).2), (PEER_MAC, PEER_MAC.to_be_bytes()[2..].to_vec()));
    // Its answer may come without the address; one that everybody gets is not solicited.
    receive(&mut world, discovery(ADVERTISEMENT, SOLICITED, NEIGHBOR, ALL_NODES, NEIGHBOR, Some(78)));
    receive(&mut world, told(SOLICITED, None));
    world.advance(5_000_000);
    assert_eq!(mac_of(&world), PEER_MAC);
    receive(&mut world, told(OVERRIDE, Some(79)));
    assert_eq!(mac_of(&world), 79, "a failover");
    receive(&mut world, told(OVERRIDE | SOLICITED, Some(0x3333_0000_0001)));
    assert_eq!(mac_of(&world), 79, "a group");
}

#[test]
fn a_silent_neighbour_is_asked_five_times() {
    let mut world = World::with(dual());
    world.answers_arp = false;
    let socket = socket(&mut world, false);
    connect(&mut world, socket, Endpoint::ipv6(NEIGHBOR, 80, 0));
    world.advance(20_000_000);
    assert_eq!(world.frames.iter().filter(|frame| asks_for(frame) == Some(0x22)).count(), 5);
    assert_eq!(world.get_option(socket, option::ERROR), Ok(113));
    assert_eq!(world.stack.counter(Counter::NeighborsAbsent), 1);
}

/// RFC 4862 §5.4: asked at the start; an objection ends the use of the address, but not of the other.
#[test]
fn duplicates_of_our_addresses_are_detected() {
    let mut world = World::with(dual());
    let config = *world.stack.config();
    world.stack.fast_path_detached(world.now);
    world.frames.clear();
    world.stack.fast_path_attached(world.now, &config, 1).unwrap();
    world.pump();
    // After the report of the groups (`membership.rs`).
    let probes: Vec<_> = world.frames[1..].iter().map(|frame| said(frame)).collect();
    let probe = |target| {
        let mac = vec![0x33, 0x33, 0xff, 0, 0, 0x11];
        (SOLICITATION, 0, mac, vec![0; 16], bytes(GROUP).to_vec(), bytes(target).to_vec())
    };
    assert_eq!(probes, [probe(LINK_LOCAL), probe(GLOBAL)]);
    // Our own, given back by a switch, is no objection.
    let mut own = world.frames[2].clone();
    own[6..12].copy_from_slice(&LOCAL_MAC.to_be_bytes()[2..]);
    assert!(receive(&mut world, own).is_empty());
    let asked = discovery(SOLICITATION, 0, NEIGHBOR, GROUP, GLOBAL, Some(PEER_MAC));
    assert_eq!(receive(&mut world, asked.clone()).len(), 1, "in use meanwhile");
    receive(&mut world, discovery(ADVERTISEMENT, OVERRIDE, GLOBAL, ALL_NODES, GLOBAL, Some(PEER_MAC)));
    assert_eq!(world.stack.counter(Counter::DuplicateAddresses), 1);
    assert!(receive(&mut world, asked.clone()).is_empty(), "not ours any more");
    let socket = socket(&mut world, false);
    assert_eq!(connect(&mut world, socket, Endpoint::ipv6(NEIGHBOR, 80, 0)), 99);
    assert_eq!(connect(&mut world, socket, Endpoint::ipv6([0xfe80_0000, 0, 0, 0x22], 80, 2)), 115);
    // Later than a second after the start it is the other's fault: it is answered, and counted.
    let mut world = World::with(dual());
    world.advance(1_000_001);
    let sent = receive(&mut world, discovery(SOLICITATION, 0, [0; 4], GROUP, GLOBAL, None));
    let (kind, flags, mac, _, destination, _) = said(&sent[0]);
    assert_eq!((kind, flags, mac), (ADVERTISEMENT, OVERRIDE, vec![0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(destination, bytes(ALL_NODES));
    receive(&mut world, discovery(ADVERTISEMENT, OVERRIDE, GLOBAL, ALL_NODES, GLOBAL, Some(PEER_MAC)));
    assert_eq!(world.stack.counter(Counter::DuplicateAddresses), 2);
    assert_eq!(receive(&mut world, asked).len(), 1);
}

/// Router advertisements and redirects leave routes as they are configured.
#[test]
fn routers_do_not_change_routes() {
    let router = [0xfe80_0000, 0, 0, 0x99];
    let mut world = World::with(dual());
    let mut body = vec![64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    receive(&mut world, icmpv6(&bytes(router), &bytes(ALL_NODES), 255, 134, 0, &body));
    body = [&[0; 4][..], &bytes(router), &bytes([0x2001_0db9, 0, 0, 1])].concat();
    receive(&mut world, icmpv6(&bytes(router), &bytes(GLOBAL), 255, 137, 0, &body));
    let socket = socket(&mut world, false);
    let far = Endpoint::ipv6([0x2001_0db9, 0, 0, 1], 80, 0);
    assert_eq!(connect(&mut world, socket, far), 101);
    world.stack.add_route(&Route::ipv6([0x2001_0000, 0, 0, 0], 16, router)).unwrap();
    assert_eq!(connect(&mut world, socket, far), 115);
    assert_eq!(world.adjacencies[0].next_hop.load(Relaxed), address_fold(router));
}

#[test]
fn routes_stay_within_their_family() {
    let mut world = World::with(dual());
    for wrong in [
        Route::ipv6([0; 4], 0, [0x2001_0db9, 0, 0, 1]),
        Route::ipv6([0; 4], 0, GLOBAL),
        Route::ipv6([0; 4], 0, ALL_NODES),
        Route::ipv6([0; 4], 129, NEIGHBOR),
        Route::ipv6([0; 4], 0, [0, 0, 0xffff, PEER]),
        Route::ipv6([0, 0, 0xffff, 0], 96, NEIGHBOR),
        Route { family: 7, ..Route::ipv4(0, 0, PEER) },
    ] {
        assert!(world.stack.add_route(&wrong).is_err(), "{wrong:?}");
    }
    world.stack.add_route(&Route::ipv6([0; 4], 0, NEIGHBOR)).unwrap();
    let four = world.socket();
    assert_eq!(world.connect(four, 0x0808_0808, 80), 101);
    let mut plain = World::new();
    assert!(plain.stack.add_route(&Route::ipv6([0; 4], 0, NEIGHBOR)).is_err(), "no IPv6");
}

/// The local address suits the peer (RFC 6724), or is the one the socket is bound to.
#[test]
fn the_source_address_suits_the_peer() {
    let near = [0xfe80_0000, 0, 0, 0x22];
    for (bound, remote, source) in [
        (None, NEIGHBOR, GLOBAL),
        (None, near, LINK_LOCAL),
        (Some(LINK_LOCAL), NEIGHBOR, LINK_LOCAL),
        (Some(GLOBAL), near, GLOBAL),
    ] {
        let mut world = World::with(dual());
        let socket = socket(&mut world, false);
        if let Some(bound) = bound {
            bind(&mut world, socket, Endpoint::ipv6(bound, 5555, 2)).unwrap();
        }
        assert_eq!(connect(&mut world, socket, Endpoint::ipv6(remote, 80, 2)), 115);
        let syn = world.frames.iter().find(|frame| frame[20] == 6).unwrap();
        assert_eq!((&syn[22..38], &syn[38..54]), (&bytes(source)[..], &bytes(remote)[..]));
        let mut names = Message::new(Op::Names, socket);
        world.call(Some(socket), &mut names);
        let scope = if source == LINK_LOCAL { 2 } else { 0 };
        assert_eq!((names.get::<Names>().local.address, names.get::<Names>().local.scope), (source, scope));
    }
}

#[test]
fn addresses_of_no_single_host_are_refused() {
    let mut world = World::with(dual());
    let socket = socket(&mut world, false);
    bind(&mut world, socket, Endpoint::ipv6([0; 4], 8080, 0)).unwrap();
    world.listen(socket, 5).unwrap();
    for address in [[0; 4], [0, 0, 0, 1], ALL_NODES, GLOBAL, LINK_LOCAL, [0, 0, 0xffff, PEER]] {
        assert!(receive(&mut world, syn(address, GLOBAL, 8080)).is_empty(), "{address:x?}");
        assert!(
            receive(&mut world, syn(NEIGHBOR, address, 8080)).is_empty()
                || address == GLOBAL
                || address == LINK_LOCAL
        );
        let client = self::socket(&mut world, false);
        if address != [0, 0, 0xffff, PEER] {
            assert_eq!(connect(&mut world, client, Endpoint::ipv6(address, 80, 0)), 101, "{address:x?}");
        }
    }
    // To a group on the wire, to us in the header.
    let mut frame = syn([0x2001_0db8, 0, 0, 0x33], GLOBAL, 8080);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert!(receive(&mut world, frame.clone()).is_empty());
    frame[..6].copy_from_slice(&LOCAL_MAC.to_be_bytes()[2..]);
    assert!(!receive(&mut world, frame).is_empty());
}

#[test]
fn echo_is_answered_from_the_address_that_was_asked() {
    for to in [GLOBAL, LINK_LOCAL] {
        let mut world = World::with(dual());
        let asked = icmpv6(&bytes(NEIGHBOR), &bytes(to), 64, 128, 0, &[1, 2, 0, 1, 9, 9, 9]);
        let sent = receive(&mut world, asked);
        let reply = &sent[0];
        let expected = icmpv6(&bytes(to), &bytes(NEIGHBOR), 64, 129, 0, &[1, 2, 0, 1, 9, 9, 9]);
        assert_eq!(reply[14..expected.len()], expected[14..]);
        assert_eq!(reply[..6], PEER_MAC.to_be_bytes()[2..]);
    }
    let mut world = World::with(dual());
    let to_group = icmpv6(&bytes(NEIGHBOR), &bytes(ALL_NODES), 64, 128, 0, &[1, 2, 0, 1]);
    assert!(receive(&mut world, to_group).is_empty());
}

/// Without IPV6_V6ONLY a listener on `::` serves both families, and sees IPv4 peers in mapped form.
#[test]
fn one_listener_serves_both_families() {
    for v6only in [false, true] {
        let mut world = World::with(dual());
        let listener = socket(&mut world, v6only);
        let name = bind(&mut world, listener, Endpoint::ipv6([0; 4], 8080, 0)).unwrap();
        assert_eq!(name, Endpoint::ipv6([0; 4], 8080, 0));
        world.listen(listener, 5).unwrap();
        world.peer(Tcp::syn(4000, 8080, 5000));
        let answer = world.sent().pop().unwrap();
        if v6only {
            assert!(answer.has(RST));
        } else {
            world.peer(Tcp::ack(4000, 8080, 5001, answer.seq.wrapping_add(1)));
            let info = world.accept(listener).unwrap();
            assert_eq!(info.local, Endpoint::ipv4_mapped(LOCAL, 8080));
            assert_eq!(info.remote, Endpoint::ipv4_mapped(PEER, 4000));
            let cold = &world.cold[info.flow as usize];
            assert_eq!((cold.ip_version.load(Relaxed), cold.local_address[0].load(Relaxed)), (4, LOCAL));
            assert_eq!(world.hot[info.flow as usize].flags.load(Relaxed) & hot_flags::IPV6, 0);
        }
        let sent = receive(&mut world, syn(NEIGHBOR, GLOBAL, 8080));
        assert_eq!(sent.iter().filter(|frame| frame[20] == 6 && frame[67] == SYN | ACK).count(), 1);
    }
}

#[test]
fn an_ipv6_flow_is_described_in_full() {
    let mut world = World::with(dual());
    let socket = socket(&mut world, false);
    connect(&mut world, socket, Endpoint::ipv6(NEIGHBOR, 80, 0));
    let cold = &world.cold[0];
    let load = |words: &[std::sync::atomic::AtomicU32; 4]| {
        [0, 1, 2, 3].map(|index: usize| words[index].load(Relaxed))
    };
    assert_eq!((load(&cold.local_address), load(&cold.remote_address)), (GLOBAL, NEIGHBOR));
    assert_eq!((cold.ip_version.load(Relaxed), cold.state.load(Relaxed)), (6, slot_state::RESERVED));
    let mut message = Message::new(Op::FlowEntry, 0);
    world.call(None, &mut message);
    let entry: FlowEntry = message.get();
    assert_eq!((entry.local.as_ipv6(), entry.remote), (Some(GLOBAL), Endpoint::ipv6(NEIGHBOR, 80, 0)));
    let status = world.status();
    assert_eq!((status.ipv6, status.ipv6_prefix, status.ipv6_link_local), (GLOBAL, 64, LINK_LOCAL));
}

/// Linux's errors for names of the other family, and for addresses that are not here.
#[test]
fn names_of_both_families() {
    let mut world = World::with(dual());
    let six = socket(&mut world, false);
    assert_eq!(bind(&mut world, six, Endpoint::ipv4(LOCAL, 80)), Err(97));
    assert_eq!(bind(&mut world, six, Endpoint::ipv6(NEIGHBOR, 8080, 0)), Err(99));
    assert_eq!(bind(&mut world, six, Endpoint::ipv4_mapped(PEER, 8080)), Err(99));
    let mapped = Endpoint::ipv4_mapped(LOCAL, 8080);
    assert_eq!(bind(&mut world, six, mapped), Ok(mapped));
    assert_eq!(world.set_option(six, option::V6ONLY, 1, 0), Err(22), "bound");
    assert_eq!(connect(&mut world, six, Endpoint::ipv6(NEIGHBOR, 80, 0)), 99, "from an IPv4 address");
    assert_eq!(connect(&mut world, six, Endpoint::ipv4_mapped(PEER, 80)), 115);
    let only = socket(&mut world, true);
    assert_eq!(world.get_option(only, option::V6ONLY), Ok(1));
    assert_eq!(bind(&mut world, only, Endpoint::ipv4_mapped(LOCAL, 8081)), Err(22));
    assert_eq!(connect(&mut world, only, Endpoint::ipv4_mapped(PEER, 80)), 101);
    let four = world.socket();
    assert_eq!(world.set_option(four, option::V6ONLY, 1, 0), Err(92));
    assert_eq!(connect(&mut world, four, Endpoint::ipv6(NEIGHBOR, 80, 0)), 97);
    let mut plain = World::new();
    let socket = socket(&mut plain, false);
    assert_eq!(connect(&mut plain, socket, Endpoint::ipv6(NEIGHBOR, 80, 0)), 101, "an instance without IPv6");
    assert_eq!(connect(&mut plain, socket, Endpoint::ipv4_mapped(PEER, 80)), 115);
}

/// Ports conflict as Linux's do: where both sockets take packets of one family.
#[test]
fn ports_of_both_families() {
    let any = |port| Endpoint::ipv6([0; 4], port, 0);
    let mut world = World::with(dual());
    let four = world.listener(8080, 5);
    let dual_stack = socket(&mut world, false);
    assert_eq!(bind(&mut world, dual_stack, any(8080)), Err(98));
    let only = socket(&mut world, true);
    bind(&mut world, only, any(8080)).unwrap();
    world.listen(only, 5).unwrap();
    world.release(four);
    assert_eq!(bind(&mut world, dual_stack, any(8080)), Err(98), "the other listens still");
    world.release(only);
    bind(&mut world, dual_stack, any(8080)).unwrap();
    world.listen(dual_stack, 5).unwrap();
    let four = world.socket();
    assert_eq!(world.bind(four, 0, 8080), Err(98));
    let only = socket(&mut world, true);
    assert_eq!(bind(&mut world, only, any(8080)), Err(98));
}

/// What is bound at the global address leaves the port free at that of the link, and each gets its own SYNs.
#[test]
fn ports_of_two_addresses() {
    let mut world = World::with(dual());
    let at = [(GLOBAL, 0), (LINK_LOCAL, 1)].map(|(address, scope)| Endpoint::ipv6(address, 8080, scope));
    let listeners = at.map(|name| {
        let one = socket(&mut world, true);
        bind(&mut world, one, name).unwrap();
        world.listen(one, 5).unwrap();
        one
    });
    let any = socket(&mut world, true);
    assert_eq!(bind(&mut world, any, Endpoint::ipv6([0; 4], 8080, 0)), Err(98), "both are taken");
    for name in at {
        let again = socket(&mut world, true);
        assert_eq!(bind(&mut world, again, name), Err(98));
    }
    // Whose port is released is free at its address, and only there.
    world.release(listeners[0]);
    assert_eq!(bind(&mut world, any, Endpoint::ipv6([0; 4], 8080, 0)), Err(98), "one is taken still");
    let sent = receive(&mut world, syn(NEIGHBOR, GLOBAL, 8080));
    assert!(!sent.iter().any(|frame| frame[20] == 6 && frame[67] & SYN == SYN), "not the other's");
    let global = socket(&mut world, true);
    bind(&mut world, global, at[0]).unwrap();
    world.listen(global, 5).unwrap();
    let sent = receive(&mut world, syn(NEIGHBOR, GLOBAL, 8080));
    assert!(sent.iter().any(|frame| frame[20] == 6 && frame[67] & (SYN | ACK) == SYN | ACK));
}

/// Fragments are kept for the rest of their datagram (`fragments.rs`); extension headers are taken off before the fast path sees a packet.
#[test]
fn fragments_and_extension_headers() {
    let mut world = World::with(dual());
    let listener = socket(&mut world, false);
    bind(&mut world, listener, Endpoint::ipv6([0; 4], 8080, 0)).unwrap();
    world.listen(listener, 5).unwrap();
    let plain = syn(NEIGHBOR, GLOBAL, 8080);
    let with = |extension: &[u8], kind: u8| {
        let payload = [extension, &plain[54..]].concat();
        ipv6(&bytes(NEIGHBOR), &bytes(GLOBAL), kind, 64, &payload)
    };
    assert!(receive(&mut world, with(&[6, 0, 0, 1, 0, 0, 0, 7], 44)).is_empty());
    assert_eq!(world.stack.counter(Counter::Fragments), 1);
    let hop_by_hop = with(&[6, 0, 1, 4, 0, 0, 0, 0], 0);
    let sent = receive(&mut world, hop_by_hop);
    assert!(sent.iter().any(|frame| frame[20] == 6 && frame[67] & (SYN | ACK) == SYN | ACK));
}

#[test]
fn attach_checks_the_addresses() {
    let good = AttachFast {
        cores: 1,
        ipv4: LOCAL,
        prefix: 24,
        ipv6: GLOBAL,
        ipv6_prefix: 64,
        mac: 0x0211_2233_4455,
        ..AttachFast::default()
    };
    let config = Config::from_attach(&good, [0; 4]).unwrap();
    assert_eq!(config.ipv6_link_local, [0xfe80_0000, 0, 0x0011_22ff, 0xfe33_4455], "EUI-64");
    for bad in [
        AttachFast { ipv6: LINK_LOCAL, ..good },
        AttachFast { ipv6: ALL_NODES, ..good },
        AttachFast { ipv6: [0, 0, 0, 1], ..good },
        AttachFast { ipv6: [0, 0, 0xffff, 9], ..good },
        AttachFast { ipv6_prefix: 129, ..good },
        AttachFast { ipv6_link_local: NEIGHBOR, ..good },
        AttachFast { mtu_bytes: IPV6_MTU_MIN - 1, ..good },
    ] {
        assert!(Config::from_attach(&bad, [0; 4]).is_err(), "{bad:?}");
    }
    let without = AttachFast { ipv6: [0; 4], mtu_bytes: 576, ..good };
    assert_eq!(Config::from_attach(&without, [0; 4]).unwrap().ipv6_link_local, [0; 4]);
    // Flows live at their addresses: another fast path must bring the same.
    let mut world = World::with(dual());
    world.stack.fast_path_detached(world.now);
    let other = Config { ipv6: NEIGHBOR, ..dual() };
    assert!(world.stack.fast_path_attached(world.now, &other, 1).is_err());
}
