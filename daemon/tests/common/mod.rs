// SPDX-License-Identifier: MIT OR Apache-2.0
//! An instance in this process with a fast path played by hand.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod frames;

use abi::{
    context::{ring_bytes, ContextLayout},
    event::{KernelEvent, EVENT_WORDS},
    kernel_ring::{to_fast, to_slow, KernelEntry, KERNEL_WORDS},
    limits::{CONTEXT_RING_ENTRIES, ETHERNET_MTU, KERNEL_EVENT_ENTRIES, KERNEL_RING_ENTRIES},
    message::{
        notice, AttachApplication, AttachControl, AttachFast, Body, Endpoint, Message, Name, Notice, Op,
        Socket,
    },
    region::{KernelRingLayout, Region, RegionKind},
    version,
};
use daemon::{Client, Credentials, Give, Instance, Memory, MemoryKind, Reply, Settings, Take};
use ring::{Consumer, Producer};
use std::sync::Arc;

/// Credentials of root.
pub const ROOT: Credentials = Credentials { pid: 100, uid: 0, gid: 0, privileged: true };
/// Credentials of somebody else.
pub const USER: Credentials = Credentials { pid: 200, uid: 1000, gid: 1000, privileged: false };

/// A frame the slow path wants sent, or another entry for the fast path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Frame(Vec<u8>),
    Entry(KernelEntry),
}

/// The ends of core 0's kernel rings that belong to the fast path.
pub struct Rings {
    producer: Producer<'static, KERNEL_WORDS>,
    consumer: Consumer<'static, KERNEL_WORDS>,
    memory: &'static Memory,
}

/// What the tests' fast path has.
pub const LAYOUT: KernelRingLayout = KernelRingLayout::of(ETHERNET_MTU);

/// Leaks a region: a test's memory may outlive it.
pub fn keep(memory: Arc<Memory>) -> &'static Memory {
    Box::leak(Box::new(memory))
}

impl Rings {
    fn new(instance: &Instance, core: u32) -> Self {
        let memory = keep(instance.region(Region::whole(RegionKind::KernelRings, core)).unwrap());
        let words = ring_bytes(KERNEL_RING_ENTRIES, KERNEL_WORDS) / 8;
        let to_slow = memory.words(KernelRingLayout::TO_SLOW, words).unwrap();
        let to_fast = memory.words(KernelRingLayout::TO_FAST, words).unwrap();
        Self {
            producer: Producer::attach(to_slow, KERNEL_RING_ENTRIES).unwrap(),
            consumer: Consumer::attach(to_fast, KERNEL_RING_ENTRIES).unwrap(),
            memory,
        }
    }

    /// Hands an entry to the slow path; false if the ring is full.
    pub fn report(&mut self, entry: KernelEntry) -> bool {
        let pushed = self.producer.push(entry.encode());
        self.producer.publish();
        pushed
    }

    /// Hands any words to the slow path.
    pub fn scribble(&mut self, words: [u64; KERNEL_WORDS], frame: &[u8]) -> bool {
        self.write_slot(frame);
        self.producer.push(words)
    }

    fn write_slot(&mut self, frame: &[u8]) {
        let offset = LAYOUT.to_slow_slots() + LAYOUT.slot(self.producer.position());
        assert!(self.memory.bytes().write(offset, frame));
    }

    /// Hands a frame to the slow path.
    pub fn packet(&mut self, reason: u8, frame: &[u8]) {
        self.write_slot(frame);
        let entry = KernelEntry { op: to_slow::PACKET, reason, flow: 0, value: frame.len() as u64 };
        assert!(self.report(entry), "the ring to the slow path is full");
    }

    /// Takes everything the slow path wants.
    pub fn take(&mut self) -> Vec<Out> {
        let mut out = Vec::new();
        loop {
            let slot = LAYOUT.slot(self.consumer.position());
            let Some(words) = self.consumer.pop() else {
                break;
            };
            let entry = KernelEntry::decode(words);
            if entry.op == to_fast::TRANSMIT {
                let mut frame = vec![0; entry.value as usize];
                let offset = KernelRingLayout::TO_FAST_SLOTS + slot;
                assert!(self.memory.bytes().read(offset, &mut frame));
                out.push(Out::Frame(frame));
            } else {
                out.push(Out::Entry(entry));
            }
        }
        self.consumer.commit();
        out
    }
}

