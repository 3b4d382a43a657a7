// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Reassembly of TCP segments that come in fragments (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! Rare, and an old way to harm a host, so everything is bounded: a fixed number of datagrams, some of them for one
//! source, of at most our MTU (no peer that heeds our MSS sends more), and 1500 bytes at least (RFC 8200 §5), for a minute. Overlapping fragments spoil
//! their datagram (RFC 5722). What is whole goes on as if it had come so.

use crate::{
    counters::Counter,
    queues::FrameRoom,
    stack::Stack,
    timers::Timer,
    wire::{
        address::Address, checksum, ethernet, ethernet::Ethernet, ipv4, ipv6, service, tcp::HEADER_BYTES,
        Fragment,
    },
};
use abi::limits::{ETHERNET_MTU, MTU_MAX};

/// Datagrams that may be incomplete at a time: 110 KiB of an instance (580 with jumbo frames), and more than honest
/// peers need.
pub(crate) const REASSEMBLIES: u32 = 64;
/// Datagrams of one source that may be incomplete at a time: nobody takes all the room.
const PER_SOURCE: usize = 16;
/// Time for a datagram to become whole, microseconds (RFC 8200 §4.5; RFC 1122 §3.3.2 for IPv4).
const LIFE_US: u64 = 60_000_000;
/// Fragments of other datagrams of the same source after which one is given up: its identification may stand for
/// another datagram soon (Linux's ipfrag_max_dist).
const DISTANCE_MAX: u8 = 64;
/// Fragments begin at multiples of this many bytes, and all but the last are as long as some of them.
const UNIT_SHIFT: u32 = 3;
/// Words of a bitmap of a datagram's units.
const BITMAP_WORDS: usize = (MTU_MAX as usize >> UNIT_SHIFT).div_ceil(64);
/// ECN field: congestion experienced, and not capable of ECN (RFC 3168 §5).
const ECN_CE: u8 = 3;
const ECN_MASK: u8 = 3;

/// A received fragment beside its payload.
pub(crate) struct Piece {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
    /// Traffic class with ECN field, and hop limit.
    pub(crate) class: u8,
    pub(crate) hop_limit: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Free,
    /// Something is missing.
    Open,
    /// Fragments overlapped: what is still to come of it is dropped (RFC 5722 §4).
    Spoilt,
}

/// What a fragment did to its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Waits,
    Whole,
    /// The fragment says nothing, or is of a spoilt datagram.
    Dropped,
}

/// One datagram.
#[derive(Debug, Clone, Copy)]
pub struct Reassembly {
    /// Units that are there.
    units: [u64; BITMAP_WORDS],
    began_us: u64,
    source: Address,
    destination: Address,
    identification: u32,
    /// Bytes of the payload, zero while the last fragment is missing.
    payload_bytes: u16,
    state: State,
    /// Fragments of other datagrams of the source since the last of this one.
    distance: u8,
    /// Class of the first fragment, ECN fields seen (a bit each), smallest hop limit.
    class: u8,
    ecn_seen: u8,
    hop_limit: u8,
}

impl Default for Reassembly {
    fn default() -> Self {
        Self {
            units: [0; BITMAP_WORDS],
            began_us: 0,
            source: Address::UNSPECIFIED,
            destination: Address::UNSPECIFIED,
            identification: 0,
            payload_bytes: 0,
            state: State::Free,
            distance: 0,
            class: 0,
            ecn_seen: 0,
            hop_limit: u8::MAX,
        }
    }
}

/// Those of the units `from..to` that are in this word of the bitmap, a bit each.
fn bits(word: usize, from: usize, to: usize) -> u64 {
    let first = word.saturating_mul(64);
    let below = |unit: usize| match unit.saturating_sub(first) {
        bits @ 0..=63 => 1u64.wrapping_shl(bits as u32).wrapping_sub(1),
        _ => u64::MAX,
    };
    below(to) & !below(from)
}

impl Reassembly {
    fn is_of(&self, piece: &Piece) -> bool {
        self.state != State::Free
            && self.identification == piece.fragment.identification
            && self.source == piece.source
            && self.destination == piece.destination
    }

    /// Begins a datagram; the bytes of an earlier one are covered by fragments before anybody reads them.
    fn begin(&mut self, piece: &Piece, now_us: u64) {
        self.units = [0; BITMAP_WORDS];
        self.began_us = now_us;
        self.source = piece.source;
        self.destination = piece.destination;
        self.identification = piece.fragment.identification;
        self.payload_bytes = 0;
        self.state = State::Open;
        self.distance = 0;
        self.class = 0;
        self.ecn_seen = 0;
        self.hop_limit = u8::MAX;
    }

    fn expires_us(&self) -> u64 {
        self.began_us.saturating_add(LIFE_US)
    }

