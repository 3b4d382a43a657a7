// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking events from a context's rings. Whatever stands in an entry is checked against what this
//! side knows before it is believed.

use super::{
    application::Application,
    context::{Context, Inner},
    event::{self, Event},
    flow::{status, Flow},
};
use abi::{
    event::{event_flags, kernel_event, FlowEvent, KernelEvent},
    pool::{BUFFER_BYTES_MAX, CHUNK_SHIFT},
    region::RegionKind,
};
use std::{
    collections::hash_map::Entry,
    sync::{atomic::Ordering::*, Arc},
};

/// Entries taken from one ring in a poll: a producer that never stops must not hold us here.
const RING_BATCH: u32 = abi::limits::CONTEXT_RING_ENTRIES;

/// What a poll leaves to be done without the lock.
#[derive(Default)]
struct Chores {
    grow_pool: bool,
    grow_maps: bool,
}

impl Context {
    /// Takes what arrived, updates connections and fills `events`; returns how many. Also retries
    /// what found a ring full, announces what was read, frees acknowledged memory and grows the
    /// pool when it is low. No system call in the common case.
    pub fn poll(&self, events: &mut [Event]) -> usize {
        let application = &**self.application();
        let mut chores = Chores::default();
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.announce_touched();
        if inner.has_leftovers() {
            inner.leftovers(application);
        }
        let mut count = inner.backlog(events);
        count += inner.flow_events(&mut events[count..], application);
        if inner.kernel.is_ready() {
            count += inner.kernel_events(&mut events[count..], application, &mut chores);
        }
        let freed = application.is_starving.load(Relaxed) && inner.give_up_cache(application);
        let pushed = inner.lanes.take_pushed();
        drop(guard);

        self.wake_cores(pushed);
        if freed {
            application.end_starving();
        }
        if application.is_pool_low() {
            self.flush_cache();
            chores.grow_pool |= application.is_pool_low();
        }
        if chores.grow_pool || chores.grow_maps {
            grow(application, &chores);
        }
        count
    }
}

/// A refusal is not an error here: writers see it when the pool is empty.
#[cold]
fn grow(application: &Application, chores: &Chores) {
    if chores.grow_pool {
        let _ = application.grow_pool();
    }
    if chores.grow_maps {
        let _ = application.grow_maps();
    }
}

impl Inner {
    #[inline]
    fn has_leftovers(&self) -> bool {
        self.lanes.is_blocked()
            || !self.deferred.is_empty()
            || !self.starved.is_empty()
            || !self.crowded.is_empty()
            || !self.quarantine.is_empty()
    }

    /// What earlier polls could not finish.
    #[cold]
    fn leftovers(&mut self, application: &Application) {
        self.lanes.retry(&mut self.deferred);
        for id in std::mem::take(&mut self.deferred) {
            if self.acknowledged(id, application) {
                self.tell(id, event::WRITABLE);
            }
        }
        self.quarantine.release(&mut self.cache, application);
        if !self.starved.is_empty() && self.has_chunks(application) {
            for id in std::mem::take(&mut self.starved) {
                self.tell(id, event::WRITABLE);
            }
        }
        for id in std::mem::take(&mut self.crowded) {
            match self.table.get(id).map(|flow| flow.core) {
                Some(core) if self.lanes.has_room(core) => self.tell(id, event::WRITABLE),
                Some(_) => self.crowded.push(id),
                None => {}
            }
        }
    }

    fn tell(&mut self, id: u32, flags: u16) {
        if let Some(flow) = self.table.get(id) {
            self.backlog.push_back(Event::new(flow.token, flags));
        }
    }

    fn give_up_cache(&mut self, application: &Application) -> bool {
        self.reclaim_idle(application);
        self.cache.flush(&application.depot);
        application.depot.len() > 0
    }

    #[inline]
    fn backlog(&mut self, events: &mut [Event]) -> usize {
        if self.backlog.is_empty() {
            return 0;
        }
        let count = self.backlog.len().min(events.len());
        for (to, from) in events.iter_mut().zip(self.backlog.drain(..count)) {
            *to = from;
        }
        count
    }

