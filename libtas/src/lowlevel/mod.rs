// SPDX-License-Identifier: MIT OR Apache-2.0
//! The low-level API: an [`Application`] attached to an instance, [`Context`]s that receive events,
//! [`Socket`]s for control calls, and [`Connection`]s whose bytes are read and written in place.
//!
//! **Threads.** Everything is `Send + Sync` and takes `&self`. A context has one lock, held for a
//! batch in `poll` and for a moment in `write`; each direction of a connection has its own. Locks are
//! taken in the order connection (read, write), context, depot; `poll`, which holds the context,
//! only tries a connection's. No system call is made while a context's is held.
//!
//! **Tokens.** The caller names sockets by a `u64` of its own; events carry it. An event that was
//! taken before a socket was closed may still name it: use tokens that are not reused at once.
//!
//! **Memory.** Transmit chunks belong to a connection from the write until the acknowledgement, then
//! to the cache of a context, then to the application's depot. A connection that is closed with data
//! outstanding stays with its context until the data is acknowledged.

mod application;
mod chunks;
mod connection;
mod context;
pub mod event;
mod flow;
mod lanes;
pub(crate) mod lock;
mod memory;
mod poll;
mod quarantine;
mod receive;
mod sleep;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod transmit;
mod urgent;

pub use application::{Application, Options};
pub use connection::{Close, Connection};
pub use context::Context;
pub use event::Event;
pub use receive::Readable;
pub use socket::Socket;
pub use transmit::Writable;
pub use urgent::UrgentByte;
