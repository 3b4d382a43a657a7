// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Applications and their contexts.

use crate::{action::Action, errno::Errno, socket, stack::Stack};
use abi::flow::NONE;

/// An application.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    pub(crate) used: bool,
    /// Its process is gone.
    pub(crate) dead: bool,
    /// `ApplicationDrained` was reported.
    pub(crate) drained: bool,
    /// Linked in the list of dead applications.
    pub(crate) listed: bool,
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    pub(crate) command: [u8; 16],
    pub(crate) contexts: u32,
    pub(crate) sockets: u32,
    /// SYNs with data on their way.
    pub(crate) syn_data: u32,
    pub(crate) flows: u32,
    /// First of its sockets.
    pub(crate) socket_head: u32,
    /// First of its record segments, how many, and records in use.
    pub(crate) segment_head: u32,
    pub(crate) segments: u32,
    pub(crate) records_used: u32,
    /// First of its contexts.
    pub(crate) context_head: u32,
    /// Next of the dead ones with sockets left, or to be reported.
    pub(crate) next: u32,
    pub(crate) faults: u64,
    pub(crate) pool_empty: u64,
}

impl Default for Application {
    fn default() -> Self {
        Self {
            used: false,
            dead: false,
            drained: false,
            listed: false,
            uid: 0,
            pid: 0,
            command: [0; 16],
            contexts: 0,
            sockets: 0,
            syn_data: 0,
            flows: 0,
            socket_head: NONE,
            segment_head: NONE,
            segments: 0,
            records_used: 0,
            context_head: NONE,
            next: NONE,
            faults: 0,
            pool_empty: 0,
        }
    }
}

/// Events owed to a context itself, one bit each in [`Context::pending`].
pub(crate) mod context_event {
    pub(crate) const POOL_LOW: u8 = 1 << 0;
    pub(crate) const MAPS_LOW: u8 = 1 << 1;
    pub(crate) const FASTPATH_GONE: u8 = 1 << 2;
    pub(crate) const FASTPATH_BACK: u8 = 1 << 3;
}

/// A context: one application thread's rings.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Application, or [`NONE`] when the slot is free.
    pub(crate) application: u32,
    /// Sockets with events owed.
    pub(crate) event_head: u32,
    pub(crate) event_tail: u32,
    pub(crate) pending: u8,
    /// Linked in the list of contexts with something owed.
    pub(crate) queued: bool,
    /// Next in that list.
    pub(crate) next: u32,
    /// Next context of the application.
    pub(crate) sibling: u32,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            application: NONE,
            event_head: NONE,
            event_tail: NONE,
            pending: 0,
            queued: false,
            next: NONE,
            sibling: NONE,
        }
    }
}

/// Sockets of a dead application released in one call.
const RELEASE_BATCH: u32 = 64;

