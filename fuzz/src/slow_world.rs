// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `Stack` with its memory, a clock, a stand-in for the fast path that believes what it is told, and a list of the
//! connections that a peer has seen. Every action is checked.

use crate::frames::{self, Family, Segment, ACK, FIN, SYN};
use abi::{
    adjacency::Adjacency,
    core_status::CoreStatus,
    event::{kernel_event, KernelEvent},
    flow::{hot_flags, slot_state, ColdFlow, HotFlow},
    kernel_ring::{reason, to_fast, to_slow, KernelEntry},
    limits::ADJACENCIES_MAX,
    message::{Message, Op, Status},
};
use slowpath::{Action, Caller, Config, Outcome, Private, Sizes, Stack, Storage};
use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The application, and its context.
pub(crate) const APPLICATION: u32 = 3;
pub(crate) const CONTEXT: u32 = 7;
/// Our address on the link, in worlds of IPv6.
pub(crate) const LINK_LOCAL: [u32; 4] = [0xfe80_0000, 0, 0, 1];
/// Flow slots: the fewest there can be.
const FLOWS: u32 = 64;
/// Calls of `handle_timer` until nothing is due any more: far more than all tables hold.
const TIMER_CALLS_MAX: u32 = 20_000;
/// Frames of ours that are remembered.
const SENT_MAX: usize = 8;

macro_rules! owned {
    ($($field:ident: $type:ty,)+) => {
        struct Owned { $($field: Vec<$type>,)+ }
        impl Owned {
            fn new(sizes: &Sizes) -> Self {
                Self { $($field: vec![<$type>::default(); sizes.$field],)+ }
            }
            fn reset(&mut self) {
                $(self.$field.fill(<$type>::default());)+
            }
            fn private(&mut self) -> Private<'_> {
                Private { $($field: &mut self.$field,)+ }
            }
        }
    };
}
slowpath::private_tables!(owned);

/// What a world works in.
pub(crate) struct Memory {
    hot: Vec<HotFlow>,
    cold: Vec<ColdFlow>,
    adjacencies: Vec<Adjacency>,
    core: CoreStatus,
    owned: Owned,
}

thread_local! {
    /// Memory of an earlier world: new pages cost more than a world.
    static SPARE: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

impl Memory {
    /// Runs `run` on fresh memory.
    pub(crate) fn with(run: impl FnOnce(&mut Self)) {
        let mut memory = match SPARE.take() {
            Some(spare) => spare.reset(),
            None => Self::shared(Owned::new(&Sizes::of(&config(Family::V4)))),
        };
        run(&mut memory);
        SPARE.set(Some(memory));
    }

    fn reset(mut self) -> Self {
        self.owned.reset();
        Self::shared(self.owned)
    }

    fn shared(owned: Owned) -> Self {
        Self {
            hot: (0..FLOWS).map(|_| HotFlow::default()).collect(),
            cold: (0..FLOWS).map(|_| ColdFlow::default()).collect(),
            adjacencies: (0..ADJACENCIES_MAX).map(|_| Adjacency::default()).collect(),
            core: CoreStatus {
                waiting: AtomicU32::new(0),
                running: AtomicU32::new(1),
                loops: AtomicU64::new(0),
                run_us: AtomicU64::new(0),
                now_us: AtomicU64::new(0),
                reserved: Default::default(),
                counters: std::array::from_fn(|_| AtomicU64::new(0)),
            },
            owned,
        }
    }
}

/// The configuration of every world of IPv4, which one of IPv6 has as well.
fn config(family: Family) -> Config {
    let ipv4 = Config {
        cores: 1,
        flows: FLOWS,
        ipv4: frames::LOCAL,
        prefix: 24,
        mac: frames::LOCAL_MAC,
        secret: [1, 2, 3, 4],
        ..Config::default()
    };
    match family {
        Family::V4 => ipv4,
        Family::V6 => Config {
            ipv6: family.words(frames::LOCAL),
            ipv6_prefix: 120,
            ipv6_link_local: LINK_LOCAL,
            ..ipv4
        },
    }
}

/// A connection, or an attempt, as the peer sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) family: Family,
    /// Our port and the peer's.
    pub(crate) ports: (u16, u16),
    /// Our first sequence number that it saw.
    pub(crate) first: u32,
    /// The peer's next sequence number, and the one it expects.
    pub(crate) next: u32,
    pub(crate) expected: u32,
}

