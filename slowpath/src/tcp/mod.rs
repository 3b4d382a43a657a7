// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The protocol (RFC 9293), as far as it is not the common case.

mod close;
mod connect;
mod cookies;
mod established;
pub(crate) mod fast_connect;
mod fast_open;
mod flood;
mod flows;
pub(crate) mod half_open;
mod input;
mod install;
pub(crate) mod keepalive;
pub(crate) mod limits;
mod listen;
pub(crate) mod path;
pub(crate) mod path_search;
pub(crate) mod reply;
mod rtt;
mod sample;
mod sampling;
pub(crate) mod state;
pub(crate) mod time_wait;
