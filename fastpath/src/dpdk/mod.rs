// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `tas-fastpath` program: a port over DPDK, the cores' threads, and the control thread that
//! talks to the slow path. Start reading at [`service::run`].

mod attach;
mod core_thread;
mod device;
mod eal;
mod eal_arguments;
mod host;
mod ipv4;
mod mtu;
mod notices;
mod option_values;
mod options;
mod port;
mod regions;
mod service;
mod steer;
mod vlan;
mod wake;

#[cfg(test)]
mod live_tests;

// For harnesses that bring their own shell (benchmarks).
pub use device::{Device, DeviceRequest};
pub use eal::Eal;
pub use port::{DpdkPacket, DpdkPort};

pub use options::Options;
pub use service::run;
