// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries from applications. Every field is checked: an application can say anything.

use crate::{
    core::Core,
    flow::Flow,
    memory::ContextMemory,
    port::{Port, Steer},
    private::bit,
    word::Word,
};
use abi::{
    core_status::Counter,
    event::{event_flags, FlowEvent, EVENT_WORDS},
    flow::{hot_flags, owner, owner_application, NONE},
    kernel_ring::{to_slow, KernelEntry},
    limits::{CONTEXTS_MAX, KERNEL_RING_ENTRIES},
    pool::BUFFER_BYTES_MAX,
};
use ring::{Consumer, Producer, WakeFlag};
use std::collections::VecDeque;

/// Entries taken from a ring before they are processed, so that their flows' lines can be fetched meanwhile.
const GROUP: usize = 8;

/// Flags of an entry that says more than two positions.
const UNUSUAL: u16 = event_flags::MORE | event_flags::CLOSED | event_flags::FIN | event_flags::URGENT;

/// One context.
pub(crate) struct Context<'m> {
    /// Owner word of its flows.
    owner: u32,
    from: Consumer<'m, EVENT_WORDS>,
    pub(crate) to: Producer<'m, EVENT_WORDS>,
    waiting: WakeFlag<'m>,
    /// Something was pushed since the last flush.
    pub(crate) dirty: bool,
    /// Flows whose event found the ring full.
    parked: VecDeque<u32>,
}

/// The contexts a core polls.
pub(crate) struct Contexts<'m> {
    slots: Vec<Option<Context<'m>>>,
    /// Ids of those in use.
    active: Vec<u16>,
    /// Where in `active` the next poll begins.
    turn: usize,
    /// Contexts pushed to since the last flush.
    dirty: Vec<u16>,
    /// Contexts that must be woken.
    wakes: Vec<u16>,
    /// Contexts with parked events.
    blocked: Vec<u16>,
}

/// Why an entry had no effect.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// The flow has gone or its slot was reused: the application could not know yet.
    Stale,
    /// No honest library writes this.
    Fault,
}