/// An application of the test.
pub struct App {
    pub client: Client,
    pub id: u32,
    pub context: u32,
    events: Consumer<'static, EVENT_WORDS>,
}

impl App {
    /// The next event of the slow path.
    pub fn event(&mut self) -> Option<KernelEvent> {
        let event = self.events.pop().map(KernelEvent::decode);
        self.events.commit();
        event
    }
}

/// An instance, its fast path and its time.
pub struct World {
    pub instance: Instance,
    pub fast: Client,
    pub rings: Rings,
    pub now_us: u64,
}

/// What a test's fast path asks for.
pub fn attach_request() -> AttachFast {
    AttachFast {
        abi_hash: version::FAST_HASH,
        version: version::FAST_VERSION,
        cores: 1,
        flows: 256,
        mtu_bytes: 1500,
        ipv4: frames::LOCAL_IP,
        prefix: 24,
        mac: frames::LOCAL_MAC,
        ..AttachFast::default()
    }
}

/// An instance without a fast path.
pub fn bare(kind: MemoryKind) -> Instance {
    Instance::new(Settings::new("tas0", kind, [1, 2, 3, 4, 5, 6])).unwrap()
}

impl World {
    /// An instance with a fast path of one core that is ready.
    pub fn new() -> Self {
        let mut instance = bare(MemoryKind::Heap);
        let fast = instance.connect(ROOT);
        let mut message = Message::with(Op::AttachFast, 0, &attach_request());
        let reply = instance.request(0, fast, &mut message);
        assert_eq!((message.error, reply.give), (0, vec![Give::NoticeWake, Give::SlowpathWake]));
        let mut message = Message::new(Op::Ready, 0);
        instance.request(0, fast, &mut message);
        assert_eq!(message.error, 0);
        let rings = Rings::new(&instance, 0);
        Self { instance, fast, rings, now_us: 1_000_000 }
    }

    /// A new fast path after the last one went.
    pub fn reattach(&mut self, request: &AttachFast) -> Result<AttachFast, u32> {
        let client = self.instance.connect(ROOT);
        let reply: AttachFast = self.call(client, Op::AttachFast, 0, request)?.0.get();
        self.fast = client;
        self.rings = Rings::new(&self.instance, 0);
        Ok(reply)
    }

    /// A call; the reply, or its errno.
    pub fn call<T: Body>(
        &mut self,
        client: Client,
        op: Op,
        object: u32,
        body: &T,
    ) -> Result<(Message, Reply), u32> {
        let mut message = Message::with(op, object, body);
        let reply = self.instance.request(self.now_us, client, &mut message);
        if message.error == 0 {
            Ok((message, reply))
        } else {
            Err(message.error)
        }
    }

    /// A call without a body.
    pub fn ask(&mut self, client: Client, op: Op, object: u32) -> Result<(Message, Reply), u32> {
        self.call(client, op, object, &Notice::default())
    }

    /// Lets time pass in steps of a millisecond, the fast path's cores running all the while.
    pub fn pass(&mut self, microseconds: u64) {
        let status = keep(self.instance.region(Region::whole(RegionKind::CoreStatus, 0)).unwrap());
        let [page] = status.table::<abi::core_status::CoreStatus>(0, 1).unwrap() else { unreachable!() };
        let end = self.now_us + microseconds;
        while self.now_us < end {
            self.now_us += 1000.min(end - self.now_us);
            page.run_us.store(self.now_us, std::sync::atomic::Ordering::Relaxed);
            page.now_us.store(self.now_us, std::sync::atomic::Ordering::Relaxed);
            page.loops.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.instance.run_once(self.now_us);
        }
    }

    /// Runs the instance; what it wants of the fast path.
    pub fn run(&mut self) -> Vec<Out> {
        self.instance.run_once(self.now_us);
        self.rings.take()
    }

