// SPDX-License-Identifier: MIT OR Apache-2.0
//! Control calls: which of them the shell answers, and what it adds to the stack's answers.

use super::{regions::Errno, Client, Give, Instance, Reply, Role, Wake};
use abi::message::{Message, Op};
use slowpath::{Caller, Outcome};

impl Instance {
    /// Carries out a call. `Err` is the reply's errno; the stack puts its own into the message.
    pub(super) fn dispatch(&mut self, now_us: u64, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        message.error = 0;
        let op = Op::from_u32(message.op).ok_or(libc::EINVAL)?;
        let role = self.role(client);
        let attaching = matches!(op, Op::AttachFast | Op::AttachApplication | Op::AttachControl);
        match role {
            Role::None if !attaching => return Err(libc::EPERM),
            Role::FastPath | Role::Application(_) | Role::Control if attaching => return Err(libc::EALREADY),
            _ => {}
        }
        match op {
            Op::AttachFast => self.attach_fast(now_us, client, message),
            Op::AttachApplication => self.attach_application(client, message),
            Op::AttachControl => self.attach_control(client, message),
            Op::Map => self.map(client, message),
            Op::AddRoute => self.add_route(client, message),
            Op::CoreEventfd => self.core_eventfd(client, message.object),
            Op::Ready => self.ready(now_us, client),
            Op::NextNotice => self.next_notice(client, message),
            Op::NoticeDone => self.notice_done(client, message),
            Op::WakeContext => self.wake_context(client, message.object),
            Op::WakeSlowpath => self.check_fast(client).map(|()| Reply::default()),
            Op::CreateContext => self.create_context(client, message),
            Op::DestroyContext => self.destroy_context(client, message.object),
            Op::Grow => self.grow(client, message),
            Op::WakeCore => self.wake_core(client, message.object),
            Op::Status => self.status(now_us, client, message),
            Op::FlowEntry | Op::ListenEntry => self.flow_entry(now_us, client, message),
            Op::ApplicationEntry => self.application_entry(now_us, client, message),
            _ => self.ask_stack(now_us, client, message),
        }
    }

    fn wake_context(&mut self, client: Client, id: u32) -> Result<Reply, Errno> {
        self.check_fast(client)?;
        self.contexts.get(id).ok_or(libc::ENOENT)?;
        self.queue_wake(Wake::Context(id));
        Ok(Reply::default())
    }

    fn wake_core(&mut self, client: Client, core: u32) -> Result<Reply, Errno> {
        self.application_of(client)?;
        if core >= self.plane.as_ref().map_or(0, |plane| plane.cores()) {
            return Err(libc::EINVAL);
        }
        self.queue_wake(Wake::Core(core));
        Ok(Reply::default())
    }

    /// On whose behalf the stack is asked.
    fn caller(&self, client: Client) -> Caller {
        let privileged = self.clients.get(&client.0).is_some_and(|entry| entry.credentials.privileged);
        let application = match self.role(client) {
            Role::Application(id) => id,
            _ => Caller::NO_APPLICATION,
        };
        Caller { application, net_bind_service: privileged, net_admin: privileged }
    }

    /// Hands a call to the stack.
    pub(super) fn ask_stack(&mut self, now_us: u64, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        let caller = self.caller(client);
        let plane = self.plane.as_mut().ok_or(libc::ENODEV)?;
        match plane.stack.handle_request(now_us, &caller, Some(message.object), message) {
            Outcome::Done => Ok(Reply::default()),
            Outcome::NewSocket { socket } => Ok(Reply { give: vec![Give::Socket(socket)], ..Reply::default() }),
            Outcome::NotForStack => Err(libc::EINVAL),
        }
    }
}
