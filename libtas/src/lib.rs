// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client side of TAS: the [`control`] channel to the slow path and the [`lowlevel`] API
//! (contexts, events, zero-copy buffers); `tas.h` is its C form.

pub mod capi;
pub mod control;
pub mod lowlevel;
pub mod sockets;
pub mod sys;
