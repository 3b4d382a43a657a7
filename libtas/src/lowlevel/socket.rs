// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TAS socket: its descriptor and its control calls.

use super::{application::Application, connection::Connection, context::Context};
use crate::{
    control::{errno, explained, Target},
    sys,
};
use abi::message::{
    self, connect_flags, Accept, Connect, Endpoint, FlowInfo, Message, Name, Names, Op, Option_, SynData,
    AF_INET, SYN_DATA_BYTES,
};
use std::{
    io,
    os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::{
        atomic::{AtomicBool, AtomicI32, Ordering::*},
        Arc, Mutex, PoisonError,
    },
};

const NO_DESCRIPTOR: RawFd = -1;
/// `shutdown(2)`'s SHUT_RD.
const SHUT_RD: u32 = 0;

/// What [`Socket::connect_fast`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastOpen {
    /// A SYN is on its way.
    pub started: bool,
    /// Bytes that went with it; or that may go, if it was not sent yet.
    pub syn_bytes: usize,
}

/// A TAS socket. It owns a descriptor, closed on drop: its release is the close, unless another
/// descriptor of the same file lives.
#[derive(Debug)]
pub struct Socket {
    application: Arc<Application>,
    /// Where the events of `connect` go while the connection is not known.
    connecting: Mutex<Option<Arc<Context>>>,
    context: u32,
    id: u32,
    token: u64,
    descriptor: AtomicI32,
    has_connection: AtomicBool,
}

impl Socket {
    /// A new IPv4 TCP socket. `file_flags`: O_CLOEXEC, O_NONBLOCK. Its events go to `context`.
    ///
    /// # Errors
    /// EMFILE, ENOBUFS.
    pub fn new(context: &Arc<Context>, token: u64, file_flags: i32) -> io::Result<Self> {
        Self::of_family(context, AF_INET, token, file_flags)
    }

    /// [`Self::new`] of a family: AF_INET, or AF_INET6, whose endpoints are all of that family (IPv4 ones in mapped
    /// form), and which takes IPv4 as well unless [`abi::message::option::V6ONLY`] is set.
    ///
    /// # Errors
    /// EMFILE, ENOBUFS.
    pub fn of_family(context: &Arc<Context>, family: u16, token: u64, file_flags: i32) -> io::Result<Self> {
        let application = context.application();
        let request = message::Socket {
            opaque: token,
            family: u32::from(family),
            file_flags: file_flags as u32,
            context: context.id(),
            ..message::Socket::default()
        };
        let mut message = Message::with(Op::Socket, 0, &request);
        let descriptors = application.channel().call(Target::Instance, &mut message, None)?;
        let id = message.get::<message::Socket>().socket;
        Self::from_reply(application, descriptors, context.id(), id, token)
    }

    fn from_reply(
        application: &Arc<Application>,
        descriptors: Vec<OwnedFd>,
        context: u32,
        id: u32,
        token: u64,
    ) -> io::Result<Self> {
        let descriptor = descriptors.into_iter().next();
        let descriptor =
            descriptor.ok_or_else(|| explained(libc::EPROTO, "the slow path gave no descriptor"))?;
        Ok(Self {
            application: application.clone(),
            connecting: Mutex::new(None),
            context,
            id,
            token,
            descriptor: descriptor.into_raw_fd().into(),
            has_connection: false.into(),
        })
    }

    /// Socket id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The caller's name of it.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The context given at creation.
    pub fn context_id(&self) -> u32 {
        self.context
    }

