// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends `COUNT` frames of one kind to a host and handles them, real fast path and slow path in one thread.
//! `scripts/bench refused` counts the instructions of two counts; the difference is what the frames cost.

use abi::message::Endpoint;
use adversary::{flag, Heard, Segment, TARGET};
use sim::{Host, HostConfig, WirePort};
use std::sync::{
    atomic::{AtomicU64, Ordering::Relaxed},
    Arc,
};
use tas::lowlevel::{Connection, Context, Event, Socket};

/// A listener with room, and one whose queue is full after sixteen.
const PORTS: [(u16, u32); 2] = [(80, 4096), (81, 1)];
/// Where nobody listens.
const NOBODY: u16 = 82;
/// The peer.
const PEER: u32 = 0x0a00_0066;
const PEER_PORT: u16 = 40_000;
/// Frames on the wire at once: one burst of the fast path.
const BURST: usize = 32;
/// Time between bursts: a flood, and what is below every limit on answers (16,000 a second).
const FLOOD_US: u64 = 20;
const CALM_US: u64 = 2000;
/// Bytes of a data segment.
const PAYLOAD_BYTES: usize = 64;

struct Bench {
    host: Host<WirePort>,
    port: WirePort,
    now_us: Arc<AtomicU64>,
    context: Arc<Context>,
    listeners: Vec<Socket>,
    connection: Option<(Socket, Connection)>,
    sequence: u32,
    expected: u32,
    pause_us: u64,
}

impl Bench {
    fn new() -> Self {
        let now_us = Arc::new(AtomicU64::new(1_000_000));
        let port = WirePort::default();
        let config = HostConfig { prefix: 8, flows: 16_384, ..HostConfig::numbered(1, 1) };
        let mut host = Host::new(config, port.clone(), now_us.clone()).expect("a host");
        let application = host.application().expect("an application");
        let context = Context::new(&application).expect("a context");
        host.carry_out_notices().expect("notices");
        let listeners = PORTS.map(|(number, backlog)| {
            let listener = Socket::new(&context, 0, 0).expect("a socket");
            listener.bind(&Endpoint::ipv4(TARGET, number)).expect("bind");
            listener.listen(backlog).expect("listen");
            listener
        });
        let listeners = listeners.into();
        Self {
            host,
            port,
            now_us,
            context,
            listeners,
            connection: None,
            sequence: 100,
            expected: 0,
            pause_us: FLOOD_US,
        }
    }

    /// Handles what is there; the frames that were sent.
    fn step(&mut self) -> Vec<Vec<u8>> {
        self.now_us.fetch_add(self.pause_us, Relaxed);
        handle_frames(&mut self.host);
        std::iter::from_fn(|| self.port.sent()).collect()
    }

    fn segment(&self) -> Segment {
        Segment {
            source: PEER,
            source_port: PEER_PORT,
            sequence: self.sequence,
            acknowledgement: self.expected,
            ..Segment::default()
        }
    }

    /// The connection that segments are sent on; it teaches the host the peer's hardware address too.
    fn connect(&mut self) {
        let options = vec![2, 4, 5, 180, 1, 1, 8, 10, 0, 0, 16, 0, 0, 0, 0, 0, 1, 3, 3, 7];
        self.port.inject(&Segment { flags: flag::SYN, options, ..self.segment() }.frame());
        self.sequence += 1;
        for _ in 0..100 {
            for frame in self.step() {
                match Heard::read(&frame) {
                    Heard::Arp(address) => self.port.inject(&Heard::arp_reply(address)),
                    Heard::Tcp { sequence, flags, .. } if flags & flag::SYN != 0 => {
                        self.expected = sequence.wrapping_add(1);
                        self.port.inject(&Segment { options: timestamp(4097), ..self.segment() }.frame());
                    }
                    _ => {}
                }
            }
            if let Ok(accepted) = self.listeners[0].accept(&self.context, 1, 0) {
                self.connection = Some(accepted);
                return;
            }
        }
        panic!("the connection was not made");
    }

