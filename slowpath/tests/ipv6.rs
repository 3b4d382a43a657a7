// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The tests of the other files again, over IPv6: their `common` sees from here that it is to build IPv6. What only
//! one family has returns early there.

#[path = "close.rs"]
mod close;
#[path = "fast_open.rs"]
mod fast_open;
#[path = "flood.rs"]
mod flood;
#[path = "fragments.rs"]
mod fragments;
#[path = "fuzz.rs"]
mod fuzz;
#[path = "icmp.rs"]
mod icmp;
#[path = "jumbo.rs"]
mod jumbo;
#[path = "limits.rs"]
mod limits;
#[path = "open.rs"]
mod open;
#[path = "patience.rs"]
mod patience;
#[path = "recovery.rs"]
mod recovery;
#[path = "sockets.rs"]
mod sockets;
#[path = "time_wait.rs"]
mod time_wait;
#[path = "timers.rs"]
mod timers;
