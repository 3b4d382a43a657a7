// SPDX-License-Identifier: MIT OR Apache-2.0
//! Urgent data (RFC 9293 §3.8.5) as Linux has it: the urgent byte is the one in front of where the urgent pointer
//! points (RFC 6093 §2), the latest one counts, and taking it out of the stream is the library's business. All of
//! it away from the hot path: a flow that has none of it costs nothing.

use crate::{
    core::Core,
    flow::Flow,
    parse::{flag, tcp_offset, Segment},
    port::{Packet, Port, Steer},
    private::hot_bit,
    word::Word,
};
use abi::{
    event::{event_flags, FlowEvent},
    flow::extend,
};
use std::collections::HashMap;

/// Farthest that an urgent pointer reaches, bytes.
const POINTER_MAX: u64 = 0xffff;

/// What is known of flows with urgent data. At most one entry per flow.
#[derive(Default)]
pub(crate) struct Urgent {
    flows: HashMap<u32, Marks>,
}

#[derive(Default, Clone, Copy)]
struct Marks {
    /// The urgent byte that the application was not told of yet.
    news: Option<News>,
    /// The one that it was told of last.
    told: Option<News>,
    /// Position after the last urgent byte that the application has written.
    end: Option<u64>,
}

#[derive(Clone, Copy)]
struct News {
    /// Low half of its position.
    at: u32,
    /// The byte itself, if the segment held it.
    byte: Option<u8>,
}

impl Urgent {
    /// Forgets all of a flow.
    pub(crate) fn forget(&mut self, flow: u32) {
        self.flows.remove(&flow);
    }

    fn update(&mut self, flow: u32, change: impl FnOnce(&mut Marks)) {
        let marks = self.flows.entry(flow).or_default();
        change(marks);
        if marks.news.is_none() && marks.told.is_none() && marks.end.is_none() {
            self.flows.remove(&flow);
        }
    }
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// A segment with URG: notes where the urgent data is, also if the window is closed (RFC 9293, MUST-66), then
    /// goes on as with any other.
    #[cold]
    pub(crate) fn receive_urgent(&mut self, flow: Flow<'m>, segment: &Segment, packet: P::Packet) {
        if self.is_plausible(flow, segment) {
            self.note_urgent(flow, segment, packet.data());
        }
        let plain = Segment { flags: segment.flags & !flag::URG, ..*segment };
        self.receive_outlined(flow, &plain, packet);
    }

    /// The checks of [`Self::receive`], before which an urgent pointer must not be believed.
    fn is_plausible(&self, flow: Flow<'m>, segment: &Segment) -> bool {
        let hot = flow.hot;
        let rcv_nxt = hot.rcv_nxt.get();
        let start = extend(segment.seq, rcv_nxt);
        let end = start.wrapping_add(u64::from(segment.payload_bytes));
        let una = hot.snd_una.get();
        let ack = extend(segment.ack, una);
        let oldest = self.oldest_acceptable(flow, una);
        !self.is_stale_segment(flow, segment)
            && start <= flow.advertised(rcv_nxt)
            && end >= rcv_nxt
            && (oldest..=hot.snd_max.get()).contains(&ack)
    }

    fn note_urgent(&mut self, flow: Flow<'m>, segment: &Segment, frame: &[u8]) {
        let Some([high, low]) = frame.get(tcp_offset(frame) + 18..).and_then(|rest| rest.first_chunk::<2>())
        else {
            return;
        };
        let before = u16::from_be_bytes([*high, *low]).saturating_sub(1);
        let at = segment.seq.wrapping_add(u32::from(before));
        let rcv_nxt = flow.hot.rcv_nxt.get();
        if extend(at, rcv_nxt) < rcv_nxt {
            return;
        }
        let inside = before < segment.payload_bytes;
        let byte = frame.get(usize::from(segment.payload_offset) + usize::from(before)).copied();
        let byte = byte.filter(|_| inside);
        self.urgent.update(flow.id, |marks| match &mut marks.news {
            Some(news) if news.at == at => news.byte = news.byte.or(byte),
            Some(news) if (at.wrapping_sub(news.at) as i32) < 0 => {}
            news => *news = Some(News { at, byte }),
        });
        flow.set(hot_bit::URGENT_NEWS);
        self.announce(flow);
    }

    /// Adds to an event what the application is to be told of urgent data.
    pub(crate) fn add_urgent(&self, flow: Flow<'m>, event: &mut FlowEvent) {
        let news = self.urgent.flows.get(&flow.id).and_then(|marks| marks.news);
        if let Some(News { at, byte }) = news {
            event.flags |= event_flags::URGENT;
            event.urgent = at;
            if let Some(byte) = byte {
                event.flags |= event_flags::URGENT_BYTE;
                event.urgent_byte = byte;
            }
        }
    }

    /// The application was told.
    pub(crate) fn urgent_told(&mut self, flow: Flow<'m>) {
        flow.clear(hot_bit::URGENT_NEWS);
        self.urgent.update(flow.id, |marks| marks.told = marks.news.take());
    }

    /// Events go to another context from now on, and what the old one's ring holds may be refused: the application is
    /// told again of an urgent byte that it has not passed.
    pub(crate) fn tell_urgent_again(&mut self, flow: Flow<'m>) {
        let read = flow.hot.rcv_read.get();
        let Some(marks) = self.urgent.flows.get_mut(&flow.id) else {
            return;
        };
        let told = marks.told.filter(|told| extend(told.at, read) >= read);
        marks.news = marks.news.or(told);
        if marks.news.is_some() {
            flow.set(hot_bit::URGENT_NEWS);
        }
    }

    /// The application says that what it wrote is urgent up to `end` (low half). False: it did not write that far.
    pub(crate) fn application_urgent(&mut self, flow: Flow<'m>, end: u32) -> bool {
        let (una, written) = (flow.hot.snd_una.get(), flow.hot.snd_end.get());
        let end = extend(end, una);
        if end > written {
            return false;
        }
        if end > una {
            self.urgent.update(flow.id, |marks| marks.end = marks.end.max(Some(end)));
            flow.set(hot_bit::URGENT_MODE);
        }
        true
    }

    /// Sets URG and the urgent pointer of a finished segment at `position`, sent again or for the first time, while
    /// there is urgent data behind it that was not acknowledged.
    pub(crate) fn mark_urgent(&mut self, flow: Flow<'m>, position: u64, frame: &mut [u8]) {
        let end = self.urgent.flows.get(&flow.id).and_then(|marks| marks.end);
        let Some(end) = end.filter(|end| *end > flow.hot.snd_una.get()) else {
            flow.clear(hot_bit::URGENT_MODE);
            return self.urgent.update(flow.id, |marks| marks.end = None);
        };
        let far = end.saturating_sub(position);
        // A pointer that does not reach the end must not name a byte that the peer will see as the urgent one.
        if position >= end
            || (far > POINTER_MAX && position.wrapping_add(POINTER_MAX) <= flow.hot.snd_max.get())
        {
            return;
        }
        let tcp = tcp_offset(frame);
        if let Some(header) = frame.get_mut(tcp..tcp + 20) {
            header[13] |= flag::URG;
            header[18..20].copy_from_slice(&(far.min(POINTER_MAX) as u16).to_be_bytes());
        }
    }
}
