// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel: one trait, two transports. Every client of the slow path uses it: the
//! fast path, the application library and `tasctl`.
//!
//! [`kernel::KernelChannel`] speaks ioctl and mmap on `/dev/tas`, [`daemon::DaemonChannel`]
//! SOCK_SEQPACKET datagrams with passed descriptors. The messages are the same bytes.

pub mod attach;
pub mod daemon;
mod error;
pub mod kernel;
mod mapping;
mod open;
mod seqpacket;

pub use error::{errno, explained};
pub use mapping::Mapping;
pub use open::{
    instance_from_environment, open, socket_path, Backend, BACKEND_VARIABLE, DEFAULT_INSTANCE,
    INSTANCE_VARIABLE, SOCKET_VARIABLE,
};

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
    /// the call (CORE_EVENTFD, CREATE_CONTEXT). What SOCKET and ACCEPT bring is returned: one
    /// descriptor, close-on-exec with the daemon, as asked for with the kernel. Descriptors that
    /// only wake somebody stay in the channel, behind the `wake_` functions and `notice_fd`.
    ///
    /// # Errors
    /// The reply's errno (see [`errno`]), or what the transport reports. ESTALE in a forked child,
    /// which needs a channel of its own (with the kernel, calls on socket files go on working).
    fn call(
        &self,
        target: Target<'_>,
        message: &mut Message,
        pass: Option<BorrowedFd<'_>>,
    ) -> io::Result<Vec<OwnedFd>>;

    /// Maps `region` (`bytes` long). With `at`, exactly there, over a part of a range made by
    /// [`Mapping::reserve`] (segments of a pool).
    ///
    /// # Errors
    /// EACCES when the role may not map it so, ENOENT when there is no such region.
    fn map(&self, region: Region, bytes: usize, writable: bool, at: Option<usize>) -> io::Result<Mapping>;

    /// Readable while a notice waits (fast path only). Take notices until EAGAIN.
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

/// The error of a reply, if it has one.
fn reply_error(message: &Message) -> io::Result<()> {
    match message.error {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno as i32)),
    }
}

fn foreign_process() -> io::Error {
    explained(libc::ESTALE, "the control channel belongs to the parent process; a child opens its own")
}
