// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other side: control calls answered from a script, rings and payload memory in memfds.

use crate::{
    control::{ControlChannel, Mapping, Target},
    lowlevel::{Application, Connection, Context, Options, Socket},
    sys,
};
use abi::{
    clock::ClockPage,
    context::{ContextLayout, HEADER_BYTES, RING_HEADER_BYTES},
    core_status::{CoreStatus, CORE_STATUS_STRIDE},
    event::{FlowEvent, KernelEvent, EVENT_WORDS},
    message::{self, AttachApplication, FlowInfo, Grow, Message, Op},
    pool::*,
    region::{Region, RegionKind},
};
use ring::{Consumer, Producer};
use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        atomic::{AtomicU32, Ordering::*},
        Arc, Mutex,
    },
};

pub(super) const FLOWS: u32 = 4096;
pub(super) const TX_BUFFER_BYTES: u32 = 64 * 1024;
pub(super) const RX_BUFFER_BYTES: u32 = 64 * 1024;

/// A slow path that grants what is asked for, within its limits.
pub(super) struct FakeChannel {
    pub(super) cores: u32,
    pub(super) entries: u32,
    pub(super) pool_limit: u32,
    pub(super) pool_segments: AtomicU32,
    pub(super) accepts: Mutex<VecDeque<FlowInfo>>,
    pub(super) calls: Mutex<Vec<u32>>,
    pub(super) core_wakes: Mutex<Vec<u32>>,
    pub(super) eventfds: Mutex<Vec<OwnedFd>>,
    memory: Mutex<HashMap<u64, OwnedFd>>,
    contexts: AtomicU32,
    sockets: AtomicU32,
}

impl FakeChannel {
    pub(super) fn new(cores: u32, entries: u32, pool_limit: u32) -> Arc<Self> {
        Arc::new(Self {
            cores,
            entries,
            pool_limit,
            pool_segments: 1.into(),
            accepts: Mutex::default(),
            calls: Mutex::default(),
            core_wakes: Mutex::default(),
            eventfds: Mutex::default(),
            memory: Mutex::default(),
            contexts: 0.into(),
            sockets: 0.into(),
        })
    }

    pub(super) fn attach(self: &Arc<Self>) -> Arc<Application> {
        let options = Options { instance: "tas0".into(), command: [0; 16] };
        Application::attach(self.clone(), &options).unwrap()
    }

    pub(super) fn layout(&self) -> ContextLayout {
        ContextLayout { cores: self.cores, entries: self.entries, kernel_entries: 16 }
    }

    fn bytes(&self, kind: RegionKind) -> usize {
        match kind {
            RegionKind::Clock => 4096,
            RegionKind::CoreStatus => self.cores as usize * CORE_STATUS_STRIDE,
            RegionKind::Context => self.layout().bytes(),
            _ => SEGMENT_BYTES as usize,
        }
    }

    /// The other side's mapping of a region.
    pub(super) fn open(&self, region: Region) -> Mapping {
        self.map(region, self.bytes(region.kind), true, None).unwrap()
    }

    fn reply(&self, op: Op, message: &mut Message) -> Result<Option<OwnedFd>, i32> {
        match op {
            Op::AttachApplication => {
                let mut body = message.get::<AttachApplication>();
                (body.application, body.cores, body.flows) = (3, self.cores, FLOWS);
                (body.pool_segments, body.map_segments) = (self.pool_segments.load(SeqCst), 1);
                (body.tx_buffer_bytes, body.rx_buffer_bytes) = (TX_BUFFER_BYTES, RX_BUFFER_BYTES);
                message.set(&body);
            }
            Op::CreateContext => {
                let layout = self.layout();
                message.set(&message::Context {
                    context: self.contexts.fetch_add(1, SeqCst),
                    entries: layout.entries,
                    kernel_entries: layout.kernel_entries,
                    cores: layout.cores,
                    bytes: layout.bytes() as u64,
                    reserved: 0,
                });
            }
            Op::Grow => {
                let mut body = message.get::<Grow>();
                if body.kind == RegionKind::Pool as u32 {
                    if self.pool_segments.load(SeqCst) >= self.pool_limit {
                        return Err(libc::ENOBUFS);
                    }
                    body.segments = self.pool_segments.fetch_add(1, SeqCst) + 1;
                }
                message.set(&body);
            }
            Op::Socket => {
                let mut body = message.get::<message::Socket>();
                body.socket = self.sockets.fetch_add(1, SeqCst);
                message.set(&body);
                return Ok(Some(sys::eventfd().unwrap()));
            }
            Op::Accept => {
                let info = self.accepts.lock().unwrap().pop_front().ok_or(libc::EAGAIN)?;
                message.set(&info);
                return Ok(Some(sys::eventfd().unwrap()));
            }
            Op::FlowInfo => {
                let info = self.accepts.lock().unwrap().pop_front().ok_or(libc::ENOTCONN)?;
                message.set(&info);
            }
            Op::Connect => return Err(libc::EINPROGRESS),
            _ => {}
        }
        Ok(None)
    }
}

