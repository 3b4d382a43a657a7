// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Multicast Listener Discovery (RFC 3810): what a switch that snoops must hear, and what it asks.

mod common;

use common::{frames::*, *};
use slowpath::{counters::Counter, Config};

const GLOBAL: [u32; 4] = [0x2001_0db8, 0, 0, 0x11];
const LINK_LOCAL: [u32; 4] = [0xfe80_0000, 0, 0, 0x99];
const ROUTER: [u32; 4] = [0xfe80_0000, 0, 0, 1];
const ALL_NODES: [u32; 4] = [0xff02_0000, 0, 0, 1];
const GROUPS: [[u32; 4]; 2] = [[0xff02_0000, 0, 1, 0xff00_0099], [0xff02_0000, 0, 1, 0xff00_0011]];
const QUERY: u8 = 130;
/// Types of records.
const LISTENING: u8 = 2;
const JOINED: u8 = 4;

fn dual() -> Config {
    Config { ipv6: GLOBAL, ipv6_prefix: 64, ipv6_link_local: LINK_LOCAL, ..config() }
}

fn bytes(words: [u32; 4]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A query behind hop-by-hop options.
fn query(from: [u32; 4], to: [u32; 4], hop_limit: u8, options: [u8; 6], body: &[u8]) -> Vec<u8> {
    let plain = icmpv6(&bytes(from), &bytes(to), hop_limit, QUERY, 0, body);
    let mut payload = vec![58, 0];
    payload.extend(options);
    payload.extend(&plain[54..]);
    ipv6(&bytes(from), &bytes(to), 0, hop_limit, &payload)
}

const ALERT: [u8; 6] = [5, 2, 0, 0, 1, 0];

fn v2_body(within_ms: u16, group: [u32; 4]) -> Vec<u8> {
    [&within_ms.to_be_bytes()[..], &[0, 0], &bytes(group), &[2, 125, 0, 0]].concat()
}

fn v1_body(within_ms: u16, group: [u32; 4]) -> Vec<u8> {
    [&within_ms.to_be_bytes()[..], &[0, 0], &bytes(group)].concat()
}

/// Reports among the frames sent: source, destination and the message.
fn reports(world: &mut World) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    world.pump();
    let found =
        world.frames.iter().filter(|frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 0).map(|frame| {
            assert_eq!(
                (frame[21], &frame[54..62]),
                (1, &[58, 0, 5, 2, 0, 0, 1, 0][..]),
                "hop limit, router alert"
            );
            assert_eq!(frame[..2], [0x33, 0x33]);
            assert_eq!(frame[2..6], frame[50..54]);
            let end = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
            assert_eq!(sum(&frame[22..54], &frame[62..end]), 0xffff, "checksum");
            (frame[22..38].to_vec(), frame[38..54].to_vec(), frame[62..end].to_vec())
        });
    let found = found.collect();
    world.frames.clear();
    found
}

/// The ones' complement sum of an ICMPv6 message with its pseudo header.
fn sum(addresses: &[u8], message: &[u8]) -> u32 {
    let words =
        |bytes: &[u8]| bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let mut sum = words(addresses) + words(message) + message.len() as u32 + 58;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// A report of version 2 about both groups.
fn about_both(record: u8) -> Vec<u8> {
    let mut message = vec![143, 0, 0, 0, 0, 0, 0, 2];
    for group in GROUPS {
        message.extend([record, 0, 0, 0]);
        message.extend(bytes(group));
    }
    message
}

/// Without the checksum.
fn plain(mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    message
}

fn attached() -> World {
    let mut world = World::with(dual());
    let config = *world.stack.config();
    world.stack.fast_path_detached(world.now);
    world.frames.clear();
    world.stack.fast_path_attached(world.now, &config, 1).unwrap();
    world
}

#[test]
fn groups_are_joined_twice_before_anything_else_is_sent() {
    let mut world = attached();
    world.pump();
    assert_eq!(world.frames[0][20], 0, "before duplicates are asked for");
    let [(source, destination, message)] = &reports(&mut world)[..] else { panic!() };
    assert_eq!((&source[..], &destination[..]), (&[0; 16][..], &bytes([0xff02_0000, 0, 0, 0x16])[..]));
    assert_eq!(plain(message.clone()), about_both(JOINED));
    world.advance(1_000_000);
    let again = reports(&mut world);
    assert_eq!(again.len(), 1);
    assert_eq!(plain(again[0].2.clone()), about_both(JOINED));
    world.advance(600_000_000);
    assert_eq!(reports(&mut world).len(), 0);
    // The first fast path did not live to repeat its own.
    assert_eq!(world.stack.counter(Counter::MembershipReports), 3);
}

#[test]
fn queries_of_either_version_are_answered_in_time() {
    for (body, group) in [
        (v2_body(10_000, [0; 4]), None),
        (v2_body(10_000, GROUPS[0]), None),
        (v1_body(10_000, [0; 4]), Some(GROUPS)),
    ] {
        let mut world = attached();
        world.advance(5_000_000);
        reports(&mut world);
        world.receive(query(ROUTER, ALL_NODES, 1, ALERT, &body));
        // A second one does not add an answer.
        world.receive(query(ROUTER, ALL_NODES, 1, ALERT, &body));
        world.advance(10_000_000);
        let answers = reports(&mut world);
        match group {
            None => {
                assert_eq!(answers.len(), 1);
                assert_eq!(answers[0].0, bytes(LINK_LOCAL));
                assert_eq!(plain(answers[0].2.clone()), about_both(LISTENING));
            }
            Some(groups) => {
                let told: Vec<_> = answers.iter().map(|answer| answer.1.clone()).collect();
                assert_eq!(told, groups.map(bytes));
                for (answer, group) in answers.iter().zip(groups) {
                    let expected = [&[131, 0, 0, 0, 0, 0, 0, 0][..], &bytes(group)].concat();
                    assert_eq!(plain(answer.2.clone()), expected);
                }
            }
        }
        world.advance(60_000_000);
        assert_eq!(reports(&mut world).len(), 0);
    }
}

#[test]
fn what_is_no_query_of_the_link_is_not_answered() {
    let body = v2_body(0, [0; 4]);
    let bad = [
        query([0x2001_0db8, 0, 0, 0x22], ALL_NODES, 1, ALERT, &body),
        query(ROUTER, ALL_NODES, 64, ALERT, &body),
        query(ROUTER, ALL_NODES, 1, [1, 4, 0, 0, 0, 0], &body),
        icmpv6(&bytes(ROUTER), &bytes(ALL_NODES), 1, QUERY, 0, &body),
        query(ROUTER, ALL_NODES, 1, ALERT, &body[..22]),
        query(ROUTER, ALL_NODES, 1, ALERT, &v2_body(0, [0xff02_0000, 0, 1, 0xff00_0077])),
    ];
    for (number, frame) in bad.into_iter().enumerate() {
        let mut world = attached();
        world.advance(5_000_000);
        reports(&mut world);
        world.receive(frame);
        world.advance(5_000_000);
        assert_eq!(reports(&mut world).len(), 0, "{number}");
    }
    let mut world = attached();
    world.advance(5_000_000);
    reports(&mut world);
    world.receive(query(ROUTER, ALL_NODES, 1, ALERT, &body));
    world.advance(1);
    assert_eq!(reports(&mut world).len(), 1);
}

#[test]
fn an_instance_without_ipv6_joins_nothing() {
    let mut world = World::new();
    world.advance(5_000_000);
    assert_eq!(reports(&mut world).len(), 0);
}
