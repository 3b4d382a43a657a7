// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Neighbours: who has which MAC address, asked for with ARP (RFC 826) or Neighbor Discovery (RFC 4861). Both
//! families share the cache, its ageing and its limits.

use crate::{
    connection::flag, counters::Counter, errno::Errno, lookup::Found, stack::Stack, timers::Timer,
    wire::address::Address,
};
use abi::{adjacency::RESOLVED, flow::NONE};
use core::sync::atomic::Ordering::Relaxed;

/// What is known about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Free,
    /// Asked for, no answer yet.
    Asking,
    /// Known.
    Known,
    /// Known, old, being asked for again.
    Confirming,
}

/// A neighbour, of the same index as its adjacency.
#[derive(Debug, Clone, Copy)]
pub struct Neighbor {
    pub(crate) reach: Reach,
    pub(crate) tries: u8,
    pub(crate) address: Address,
    pub(crate) mac: u64,
    /// Connections that use it.
    pub(crate) users: u32,
    /// When its address was last confirmed or asked for.
    pub(crate) confirmed_us: u64,
    /// First lookup node waiting for it.
    pub(crate) waiting: u32,
    /// Head of the hash chain of this index, and next in the chain this entry is in.
    pub(crate) bucket: u32,
    pub(crate) next: u32,
}

impl Default for Neighbor {
    fn default() -> Self {
        Self {
            reach: Reach::Free,
            tries: 0,
            address: Address::UNSPECIFIED,
            mac: 0,
            users: 0,
            confirmed_us: 0,
            waiting: NONE,
            bucket: NONE,
            next: NONE,
        }
    }
}

/// Requests before a neighbour that never answered counts as absent.
const TRIES_NEW: u8 = 5;
/// Requests before a neighbour that stopped answering counts as absent (RFC 1122 §2.3.2.1).
const TRIES_CONFIRM: u8 = 3;
/// Longest pause between requests, microseconds.
const PAUSE_MAX_US: u64 = 1_000_000;
/// Pause between requests for an absent neighbour that flows still use.
const PAUSE_ABSENT_US: u64 = 5_000_000;