impl ControlChannel for FakeChannel {
    fn call(
        &self,
        _target: Target<'_>,
        message: &mut Message,
        pass: Option<BorrowedFd<'_>>,
    ) -> io::Result<Vec<OwnedFd>> {
        self.calls.lock().unwrap().push(message.op);
        if let Some(passed) = pass {
            self.eventfds.lock().unwrap().push(passed.try_clone_to_owned().unwrap());
        }
        let reply = self.reply(Op::from_u32(message.op).unwrap(), message);
        reply.map(|descriptor| descriptor.into_iter().collect()).map_err(io::Error::from_raw_os_error)
    }

    fn map(&self, region: Region, bytes: usize, writable: bool, at: Option<usize>) -> io::Result<Mapping> {
        let mut memory = self.memory.lock().unwrap();
        let file = memory.entry(region.offset()).or_insert_with(|| {
            let file =
                nix::sys::memfd::memfd_create(c"fake", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
            nix::unistd::ftruncate(&file, self.bytes(region.kind) as i64).unwrap();
            file
        });
        Mapping::new(file.as_fd(), 0, bytes, writable, at)
    }

    fn notice_fd(&self) -> BorrowedFd<'_> {
        unreachable!("applications take no notices")
    }

    fn wake_core(&self, core: u32) -> io::Result<()> {
        self.core_wakes.lock().unwrap().push(core);
        Ok(())
    }

    fn wake_context(&self, _context: u32) -> io::Result<()> {
        unreachable!("applications wake no contexts")
    }

    fn wake_slowpath(&self) -> io::Result<()> {
        unreachable!("applications do not wake the slow path")
    }

    fn name(&self) -> &'static str {
        "fake"
    }
}

/// What the fast path knows of a flow.
pub(super) struct FakeFlow {
    pub(super) info: FlowInfo,
    pub(super) rcv_nxt: u64,
    pub(super) rcv_read: u64,
    pub(super) snd_una: u64,
    pub(super) snd_end: u64,
    pub(super) fin: bool,
    /// Flags of the entries, but for RX.
    pub(super) told: Vec<u16>,
}

/// The fast path's end of one context.
pub(super) struct FakeFast {
    pub(super) flows: HashMap<u32, FakeFlow>,
    pub(super) from_application: Vec<Consumer<'static, EVENT_WORDS>>,
    pub(super) to_application: Vec<Producer<'static, EVENT_WORDS>>,
    pub(super) kernel: Producer<'static, EVENT_WORDS>,
    pub(super) status: Mapping,
    pub(super) clock: Mapping,
    channel: Arc<FakeChannel>,
    free: Vec<u32>,
    pools: Vec<Mapping>,
    maps: Mapping,
    pub(super) region: Mapping,
}

impl FakeFast {
    pub(super) fn new(channel: &Arc<FakeChannel>, context: u32) -> Self {
        let region = channel.open(Region::whole(RegionKind::Context, context));
        let layout = channel.layout();
        let words = |offset: usize, entries: u32| {
            let count = RING_HEADER_BYTES / 8 + entries as usize * EVENT_WORDS;
            // SAFETY: the region lives as long as the value that holds the rings.
            unsafe { ring::words(region.at(offset, count * 8).unwrap(), count) }
        };
        Self {
            flows: HashMap::new(),
            from_application: (0..layout.cores)
                .map(|core| {
                    Consumer::attach(words(layout.to_fast(core), layout.entries), layout.entries).unwrap()
                })
                .collect(),
            to_application: (0..layout.cores)
                .map(|core| {
                    Producer::attach(words(layout.to_application(core), layout.entries), layout.entries)
                        .unwrap()
                })
                .collect(),
            kernel: Producer::attach(
                words(layout.from_kernel(), layout.kernel_entries),
                layout.kernel_entries,
            )
            .unwrap(),
            status: channel.open(Region::whole(RegionKind::CoreStatus, 0)),
            clock: channel.open(Region::whole(RegionKind::Clock, 0)),
            channel: channel.clone(),
            free: (0..SEGMENT_RECEIVE_CHUNKS).rev().collect(),
            pools: Vec::new(),
            maps: channel.open(Region::whole(RegionKind::Maps, 3)),
            region,
        }
    }

