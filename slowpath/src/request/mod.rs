// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Control calls. Every field of a message is input; every error is Linux's for the same call.

mod info;
mod open;
mod options;
mod readiness;
mod release;
mod status;

pub use readiness::Readiness;

use crate::{
    action::{Caller, Outcome},
    counters::Counter,
    errno::Errno,
    socket::Kind,
    stack::Stack,
};
use abi::message::{Message, Op, BODY_BYTES};

impl Stack<'_> {
    /// A control call: operations from SOCKET to CLOSE, and STATUS, FLOW_ENTRY, LISTEN_ENTRY,
    /// APPLICATION_ENTRY, RESET_FLOW, SLOW_COUNTERS. `socket` is the id the descriptor stands for
    /// (kernel), or the one the shell looked up and whose owner it compared (daemon). The reply, and
    /// the error, are written into `message`.
    pub fn handle_request(
        &mut self,
        now_us: u64,
        caller: &Caller,
        socket: Option<u32>,
        message: &mut Message,
    ) -> Outcome {
        self.enter(now_us);
        let Some(op) = Op::from_u32(message.op) else {
            return Outcome::NotForStack;
        };
        let result = match op {
            Op::Socket => self.request_socket(caller, message),
            Op::Status => self.request_status(message),
            Op::FlowEntry => self.request_flow_entry(message),
            Op::ListenEntry => self.request_listen_entry(message),
            Op::ApplicationEntry => self.request_application_entry(message),
            Op::ResetFlow => self.request_reset(caller, message),
            Op::SlowCounters => self.request_counters(message),
            _ if (Op::Bind as u32..=Op::SynData as u32).contains(&message.op) => {
                self.socket_request(op, caller, socket, message)
            }
            _ => return Outcome::NotForStack,
        };
        match result {
            Ok(outcome) => {
                message.error = 0;
                outcome
            }
            Err(error) => {
                // EINPROGRESS and EAGAIN are answers, not refusals.
                if error != Errno::EINPROGRESS && error != Errno::EAGAIN {
                    self.counters.add(Counter::RequestsRefused);
                }
                message.body = [0; BODY_BYTES];
                message.error = error.0;
                Outcome::Done
            }
        }
    }

    fn socket_request(
        &mut self,
        op: Op,
        caller: &Caller,
        socket: Option<u32>,
        message: &mut Message,
    ) -> Result<Outcome, Errno> {
        let id = socket.filter(|id| self.is_socket(*id)).ok_or(Errno::EBADF)?;
        match op {
            Op::Bind => self.request_bind(caller, id, message)?,
            Op::Listen => self.request_listen(id, message)?,
            Op::Connect => return self.request_connect(id, message),
            Op::Accept => return self.request_accept(id, message),
            Op::Shutdown => self.request_shutdown(id, message)?,
            Op::FlowInfo => self.request_flow_info(id, message)?,
            Op::SetOption => self.request_set_option(id, message)?,
            Op::GetOption => self.request_get_option(id, message)?,
            Op::Names => self.request_names(id, message),
            Op::Move => self.request_move(id, message)?,
            Op::Close => self.close_socket(id),
            Op::SynData => self.request_syn_data(id, message)?,
            _ => return Ok(Outcome::NotForStack),
        }
        Ok(Outcome::Done)
    }

    /// Whether `id` is a socket in use.
    pub(crate) fn is_socket(&self, id: u32) -> bool {
        self.sockets.has(id) && self.sockets.at(id).kind != Kind::Free
    }

    /// Application that owns a socket, for the daemon's owner check.
    pub fn socket_application(&self, socket: u32) -> Option<u32> {
        self.is_socket(socket).then(|| self.sockets.at(socket).application)
    }

    /// A context named in a request, which must belong to `application`.
    ///
    /// # Errors
    /// EINVAL: it does not.
    pub(crate) fn context_of(&self, application: u32, context: u32) -> Result<u32, Errno> {
        if self.is_context(context) && self.contexts.at(context).application == application {
            Ok(context)
        } else {
            Err(Errno::EINVAL)
        }
    }
}
