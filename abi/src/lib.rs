// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
#![no_std]
#![forbid(unsafe_code)]
//! The contract in memory: every struct, ring entry, limit and ioctl number that two parts of TAS
//! share. No logic lives here beyond encoding and decoding.
//!
//! Three kinds of sharing:
//!
//! * **Tables** ([`flow`], [`adjacency`], [`core_status`], [`clock`]) are arrays of structs made of
//!   relaxed atomics. Each field names its single writer.
//! * **Rings** ([`event`], [`kernel_ring`], [`context`]) carry entries of whole 64-bit words through
//!   `tas-ring`. Entries are idempotent hints that carry absolute stream positions.
//! * **Messages** ([`message`]) are the synchronous control calls: the same bytes through an ioctl
//!   on `/dev/tas` and through the daemon's Unix socket.
//!
//! A *stream position* is a TCP sequence number extended to 64 bits: its low 32 bits are the
//! sequence number on the wire. Positions therefore need no base, and `position >> CHUNK_SHIFT`
//! names the chunk that holds the byte.

#[cfg(test)]
extern crate std;

#[macro_use]
mod layout;

pub mod adjacency;
pub mod clock;
pub mod context;
pub mod core_status;
pub mod event;
pub mod flow;
pub mod ioctl;
pub mod kernel_ring;
pub mod limits;
pub mod message;
pub mod pool;
pub mod recovery;
pub mod region;
pub mod version;
