// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel of `tas-slowpathd`: the same messages as SOCK_SEQPACKET datagrams, memory
//! as passed memfds, wake-ups as passed eventfds.
//!
//! Descriptors that a reply carries, in order: ATTACH_APPLICATION one eventfd per fast-path core;
//! ATTACH_FAST the notice eventfd and the slow path's eventfd; NEXT_NOTICE of CONTEXT_ADDED the
//! context's eventfd; SOCKET and ACCEPT the socket; MAP the memfd. CORE_EVENTFD and
//! CREATE_CONTEXT pass one to the daemon.

use super::{error::explained, seqpacket, ControlChannel, Mapping, Target};
use crate::sys;
use abi::{
    message::{notice, MapRequest, Message, Notice, Op},
    region::Region,
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};

/// A connection to the daemon.
#[derive(Debug)]
pub struct DaemonChannel {
    /// Held from request to reply, which pairs them.
    exchange: Mutex<()>,
    socket: OwnedFd,
    process: u32,
    /// Application: one eventfd per core.
    cores: OnceLock<Vec<OwnedFd>>,
    /// Fast path: notices, and the slow path's worker.
    fast: OnceLock<(OwnedFd, OwnedFd)>,
    /// Fast path: eventfds of contexts, by context id.
    contexts: RwLock<Vec<Option<OwnedFd>>>,
}

impl DaemonChannel {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// ENOENT and ECONNREFUSED: no daemon. EACCES: the caller is not in group `tas`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = sys::connect_seqpacket(path).map_err(|error| explain(&error, path))?;
        Ok(Self::from_socket(socket))
    }

    /// Takes a connected SOCK_SEQPACKET socket.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self {
            exchange: Mutex::new(()),
            socket,
            process: sys::process_id(),
            cores: OnceLock::new(),
            fast: OnceLock::new(),
            contexts: RwLock::new(Vec::new()),
        }
    }

    fn lock(&self) -> io::Result<MutexGuard<'_, ()>> {
        if sys::process_id() != self.process {
            return Err(super::foreign_process());
        }
        Ok(self.exchange.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn exchange(&self, message: &mut Message, pass: Option<BorrowedFd<'_>>) -> io::Result<Vec<OwnedFd>> {
        let guard = self.lock()?;
        let is_next_notice = message.op == Op::NextNotice as u32;
        if let (true, Some((notices, _))) = (is_next_notice, self.fast.get()) {
            // Emptied before the question, so that a notice that comes after it is signalled again.
            sys::eventfd_drain(notices.as_fd());
        }
        let op = message.op;
        seqpacket::send(self.socket.as_fd(), message, pass)?;
        let descriptors =
            seqpacket::receive(self.socket.as_fd(), message).map_err(|error| match super::errno(&error) {
                errno @ (libc::ECONNRESET | libc::EPIPE) => {
                    explained(errno, "tas-slowpathd has ended or closed the connection")
                }
                _ => error,
            })?;
        drop(guard);
        if message.op != op {
            return Err(explained(libc::EPROTO, "tas-slowpathd answered another call"));
        }
        super::reply_error(message)?;
        Ok(descriptors)
    }

    /// Keeps the descriptors that are wake-ups; returns those that are the caller's.
    fn keep(&self, message: &Message, mut descriptors: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
        match Op::from_u32(message.op) {
            Some(Op::AttachApplication) => {
                let _ = self.cores.set(descriptors);
                Ok(Vec::new())
            }
            Some(Op::AttachFast) => {
                if let (Some(slow), Some(notices)) = (descriptors.pop(), descriptors.pop()) {
                    let _ = self.fast.set((notices, slow));
                }
                Ok(Vec::new())
            }
            Some(Op::NextNotice) => {
                self.keep_notice(&message.get::<Notice>(), descriptors.pop())?;
                Ok(Vec::new())
            }
            Some(Op::NoticeDone) => {
                let done = message.get::<Notice>();
                if done.kind == notice::CONTEXT_REMOVED {
                    self.set_context(done.index, None);
                }
                Ok(Vec::new())
            }
            _ => Ok(descriptors),
        }
    }

    fn keep_notice(&self, taken: &Notice, descriptor: Option<OwnedFd>) -> io::Result<()> {
        if taken.kind == notice::CONTEXT_ADDED {
            self.set_context(taken.index, descriptor);
        }
        // More may wait: readable until a question is answered with EAGAIN.
        self.fast.get().map_or(Ok(()), |(notices, _)| sys::eventfd_signal(notices.as_fd()))
    }

    fn set_context(&self, context: u32, descriptor: Option<OwnedFd>) {
        if context >= abi::limits::CONTEXTS_MAX {
            return;
        }
        let mut contexts = self.contexts.write().unwrap_or_else(PoisonError::into_inner);
        let index = context as usize;
        if contexts.len() <= index {
            contexts.resize_with(index + 1, || None);
        }
        contexts[index] = descriptor;
    }
}

