// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Garbage from every side. A failing seed is printed.

mod common;

use abi::{
    flow::hot_flags,
    kernel_ring::KernelEntry,
    message::{Message, Op, AF_INET, AF_INET6, BODY_BYTES},
};
use common::{frames::*, *};
use slowpath::{Caller, Outcome};
use std::sync::atomic::Ordering::Relaxed;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// The connection a world is checked with afterwards.
fn still_works(world: &mut World, seed: u64) {
    world.room = usize::MAX;
    world.removes = true;
    world.preempted = false;
    world.advance(2_000_000);
    world.frames.clear();
    let listener = world.socket();
    let port = world.bind(listener, 0, 0).unwrap();
    world.listen(listener, 5).unwrap();
    world.peer(Tcp { from: PEER, ..Tcp::syn(60_001, port, 5000) });
    let syn_ack = world.sent().into_iter().find(|s| s.flags & (SYN | ACK) == SYN | ACK);
    let syn_ack = syn_ack.unwrap_or_else(|| panic!("seed {seed}: no SYN-ACK"));
    world.peer(Tcp::ack(60_001, port, 5001, syn_ack.seq.wrapping_add(1)));
    assert!(world.accept(listener).is_ok(), "seed {seed}");
}

#[test]
fn options_of_every_length_with_any_bytes() {
    for seed in 0..10u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new();
        let listener = world.listener(8080, 100);
        for length in (0..=40usize).filter(|length| length % 4 == 0) {
            for attempt in 0..8u16 {
                let from = 10_000 + length as u16 * 100 + attempt;
                let mut options = random.bytes(length);
                if attempt % 2 == 0 {
                    for byte in options.iter_mut() {
                        *byte %= 12;
                    }
                }
                world.frames.clear();
                world.peer(Tcp { options: options.clone(), ..Tcp::new(from, 8080, 5000, 0, SYN) });
                let syn_ack = world.sent().pop().expect("any options are survived");
                world.peer(Tcp { options, ..Tcp::ack(from, 8080, 5001, syn_ack.seq.wrapping_add(1)) });
                let info = world.accept(listener).expect("accepted");
                assert!((36..=1460).contains(&info.mss_bytes));
                let scale = world.hot[info.flow as usize].mss_scale.load(Relaxed);
                assert!(scale >> 16 & 0xff <= 14);
                world.set_option(info.socket, abi::message::option::LINGER, 1, 0).unwrap();
                world.release(info.socket);
            }
        }
        world.assert_clean();
    }
}

#[test]
fn frames_of_every_length_and_damage() {
    for seed in 0..30u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new();
        let listener = world.listener(8080, 5);
        world.accepted(listener, 8080, 4000);
        let samples = [
            Tcp::syn(4001, 8080, 5000).frame(),
            Tcp::ack(4000, 8080, 5001, 1).frame(),
            Tcp {
                ip_options: vec![1; 40],
                options: vec![1; 40],
                payload: vec![7; 100],
                ..Tcp::ack(4000, 8080, 5001, 1)
            }
            .frame(),
            arp(1, PEER_MAC, PEER, 0, LOCAL),
            icmp(8, 0, &[0; 100]),
            icmp(3, 3, &[0x45; 60]),
        ];
        for sample in &samples {
            for length in 0..=sample.len() {
                world.receive(sample[..length].to_vec());
            }
            for _ in 0..400 {
                let mut frame = sample.clone();
                for _ in 0..=random.below(4) {
                    let at = random.below(frame.len() as u64) as usize;
                    frame[at] = random.next() as u8;
                }
                world.receive(frame);
            }
            let length = random.below(1600) as usize;
            let mut noise = random.bytes(length);
            if noise.len() > 14 {
                noise[12..14].copy_from_slice(if is_v6() { &[0x86, 0xdd] } else { &[8, 0] });
            }
            world.receive(noise);
            world.pump();
        }
        still_works(&mut world, seed);
    }
}

