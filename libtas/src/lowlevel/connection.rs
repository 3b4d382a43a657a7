// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle of an established connection, and how it is left.

use super::{
    context::Context,
    flow::{status, Flow},
    socket::Socket,
    transmit::tell,
};
use crate::sys;
use abi::message::{FlowInfo, Message, Op};
use std::{
    io,
    sync::{atomic::Ordering::*, Arc},
};

/// Duplicates of sockets that wait for acknowledgements get numbers from here on, out of the way of
/// programs that expect small ones.
const DUPLICATES_FROM: i32 = 512;

/// An established connection's data. Dropping it is [`Close::Finish`], without a duplicate of the
/// socket's descriptor.
pub struct Connection {
    pub(super) flow: Arc<Flow>,
}

/// How a connection is left by [`Connection::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Nobody else has the socket: FIN after the data written.
    Finish,
    /// The slow path will reset it (unread data, or linger of zero): memory is given up.
    Abort,
    /// Other processes have the socket too: no FIN, data written is still delivered.
    Leave,
}

impl Connection {
    /// Makes the connection of `info` and sends its events to `context`, which expects it.
    pub(super) fn new(context: &Arc<Context>, info: &FlowInfo, token: u64) -> io::Result<Self> {
        let flow = Flow::new(context, info, token).inspect_err(|_| context.expect_no_more())?;
        context.adopt(&flow);
        Ok(Self { flow })
    }

    /// The caller's name of it.
    pub fn token(&self) -> u64 {
        self.flow.token
    }

    /// Flow information at establishment.
    pub fn info(&self) -> &FlowInfo {
        &self.flow.info
    }

    /// The context its events go to.
    pub fn context(&self) -> Arc<Context> {
        self.flow.receive().context.clone()
    }

    /// The peer sent FIN (there may be bytes to read before it).
    #[inline]
    pub fn has_peer_finished(&self) -> bool {
        self.flow.has(status::PEER_FINISHED)
    }

    /// Bytes that can be read of a connection that neither end has finished and nothing has ended, and that has no
    /// urgent data; else None.
    /// One look at its state instead of several.
    #[inline]
    pub fn open_readable_bytes(&self) -> Option<usize> {
        const OVER: u32 =
            status::PEER_FINISHED | status::FINISHED | status::CLOSED | status::FAILED | status::URGENT;
        let flow = &self.flow;
        if flow.has(OVER) {
            return None;
        }
        Some(flow.rcv_nxt.load(Acquire).wrapping_sub(flow.rcv_read.load(Acquire)) as usize)
    }

    /// errno with which the connection failed, or zero.
    #[inline]
    pub fn error(&self) -> i32 {
        self.flow.error.load(Relaxed)
    }

    /// Delivers events to `context` from now on.
    ///
    /// # Errors
    /// What the control call reports; events go where they went before.
    pub fn move_to(&self, context: &Arc<Context>, socket: &Socket) -> io::Result<()> {
        let flow = &self.flow;
        let mut receive = flow.receive();
        let mut transmit = flow.transmit();
        let old = receive.context.clone();
        if Arc::ptr_eq(&old, context) {
            return Ok(());
        }
        context.expect();
        old.leave(flow);
        let mut message = Message::new(Op::Move, socket.id());
        message.flags = context.id();
        let moved = socket.call_with(&mut message).map(drop);
        let home = if moved.is_ok() { context } else { &old };
        receive.context = home.clone();
        transmit.context = home.clone();
        if moved.is_err() {
            context.expect_no_more();
            old.expect();
        }
        home.adopt(flow);
        // What the old ring still holds may be refused by now.
        flow.forget_told();
        tell(flow, home);
        moved
    }

    /// Ends the use of it; later calls read and write nothing. Call it before the socket's
    /// descriptor is closed: while data is unacknowledged, a duplicate of the descriptor keeps the
    /// socket alive until it is, so that the memory is told when it is free.
    pub fn close(&self, socket: &Socket, how: Close) {
        self.end(Some(socket), how);
    }

    fn end(&self, socket: Option<&Socket>, how: Close) {
        let flow = &self.flow;
        let mut transmit = flow.transmit();
        if flow.status.fetch_or(status::CLOSED, AcqRel) & status::CLOSED != 0 {
            return;
        }
        if how == Close::Finish {
            // Told here only if the slow path does not see it: while data is unacknowledged.
            let left = if flow.unacknowledged_bytes() > 0 { status::LEFT } else { 0 };
            flow.status.fetch_or(status::FINISHED | left, AcqRel);
        }
        let context = transmit.context.clone();
        tell(flow, &context);
        let application = &flow.application;
        let is_lost = how == Close::Abort || flow.has(status::FAILED);
        let mut inner = context.lock();
        if is_lost {
            inner.quarantine.add(flow, &mut transmit, application);
            inner.table.remove(flow);
        } else if flow.unacknowledged_bytes() == 0 && !flow.queued.load(Relaxed) {
            transmit.map.release_all(flow.record, &mut |chunk| inner.cache.give(chunk, &application.depot));
            inner.table.remove(flow);
        } else if let Some(descriptor) = socket.map(Socket::descriptor).filter(|descriptor| *descriptor >= 0)
        {
            // Without one (EMFILE) the memory is free when the flow's slot is used again.
            let duplicate =
                sys::duplicate(descriptor, DUPLICATES_FROM).or_else(|_| sys::duplicate(descriptor, 0));
            transmit.keep_alive = duplicate.ok().map(sys::PrivateFd::from);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end(None, Close::Finish);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flow = &self.flow;
        f.debug_struct("Connection")
            .field("flow", &flow.id)
            .field("readable_bytes", &flow.readable_bytes())
            .field("unacknowledged_bytes", &flow.unacknowledged_bytes())
            .field("error", &self.error())
            .finish()
    }
}

const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Connection>();
    is_shared::<Context>();
};
