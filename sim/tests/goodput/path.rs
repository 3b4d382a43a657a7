// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bulk transfers over a path: two hosts, a bottleneck with a queue, loss, and data that others overtake.

use abi::{core_status::Counter, message::Endpoint};
use sim::{Host, HostConfig, Random, WirePort};
use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
};
use tas::lowlevel::{event, Connection, Context, Event, Socket};

/// Buffers of both ends, bytes.
pub(crate) const BUFFER_BYTES: u32 = 192 * 1024;
/// Virtual time of a transfer, and from when its bytes count: it has found its pace by then.
const LENGTH_US: u64 = 3_000_000;
const WARM_UP_US: u64 = 500_000;
const PORT: u16 = 80;

/// What is varied.
pub(crate) struct Path {
    /// Values of [`abi::message::congestion`].
    pub(crate) congestion: u32,
    /// Connections, all from the same host to the same.
    pub(crate) flows: u32,
    /// Rate of the link, kilobits per second.
    pub(crate) link_kbps: u64,
    /// Frames that the bottleneck's queue holds.
    pub(crate) queue_frames: u64,
    /// One way, microseconds.
    pub(crate) delay_us: u64,
    /// Most by which a frame is held back, microseconds.
    pub(crate) reorder_us: u64,
    /// Share of the frames that are held back where that is not zero, per mille.
    pub(crate) held_back: u32,
    /// Lost frames in ten thousand, both ways.
    pub(crate) loss: u32,
    /// Least retransmission timeout, microseconds.
    pub(crate) rto_min_us: u32,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Payload that the receiver read in time, kilobits per second.
    pub(crate) goodput_kbps: u64,
    /// Of the sender's core.
    pub(crate) recoveries: u64,
    pub(crate) timeouts: u64,
    pub(crate) retransmits: u64,
    pub(crate) undone: u64,
    /// Data frames lost, on purpose and in the queue.
    pub(crate) lost: u64,
    /// Flows whose reader got nothing in time.
    pub(crate) starved: u64,
}

/// One direction.
struct Lane {
    from: WirePort,
    to: WirePort,
    busy_until_ns: u64,
    in_flight: BTreeMap<(u64, u64), Vec<u8>>,
    count: u64,
    lost: u64,
}

impl Lane {
    fn new(from: &WirePort, to: &WirePort) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            busy_until_ns: 0,
            in_flight: BTreeMap::new(),
            count: 0,
            lost: 0,
        }
    }

    fn deliver(&mut self, now_us: u64) {
        while let Some(first) = self.in_flight.first_entry().filter(|first| first.key().0 <= now_us) {
            self.to.inject(&first.remove());
        }
    }

    fn accept(&mut self, now_us: u64, path: &Path, random: &mut Random) {
        while let Some(frame) = self.from.sent() {
            let frame_ns = frame.len() as u64 * 8_000_000 / path.link_kbps;
            let full = frame.len() > 1000;
            let queued = self.busy_until_ns.saturating_sub(now_us * 1000);
            // Handshake and closing segments are spared: this is about data.
            if random.below(10_000) < u64::from(path.loss) && frame.len() > 60 && now_us > 1_100_000
                || queued > path.queue_frames * 1514 * 8_000_000 / path.link_kbps
            {
                self.lost += u64::from(full);
                continue;
            }
            self.busy_until_ns = self.busy_until_ns.max(now_us * 1000) + frame_ns;
            let mut at = self.busy_until_ns / 1000 + path.delay_us;
            if path.reorder_us > 0 && random.chance(path.held_back) {
                at += 1 + random.below(path.reorder_us);
            }
            self.count += 1;
            self.in_flight.insert((at, self.count), frame);
        }
    }
}

/// One connection as one end sees it.
struct Stream {
    socket: Socket,
    connection: Option<Connection>,
    /// Bytes written or read so far.
    bytes: u64,
    /// Of those, the ones that count.
    counted: u64,
}

/// An application with its streams, by token.
struct End {
    context: Arc<Context>,
    streams: Vec<Stream>,
}

impl End {
    fn new(host: &mut Host<WirePort>) -> Self {
        let application = host.application().expect("attach");
        let context = Context::new(&application).expect("context");
        host.carry_out_notices().expect("notices");
        Self { context, streams: Vec::new() }
    }

    fn add(&mut self, socket: Socket, connection: Option<Connection>) {
        self.streams.push(Stream { socket, connection, bytes: 0, counted: 0 });
    }

    fn poll(&mut self, listener: Option<&Socket>) {
        let mut events = [Event::default(); 32];
        loop {
            let count = self.context.poll(&mut events);
            for happened in events.iter().take(count) {
                if let (true, Some(stream)) =
                    (happened.flags & event::CONNECTED != 0, self.streams.get_mut(happened.token as usize))
                {
                    stream.connection = Some(stream.socket.established().expect("established"));
                }
            }
            if count == 0 {
                break;
            }
        }
        if let Some(listener) = listener {
            while let Ok((socket, connection)) = listener.accept(&self.context, self.streams.len() as u64, 0)
            {
                self.add(socket, Some(connection));
            }
        }
    }

