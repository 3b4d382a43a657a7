// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events for applications: at most one per flow and batch, with both positions.

use crate::{
    core::Core,
    flow::Flow,
    port::{Port, Steer},
    private::{bit, hot_bit},
    word::Word,
};
use abi::{
    core_status::Counter,
    event::{event_flags, FlowEvent},
    flow::{hot_flags, owner_context, CONTEXT_NONE},
};

/// Flags of a flow whose events say more than two positions: a FIN counts in them, the ring was full, urgent data.
const UNUSUAL: u32 =
    hot_flags::FIN_RECEIVED | hot_flags::FIN_SENT | hot_flags::EVENT_PENDING | hot_bit::URGENT_NEWS;

/// How an event fared.
enum Delivery {
    /// Delivered, or no application is there to hear of it.
    Done,
    /// The ring is full: try again.
    Full,
    /// The context is not known here (yet).
    Nobody,
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Owes the application an event with the flow's state.
    #[inline]
    pub(crate) fn announce(&mut self, flow: Flow<'m>) {
        let private = &mut self.private[flow.id as usize];
        if !private.has(bit::IN_EVENTS) {
            private.bits |= bit::IN_EVENTS;
            self.events.push(flow.id);
        }
    }

    /// Pushes the events owed. Those that find a full ring are parked.
    pub(crate) fn push_events(&mut self) {
        if self.contexts.has_parked() {
            self.push_parked();
        }
        for _ in 0..self.events.len() {
            let Some(id) = self.events.pop() else { break };
            self.private[id as usize].bits &= !bit::IN_EVENTS;
            self.deliver(id);
        }
        self.contexts.flush();
    }

    /// Pushes parked events for which there is room now.
    #[cold]
    fn push_parked(&mut self) {
        while let Some(id) = self.contexts.unpark() {
            if let Some(private) = self.private.get_mut(id as usize) {
                private.bits &= !bit::PARKED;
            }
            self.deliver(id);
        }
    }

    /// Pushes one flow's event.
    #[inline(always)]
    fn deliver(&mut self, id: u32) {
        let Some(flow) = self.ours(id) else { return };
        match self.push_event(flow) {
            Delivery::Done => {}
            Delivery::Full => self.park(flow),
            Delivery::Nobody => self.unannounced = true,
        }
    }

    #[cold]
    fn park(&mut self, flow: Flow<'m>) {
        if !flow.has(hot_flags::EVENT_PENDING) {
            flow.set(hot_flags::EVENT_PENDING);
            self.status.count(Counter::ContextRingFull);
        }
        let private = &mut self.private[flow.id as usize];
        if !private.has(bit::PARKED) {
            private.bits |= bit::PARKED;
            self.contexts.park(flow.hot.owner.get(), flow.id);
        }
    }

    /// Stops polling a context; events parked there look for their flow's owner anew.
    pub(crate) fn remove_context(&mut self, id: u16) {
        self.drain_context(id);
        for flow in self.contexts.remove(id) {
            if let Some(flow) = self.ours(flow) {
                self.private[flow.id as usize].bits &= !bit::PARKED;
                self.announce(flow);
            }
        }
    }

    #[inline(always)]
    fn push_event(&mut self, flow: Flow<'m>) -> Delivery {
        let hot = flow.hot;
        if hot.flags.get() & UNUSUAL != 0 {
            return self.push_unusual(flow);
        }
        let event = FlowEvent {
            flow: flow.id,
            flags: event_flags::RX | event_flags::TX,
            generation: hot.generation.get(),
            rx: hot.rcv_nxt.get(),
            tx: hot.snd_una.get(),
            ..FlowEvent::default()
        };
        self.push_to(hot.owner.get(), event)
    }

    /// [`Self::push_event`] of a flow with one of the [`UNUSUAL`] flags.
    #[cold]
    fn push_unusual(&mut self, flow: Flow<'m>) -> Delivery {
        let hot = flow.hot;
        let owner = hot.owner.get();
        if owner_context(owner) == CONTEXT_NONE {
            return Delivery::Done;
        }
        let state = hot.flags.get();
        let mut flags = event_flags::RX | event_flags::TX;
        if state & hot_flags::FIN_RECEIVED != 0 {
            flags |= event_flags::FIN;
        }
        if state & hot_flags::FIN_ACKED != 0 {
            flags |= event_flags::FIN_ACKED;
        }
        let mut event = FlowEvent {
            flow: flow.id,
            flags,
            generation: hot.generation.get(),
            // Without the peer's FIN, without ours.
            rx: hot.rcv_nxt.get().wrapping_sub(u64::from(state & hot_flags::FIN_RECEIVED != 0)),
            tx: hot.snd_una.get().min(hot.snd_end.get()),
            ..FlowEvent::default()
        };
        self.add_urgent(flow, &mut event);
        let delivery = self.push_to(owner, event);
        if matches!(delivery, Delivery::Done) {
            flow.clear(hot_flags::EVENT_PENDING);
            if event.flags & event_flags::URGENT != 0 {
                self.urgent_told(flow);
            }
        }
        delivery
    }

    /// Pushes an event to the context of this owner word.
    #[inline(always)]
    fn push_to(&mut self, owner: u32, event: FlowEvent) -> Delivery {
        let Some(context) = self.contexts.of(owner) else {
            return nobody(owner);
        };
        if !context.to.push(event.encode()) {
            return Delivery::Full;
        }
        if !context.dirty {
            context.dirty = true;
            self.contexts.mark(owner_context(owner));
        }
        Delivery::Done
    }

    /// A context was added: announces flows whose events found nobody before.
    pub(crate) fn announce_unannounced(&mut self) {
        if !std::mem::take(&mut self.unannounced) {
            return;
        }
        for (id, hot) in self.tables.hot.iter().enumerate() {
            let ours = self.private.get(id).is_some_and(|private| private.has(bit::OURS));
            if ours {
                self.announce(Flow { id: id as u32, hot });
            }
        }
    }
}

/// An event whose context is not known here. Of no context: UPDATE announces the state when one is attached.
#[cold]
fn nobody(owner: u32) -> Delivery {
    if owner_context(owner) == CONTEXT_NONE {
        Delivery::Done
    } else {
        Delivery::Nobody
    }
}
