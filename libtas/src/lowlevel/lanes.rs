// SPDX-License-Identifier: MIT OR Apache-2.0
//! A context's way out: one ring to each core, and what waits because a ring was full.

use super::flow::{status, Flow};
use abi::{
    event::{event_flags, FlowEvent, EVENT_WORDS},
    flow::extend,
};
use ring::Producer;
use std::{
    collections::VecDeque,
    sync::{atomic::Ordering::*, Arc},
};

/// Rings to the fast-path cores.
pub(super) struct Lanes {
    producers: Vec<Producer<'static, EVENT_WORDS>>,
    /// Flows whose event found the ring full.
    pending: VecDeque<Arc<Flow>>,
    /// Cores that were sent something since [`Self::take_pushed`], one bit each.
    pushed: u32,
}

impl Lanes {
    pub(super) fn new(producers: Vec<Producer<'static, EVENT_WORDS>>) -> Self {
        Self { producers, pending: VecDeque::new(), pushed: 0 }
    }

    /// Whether an event to `core` would be taken now.
    #[inline]
    pub(super) fn has_room(&mut self, core: u32) -> bool {
        self.producers.get_mut(core as usize).is_some_and(|producer| producer.free() != 0)
    }

    /// Tells the fast path what was read and written since it was last told. False when the ring
    /// was full: then it is told later, by [`Self::retry`].
    #[inline]
    pub(super) fn announce(&mut self, flow: &Arc<Flow>) -> bool {
        let Some(event) = news(flow) else { return true };
        if self.push_news(flow, event) {
            return true;
        }
        if !flow.queued.swap(true, Relaxed) {
            self.pending.push_back(flow.clone());
        }
        false
    }

    /// As [`Self::announce`], after a write up to `end` on a connection that can be written to.
    #[inline]
    pub(super) fn announce_write(&mut self, flow: &Arc<Flow>, end: u64) {
        if flow.status.load(Relaxed) & (status::MORE | status::MORE_TOLD) != 0 {
            self.announce(flow);
            return;
        }
        let rx = flow.rcv_read.load(Relaxed);
        let news = if rx == flow.told_read.load(Relaxed) { 0 } else { event_flags::RX };
        let flags = event_flags::TX | news;
        let event = FlowEvent {
            flow: flow.id,
            flags,
            generation: flow.generation,
            rx,
            tx: end,
            ..FlowEvent::default()
        };
        if !self.push(flow, event) {
            self.announce(flow);
        }
    }

    #[inline]
    fn push(&mut self, flow: &Flow, event: FlowEvent) -> bool {
        let Some(producer) = self.producers.get_mut(flow.core as usize) else {
            return true;
        };
        if !producer.push(event.encode()) {
            return false;
        }
        self.pushed |= 1 << flow.core;
        flow.told_read.store(event.rx, Relaxed);
        flow.told_end.store(event.tx, Relaxed);
        if event.flags & (event_flags::FIN | event_flags::URGENT) != 0 {
            told(flow, event.flags);
        }
        true
    }

    /// [`Self::push`] of anything that is new.
    fn push_news(&mut self, flow: &Flow, event: FlowEvent) -> bool {
        if !self.push(flow, event) {
            return false;
        }
        let told = |flag, bit| if event.flags & flag == 0 { 0 } else { bit };
        if event.flags & event_flags::TX != 0 {
            flow.status.fetch_and(!status::MORE_TOLD, Relaxed);
        }
        let told = told(event_flags::MORE, status::MORE_TOLD) | told(event_flags::CLOSED, status::LEFT_TOLD);
        flow.status.fetch_or(told, Relaxed);
        true
    }

    /// Tries again what found its ring full. `closed` gets the ids of connections that were told
    /// their last word.
    pub(super) fn retry(&mut self, closed: &mut Vec<u32>) {
        for _ in 0..self.pending.len() {
            let Some(flow) = self.pending.pop_front() else {
                break;
            };
            match news(&flow) {
                Some(event) if !self.push_news(&flow, event) => self.pending.push_back(flow),
                _ => {
                    flow.queued.store(false, Relaxed);
                    if flow.has(status::CLOSED) {
                        closed.push(flow.id);
                    }
                }
            }
        }
    }

    /// Whether something waits for room in a ring.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Tells everything again: a fast path that came back may have lost what it was told.
    pub(super) fn announce_again<'a>(&mut self, flows: impl Iterator<Item = &'a Arc<Flow>>) {
        for flow in flows {
            flow.forget_told();
            self.announce(flow);
        }
    }

    /// Cores that were sent something since the last call, one bit each.
    #[inline]
    pub(super) fn take_pushed(&mut self) -> u32 {
        std::mem::take(&mut self.pushed)
    }
}

/// The fast path was told of the end of the stream, or of urgent data.
#[cold]
fn told(flow: &Flow, flags: u16) {
    let finish = if flags & event_flags::FIN != 0 { status::FINISH_TOLD } else { 0 };
    let urgent = if flags & event_flags::URGENT != 0 { status::URGENT_TOLD } else { 0 };
    flow.status.fetch_or(finish | urgent, Relaxed);
}

/// The event that brings the fast path up to date, if it is not.
#[inline]
fn news(flow: &Flow) -> Option<FlowEvent> {
    let rx = flow.rcv_read.load(Relaxed);
    let tx = flow.snd_end.load(Relaxed);
    let state = flow.status.load(Relaxed);
    let mut flags = 0;
    if rx != flow.told_read.load(Relaxed) {
        flags |= event_flags::RX;
    }
    if tx != flow.told_end.load(Relaxed) {
        flags |= event_flags::TX;
    }
    if state & (status::FINISHED | status::FINISH_TOLD) == status::FINISHED {
        flags |= event_flags::TX | event_flags::FIN;
    }
    let mut urgent = 0;
    if state & (status::URGENT_WRITTEN | status::URGENT_TOLD) == status::URGENT_WRITTEN {
        urgent = flow.urgent_end.load(Relaxed);
        // Long acknowledged: no news, though the fast path may not know.
        if extend(urgent, tx) > flow.snd_una.load(Relaxed) {
            flags |= event_flags::TX | event_flags::URGENT;
        }
    }
    if state & (status::MORE | status::MORE_TOLD) == status::MORE_TOLD {
        flags |= event_flags::TX;
    }
    if flags & event_flags::TX != 0 && state & status::MORE != 0 {
        flags |= event_flags::MORE;
    }
    if state & (status::LEFT | status::LEFT_TOLD) == status::LEFT {
        flags |= event_flags::CLOSED;
    }
    if flags == 0 || state & status::FAILED != 0 {
        return None;
    }
    Some(FlowEvent {
        flow: flow.id,
        flags,
        generation: flow.generation,
        rx,
        tx,
        urgent,
        ..FlowEvent::default()
    })
}