    /// Carries out every notice; what they were.
    pub fn notices(&mut self) -> Vec<(u32, u32, u32)> {
        let mut all = Vec::new();
        loop {
            match self.ask(self.fast, Op::NextNotice, 0) {
                Ok((message, reply)) => {
                    let notice: Notice = message.get();
                    assert_eq!(reply.give.len(), usize::from(notice.kind == notice::CONTEXT_ADDED));
                    all.push((notice.kind, notice.application, notice.index));
                    self.call(self.fast, Op::NoticeDone, 0, &notice).unwrap();
                }
                Err(errno) => {
                    assert_eq!(errno, libc::EAGAIN as u32);
                    return all;
                }
            }
        }
    }

    /// An application without a context.
    pub fn attach(&mut self, credentials: Credentials) -> Result<(Client, AttachApplication), u32> {
        let client = self.instance.connect(credentials);
        let request = AttachApplication {
            abi_hash: version::APPLICATION_HASH,
            version: version::APPLICATION_VERSION,
            command: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
            ..AttachApplication::default()
        };
        let (message, _) = self.call(client, Op::AttachApplication, 0, &request)?;
        Ok((client, message.get()))
    }

    /// An application with one context, known to the fast path.
    pub fn application(&mut self) -> App {
        let (client, attached) = self.attach(USER).unwrap();
        let (message, reply) = self.ask(client, Op::CreateContext, 0).unwrap();
        let context = message.get::<abi::message::Context>().context;
        assert_eq!(reply.take, Some(Take::ContextWake(context)));
        assert!(!self.instance.is_settled(reply.after_notice.unwrap()));
        self.notices();
        assert!(self.instance.is_settled(reply.after_notice.unwrap()));
        let memory = keep(self.instance.region(Region::whole(RegionKind::Context, context)).unwrap());
        let layout = ContextLayout {
            cores: attached.cores,
            entries: CONTEXT_RING_ENTRIES,
            kernel_entries: KERNEL_EVENT_ENTRIES,
        };
        let words = memory.words(layout.from_kernel(), ring_bytes(KERNEL_EVENT_ENTRIES, EVENT_WORDS) / 8);
        let events = Consumer::attach(words.unwrap(), KERNEL_EVENT_ENTRIES).unwrap();
        App { client, id: attached.application, context, events }
    }

    /// A control client.
    pub fn control(&mut self) -> Client {
        let client = self.instance.connect(ROOT);
        let request = AttachControl {
            abi_hash: version::CONTROL_HASH,
            version: version::CONTROL_VERSION,
            ..AttachControl::default()
        };
        self.call(client, Op::AttachControl, 0, &request).unwrap();
        client
    }

    /// A socket of an application.
    pub fn socket(&mut self, app: &App, opaque: u64) -> u32 {
        let body = Socket { opaque, family: 2, context: app.context, ..Socket::default() };
        let (message, reply) = self.call(app.client, Op::Socket, 0, &body).unwrap();
        let socket = message.get::<Socket>().socket;
        assert_eq!(reply.give, [Give::Socket(socket)]);
        socket
    }

    /// A listening socket.
    pub fn listener(&mut self, app: &App, port: u16) -> Result<u32, u32> {
        let socket = self.socket(app, 7);
        let name = Name { endpoint: Endpoint::ipv4(0, port), reserved: 0 };
        let mut message = Message::with(Op::Bind, socket, &name);
        self.instance.request(self.now_us, app.client, &mut message);
        if message.error == 0 {
            message = Message::new(Op::Listen, socket);
            message.flags = 16;
            self.instance.request(self.now_us, app.client, &mut message);
        }
        if message.error == 0 {
            Ok(socket)
        } else {
            Err(message.error)
        }
    }
}

/// The entries among what the fast path got.
pub fn entries(out: &[Out]) -> Vec<KernelEntry> {
    out.iter().filter_map(|out| if let Out::Entry(entry) = out { Some(*entry) } else { None }).collect()
}

/// The segments among what the fast path got.
pub fn segments(out: &[Out]) -> Vec<frames::Segment> {
    out.iter()
        .filter_map(|out| if let Out::Frame(frame) = out { frames::to_peer(frame) } else { None })
        .collect()
}

/// The errno of a refused call.
pub fn refused<T>(result: Result<T, u32>) -> i32 {
    result.err().map_or(0, |errno| errno as i32)
}