impl<'m> Contexts<'m> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            active: Vec::new(),
            turn: 0,
            dirty: Vec::new(),
            wakes: Vec::new(),
            blocked: Vec::new(),
        }
    }

    /// Attaches to a context's rings. `None`: the id or a length is out of range.
    pub(crate) fn open(id: u16, application: u16, memory: &ContextMemory<'m>) -> Option<Context<'m>> {
        if u32::from(id) >= CONTEXTS_MAX {
            return None;
        }
        Some(Context {
            owner: owner(application, id),
            from: Consumer::attach(memory.to_fast, memory.entries)?,
            to: Producer::attach(memory.to_application, memory.entries)?,
            waiting: WakeFlag::new(memory.waiting),
            dirty: false,
            parked: VecDeque::new(),
        })
    }

    /// Polls a context from now on; its id is not in use.
    pub(crate) fn add(&mut self, id: u16, context: Context<'m>) {
        let index = usize::from(id);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(context);
        self.active.push(id);
    }

    /// Forgets a context. Returns the flows whose events were parked.
    pub(crate) fn remove(&mut self, id: u16) -> VecDeque<u32> {
        let context = self.slots.get_mut(usize::from(id)).and_then(Option::take);
        self.active.retain(|active| *active != id);
        self.dirty.retain(|dirty| *dirty != id);
        self.wakes.retain(|wake| *wake != id);
        self.blocked.retain(|blocked| *blocked != id);
        context.map(|context| context.parked).unwrap_or_default()
    }

    /// Parks the event of a flow with this owner until its ring has room.
    pub(crate) fn park(&mut self, owner: u32, flow: u32) {
        let Some(context) = self.of(owner) else {
            return;
        };
        context.parked.push_back(flow);
        if context.parked.len() == 1 {
            self.blocked.push(owner as u16);
        }
    }

    /// True if events are parked.
    #[inline]
    pub(crate) fn has_parked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// A parked flow whose context's ring has room now. A context that does not read its ring costs
    /// one look per poll, however many of its flows wait.
    pub(crate) fn unpark(&mut self) -> Option<u32> {
        for index in 0..self.blocked.len() {
            let id = usize::from(*self.blocked.get(index)?);
            let Some(Some(context)) = self.slots.get_mut(id) else {
                continue;
            };
            if context.to.free() == 0 {
                continue;
            }
            let flow = context.parked.pop_front();
            if context.parked.is_empty() {
                self.blocked.swap_remove(index);
            }
            return flow;
        }
        None
    }

    /// The context that owns a flow with this owner word.
    #[inline]
    pub(crate) fn of(&mut self, owner: u32) -> Option<&mut Context<'m>> {
        let context = self.slots.get_mut(usize::from(owner as u16))?.as_mut()?;
        (context.owner == owner).then_some(context)
    }

    /// Notes that a context got an entry.
    #[inline]
    pub(crate) fn mark(&mut self, id: u16) {
        self.dirty.push(id);
    }

    /// Publishes what was pushed and finds out who must be woken.
    #[inline]
    pub(crate) fn flush(&mut self) {
        while let Some(id) = self.dirty.pop() {
            if let Some(Some(context)) = self.slots.get_mut(usize::from(id)) {
                context.dirty = false;
                context.to.publish();
                if context.waiting.take() && !self.wakes.contains(&id) {
                    self.wakes.push(id);
                }
            }
        }
    }

    /// Calls `wake` with every context that must be woken. Returns how many.
    pub(crate) fn drain_wakes(&mut self, mut wake: impl FnMut(u16)) -> usize {
        let count = self.wakes.len();
        self.wakes.drain(..).for_each(&mut wake);
        count
    }

    /// True if an application has written an entry.
    pub(crate) fn is_ready(&self) -> bool {
        self.slots.iter().flatten().any(|context| context.from.is_ready())
    }

    /// Takes up to `GROUP` entries of a context.
    #[inline]
    fn take(&mut self, id: u16, into: &mut [[u64; EVENT_WORDS]; GROUP]) -> (u32, usize) {
        let Some(Some(context)) = self.slots.get_mut(usize::from(id)) else {
            return (0, 0);
        };
        let mut count = 0;
        while let Some(place) = into.get_mut(count) {
            let Some(words) = context.from.pop() else {
                break;
            };
            *place = words;
            count += 1;
        }
        if count > 0 {
            context.from.commit();
        }
        (context.owner, count)
    }
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Takes entries from the contexts in turn.
    pub(crate) fn poll_contexts(&mut self) {
        let active = self.contexts.active.len();
        let mut entries = [[0; EVENT_WORDS]; GROUP];
        for _ in 0..active.min(self.config.context_scan) {
            self.contexts.turn += 1;
            if self.contexts.turn >= active {
                self.contexts.turn = 0;
            }
            let Some(id) = self.contexts.active.get(self.contexts.turn).copied() else {
                continue;
            };
            let mut left = self.config.context_entries;
            while left > 0 {
                let (owner, count) = self.contexts.take(id, &mut entries);
                self.work.entries += count as u32;
                for words in entries.iter().take(count) {
                    if let Some(hot) = self.tables.hot.get(words[0] as u32 as usize) {
                        P::prefetch(hot);
                        P::prefetch(&hot.snd_end);
                    }
                }
                for words in entries.iter().take(count) {
                    self.application_entry(owner, *words);
                }
                if count < GROUP {
                    break;
                }
                left = left.saturating_sub(count);
            }
        }
    }

    /// Takes everything that is in a context's rings: the last words of an application that has just
    /// ended. Bounded by the ring, whatever the application writes meanwhile.
    #[cold]
    pub(crate) fn drain_context(&mut self, id: u16) {
        let mut entries = [[0; EVENT_WORDS]; GROUP];
        for _ in 0..=abi::limits::CONTEXT_RING_ENTRIES as usize / GROUP {
            let (owner, count) = self.contexts.take(id, &mut entries);
            for words in entries.iter().take(count) {
                self.application_entry(owner, *words);
            }
            if count < GROUP {
                break;
            }
        }
    }

    #[inline(always)]
    fn application_entry(&mut self, owner: u32, words: [u64; EVENT_WORDS]) {
        if let Err(refused) = self.apply(owner, FlowEvent::decode(words)) {
            self.entry_refused(owner, &refused);
        }
    }

    #[cold]
    fn entry_refused(&mut self, owner: u32, refused: &Refused) {
        self.status.count(Counter::RefusedEntries);
        if *refused == Refused::Fault {
            let value = u64::from(owner as u16);
            self.kernel.hint(KernelEntry { op: to_slow::FAULT, flow: NONE, value, ..KernelEntry::default() });
        }
    }

    /// Checks an entry and carries it out.
    #[inline(always)]
    fn apply(&mut self, owner: u32, event: FlowEvent) -> Result<(), Refused> {
        let bits = self.private.get(event.flow as usize).ok_or(Refused::Fault)?.bits;
        let hot = self.tables.hot.get(event.flow as usize).ok_or(Refused::Fault)?;
        if bits & bit::OURS == 0 && !self.catch_up(event.flow) || hot.generation.get() != event.generation {
            return Err(Refused::Stale);
        }
        // Any context of the application will do: an accepted or moved flow may be written to
        // before this core has seen its new owner, and a refused entry would be lost.
        if owner_application(hot.owner.get()) != owner_application(owner) {
            return Err(Refused::Fault);
        }
        let flow = Flow { id: event.flow, hot };
        if event.flags & event_flags::RX != 0 {
            self.application_read(flow, event.rx)?;
        }
        if event.flags & UNUSUAL != 0 || bits & bit::HELD != 0 {
            return self.application_unusual(flow, event);
        }
        if event.flags & event_flags::TX != 0 && self.application_wrote(flow, event.tx)? {
            self.transmit_written(flow, event.tx);
        }
        Ok(())
    }

    /// More than two positions: whether more follows, whether the application has left, urgent data, the end of the
    /// stream; the last two also if they were written and told before.
    #[inline(never)]
    fn application_unusual(&mut self, flow: Flow<'m>, event: FlowEvent) -> Result<(), Refused> {
        if event.flags & event_flags::CLOSED != 0 {
            flow.set(hot_flags::ABANDONED);
        }
        if event.flags & event_flags::TX != 0 {
            if event.flags & event_flags::MORE != 0 || self.private[flow.id as usize].has(bit::HELD) {
                self.hold(flow, event.flags & event_flags::MORE != 0);
            }
            if self.application_wrote(flow, event.tx)? {
                // Takes its turn, so that the FIN or the urgent pointer goes along.
                self.schedule(flow);
            }
        }
        if event.flags & event_flags::URGENT != 0 && !self.application_urgent(flow, event.urgent) {
            return Err(Refused::Fault);
        }
        if event.flags & event_flags::FIN != 0 {
            self.queue_fin(flow);
        }
        Ok(())
    }

    /// An entry names a flow that this core does not know. The slow path told the application of it after
    /// it pushed INSTALL, so INSTALL can be in the ring by now, although it was not when the ring was last
    /// looked at: an entry given up here would be lost for good.
    /// True if it knows it now.
    #[cold]
    fn catch_up(&mut self, flow: u32) -> bool {
        for _ in 0..KERNEL_RING_ENTRIES {
            if self.ours(flow).is_some() || !self.kernel.is_ready() {
                break;
            }
            self.poll_kernel();
        }
        self.ours(flow).is_some()
    }

    /// The application has read up to `position`.
    #[inline(always)]
    fn application_read(&mut self, flow: Flow<'m>, position: u64) -> Result<(), Refused> {
        let hot = flow.hot;
        let read = hot.rcv_read.get();
        if position <= read {
            return Ok(());
        }
        let rcv_nxt = hot.rcv_nxt.get();
        let end = rcv_nxt.wrapping_sub(u64::from(flow.has(hot_flags::FIN_RECEIVED)));
        if position > end {
            return Err(Refused::Fault);
        }
        let number = owner_application(hot.owner.get());
        if let Some(Some(application)) = self.applications.get_mut(usize::from(number)) {
            if let Some(record) = application.record(hot.buffers.get()) {
                let idle = position == end && hot.recovery.get() == NONE;
                application.free_read(&self.shared, record, read, position, idle);
            }
        }
        hot.rcv_read.set(position);
        if flow.window_update_due(rcv_nxt) {
            self.acknowledge_now(flow, None);
        }
        Ok(())
    }

    /// The application has written up to `position`. True if that is news.
    #[inline(always)]
    fn application_wrote(&mut self, flow: Flow<'m>, position: u64) -> Result<bool, Refused> {
        let hot = flow.hot;
        if position <= hot.snd_end.get() {
            return Ok(false);
        }
        let limit = hot.snd_una.get().wrapping_add(u64::from(BUFFER_BYTES_MAX));
        if position > limit || flow.has(hot_flags::FIN_QUEUED) {
            return Err(Refused::Fault);
        }
        hot.snd_end.set(position);
        self.report_active(flow);
        Ok(true)
    }

    /// Ends the stream after what was written so far.
    pub(crate) fn queue_fin(&mut self, flow: Flow<'m>) {
        if !flow.has(hot_flags::FIN_QUEUED) {
            flow.set(hot_flags::FIN_QUEUED);
            self.activate(flow);
        }
    }
}
