// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slow path's shell in user space, in two layers:
//!
//! * [`Instance`]: memory, rings, contexts, applications and notices around `slowpath::Stack`. No
//!   socket, no thread, no clock: time is an argument, wake-ups come out of a queue
//!   ([`Instance::poll_wake`]), descriptors are named ([`Give`], [`Take`]) rather than held. The
//!   simulator and the benchmarks run it in process.
//! * [`server`]: the Unix socket, the eventfds and the epoll loop of `tas-slowpathd` around one
//!   instance.

pub mod clock;
pub mod instance;
pub mod memory;
pub mod server;

pub use instance::{Client, Credentials, Give, Instance, Reply, Settings, Take, Wake};
pub use memory::{Memory, MemoryKind};