    /// Frame `number` of a kind.
    fn frame(&mut self, kind: &str, number: u32) -> Vec<u8> {
        let data = Segment {
            flags: flag::ACK | flag::PSH,
            options: timestamp(4098),
            payload: vec![0x5a; PAYLOAD_BYTES],
            ..self.segment()
        };
        let syn = |port| Segment {
            port,
            source_port: 1024 + (number % 60_000) as u16,
            sequence: number,
            acknowledgement: 0,
            flags: flag::SYN,
            options: vec![2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 16, 0, 0, 0, 0, 0, 1, 3, 3, 7],
            ..self.segment()
        };
        let made = match kind {
            "segment-accepted" => {
                self.sequence = self.sequence.wrapping_add(PAYLOAD_BYTES as u32);
                data
            }
            "segment-outside-window" => Segment { sequence: self.sequence.wrapping_add(1 << 30), ..data },
            "segment-old" => Segment { sequence: self.sequence.wrapping_sub(10_000), ..data },
            "segment-stale-timestamp" => Segment { options: timestamp(1), ..data },
            "segment-acknowledges-unsent" => {
                Segment { acknowledgement: self.expected.wrapping_add(1 << 20), ..data }
            }
            "segment-bad-checksum" => {
                let mut frame = data.frame();
                frame[60] ^= 1;
                return frame;
            }
            "segment-of-no-connection" | "segment-of-no-connection-answered" => {
                Segment { source_port: 5, ..data }
            }
            "segment-of-no-connection-forged" => {
                Segment { source: 0x0b00_0000 | number << 8 | 1, source_port: number as u16, ..data }
            }
            "reset-inside-window" => Segment {
                flags: flag::RST,
                sequence: self.sequence.wrapping_add(1000),
                payload: Vec::new(),
                ..data
            },
            "syn-on-connection" => Segment { flags: flag::SYN, payload: Vec::new(), ..data },
            "syn-accepted" => syn(PORTS[0].0),
            "syn-answered-by-cookie" => syn(PORTS[1].0),
            "syn-refused" => syn(NOBODY),
            _ => panic!("no such kind: {kind}"),
        };
        made.frame()
    }

    fn run(&mut self, kind: &str, count: u32) {
        if kind.ends_with("-answered") {
            self.pause_us = CALM_US;
        }
        let mut events = [Event::default(); 32];
        let mut buffer = [0; 4096];
        for first in (0..count).step_by(BURST) {
            for number in first..count.min(first + BURST as u32) {
                let frame = self.frame(kind, number);
                self.port.inject(&frame);
            }
            self.step();
            // What was accepted is also read.
            while self.context.poll(&mut events) > 0 {}
            if let Some((_, connection)) = &self.connection {
                while connection.read(&mut buffer) > 0 {}
            }
        }
    }
}

/// What is counted: a function of its own, so that callgrind can tell it apart.
#[inline(never)]
fn handle_frames(host: &mut Host<WirePort>) {
    host.step().expect("a step");
}

fn timestamp(value: u32) -> Vec<u8> {
    let mut option = vec![1, 1, 8, 10];
    option.extend(value.to_be_bytes());
    option.extend([0; 4]);
    option
}

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(kind), Some(Ok(count))) = (words.next(), words.next().map(|word| word.parse())) else {
        eprintln!("usage: refused-cost KIND COUNT");
        std::process::exit(2);
    };
    let mut bench = Bench::new();
    bench.connect();
    bench.run(&kind, count);
    let fast: Vec<String> = abi::core_status::Counter::ALL
        .iter()
        .map(|(counter, name)| (name, bench.host.status().counters[*counter as usize].load(Relaxed)))
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    println!("{}", fast.join(", "));
    // Tearing down is not what is counted.
    std::process::exit(0);
}
