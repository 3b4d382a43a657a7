// SPDX-License-Identifier: GPL-2.0-only
//! Applications: their contexts, pools and maps, and what is left to do when one dies.

use crate::{
    errors::from_stack,
    eventfd::EventFd,
    instance::Instance,
    objects::{context_layout, Application, Context, Life, Phase, Segment, Told},
    process,
    socket::Owner,
    state::State,
};
use abi::{
    message::{AttachApplication, Context as ContextBody, Grow, Message},
    pool::{MAP_SEGMENTS_MAX, POOL_SEGMENTS_MAX},
    region::RegionKind,
    version::{APPLICATION_HASH, APPLICATION_VERSION},
};
use kernel::{error::code::*, prelude::*};

/// Contexts of one application: threads that use sockets; leaves room for many applications.
const CONTEXTS_PER_APPLICATION: u32 = 256;
/// Pool segments of 2 MiB that an application has from the start.
const POOL_SEGMENTS_START: u32 = 8;
/// Microseconds without work before an application's thread or a core sleeps.
const POLL_INTERVAL_US: u32 = 50;

fn limit(kind: RegionKind) -> Result<u32> {
    match kind {
        RegionKind::Pool => Ok(POOL_SEGMENTS_MAX),
        RegionKind::Maps => Ok(MAP_SEGMENTS_MAX),
        _ => Err(EINVAL),
    }
}

impl Instance {
    /// ATTACH_APPLICATION, its body checked. Returns when the fast path has mapped the pool. ENODEV:
    /// no fast path was set up yet; EMFILE: all application slots are taken; ENOMEM; EINTR.
    pub(crate) fn attach_application(&self, message: &mut Message) -> Result<u32> {
        let request: AttachApplication = message.get();
        let id = self.new_application(request.command)?;
        let result = self.equip_application(id);
        if result.is_err() {
            self.application_died(id);
            result?;
        }
        let state = self.lock();
        let config = &state.config;
        message.set(&AttachApplication {
            abi_hash: APPLICATION_HASH,
            version: APPLICATION_VERSION,
            application: id,
            instance: self.name,
            cores: config.cores,
            flows: config.flows,
            ipv4: config.ipv4,
            prefix: config.prefix,
            ipv6: config.ipv6,
            ipv6_prefix: config.ipv6_prefix,
            ipv6_link_local: config.ipv6_link_local,
            mtu_bytes: config.mtu_bytes,
            pool_segments: POOL_SEGMENTS_START,
            map_segments: 1,
            tx_buffer_bytes: config.tx_buffer_bytes,
            rx_buffer_bytes: config.rx_buffer_bytes,
            poll_interval_us: POLL_INTERVAL_US,
            command: request.command,
            ..AttachApplication::default()
        });
        Ok(id)
    }

    fn new_application(&self, command: [u8; 16]) -> Result<u32> {
        let mut state = self.lock();
        if !state.ready {
            return Err(ENODEV);
        }
        let command = if command == [0; 16] { process::command() } else { command };
        let (uid, pid) = (process::uid(), process::id());
        let application = Application {
            contexts: 0,
            pool: KVec::new(),
            maps: KVec::new(),
            life: Life::Alive,
            owner: Owner::new()?,
        };
        let id = state.applications.insert(application)?;
        if let Err(error) = state.stack.add_application(id, uid, pid, command).map_err(from_stack) {
            state.applications.remove(id);
            return Err(error);
        }
        Ok(id)
    }

    fn equip_application(&self, id: u32) -> Result {
        for _ in 0..POOL_SEGMENTS_START {
            self.add_segment(id, RegionKind::Pool)?;
        }
        self.add_segment(id, RegionKind::Maps)?;
        self.wait_for_segments(id)
    }

    /// One more segment; how many there are then. ENOBUFS: at the limit; ENOMEM.
    fn add_segment(&self, id: u32, kind: RegionKind) -> Result<u32> {
        let limit = limit(kind)?;
        loop {
            let number = self.lock().applications.get(id).ok_or(EBADF)?.segments(kind).len() as u32;
            if number >= limit {
                return Err(ENOBUFS);
            }
            // Clearing 2 MiB takes a while: not under the lock.
            let segment = Segment::new(kind, id, number)?;
            let mut state = self.lock();
            let application = state.applications.get_mut(id).ok_or(EBADF)?;
            let segments = application.segments_mut(kind);
            if segments.len() as u32 != number {
                continue; // another thread of the application was faster
            }
            segments.push(segment, GFP_KERNEL)?;
            self.announce(&state);
            return Ok(number + 1);
        }
    }

    fn wait_for_segments(&self, id: u32) -> Result {
        self.wait_for_fast_path(|state| {
            let told = |application: &Application| {
                let all = |segments: &KVec<Segment>| segments.iter().all(|segment| segment.told == Told::Done);
                all(&application.pool) && all(&application.maps)
            };
            state.fast.is_none() || state.applications.get(id).map_or(true, told)
        })
    }

    /// GROW.
    pub(crate) fn grow(&self, application: u32, message: &mut Message) -> Result {
        let request: Grow = message.get();
        let kind = RegionKind::from_u32(request.kind).ok_or(EINVAL)?;
        let segments = self.add_segment(application, kind)?;
        self.wait_for_segments(application)?;
        message.set(&Grow { kind: request.kind, segments, reserved: [0; 2] });
        Ok(())
    }

