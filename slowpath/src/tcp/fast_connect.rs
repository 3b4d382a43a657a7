// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Fast open, active side (RFC 7413 §4.1, §4.2.1): cookies by destination, data with the first SYN, and what is
//! done about paths that swallow it.
//!
//! The data waits here only until the SYN leaves. The library keeps it, and sends again what the SYN-ACK does not
//! acknowledge: a SYN that is repeated carries none.

use crate::{
    action::Outcome,
    connection::flag as fact,
    counters::Counter,
    errno::Errno,
    socket::{flag as option, Kind},
    stack::Stack,
    storage::SYN_DATA,
    tcp::{flows::View, listen::default_mss},
    wire::{
        address::Address,
        options::Cookie,
        tcp::{Outgoing, Segment},
    },
};
use abi::{
    flow::NONE,
    kernel_ring::to_fast,
    limits::ETHERNET_MTU,
    message::{connect_flags, Connect, Message, SynData as SynDataBody},
};

/// IPv4 and TCP header bytes without options.
const HEADERS_BYTES: u32 = 40;
/// TCP header bytes without options.
const TCP_HEADER_BYTES: u32 = 20;
/// Room that a SYN's options may take of the MSS, as Linux reckons.
const OPTIONS_BYTES: u32 = 40;
/// Most data of a SYN, on a link with jumbo frames too: nothing is known of the path yet, and little is lost.
const SYN_DATA_MAX: usize = (ETHERNET_MTU - HEADERS_BYTES - OPTIONS_BYTES) as usize;
/// An application may use a quarter of the room for SYNs' data.
const SYN_DATA_SHARE: u32 = SYN_DATA / 4;
/// SYNs with data that were lost in a row before a destination is suspected to be behind a box that drops them: one
/// may be a loss like any other.
const LOSSES: u8 = 2;
/// For how long fast open is not tried then (RFC 7413 §4.1.3.1), microseconds; doubled with every further loss, up to
/// an hour: Linux's `tcp_fastopen_blackhole_timeout`.
const DISABLED_US: u64 = 60_000_000;
const DISABLED_SHIFT_MAX: u8 = 6;

/// What is remembered of a destination. One entry per hash value, as with [`super::path::Path`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Destination {
    address: Address,
    /// MSS its last SYN-ACK announced.
    mss: u16,
    /// SYNs with data that were lost in a row.
    losses: u8,
    cookie: Option<Cookie>,
    disabled_until_us: u64,
}

/// Data on its way to a SYN.
#[derive(Debug, Clone, Copy)]
pub struct SynData {
    bytes: [u8; SYN_DATA_MAX],
    len: u16,
    /// Next of the free list.
    pub(crate) next: u32,
}

impl Default for SynData {
    fn default() -> Self {
        Self { bytes: [0; SYN_DATA_MAX], len: 0, next: NONE }
    }
}

