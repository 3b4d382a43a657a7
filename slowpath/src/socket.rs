// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Private state of one socket: what a descriptor stands for.

use crate::{
    ports::{Place, Places},
    random::SipKey,
    tcp::keepalive::Keepalive,
    wire::{address::Address, service::Service},
};
use abi::{flow::NONE, message::Endpoint};

/// What a socket is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The slot is free.
    Free,
    /// Created, perhaps bound.
    Idle,
    /// Listening.
    Listening,
    /// SYN sent, or failed and not yet asked.
    Connecting,
    /// Has, or had, a connection.
    Connected,
}

/// Events owed to the socket's context, one bit each in [`Socket::pending`].
pub(crate) mod event {
    pub(crate) const CONNECTED: u8 = 1 << 0;
    pub(crate) const FAILED: u8 = 1 << 1;
    pub(crate) const ACCEPTABLE: u8 = 1 << 2;
    pub(crate) const MOVED: u8 = 1 << 3;
    pub(crate) const SOFT_ERROR: u8 = 1 << 4;
}

/// Options and facts, one bit each in [`Socket::flags`].
pub(crate) mod flag {
    pub(crate) const REUSE_ADDRESS: u16 = 1 << 0;
    pub(crate) const REUSE_PORT: u16 = 1 << 1;
    pub(crate) const LINGER: u16 = 1 << 2;
    pub(crate) const KEEPALIVE: u16 = 1 << 3;
    pub(crate) const NODELAY: u16 = 1 << 4;
    /// Has a local port (`port`), counted in the port table.
    pub(crate) const BOUND: u16 = 1 << 5;
    /// Linked in its context's list of owed events.
    pub(crate) const QUEUED: u16 = 1 << 6;
    /// IP_RECVERR.
    pub(crate) const RECEIVE_ERRORS: u16 = 1 << 12;
    /// Of family AF_INET6.
    pub(crate) const V6: u16 = 1 << 14;
    /// IPV6_V6ONLY.
    pub(crate) const V6ONLY: u16 = 1 << 15;
    /// TCP_FASTOPEN_NO_COOKIE.
    pub(crate) const FAST_OPEN_NO_COOKIE: u16 = 1 << 7;
}

/// Private state of one socket.
#[derive(Debug, Clone, Copy)]
pub struct Socket {
    pub(crate) kind: Kind,
    pub(crate) pending: u8,
    pub(crate) flags: u16,
    pub(crate) port: u16,
    pub(crate) application: u32,
    pub(crate) context: u32,
    /// Bound address, unspecified for any.
    pub(crate) local: Address,
    /// Connection, or [`NONE`].
    pub(crate) flow: u32,
    /// The application's value.
    pub(crate) opaque: u64,
    /// SO_ERROR.
    pub(crate) error: u32,
    /// What [`event::SOFT_ERROR`] tells.
    pub(crate) soft_error: u32,
    pub(crate) linger_s: u32,
    pub(crate) user_timeout_ms: u32,
    /// Scope of a link-local address, as the application gave it.
    pub(crate) scope: u32,
    pub(crate) syn_retries: u8,
    /// TCP_MAXSEG, bytes; zero is the MTU's.
    pub(crate) max_segment: u16,
    /// IP_TOS and IP_TTL.
    pub(crate) service: Service,
    pub(crate) keepalive: Keepalive,
    pub(crate) rcv_buffer_bytes: u32,
    pub(crate) congestion: u32,
    /// Listener: connections waiting, first and last of them, limit, half-open connections.
    pub(crate) accept_count: u32,
    pub(crate) accept_head: u32,
    pub(crate) accept_tail: u32,
    pub(crate) backlog: u32,
    pub(crate) half_open: u32,
    /// Listener: until when an ACK may bring a SYN cookie back, microseconds.
    pub(crate) cookies_until_us: u64,
    /// Listener: connections whose handshake fast open did not wait for, and their limit; keys of its cookies if they
    /// are its own.
    pub(crate) fast_open_pending: u32,
    pub(crate) fast_open_limit: u32,
    pub(crate) fast_open_keys: Option<[SipKey; 2]>,
    /// Data for the SYN of a connect() to come, or [`NONE`].
    pub(crate) syn_data: u32,
    /// Next listener of the same port.
    pub(crate) listener_next: u32,
    /// The application's list of sockets; `app_next` also links the free list.
    pub(crate) app_next: u32,
    pub(crate) app_prev: u32,
    /// Next in the context's list of owed events.
    pub(crate) event_next: u32,
    /// Distinguishes successive sockets of one slot.
    pub(crate) generation: u32,
}

impl Socket {
    pub(crate) const EMPTY: Self = Self {
        kind: Kind::Free,
        pending: 0,
        flags: 0,
        port: 0,
        application: NONE,
        context: NONE,
        local: Address::UNSPECIFIED,
        flow: NONE,
        opaque: 0,
        error: 0,
        soft_error: 0,
        linger_s: 0,
        user_timeout_ms: 0,
        scope: 0,
        syn_retries: 0,
        max_segment: 0,
        service: Service::DEFAULT,
        keepalive: Keepalive::DEFAULT,
        rcv_buffer_bytes: 0,
        congestion: 0,
        accept_count: 0,
        accept_head: NONE,
        accept_tail: NONE,
        backlog: 0,
        half_open: 0,
        cookies_until_us: 0,
        fast_open_pending: 0,
        fast_open_limit: 0,
        fast_open_keys: None,
        syn_data: NONE,
        listener_next: NONE,
        app_next: NONE,
        app_prev: NONE,
        event_next: NONE,
        generation: 0,
    };
    #[inline]
    pub(crate) fn is(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
    /// The local addresses that it serves.
    pub(crate) fn places(&self) -> Places {
        if !self.is(flag::V6) || self.local.is_v4() {
            Places::V4
        } else if self.local.is_unspecified() && !self.is(flag::V6ONLY) {
            Places::ALL
        } else if self.local.is_unspecified() {
            Places::V6
        } else {
            Places::of(&self.local)
        }
    }
    /// Whether, listening, it takes connections to a local address.
    pub(crate) fn accepts(&self, local: &Address) -> bool {
        if self.local.is_unspecified() {
            self.places().has(Place::of(local))
        } else {
            self.local == *local
        }
    }
    /// A name as the application is to see it: to an AF_INET6 socket IPv4 addresses are mapped.
    pub(crate) fn endpoint(&self, address: &Address, port: u16) -> Endpoint {
        match (self.is(flag::V6), address.as_v4()) {
            (false, address) => Endpoint::ipv4(address.unwrap_or(0), port),
            (true, Some(address)) => Endpoint::ipv4_mapped(address, port),
            (true, None) => {
                let scope = if address.is_link_local() { self.scope } else { 0 };
                Endpoint::ipv6(address.words(), port, scope)
            }
        }
    }
    #[inline]
    pub(crate) fn set(&mut self, flags: u16, on: bool) {
        if on {
            self.flags |= flags
        } else {
            self.flags &= !flags
        }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self::EMPTY
    }
}
