// SPDX-License-Identifier: MIT OR Apache-2.0
//! An in-memory port, segments as a peer sees them, and a [`World`]: one core with its memory, with the slow path's,
//! the application's and the peer's ends in the test's hands. Memory is leaked: worlds are few and zero pages are free.

mod memory;
pub mod parts;
mod port;
mod segment;

pub use memory::{context_memory, core_memory, recycle, zeroed_bytes, zeroed_table, CONTEXT_ENTRIES};
pub use port::{MemoryPacket, MemoryPort};
pub use segment::{TestSegment, ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};

use crate::{Adopted, Command, Config, ContextMemory, Core, CoreMemory, NoSteer, Shared, Tables};
use abi::{
    event::{event_flags, FlowEvent, EVENT_WORDS},
    flow::{hot_flags, mss_scale, owner, slot_state, HotFlow, RATE_UNLIMITED},
    kernel_ring::{KernelEntry, KERNEL_WORDS},
    limits::KERNEL_RING_ENTRIES,
    pool::{CHUNK_BYTES, CHUNK_SHIFT, MAP_ENTRIES, SEGMENT_CHUNKS, SEGMENT_RECEIVE_CHUNKS},
    region::KernelRingLayout,
};
use ring::{Consumer, Producer, SharedBytes};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        Arc,
    },
};

/// Our address in every world of IPv4.
const LOCAL_IP: u32 = 0x0a4d_0001;
/// The peer's.
const REMOTE_IP: u32 = 0x0a4d_0002;
/// Our address in every world of IPv6 (RFC 3849).
const LOCAL_IP6: [u32; 4] = [0x2001_0db8, 0x4d, 0, 1];
/// The peer's.
const REMOTE_IP6: [u32; 4] = [0x2001_0db8, 0x4d, 0xfedc_ba98, 2];
/// Payload of a full segment in every world: what IPv6 with timestamps leaves of an Ethernet frame.
pub const MSS: usize = 1428;
/// Our MAC address.
pub const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The peer's.
pub const REMOTE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The application in every world, and its context.
pub const APPLICATION: u16 = 3;
/// See [`APPLICATION`].
pub const CONTEXT: u16 = 7;
/// Where every stream to the peer begins.
pub const SND_START: u64 = 0x1_0000_1000;
/// Where every stream from the peer begins: near the end of a chunk.
pub const RCV_START: u64 = 0x1_8000_0ff0;
/// TCP time at which a world begins, µs.
pub const START_US: u64 = 5_000_000;

/// One core and everyone around it, with flows over IP version `FAMILY`.
pub struct World<const FAMILY: u8 = 4> {
    /// The tables.
    pub tables: Tables<'static>,
    /// The core's memory.
    pub memory: CoreMemory<'static>,
    /// The context's rings.
    pub context: ContextMemory<'static>,
    /// The application's pool, one segment.
    pub pool: SharedBytes<'static>,
    /// The application's buffer maps, one segment.
    pub maps: &'static [AtomicU32],
    /// The core.
    pub core: Core<'static, MemoryPort>,
    /// The slow path's ends.
    pub to_fast: Producer<'static, KERNEL_WORDS>,
    /// See above.
    pub to_slow: Consumer<'static, KERNEL_WORDS>,
    /// The application's ends.
    pub to_core: Producer<'static, EVENT_WORDS>,
    /// See above.
    pub from_core: Consumer<'static, EVENT_WORDS>,
    /// TCP time, µs.
    pub now_us: u64,
    next_chunk: u32,
    config: Config,
}

/// An address as `ColdFlow` has it.
fn address(family: u8, words: [u32; 4]) -> IpAddr {
    let [first, ..] = words;
    if family == 6 {
        let bits = words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(first))
    }
}

impl<const FAMILY: u8> World<FAMILY> {
    const LOCAL: [u32; 4] = if FAMILY == 6 { LOCAL_IP6 } else { [LOCAL_IP, 0, 0, 0] };
    const REMOTE: [u32; 4] = if FAMILY == 6 { REMOTE_IP6 } else { [REMOTE_IP, 0, 0, 0] };
    /// Offset of the TCP header in a frame.
    pub const TCP: usize = if FAMILY == 6 { 54 } else { 34 };

    /// The flag of the family's flows.
    pub const FAMILY_FLAG: u32 = if FAMILY == 6 { hot_flags::IPV6 } else { 0 };
    /// Most payload that an Ethernet frame takes, with timestamps.
    pub const MSS_MAX: u32 = if FAMILY == 6 { 1428 } else { 1448 };

    /// Our address.
    pub fn local_ip() -> IpAddr {
        address(FAMILY, Self::LOCAL)
    }

