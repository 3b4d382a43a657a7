// SPDX-License-Identifier: MIT OR Apache-2.0
//! An application writes garbage in all that it maps: rings with their headers, chunks, buffer maps.

use crate::{random::Random, world::World};
use abi::{
    event::FlowEvent,
    pool::SEGMENT_BYTES,
    region::{Region, RegionKind},
};
use std::sync::atomic::Ordering::Relaxed;
use tas::lowlevel::Application;

/// Words written at random places of each region in one go.
const WORDS: u64 = 3000;
/// Flow ids in forged entries: those in use are small.
const FLOWS: u64 = 64;

/// One go. `context` is the application's.
pub(crate) fn lie(
    world: &mut World,
    host: usize,
    application: &Application,
    context: u32,
    random: &mut Random,
) {
    let id = application.id();
    let instance = world.hosts[host].instance();
    let mut regions = vec![Region::whole(RegionKind::Context, context)];
    for kind in [RegionKind::Maps, RegionKind::Pool] {
        regions.push(Region { kind, index: id, byte_offset: 0 });
        regions.push(Region { kind, index: id, byte_offset: SEGMENT_BYTES });
    }
    for region in regions {
        let Some(memory) = instance.region(region) else {
            continue;
        };
        let count = memory.len() / 8;
        let Some(words) = memory.words(0, count) else {
            continue;
        };
        for _ in 0..WORDS {
            let at = random.below(count as u64) as usize;
            words[at].store(garbage(random), Relaxed);
        }
        if region.kind == RegionKind::Context {
            forge_entries(words, random);
        }
    }
    drop(instance);
    // And makes the core look.
    let _ = application.channel().wake_core(0);
}

fn garbage(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => random.below(1024),
        2 => u64::MAX,
        _ => random.next(),
    }
}

/// Entries that would make sense if the application owned the flows they name.
fn forge_entries(words: &[std::sync::atomic::AtomicU64], random: &mut Random) {
    for _ in 0..200 {
        let entry = FlowEvent {
            flow: random.below(FLOWS) as u32,
            flags: random.next() as u16 & 0x3f,
            generation: random.below(4) as u32,
            rx: 1 << 32 | random.next() >> 32,
            tx: 1 << 32 | random.next() >> 32,
            urgent: random.next() as u32,
            urgent_byte: random.next() as u8,
        };
        let mut encoded = entry.encode();
        encoded[0] |= random.next() & 1 << 63;
        let slots = words.len() as u64 / 4;
        let at = random.below(slots) as usize * 4;
        for (word, value) in words[at..].iter().zip(encoded) {
            word.store(value, Relaxed);
        }
    }
}
