// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever clients and the fast path write, the instance stays up and serves others. The seed is
//! printed; TAS_SEED replays it.

mod common;

use abi::{
    kernel_ring::{reason, to_slow},
    message::{Message, Op},
};
use common::{
    frames::{self, Segment, SYN},
    segments, World, USER,
};
use zerocopy::FromZeros;

/// Calls of one run.
const CALLS: usize = 30_000;
/// Entries that the fast path scribbles.
const ENTRIES: usize = 20_000;

/// xorshift64*: enough to reach everything, and the same everywhere.
struct Random(u64);

impl Random {
    fn from_environment() -> Self {
        let seed = std::env::var("TAS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x7a5);
        println!("TAS_SEED={seed}");
        Self(seed)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    /// Small numbers, limits and wild ones.
    fn number(&mut self) -> u32 {
        match self.below(4) {
            0 => self.below(4) as u32,
            1 => self.below(300) as u32,
            2 => u32::MAX - self.below(2) as u32,
            _ => self.next() as u32,
        }
    }
}

fn random_message(random: &mut Random) -> Message {
    let mut message = Message::new_zeroed();
    message.op = match random.below(8) {
        0 => random.number(),
        n => Op::ALL[(n as usize * 7 + random.below(Op::ALL.len() as u64) as usize) % Op::ALL.len()] as u32,
    };
    message.object = random.number();
    message.flags = random.number();
    message.error = random.number();
    for chunk in message.body.chunks_exact_mut(4) {
        chunk.copy_from_slice(&random.number().to_le_bytes());
    }
    message
}

/// A listener of an honest application answers a SYN.
fn assert_serves(world: &mut World, port: u16) {
    let app = world.application();
    world.listener(&app, port).unwrap();
    let syn = Segment { source: 40_000, destination: port, sequence: 1, flags: SYN, ..Segment::default() };
    world.pass(2_000_000);
    world.rings.take();
    world.rings.packet(reason::NOT_TCP, &frames::arp(1));
    world.rings.packet(reason::NO_FLOW, &frames::from_peer(syn, &[]));
    let mut out = world.run();
    world.rings.packet(reason::NOT_TCP, &frames::arp(2));
    world.pass(5000);
    out.extend(world.rings.take());
    assert!(segments(&out).iter().any(|segment| segment.flags & SYN != 0), "no SYN-ACK: {out:?}");
    world.instance.disconnect(world.now_us, app.client);
}

#[test]
fn any_message_is_survived() {
    let mut random = Random::from_environment();
    let mut world = World::new();
    let mut clients = vec![world.control(), world.instance.connect(USER)];
    for _ in 0..3 {
        clients.push(world.application().client);
    }
    for call in 0..CALLS {
        let client = clients[random.below(clients.len() as u64) as usize];
        let mut message = random_message(&mut random);
        let op = message.op;
        world.instance.request(world.now_us, client, &mut message);
        assert_eq!(message.op, op, "the reply names another call");
        assert!(message.error < 4096, "errno {}", message.error);
        if Op::from_u32(op).is_none() {
            assert_eq!(message.error, libc::EINVAL as u32);
        }
        if call % 64 == 0 {
            world.pass(500);
            world.rings.take();
            world.notices();
            while world.instance.poll_wake().is_some() {}
        }
    }
    for client in clients {
        world.instance.disconnect(world.now_us, client);
    }
    world.pass(50_000);
    world.rings.take();
    world.notices();
    assert_serves(&mut world, 61_234);
}

#[test]
fn any_entry_of_the_fast_path_is_survived() {
    let mut random = Random::from_environment();
    let mut world = World::new();
    let app = world.application();
    world.listener(&app, 7000).unwrap();
    let mut frame = [0u8; 2048];
    for entry in 0..ENTRIES {
        for byte in &mut frame {
            *byte = random.next() as u8;
        }
        // Half of them look like TCP to us.
        if random.below(2) == 0 {
            let segment = Segment {
                source: random.below(4) as u16 + 1,
                destination: 7000,
                sequence: random.number(),
                acknowledgement: random.number(),
                flags: random.next() as u8,
            };
            let made = frames::from_peer(segment, &[0; 32]);
            frame[..made.len()].copy_from_slice(&made);
            let at = random.below(made.len() as u64) as usize;
            frame[at] ^= random.next() as u8;
        }
        let op = if random.below(2) == 0 { to_slow::PACKET } else { random.next() as u8 };
        let head = u64::from(random.number()) | u64::from(op) << 32 | random.below(8) << 40;
        let value = match random.below(3) {
            0 => random.below(2048),
            1 => u64::from(random.number()),
            _ => random.next(),
        };
        if !world.rings.scribble([head, value], &frame) || entry % 200 == 0 {
            world.pass(1000);
            world.rings.take();
        }
    }
    world.pass(100_000);
    world.rings.take();
    world.notices();
    assert_serves(&mut world, 7001);
}
