// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A world around one `Stack`: memory, a clock, a stand-in for the fast path that does only what it
//! is told, and a peer that builds frames by hand.
//!
//! The family of addresses is a parameter of all of it: `ipv6.rs` runs the same tests over IPv6. Tests write
//! addresses as 32-bit numbers; in IPv6 they end addresses of 2001:db8::/96.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod frames;

use abi::{
    adjacency::Adjacency,
    core_status::CoreStatus,
    event::KernelEvent,
    flow::{hot_flags, slot_state, ColdFlow, HotFlow, NONE},
    kernel_ring::{reason, to_fast, to_slow, KernelEntry},
    limits::{ADJACENCIES_MAX, JUMBO_SLOT_BYTES},
    message::*,
};
use frames::Tcp;
use slowpath::{Action, Caller, Config, Outcome, Private, Sizes, Stack, Storage};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

pub const LOCAL: u32 = 0x0a00_0001;
pub const PEER: u32 = 0x0a00_0002;
pub const LOCAL_MAC: u64 = 0x0200_0000_0001;
pub const PEER_MAC: u64 = 0x0200_0000_0002;
pub const APP: u32 = 3;
pub const CONTEXT: u32 = 7;
/// Longest pause between two looks of the slow path at a flow that does not stall, microseconds.
pub const LOOK: u64 = 300_000;

/// Whether the tests are run over IPv6: those that `ipv6.rs` includes are.
pub fn is_v6() -> bool {
    module_path!().starts_with("ipv6::")
}

/// The address of number `number`, as it is on the wire.
pub fn address(number: u32) -> Vec<u8> {
    if !is_v6() {
        return number.to_be_bytes().to_vec();
    }
    words(number).iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The number of an address.
pub fn number(address: &[u8]) -> u32 {
    u32::from_be_bytes(address[address.len() - 4..].try_into().unwrap())
}

/// An address as messages have it.
pub fn words(number: u32) -> [u32; 4] {
    match (is_v6(), number) {
        (true, 0) => [0; 4],
        (true, _) => [0x2001_0db8, 0, 0, number],
        (false, _) => [number, 0, 0, 0],
    }
}

/// A name as messages have it.
pub fn endpoint(number: u32, port: u16) -> Endpoint {
    if is_v6() {
        Endpoint::ipv6(words(number), port, 0)
    } else {
        Endpoint::ipv4(number, port)
    }
}

/// An address as a hot flow and an adjacency have it.
pub fn hot_address(number: u32) -> u32 {
    if is_v6() {
        abi::flow::address_fold(words(number))
    } else {
        number
    }
}

/// Bytes that the IP header is longer than IPv4's.
pub fn extra() -> u32 {
    if is_v6() {
        20
    } else {
        0
    }
}

/// What marks a hot flow of the family.
pub fn family_flag() -> u32 {
    if is_v6() {
        hot_flags::IPV6
    } else {
        0
    }
}

/// A route to everywhere.
pub fn default_route(next_hop: u32) -> Route {
    if is_v6() {
        Route::ipv6([0; 4], 0, words(next_hop))
    } else {
        Route::ipv4(0, 0, next_hop)
    }
}

/// Our MSS option towards a peer: what is left of 1500 bytes.
pub fn full_mss() -> Option<Vec<u8>> {
    Some((1460 - extra() as u16).to_be_bytes().to_vec())
}

macro_rules! owned {
    ($($field:ident: $type:ty,)+) => {
        pub fn leak(sizes: &Sizes) -> Private<'static> {
            Private { $($field: Box::leak(vec![<$type>::default(); sizes.$field].into_boxed_slice()),)+ }
        }
    };
}
slowpath::private_tables!(owned);

fn table<T: Default>(count: u32) -> &'static [T] {
    Box::leak((0..count).map(|_| T::default()).collect::<Vec<_>>().into_boxed_slice())
}

pub fn core_status() -> &'static CoreStatus {
    Box::leak(Box::new(CoreStatus {
        waiting: AtomicU32::new(0),
        running: AtomicU32::new(1),
        loops: AtomicU64::new(0),
        run_us: AtomicU64::new(0),
        now_us: AtomicU64::new(0),
        reserved: Default::default(),
        counters: std::array::from_fn(|_| AtomicU64::new(0)),
    }))
}

