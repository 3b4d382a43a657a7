// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! One hash table for everything that has a four-tuple: connections, half-open connections and
//! connections in TIME-WAIT. Chained, keyed, with the links beside the tuples.

use crate::{random::SipKey, table::Table, wire::address::Address};
use abi::flow::NONE;

/// A four-tuple, host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tuple {
    pub(crate) local: Address,
    pub(crate) remote: Address,
    /// Local port in the high half, remote port in the low half.
    pub(crate) ports: u32,
}

impl Tuple {
    pub(crate) const EMPTY: Self =
        Self { local: Address::UNSPECIFIED, remote: Address::UNSPECIFIED, ports: 0 };
    pub(crate) const fn new(local: Address, local_port: u16, remote: Address, remote_port: u16) -> Self {
        Self { local, remote, ports: (local_port as u32) << 16 | remote_port as u32 }
    }
    pub(crate) const fn local_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
    pub(crate) const fn remote_port(&self) -> u16 {
        self.ports as u16
    }
    /// Keyed hash.
    pub(crate) fn hash(&self, key: &SipKey) -> u64 {
        self.hash_with(key, 0)
    }
    /// Keyed hash of the tuple and another value.
    pub(crate) fn hash_with(&self, key: &SipKey, extra: u32) -> u64 {
        let last = (extra as u64) << 32 | self.ports as u64;
        match (self.local.as_v4(), self.remote.as_v4()) {
            (Some(local), Some(remote)) => key.hash([(local as u64) << 32 | remote as u64, last]),
            _ => {
                let ([a, b], [c, d]) = (self.local.halves(), self.remote.halves());
                key.hash([a, b, c, d, last])
            }
        }
    }
}

/// Links and tuple of one object.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    tuple: Tuple,
    next: u32,
    /// Next of those that wait for the same next hop.
    pub(crate) wait_next: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self { tuple: Tuple::EMPTY, next: NONE, wait_next: NONE }
    }
}

/// What a tuple belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Connection(u32),
    HalfOpen(u32),
    TimeWait(u32),
}

/// The hash table.
pub(crate) struct Lookup<'m> {
    buckets: Table<'m, u32>,
    pub(crate) nodes: Table<'m, Node>,
    connections: u32,
    half_open: u32,
    key: SipKey,
}

impl<'m> Lookup<'m> {
    pub(crate) fn new(
        buckets: &'m mut [u32],
        nodes: &'m mut [Node],
        connections: u32,
        half_open: u32,
        key: SipKey,
    ) -> Option<Self> {
        buckets.fill(NONE);
        let (buckets, nodes) = (Table::new(buckets)?, Table::new(nodes)?);
        Some(Self { buckets, nodes, connections, half_open, key })
    }

    /// Node of an object.
    pub(crate) fn node(&self, object: Found) -> u32 {
        match object {
            Found::Connection(id) => id,
            Found::HalfOpen(id) => self.connections.wrapping_add(id),
            Found::TimeWait(id) => self.connections.wrapping_add(self.half_open).wrapping_add(id),
            Found::Nothing => NONE,
        }
    }

    /// Object of a node.
    pub(crate) fn object(&self, node: u32) -> Found {
        if node < self.connections {
            return Found::Connection(node);
        }
        let rest = node.wrapping_sub(self.connections);
        if rest < self.half_open {
            return Found::HalfOpen(rest);
        }
        if self.nodes.has(node) {
            Found::TimeWait(rest.wrapping_sub(self.half_open))
        } else {
            Found::Nothing
        }
    }

    fn bucket(&self, tuple: &Tuple) -> u32 {
        let buckets = self.buckets.len() as u64;
        // Multiply-shift instead of a remainder: any number of buckets, no division.
        ((tuple.hash(&self.key) & 0xffff_ffff).wrapping_mul(buckets) >> 32) as u32
    }

    /// What `tuple` belongs to.
    pub(crate) fn find(&self, tuple: &Tuple) -> Found {
        let mut node = *self.buckets.at(self.bucket(tuple));
        while self.nodes.has(node) {
            let entry = self.nodes.at(node);
            if entry.tuple == *tuple {
                return self.object(node);
            }
            node = entry.next;
        }
        Found::Nothing
    }

    /// Enters `object`, which is not in the table.
    pub(crate) fn insert(&mut self, object: Found, tuple: Tuple) {
        let bucket = self.bucket(&tuple);
        let node = self.node(object);
        if !self.nodes.has(node) || !self.buckets.has(bucket) {
            return;
        }
        let head = *self.buckets.at(bucket);
        *self.nodes.at_mut(node) = Node { tuple, next: head, wait_next: NONE };
        *self.buckets.at_mut(bucket) = node;
    }

    /// Takes `object` out; true if it was there.
    pub(crate) fn remove(&mut self, object: Found) -> bool {
        let node = self.node(object);
        if !self.nodes.has(node) {
            return false;
        }
        let Node { tuple, next, .. } = *self.nodes.at(node);
        let bucket = self.bucket(&tuple);
        let mut at = *self.buckets.at(bucket);
        if at == node {
            *self.buckets.at_mut(bucket) = next;
            self.nodes.at_mut(node).next = NONE;
            return true;
        }
        while self.nodes.has(at) {
            let following = self.nodes.at(at).next;
            if following == node {
                self.nodes.at_mut(at).next = next;
                self.nodes.at_mut(node).next = NONE;
                return true;
            }
            at = following;
        }
        false
    }

    /// The tuple of an object in the table.
    pub(crate) fn tuple(&self, object: Found) -> Tuple {
        self.nodes.at(self.node(object)).tuple
    }
}
