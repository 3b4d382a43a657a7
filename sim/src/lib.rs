// SPDX-License-Identifier: MIT OR Apache-2.0
//! A seeded world in one thread: hosts that run the real slow path (`daemon::Instance`), the real fast
//! path (`fastpath::Core`) and the real application library (`tas::lowlevel`), a link that delays,
//! loses, reorders, duplicates and corrupts, and virtual time.
//!
//! The same seed gives the same run. [`Host`] is also what the benchmarks drive, over another port.
//! [`World`] is two hosts for tests that script what happens; [`scenario::run`] draws a whole [`plan::Plan`]
//! from a seed, runs it and checks it. How to use and extend that: `docs/simulation.md`.

mod actor;
mod channel;
pub mod coverage;
mod host;
mod link;
mod meddler;
mod observer;
pub mod plan;
mod random;
pub mod scenario;
pub mod segment;
mod stream;
mod wire;
mod world;

pub use channel::InProcess;
pub use host::{Host, HostConfig, Stall};
pub use link::{Impairment, Link, WireStats};
pub use random::Random;
pub use wire::{Frame, WirePort, WireSteer};
pub use world::World;