    /// CREATE_CONTEXT. Returns when the fast path polls it. EMFILE: the application or the instance
    /// has all it may; EBADF, EINVAL: no eventfd; ENOMEM.
    pub(crate) fn create_context(&self, application: u32, message: &mut Message) -> Result {
        let wake = EventFd::from_descriptor(message.flags)?;
        let id = self.new_context(application, wake)?;
        let settled = self.wait_for_fast_path(|state| {
            let known = |context: &Context| context.phase != Phase::Added(Told::Not) && !taken(context);
            state.fast.is_none() || state.contexts.get(id).map_or(true, known)
        });
        if let Err(error) = settled {
            self.remove_context(&mut self.lock(), id);
            return Err(error);
        }
        let cores = self.lock().config.cores;
        let layout = context_layout(cores);
        message.object = id;
        message.set(&ContextBody {
            context: id,
            entries: layout.entries,
            kernel_entries: layout.kernel_entries,
            cores,
            bytes: layout.bytes() as u64,
            reserved: 0,
        });
        Ok(())
    }

    fn new_context(&self, application: u32, wake: EventFd) -> Result<u32> {
        let mut state = self.lock();
        let cores = state.config.cores;
        let id = state.contexts.vacant().ok_or(EMFILE)?;
        let owner = state.applications.get_mut(application).ok_or(EBADF)?;
        if owner.contexts >= CONTEXTS_PER_APPLICATION {
            return Err(EMFILE);
        }
        let context = Context::new(id, application, cores, wake)?;
        state.stack.add_context(application, id).map_err(from_stack)?;
        self.context_wakers.set(id, Some(context.wake.clone()));
        state.contexts.set(id, context)?;
        if let Some(owner) = state.applications.get_mut(application) {
            owner.contexts += 1;
        }
        self.announce(&state);
        Ok(id)
    }

    /// DESTROY_CONTEXT. ENOENT: no such context of the caller.
    pub(crate) fn destroy_context(&self, application: u32, id: u32) -> Result {
        let mut state = self.lock();
        match state.contexts.get(id) {
            Some(context) if context.application == application && context.is_live() => {
                self.remove_context(&mut state, id);
                self.settle(&mut state);
                Ok(())
            }
            _ => Err(ENOENT),
        }
    }

    /// Takes a context away: at once if the fast path does not know it, else when it has let go of it.
    fn remove_context(&self, state: &mut State, id: u32) {
        let Some(context) = state.contexts.get_mut(id).filter(|context| context.is_live()) else { return };
        let unknown = context.phase == Phase::Added(Told::Not);
        context.phase = Phase::Removed(Told::Not);
        self.context_wakers.set(id, None);
        let now_us = state.now_us(&self.clock);
        state.stack.remove_context(now_us, id);
        if unknown || state.fast.is_none() {
            state.free_context(id);
        } else {
            self.announce(state);
        }
    }

    /// The application's file is closed: its contexts go, its flows end as Linux would end them.
    pub(crate) fn application_died(&self, id: u32) {
        let mut state = self.lock();
        let now_us = state.now_us(&self.clock);
        let owner = match state.applications.get_mut(id) {
            Some(application) if application.life == Life::Alive => {
                application.life = Life::Dying;
                application.owner.clone()
            }
            _ => return,
        };
        // Before its contexts go: the flows keep their owner until the core has drained the rings.
        state.stack.application_died(now_us, id);
        for context in 0..state.contexts.limit() {
            if matches!(state.contexts.get(context), Some(c) if c.application == id) {
                self.remove_context(&mut state, context);
            }
        }
        owner.end();
        self.settle(&mut state);
        drop(state);
        self.notices_answered();
    }

    /// The last flow of a dead application is gone.
    pub(crate) fn application_drained(&self, state: &mut State, id: u32) {
        match state.applications.get_mut(id) {
            Some(application) if application.life == Life::Dying => application.life = Life::Drained(Told::Not),
            _ => return,
        }
        if state.fast.is_some() {
            self.announce(state);
        } else {
            state.application_unmapped(id);
        }
    }
}

fn taken(context: &Context) -> bool {
    matches!(context.phase, Phase::Added(Told::Taken(_)))
}

impl State {
    /// The last step of a context's removal.
    pub(crate) fn free_context(&mut self, id: u32) {
        let Some(context) = self.contexts.remove(id) else { return };
        if let Some(owner) = self.applications.get_mut(context.application) {
            owner.contexts = owner.contexts.saturating_sub(1);
        }
        self.try_free_application(context.application);
    }

    /// The fast path has none of a dead application's memory mapped.
    pub(crate) fn application_unmapped(&mut self, id: u32) {
        if let Some(application) = self.applications.get_mut(id) {
            application.life = Life::Unmapped;
            self.try_free_application(id);
        }
    }

    fn try_free_application(&mut self, id: u32) {
        let gone = |application: &Application| application.life == Life::Unmapped && application.contexts == 0;
        if self.applications.get(id).is_some_and(gone) {
            self.applications.remove(id);
            self.stack.remove_application(id);
        }
    }
}