    fn header_bytes(&self) -> usize {
        ethernet::HEADER_BYTES.saturating_add(self.source.header_bytes())
    }

    /// How many of the units `from..to` are there.
    fn count(&self, from: usize, to: usize) -> usize {
        let words = self.units.iter().enumerate();
        let there = words.map(|(word, units)| (units & bits(word, from, to)).count_ones() as usize);
        there.fold(0, usize::saturating_add)
    }

    /// `bytes`: room for the frame it will be, in which the payload stands where it belongs. `mtu_bytes`: its most bytes.
    fn add(&mut self, piece: &Piece, payload: &[u8], bytes: &mut [u8], mtu_bytes: u32) -> Verdict {
        if self.state == State::Spoilt {
            return Verdict::Dropped;
        }
        let offset = piece.fragment.offset as usize;
        let end = offset.saturating_add(payload.len());
        let limit = (mtu_bytes as usize).saturating_sub(self.source.header_bytes());
        let (from, to) = (offset >> UNIT_SHIFT, end.saturating_add(7) >> UNIT_SHIFT);
        let known = self.payload_bytes as usize;
        let last = !piece.fragment.more;
        // Beyond the end, another end, or an end in front of what is there.
        let behind = BITMAP_WORDS.saturating_mul(64);
        let wrong_end = (known != 0 && (end > known || (last && end != known)))
            || (last && self.count(to, behind) > 0)
            || end > limit;
        let there = self.count(from, to);
        let start = self.header_bytes().saturating_add(offset);
        let place_bytes = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..payload.len()));
        let Some(target) = place_bytes.filter(|_| !wrong_end) else {
            self.state = State::Spoilt;
            return Verdict::Dropped;
        };
        if there > 0 {
            // A fragment that the network doubled is not an attack (RFC 8200 §4.5).
            if there < to.saturating_sub(from) || target != payload {
                self.state = State::Spoilt;
            }
            return Verdict::Dropped;
        }
        target.copy_from_slice(payload);
        for (word, units) in self.units.iter_mut().enumerate() {
            *units |= bits(word, from, to);
        }
        if last {
            self.payload_bytes = end as u16;
        }
        if offset == 0 {
            self.class = piece.class;
        }
        self.ecn_seen |= 1u8.wrapping_shl((piece.class & ECN_MASK) as u32);
        self.hop_limit = self.hop_limit.min(piece.hop_limit);
        let units = (self.payload_bytes as usize).saturating_add(7) >> UNIT_SHIFT;
        if units > 0 && self.count(0, units) == units {
            Verdict::Whole
        } else {
            Verdict::Waits
        }
    }

    /// The traffic class of the whole: a mark on any fragment is one of the datagram, if all were capable of it
    /// (RFC 3168 §5.3). `None`: the fragments contradict each other.
    fn whole_class(&self) -> Option<u8> {
        let marked = self.ecn_seen & 1 << ECN_CE != 0;
        match marked {
            true if self.ecn_seen & 1 != 0 => None,
            true => Some(self.class | ECN_CE),
            false => Some(self.class),
        }
    }

    /// Writes the header in front of the payload. The frame, if its TCP checksum holds.
    fn finish<'b>(&self, header: &Ethernet, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let class = self.whole_class()?;
        let payload = self.payload_bytes as usize;
        let start = self.header_bytes();
        let end = start.saturating_add(payload);
        let segment = bytes.get(start..end)?;
        if !checksum::is_segment_good(&self.source, &self.destination, segment) {
            return None;
        }
        let frame = bytes.get_mut(..end)?;
        header.write(frame);
        match (self.source.as_v4(), self.destination.as_v4()) {
            (Some(source), Some(destination)) => ipv4::write(frame, source, destination, ipv4::TCP, payload),
            _ => {
                ipv6::write(frame, &self.source, &self.destination, ipv4::TCP, ipv6::HOP_LIMIT, payload);
            }
        }
        service::stamp(frame, class, self.hop_limit);
        Some(frame)
    }
}

/// The datagrams of an instance.
#[derive(Default)]
pub(crate) struct Reassemblies<'m> {
    slots: &'m mut [Reassembly],
    bytes: FrameRoom<'m>,
}

impl<'m> Reassemblies<'m> {
    pub(crate) fn new(slots: &'m mut [Reassembly], bytes: FrameRoom<'m>) -> Self {
        Self { slots, bytes }
    }

