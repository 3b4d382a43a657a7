// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fast path that writes garbage to all it has mapped: the slow path stays up, answers its other clients, and
//! serves again with the next fast path.

#[path = "../../../daemon/tests/common/mod.rs"]
mod common;

use abi::{
    kernel_ring::{reason, to_fast, to_slow, KernelEntry},
    message::{Op, Status},
    region::{Region, RegionKind},
};
use common::{
    attach_request,
    frames::{self, Segment, ACK, SYN},
    keep, segments, Out, World,
};
use daemon::Memory;
use sim::Random;
use std::sync::atomic::Ordering::Relaxed;

const PORT: u16 = 7000;
/// Connections that exist when the fast path turns.
const CONNECTIONS: u16 = 20;
/// Rounds of garbage.
const ROUNDS: u64 = 400;
/// Words overwritten in each region in a round.
const WORDS: u64 = 400;

/// Opens connections of a peer to the listener; how many were installed.
fn connect(world: &mut World, first_port: u16, count: u16) -> usize {
    let mut answered = 0;
    for source in first_port..first_port + count {
        let syn = Segment { source, destination: PORT, sequence: 9, flags: SYN, ..Segment::default() };
        world.rings.packet(reason::NO_FLOW, &frames::from_peer(syn, &[]));
        let mut out = world.run();
        world.rings.packet(reason::NOT_TCP, &frames::arp(2));
        out.extend(world.run());
        let Some(syn_ack) = segments(&out).into_iter().find(|one| one.flags & (SYN | ACK) == SYN | ACK)
        else {
            continue;
        };
        answered += 1;
        let acknowledgement = syn_ack.sequence.wrapping_add(1);
        let ack = Segment { source, destination: PORT, sequence: 10, acknowledgement, flags: ACK };
        world.rings.packet(reason::NO_FLOW, &frames::from_peer(ack, &[]));
        world.run();
    }
    answered
}

/// What a fast path may write to.
fn regions(world: &World) -> Vec<&'static Memory> {
    [RegionKind::FlowHot, RegionKind::Recovery, RegionKind::CoreStatus, RegionKind::KernelRings]
        .into_iter()
        .map(|kind| keep(world.instance.region(Region::whole(kind, 0)).expect("a region")))
        .collect()
}

/// Small numbers, large ones, and anything.
fn value(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.below(4),
        1 => u64::MAX - random.below(4),
        2 => random.next() >> 32,
        _ => random.next(),
    }
}

fn scribble(random: &mut Random, memory: &Memory) {
    let words = memory.words(0, memory.len() / 8).expect("words");
    for _ in 0..WORDS {
        words[random.below(words.len() as u64) as usize].store(value(random), Relaxed);
    }
}

/// Well-formed reports about any flow.
fn report(random: &mut Random, world: &mut World) {
    for _ in 0..50 {
        let entry = KernelEntry {
            op: random.below(u64::from(to_slow::DATA_AFTER_CLOSE) + 2) as u8,
            reason: random.below(6) as u8,
            flow: if random.chance(900) { random.below(300) as u32 } else { random.next() as u32 },
            value: value(random),
        };
        if !world.rings.report(entry) {
            break;
        }
    }
}

fn flows_used(world: &mut World) -> u32 {
    let control = world.control();
    let (message, _) = world.ask(control, Op::Status, 0).expect("STATUS");
    world.instance.disconnect(world.now_us, control);
    message.get::<Status>().flows_used
}

/// What an honest fast path does about flows that are to go, until every orphan's ten minutes are over.
fn serve(world: &mut World) {
    for _ in 0..6500 {
        world.pass(100_000);
        for out in world.rings.take() {
            if let Out::Entry(entry) = out {
                if entry.op == to_fast::REMOVE {
                    let op = to_slow::REMOVED;
                    world.rings.report(KernelEntry { op, flow: entry.flow, ..KernelEntry::default() });
                }
            }
        }
        world.notices();
    }
}

fn run(seed: u64) {
    println!("ADVERSARY_SEED={seed}");
    let mut random = Random::new(seed);
    let mut world = World::new();
    let app = world.application();
    world.listener(&app, PORT).expect("a listener");
    assert!(connect(&mut world, 40_000, CONNECTIONS) > 0, "no connection before the attack");
    let mapped = regions(&world);
    for _ in 0..ROUNDS {
        for memory in &mapped {
            scribble(&mut random, memory);
        }
        report(&mut random, &mut world);
        world.now_us += random.below(20_000);
        world.instance.run_once(world.now_us);
        while world.instance.poll_wake().is_some() {}
        // Others are served all the while.
        assert!(flows_used(&mut world) <= attach_request().flows);
    }
    // The fast path is ended, its application too; another comes, and nothing is left of the garbage.
    world.instance.disconnect(world.now_us, world.fast);
    world.instance.disconnect(world.now_us, app.client);
    world.reattach(&attach_request()).expect("another fast path");
    let fast = world.fast;
    world.ask(fast, Op::Ready, 0).expect("READY");
    world.notices();
    let app = world.application();
    serve(&mut world);
    assert_eq!(flows_used(&mut world), 0, "flows of an application that has gone");
    world.listener(&app, PORT).expect("a listener after the attack");
    let made = connect(&mut world, 50_000, 5);
    assert_eq!(made, 5, "connections after the attack");
}

#[test]
fn garbage_in_every_table_and_ring() {
    let seed = adversary::seed();
    (seed..seed + 5).for_each(run);
}
