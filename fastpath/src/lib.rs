// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast path: the common case of every connection, one [`Core`] per dedicated CPU.
//!
//! The library is pure: it reads no clock, does no I/O and contains no `unsafe`. A shell gives it
//! memory ([`Tables`], [`CoreMemory`]), a [`Port`] that moves frames, and the time with each call of
//! [`Core::poll`]. The DPDK port and the `tas-fastpath` program (feature `dpdk`) are one shell, the
//! simulator and the benchmarks are others.
//!
//! Start reading at [`Core::poll`] (`core.rs`); a received frame goes `classify` (`parse`, `lookup`) → `receive`
//! (→ `acknowledge` → `recovery`, `reassembly`), a byte to send goes `context` → `transmit` (→ `pacing`) → `header`.
//!
//! How a shell attaches:
//!
//! 1. map the tables and make [`Shared`] (one per process);
//! 2. collect the slow path's first notices, then call [`Shared::adopt`] with every application's maps and pool;
//! 3. make one [`Core`] per thread ([`Core::new`] takes over the flows already installed) and give each
//!    core a [`Command`] for every map segment, pool segment and context;
//! 4. poll. Later notices: a command to every core first, then [`Shared::add_pool_segment`]; for removals a
//!    command to every core, then answer NOTICE_DONE — a core holds no reference once [`Core::command`] returned.
#![deny(unsafe_code)]

mod acknowledge;
mod checksum;
mod chunks;
mod classify;
mod config;
mod context;
mod core;
mod events;
mod fast_open;
mod flow;
mod header;
mod hold;
mod ipv6;
mod kernel;
mod lookup;
mod memory;
mod operations;
mod output;
mod pacing;
mod parse;
mod path_probe;
mod port;
mod private;
mod queue;
mod reassembly;
mod receive;
mod recovery;
mod sack;
mod scoreboard;
mod shared;
mod status;
mod strangers;
mod transmit;
mod urgent;
mod usage;
mod vlan;
mod word;

pub use self::core::{Core, Work};
pub use config::{Config, ConfigError};
pub use memory::{AttachError, Command, ContextMemory, CoreMemory, Tables};
pub use port::{Batch, Capabilities, NoSteer, Packet, Port, RxChecksum, Steer, BATCH_MAX, FRAME_BYTES_MAX};
pub use shared::{Adopted, Shared};
pub use usage::Usage;

#[cfg(feature = "dpdk")]
#[allow(unsafe_code)]
pub mod dpdk;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
