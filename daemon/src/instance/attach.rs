// SPDX-License-Identifier: MIT OR Apache-2.0
//! Roles: becoming the fast path or a control client, and losing the fast path.

use super::{plane::Plane, regions::Errno, Client, FastPath, Give, Instance, Life, Reply, Role, Take, Wake};
use abi::{
    message::{notice, AttachControl, AttachFast, Message, Notice, Route},
    version::{CONTROL_HASH, CONTROL_VERSION, FAST_HASH, FAST_VERSION},
};
use slowpath::Config;

/// The name that an empty one stands for.
const DEFAULT_NAME: [u8; 16] = *b"tas0\0\0\0\0\0\0\0\0\0\0\0\0";

impl Instance {
    /// ENODEV if `name` is another instance's.
    pub(super) fn check_name(&self, name: &[u8; 16]) -> Result<(), Errno> {
        let name = if *name == [0; 16] { &DEFAULT_NAME } else { name };
        if *name == self.settings.name {
            Ok(())
        } else {
            Err(libc::ENODEV)
        }
    }

    /// ATTACH_FAST. EPERM: not privileged; EPROTO: ABI differs; EBUSY: there is one; EINVAL: a value is
    /// out of its limits, or differs from that of flows which are to be picked up; ENOMEM.
    pub(super) fn attach_fast(
        &mut self,
        now_us: u64,
        client: Client,
        message: &mut Message,
    ) -> Result<Reply, Errno> {
        let credentials = self.clients.get(&client.0).ok_or(libc::EBADF)?.credentials;
        let request: AttachFast = message.get();
        if !credentials.privileged {
            return Err(libc::EPERM);
        }
        if request.abi_hash != FAST_HASH || request.version != FAST_VERSION {
            message.set(&AttachFast { abi_hash: FAST_HASH, version: FAST_VERSION, ..request });
            return Err(libc::EPROTO);
        }
        self.check_name(&request.instance)?;
        if self.fast.is_some() {
            return Err(libc::EBUSY);
        }
        let [a, b, c, d, hash_key @ ..] = self.settings.secret;
        let config =
            Config::from_attach(&AttachFast { instance: self.settings.name, ..request }, [a, b, c, d])
                .map_err(|error| error.0 as Errno)?;
        let resumed = self.attach_plane(now_us, config, credentials.pid)?;
        self.fast = Some(FastPath { client });
        self.epoch = self.epoch.wrapping_add(1);
        self.set_role(client, Role::FastPath);
        self.publish_epoch();
        self.announce_everything();
        message.set(&AttachFast {
            instance: self.settings.name,
            cores: config.cores,
            flows: config.flows,
            mtu_bytes: config.mtu_bytes,
            ipv6_link_local: config.ipv6_link_local,
            epoch: self.epoch,
            resumed: u32::from(resumed),
            hash_key,
            reserved: [0; 3],
            ..request
        });
        Ok(Reply { give: vec![Give::NoticeWake, Give::SlowpathWake], ..Reply::default() })
    }

    /// Keeps the tables if anything lives in them, else makes new ones; true if there are flows to
    /// pick up.
    fn attach_plane(&mut self, now_us: u64, config: Config, pid: u32) -> Result<bool, Errno> {
        if self.is_idle(now_us) {
            self.plane = None;
            self.was_ready = false;
        }
        if self.plane.is_none() {
            let plane = Plane::new(self.settings.memory, config, now_us);
            self.plane = Some(plane.map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?);
        }
        let plane = self.plane.as_mut().ok_or(libc::ENOMEM)?;
        if !plane.fits(&config) {
            return Err(libc::EINVAL);
        }
        plane.empty_rings().map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?;
        let resumed =
            plane.stack.fast_path_attached(now_us, &config, pid).map_err(|error| error.0 as Errno)?;
        plane.config = config;
        Ok(resumed)
    }

    /// True if neither an application nor a flow is left.
    fn is_idle(&mut self, now_us: u64) -> bool {
        self.applications.len() == 0 && self.stack_status(now_us).flows_used == 0
    }

    /// Has a new fast path map all contexts and segments there are.
    fn announce_everything(&mut self) {
        let applications: Vec<u32> = self.applications.iter().map(|(id, _)| id).collect();
        for id in applications {
            self.announce_segments(id);
        }
        let contexts: Vec<(u32, u32)> =
            self.contexts.iter().map(|(id, context)| (context.application, id)).collect();
        for (application, context) in contexts {
            self.tell_fast(notice::CONTEXT_ADDED, application, context);
        }
    }

    /// The fast path is gone: its flows freeze. What it was to forget is forgotten.
    pub(super) fn detach_fast(&mut self, now_us: u64) {
        self.fast = None;
        self.publish_epoch();
        for undone in self.notices.clear() {
            self.notice_ended(undone);
        }
        if let Some(plane) = &mut self.plane {
            plane.stack.fast_path_detached(now_us);
        }
    }