#[test]
fn requests_with_random_bodies() {
    for seed in 0..40u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new();
        let mut sockets = vec![world.socket()];
        for _ in 0..600 {
            let op = match random.below(8) {
                0 => random.next() as u32,
                _ => Op::ALL[random.below(Op::ALL.len() as u64) as usize] as u32,
            };
            let mut message = Message::new(Op::Bind, random.next() as u32 >> random.below(32));
            message.op = op;
            message.flags = random.next() as u32 >> random.below(32);
            message.body.copy_from_slice(&random.bytes(BODY_BYTES));
            if random.below(2) == 0 {
                // Plausible: an IPv4 endpoint, the context, small numbers.
                message.body = [0; BODY_BYTES];
                for (bytes, word) in
                    message.body.chunks_exact_mut(4).zip(words(PEER + random.below(3) as u32))
                {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
                message.body[16] = 80;
                message.body[17] = random.below(40) as u8;
                message.body[18] = if is_v6() { AF_INET6 } else { AF_INET } as u8;
                message.body[24] = CONTEXT as u8;
                if op == Op::Bind as u32 {
                    message.body[..16].fill(0);
                }
                if op == Op::Socket as u32 {
                    message.body[8] = if is_v6() { AF_INET6 } else { AF_INET } as u8;
                }
                if op == Op::Accept as u32 || op == Op::Socket as u32 {
                    message.body[12] = CONTEXT as u8;
                }
            }
            let id = match random.below(10) {
                0 => None,
                1 => Some(random.next() as u32),
                _ => Some(sockets[random.below(sockets.len() as u64) as usize]),
            };
            let caller = Caller {
                application: if random.below(10) == 0 { random.next() as u32 } else { APP },
                net_bind_service: random.below(2) == 0,
                net_admin: random.below(2) == 0,
            };
            let outcome = world.stack.handle_request(world.now, &caller, id, &mut message);
            match outcome {
                Outcome::NewSocket { socket } => sockets.push(socket),
                Outcome::Done => assert!(message.error < 134, "{}", message.error),
                Outcome::NotForStack => {}
            }
            if random.below(6) == 0 {
                let socket = sockets[random.below(sockets.len() as u64) as usize];
                world.stack.release_socket(world.now, socket);
            }
            world.pump();
            if random.below(20) == 0 {
                world.advance(random.below(3_000_000));
            }
            for segment in world.sent() {
                if segment.has(SYN) && random.below(2) == 0 {
                    let flags = if random.below(4) == 0 { RST | ACK } else { SYN | ACK };
                    let mut answer =
                        Tcp::new(segment.destination, segment.source, 1, segment.seq.wrapping_add(1), flags);
                    answer.from = segment.to;
                    world.peer(answer);
                }
            }
        }
        for socket in sockets {
            world.release(socket);
        }
        world.stack.application_died(world.now, APP);
        world.advance(700_000_000);
        assert_eq!(world.drained, [APP], "seed {seed}");
        world.assert_clean();
    }
}

/// A fast path that writes anything anywhere harms connections, not the slow path.
#[test]
fn a_fast_path_that_lies() {
    for seed in 0..30u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new();
        let listener = world.listener(8080, 50);
        let mut live = vec![];
        for from in 0..20 {
            live.push(world.accepted(listener, 8080, 4000 + from));
        }
        for _ in 0..2000 {
            let flow = random.below(64) as usize;
            let value = random.next() >> random.below(64);
            let word = random.below(12) as u32;
            slowpath::testing::lie(&world.hot[flow], world.core, word, value);
            let entry = KernelEntry {
                op: random.below(12) as u8,
                reason: random.next() as u8,
                flow: if random.below(8) == 0 { random.next() as u32 } else { random.below(64) as u32 },
                value: random.next() >> random.below(64),
            };
            let core = if random.below(10) == 0 { random.next() as u32 } else { 0 };
            world.stack.handle_report(world.now, core, entry);
            if random.below(10) == 0 {
                world.advance(random.below(100_000));
            }
            if random.below(50) == 0 {
                if let Some(info) = live.pop() {
                    world.release(info.socket);
                }
            }
            let (frames, injected) = (world.frames.len(), world.injected.len());
            assert!(frames < 100_000 && injected < 100_000);
        }
        for hot in world.hot {
            hot.flags.store(hot_flags::INSTALLED, Relaxed);
        }
        world.core.run_us.store(world.now, Relaxed);
        for info in live {
            world.release(info.socket);
        }
        still_works(&mut world, seed);
    }
}