    /// Writes as much as there is room for.
    fn write(&mut self, buffer: &mut [u8]) {
        for stream in &mut self.streams {
            let Some(connection) = &stream.connection else {
                continue;
            };
            loop {
                let room = (connection.writable_bytes() as usize).min(buffer.len());
                for (at, byte) in (stream.bytes..).zip(buffer.iter_mut().take(room)) {
                    *byte = content(at);
                }
                let count = connection.write(&buffer[..room]) as u64;
                stream.bytes += count;
                if count == 0 {
                    break;
                }
            }
        }
    }

    /// Reads all there is, and compares it with what was written.
    fn read(&mut self, buffer: &mut [u8], counts: bool, seed: u64) {
        for stream in &mut self.streams {
            let Some(connection) = &stream.connection else {
                continue;
            };
            loop {
                let count = connection.read(buffer);
                for (at, byte) in (stream.bytes..).zip(buffer.iter().take(count)) {
                    assert!(*byte == content(at), "seed {seed}: byte {at} differs");
                }
                stream.bytes += count as u64;
                stream.counted += if counts { count as u64 } else { 0 };
                if count == 0 {
                    break;
                }
            }
        }
    }
}

/// Runs one transfer. What is read is compared with what was written.
pub(crate) fn transfer(path: &Path, seed: u64) -> Outcome {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let ports = [WirePort::default(), WirePort::default()];
    let [mut sender, mut receiver] = [0u8, 1].map(|index| {
        let config = HostConfig {
            congestion: path.congestion,
            flows: path.flows * 2 + 64,
            rx_buffer_bytes: BUFFER_BYTES,
            tx_buffer_bytes: BUFFER_BYTES,
            rto_min_us: path.rto_min_us,
            ..HostConfig::numbered(index + 1, seed)
        };
        Host::new(config, ports[usize::from(index)].clone(), clock.clone()).expect("host")
    });
    let mut lanes = [Lane::new(&ports[0], &ports[1]), Lane::new(&ports[1], &ports[0])];
    let mut random = Random::new(seed);
    let (mut client, mut server) = (End::new(&mut sender), End::new(&mut receiver));
    let address = receiver.config().ipv4;
    let listener = Socket::new(&server.context, u64::MAX, 0).expect("socket");
    listener.bind(&Endpoint::ipv4(address, PORT)).expect("bind");
    listener.listen(path.flows.max(4)).expect("listen");
    for token in 0..path.flows {
        let socket = Socket::new(&client.context, token.into(), 0).expect("socket");
        socket.connect(&client.context, &Endpoint::ipv4(address, PORT)).expect("connect");
        client.add(socket, None);
    }
    let start = clock.load(Relaxed);
    let mut buffer = vec![0u8; 16 << 10];
    loop {
        let now = clock.load(Relaxed);
        if now >= start + LENGTH_US {
            break;
        }
        for lane in &mut lanes {
            lane.deliver(now);
        }
        client.poll(None);
        server.poll(Some(&listener));
        client.write(&mut buffer);
        server.read(&mut buffer, now >= start + WARM_UP_US, seed);
        let mut next = now + 1000;
        for (host, lane) in [&mut sender, &mut receiver].into_iter().zip(&mut lanes) {
            host.step().expect("step");
            lane.accept(now, path, &mut random);
            next = host.next_deadline_us().map_or(next, |deadline| next.min(deadline));
        }
        for lane in &lanes {
            next = lane.in_flight.first_key_value().map_or(next, |(key, _)| next.min(key.0));
        }
        clock.store(next.max(now + 1), Relaxed);
    }
    let flows = sender.describe_flows();
    let counter = |counter: Counter| sender.status().counters[counter as usize].load(Relaxed);
    if std::env::var_os("GOODPUT_ONLY").is_some() {
        for (number, name) in Counter::ALL {
            if counter(*number) > 0 {
                print!("{name} {} ", counter(*number));
            }
        }
        println!("{flows:?}");
    }
    Outcome {
        goodput_kbps: server.streams.iter().map(|stream| stream.counted).sum::<u64>() * 8 * 1000
            / (LENGTH_US - WARM_UP_US),
        recoveries: counter(Counter::FastRetransmits),
        timeouts: counter(Counter::TimeoutRetransmits),
        retransmits: counter(Counter::Retransmits),
        undone: counter(Counter::SpuriousRecoveries) + counter(Counter::SpuriousTimeouts),
        lost: lanes[0].lost,
        starved: server.streams.iter().filter(|stream| stream.counted == 0).count() as u64,
    }
}

fn content(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}
