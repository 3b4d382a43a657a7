// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel: one trait, two transports. Every client of the slow path uses it: the
//! fast path, the application library and `tasctl`.
//!
//! [`kernel::KernelChannel`] speaks ioctl and mmap on `/dev/tas`, [`daemon::DaemonChannel`]
//! SOCK_SEQPACKET datagrams with passed descriptors. The messages are the same bytes.

pub mod daemon;
pub mod kernel;
mod mapping;

pub use mapping::Mapping;

use abi::{message::Message, region::Region};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// Who a message is addressed to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The attached file itself: attach, contexts, notices, status.
    Instance,
    /// A socket: its descriptor (kernel) and its id (daemon).
    Socket(BorrowedFd<'a>, u32),
}

/// A connection to a slow path. One per role and process; calls are synchronous.
pub trait ControlChannel: Send + Sync {
    /// Carries out `message` and leaves the reply in it. `pass` is a descriptor handed over with
    /// the call; descriptors that come back are returned in order. With the kernel, passed and
    /// returned descriptors travel as numbers in the message; the channel hides the difference.
    ///
    /// # Errors
    /// The reply's errno, or what the transport reports.
    fn call(&self, target: Target<'_>, message: &mut Message, pass: Option<BorrowedFd<'_>>) -> io::Result<Vec<OwnedFd>>;

    /// Maps `region` (`bytes` long). With `at`, exactly there, over an address range the caller
    /// reserved (segments of a pool).
    ///
    /// # Errors
    /// EACCES when the role may not map it so, ENOENT when there is no such region.
    fn map(&self, region: Region, bytes: usize, writable: bool, at: Option<usize>) -> io::Result<Mapping>;

    /// Readable while a notice waits (fast path only).
    fn notice_fd(&self) -> BorrowedFd<'_>;

    /// Wakes fast-path core `core` (applications).
    ///
    /// # Errors
    /// What the transport reports.
    fn wake_core(&self, core: u32) -> io::Result<()>;

    /// Wakes context `context` (fast path).
    ///
    /// # Errors
    /// What the transport reports.
    fn wake_context(&self, context: u32) -> io::Result<()>;

    /// Wakes the slow path's worker (fast path).
    ///
    /// # Errors
    /// What the transport reports.
    fn wake_slowpath(&self) -> io::Result<()>;

    /// "kernel" or "daemon".
    fn name(&self) -> &'static str;
}
