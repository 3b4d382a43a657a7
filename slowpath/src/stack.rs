// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The slow path as a value: its parts, and the calls a shell makes.

use crate::{
    action::{Action, Caller, Outcome},
    applications::{Application, Context, RecordSegment},
    arp::Neighbor,
    config::Config,
    connection::Connection,
    counters::{Counter, Counters},
    errno::Errno,
    lookup::Lookup,
    ports::Ports,
    queues::{CoreQueue, Frame},
    random::{Random, SipKey},
    routes::Routes,
    socket::Socket,
    storage::Storage,
    table::Table,
    tcp::{half_open::HalfOpen, time_wait::TimeWait},
    timers::{Numbering, Wheel},
};
use abi::{
    adjacency::Adjacency,
    core_status::CoreStatus,
    flow::{ColdFlow, HotFlow, NONE},
    kernel_ring::KernelEntry,
    limits::CORES_MAX,
    message::Message,
};

/// The slow path of one instance.
pub struct Stack<'m> {
    pub(crate) config: Config,
    pub(crate) hot: &'m [HotFlow],
    pub(crate) cold: &'m [ColdFlow],
    pub(crate) adjacencies: &'m [Adjacency],
    pub(crate) cores: [Option<&'m CoreStatus>; CORES_MAX as usize],
    pub(crate) connections: Table<'m, Connection>,
    pub(crate) sockets: Table<'m, Socket>,
    pub(crate) half_open: Table<'m, HalfOpen>,
    pub(crate) time_wait: Table<'m, TimeWait>,
    pub(crate) lookup: Lookup<'m>,
    pub(crate) wheel: Wheel<'m>,
    pub(crate) numbering: Numbering,
    pub(crate) neighbors: Table<'m, Neighbor>,
    pub(crate) routes: Routes<'m>,
    pub(crate) ports: Ports<'m>,
    pub(crate) applications: Table<'m, Application>,
    pub(crate) contexts: Table<'m, Context>,
    pub(crate) records: Table<'m, RecordSegment>,
    pub(crate) frames: Table<'m, Frame>,
    pub(crate) queues: Table<'m, CoreQueue>,
    pub(crate) counters: Counters,
    pub(crate) random: Random,
}