    /// The peer's.
    pub fn remote_ip() -> IpAddr {
        address(FAMILY, Self::REMOTE)
    }

    /// A world with `flows` flow slots and the given settings (addresses are filled in).
    pub fn with(flows: usize, config: Config) -> Self {
        let tables = Tables {
            hot: zeroed_table(flows),
            cold: zeroed_table(flows),
            adjacencies: zeroed_table(4),
            recovery: zeroed_table(4),
            clock: &zeroed_table(1)[0],
        };
        let mac = REMOTE_MAC.iter().fold(0u64, |mac, byte| mac << 8 | u64::from(*byte));
        tables.adjacencies[1].mac.store(mac | abi::adjacency::RESOLVED, Relaxed);
        let memory = core_memory(config.mtu_bytes);
        let context = context_memory();
        let config = Config { mac: LOCAL_MAC, ..config };
        let pool = zeroed_bytes(abi::pool::SEGMENT_BYTES as usize);
        let maps = zeroed_table(abi::pool::SEGMENT_BYTES as usize / 4);
        let mut world = Self {
            core: start(&config, tables, memory, context, pool, maps, START_US),
            to_fast: Producer::attach(memory.to_fast, KERNEL_RING_ENTRIES).unwrap(),
            to_slow: Consumer::attach(memory.to_slow, KERNEL_RING_ENTRIES).unwrap(),
            to_core: Producer::attach(context.to_fast, CONTEXT_ENTRIES).unwrap(),
            from_core: Consumer::attach(context.to_application, CONTEXT_ENTRIES).unwrap(),
            tables,
            memory,
            context,
            pool,
            maps,
            now_us: START_US,
            next_chunk: SEGMENT_RECEIVE_CHUNKS,
            config,
        };
        world.core.port_mut().capabilities.tx_checksum = false;
        world
    }

    /// Eight flow slots, default settings.
    pub fn new() -> Self {
        Self::with(8, Config::default())
    }

    /// A world with flow 1 installed and quiet.
    pub fn connected() -> Self {
        let mut world = Self::new();
        world.install(1);
        world
    }

    /// Kills the core and starts another on the same memory, as a new process does.
    pub fn restart(&mut self) {
        self.core =
            start(&self.config, self.tables, self.memory, self.context, self.pool, self.maps, self.now_us);
    }

    /// [`Self::restart`] on another port.
    pub fn restart_with(&mut self, config: Config) {
        self.config = Config { mac: LOCAL_MAC, ..config };
        self.restart();
    }