impl Stack<'_> {
    fn destination_slot(&self, address: &Address) -> u32 {
        let hash = address.hash(&self.sequence_key, 0x636f_6f6b_6965) & 0xffff_ffff;
        (hash.wrapping_mul(self.destinations.len() as u64) >> 32) as u32
    }

    /// What is known of a destination.
    fn destination(&self, address: &Address) -> Destination {
        let known = *self.destinations.at(self.destination_slot(address));
        if known.address == *address {
            known
        } else {
            Destination { address: *address, ..Destination::default() }
        }
    }

    fn keep_destination(&mut self, destination: Destination) {
        let slot = self.destination_slot(&destination.address);
        *self.destinations.at_mut(slot) = destination;
    }

    /// Bytes that may go with a SYN to `address`: no more than the MSS it announced last (RFC 7413 §4.2.1); none
    /// without a cookie, or where they were lost before.
    fn syn_data_room(&self, address: &Address, no_cookie: bool) -> u32 {
        let known = self.destination(address);
        if self.now_us < known.disabled_until_us || (known.cookie.is_none() && !no_cookie) {
            return 0;
        }
        let mss = if known.mss == 0 { default_mss(address) } else { known.mss };
        let headers = (address.header_bytes() as u32).saturating_add(TCP_HEADER_BYTES);
        let path = self.path_mtu(address).saturating_sub(headers);
        path.min(mss as u32).saturating_sub(OPTIONS_BYTES).min(SYN_DATA_MAX as u32)
    }

    /// SYN_DATA.
    pub(crate) fn request_syn_data(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let body: SynDataBody = message.get();
        let bytes = body.bytes.get(..message.flags as usize).ok_or(Errno::EINVAL)?;
        let socket = *self.sockets.at(id);
        if socket.kind != Kind::Idle {
            return Err(Errno::EISCONN);
        }
        let slot = match socket.syn_data {
            NONE => self.new_syn_data(id).ok_or(Errno::ENOBUFS)?,
            slot => slot,
        };
        let data = self.syn_data.at_mut(slot);
        let start = data.len as usize;
        let end = start.saturating_add(bytes.len());
        if end > SYN_DATA_MAX {
            return Err(Errno::ENOBUFS);
        }
        crate::wire::put(&mut data.bytes, start, bytes);
        data.len = end as u16;
        message.set(&Connect::default());
        Ok(())
    }

    fn new_syn_data(&mut self, id: u32) -> Option<u32> {
        let slot = self.syn_data_free;
        let application = self.applications.at_mut(self.sockets.at(id).application);
        if !self.syn_data.has(slot) || application.syn_data >= SYN_DATA_SHARE {
            return None;
        }
        application.syn_data = application.syn_data.saturating_add(1);
        let data = self.syn_data.at_mut(slot);
        self.syn_data_free = data.next;
        data.len = 0;
        self.sockets.at_mut(id).syn_data = slot;
        Some(slot)
    }

    fn give_syn_data(&mut self, application: u32, slot: u32) {
        if self.syn_data.has(slot) {
            self.syn_data.at_mut(slot).next = self.syn_data_free;
            self.syn_data_free = slot;
            let application = self.applications.at_mut(application);
            application.syn_data = application.syn_data.saturating_sub(1);
        }
    }

    /// Frees the data that waits for a socket's connect().
    pub(crate) fn free_syn_data(&mut self, id: u32) {
        let socket = self.sockets.at_mut(id);
        let slot = core::mem::replace(&mut socket.syn_data, NONE);
        let application = socket.application;
        self.give_syn_data(application, slot);
    }

    /// Frees the data that waits for a connection's SYN.
    pub(crate) fn drop_syn_data(&mut self, flow: u32) {
        let connection = self.connections.at_mut(flow);
        let slot = core::mem::replace(&mut connection.syn_data, NONE);
        let application = connection.application;
        self.give_syn_data(application, slot);
    }

    /// CONNECT with [`connect_flags`].
    pub(crate) fn connect_fast(
        &mut self,
        id: u32,
        address: Address,
        body: &Connect,
        message: &mut Message,
    ) -> Result<Outcome, Errno> {
        let mut reply = Connect { remote: body.remote, context: body.context, ..Connect::default() };
        let room = self.syn_data_room(&address, self.sockets.at(id).is(option::FAST_OPEN_NO_COOKIE));
        if message.flags & connect_flags::DEFER != 0 && room > 0 {
            self.may_connect(id, &address)?;
            reply.syn_bytes = room;
        } else {
            self.begin_connect(id, address, body.remote.port, true)?;
            let flow = self.sockets.at(id).flow;
            reply.syn_bytes = self.connections.at(flow).syn_bytes as u32;
            reply.started = 1;
        }
        message.set(&reply);
        Ok(Outcome::Done)
    }

    /// Decides what fast open adds to a connection's first SYN.
    pub(crate) fn prepare_fast_open(&mut self, id: u32, flow: u32) {
        let (slot, no_cookie) = {
            let socket = self.sockets.at_mut(id);
            let slot = core::mem::replace(&mut socket.syn_data, NONE);
            (slot, socket.is(option::FAST_OPEN_NO_COOKIE))
        };
        let address = self.connections.at(flow).tuple.remote;
        let room = self.syn_data_room(&address, no_cookie);
        let disabled = self.now_us < self.destination(&address).disabled_until_us;
        let bytes = (self.syn_data.at(slot).len as u32).min(room) as u16;
        let connection = self.connections.at_mut(flow);
        connection.set(fact::FAST_OPEN, !disabled && !no_cookie);
        connection.syn_data = slot;
        if self.syn_data.has(slot) {
            connection.syn_bytes = bytes;
        }
    }

    /// The fast-open option of a connection's first SYN.
    pub(crate) fn cookie_to_show(&self, flow: u32) -> Option<Cookie> {
        let connection = self.connections.at(flow);
        let known = self.destination(&connection.tuple.remote).cookie;
        connection.is(fact::FAST_OPEN).then_some(known.unwrap_or(Cookie::REQUEST))
    }

    /// Sends a connection's first SYN, with its data.
    pub(crate) fn transmit_syn(&mut self, flow: u32, segment: &Outgoing) {
        let mac = self.config.mac;
        let connection = self.connections.at_mut(flow);
        // The cookie may have made room for another destination's while ARP was asked.
        if segment.options.fast_open.is_some_and(|cookie| cookie.is_request()) {
            connection.syn_bytes = 0;
        }
        let (core, slot, bytes) = (connection.core, connection.syn_data, connection.syn_bytes);
        let service = connection.service;
        if let Some(id) = self.new_frame() {
            let data = self.syn_data.at(slot);
            let payload = data.bytes.get(..bytes as usize).unwrap_or_default();
            let length = segment.write(self.frame_bytes.at_mut(id), mac, payload);
            service.apply(self.frame_bytes.at_mut(id));
            self.send(core, id, to_fast::TRANSMIT, NONE, length);
        }
        if bytes > 0 {
            self.counters.add(Counter::FastOpensSent);
        }
        self.drop_syn_data(flow);
    }

    /// Whether `ack` acknowledges our SYN, or some of the data that went with it.
    pub(crate) fn acknowledges_syn(&self, flow: u32, ack: u32) -> bool {
        let connection = self.connections.at(flow);
        ack.wrapping_sub(connection.iss.wrapping_add(1)) <= connection.syn_bytes as u32
    }

    /// The peer's SYN-ACK: keeps its cookie and MSS (RFC 7413 §4.1.3), and notes how the data fared.
    pub(crate) fn learn_fast_open(&mut self, flow: u32, segment: &Segment) {
        let connection = self.connections.at(flow);
        let (sent, asked, mss) =
            (connection.syn_bytes > 0, connection.is(fact::FAST_OPEN), connection.mss_bytes);
        let (address, lost) = (connection.tuple.remote, sent && connection.backoff > 0);
        if segment.ack != connection.iss.wrapping_add(1) {
            self.counters.add(Counter::FastOpensTaken);
        }
        if lost {
            self.note_fast_open_loss(flow, false);
        }
        let mut known = self.destination(&address);
        let given = segment.options.fast_open.filter(|cookie| !cookie.is_request());
        if asked && given.is_some() {
            known.cookie = given;
        }
        if known.cookie.is_none() && !sent {
            return;
        }
        known.mss = mss;
        if !lost && sent {
            known.losses = 0;
        }
        self.keep_destination(known);
    }

    /// After a second timeout: a path that took the data of a SYN and nothing since (Linux's black hole).
    pub(crate) fn suspect_fast_open(&mut self, flow: u32, view: &View) {
        let connection = self.connections.at(flow);
        let start = connection.iss.wrapping_add(1).wrapping_add(connection.syn_data_bytes as u32);
        if connection.backoff == 2 && view.snd_una as u32 == start {
            self.note_fast_open_loss(flow, true);
        }
    }

    /// A SYN with data was not answered, or (`established`) nothing after it is: boxes on the path may object to such
    /// SYNs (RFC 7413 §7.1).
    pub(crate) fn note_fast_open_loss(&mut self, flow: u32, established: bool) {
        let connection = self.connections.at(flow);
        if connection.syn_bytes == 0 {
            return;
        }
        let mut known = self.destination(&connection.tuple.remote);
        known.losses = known.losses.saturating_add(1).max(if established { LOSSES } else { 0 });
        if known.losses >= LOSSES {
            let shift = known.losses.saturating_sub(LOSSES).min(DISABLED_SHIFT_MAX);
            let pause_us = DISABLED_US.wrapping_shl(shift as u32);
            known.disabled_until_us = self.now_us.saturating_add(pause_us);
        }
        self.keep_destination(known);
    }
}
