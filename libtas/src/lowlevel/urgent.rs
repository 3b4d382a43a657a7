// SPDX-License-Identifier: MIT OR Apache-2.0
//! Urgent data by Linux's rules (tcp_urg, tcp_recv_urg and the loop of tcp_recvmsg in net/ipv4): one urgent byte,
//! the latest; reads stop in front of it, and skip it unless it is to stay in line (SO_OOBINLINE).

use super::{
    connection::Connection,
    event,
    flow::{status, Flow},
    memory::{chunk_offset, map_index},
};
use abi::{
    event::{event_flags, FlowEvent},
    flow::extend,
    pool::BUFFER_BYTES_MAX,
};
use std::sync::atomic::Ordering::*;

/// How far an urgent pointer reaches beyond a segment, bytes.
const POINTER_MAX: u64 = 0xffff;

/// A flow's urgent data. Behind a lock that is taken last.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    mark: Option<Mark>,
    /// Urgent bytes where the reader stood when a later one was told, from and up to: not part of the stream.
    hole: Option<(u64, u64)>,
    /// SO_OOBINLINE.
    is_inline: bool,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Position of the urgent byte.
    at: u64,
    /// The byte, if it was told apart from the stream.
    byte: Option<u8>,
    /// It was received with MSG_OOB.
    is_taken: bool,
}

/// What [`Connection::receive_urgent`] finds; [`Connection::urgent`] says whether there is something to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrgentByte {
    /// None was announced, it was received already, or it is in line.
    None,
    /// Announced, and still on its way.
    Coming,
    /// This is it.
    Is(u8),
}

/// What a reader sees: where it goes on, and how many bytes it gets before it must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) start: u64,
    pub(super) len: usize,
    /// The reader stands at the mark.
    pub(super) is_at_mark: bool,
}

impl Urgent {
    /// Where the reader stands, behind a hole.
    fn reader(&self, read: u64, next: u64) -> u64 {
        match self.hole {
            Some((from, to)) if from == read => to.min(next),
            _ => read,
        }
    }

    fn view(&self, read: u64, next: u64) -> View {
        let read = self.reader(read, next);
        let rest = next.saturating_sub(read) as usize;
        match self.mark {
            Some(mark) if mark.at > read => {
                View { start: read, len: rest.min((mark.at - read) as usize), is_at_mark: false }
            }
            Some(mark) if mark.at == read => {
                let skip = usize::from(!self.is_inline && rest > 0);
                View { start: read + skip as u64, len: rest - skip, is_at_mark: true }
            }
            _ => View { start: read, len: rest, is_at_mark: false },
        }
    }
}

impl Flow {
    /// Takes in what the fast path tells of urgent data. The events that it makes, or None for nonsense.
    pub(super) fn note_urgent(&self, entry: FlowEvent) -> Option<u16> {
        let (read, next) = (self.rcv_read.load(Acquire), self.rcv_nxt.load(Relaxed));
        let at = extend(entry.urgent, next);
        let byte = (entry.flags & event_flags::URGENT_BYTE != 0).then_some(entry.urgent_byte);
        if at > next.wrapping_add(u64::from(BUFFER_BYTES_MAX) + POINTER_MAX) {
            return None;
        }
        if at < read {
            return Some(0);
        }
        let urgent = &mut *self.urgent.lock();
        let is_inline = urgent.is_inline;
        let reader = urgent.reader(read, next);
        let come = if byte.is_some() { event::URGENT_BYTE } else { 0 };
        match &mut urgent.mark {
            Some(mark) if mark.at == at => {
                let news = mark.byte.is_none() && byte.is_some() && !mark.is_taken;
                mark.byte = mark.byte.or(byte);
                return Some(if news { come } else { 0 });
            }
            Some(mark) if mark.at > at => return Some(0),
            Some(mark) if mark.at == reader && next > reader && !is_inline => {
                urgent.hole = Some((read, reader + 1));
            }
            _ => {}
        }
        urgent.mark = Some(Mark { at, byte, is_taken: false });
        self.status.fetch_or(status::URGENT, Release);
        Some(event::URGENT | come)
    }

    /// The stream grows to `next`: the event that this makes if it brings the urgent byte.
    #[cold]
    pub(super) fn urgent_comes(&self, next: u64) -> u16 {
        let before = self.rcv_nxt.load(Relaxed);
        match self.urgent.lock().mark {
            Some(mark) if mark.byte.is_none() && (before..next).contains(&mark.at) => event::URGENT_BYTE,
            _ => 0,
        }
    }

