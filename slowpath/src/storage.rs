// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Memory the shell hands in. Shared tables are slices of atomics over the instance's regions;
//! private tables are ordinary memory that nobody else maps.
//!
//! A shell allocates the private tables from one list, so that a new table needs no change there:
//!
//! ```
//! macro_rules! owned {
//!     ($($field:ident: $type:ty,)+) => {
//!         struct Owned { $($field: Vec<$type>,)+ }
//!         impl Owned {
//!             fn new(sizes: &slowpath::Sizes) -> Self {
//!                 Self { $($field: vec![<$type>::default(); sizes.$field],)+ }
//!             }
//!             fn private(&mut self) -> slowpath::Private<'_> {
//!                 slowpath::Private { $($field: &mut self.$field,)+ }
//!             }
//!         }
//!     };
//! }
//! slowpath::private_tables!(owned);
//! let mut owned = Owned::new(&slowpath::Sizes::of(&slowpath::Config::default()));
//! assert!(owned.private().connections.len() > 131_072);
//! ```

use crate::{
    applications::{Application, Context},
    config::Config,
    connection::Connection,
    counters,
    fragments::{Reassembly, REASSEMBLIES},
    lookup::Node,
    neighbors::Neighbor,
    ports::{Port, PORTS},
    queues::{frame_room, CoreQueue, Frame},
    records::RecordSegment,
    routes::RouteEntry,
    socket::Socket,
    tcp::{
        fast_connect::{Destination, SynData},
        half_open::HalfOpen,
        path::Path,
        time_wait::TimeWait,
    },
    timers::{TimerNode, WHEEL_SLOTS},
};
use abi::{
    adjacency::Adjacency,
    core_status::CoreStatus,
    flow::{ColdFlow, HotFlow},
    limits::{ADJACENCIES_MAX, APPLICATIONS_MAX, CONTEXTS_MAX, CORES_MAX, ROUTES_MAX},
};

/// Calls `$callback!` with `field: type,` for every private table.
#[macro_export]
macro_rules! private_tables {
    ($callback:ident) => {
        $callback! {
            connections: $crate::storage::types::Connection,
            sockets: $crate::storage::types::Socket,
            half_open: $crate::storage::types::HalfOpen,
            time_wait: $crate::storage::types::TimeWait,
            nodes: $crate::storage::types::Node,
            buckets: u32,
            timers: $crate::storage::types::TimerNode,
            wheel: u32,
            neighbors: $crate::storage::types::Neighbor,
            routes: $crate::storage::types::RouteEntry,
            ports: $crate::storage::types::Port,
            applications: $crate::storage::types::Application,
            contexts: $crate::storage::types::Context,
            records: $crate::storage::types::RecordSegment,
            frames: $crate::storage::types::Frame,
            queues: $crate::storage::types::CoreQueue,
            paths: $crate::storage::types::Path,
            destinations: $crate::storage::types::Destination,
            syn_data: $crate::storage::types::SynData,
            reassemblies: $crate::storage::types::Reassembly,
            frame_bytes: u8,
            reassembly_bytes: u8,
            counters: u64,
        }
    };
}

/// Element types of the private tables: opaque to shells, `Copy` and `Default`.
pub mod types {
    pub use crate::{
        applications::{Application, Context},
        connection::Connection,
        fragments::Reassembly,
        lookup::Node,
        neighbors::Neighbor,
        ports::Port,
        queues::{CoreQueue, Frame},
        records::RecordSegment,
        routes::RouteEntry,
        socket::Socket,
        tcp::{
            fast_connect::{Destination, SynData},
            half_open::HalfOpen,
            path::Path,
            time_wait::TimeWait,
        },
        timers::TimerNode,
    };
}

macro_rules! define {
    ($($field:ident: $type:ty,)+) => {
        /// The private tables; see the module for how to allocate them.
        #[allow(missing_docs)]
        pub struct Private<'m> { $(pub $field: &'m mut [$type],)+ }

        /// Elements of each private table.
        #[allow(missing_docs)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Sizes { $(pub $field: usize,)+ }

        impl Sizes {
            /// Bytes of all private tables together.
            pub const fn bytes(&self) -> usize {
                let mut sum = 0usize;
                $(sum = sum.wrapping_add(self.$field.wrapping_mul(core::mem::size_of::<$type>()));)+
                sum
            }
        }
    };
}
define! {
    connections: Connection, sockets: Socket, half_open: HalfOpen, time_wait: TimeWait,
    nodes: Node, buckets: u32, timers: TimerNode, wheel: u32, neighbors: Neighbor,
    routes: RouteEntry, ports: Port, applications: Application, contexts: Context,
    records: RecordSegment, frames: Frame, queues: CoreQueue, paths: Path,
    destinations: Destination, syn_data: SynData, reassemblies: Reassembly,
    frame_bytes: u8, reassembly_bytes: u8, counters: u64,
}