pub struct World {
    pub stack: Stack<'static>,
    pub hot: &'static [HotFlow],
    pub cold: &'static [ColdFlow],
    pub adjacencies: &'static [Adjacency],
    pub core: &'static CoreStatus,
    pub now: u64,
    /// The core's clock does not advance.
    pub preempted: bool,
    /// Answer ARP requests for the peer.
    pub answers_arp: bool,
    /// Entries to the fast path, without frames.
    pub entries: Vec<KernelEntry>,
    pub frames: Vec<Vec<u8>>,
    /// Flow that the last frame was for: its SYN-ACK.
    pub last_transmit_flow: u32,
    pub injected: Vec<(u32, Vec<u8>)>,
    pub events: Vec<(u32, KernelEvent)>,
    pub drained: Vec<u32>,
    /// Answer REMOVE with REMOVED.
    pub removes: bool,
    /// Answer SYN_DATA, and take as much.
    pub takes_syn_data: bool,
    pub pool_bytes: u64,
    /// Accept at most this many actions per poll round.
    pub room: usize,
}

pub fn config() -> Config {
    let ipv4 = Config {
        cores: 1,
        flows: 64,
        ipv4: LOCAL,
        prefix: 24,
        mac: LOCAL_MAC,
        secret: [1, 2, 3, 4],
        ..Config::default()
    };
    if is_v6() {
        Config { ipv6: words(LOCAL), ipv6_prefix: 120, ipv6_link_local: [0xfe80_0000, 0, 0, 1], ..ipv4 }
    } else {
        ipv4
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Config) -> Self {
        let (hot, cold) = (table(config.flows), table(config.flows));
        let adjacencies = table(ADJACENCIES_MAX);
        let core = core_status();
        let mut cores = [None; 16];
        for slot in cores.iter_mut().take(config.cores as usize) {
            *slot = Some(core);
        }
        let storage = Storage { hot, cold, adjacencies, cores, private: leak(&Sizes::of(&config)) };
        let now = 1_000_000;
        let mut stack = Stack::new(now, config, storage).unwrap();
        assert_eq!(stack.fast_path_attached(now, &config, 42), Ok(false));
        stack.add_application(APP, 1000, 4242, *b"test\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
        stack.set_map_records(APP, 4096).unwrap();
        stack.add_context(APP, CONTEXT).unwrap();
        let mut world = Self {
            stack,
            hot,
            cold,
            adjacencies,
            core,
            now,
            preempted: false,
            answers_arp: true,
            entries: vec![],
            frames: vec![],
            last_transmit_flow: NONE,
            injected: vec![],
            events: vec![],
            drained: vec![],
            removes: true,
            takes_syn_data: true,
            pool_bytes: u64::MAX,
            room: usize::MAX,
        };
        world.pump();
        world.events.clear();
        // The detection of duplicate addresses.
        world.frames.clear();
        world
    }

    /// Carries out all actions, and what they lead to.
    pub fn pump(&mut self) {
        let mut frame = [0u8; JUMBO_SLOT_BYTES as usize];
        let mut room = self.room;
        while let Some(action) = self.stack.poll_action(&mut frame) {
            if room == 0 {
                self.stack.keep_action();
                continue;
            }
            room -= 1;
            match action {
                Action::ToFast { core, entry } => self.carry_out(core, entry, &frame),
                Action::Notify { context, event } => self.events.push((context, event)),
                Action::ApplicationDrained { application } => self.drained.push(application),
            }
        }
    }

    fn carry_out(&mut self, core: u32, entry: KernelEntry, frame: &[u8]) {
        let bytes = frame[..(entry.value as usize).min(frame.len())].to_vec();
        match entry.op {
            to_fast::TRANSMIT => {
                self.last_transmit_flow = entry.flow;
                self.frames.push(bytes.clone());
                if let (Some(answer), true) = (frames::neighbor_answer(&bytes), self.answers_arp) {
                    self.receive(answer);
                }
            }
            to_fast::INJECT => {
                self.injected.push((entry.flow, bytes));
            }
            to_fast::SYN_DATA => {
                self.entries.push(entry);
                if self.takes_syn_data {
                    let bytes = Tcp::parse(&bytes).payload.len() as u64;
                    let hot = &self.hot[entry.flow as usize];
                    hot.rcv_nxt.fetch_add(bytes.min(self.pool_bytes), Relaxed);
                    self.report(core, to_slow::SYN_DATA, entry.flow);
                }
            }
            op => {
                self.entries.push(entry);
                let hot = &self.hot[entry.flow as usize];
                if op == to_fast::INSTALL {
                    let state = self.cold[entry.flow as usize].state.load(Relaxed);
                    assert_eq!(state, slot_state::INSTALLED);
                }
                if op == to_fast::FINISH && hot.flags.load(Relaxed) & hot_flags::FIN_QUEUED == 0 {
                    // The core sends the FIN at once.
                    hot.flags.fetch_or(hot_flags::FIN_QUEUED | hot_flags::FIN_SENT, Relaxed);
                    hot.snd_max.fetch_max(hot.snd_end.load(Relaxed) + 1, Relaxed);
                    hot.snd_nxt.fetch_max(hot.snd_end.load(Relaxed) + 1, Relaxed);
                }
                if op == to_fast::REMOVE && self.removes {
                    self.report(core, to_slow::REMOVED, entry.flow);
                }
            }
        }
    }

    pub fn report(&mut self, core: u32, op: u8, flow: u32) {
        let entry = KernelEntry { op, reason: 0, flow, value: 0 };
        self.stack.handle_report(self.now, core, entry);
    }

    pub fn receive(&mut self, mut frame: Vec<u8>) {
        self.stack.handle_packet(self.now, 0, reason::NO_FLOW, &mut frame);
    }

    /// A segment from the peer, and all that follows at once.
    pub fn peer(&mut self, segment: Tcp) {
        self.receive(segment.frame());
        self.pump();
    }

    /// Lets time pass, timer by timer.
    pub fn advance(&mut self, us: u64) {
        let end = self.now + us;
        let mut steps = 0;
        loop {
            self.pump();
            match self.stack.next_deadline() {
                Some(at) if at <= end => self.step(at.max(self.now)),
                _ => break,
            }
            steps += 1;
            assert!(steps < 2_000_000, "timers do not come to rest");
        }
        self.step(end);
        self.pump();
    }

    fn step(&mut self, at: u64) {
        if !self.preempted {
            self.core.loops.fetch_add(4, Relaxed);
            self.core.run_us.fetch_add(at - self.now, Relaxed);
        }
        self.now = at;
        self.stack.handle_timer(at);
    }

    pub fn call(&mut self, socket: Option<u32>, message: &mut Message) -> Outcome {
        let caller = Caller { application: APP, net_bind_service: false, net_admin: true };
        let outcome = self.stack.handle_request(self.now, &caller, socket, message);
        self.pump();
        outcome
    }

    pub fn socket(&mut self) -> u32 {
        let family = if is_v6() { AF_INET6 } else { AF_INET }.into();
        let body = Socket { opaque: 99, family, context: CONTEXT, ..Socket::default() };
        let mut message = Message::with(Op::Socket, 0, &body);
        match self.call(None, &mut message) {
            Outcome::NewSocket { socket } => socket,
            other => panic!("{other:?} error {}", message.error),
        }
    }

    pub fn bind(&mut self, socket: u32, address: u32, port: u16) -> Result<u16, u32> {
        let body = Name { endpoint: endpoint(address, port), reserved: 0 };
        let mut message = Message::with(Op::Bind, socket, &body);
        self.call(Some(socket), &mut message);
        result(&message).map(|()| message.get::<Name>().endpoint.port)
    }

    pub fn listen(&mut self, socket: u32, backlog: u32) -> Result<(), u32> {
        let mut message = Message::new(Op::Listen, socket);
        message.flags = backlog;
        self.call(Some(socket), &mut message);
        result(&message)
    }

    pub fn listener(&mut self, port: u16, backlog: u32) -> u32 {
        let socket = self.socket();
        self.bind(socket, 0, port).unwrap();
        self.listen(socket, backlog).unwrap();
        socket
    }

    pub fn connect(&mut self, socket: u32, address: u32, port: u16) -> u32 {
        let body = Connect { remote: endpoint(address, port), context: CONTEXT, ..Connect::default() };
        let mut message = Message::with(Op::Connect, socket, &body);
        self.call(Some(socket), &mut message);
        message.error
    }

    /// CONNECT with flags: what went or may go with the SYN, and whether it did.
    pub fn connect_fast(&mut self, socket: u32, flags: u32) -> Result<(u32, bool), u32> {
        let body = Connect { remote: endpoint(PEER, 80), context: CONTEXT, ..Connect::default() };
        let mut message = Message::with(Op::Connect, socket, &body);
        message.flags = flags;
        self.call(Some(socket), &mut message);
        let reply = message.get::<Connect>();
        result(&message).map(|()| (reply.syn_bytes, reply.started == 1))
    }

    /// Data for the SYN.
    pub fn syn_data(&mut self, socket: u32, data: &[u8]) -> Result<(), u32> {
        for piece in data.chunks(SYN_DATA_BYTES) {
            let mut body = SynData::default();
            body.bytes[..piece.len()].copy_from_slice(piece);
            let mut message = Message::with(Op::SynData, socket, &body);
            message.flags = piece.len() as u32;
            self.call(Some(socket), &mut message);
            result(&message)?;
        }
        Ok(())
    }

    pub fn accept(&mut self, socket: u32) -> Result<FlowInfo, u32> {
        let body = Accept { opaque: 5, context: CONTEXT, ..Accept::default() };
        let mut message = Message::with(Op::Accept, socket, &body);
        match self.call(Some(socket), &mut message) {
            Outcome::NewSocket { socket } => {
                assert_eq!(message.get::<FlowInfo>().socket, socket);
                Ok(message.get())
            }
            _ => Err(message.error),
        }
    }

    pub fn shutdown(&mut self, socket: u32, how: u32, end: u64) -> Result<(), u32> {
        let body = Shutdown { tx_end: end, reserved: 0 };
        let mut message = Message::with(Op::Shutdown, socket, &body);
        message.flags = how;
        self.call(Some(socket), &mut message);
        result(&message)
    }

    pub fn info(&mut self, socket: u32) -> Result<FlowInfo, u32> {
        let mut message = Message::new(Op::FlowInfo, socket);
        self.call(Some(socket), &mut message);
        result(&message).map(|()| message.get())
    }

    pub fn set_option(&mut self, socket: u32, option: u32, value: u32, value2: u32) -> Result<(), u32> {
        let body = Option_ { option, value, value2, ..Option_::default() };
        let mut message = Message::with(Op::SetOption, socket, &body);
        self.call(Some(socket), &mut message);
        result(&message)
    }

    pub fn get_option(&mut self, socket: u32, option: u32) -> Result<u32, u32> {
        let body = Option_ { option, value: 0, value2: 0, ..Option_::default() };
        let mut message = Message::with(Op::GetOption, socket, &body);
        self.call(Some(socket), &mut message);
        result(&message).map(|()| message.get::<Option_>().value)
    }

    pub fn release(&mut self, socket: u32) {
        self.stack.release_socket(self.now, socket);
        self.pump();
    }

    /// The size of the path MTU probe that is asked for, with what IPv6's header takes more, when it has left.
    pub fn path_probe(&mut self, flow: u32) -> Option<u64> {
        self.advance(LOOK);
        let asked =
            std::mem::take(&mut self.entries).into_iter().find(|entry| entry.op == to_fast::PROBE_PATH)?;
        let hot = &self.hot[flow as usize];
        let end = hot.snd_nxt.load(Relaxed) + asked.value;
        hot.flags.fetch_or(hot_flags::PATH_PROBE, Relaxed);
        hot.snd_nxt.store(end, Relaxed);
        hot.snd_max.store(end, Relaxed);
        hot.snd_end.fetch_add(asked.value, Relaxed);
        let report = KernelEntry { op: to_slow::PATH_PROBE, reason: 0, flow, value: end };
        self.stack.handle_report(self.now, 0, report);
        Some(asked.value + u64::from(extra()))
    }

    pub fn status(&mut self) -> Status {
        let mut message = Message::new(Op::Status, 0);
        self.call(None, &mut message);
        message.get()
    }

    /// Segments sent since the last call.
    pub fn sent(&mut self) -> Vec<Tcp> {
        let frames = std::mem::take(&mut self.frames);
        frames.iter().filter(|frame| is_tcp(frame)).map(|frame| Tcp::parse(frame)).collect()
    }

    /// Operations given to the fast path since the last call.
    pub fn ops(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.entries).into_iter().map(|entry| entry.op).collect()
    }

    /// Kinds of events since the last call.
    pub fn kinds(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.events).into_iter().map(|(_, event)| event.kind).collect()
    }

    /// An accepted connection on `port` from peer port `from`: its flow info and the listener.
    pub fn accepted(&mut self, listener: u32, port: u16, from: u16) -> FlowInfo {
        self.frames.clear();
        self.peer(Tcp::syn(from, port, 5000));
        let syn_ack = self.sent().pop().expect("SYN-ACK");
        self.peer(Tcp::ack(from, port, 5001, syn_ack.seq.wrapping_add(1)));
        let info = self.accept(listener).unwrap();
        self.entries.clear();
        self.events.clear();
        info
    }

    /// A connection of ours to the peer's port 80.
    pub fn connected(&mut self) -> FlowInfo {
        let socket = self.socket();
        self.frames.clear();
        assert_eq!(self.connect(socket, PEER, 80), 115);
        let syn = self.sent().pop().expect("SYN");
        self.peer(Tcp::syn_ack(80, syn.source, 9000, syn.seq.wrapping_add(1)));
        self.entries.clear();
        self.events.clear();
        self.info(socket).unwrap()
    }

    /// The fast path took `bytes` from the application and sent them.
    pub fn write(&mut self, flow: u32, bytes: u64) {
        let hot = &self.hot[flow as usize];
        let end = hot.snd_end.load(Relaxed) + bytes;
        hot.snd_end.store(end, Relaxed);
        hot.snd_nxt.store(end, Relaxed);
        hot.snd_max.store(end, Relaxed);
        self.report(0, to_slow::ACTIVE, flow);
        self.pump();
    }

    /// The peer acknowledged everything.
    pub fn acknowledged(&mut self, flow: u32) {
        let hot = &self.hot[flow as usize];
        let una = hot.snd_una.load(Relaxed);
        let max = hot.snd_max.load(Relaxed);
        hot.acked_bytes.fetch_add((max - una) as u32, Relaxed);
        hot.snd_una.store(max, Relaxed);
        if hot.flags.load(Relaxed) & hot_flags::FIN_SENT != 0 {
            hot.flags.fetch_or(hot_flags::FIN_ACKED, Relaxed);
            self.report(0, to_slow::FIN_ACKED, flow);
        }
        self.pump();
    }

    /// The peer's data arrived, and was read or not.
    pub fn received(&mut self, flow: u32, bytes: u64, read: bool) {
        let hot = &self.hot[flow as usize];
        let next = hot.rcv_nxt.fetch_add(bytes, Relaxed) + bytes;
        if read {
            hot.rcv_read.store(next, Relaxed);
        }
    }

    /// The peer's FIN arrived in order.
    pub fn peer_fin(&mut self, flow: u32) {
        let hot = &self.hot[flow as usize];
        hot.flags.fetch_or(hot_flags::FIN_RECEIVED, Relaxed);
        hot.rcv_nxt.fetch_add(1, Relaxed);
        self.report(0, to_slow::FIN_RECEIVED, flow);
        self.pump();
    }

    pub fn state(&self, flow: u32) -> u32 {
        self.cold[flow as usize].tcp_state.load(Relaxed)
    }

    /// Nothing is left but listeners and idle sockets.
    pub fn assert_clean(&mut self) {
        let status = self.status();
        assert_eq!((status.flows_used, status.half_open), (0, 0));
        for cold in self.cold {
            assert_eq!(cold.state.load(Relaxed), slot_state::FREE);
        }
    }
}

/// Whether a frame is a segment of the family.
pub fn is_tcp(frame: &[u8]) -> bool {
    match is_v6() {
        true => frame[12..14] == [0x86, 0xdd] && frame[20] == 6,
        false => frame[12..14] == [8, 0] && frame[23] == 6,
    }
}

pub fn result(message: &Message) -> Result<(), u32> {
    if message.error == 0 {
        Ok(())
    } else {
        Err(message.error)
    }
}