impl<'m> Stack<'m> {
    /// A slow path over `storage`, without a fast path, at TCP time `now_us`.
    ///
    /// # Errors
    /// EINVAL: a table is smaller than `Sizes::of(&config)` says.
    pub fn new(now_us: u64, config: Config, storage: Storage<'m>) -> Result<Self, Errno> {
        let _ = now_us;
        let _ = (config, storage);
        Err(Errno::EINVAL)
    }
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter)
    }

    /// A fast path attached. The first time after `new` or with flows of an earlier one still there;
    /// `config` must have the same number of flows and the same local address. `pid` is its process.
    /// Installed flows are picked up from the cold table by the fast path itself; timers run again.
    /// True: there are flows to pick up.
    ///
    /// # Errors
    /// EINVAL: number of flows or local address differ. EBUSY: one is attached.
    pub fn fast_path_attached(&mut self, now_us: u64, config: &Config, pid: u32) -> Result<bool, Errno> {
        let _ = (now_us, config, pid);
        Err(Errno::EINVAL)
    }
    /// The fast path is gone: timers freeze, connect answers ENETDOWN, nothing is lost.
    pub fn fast_path_detached(&mut self, now_us: u64) {
        let _ = now_us;
    }
    /// Adds a route.
    ///
    /// # Errors
    /// EINVAL: prefix above 32, or the next hop is not on the local subnet. ENOBUFS: table full.
    pub fn add_route(&mut self, destination: u32, prefix: u32, next_hop: u32) -> Result<(), Errno> {
        self.routes.add(destination, prefix, next_hop)
    }
    /// An application attached.
    ///
    /// # Errors
    /// EINVAL: `id` is not below APPLICATIONS_MAX. EBUSY: it is in use.
    pub fn add_application(&mut self, id: u32, uid: u32, pid: u32, command: [u8; 16]) -> Result<(), Errno> {
        let _ = (id, uid, pid, command);
        Err(Errno::EINVAL)
    }
    /// The application has `usable` buffer map records (a multiple of SEGMENT_RECORDS; it only
    /// grows): call it when the fast path has mapped them.
    ///
    /// # Errors
    /// EINVAL: no such application. ENOBUFS: no room to keep track of them.
    pub fn set_map_records(&mut self, application: u32, usable: u32) -> Result<(), Errno> {
        let _ = (application, usable);
        Err(Errno::EINVAL)
    }
    /// The application created a context.
    ///
    /// # Errors
    /// EINVAL: no such application or an id out of range. EBUSY: the id is in use.
    pub fn add_context(&mut self, application: u32, context: u32) -> Result<(), Errno> {
        let _ = (application, context);
        Err(Errno::EINVAL)
    }
    /// The context is gone: its sockets and flows have none until they are moved.
    pub fn remove_context(&mut self, now_us: u64, context: u32) {
        let _ = (now_us, context);
    }
    /// The application's process is gone. Its contexts are removed, its sockets released (some at a
    /// time, by `handle_timer`); its connections end as Linux ends them. `ApplicationDrained` follows
    /// when its last flow is gone.
    pub fn application_died(&mut self, now_us: u64, application: u32) {
        let _ = (now_us, application);
    }
    /// The id of a drained application may be used again. False: it is not drained.
    pub fn remove_application(&mut self, application: u32) -> bool {
        let _ = application;
        false
    }

    /// A frame from fast-path core `core`; the fast path has verified its IP and TCP checksums.
    /// The bytes may be changed.
    pub fn handle_packet(&mut self, now_us: u64, core: u32, reason: u8, frame: &mut [u8]) {
        let _ = (now_us, core, reason, frame);
    }
    /// Any other entry from fast-path core `core`.
    pub fn handle_report(&mut self, now_us: u64, core: u32, entry: KernelEntry) {
        let _ = (now_us, core, entry);
    }
    /// A control call: operations from SOCKET to CLOSE, and STATUS, FLOW_ENTRY, LISTEN_ENTRY,
    /// APPLICATION_ENTRY, RESET_FLOW, SLOW_COUNTERS. `socket` is the id the descriptor stands for
    /// (kernel), or the one the shell looked up and whose owner it compared (daemon). The reply, and
    /// the error, are written into `message`.
    pub fn handle_request(
        &mut self,
        now_us: u64,
        caller: &Caller,
        socket: Option<u32>,
        message: &mut Message,
    ) -> Outcome {
        let _ = (now_us, caller, socket, message);
        Outcome::NotForStack
    }
    /// The last holder of a socket's descriptor is gone: this is close().
    pub fn release_socket(&mut self, now_us: u64, socket: u32) {
        let _ = (now_us, socket);
    }
    /// Application that owns a socket, for the daemon's owner check.
    pub fn socket_application(&self, socket: u32) -> Option<u32> {
        let _ = socket;
        None
    }
    /// Carries out what is due, at most some hundred timers; call again if `next_deadline` is past.
    pub fn handle_timer(&mut self, now_us: u64) {
        let _ = now_us;
    }
    /// When `handle_timer` wants to be called, in TCP time; `None`: nothing is waiting.
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }
    /// The next thing to do. Bytes of a frame are written to `frame`.
    pub fn poll_action(&mut self, frame: &mut [u8; 2048]) -> Option<Action> {
        let _ = frame;
        None
    }
    /// The action polled last could not be carried out (ring full): it is kept. Actions for others
    /// still come; this core's or context's own are tried again later (`next_deadline` says when).
    pub fn keep_action(&mut self) {
        let _ = NONE;
        let _ = SipKey(0, 0);
    }
}