impl Stack<'_> {
    /// Whether `application` is in use.
    pub(crate) fn is_application(&self, application: u32) -> bool {
        self.applications.has(application) && self.applications.at(application).used
    }

    /// An application attached.
    ///
    /// # Errors
    /// EINVAL: `id` is not below APPLICATIONS_MAX. EBUSY: it is in use.
    pub fn add_application(&mut self, id: u32, uid: u32, pid: u32, command: [u8; 16]) -> Result<(), Errno> {
        if !self.applications.has(id) {
            return Err(Errno::EINVAL);
        }
        if self.applications.at(id).used {
            return Err(Errno::EBUSY);
        }
        *self.applications.at_mut(id) =
            Application { used: true, uid, pid, command, ..Application::default() };
        self.application_count = self.application_count.saturating_add(1);
        Ok(())
    }

    /// The application created a context.
    ///
    /// # Errors
    /// EINVAL: no such application or an id out of range. EBUSY: the id is in use.
    pub fn add_context(&mut self, application: u32, context: u32) -> Result<(), Errno> {
        if !self.is_application(application) || !self.contexts.has(context) {
            return Err(Errno::EINVAL);
        }
        if self.contexts.at(context).application != NONE {
            return Err(Errno::EBUSY);
        }
        let owner = self.applications.at_mut(application);
        owner.contexts = owner.contexts.saturating_add(1);
        let sibling = core::mem::replace(&mut owner.context_head, context);
        let entry = self.contexts.at_mut(context);
        entry.application = application;
        entry.sibling = sibling;
        entry.pending = 0;
        self.context_count = self.context_count.saturating_add(1);
        Ok(())
    }

    /// The context is gone: its sockets and flows have none until they are moved.
    pub fn remove_context(&mut self, now_us: u64, context: u32) {
        self.enter(now_us);
        self.forget_context(context, true);
    }

    /// Removes a context. With `detach` its flows belong to no context from now on; those of a dead
    /// application keep theirs until the core has drained its rings (`finish_orphan`), as it would
    /// refuse the application's last words from anyone but the owner.
    fn forget_context(&mut self, context: u32, detach: bool) {
        if !self.is_context(context) {
            return;
        }
        let application = self.contexts.at(context).application;
        self.unlink_context(application, context);
        self.contexts.at_mut(context).application = NONE;
        self.drop_context_events(context);
        self.context_count = self.context_count.saturating_sub(1);
        let mut socket = self.applications.at(application).socket_head;
        while self.sockets.has(socket) {
            let entry = self.sockets.at_mut(socket);
            let next = entry.app_next;
            if entry.context == context {
                entry.context = NONE;
                let flow = entry.flow;
                if detach {
                    self.set_flow_context(flow, NONE);
                }
            }
            socket = next;
        }
    }

    fn unlink_context(&mut self, application: u32, context: u32) {
        let sibling = self.contexts.at(context).sibling;
        let owner = self.applications.at_mut(application);
        owner.contexts = owner.contexts.saturating_sub(1);
        if owner.context_head == context {
            owner.context_head = sibling;
            return;
        }
        let mut at = owner.context_head;
        while self.contexts.has(at) {
            let entry = self.contexts.at_mut(at);
            if entry.sibling == context {
                entry.sibling = sibling;
                return;
            }
            at = entry.sibling;
        }
    }

    /// The application's process is gone. Its contexts are removed, its sockets released (some at a
    /// time, by `handle_timer`); its connections end as Linux ends them. `ApplicationDrained` follows
    /// when its last flow is gone.
    pub fn application_died(&mut self, now_us: u64, application: u32) {
        self.enter(now_us);
        if !self.is_application(application) || self.applications.at(application).dead {
            return;
        }
        while self.is_context(self.applications.at(application).context_head) {
            let context = self.applications.at(application).context_head;
            self.forget_context(context, false);
        }
        self.applications.at_mut(application).dead = true;
        self.list_dead(application);
    }

    /// Links a dead application that needs attention.
    pub(crate) fn list_dead(&mut self, application: u32) {
        let head = self.dead_head;
        let entry = self.applications.at_mut(application);
        if entry.used && entry.dead && !entry.listed && !entry.drained {
            entry.listed = true;
            entry.next = head;
            self.dead_head = application;
        }
    }

    /// Whether sockets of dead applications are still to be released.
    pub(crate) fn has_dead_sockets(&self) -> bool {
        let mut application = self.dead_head;
        while self.applications.has(application) {
            let entry = self.applications.at(application);
            if self.sockets.has(entry.socket_head) {
                return true;
            }
            application = entry.next;
        }
        false
    }

    /// Releases some sockets of dead applications.
    pub(crate) fn release_dead_sockets(&mut self) {
        let mut left = RELEASE_BATCH;
        let mut application = self.dead_head;
        while self.applications.has(application) && left > 0 {
            let entry = self.applications.at(application);
            let socket = entry.socket_head;
            if self.sockets.has(socket) {
                self.close_socket(socket);
                left = left.saturating_sub(1);
            } else {
                application = entry.next;
            }
        }
    }

    /// Reports a dead application without sockets and flows; takes it, and those that still have
    /// flows (they come back with `list_dead`), off the list.
    pub(crate) fn next_drained(&mut self) -> Option<Action> {
        let mut previous = NONE;
        let mut application = self.dead_head;
        while self.applications.has(application) {
            let entry = self.applications.at_mut(application);
            let next = entry.next;
            if self.sockets.has(entry.socket_head) {
                previous = application;
                application = next;
                continue;
            }
            entry.listed = false;
            entry.next = NONE;
            let drained = entry.flows == 0;
            entry.drained = drained;
            if self.applications.has(previous) {
                self.applications.at_mut(previous).next = next;
            } else {
                self.dead_head = next;
            }
            if drained {
                return Some(Action::ApplicationDrained { application });
            }
            application = next;
        }
        None
    }

    /// The id of a drained application may be used again. False: it is not drained.
    pub fn remove_application(&mut self, application: u32) -> bool {
        if !self.is_application(application) || !self.applications.at(application).drained {
            return false;
        }
        let mut id = self.applications.at(application).segment_head;
        while self.records.has(id) {
            let segment = self.records.at_mut(id);
            let next = segment.next;
            segment.next = self.segment_free;
            self.segment_free = id;
            id = next;
        }
        *self.applications.at_mut(application) = Application::default();
        self.application_count = self.application_count.saturating_sub(1);
        true
    }

    /// Links a new socket into its application's list.
    pub(crate) fn link_socket(&mut self, application: u32, socket: u32) {
        let owner = self.applications.at_mut(application);
        owner.sockets = owner.sockets.saturating_add(1);
        let head = core::mem::replace(&mut owner.socket_head, socket);
        if self.sockets.has(head) {
            self.sockets.at_mut(head).app_prev = socket;
        }
        let entry: &mut socket::Socket = self.sockets.at_mut(socket);
        entry.app_next = head;
        entry.app_prev = NONE;
    }

    /// Takes a socket out of its application's list.
    pub(crate) fn unlink_socket(&mut self, socket: u32) {
        let socket::Socket { application, app_next, app_prev, .. } = *self.sockets.at(socket);
        if self.sockets.has(app_next) {
            self.sockets.at_mut(app_next).app_prev = app_prev;
        }
        let owner = self.applications.at_mut(application);
        owner.sockets = owner.sockets.saturating_sub(1);
        if self.sockets.has(app_prev) {
            self.sockets.at_mut(app_prev).app_next = app_next;
        } else {
            owner.socket_head = app_next;
        }
        self.list_dead(application);
    }
}