pub(crate) struct World<'m> {
    pub(crate) stack: Stack<'m>,
    pub(crate) hot: &'m [HotFlow],
    pub(crate) cold: &'m [ColdFlow],
    pub(crate) core: &'m CoreStatus,
    /// Addresses of most sockets and of most of the peer's segments.
    pub(crate) family: Family,
    pub(crate) now: u64,
    /// The core's clock stands still.
    pub(crate) preempted: bool,
    /// ARP requests are answered.
    pub(crate) answers_arp: bool,
    /// REMOVE is answered.
    pub(crate) removes: bool,
    /// Actions the rings take per call.
    pub(crate) room: usize,
    /// Most bytes that the pool has for the data of a SYN; `None`: SYN_DATA is not answered.
    pub(crate) syn_data_room: Option<u64>,
    /// The cookie that we gave to the peer last.
    pub(crate) cookie: Vec<u8>,
    pub(crate) attached: bool,
    /// Somebody said that he has our IPv6 address (RFC 4862 §5.4).
    pub(crate) disputed: bool,
    /// Somebody wrote lies into the tables.
    pub(crate) lied: bool,
    /// REMOVEs that were not answered.
    owed: BTreeSet<u32>,
    /// Flows the fast path knows.
    pub(crate) installed: BTreeSet<u32>,
    pub(crate) sockets: Vec<u32>,
    pub(crate) known: Vec<Known>,
    pub(crate) sent: VecDeque<Vec<u8>>,
    /// The application is dead and not yet drained.
    pub(crate) dead: bool,
    /// A RST is being answered: with no RST.
    resetting: bool,
}

impl<'m> World<'m> {
    pub(crate) fn new(memory: &'m mut Memory, family: Family) -> Self {
        let Memory { hot, cold, adjacencies, core, owned } = memory;
        let mut cores = [None; 16];
        cores[0] = Some(&*core);
        let storage = Storage { hot, cold, adjacencies, cores, private: owned.private() };
        let now = 1_000_000;
        let mut stack = Stack::new(now, config(family), storage).unwrap();
        assert_eq!(stack.fast_path_attached(now, &config(family), 42), Ok(false));
        let mut world = Self {
            stack,
            hot,
            cold,
            core,
            family,
            now,
            preempted: false,
            answers_arp: true,
            removes: true,
            room: usize::MAX,
            syn_data_room: Some(u64::MAX),
            cookie: vec![],
            attached: true,
            disputed: false,
            lied: false,
            owed: BTreeSet::new(),
            installed: BTreeSet::new(),
            sockets: vec![],
            known: vec![],
            sent: VecDeque::new(),
            dead: false,
            resetting: false,
        };
        world.add_application();
        world
    }