    pub(super) fn status(&self, core: u32) -> &CoreStatus {
        let at = self.status.at(core as usize * CORE_STATUS_STRIDE, 1).unwrap();
        // SAFETY: made of atomics, mapped as long as self.
        unsafe { &ring::table(at, 1)[0] }
    }

    pub(super) fn clock(&self) -> &ClockPage {
        // SAFETY: as above.
        unsafe { &ring::table(self.clock.start(), 1)[0] }
    }

    /// Every byte the application shares with us on the rings.
    pub(super) fn scribble(&self, byte: impl FnMut() -> u8) {
        let bytes = self.region.len() - HEADER_BYTES;
        let start = self.region.at(HEADER_BYTES, bytes).unwrap();
        let noise: Vec<u8> = std::iter::repeat_with(byte).take(bytes).collect();
        // SAFETY: in bounds of the mapping.
        unsafe { start.as_ptr().copy_from(noise.as_ptr(), bytes) };
    }

    fn chunk(&mut self, chunk: u32) -> *mut u8 {
        let segment = chunk / SEGMENT_CHUNKS;
        while self.pools.len() <= segment as usize {
            let byte_offset = self.pools.len() as u32 * SEGMENT_BYTES;
            self.pools.push(self.channel.open(Region { kind: RegionKind::Pool, index: 3, byte_offset }));
        }
        let offset = (chunk % SEGMENT_CHUNKS * CHUNK_BYTES) as usize;
        self.pools[segment as usize].at(offset, CHUNK_BYTES as usize).unwrap().as_ptr()
    }

    /// Entries of a record: receive, then transmit.
    pub(super) fn record(&self, index: u32) -> &'static [AtomicU32] {
        let at = self.maps.at((index * MAP_RECORD_BYTES) as usize, MAP_RECORD_BYTES as usize).unwrap();
        // SAFETY: tests keep self alive while they use it.
        unsafe { ring::table(at, 2 * MAP_ENTRIES as usize) }
    }

    /// Tells the application a flow's positions.
    pub(super) fn announce(&mut self, id: u32, flags: u16) -> bool {
        let flow = &self.flows[&id];
        let event = FlowEvent {
            flow: id,
            flags,
            generation: flow.info.generation,
            rx: flow.rcv_nxt,
            tx: flow.snd_una,
            ..FlowEvent::default()
        };
        self.to_application[flow.info.core as usize].push(event.encode())
    }

    pub(super) fn tell(&mut self, event: KernelEvent) {
        assert!(self.kernel.push(event.encode()));
    }

    /// Data arrives; returns how much fits the buffer and the receive chunks.
    pub(super) fn receive(&mut self, id: u32, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let flow = &self.flows[&id];
            let position = flow.rcv_nxt;
            let room = u64::from(RX_BUFFER_BYTES) - (position - flow.rcv_read);
            let rest = u64::from(CHUNK_BYTES) - position % u64::from(CHUNK_BYTES);
            let count = room.min(rest).min((bytes.len() - taken) as u64) as usize;
            let record = self.record(flow.info.buffers);
            let entry = &record[(position >> CHUNK_SHIFT) as usize % MAP_ENTRIES as usize];
            if entry.load(SeqCst) == 0 {
                let Some(chunk) = self.free.pop() else { break };
                entry.store(chunk + 1, SeqCst);
            }
            if count == 0 {
                break;
            }
            let at = self.chunk(entry.load(SeqCst) - 1);
            // SAFETY: within the chunk.
            unsafe {
                at.add((position % u64::from(CHUNK_BYTES)) as usize).copy_from(bytes[taken..].as_ptr(), count)
            };
            self.flows.get_mut(&id).unwrap().rcv_nxt += count as u64;
            taken += count;
        }
        taken
    }

    /// Takes what the application announced.
    pub(super) fn drain(&mut self) {
        for event in self.entries() {
            self.take(event);
        }
    }

    /// What the application wrote, as it stands.
    pub(super) fn entries(&mut self) -> Vec<FlowEvent> {
        let mut taken = Vec::new();
        for consumer in &mut self.from_application {
            while let Some(words) = consumer.pop() {
                taken.push(FlowEvent::decode(words));
            }
            consumer.commit();
        }
        taken
    }

    fn take(&mut self, event: FlowEvent) {
        use abi::event::event_flags::*;
        let Some(flow) = self.flows.get_mut(&event.flow) else {
            return;
        };
        assert_eq!(event.generation, flow.info.generation);
        if event.flags & RX != 0 {
            assert!(event.rx >= flow.rcv_read && event.rx <= flow.rcv_nxt, "read past what arrived");
            let old = std::mem::replace(&mut flow.rcv_read, event.rx);
            let (end, buffers) = (flow.rcv_nxt, flow.info.buffers);
            self.free_read(old, event.rx, end, buffers);
        }
        let flow = self.flows.get_mut(&event.flow).unwrap();
        if event.flags & TX != 0 {
            assert!(event.tx >= flow.snd_end && !(flow.fin && event.tx > flow.snd_end), "wrote after FIN");
            assert!(event.tx - flow.snd_una <= u64::from(TX_BUFFER_BYTES), "wrote past the buffer");
            flow.snd_end = event.tx;
        }
        flow.fin |= event.flags & FIN != 0;
        flow.told.push(event.flags & !RX);
    }

    fn free_read(&mut self, old: u64, read: u64, end: u64, buffers: u32) {
        let last =
            if read == end { (end + u64::from(CHUNK_BYTES) - 1) >> CHUNK_SHIFT } else { read >> CHUNK_SHIFT };
        for step in old >> CHUNK_SHIFT..last {
            let entry = &self.record(buffers)[step as usize % MAP_ENTRIES as usize];
            if let Some(chunk) = entry.swap(0, SeqCst).checked_sub(1) {
                self.free.push(chunk);
            }
        }
    }

    /// The outstanding bytes of a flow, as it would send them.
    pub(super) fn outstanding(&mut self, id: u32) -> Vec<u8> {
        let flow = &self.flows[&id];
        let (mut position, end, record) = (flow.snd_una, flow.snd_end, self.record(flow.info.buffers));
        let mut bytes = Vec::new();
        while position < end {
            let rest = u64::from(CHUNK_BYTES) - position % u64::from(CHUNK_BYTES);
            let count = rest.min(end - position) as usize;
            let entry =
                record[(MAP_ENTRIES + (position >> CHUNK_SHIFT) as u32 % MAP_ENTRIES) as usize].load(SeqCst);
            assert!(entry != 0, "no chunk at {position:#x}");
            assert!((entry - 1) % SEGMENT_CHUNKS >= SEGMENT_RECEIVE_CHUNKS, "a receive chunk to send from");
            let at = self.chunk(entry - 1);
            // SAFETY: within the chunk.
            let piece = unsafe {
                std::slice::from_raw_parts(at.add((position % u64::from(CHUNK_BYTES)) as usize), count)
            };
            bytes.extend_from_slice(piece);
            position += count as u64;
        }
        bytes
    }

    /// The peer acknowledges `bytes`.
    pub(super) fn acknowledge(&mut self, id: u32, bytes: u64) -> bool {
        let flow = self.flows.get_mut(&id).unwrap();
        flow.snd_una += bytes;
        assert!(flow.snd_una <= flow.snd_end);
        self.announce(id, abi::event::event_flags::TX)
    }
}

