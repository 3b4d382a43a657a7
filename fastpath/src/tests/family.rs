// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests that hold over either version of IP; [`World`] is of the one under test.

mod acknowledge;
mod congestion_marks;
mod context;
mod cores;
mod fast_open;
mod hold;
mod jumbo;
mod kernel;
mod out_of_order;
mod pacing;
mod path_mtu;
mod pool;
mod receive;
mod recovery;
mod restart;
mod sack;
mod sleep;
mod timestamps;
mod transfer;
mod transmit;
mod urgent;
mod vlan;
mod window;

pub(crate) use super::{super::Random, World};