    fn add_application(&mut self) {
        self.stack.add_application(APPLICATION, 1000, 4242, *b"fuzz\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
        self.stack.set_map_records(APPLICATION, 4096).unwrap();
        self.stack.add_context(APPLICATION, CONTEXT).unwrap();
        self.pump();
    }

    /// Carries out what the stack wants, as far as there is room.
    pub(crate) fn pump(&mut self) {
        let mut frame = [0u8; 2048];
        let mut room = self.room;
        let mut kept = 0;
        while let Some(action) = self.stack.poll_action(&mut frame) {
            let needs_room = !matches!(action, Action::ApplicationDrained { .. });
            if room == 0 && needs_room {
                self.stack.keep_action();
                kept += 1;
                assert!(kept < 100, "an action is offered for ever");
                continue;
            }
            room -= usize::from(needs_room);
            match action {
                Action::ToFast { core, entry } => {
                    assert_eq!(core, 0);
                    assert!(self.attached, "{entry:?} to nobody");
                    self.carry_out(entry, &frame);
                }
                Action::Notify { context, event } => self.notified(context, event),
                Action::ApplicationDrained { application } => {
                    assert!(self.dead && application == APPLICATION);
                    assert!(self.stack.remove_application(APPLICATION));
                    self.dead = false;
                    self.add_application();
                }
            }
        }
    }

    fn notified(&self, context: u32, event: KernelEvent) {
        assert!(context == CONTEXT && !self.dead, "{event:?} for {context}");
        let about_socket = matches!(
            event.kind,
            kernel_event::CONNECTED | kernel_event::FAILED | kernel_event::ACCEPTABLE | kernel_event::MOVED
        );
        let known = self.sockets.contains(&event.socket);
        assert!(known || !about_socket, "{event:?} about no socket of ours");
    }

    fn carry_out(&mut self, entry: KernelEntry, frame: &[u8]) {
        let flow = entry.flow;
        match entry.op {
            to_fast::TRANSMIT => self.transmitted(&frame[..entry.value as usize]),
            to_fast::INJECT => assert!(entry.value <= 1514 && self.installed.contains(&flow)),
            to_fast::INSTALL => {
                let state = self.cold[flow as usize].state.load(Relaxed);
                assert_eq!(state, slot_state::INSTALLED, "flow {flow}");
                self.installed.insert(flow);
                self.hot[flow as usize].flags.fetch_or(hot_flags::INSTALLED, Relaxed);
            }
            // Also of a flow that it never knew.
            to_fast::REMOVE if self.removes => {
                self.installed.remove(&flow);
                self.report(to_slow::REMOVED, flow, 0);
            }
            to_fast::REMOVE => {
                self.owed.insert(flow);
            }
            to_fast::FINISH => {
                assert!(self.installed.contains(&flow));
                let hot = &self.hot[flow as usize];
                if hot.flags.load(Relaxed) & hot_flags::FIN_QUEUED == 0 {
                    hot.flags.fetch_or(hot_flags::FIN_QUEUED | hot_flags::FIN_SENT, Relaxed);
                    let end = hot.snd_end.load(Relaxed).wrapping_add(1);
                    hot.snd_max.fetch_max(end, Relaxed);
                    hot.snd_nxt.fetch_max(end, Relaxed);
                }
            }
            to_fast::RETRANSMIT => {
                assert!(self.installed.contains(&flow));
                let hot = &self.hot[flow as usize];
                hot.snd_nxt.store(hot.snd_max.load(Relaxed), Relaxed);
            }
            to_fast::SYN_DATA => {
                assert!(self.installed.contains(&flow));
                let syn = Segment::decode(&frame[..entry.value as usize]).expect("a segment");
                assert!(syn.flags & SYN != 0, "the SYN of flow {flow}");
                if let Some(room) = self.syn_data_room {
                    let bytes = room.min(syn.payload.len() as u64);
                    self.hot[flow as usize].rcv_nxt.fetch_add(bytes, Relaxed);
                    self.report(to_slow::SYN_DATA, flow, 0);
                }
            }
            op => {
                assert!((to_fast::INSTALL..=to_fast::SYN_DATA).contains(&op), "operation {op}");
                assert!(self.installed.contains(&flow), "operation {op} of a flow that is not installed");
            }
        }
    }

    /// A frame leaves: whole, ours, with good checksums.
    fn transmitted(&mut self, frame: &[u8]) {
        assert!((60..=1514).contains(&frame.len()), "{} bytes", frame.len());
        if let Some(answer) = frames::neighbor_answer(frame) {
            if self.answers_arp {
                self.receive(answer);
            }
            return;
        }
        let Some(segment) = Segment::decode(frame) else {
            return;
        };
        assert!(frames::is_from_us(frame), "{frame:02x?}");
        assert!(!self.resetting || segment.flags & frames::RST == 0, "a RST answers a RST");
        let ports = segment.ports;
        let length = segment.payload.len() as u32 + u32::from(segment.flags & (SYN | FIN) != 0);
        let end = segment.seq.wrapping_add(length);
        match self.known.iter_mut().find(|known| known.ports == ports) {
            Some(known) => {
                known.expected = end;
                if segment.flags & ACK != 0 {
                    known.next = segment.ack;
                }
            }
            None => {
                let (family, first) = (segment.family, segment.seq);
                self.known.push(Known { family, ports, first, next: 7000, expected: end });
            }
        }
        if let Some(cookie) = frames::cookie_in(&segment.options) {
            self.cookie = cookie;
        }
        self.sent.push_back(frame.to_vec());
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
    }

    pub(crate) fn receive(&mut self, mut frame: Vec<u8>) {
        self.stack.handle_packet(self.now, 0, reason::NO_FLOW, &mut frame);
    }

    /// A segment from the peer, and what follows.
    pub(crate) fn peer(&mut self, segment: &Segment) {
        // With frames waiting for room nobody can tell what is the answer.
        self.resetting = segment.flags & frames::RST != 0 && self.room == usize::MAX;
        self.receive(segment.encode());
        self.pump();
        self.resetting = false;
    }

    pub(crate) fn report(&mut self, op: u8, flow: u32, value: u64) {
        self.stack.handle_report(self.now, 0, KernelEntry { op, reason: 0, flow, value });
    }

    /// A request of the application.
    pub(crate) fn call(&mut self, socket: Option<u32>, message: &mut Message) -> Outcome {
        let caller = Caller { application: APPLICATION, net_bind_service: false, net_admin: true };
        self.request(&caller, socket, message)
    }

    /// A request of anybody.
    pub(crate) fn request(&mut self, caller: &Caller, socket: Option<u32>, message: &mut Message) -> Outcome {
        let outcome = self.stack.handle_request(self.now, caller, socket, message);
        if message.op == Op::Close as u32 && message.error == 0 {
            self.sockets.retain(|one| Some(*one) != socket);
        }
        if let Outcome::NewSocket { socket } = outcome {
            assert!(!self.sockets.contains(&socket), "a socket is given twice");
            self.sockets.push(socket);
        }
        assert!(message.error < 134, "errno {}", message.error);
        self.pump();
        outcome
    }

    pub(crate) fn release(&mut self, socket: u32) {
        self.sockets.retain(|one| *one != socket);
        self.stack.release_socket(self.now, socket);
        self.pump();
    }

    /// Time goes on, and what is due happens.
    pub(crate) fn advance(&mut self, us: u64) {
        if !self.preempted {
            self.core.loops.fetch_add(4, Relaxed);
            self.core.run_us.fetch_add(us, Relaxed);
        }
        self.now += us;
        for _ in 0..TIMER_CALLS_MAX {
            self.stack.handle_timer(self.now);
            self.pump();
            if self.stack.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            if self.room == 0 {
                // What cannot be carried out stays due.
                return;
            }
        }
        panic!("timers do not come to rest");
    }

    pub(crate) fn attach(&mut self) {
        if !self.attached {
            self.attached = true;
            // The new fast path knows what the table says.
            self.installed = (0..FLOWS)
                .filter(|flow| self.cold[*flow as usize].state.load(Relaxed) == slot_state::INSTALLED)
                .collect();
            self.stack
                .fast_path_attached(self.now, &config(self.family), 43)
                .expect("the same configuration");
            self.pump();
        }
    }

    pub(crate) fn detach(&mut self) {
        if self.attached {
            self.stack.fast_path_detached(self.now);
            self.attached = false;
            self.pump();
        }
    }

    pub(crate) fn die(&mut self) {
        if !self.dead {
            self.dead = true;
            self.sockets.clear();
            self.stack.application_died(self.now, APPLICATION);
            self.pump();
        }
    }

    /// No application is dying, no connection is left.
    fn is_quiet(&mut self) -> bool {
        let mut message = Message::new(Op::Status, 0);
        self.call(None, &mut message);
        let status: Status = message.get();
        !self.dead && (status.flows_used, status.half_open, status.time_wait) == (0, 0, 0)
    }

    /// Everything ends in order: then nothing may be in use.
    pub(crate) fn finish(&mut self) {
        (self.room, self.removes, self.preempted) = (usize::MAX, true, false);
        self.attach();
        self.answers_arp = true;
        if self.lied {
            for flow in &self.installed {
                self.hot[*flow as usize].flags.store(hot_flags::INSTALLED, Relaxed);
            }
            self.core.run_us.store(self.now, Relaxed);
        }
        self.die();
        for flow in std::mem::take(&mut self.owed) {
            self.installed.remove(&flow);
            self.report(to_slow::REMOVED, flow, 0);
        }
        self.pump();
        for _ in 0..150 {
            if self.is_quiet() {
                break;
            }
            self.advance(7_000_000);
        }
        if !self.lied {
            let usage = self.stack.usage();
            assert!(!self.dead, "the application is not drained: {usage:?}");
            assert_eq!(usage, slowpath::Usage::default(), "something is left");
            assert!(self.cold.iter().all(|cold| cold.state.load(Relaxed) == slot_state::FREE));
        }
    }
}