    #[inline]
    fn flow_events(&mut self, events: &mut [Event], application: &Application) -> usize {
        let cores = self.incoming.len();
        let mut count = 0;
        for step in 0..cores {
            let mut core = self.first_core + step;
            if core >= cores {
                core -= cores;
            }
            let mut popped = 0;
            while count < events.len() && popped < RING_BATCH {
                let Some(words) = self.incoming[core].pop() else {
                    break;
                };
                popped += 1;
                if self.flow_event(FlowEvent::decode(words), application, &mut events[count]) {
                    count += 1;
                }
            }
            if popped > 0 {
                self.incoming[core].commit();
            }
        }
        // Another core comes first next time, lest the last one starve.
        self.first_core = if self.first_core + 1 < cores { self.first_core + 1 } else { 0 };
        count
    }

    /// An entry from the fast path that came before its connection was known. True: it made `event`.
    #[cold]
    pub(super) fn early_event(
        &mut self,
        entry: FlowEvent,
        application: &Application,
        event: &mut Event,
    ) -> bool {
        self.flow_event(entry, application, event)
    }

    /// One entry from the fast path. True: it made `event`.
    #[inline(always)]
    fn flow_event(&mut self, entry: FlowEvent, application: &Application, event: &mut Event) -> bool {
        let known = self.table.get(entry.flow).filter(|flow| flow.generation == entry.generation);
        let Some(flow) = known else {
            self.unknown_flow(entry);
            return false;
        };
        *event = Event::new(flow.token, 0);
        if entry.flags & event_flags::RX != 0 {
            match received(flow, entry) {
                Some(0) => {}
                Some(news) => {
                    event.flags = news;
                    if !flow.touched.load(Relaxed) {
                        flow.touched.store(true, SeqCst);
                        self.touched.push(entry.flow);
                    }
                }
                None => self.refused += 1,
            }
        }
        if entry.flags & (event_flags::TX | event_flags::FIN_ACKED) != 0 {
            let una = flow.snd_una.load(Relaxed);
            let end = flow.snd_end.load(Acquire);
            // The acknowledged FIN takes one position after the data.
            let tx = if entry.tx == end.wrapping_add(1) { end } else { entry.tx };
            let acked = tx.wrapping_sub(una);
            if acked > end.wrapping_sub(una) {
                // A repeated or late entry lies behind; what lies ahead of the data written is nonsense.
                self.refused += u64::from((acked as i64) > 0);
            } else {
                if entry.flags & event_flags::FIN_ACKED != 0 && tx == end {
                    event.flags |= finish_acknowledged(flow);
                }
                if acked != 0 {
                    flow.snd_una.store(tx, SeqCst);
                    self.settled = self.settled.wrapping_add(usize::from(tx == end));
                    // Pairs with `Flow::wait_for_room`.
                    let waits = flow.status.load(SeqCst) & (status::WANTS_ROOM | status::CLOSED) != 0;
                    let is_past_chunk = (una ^ tx) >> CHUNK_SHIFT != 0;
                    if (waits || is_past_chunk) && self.acknowledged(entry.flow, application) {
                        event.flags |= event::WRITABLE;
                    }
                }
            }
        }
        event.flags != 0
    }

    /// An entry for no connection of ours: late, nonsense, or early.
    #[cold]
    fn unknown_flow(&mut self, entry: FlowEvent) {
        if self.expecting == 0 {
            return;
        }
        match self.early.entry(entry.flow) {
            Entry::Vacant(place) => {
                place.insert(entry);
            }
            Entry::Occupied(mut place) if place.get().generation == entry.generation => {
                let merged = place.get_mut();
                if entry.flags & event_flags::RX != 0 {
                    merged.rx = entry.rx;
                }
                if entry.flags & event_flags::URGENT != 0 {
                    merged.flags &= !event_flags::URGENT_BYTE;
                    (merged.urgent, merged.urgent_byte) = (entry.urgent, entry.urgent_byte);
                }
                if entry.flags & event_flags::TX != 0 {
                    merged.tx = entry.tx;
                }
                merged.flags |= entry.flags;
            }
            Entry::Occupied(mut place) => {
                place.insert(entry);
            }
        }
    }

    #[cold]
    fn kernel_events(
        &mut self,
        events: &mut [Event],
        application: &Application,
        chores: &mut Chores,
    ) -> usize {
        let (mut count, mut popped) = (0, 0);
        while count < events.len() && popped < RING_BATCH {
            let Some(words) = self.kernel.pop() else {
                break;
            };
            popped += 1;
            if let Some(event) = self.kernel_event(KernelEvent::decode(words), application, chores) {
                events[count] = event;
                count += 1;
            }
        }
        self.kernel.commit();
        count
    }