    /// What a reader sees of a stream with urgent data; notices when it is past it.
    #[cold]
    pub(super) fn urgent_view(&self) -> View {
        let mut urgent = self.urgent.lock();
        let (read, next) = (self.rcv_read.load(Acquire), self.rcv_nxt.load(Acquire));
        urgent.hole = urgent.hole.filter(|hole| hole.0 >= read);
        urgent.mark = urgent.mark.filter(|mark| mark.at >= read);
        if urgent.mark.is_none() && urgent.hole.is_none() {
            self.status.fetch_and(!status::URGENT, Relaxed);
        }
        urgent.view(read, next)
    }

    /// Bytes that were received and not read, urgent or not.
    #[inline]
    pub(super) fn unread_bytes(&self) -> usize {
        self.rcv_nxt.load(Acquire).wrapping_sub(self.rcv_read.load(Acquire)) as usize
    }

    /// The byte at a position that is in the stream and not read.
    fn byte_at(&self, position: u64) -> Option<u8> {
        let entry = self.record[map_index(position)].load(Relaxed);
        let chunk = self.application.memory.chunk(entry.checked_sub(1)?)?;
        // SAFETY: within a mapped chunk, whose bytes stay until they are reported as read; the caller holds the
        // read lock.
        Some(unsafe { *chunk.as_ptr().add(chunk_offset(position)) })
    }
}

impl Connection {
    /// There is urgent data that was not passed by reading: the cold case of every question here.
    #[inline]
    pub fn has_urgent(&self) -> bool {
        self.flow.has(status::URGENT)
    }

    /// SO_OOBINLINE: the urgent byte stays in the stream.
    pub fn set_urgent_inline(&self, is_inline: bool) {
        self.flow.urgent.lock().is_inline = is_inline;
    }

    /// The reader stands at the urgent byte (SIOCATMARK).
    pub fn is_at_mark(&self) -> bool {
        self.has_urgent() && self.flow.urgent_view().is_at_mark
    }

    /// Bytes received and not read, those behind the mark and an urgent byte too.
    #[inline]
    pub fn unread_bytes(&self) -> usize {
        if self.flow.has(status::CLOSED) {
            return 0;
        }
        self.flow.unread_bytes()
    }

    /// Bytes that count for readiness to read: as [`Self::unread_bytes`], without an urgent byte where the reader
    /// stands.
    pub fn waiting_bytes(&self) -> usize {
        if !self.has_urgent() {
            return self.unread_bytes();
        }
        // Closed, or what a reader would get if there were no mark in front of it.
        let view = self.flow.urgent_view();
        self.unread_bytes().min(self.flow.rcv_nxt.load(Acquire).saturating_sub(view.start) as usize)
    }

    /// Bytes in front of the urgent byte, or else all (SIOCINQ).
    pub fn bytes_to_mark(&self) -> usize {
        let unread = self.unread_bytes();
        if !self.has_urgent() || unread == 0 {
            return unread;
        }
        let next = self.flow.rcv_nxt.load(Acquire);
        let urgent = self.flow.urgent.lock();
        let read = urgent.reader(self.flow.rcv_read.load(Acquire), next);
        match urgent.mark {
            Some(mark) if !urgent.is_inline && (read..next).contains(&mark.at) => (mark.at - read) as usize,
            _ => next.saturating_sub(read) as usize,
        }
    }

    /// A byte can be received with [`Self::receive_urgent`].
    pub fn has_urgent_byte(&self) -> bool {
        if !self.has_urgent() {
            return false;
        }
        self.flow.urgent_view();
        let next = self.flow.rcv_nxt.load(Acquire);
        let mark = self.flow.urgent.lock().mark;
        mark.is_some_and(|mark| !mark.is_taken && (mark.byte.is_some() || mark.at < next))
    }

    /// The urgent byte (MSG_OOB), once unless it is only to be looked at.
    pub fn receive_urgent(&self, peek: bool) -> UrgentByte {
        if !self.has_urgent() {
            return UrgentByte::None;
        }
        let _reader = self.flow.receive();
        self.flow.urgent_view();
        let next = self.flow.rcv_nxt.load(Acquire);
        let mut urgent = self.flow.urgent.lock();
        let is_inline = urgent.is_inline;
        let Some(mark) = urgent.mark.as_mut().filter(|mark| !mark.is_taken && !is_inline) else {
            return UrgentByte::None;
        };
        let found = mark.byte.or_else(|| (mark.at < next).then(|| self.flow.byte_at(mark.at)).flatten());
        let Some(byte) = found else {
            return UrgentByte::Coming;
        };
        mark.is_taken = !peek;
        UrgentByte::Is(byte)
    }

    /// A reader that finds nothing but an urgent byte where it stands has passed it.
    pub fn pass_mark(&self) {
        if !self.has_urgent() {
            return;
        }
        let mut readable = self.readable();
        if readable.is_empty() {
            readable.skip();
        }
    }
}
