// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]
//! The slow path of TAS: everything about a TCP connection that is not its common case.
//!
//! A [`Stack`] is a value with methods: events in, [`Action`]s out. It reads no clock, takes no
//! lock, allocates nothing and does no I/O; time, keys and memory are arguments. The kernel module,
//! the daemon and the simulator run the same code.
//!
//! A shell, under its lock:
//!
//! 1. tells the stack who is there (`add_application`, `add_context`, `fast_path_attached`, …),
//! 2. feeds it: [`Stack::handle_packet`] and [`Stack::handle_report`] for each entry of the kernel
//!    rings, [`Stack::handle_request`] for each control call, [`Stack::release_socket`] when the last
//!    holder of a descriptor is gone, [`Stack::handle_timer`] when [`Stack::next_deadline`] has passed,
//! 3. after each of these calls [`Stack::poll_action`] until it answers `None`, carrying out what it
//!    gets, and [`Stack::keep_action`] when a ring was full.
//!
//! Where things are: `tcp/` the protocol, `wire/` frames, `request/` control calls, `congestion/`,
//! `timers/`, and one file each for neighbours, ARP and
//! Neighbor Discovery, ICMP of both families, ports, routes, applications.

mod action;
mod applications;
mod arp;
mod config;
mod congestion;
mod connection;
pub mod counters;
mod discovery;
mod errno;
mod events;
mod fastpath;
mod fragments;
mod icmp;
mod icmpv6;
mod lookup;
mod membership;
mod neighbors;
mod ports;
mod queues;
mod random;
mod records;
mod request;
mod routes;
mod socket;
mod stack;
pub mod storage;
mod table;
mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod usage;
mod wire;

pub use action::{Action, Caller, Outcome};
pub use config::Config;
pub use errno::Errno;
pub use request::Readiness;
pub use stack::Stack;
pub use storage::{Private, Sizes, Storage};
pub use usage::Usage;