    /// The hot entry of a flow.
    pub fn hot(&self, flow: u32) -> &'static HotFlow {
        &self.tables.hot[flow as usize]
    }

    /// Fills both entries of a flow as the slow path does after a handshake, without sending INSTALL.
    pub fn prepare(&mut self, flow: u32) {
        let (hot, cold) = (&self.tables.hot[flow as usize], &self.tables.cold[flow as usize]);
        let ports = 6379 << 16 | (40_000 + flow);
        let fold = |words: [u32; 4]| words.iter().fold(0, |folded, word| folded ^ word);
        hot.remote_ip.store(fold(Self::REMOTE), Relaxed);
        hot.local_ip.store(fold(Self::LOCAL), Relaxed);
        hot.ports.store(ports, Relaxed);
        hot.flags.store(hot_flags::TIMESTAMPS | Self::FAMILY_FLAG, Relaxed);
        for (to, words) in [(&cold.remote_address, Self::REMOTE), (&cold.local_address, Self::LOCAL)] {
            to.iter().zip(words).for_each(|(to, word)| to.store(word, Relaxed));
        }
        cold.ip_version.store(FAMILY.into(), Relaxed);
        cold.ports.store(ports, Relaxed);
        hot.rcv_nxt.store(RCV_START, Relaxed);
        hot.rcv_read.store(RCV_START, Relaxed);
        for word in [&hot.snd_una, &hot.snd_nxt, &hot.snd_end, &hot.snd_max] {
            word.store(SND_START, Relaxed);
        }
        hot.snd_wnd.store(60_000, Relaxed);
        hot.ts_recent.store(1000, Relaxed);
        hot.buffers.store(flow, Relaxed);
        hot.rcv_adv.store((RCV_START + 32_768) as u32, Relaxed);
        hot.mss_scale.store(mss_scale(MSS as u16, 0, 0), Relaxed);
        hot.generation.store(5, Relaxed);
        hot.recovery.store(abi::flow::NONE, Relaxed);
        cold.rate_kbps.store(RATE_UNLIMITED, Relaxed);
        cold.cwnd_bytes.store(1 << 20, Relaxed);
        cold.adjacency.store(1, Relaxed);
        cold.owner.store(owner(APPLICATION, CONTEXT), Relaxed);
        cold.buffers.store(flow, Relaxed);
        cold.generation.store(5, Relaxed);
        cold.rcv_buffer_bytes.store(32_768, Relaxed);
        cold.state.store(slot_state::INSTALLED, Relaxed);
    }

    /// Installs a flow; takes away the event that announces it.
    pub fn install(&mut self, flow: u32) {
        self.prepare(flow);
        self.ask(abi::kernel_ring::to_fast::INSTALL, flow, 0);
        self.events();
    }

    /// Polls once at the current time, and returns what was sent.
    pub fn poll(&mut self) -> Vec<TestSegment> {
        self.core.poll(self.now_us);
        self.sent()
    }

    /// Lets `us` pass, then polls.
    pub fn after(&mut self, us: u64) -> Vec<TestSegment> {
        self.now_us += us;
        self.poll()
    }

    /// What was sent since last asked.
    pub fn sent(&mut self) -> Vec<TestSegment> {
        self.core.port_mut().outgoing.drain(..).map(|frame| TestSegment::decode(&frame)).collect()
    }

    /// A segment from the peer of `flow`: the next expected, acknowledging everything sent.
    pub fn from_peer(&self, flow: u32, payload: &[u8]) -> TestSegment {
        let hot = self.hot(flow);
        TestSegment {
            destination_mac: LOCAL_MAC,
            source_mac: REMOTE_MAC,
            source_ip: Self::remote_ip(),
            destination_ip: Self::local_ip(),
            source_port: (40_000 + flow) as u16,
            destination_port: 6379,
            seq: hot.rcv_nxt.load(Relaxed) as u32,
            ack: hot.snd_max.load(Relaxed) as u32,
            flags: ACK,
            window: 60_000,
            urgent: 0,
            ecn: 0,
            options: TestSegment::timestamps(
                hot.ts_recent.load(Relaxed),
                abi::clock::timestamp_value(self.now_us, 0),
            ),
            payload: payload.to_vec(),
        }
    }

    /// Gives the core a segment, polls, returns what was sent.
    pub fn receive(&mut self, segment: &TestSegment) -> Vec<TestSegment> {
        self.receive_frame(segment.encode())
    }

    /// Gives the core a frame, polls, returns what was sent.
    pub fn receive_frame(&mut self, frame: Vec<u8>) -> Vec<TestSegment> {
        self.core.port_mut().incoming.push_back(frame);
        self.poll()
    }

    /// The slow path asks for something; polls, returns what was sent.
    pub fn ask(&mut self, op: u8, flow: u32, value: u64) -> Vec<TestSegment> {
        assert!(self.to_fast.push(KernelEntry { op, reason: 0, flow, value }.encode()));
        let sent = self.poll();
        // Operations come last in a poll: what they scheduled is sent in the next.
        sent.into_iter().chain(self.poll()).collect()
    }

    /// The slow path gives a frame with an operation.
    pub fn ask_with_frame(&mut self, op: u8, frame: &[u8]) -> Vec<TestSegment> {
        let slot = self.layout().slot(self.to_fast.position());
        assert!(self.memory.to_fast_slots.write(slot, frame));
        self.ask(op, 0, frame.len() as u64)
    }

    fn layout(&self) -> KernelRingLayout {
        KernelRingLayout::of(self.config.mtu_bytes)
    }

    /// What the slow path was told since last asked, with the frames.
    pub fn reports(&mut self) -> Vec<(KernelEntry, Vec<u8>)> {
        let mut reports = Vec::new();
        loop {
            let slot = self.layout().slot(self.to_slow.position());
            let Some(words) = self.to_slow.pop() else {
                break;
            };
            let entry = KernelEntry::decode(words);
            let bytes = if entry.op == abi::kernel_ring::to_slow::PACKET { entry.value as usize } else { 0 };
            let mut frame = vec![0; bytes];
            assert!(self.memory.to_slow_slots.read(slot, &mut frame));
            reports.push((entry, frame));
        }
        self.to_slow.commit();
        reports
    }

    /// Operations the slow path was told since last asked.
    pub fn report_ops(&mut self) -> Vec<u8> {
        self.reports().iter().map(|(entry, _)| entry.op).collect()
    }

    /// What the application was told since last asked.
    pub fn events(&mut self) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        while let Some(words) = self.from_core.pop() {
            events.push(FlowEvent::decode(words));
        }
        self.from_core.commit();
        events
    }

    /// The application writes an entry as it stands; polls, returns what was sent.
    pub fn application(&mut self, event: FlowEvent) -> Vec<TestSegment> {
        assert!(self.to_core.push(event.encode()));
        self.poll()
    }

    /// The application has read up to `position`.
    pub fn read_to(&mut self, flow: u32, position: u64) -> Vec<TestSegment> {
        self.application(FlowEvent {
            flow,
            flags: event_flags::RX,
            generation: 5,
            rx: position,
            tx: 0,
            ..FlowEvent::default()
        })
    }

    /// The application writes `bytes` at the end of its stream and says so; polls, returns what was sent.
    pub fn write(&mut self, flow: u32, bytes: &[u8]) -> Vec<TestSegment> {
        let tx = self.place(flow, bytes);
        self.application(FlowEvent {
            flow,
            flags: event_flags::TX,
            generation: 5,
            rx: 0,
            tx,
            ..FlowEvent::default()
        })
    }

    /// The application ends its stream.
    pub fn finish(&mut self, flow: u32) -> Vec<TestSegment> {
        self.application(FlowEvent {
            flow,
            flags: event_flags::FIN,
            generation: 5,
            rx: 0,
            tx: 0,
            ..FlowEvent::default()
        })
    }

    /// Puts bytes into transmit chunks behind the flow's `snd_end`; returns the new end.
    pub fn place(&mut self, flow: u32, bytes: &[u8]) -> u64 {
        let start = self.hot(flow).snd_end.load(Relaxed);
        for (position, byte) in (start..).zip(bytes) {
            let entry = MAP_ENTRIES as usize + (position >> CHUNK_SHIFT) as usize % MAP_ENTRIES as usize;
            let word = &self.maps[flow as usize * 2 * MAP_ENTRIES as usize + entry];
            if word.load(Relaxed) == 0 {
                assert!(self.next_chunk < SEGMENT_CHUNKS, "the test wrote too much");
                word.store(self.next_chunk + 1, Relaxed);
                self.next_chunk += 1;
            }
            let chunk = (word.load(Relaxed) - 1) as usize;
            assert!(self
                .pool
                .write((chunk << CHUNK_SHIFT) + (position % u64::from(CHUNK_BYTES)) as usize, &[*byte]));
        }
        start + bytes.len() as u64
    }

    /// The receive map of a flow.
    pub fn receive_map(&self, flow: u32) -> &'static [AtomicU32] {
        let first = flow as usize * 2 * MAP_ENTRIES as usize;
        &self.maps[first..first + MAP_ENTRIES as usize]
    }

    /// The application copies received bytes out.
    pub fn received(&self, flow: u32, from: u64, to: u64) -> Vec<u8> {
        (from..to)
            .map(|position| {
                let word = self.receive_map(flow)[(position >> CHUNK_SHIFT) as usize % MAP_ENTRIES as usize]
                    .load(Relaxed);
                assert!(word != 0, "no chunk at {position:#x}");
                let mut byte = [0];
                let offset =
                    ((word - 1) << CHUNK_SHIFT) as usize + (position % u64::from(CHUNK_BYTES)) as usize;
                assert!(self.pool.read(offset, &mut byte));
                byte[0]
            })
            .collect()
    }

    /// Receive chunks in the flows' maps.
    pub fn chunks_in_use(&self) -> usize {
        (0..self.tables.hot.len() as u32)
            .flat_map(|flow| self.receive_map(flow))
            .filter(|word| word.load(Relaxed) != 0)
            .count()
    }

    /// A counter of the core.
    pub fn counter(&self, counter: abi::core_status::Counter) -> u64 {
        self.memory.status.counters[counter as usize].load(Relaxed)
    }
}

impl<const FAMILY: u8> Default for World<FAMILY> {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts a core as a shell does.
fn start(
    config: &Config,
    tables: Tables<'static>,
    memory: CoreMemory<'static>,
    context: ContextMemory<'static>,
    pool: SharedBytes<'static>,
    maps: &'static [AtomicU32],
    now_us: u64,
) -> Core<'static, MemoryPort> {
    let shared = Arc::new(Shared::new(&tables));
    shared.adopt(&tables, &[Adopted { application: APPLICATION, pool_segments: 1, maps: vec![maps] }]);
    let mut port = MemoryPort::default();
    port.frame_bytes = config.mtu_bytes as usize + 14;
    let mut core = Core::new(config.clone(), tables, memory, shared, port, NoSteer, now_us).unwrap();
    core.command(Command::AddMapSegment { application: APPLICATION, segment: 0, words: maps }).unwrap();
    core.command(Command::AddPoolSegment { application: APPLICATION, segment: 0, bytes: pool }).unwrap();
    core.command(Command::AddContext { context: CONTEXT, application: APPLICATION, memory: context })
        .unwrap();
    core
}
