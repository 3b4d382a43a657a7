// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The protocol (RFC 9293), as far as it is not the common case.

pub(crate) mod half_open;
pub(crate) mod state;
pub(crate) mod time_wait;
