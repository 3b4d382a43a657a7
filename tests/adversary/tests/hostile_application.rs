// SPDX-License-Identifier: MIT OR Apache-2.0
//! An application that writes whatever it likes, into all that it has mapped and into every control message, while it
//! has live connections. Other applications of the host, the victim's server among them, notice nothing.

use abi::{
    core_status::Counter,
    event::{event_flags, FlowEvent, EVENT_WORDS},
    message::{AttachApplication, Endpoint, Message, Op},
    pool::SEGMENT_BYTES,
    region::{Region, RegionKind},
    version,
};
use adversary::{beside_a_victim, seed, Arena, Peer, Victim, TARGET};
use daemon::{Credentials, Memory};
use sim::Random;
use std::sync::{atomic::Ordering::Relaxed, Arc};
use tas::lowlevel::{Application, Connection, Context, Socket};

/// The hostile application's port.
const PORT: u16 = 6666;
/// A peer that connects to it.
const ACCOMPLICE: u32 = 0x0a00_0066;
/// The victim keeps at least this share of what it moves in peace, in percent.
const LEAST_PERCENT: u64 = 95;
/// It is never silent for longer: twice the smallest retransmission timeout.
const SILENCE_MAX_US: u64 = 10_000;
/// Segments of its pool and its buffer maps that are looked for.
const SEGMENTS: u32 = 16;
/// Words that are overwritten each millisecond, in each region.
const WORDS: u64 = 300;

/// The hostile application.
struct Hostile {
    application: Arc<Application>,
    context: Arc<Context>,
    listener: Socket,
    peers: Vec<Peer>,
    connections: Vec<(Socket, Connection)>,
    mapped: Vec<Arc<Memory>>,
}

impl Hostile {
    fn new(arena: &mut Arena) -> Self {
        let application = arena.hosts[0].application().expect("an application");
        let context = Context::new(&application).expect("a context");
        arena.hosts[0].carry_out_notices().expect("notices");
        let listener = Socket::new(&context, 0, 0).expect("a socket");
        listener.bind(&Endpoint::ipv4(TARGET, PORT)).expect("bind");
        listener.listen(16).expect("listen");
        let peers = Vec::new();
        Self { application, context, listener, peers, connections: Vec::new(), mapped: Vec::new() }
    }

    /// Connections of its own, so that live flows are among what it can reach.
    fn connect(&mut self, arena: &mut Arena, ms: u64) {
        if ms < 4 {
            let port = 500 + ms as u16;
            self.peers.push(Peer::connect_to(arena, PORT, ACCOMPLICE, port, vec![2, 4, 5, 180]));
        }
        Peer::listen(arena, &mut self.peers);
        while let Ok(accepted) = self.listener.accept(&self.context, 0, 0) {
            self.connections.push(accepted);
        }
    }

    /// All that it may write to.
    fn find_memory(&mut self, arena: &Arena) {
        let instance = arena.hosts[0].instance();
        self.mapped.extend(instance.region(Region::whole(RegionKind::Context, self.context.id())));
        for kind in [RegionKind::Maps, RegionKind::Pool] {
            for segment in 0..SEGMENTS {
                let byte_offset = segment * SEGMENT_BYTES;
                let index = self.application.id();
                self.mapped.extend(instance.region(Region { kind, index, byte_offset }));
            }
        }
    }
}

/// An entry as the fast path would take it, about any flow.
fn event(random: &mut Random, near: u64) -> [u64; EVENT_WORDS] {
    let all = event_flags::RX | event_flags::TX | event_flags::FIN | event_flags::FIN_ACKED;
    let all = all | event_flags::URGENT | event_flags::URGENT_BYTE;
    let mut position = || match random.below(4) {
        0 => random.next(),
        1 => near.wrapping_add(random.below(1 << 20)),
        2 => near.wrapping_sub(random.below(1 << 20)),
        _ => near,
    };
    let (rx, tx) = (position(), position());
    let made = FlowEvent {
        flow: if random.chance(900) { random.below(16) as u32 } else { random.next() as u32 },
        flags: random.next() as u16 & all,
        generation: random.below(4) as u32,
        rx,
        tx,
        urgent: random.next() as u32,
        urgent_byte: random.next() as u8,
    };
    let mut words = made.encode();
    // The phase of the lap: either.
    words[0] |= random.next() & 1 << 63;
    words
}