/// One application with one context and its other side.
pub(super) struct World {
    pub(super) fast: FakeFast,
    pub(super) context: Arc<Context>,
    pub(super) application: Arc<Application>,
    pub(super) channel: Arc<FakeChannel>,
}

impl World {
    pub(super) fn new(cores: u32, entries: u32, pool_limit: u32) -> Self {
        let channel = FakeChannel::new(cores, entries, pool_limit);
        let application = channel.attach();
        let context = Context::new(&application).unwrap();
        let fast = FakeFast::new(&channel, context.id());
        Self { fast, context, application, channel }
    }

    pub(super) fn info(id: u32, start: u64, core: u32) -> FlowInfo {
        FlowInfo {
            flow: id,
            generation: 100 + id,
            core,
            buffers: id,
            rx_start: start,
            tx_start: start ^ 0x5555,
            tx_buffer_bytes: TX_BUFFER_BYTES,
            rx_buffer_bytes: RX_BUFFER_BYTES,
            ..FlowInfo::default()
        }
    }

    /// Accepts a connection whose streams start at `start`; its token is `1000 + id`.
    pub(super) fn open(&mut self, id: u32, start: u64) -> (Socket, Connection) {
        let info = Self::info(id, start, id % self.channel.cores);
        self.channel.accepts.lock().unwrap().push_back(info);
        self.know(info);
        let listener = Socket::new(&self.context, 1, 0).unwrap();
        listener.accept(&self.context, 1000 + u64::from(id), 0).unwrap()
    }

    /// The fast path gets to know a flow.
    pub(super) fn know(&mut self, info: FlowInfo) {
        let flow = FakeFlow {
            info,
            rcv_nxt: info.rx_start,
            rcv_read: info.rx_start,
            snd_una: info.tx_start,
            snd_end: info.tx_start,
            fin: false,
            told: Vec::new(),
        };
        self.fast.flows.insert(info.flow, flow);
    }
}