    /// The descriptor; -1 after [`Self::take_descriptor`].
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.load(Acquire)
    }

    /// Gives the descriptor up; control calls fail with EBADF from now on.
    pub fn take_descriptor(&self) -> Option<OwnedFd> {
        self.swap_descriptor(NO_DESCRIPTOR)
    }

    /// Uses another descriptor of the same file from now on (after dup2 and the like); returns the
    /// old one.
    pub fn replace_descriptor(&self, descriptor: OwnedFd) -> Option<OwnedFd> {
        self.swap_descriptor(descriptor.into_raw_fd())
    }

    fn swap_descriptor(&self, descriptor: RawFd) -> Option<OwnedFd> {
        let old = self.descriptor.swap(descriptor, AcqRel);
        // SAFETY: the number was ours, and is no longer.
        (old >= 0).then(|| unsafe { OwnedFd::from_raw_fd(old) })
    }

    /// Binds; returns the address bound.
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind(&self, local: &Endpoint) -> io::Result<Endpoint> {
        let request = Name { endpoint: *local, ..Name::default() };
        Ok(self.call(Message::with(Op::Bind, self.id, &request))?.get::<Name>().endpoint)
    }

    /// Listens; ACCEPTABLE events go to the context of [`Self::new`].
    ///
    /// # Errors
    /// As listen(2).
    pub fn listen(&self, backlog: u32) -> io::Result<()> {
        let mut message = Message::new(Op::Listen, self.id);
        message.flags = backlog;
        self.call(message).map(drop)
    }

    /// Begins to connect: Ok means in progress, then CONNECTED or FAILED comes to `context`.
    ///
    /// # Errors
    /// As connect(2), EINPROGRESS excepted.
    pub fn connect(&self, context: &Arc<Context>, remote: &Endpoint) -> io::Result<()> {
        let request = Connect { remote: *remote, context: context.id(), ..Connect::default() };
        self.expect_from(Some(context));
        let call = || self.call(Message::with(Op::Connect, self.id, &request)).map(drop);
        match self.growing_maps(call) {
            Err(error) if errno(&error) == libc::EINPROGRESS => Ok(()),
            Err(error) => {
                self.expect_from(None);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Begins to connect with fast open (RFC 7413). With `data`: as much of it as may goes with the SYN. Without: if
    /// data could go with the SYN, nothing is sent yet.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_fast(
        &self,
        context: &Arc<Context>,
        remote: &Endpoint,
        data: Option<&[u8]>,
    ) -> io::Result<FastOpen> {
        // What finds no room does not go with the SYN: its beginning does.
        let _ = data.unwrap_or(&[]).chunks(SYN_DATA_BYTES).try_for_each(|piece| self.stage(piece));
        let request = Connect { remote: *remote, context: context.id(), ..Connect::default() };
        self.expect_from(Some(context));
        let mut reply = Connect::default();
        let flags = if data.is_some() { connect_flags::FAST_OPEN } else { connect_flags::DEFER };
        let mut call = || {
            let mut message = Message::with(Op::Connect, self.id, &request);
            message.flags = flags;
            self.call(message).map(|message| reply = message.get())
        };
        let done = match call() {
            Err(error) if errno(&error) == libc::ENOBUFS && self.application.grow_maps().is_ok() => call(),
            other => other,
        };
        if done.is_err() || reply.started == 0 {
            self.expect_from(None);
        }
        done.map(|()| FastOpen { started: reply.started != 0, syn_bytes: reply.syn_bytes as usize })
    }

    fn stage(&self, piece: &[u8]) -> io::Result<()> {
        let mut body = SynData::default();
        body.bytes[..piece.len()].copy_from_slice(piece);
        let mut message = Message::with(Op::SynData, self.id, &body);
        message.flags = piece.len() as u32;
        self.call(message).map(drop)
    }

    /// The connection after CONNECTED, its events in the context of [`Self::connect`]. Once per
    /// socket.
    ///
    /// # Errors
    /// ENOTCONN before CONNECTED, EISCONN the second time; what FLOW_INFO reports.
    pub fn established(&self) -> io::Result<Connection> {
        if self.has_connection.load(Acquire) {
            return Err(io::Error::from_raw_os_error(libc::EISCONN));
        }
        let info = self.flow_info()?;
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        let context = connecting.take().ok_or_else(|| io::Error::from_raw_os_error(libc::EISCONN))?;
        self.has_connection.store(true, Release);
        Connection::new(&context, &info, self.token)
    }

    /// Takes a connection from the accept queue; its events go to `context`.
    ///
    /// # Errors
    /// EAGAIN: none waits. EMFILE, ENOBUFS.
    pub fn accept(
        &self,
        context: &Arc<Context>,
        token: u64,
        file_flags: i32,
    ) -> io::Result<(Self, Connection)> {
        let request = Accept {
            opaque: token,
            file_flags: file_flags as u32,
            context: context.id(),
            ..Accept::default()
        };
        let mut message = Message::with(Op::Accept, self.id, &request);
        context.expect();
        let accepted = self.call_with(&mut message).inspect_err(|_| context.expect_no_more())?;
        let info = message.get::<FlowInfo>();
        let socket = Self::from_reply(&self.application, accepted, context.id(), info.socket, token)
            .inspect_err(|_| context.expect_no_more())?;
        socket.has_connection.store(true, Release);
        let connection = Connection::new(context, &info, token)?;
        Ok((socket, connection))
    }

    /// Tells the slow path that nobody will read any more (shutdown(SHUT_RD)). Writing ends with
    /// [`Connection::finish`].
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn shutdown_read(&self) -> io::Result<()> {
        let mut message = Message::new(Op::Shutdown, self.id);
        message.flags = SHUT_RD;
        self.call(message).map(drop)
    }

    /// Sets an option of [`abi::message::option`].
    ///
    /// # Errors
    /// ENOPROTOOPT, EINVAL.
    pub fn set_option(&self, option: u32, value: u32, value2: u32) -> io::Result<()> {
        let request = Option_ { option, value, value2, ..Option_::default() };
        self.call(Message::with(Op::SetOption, self.id, &request)).map(drop)
    }

    /// Sets an option of four words, a key.
    ///
    /// # Errors
    /// EINVAL.
    pub fn set_key(&self, option: u32, [value, value2, third, fourth]: [u32; 4]) -> io::Result<()> {
        let request = Option_ { option, value, value2, more: [third, fourth], ..Option_::default() };
        self.call(Message::with(Op::SetOption, self.id, &request)).map(drop)
    }

    /// Reads an option: value and second value.
    ///
    /// # Errors
    /// ENOPROTOOPT.
    pub fn option(&self, option: u32) -> io::Result<(u32, u32)> {
        let request = Option_ { option, ..Option_::default() };
        let reply = self.call(Message::with(Op::GetOption, self.id, &request))?.get::<Option_>();
        Ok((reply.value, reply.value2))
    }

    /// Local and remote name, TCP state.
    ///
    /// # Errors
    /// What the control call reports.
    pub fn names(&self) -> io::Result<Names> {
        Ok(self.call(Message::new(Op::Names, self.id))?.get::<Names>())
    }

    /// Flow information as the slow path has it now (RTT, state).
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn flow_info(&self) -> io::Result<FlowInfo> {
        Ok(self.call(Message::new(Op::FlowInfo, self.id))?.get::<FlowInfo>())
    }

    fn call(&self, mut message: Message) -> io::Result<Message> {
        self.call_with(&mut message)?;
        Ok(message)
    }

    pub(super) fn call_with(&self, message: &mut Message) -> io::Result<Vec<OwnedFd>> {
        let descriptor = self.descriptor();
        if descriptor < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the descriptor is ours; the caller keeps the socket through the call.
        let target = Target::Socket(unsafe { BorrowedFd::borrow_raw(descriptor) }, self.id);
        self.application.channel().call(target, message, None)
    }

    /// ENOBUFS may mean that all records of the buffer maps are taken: adds some and tries again.
    fn growing_maps(&self, call: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match call() {
            Err(error) if errno(&error) == libc::ENOBUFS && self.application.grow_maps().is_ok() => call(),
            other => other,
        }
    }

    /// Sets which context keeps the events of a connection that is not known yet.
    fn expect_from(&self, context: Option<&Arc<Context>>) {
        if let Some(context) = context {
            context.expect();
        }
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *connecting, context.cloned()) {
            old.expect_no_more();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.expect_from(None);
        let descriptor = self.descriptor.swap(NO_DESCRIPTOR, AcqRel);
        if descriptor >= 0 {
            // Not through OwnedFd, which would call an interposed close().
            sys::close(descriptor);
        }
    }
}