    fn kernel_event(
        &mut self,
        entry: KernelEvent,
        application: &Application,
        chores: &mut Chores,
    ) -> Option<Event> {
        let token = entry.opaque;
        match entry.kind {
            kernel_event::CONNECTED => Some(Event::new(token, event::CONNECTED)),
            kernel_event::ACCEPTABLE => Some(Event::new(token, event::ACCEPTABLE)),
            kernel_event::FAILED => self.failed(entry, application),
            kernel_event::POOL_LOW => {
                // The value names the area; zero is the pool.
                chores.grow_maps |= entry.error == RegionKind::Maps as u32;
                chores.grow_pool |= entry.error != RegionKind::Maps as u32;
                None
            }
            kernel_event::FASTPATH => {
                if entry.error == 1 {
                    self.lanes.announce_again(self.table.iter());
                }
                None
            }
            kernel_event::MOVED => None,
            kernel_event::SOFT_ERROR => {
                let error = i32::try_from(entry.error).ok().filter(|errno| (1..4096).contains(errno))?;
                Some(Event { token, flags: event::SOFT_ERROR, error })
            }
            _ => {
                self.refused += 1;
                None
            }
        }
    }

    fn failed(&mut self, entry: KernelEvent, application: &Application) -> Option<Event> {
        let errno =
            i32::try_from(entry.error).ok().filter(|errno| (1..4096).contains(errno)).unwrap_or(libc::EIO);
        let flow = self.table.get(entry.flow).filter(|flow| flow.token == entry.opaque).cloned();
        let Some(flow) = flow else {
            if self.expecting > 0 {
                self.early_failures.insert(entry.flow, (entry.opaque, errno));
            }
            return Some(Event::failed(entry.opaque, errno));
        };
        flow.fail(errno);
        self.abandon(&flow, application);
        if flow.has(status::CLOSED) {
            self.table.remove(&flow);
            return None;
        }
        Some(Event::failed(flow.token, errno))
    }
}

/// Our FIN and all data were acknowledged. News only once.
#[cold]
fn finish_acknowledged(flow: &Flow) -> u16 {
    let before = flow.status.fetch_or(status::FINISH_ACKED, AcqRel);
    if before & status::FINISH_ACKED == 0 {
        event::FINISHED
    } else {
        0
    }
}

/// As [`received`], of an entry that tells of the end of the stream or of urgent data. The mark stands before the
/// data that it is in can be read.
#[cold]
fn received_unusual(flow: &Arc<Flow>, entry: FlowEvent) -> Option<u16> {
    let mut news = 0;
    if entry.flags & event_flags::URGENT != 0 {
        news |= flow.note_urgent(entry)?;
    }
    let plain = FlowEvent { flags: event_flags::RX, ..entry };
    news |= received(flow, plain)?;
    let is_last = flow.rcv_nxt.load(Relaxed) == entry.rx;
    if entry.flags & event_flags::FIN != 0 && is_last && !flow.has(status::PEER_FINISHED) {
        flow.status.fetch_or(status::PEER_FINISHED, Release);
        news |= event::END_OF_STREAM;
    }
    Some(news)
}

/// Takes in a receive position. None when it makes no sense.
#[inline]
fn received(flow: &Arc<Flow>, entry: FlowEvent) -> Option<u16> {
    if entry.flags & (event_flags::FIN | event_flags::URGENT) != 0 {
        return received_unusual(flow, entry);
    }
    let known = flow.rcv_nxt.load(Relaxed);
    let fresh = entry.rx.wrapping_sub(known);
    if (fresh as i64) < 0 {
        // Late: a newer position is known.
        return Some(0);
    }
    let state = flow.status.load(Relaxed);
    let finished = state & status::PEER_FINISHED != 0;
    if entry.rx.wrapping_sub(flow.rcv_read.load(Relaxed)) > u64::from(BUFFER_BYTES_MAX)
        || (finished && fresh != 0)
    {
        return None;
    }
    let mut news = 0;
    if fresh != 0 {
        news = event::READABLE;
        if state & status::URGENT != 0 {
            news |= flow.urgent_comes(entry.rx);
        }
        flow.rcv_nxt.store(entry.rx, Release);
    }
    Some(news)
}
