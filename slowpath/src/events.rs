// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Events owed to contexts. Each is a bit of its socket or context, so that none is ever lost, and a
//! full ring holds up its own context only.

use crate::{
    action::Action,
    applications::context_event,
    queues::Last,
    socket::{event, flag, Kind},
    stack::Stack,
};
use abi::{
    event::{kernel_event, KernelEvent},
    flow::NONE,
    region::RegionKind,
};

/// Kind of each event bit of a socket, in the order they are sent.
const SOCKET_EVENTS: [(u8, u16); 5] = [
    (event::CONNECTED, kernel_event::CONNECTED),
    (event::MOVED, kernel_event::MOVED),
    (event::ACCEPTABLE, kernel_event::ACCEPTABLE),
    (event::SOFT_ERROR, kernel_event::SOFT_ERROR),
    (event::FAILED, kernel_event::FAILED),
];

impl Stack<'_> {
    /// The socket's context is owed the events in `bits`.
    pub(crate) fn notify(&mut self, socket: u32, bits: u8) {
        if !self.sockets.has(socket) {
            return;
        }
        self.sockets.at_mut(socket).pending |= bits;
        self.queue_socket_event(socket);
    }

    /// Links a socket with events owed into its context's list, if it has a context.
    pub(crate) fn queue_socket_event(&mut self, socket: u32) {
        let entry = self.sockets.at(socket);
        let context = entry.context;
        if entry.pending == 0 || entry.is(flag::QUEUED) || !self.is_context(context) {
            return;
        }
        let entry = self.sockets.at_mut(socket);
        entry.set(flag::QUEUED, true);
        entry.event_next = NONE;
        let tail = self.contexts.at(context).event_tail;
        if self.sockets.has(tail) {
            self.sockets.at_mut(tail).event_next = socket;
        }
        let list = self.contexts.at_mut(context);
        if list.event_head == NONE {
            list.event_head = socket;
        }
        list.event_tail = socket;
        self.queue_context(context);
    }

    /// The context itself is owed the events in `bits`.
    pub(crate) fn notify_context(&mut self, context: u32, bits: u8) {
        if self.is_context(context) {
            self.contexts.at_mut(context).pending |= bits;
            self.queue_context(context);
        }
    }

    /// Whether `context` is in use.
    pub(crate) fn is_context(&self, context: u32) -> bool {
        self.contexts.has(context) && self.contexts.at(context).application != NONE
    }

    fn queue_context(&mut self, context: u32) {
        let entry = self.contexts.at_mut(context);
        if entry.queued {
            return;
        }
        entry.queued = true;
        entry.next = NONE;
        if self.contexts.has(self.context_tail) {
            self.contexts.at_mut(self.context_tail).next = context;
        } else {
            self.context_head = context;
        }
        self.context_tail = context;
    }

    fn pop_context(&mut self) {
        let head = self.context_head;
        let entry = self.contexts.at_mut(head);
        let next = entry.next;
        entry.queued = false;
        entry.next = NONE;
        self.context_head = next;
        if next == NONE {
            self.context_tail = NONE;
        }
    }

    /// Takes a context out of the ready list until the round is over: its ring is full.
    pub(crate) fn stall_context(&mut self, context: u32) {
        if self.context_head != context {
            // It leads the ready list unless its last event was the kept one.
            self.queue_context(context);
            if self.context_head != context {
                return;
            }
        }
        self.pop_context();
        let entry = self.contexts.at_mut(context);
        entry.queued = true;
        entry.next = self.stalled_head;
        self.stalled_head = context;
    }

    /// Contexts that were stalled are ready again.
    pub(crate) fn unstall_contexts(&mut self) {
        let mut context = core::mem::replace(&mut self.stalled_head, NONE);
        while self.contexts.has(context) {
            let entry = self.contexts.at_mut(context);
            let next = entry.next;
            entry.queued = false;
            self.queue_context(context);
            context = next;
        }
    }

    /// The next event, context by context.
    pub(crate) fn next_event(&mut self) -> Option<Action> {
        loop {
            let context = self.context_head;
            if !self.contexts.has(context) {
                return None;
            }
            if let Some((bit, event)) = self.context_event(context) {
                self.contexts.at_mut(context).pending &= !bit;
                self.last = Last::Context { context, bit };
                return Some(Action::Notify { context, event });
            }
            if let Some(action) = self.socket_event(context) {
                return Some(action);
            }
            self.pop_context();
        }
    }

    fn context_event(&self, context: u32) -> Option<(u8, KernelEvent)> {
        let owed = self.contexts.at(context).pending;
        let kinds = [
            (context_event::FASTPATH_GONE, kernel_event::FASTPATH, 0),
            (context_event::FASTPATH_BACK, kernel_event::FASTPATH, 1),
            (context_event::POOL_LOW, kernel_event::POOL_LOW, RegionKind::Pool as u32),
            (context_event::MAPS_LOW, kernel_event::POOL_LOW, RegionKind::Maps as u32),
        ];
        let (bit, kind, error) = kinds.into_iter().find(|(bit, ..)| owed & bit != 0)?;
        Some((bit, KernelEvent { kind, error, socket: NONE, flow: NONE, opaque: 0 }))
    }

    fn socket_event(&mut self, context: u32) -> Option<Action> {
        loop {
            let socket = self.contexts.at(context).event_head;
            if !self.sockets.has(socket) {
                return None;
            }
            let entry = self.sockets.at(socket);
            let found = SOCKET_EVENTS.into_iter().find(|(bit, _)| entry.pending & bit != 0);
            match found {
                Some((bit, kind)) if entry.context == context && entry.kind != Kind::Free => {
                    let event = KernelEvent {
                        kind,
                        error: match bit {
                            event::FAILED => entry.error,
                            event::SOFT_ERROR => entry.soft_error,
                            _ => 0,
                        },
                        socket,
                        flow: entry.flow,
                        opaque: entry.opaque,
                    };
                    self.sockets.at_mut(socket).pending &= !bit;
                    self.last = Last::Socket { context, socket, bit };
                    return Some(Action::Notify { context, event });
                }
                _ => self.pop_socket_event(context),
            }
        }
    }

    /// Takes the first socket out of a context's list; one that was released meanwhile becomes free,
    /// one that was moved goes to its new context.
    fn pop_socket_event(&mut self, context: u32) {
        let socket = self.contexts.at(context).event_head;
        let entry = self.sockets.at_mut(socket);
        let next = entry.event_next;
        entry.set(flag::QUEUED, false);
        entry.event_next = NONE;
        let released = entry.kind == Kind::Free;
        let list = self.contexts.at_mut(context);
        list.event_head = next;
        if next == NONE {
            list.event_tail = NONE;
        }
        if released {
            self.recycle_socket(socket);
        } else {
            self.queue_socket_event(socket);
        }
    }

    /// Empties a context's list: the context is gone.
    pub(crate) fn drop_context_events(&mut self, context: u32) {
        // Without an application the sockets are not linked again.
        while self.sockets.has(self.contexts.at(context).event_head) {
            self.pop_socket_event(context);
        }
        self.contexts.at_mut(context).pending = 0;
    }
}
