// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a context tells the application.

/// New bytes can be read.
pub const READABLE: u16 = 1 << 0;
/// The peer sent FIN: end of stream after what is readable.
pub const END_OF_STREAM: u16 = 1 << 1;
/// A write came up short earlier; now at least a third of the buffer is free.
pub const WRITABLE: u16 = 1 << 2;
/// All data and our FIN were acknowledged.
pub const FINISHED: u16 = 1 << 3;
/// An active open completed: call [`Socket::established`](super::Socket::established).
pub const CONNECTED: u16 = 1 << 4;
/// An active open failed, or the connection was reset or timed out; see [`Event::error`].
pub const FAILED: u16 = 1 << 5;
/// A listener has connections to accept: call accept until EAGAIN.
pub const ACCEPTABLE: u16 = 1 << 6;

/// The peer announced urgent data.
pub const URGENT: u16 = 1 << 7;
/// The urgent byte can be received.
pub const URGENT_BYTE: u16 = 1 << 8;

/// A router told an error; the connection goes on. See [`Event::error`].
pub const SOFT_ERROR: u16 = 1 << 9;

/// Something happened to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event {
    /// The caller's name of the socket.
    pub token: u64,
    /// Some of the constants of this module.
    pub flags: u16,
    /// errno when FAILED or SOFT_ERROR, else zero.
    pub error: i32,
}

impl Event {
    pub(super) fn new(token: u64, flags: u16) -> Self {
        Self { token, flags, error: 0 }
    }

    pub(super) fn failed(token: u64, error: i32) -> Self {
        Self { token, flags: FAILED, error }
    }
}