impl ControlChannel for DaemonChannel {
    fn call(
        &self,
        target: Target<'_>,
        message: &mut Message,
        pass: Option<BorrowedFd<'_>>,
    ) -> io::Result<Vec<OwnedFd>> {
        if let Target::Socket(_, id) = target {
            message.object = id;
        }
        // What NOTICE_DONE is about stands in the request; the reply's body is zero.
        let request = *message;
        let descriptors = self.exchange(message, pass)?;
        let source = if request.op == Op::NoticeDone as u32 { &request } else { &*message };
        self.keep(source, descriptors)
    }

    fn map(&self, region: Region, bytes: usize, writable: bool, at: Option<usize>) -> io::Result<Mapping> {
        let request = MapRequest {
            kind: region.kind as u32,
            index: region.index,
            byte_offset: region.byte_offset,
            ..MapRequest::default()
        };
        let mut message = Message::with(Op::Map, region.kind as u32, &request);
        let descriptors = self.exchange(&mut message, None)?;
        let reply = message.get::<MapRequest>();
        let memory =
            descriptors.first().ok_or_else(|| explained(libc::EPROTO, "MAP reply without a memfd"))?;
        if writable && reply.writable == 0 {
            return Err(explained(libc::EACCES, format!("{:?} may not be mapped writable", region.kind)));
        }
        if reply.bytes < bytes as u64 {
            return Err(explained(
                libc::ENOENT,
                format!("{:?} has {} bytes, {bytes} were asked for", region.kind, reply.bytes),
            ));
        }
        Mapping::new(memory.as_fd(), 0, bytes, writable, at)
    }

    fn notice_fd(&self) -> BorrowedFd<'_> {
        self.fast.get().map_or(self.socket.as_fd(), |(notices, _)| notices.as_fd())
    }

    fn wake_core(&self, core: u32) -> io::Result<()> {
        let cores = self.cores.get();
        let event = cores.and_then(|cores| cores.get(core as usize)).ok_or_else(no_such_wakeup)?;
        sys::eventfd_signal(event.as_fd())
    }

    fn wake_context(&self, context: u32) -> io::Result<()> {
        let contexts = self.contexts.read().unwrap_or_else(PoisonError::into_inner);
        let event = contexts.get(context as usize).and_then(Option::as_ref).ok_or_else(no_such_wakeup)?;
        sys::eventfd_signal(event.as_fd())
    }

    fn wake_slowpath(&self) -> io::Result<()> {
        let (_, slow) = self.fast.get().ok_or_else(no_such_wakeup)?;
        sys::eventfd_signal(slow.as_fd())
    }

    fn name(&self) -> &'static str {
        "daemon"
    }
}

fn no_such_wakeup() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

fn explain(error: &io::Error, path: &Path) -> io::Error {
    let errno = super::errno(error);
    let path = path.display();
    match errno {
        libc::ENOENT | libc::ECONNREFUSED => {
            explained(errno, format!("{path}: no tas-slowpathd is running; type `sudo tas-slowpathd`"))
        }
        libc::EACCES | libc::EPERM => explained(
            errno,
            format!("{path}: permission denied, only group `tas` may connect; type `sudo usermod -aG tas $USER` and log in again"),
        ),
        _ => explained(errno, format!("{path}: {error}")),
    }
}
