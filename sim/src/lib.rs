// SPDX-License-Identifier: MIT OR Apache-2.0
//! A seeded world in one thread: hosts that run the real slow path (`daemon::Instance`), the real fast
//! path (`fastpath::Core`) and the real application library (`tas::lowlevel`), a link that delays,
//! loses, reorders, duplicates and corrupts, and virtual time.
//!
//! The same seed gives the same run. [`Host`] is also what the benchmarks drive, over another port.

mod channel;
mod host;
mod random;
mod wire;
mod world;

pub use channel::InProcess;
pub use host::{Host, HostConfig};
pub use random::Random;
pub use wire::{Frame, Impairment, Link, WirePort, WireStats};
pub use world::World;