/// Sockets beyond one per flow: listeners, and those bound or not yet connected.
const SOCKETS_EXTRA: u32 = 4096;
/// Largest number of half-open connections: what Linux allows a busy server (`tcp_max_syn_backlog`).
const HALF_OPEN_MAX: u32 = 16_384;
/// Largest number of connections in TIME-WAIT; beyond it the oldest goes.
const TIME_WAIT_MAX: u32 = 65_536;
/// Frames queued for the fast path: twice a kernel ring; beyond it they are dropped and counted.
const FRAMES: u32 = 512;
/// Destinations whose path MTU is remembered: small MTUs are rare, and forgotten in minutes.
const PATHS: u32 = 1024;
/// Destinations whose fast-open cookie is remembered (RFC 7413 §4.1.3).
const DESTINATIONS: u32 = 1024;
/// SYNs with data on their way from a library to the wire, which takes microseconds, or an ARP request's answer.
pub(crate) const SYN_DATA: u32 = 64;
/// Ports of both places.

/// Every table has one element more than it can hold: see `table`.
const fn with_spare(elements: u32) -> usize {
    (elements as usize).wrapping_add(1)
}

impl Sizes {
    /// Sizes for a configuration.
    pub const fn of(config: &Config) -> Self {
        let flows = config.flows;
        let half_open = if flows > HALF_OPEN_MAX { HALF_OPEN_MAX } else { flows };
        let time_wait = if flows > TIME_WAIT_MAX { TIME_WAIT_MAX } else { flows };
        let nodes = flows.wrapping_add(half_open).wrapping_add(time_wait);
        // Every application has one segment of records at least; the rest is for those with more
        // than 4096 flows, with room for uneven sharing.
        let records = APPLICATIONS_MAX.wrapping_add(flows / 1024);
        Self {
            connections: with_spare(flows),
            sockets: with_spare(flows.wrapping_add(SOCKETS_EXTRA)),
            half_open: with_spare(half_open),
            time_wait: with_spare(time_wait),
            nodes: with_spare(nodes),
            buckets: with_spare(flows.wrapping_mul(2)),
            timers: with_spare(crate::timers::nodes(flows, half_open, ADJACENCIES_MAX)),
            wheel: with_spare(WHEEL_SLOTS as u32),
            neighbors: with_spare(ADJACENCIES_MAX),
            routes: with_spare(ROUTES_MAX),
            ports: with_spare(PORTS),
            applications: with_spare(APPLICATIONS_MAX),
            contexts: with_spare(CONTEXTS_MAX),
            records: with_spare(records),
            frames: with_spare(FRAMES),
            queues: with_spare(CORES_MAX),
            paths: with_spare(PATHS),
            destinations: with_spare(DESTINATIONS),
            syn_data: with_spare(SYN_DATA),
            reassemblies: REASSEMBLIES as usize,
            frame_bytes: (FRAMES as usize).wrapping_mul(frame_room(config.mtu_bytes)),
            counters: counters::COUNT,
            reassembly_bytes: (REASSEMBLIES as usize).wrapping_mul(frame_room(config.mtu_bytes)),
        }
    }
}

/// Everything the slow path works on.
pub struct Storage<'m> {
    /// Hot flow table, `config.flows` entries.
    pub hot: &'m [HotFlow],
    /// Cold flow table, `config.flows` entries.
    pub cold: &'m [ColdFlow],
    /// Adjacency table, `ADJACENCIES_MAX` entries.
    pub adjacencies: &'m [Adjacency],
    /// Status page of each core; `None` beyond the configured cores.
    pub cores: [Option<&'m CoreStatus>; CORES_MAX as usize],
    /// Private tables, at least as large as [`Sizes::of`] says.
    pub private: Private<'m>,
}