impl Stack<'_> {
    fn bucket_of(&self, address: &Address) -> u32 {
        let hash = address.hash(&self.sequence_key, 0x6172_7000) & 0xffff_ffff;
        (hash.wrapping_mul(self.neighbors.len() as u64) >> 32) as u32
    }

    pub(crate) fn find_neighbor(&self, address: &Address) -> Option<u32> {
        let mut id = self.neighbors.at(self.bucket_of(address)).bucket;
        while self.neighbors.has(id) {
            let entry = self.neighbors.at(id);
            if entry.address == *address {
                return Some(id);
            }
            id = entry.next;
        }
        None
    }

    /// The neighbour with this address, asked for if it is not known; `None`: no entry is free.
    pub(crate) fn resolve(&mut self, address: &Address) -> Option<u32> {
        if let Some(id) = self.find_neighbor(address) {
            return Some(id);
        }
        let id = self.new_neighbor(address)?;
        self.neighbors.at_mut(id).reach = Reach::Asking;
        self.ask(id, false);
        Some(id)
    }

    /// An entry for an address that has none; an idle one makes room if none is free.
    pub(crate) fn new_neighbor(&mut self, address: &Address) -> Option<u32> {
        let mut idle = None;
        let mut free = None;
        for id in 0..self.neighbors.len().min(self.adjacencies.len() as u32) {
            let entry = self.neighbors.at(id);
            if entry.reach == Reach::Free {
                free = Some(id);
                break;
            }
            if entry.users == 0 && entry.waiting == NONE && idle.is_none() {
                idle = Some(id);
            }
        }
        if free.is_none() {
            self.forget_neighbor(idle?);
        }
        let id = free.or(idle)?;
        let bucket = self.bucket_of(address);
        let head = self.neighbors.at(bucket).bucket;
        let entry = self.neighbors.at_mut(id);
        entry.address = *address;
        entry.next = head;
        entry.tries = 0;
        entry.mac = 0;
        entry.users = 0;
        entry.waiting = NONE;
        self.neighbors.at_mut(bucket).bucket = id;
        if let Some(adjacency) = self.adjacencies.get(id as usize) {
            adjacency.mac.store(0, Relaxed);
            adjacency.next_hop.store(address.as_hot(), Relaxed);
            adjacency.mtu_bytes.store(self.config.mtu_bytes, Relaxed);
        }
        Some(id)
    }

    fn forget_neighbor(&mut self, id: u32) {
        self.cancel_timer(Timer::Neighbor(id));
        let Neighbor { address, next, .. } = *self.neighbors.at(id);
        let bucket = self.bucket_of(&address);
        let mut at = self.neighbors.at(bucket).bucket;
        if at == id {
            self.neighbors.at_mut(bucket).bucket = next;
        }
        while self.neighbors.has(at) {
            let entry = self.neighbors.at_mut(at);
            if entry.next == id {
                entry.next = next;
                break;
            }
            at = entry.next;
        }
        let entry = self.neighbors.at_mut(id);
        entry.reach = Reach::Free;
        entry.address = Address::UNSPECIFIED;
        entry.next = NONE;
        if let Some(adjacency) = self.adjacencies.get(id as usize) {
            adjacency.mac.store(0, Relaxed);
        }
    }

    /// Whether the neighbour's MAC address is known.
    pub(crate) fn is_resolved(&self, id: u32) -> bool {
        matches!(self.neighbors.at(id).reach, Reach::Known | Reach::Confirming)
    }

    /// Counts a connection that uses the neighbour, so that it is confirmed rather than forgotten.
    pub(crate) fn retain_neighbor(&mut self, id: u32) {
        let entry = self.neighbors.at_mut(id);
        entry.users = entry.users.saturating_add(1);
    }

    /// Forgets a user that was counted.
    pub(crate) fn release_neighbor(&mut self, id: u32) {
        let entry = self.neighbors.at_mut(id);
        entry.users = entry.users.saturating_sub(1);
    }

    /// Sends a request, to the known address if there is one, and sets the timer for the next.
    fn ask(&mut self, id: u32, unicast: bool) {
        let Neighbor { address, mac, tries, .. } = *self.neighbors.at(id);
        let known = unicast.then_some(mac);
        match address.as_v4() {
            Some(address) => self.send_arp_request(address, known),
            None => self.send_solicitation(&address, known),
        }
        let entry = self.neighbors.at_mut(id);
        entry.tries = tries.saturating_add(1);
        let shift = (tries as u32).min(16);
        let pause = self.config.arp_timeout_us.saturating_mul(1u64.wrapping_shl(shift));
        let longest = PAUSE_MAX_US.max(self.config.arp_timeout_us);
        self.set_timer(Timer::Neighbor(id), pause.min(longest));
    }

    /// Retry, ageing, confirmation.
    pub(crate) fn neighbor_timer(&mut self, id: u32) {
        let entry = *self.neighbors.at(id);
        match entry.reach {
            Reach::Free => {}
            Reach::Asking if entry.tries < TRIES_NEW => self.ask(id, false),
            Reach::Asking => self.neighbor_absent(id),
            Reach::Known if entry.users == 0 && entry.waiting == NONE => self.forget_neighbor(id),
            Reach::Known => {
                let entry = self.neighbors.at_mut(id);
                entry.reach = Reach::Confirming;
                entry.tries = 0;
                self.ask(id, true);
            }
            // The last of them goes to everybody: it may have moved.
            Reach::Confirming if entry.tries < TRIES_CONFIRM => {
                self.ask(id, entry.tries.saturating_add(1) < TRIES_CONFIRM);
            }
            Reach::Confirming => {
                self.neighbors.at_mut(id).reach = Reach::Asking;
                self.neighbors.at_mut(id).tries = 0;
                self.ask(id, false);
            }
        }
    }

    /// Asks a neighbour again whether it is there: connections through it get no answers (RFC 1122
    /// §3.3.1.4).
    pub(crate) fn suspect_neighbor(&mut self, id: u32) {
        if self.neighbors.at(id).reach == Reach::Known {
            let entry = self.neighbors.at_mut(id);
            entry.reach = Reach::Confirming;
            entry.tries = 0;
            self.ask(id, true);
        }
    }

    fn neighbor_absent(&mut self, id: u32) {
        self.counters.add(Counter::NeighborsAbsent);
        if let Some(adjacency) = self.adjacencies.get(id as usize) {
            adjacency.mac.store(0, Relaxed);
        }
        self.neighbors.at_mut(id).mac = 0;
        while let Some(object) = self.next_waiting(id) {
            match object {
                Found::Connection(flow) => self.fail_handshake(flow, Errno::EHOSTUNREACH),
                Found::HalfOpen(half) => self.free_half_open(half),
                _ => {}
            }
        }
        if self.neighbors.at(id).users == 0 {
            self.forget_neighbor(id);
        } else {
            // Flows use it: their own timeouts decide, and it may come back.
            self.ask(id, false);
            self.neighbors.at_mut(id).tries = TRIES_NEW;
            self.set_timer(Timer::Neighbor(id), PAUSE_ABSENT_US);
        }
    }

    /// Lets a connection that needs the neighbour wait.
    pub(crate) fn wait_for_neighbor(&mut self, id: u32, object: Found) {
        let node = self.lookup.node(object);
        let head = core::mem::replace(&mut self.neighbors.at_mut(id).waiting, node);
        self.lookup.nodes.at_mut(node).wait_next = head;
    }

    fn next_waiting(&mut self, id: u32) -> Option<Found> {
        let node = self.neighbors.at(id).waiting;
        if !self.lookup.nodes.has(node) {
            return None;
        }
        let next = core::mem::replace(&mut self.lookup.nodes.at_mut(node).wait_next, NONE);
        self.neighbors.at_mut(id).waiting = next;
        let object = self.lookup.object(node);
        match object {
            Found::Connection(flow) => self.connections.at_mut(flow).set(flag::WAITS_FOR_ARP, false),
            Found::HalfOpen(half) => self.half_open.at_mut(half).waits_for_arp = false,
            _ => {}
        }
        Some(object)
    }

    /// Takes an object out of the list it waits in, if it does.
    pub(crate) fn leave_neighbor(&mut self, object: Found) {
        let (id, waits) = match object {
            Found::Connection(flow) => {
                let connection = self.connections.at(flow);
                (connection.neighbor, connection.is(flag::WAITS_FOR_ARP))
            }
            Found::HalfOpen(half) => {
                let half = self.half_open.at(half);
                (half.neighbor, half.waits_for_arp)
            }
            _ => return,
        };
        if !waits {
            return;
        }
        let node = self.lookup.node(object);
        let next = self.lookup.nodes.at(node).wait_next;
        if self.neighbors.at(id).waiting == node {
            self.neighbors.at_mut(id).waiting = next;
            return;
        }
        let mut at = self.neighbors.at(id).waiting;
        while self.lookup.nodes.has(at) {
            let entry = self.lookup.nodes.at_mut(at);
            if entry.wait_next == node {
                entry.wait_next = next;
                return;
            }
            at = entry.wait_next;
        }
    }

    /// The neighbour's MAC address, from itself: whoever waited for it goes on.
    pub(crate) fn learn(&mut self, id: u32, mac: u64) {
        let now_us = self.now_us;
        let entry = self.neighbors.at_mut(id);
        entry.reach = Reach::Known;
        entry.mac = mac;
        entry.tries = 0;
        entry.confirmed_us = now_us;
        if let Some(adjacency) = self.adjacencies.get(id as usize) {
            adjacency.mac.store(mac | RESOLVED, Relaxed);
        }
        self.set_timer(Timer::Neighbor(id), self.config.arp_age_us);
        while let Some(object) = self.next_waiting(id) {
            match object {
                Found::Connection(flow) => self.first_syn(flow),
                Found::HalfOpen(half) => self.first_syn_ack(half),
                _ => {}
            }
        }
    }
}
