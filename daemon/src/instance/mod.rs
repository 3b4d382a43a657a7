// SPDX-License-Identifier: MIT OR Apache-2.0
//! One instance: `slowpath::Stack` with its memory, rings, applications and contexts.
//!
//! A caller drives it like this:
//!
//! ```text
//! let client = instance.connect(credentials);
//! let reply = instance.request(now_us, client, &mut message);   // any number of these
//! instance.run_once(now_us);                                     // kernel rings, timers, actions
//! while let Some(wake) = instance.poll_wake() { … }              // after either
//! ```
//!
//! Files: `attach` (roles), `applications` (pools, maps, death), `contexts`, `notices` (what the
//! fast path must map or forget), `plane` (the flow tables, rings and the stack), `actions`
//! (what the stack wants done), `table` (identifiers), `regions` (who may map what).

mod actions;
mod applications;
mod attach;
mod contexts;
mod notices;
mod plane;
mod regions;
mod requests;
mod table;

use crate::memory::{Memory, MemoryKind, Writers};
use abi::{
    clock::ClockPage,
    limits::INSTANCE_NAME_BYTES,
    message::Message,
    region::{Region, RegionKind},
};
use applications::{Application, Life};
use contexts::Context;
use notices::Notices;
use plane::Plane;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};
use table::Table;

/// What an operator decides about an instance; the rest comes with the fast path's attach.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Instance name, zero-padded.
    pub name: [u8; INSTANCE_NAME_BYTES],
    /// Heap for one process, memfds for several.
    pub memory: MemoryKind,
    /// Keys of sequence numbers, timestamps and hashes, and the seed of every other random choice
    /// (four words for the stack, two for the fast path's lookup). From the operating system in
    /// production.
    pub secret: [u64; 6],
    /// Microseconds without work before an application's thread sleeps.
    pub poll_interval_us: u32,
    /// Pool segments (2 MiB each) that an application has from the start.
    pub pool_segments: u32,
    /// Most pool segments of one application.
    pub pool_segments_max: u32,
    /// Most map segments (4096 flows each) of one application.
    pub map_segments_max: u32,
}

impl Settings {
    /// Defaults for an instance called `name` (cut to 15 bytes).
    pub fn new(name: &str, memory: MemoryKind, secret: [u64; 6]) -> Self {
        Self {
            name: padded(name),
            memory,
            secret,
            poll_interval_us: 50,
            pool_segments: 8,
            pool_segments_max: abi::pool::POOL_SEGMENTS_MAX,
            map_segments_max: abi::pool::MAP_SEGMENTS_MAX,
        }
    }
}

/// `text` zero-padded to a fixed field, with at least one zero at its end.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *to = from;
    }
    bytes
}

/// Who is at the other end, as the operating system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// What CAP_NET_ADMIN gives in the kernel: may be the fast path, may change things.
    pub privileged: bool,
}

/// A connected client; not reused within the life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub u32);

/// A descriptor that goes with a reply, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Give {
    /// The eventfd that wakes a core: one for each, in order, to an application that attached.
    CoreWake(u32),
    /// The eventfd that says "a notice waits": to the fast path.
    NoticeWake,
    /// The eventfd that wakes the slow path: to the fast path.
    SlowpathWake,
    /// The eventfd that wakes a context: to the fast path with CONTEXT_ADDED.
    ContextWake(u32),
    /// The application's end of a new socket.
    Socket(u32),
    /// The memory of a region.
    Region {
        /// Which.
        region: Region,
        /// May the receiver write it?
        writable: bool,
    },
}

/// What the descriptor passed with a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It wakes this core from now on.
    CoreWake(u32),
    /// It wakes this new context.
    ContextWake(u32),
}

/// What comes back beside the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Descriptors to hand over.
    pub give: Vec<Give>,
    /// Where the passed descriptor belongs.
    pub take: Option<Take>,
    /// A notice that the fast path should have carried out before the caller goes on
    /// ([`Instance::is_settled`]). A server holds the reply back; in one process the fast path is simply
    /// run first.
    pub after_notice: Option<u32>,
}

/// A wake-up to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A fast-path core.
    Core(u32),
    /// A context's thread.
    Context(u32),
    /// The fast path's control thread: a notice waits.
    Notice,
}

/// What a client has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    None,
    FastPath,
    Application(u32),
    Control,
}

struct ClientEntry {
    credentials: Credentials,
    role: Role,
}

/// The attached fast path.
struct FastPath {
    client: Client,
}

/// An instance. See the module's documentation.
pub struct Instance {
    settings: Settings,
    clients: BTreeMap<u32, ClientEntry>,
    next_client: u32,
    fast: Option<FastPath>,
    /// Number of attachments so far.
    epoch: u32,
    /// A fast path has been set up on these tables once: applications may attach.
    was_ready: bool,
    applications: Table<Application>,
    contexts: Table<Context>,
    notices: Notices,
    wakes: VecDeque<Wake>,
    /// From the first attach on. Dropped before what it refers to.
    plane: Option<Plane>,
    clock: Arc<Memory>,
}