/// Overwrites random places: with garbage, or with well-formed entries.
fn scribble(random: &mut Random, memory: &Memory, near: u64) {
    let words = memory.words(0, memory.len() / 8).expect("words");
    for _ in 0..WORDS / EVENT_WORDS as u64 {
        let at = random.below((words.len() / EVENT_WORDS) as u64) as usize * EVENT_WORDS;
        let entry = if random.chance(500) {
            event(random, near)
        } else {
            std::array::from_fn(|_| random.next() >> (random.below(2) * 40))
        };
        for (word, value) in words[at..].iter().zip(entry) {
            word.store(value, Relaxed);
        }
    }
}

fn assert_unharmed(arena: &Arena, victim: &Victim, quiet_bytes: u64) {
    let progress = victim.progress(arena);
    println!("in peace {quiet_bytes} bytes, under attack {progress:?}");
    assert!(progress.bytes * 100 >= quiet_bytes * LEAST_PERCENT, "{} of {quiet_bytes}", progress.bytes);
    assert!(progress.longest_silence_us < SILENCE_MAX_US, "{progress:?}");
}

#[test]
fn garbage_in_everything_mapped() {
    let mut hostile = None;
    let (arena, victim, quiet) = beside_a_victim(seed(), 600, |arena, _, ms| {
        let hostile = hostile.get_or_insert_with(|| Hostile::new(arena));
        if ms < 50 {
            return hostile.connect(arena, ms);
        }
        if ms == 50 {
            hostile.find_memory(arena);
            assert!(hostile.mapped.len() >= 3, "{} regions found", hostile.mapped.len());
            assert_eq!(hostile.connections.len(), 4, "no live connections of its own");
        }
        arena.heard.clear();
        for memory in hostile.mapped.clone() {
            let near = 1 << 32 | arena.random.next() & 0xffff_ffff;
            scribble(&mut arena.random, &memory, near);
        }
        // Data comes for it, and room in a window for what it claims to have written.
        for peer in &mut hostile.peers {
            peer.send(arena, &[0xee; 500]);
        }
    });
    assert_unharmed(&arena, &victim, quiet);
    assert!(arena.fast(Counter::RefusedEntries) > 0, "nothing was refused");
    // The library of the hostile application is not to run on what it has done to itself.
    std::mem::forget(hostile);
}

fn attach(arena: &Arena, credentials: Credentials) -> daemon::Client {
    let mut instance = arena.hosts[0].instance();
    let client = instance.connect(credentials);
    let body = AttachApplication {
        abi_hash: version::APPLICATION_HASH,
        version: version::APPLICATION_VERSION,
        ..AttachApplication::default()
    };
    let mut message = Message::with(Op::AttachApplication, 0, &body);
    instance.request(arena.now_us(), client, &mut message);
    assert_eq!(message.error, 0, "attach");
    client
}

#[test]
fn any_control_message() {
    let user = Credentials { pid: 4000, uid: 1000, gid: 1000, privileged: false };
    let mut clients = Vec::new();
    let (arena, victim, quiet) = beside_a_victim(seed(), 600, |arena, _, _| {
        if clients.is_empty() {
            clients.extend([attach(arena, user), attach(arena, user)]);
            clients.push(arena.hosts[0].instance().connect(user));
        }
        for _ in 0..100 {
            let client = clients[arena.random.below(3) as usize];
            let mut message = Message::new(Op::ALL[arena.random.below(Op::ALL.len() as u64) as usize], 0);
            let small = |random: &mut Random| match random.below(3) {
                0 => random.below(8) as u32,
                1 => random.below(2000) as u32,
                _ => random.next() as u32,
            };
            message.object = small(&mut arena.random);
            message.flags = small(&mut arena.random);
            for four in message.body.chunks_exact_mut(4) {
                four.copy_from_slice(&small(&mut arena.random).to_le_bytes());
            }
            let now_us = arena.now_us();
            arena.hosts[0].instance().request(now_us, client, &mut message);
            assert!(message.error < 4096, "errno {}", message.error);
        }
        arena.heard.clear();
    });
    assert_unharmed(&arena, &victim, quiet);
    assert!(arena.slow("requests_refused") > 0);
}
