// SPDX-License-Identifier: MIT OR Apache-2.0
//! Control calls: which of them the shell answers, and what it adds to the stack's answers.

use super::{applications::Application, regions::Errno, Client, Give, Instance, Reply, Role, Wake};
use abi::message::{ApplicationEntry, Message, Op, SlowCounters, Status};
use slowpath::{Caller, Outcome};

impl Instance {
    /// Carries out a call. `Err` is the reply's errno; the stack puts its own into the message.
    pub(super) fn dispatch(
        &mut self,
        now_us: u64,
        client: Client,
        message: &mut Message,
    ) -> Result<Reply, Errno> {
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
            Op::Ready => self.ready(client),
            Op::NextNotice => self.next_notice(client, message),
            Op::NoticeDone => self.notice_done(client, message),
            Op::WakeContext => self.wake_context(client, message.object),
            Op::WakeSlowpath => self.check_fast(client).map(|()| Reply::default()),
            Op::CreateContext => self.create_context(client, message),
            Op::DestroyContext => self.destroy_context(now_us, client, message.object),
            Op::Grow => self.grow(client, message),
            Op::WakeCore => self.wake_core(client, message.object),
            Op::Status => self.status(now_us, client, message),
            Op::ApplicationEntry => self.application_entry(now_us, client, message),
            Op::Socket => self.ask_stack(now_us, client, None, message),
            Op::FlowEntry | Op::ListenEntry | Op::ResetFlow | Op::SlowCounters => {
                self.ask_control(now_us, client, message)
            }
            Op::Bind
            | Op::Listen
            | Op::Connect
            | Op::Accept
            | Op::Shutdown
            | Op::FlowInfo
            | Op::SetOption
            | Op::GetOption
            | Op::Names
            | Op::Move
            | Op::Close
            | Op::SynData => self.ask_socket(now_us, client, message),
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

    /// A call on a socket. EBADF: the caller has no such socket.
    fn ask_socket(&mut self, now_us: u64, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        let application = self.application_of(client)?;
        let socket = message.object;
        let owner = self.plane.as_ref().and_then(|plane| plane.stack.socket_application(socket));
        if owner != Some(application) {
            return Err(libc::EBADF);
        }
        self.ask_stack(now_us, client, Some(socket), message)
    }

    /// A call of a control client. Before the first fast path there is nothing to tell.
    fn ask_control(&mut self, now_us: u64, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        if self.role(client) != Role::Control {
            return Err(libc::EPERM);
        }
        if self.plane.is_some() {
            return self.ask_stack(now_us, client, None, message);
        }
        if message.op == Op::SlowCounters as u32 {
            message.set(&SlowCounters::default());
            return Ok(Reply::default());
        }
        Err(libc::ENOENT)
    }

    /// STATUS: the stack's, or that of an instance which never had a fast path.
    fn status(&mut self, now_us: u64, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        if self.role(client) != Role::Control {
            return Err(libc::EPERM);
        }
        let status = Status {
            instance: self.settings.name,
            fastpath: u32::from(self.fast.is_some()),
            contexts: self.contexts.len() as u32,
            epoch: self.epoch,
            ..self.stack_status(now_us)
        };
        message.set(&status);
        Ok(Reply::default())
    }

    /// What the stack says of itself; zeroes without one.
    pub(super) fn stack_status(&mut self, now_us: u64) -> Status {
        let Some(plane) = &mut self.plane else {
            return Status::default();
        };
        let caller =
            Caller { application: Caller::NO_APPLICATION, net_bind_service: false, net_admin: false };
        let mut message = Message::new(Op::Status, 0);
        plane.stack.handle_request(now_us, &caller, None, &mut message);
        message.get()
    }

    /// APPLICATION_ENTRY: the stack's, with the memory that only the shell knows.
    fn application_entry(
        &mut self,
        now_us: u64,
        client: Client,
        message: &mut Message,
    ) -> Result<Reply, Errno> {
        let reply = self.ask_control(now_us, client, message)?;
        if message.error == 0 {
            let entry: ApplicationEntry = message.get();
            let (pool, maps) = self.applications.get(entry.id).map_or((0, 0), Application::segment_counts);
            message.set(&ApplicationEntry { pool_segments: pool, map_segments: maps, ..entry });
        }
        Ok(reply)
    }

    /// Hands a call to the stack.
    fn ask_stack(
        &mut self,
        now_us: u64,
        client: Client,
        socket: Option<u32>,
        message: &mut Message,
    ) -> Result<Reply, Errno> {
        let caller = self.caller(client);
        let plane = self.plane.as_mut().ok_or(libc::ENODEV)?;
        match plane.stack.handle_request(now_us, &caller, socket, message) {
            Outcome::Done => Ok(Reply::default()),
            Outcome::NewSocket { socket } => {
                Ok(Reply { give: vec![Give::Socket(socket)], ..Reply::default() })
            }
            Outcome::NotForStack => Err(libc::EINVAL),
        }
    }
}