impl Instance {
    /// An instance without a fast path. Its clock page stands still until the caller fills it in
    /// ([`Self::clock`]).
    ///
    /// # Errors
    /// No memory for the clock page.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let clock = Memory::new(settings.memory, "tas-clock", 4096, Writers::Daemon, true)?;
        let instance = Self {
            settings,
            clients: BTreeMap::new(),
            next_client: 1,
            fast: None,
            epoch: 0,
            was_ready: false,
            applications: Table::new(1, abi::limits::APPLICATIONS_MAX),
            contexts: Table::new(0, abi::limits::CONTEXTS_MAX),
            notices: Notices::default(),
            wakes: VecDeque::new(),
            plane: None,
            clock: Arc::new(clock),
        };
        instance.publish_epoch();
        Ok(instance)
    }

    /// A new client, without a role yet.
    pub fn connect(&mut self, credentials: Credentials) -> Client {
        let client = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        self.clients.insert(client, ClientEntry { credentials, role: Role::None });
        Client(client)
    }

    /// Carries out one control call: `message` becomes the reply (`message.error` a positive errno).
    /// Whatever stands in it, nothing else is harmed.
    pub fn request(&mut self, now_us: u64, client: Client, message: &mut Message) -> Reply {
        let result = self.dispatch(now_us, client, message);
        self.carry_out();
        match result {
            Ok(reply) => reply,
            Err(errno) => {
                message.error = errno.max(1) as u32;
                Reply::default()
            }
        }
    }

    /// The client is gone: an application died, or the fast path did (its flows freeze).
    pub fn disconnect(&mut self, now_us: u64, client: Client) {
        let Some(entry) = self.clients.remove(&client.0) else {
            return;
        };
        match entry.role {
            Role::FastPath => self.detach_fast(now_us),
            Role::Application(id) => self.application_died(now_us, id),
            Role::Control | Role::None => {}
        }
        self.carry_out();
    }

    /// The last holder of a socket's descriptor let go of it.
    pub fn release_socket(&mut self, now_us: u64, socket: u32) {
        if let Some(plane) = &mut self.plane {
            plane.stack.release_socket(now_us, socket);
        }
        self.carry_out();
    }

    /// Takes what the fast path put into the kernel rings, runs due timers and carries out what
    /// follows. Returns the time of the next timer, microseconds; `None` if there is none.
    pub fn run_once(&mut self, now_us: u64) -> Option<u64> {
        self.receive(now_us);
        if let Some(plane) = &mut self.plane {
            plane.stack.handle_timer(now_us);
        }
        self.carry_out();
        self.next_deadline(now_us)
    }

    /// True if the fast path left something in a kernel ring that [`Self::run_once`] would take.
    pub fn has_input(&self) -> bool {
        self.plane.as_ref().is_some_and(Plane::has_input)
    }

    /// The next wake-up to send. Drain it after [`Self::request`], [`Self::disconnect`],
    /// [`Self::release_socket`] and [`Self::run_once`].
    pub fn poll_wake(&mut self) -> Option<Wake> {
        self.wakes.pop_front()
    }

    /// The stack, to look at; `None` before the first fast path.
    pub fn stack(&self) -> Option<&slowpath::Stack<'static>> {
        self.plane.as_ref().map(|plane| &*plane.stack)
    }

    /// True once the notice was carried out (or the fast path that should have is gone).
    pub fn is_settled(&self, notice: u32) -> bool {
        self.notices.is_settled(notice)
    }

    /// True if a context of this id exists.
    pub fn has_context(&self, id: u32) -> bool {
        self.contexts.get(id).is_some()
    }

    /// The clock page, to be filled in by whoever owns the clock.
    pub fn clock(&self) -> &ClockPage {
        match self.clock.table::<ClockPage>(0, 1) {
            Some([page]) => page,
            _ => unreachable!("the clock region has one page"),
        }
    }

    /// The memory of a region, for use in the same process. No permission is asked.
    pub fn region(&self, region: Region) -> Option<Arc<Memory>> {
        match region.kind {
            RegionKind::Clock => Some(self.clock.clone()),
            RegionKind::Context => Some(self.contexts.get(region.index)?.memory.clone()),
            RegionKind::Maps | RegionKind::Pool => {
                self.applications.get(region.index)?.segment(region.kind, region.byte_offset)
            }
            _ => self.plane.as_ref()?.region(region),
        }
    }

    fn queue_wake(&mut self, wake: Wake) {
        if !self.wakes.contains(&wake) {
            self.wakes.push_back(wake);
        }
    }

    fn publish_epoch(&self) {
        let odd = u32::from(self.fast.is_none());
        let value = self.epoch.wrapping_mul(2) | odd;
        self.clock().fastpath_epoch.store(value, std::sync::atomic::Ordering::Release);
    }
}