    /// The slot of a fragment's datagram; counts the fragment for all others of its source. Those that it makes too
    /// old are given up, `lost` counts them.
    fn find(&mut self, piece: &Piece, lost: &mut u32) -> Option<usize> {
        let mut found = None;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { break };
            if slot.state == State::Free || slot.source != piece.source {
                continue;
            }
            if slot.is_of(piece) {
                slot.distance = 0;
                found = Some(index);
                continue;
            }
            slot.distance = slot.distance.saturating_add(1);
            if slot.distance > DISTANCE_MAX {
                slot.state = State::Free;
                *lost = lost.saturating_add(1);
            }
        }
        found
    }

    /// A slot for a new datagram: if its source has many, or all slots are taken, the oldest of them gives way.
    fn make_room(&mut self, source: &Address, lost: &mut u32) -> Option<usize> {
        let (mut free, mut oldest, mut own, mut oldest_own) = (None, None, 0usize, None);
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index) else { break };
            if slot.state == State::Free {
                free = free.or(Some(index));
                continue;
            }
            let before =
                |other: Option<(usize, u64)>| other.is_none_or(|(_, began_us)| slot.began_us < began_us);
            if before(oldest) {
                oldest = Some((index, slot.began_us));
            }
            if slot.source == *source {
                own = own.saturating_add(1);
                if before(oldest_own) {
                    oldest_own = Some((index, slot.began_us));
                }
            }
        }
        let victim = if own >= PER_SOURCE { oldest_own } else { oldest.filter(|_| free.is_none()) };
        match victim {
            Some((index, _)) => {
                *lost = lost.saturating_add(1);
                Some(index)
            }
            None => free,
        }
    }

    /// When the oldest is over.
    fn deadline_us(&self) -> Option<u64> {
        self.slots.iter().filter(|slot| slot.state != State::Free).map(Reassembly::expires_us).min()
    }
}

impl Stack<'_> {
    /// A fragment for us, from a host, of TCP.
    pub(crate) fn fragment_input(&mut self, core: u32, header: &Ethernet, piece: &Piece, payload: &[u8]) {
        self.counters.add(Counter::Fragments);
        let whole_units = payload.len() & ((1 << UNIT_SHIFT) - 1) == 0;
        // A first fragment holds all of the fixed header, or somebody hides it from a filter (RFC 1858, RFC 7112).
        let hidden = piece.fragment.offset == 0 && payload.len() < HEADER_BYTES;
        let odd = piece.fragment.more && !whole_units;
        if piece.protocol != ipv4::TCP || payload.is_empty() || hidden || odd {
            self.counters.add(Counter::FragmentsDropped);
            return;
        }
        let now_us = self.now_us;
        let mut lost = 0;
        let found = self.reassemblies.find(piece, &mut lost);
        let index = match found {
            Some(index) => Some(index),
            None => self.reassemblies.make_room(&piece.source, &mut lost),
        };
        (0..lost).for_each(|_| self.counters.add(Counter::ReassembliesFailed));
        let mtu_bytes = self.config.mtu_bytes.max(ETHERNET_MTU);
        let Reassemblies { slots, bytes } = &mut self.reassemblies;
        let slot = index.and_then(|index| slots.get_mut(index));
        let (Some(index), Some(slot)) = (index, slot) else {
            self.counters.add(Counter::FragmentsDropped);
            return;
        };
        if found.is_none() {
            slot.begin(piece, now_us);
        }
        match slot.add(piece, payload, bytes.at_mut(index as u32), mtu_bytes) {
            Verdict::Whole => self.reassembled(core, header, piece, index),
            Verdict::Dropped => self.counters.add(Counter::FragmentsDropped),
            Verdict::Waits => {}
        }
        self.arm_reassembly();
    }

    /// All is there: on its way as if it had come so.
    fn reassembled(&mut self, core: u32, header: &Ethernet, last: &Piece, index: usize) {
        // What follows may do anything with the stack, but nothing with fragments.
        let mut all = core::mem::take(&mut self.reassemblies);
        if let Some(slot) = all.slots.get_mut(index) {
            slot.state = State::Free;
            let whole = Piece { hop_limit: slot.hop_limit, ..*last };
            match slot.finish(header, all.bytes.at_mut(index as u32)) {
                Some(frame) => {
                    self.counters.add(Counter::Reassembled);
                    self.whole_input(core, header, &whole, frame);
                }
                None => self.counters.add(Counter::ReassembliesFailed),
            }
        }
        self.reassemblies = all;
    }

    fn arm_reassembly(&mut self) {
        let node = self.numbering.node(Timer::Reassembly);
        match self.reassemblies.deadline_us() {
            Some(at_us) => self.wheel.set(node, at_us),
            None => self.wheel.cancel(node),
        }
    }

    /// The time of the oldest is over.
    pub(crate) fn reassembly_timer(&mut self) {
        let now_us = self.now_us;
        let mut lost = 0u32;
        for slot in self.reassemblies.slots.iter_mut() {
            if slot.state != State::Free && slot.expires_us() <= now_us {
                slot.state = State::Free;
                lost = lost.saturating_add(1);
            }
        }
        (0..lost).for_each(|_| self.counters.add(Counter::ReassembliesFailed));
        self.arm_reassembly();
    }
}