    /// READY: applications may attach.
    pub(super) fn ready(&mut self, client: Client) -> Result<Reply, Errno> {
        self.check_fast(client)?;
        self.was_ready = true;
        Ok(Reply::default())
    }

    /// CORE_EVENTFD. EINVAL: no such core.
    pub(super) fn core_eventfd(&self, client: Client, core: u32) -> Result<Reply, Errno> {
        self.check_fast(client)?;
        if core >= self.plane.as_ref().map_or(0, Plane::cores) {
            return Err(libc::EINVAL);
        }
        Ok(Reply { take: Some(Take::CoreWake(core)), ..Reply::default() })
    }

    /// ADD_ROUTE.
    pub(super) fn add_route(&mut self, client: Client, message: &Message) -> Result<Reply, Errno> {
        self.check_fast(client)?;
        let route: Route = message.get();
        let plane = self.plane.as_mut().ok_or(libc::ENODEV)?;
        plane.stack.add_route(&route).map_err(|error| error.0 as Errno)?;
        Ok(Reply::default())
    }

    /// NEXT_NOTICE. EAGAIN: none.
    pub(super) fn next_notice(&mut self, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        self.check_fast(client)?;
        let taken = self.notices.take().ok_or(libc::EAGAIN)?;
        message.set(&taken);
        if self.notices.is_waiting() {
            self.queue_wake(Wake::Notice);
        }
        let give =
            if taken.kind == notice::CONTEXT_ADDED { self.context_wake(taken.index) } else { Vec::new() };
        Ok(Reply { give, ..Reply::default() })
    }

    /// NOTICE_DONE. ENOENT: no such notice was taken.
    pub(super) fn notice_done(&mut self, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        self.check_fast(client)?;
        let done = self.notices.done(message.get::<Notice>().sequence).ok_or(libc::ENOENT)?;
        message.set(&Notice::default());
        self.notice_ended(done);
        Ok(Reply::default())
    }

    /// The fast path has forgotten what it was to forget, or is gone itself.
    fn notice_ended(&mut self, ended: Notice) {
        match ended.kind {
            notice::CONTEXT_REMOVED => self.free_context(ended.index),
            notice::MAP_SEGMENT if self.fast.is_some() => self.maps_mapped(ended.application, ended.index),
            notice::APPLICATION_REMOVED => self.application_unmapped(ended.application),
            _ => {}
        }
    }

    /// Queues a notice if a fast path is attached; its sequence number.
    pub(super) fn tell_fast(&mut self, kind: u32, application: u32, index: u32) -> Option<u32> {
        self.fast.as_ref()?;
        let sequence = self.notices.push(kind, application, index);
        self.queue_wake(Wake::Notice);
        Some(sequence)
    }

    /// ATTACH_CONTROL.
    pub(super) fn attach_control(&mut self, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        let request: AttachControl = message.get();
        if request.abi_hash != CONTROL_HASH || request.version != CONTROL_VERSION {
            message.set(&AttachControl { abi_hash: CONTROL_HASH, version: CONTROL_VERSION, ..request });
            return Err(libc::EPROTO);
        }
        self.check_name(&request.instance)?;
        message.set(&AttachControl {
            abi_hash: CONTROL_HASH,
            version: CONTROL_VERSION,
            cores: self.plane.as_ref().map_or(0, Plane::cores),
            instance: self.settings.name,
            reserved: [0; 4],
        });
        self.set_role(client, Role::Control);
        Ok(Reply::default())
    }

    /// EPERM unless the client is the attached fast path.
    pub(super) fn check_fast(&self, client: Client) -> Result<(), Errno> {
        match &self.fast {
            Some(fast) if fast.client == client => Ok(()),
            _ => Err(libc::EPERM),
        }
    }

    /// The application a client is. EPERM if it is none.
    pub(super) fn application_of(&self, client: Client) -> Result<u32, Errno> {
        match self.role(client) {
            Role::Application(id) => Ok(id),
            _ => Err(libc::EPERM),
        }
    }

    pub(super) fn role(&self, client: Client) -> Role {
        self.clients.get(&client.0).map_or(Role::None, |entry| entry.role)
    }

    pub(super) fn set_role(&mut self, client: Client, role: Role) {
        if let Some(entry) = self.clients.get_mut(&client.0) {
            entry.role = role;
        }
    }

    /// True if there is a fast path with flows to carry.
    pub fn has_flows(&mut self, now_us: u64) -> bool {
        self.fast.is_some() && self.stack_status(now_us).flows_used != 0
    }

    /// True while an application lives, or its memory is still in use.
    pub fn has_applications(&self) -> bool {
        self.applications.iter().any(|(_, application)| application.life == Life::Alive)
    }
}
