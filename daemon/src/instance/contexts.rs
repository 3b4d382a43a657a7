// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts: one for each thread of an application, with its rings.

use super::{plane::Pushed, regions::Errno, Client, Give, Instance, Reply, Take};
use crate::memory::{Memory, Writers};
use abi::{
    context::{ring_bytes, ContextHeader, ContextLayout},
    event::{KernelEvent, EVENT_WORDS},
    limits::{CONTEXT_RING_ENTRIES, KERNEL_EVENT_ENTRIES},
    message::{notice, Context as ContextBody, Message},
};
use ring::{Producer, WakeFlag};
use std::sync::Arc;

/// Contexts of one application: threads that use sockets; leaves room for many applications.
const CONTEXTS_PER_APPLICATION: u32 = 256;

/// A context's memory and the slow path's end of its kernel ring.
pub(super) struct Context {
    pub(super) application: u32,
    /// Being removed: the fast path may still have it mapped.
    pub(super) removing: bool,
    ring: Producer<'static, EVENT_WORDS>,
    header: &'static ContextHeader,
    /// Last field: `ring` and `header` point into it.
    pub(super) memory: Arc<Memory>,
}

impl Context {
    fn new(application: u32, layout: &ContextLayout, memory: Memory) -> Option<Self> {
        let memory = Arc::new(memory);
        let words = ring_bytes(layout.kernel_entries, EVENT_WORDS) / 8;
        // SAFETY: `memory` lives as long as the context that holds these, and they stay private.
        let whole: &'static Memory = unsafe { &*Arc::as_ptr(&memory) };
        let [header] = whole.table::<ContextHeader>(0, 1)? else {
            return None;
        };
        let ring = Producer::attach(whole.words(layout.from_kernel(), words)?, layout.kernel_entries)?;
        Some(Self { application, removing: false, ring, header, memory })
    }

    fn notify(&mut self, event: KernelEvent) -> Pushed {
        if !self.ring.push(event.encode()) {
            return Pushed::Full;
        }
        self.ring.publish();
        if WakeFlag::new(&self.header.waiting).take() {
            Pushed::Wake
        } else {
            Pushed::Yes
        }
    }
}

impl Instance {
    /// CREATE_CONTEXT. EMFILE: the application or the instance has all it may.
    pub(super) fn create_context(&mut self, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        let application = self.application_of(client)?;
        let cores = self.plane.as_ref().ok_or(libc::ENODEV)?.cores();
        let owner = self.applications.get_mut(application).ok_or(libc::ENODEV)?;
        if owner.contexts >= CONTEXTS_PER_APPLICATION {
            return Err(libc::EMFILE);
        }
        let layout =
            ContextLayout { cores, entries: CONTEXT_RING_ENTRIES, kernel_entries: KERNEL_EVENT_ENTRIES };
        let memory = Memory::new(self.settings.memory, "tas-context", layout.bytes(), Writers::Shared, true)
            .map_err(|_| libc::ENOMEM)?;
        let context = Context::new(application, &layout, memory).ok_or(libc::ENOMEM)?;
        let id = self.contexts.insert(context).map_err(|_| libc::EMFILE)?;
        owner.contexts += 1;
        self.add_context_to_stack(application, id)?;
        message.object = id;
        message.set(&ContextBody {
            context: id,
            entries: layout.entries,
            kernel_entries: layout.kernel_entries,
            cores,
            bytes: layout.bytes() as u64,
            reserved: 0,
        });
        let after_notice = self.tell_fast(notice::CONTEXT_ADDED, application, id);
        Ok(Reply { take: Some(Take::ContextWake(id)), after_notice, ..Reply::default() })
    }

    fn add_context_to_stack(&mut self, application: u32, id: u32) -> Result<(), Errno> {
        let plane = self.plane.as_mut().ok_or(libc::ENODEV)?;
        plane.stack.add_context(application, id).map_err(|error| {
            self.free_context(id);
            error.0 as Errno
        })
    }

    /// DESTROY_CONTEXT. ENOENT: no such context of the caller.
    pub(super) fn destroy_context(&mut self, now_us: u64, client: Client, id: u32) -> Result<Reply, Errno> {
        let application = self.application_of(client)?;
        if !self.owns_context(application, id) {
            return Err(libc::ENOENT);
        }
        self.remove_context(now_us, id);
        Ok(Reply::default())
    }

    /// True if `id` is a live context of `application`.
    pub(super) fn owns_context(&self, application: u32, id: u32) -> bool {
        self.contexts.get(id).is_some_and(|context| context.application == application && !context.removing)
    }

    /// Takes a context away: at once without a fast path, else when the fast path has let go of it.
    pub(super) fn remove_context(&mut self, now_us: u64, id: u32) {
        let Some(context) = self.contexts.get_mut(id) else {
            return;
        };
        if context.removing {
            return;
        }
        context.removing = true;
        let application = context.application;
        if let Some(plane) = &mut self.plane {
            plane.stack.remove_context(now_us, id);
        }
        if self.tell_fast(notice::CONTEXT_REMOVED, application, id).is_none() {
            self.free_context(id);
        }
    }

    /// The last step of a context's removal.
    pub(super) fn free_context(&mut self, id: u32) {
        let Some(context) = self.contexts.remove(id) else {
            return;
        };
        if let Some(owner) = self.applications.get_mut(context.application) {
            owner.contexts = owner.contexts.saturating_sub(1);
        }
        self.try_free_application(context.application);
    }

    /// Puts an event on a context's kernel ring.
    pub(super) fn notify(&mut self, id: u32, event: KernelEvent) -> Pushed {
        match self.contexts.get_mut(id) {
            Some(context) if !context.removing => context.notify(event),
            _ => Pushed::Yes,
        }
    }

    /// The eventfd that goes with a CONTEXT_ADDED notice.
    pub(super) fn context_wake(&self, id: u32) -> Vec<Give> {
        if self.contexts.get(id).is_some() {
            vec![Give::ContextWake(id)]
        } else {
            Vec::new()
        }
    }
}
