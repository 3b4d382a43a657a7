// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a segment's addresses and ports to the flow, privately in each core. Open addressing with
//! linear probing; the hash is keyed, so that a peer cannot choose ports that collide.

use crate::{ipv6, word::Word};
use abi::flow::{hot_flags, ColdFlow, HotFlow};

/// Keyed 64-bit hash of a flow's identity: one 64×64 multiplication, both halves folded.
#[inline]
pub(crate) fn hash(key: u64, remote_ip: u32, local_ip: u32, ports: u32) -> u64 {
    let addresses = u64::from(remote_ip) << 32 | u64::from(local_ip);
    let left = addresses ^ key;
    let right = u64::from(ports).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key.rotate_left(32);
    let product = u128::from(left).wrapping_mul(u128::from(right));
    (product as u64) ^ (product >> 64) as u64
}

/// The table. A slot holds the upper half of the hash and the flow id plus one; zero is empty.
pub(crate) struct Lookup {
    slots: Box<[u64]>,
    mask: usize,
}

impl Lookup {
    /// Room for `flows` flows at a load of at most one half.
    pub(crate) fn new(flows: usize) -> Self {
        let slots = flows.max(8).next_power_of_two() * 2;
        Self { slots: vec![0; slots].into_boxed_slice(), mask: slots - 1 }
    }

    #[inline]
    fn slot(&self, index: usize) -> u64 {
        self.slots.get(index & self.mask).copied().unwrap_or(0)
    }

    /// The slot where the search for `hash` begins, to bring it near.
    #[inline]
    pub(crate) fn line(&self, hash: u64) -> Option<&u64> {
        self.slots.get(hash as usize & self.mask)
    }

    /// A flow with the same upper half of the hash: nearly always the one.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<u32> {
        let mut index = hash as usize;
        loop {
            let slot = self.slot(index);
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 {
                return Some((slot as u32).wrapping_sub(1));
            }
            index = index.wrapping_add(1);
        }
    }

    /// The flow for which `matches` is true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut index = hash as usize;
        loop {
            let slot = self.slot(index);
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 {
                let flow = (slot as u32).wrapping_sub(1);
                if matches(flow) {
                    return Some(flow);
                }
            }
            index = index.wrapping_add(1);
        }
    }

    /// Adds a flow that is not in the table. The caller adds at most as many as `new` was told.
    pub(crate) fn insert(&mut self, hash: u64, flow: u32) {
        let mut index = hash as usize & self.mask;
        while self.slot(index) != 0 {
            index = (index + 1) & self.mask;
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = (hash >> 32) << 32 | u64::from(flow.wrapping_add(1));
        }
    }

    /// Removes a flow; `hash_of` gives the hash of any other flow in the table. Later entries of
    /// the run move up, so that no tombstones pile up.
    pub(crate) fn remove(&mut self, hash: u64, flow: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = hash as usize & self.mask;
        loop {
            let slot = self.slot(hole);
            if slot == 0 {
                return;
            }
            if slot as u32 == flow.wrapping_add(1) {
                break;
            }
            hole = (hole + 1) & self.mask;
        }
        let mut index = hole;
        loop {
            index = (index + 1) & self.mask;
            let slot = self.slot(index);
            if slot == 0 {
                break;
            }
            let home = hash_of((slot as u32).wrapping_sub(1)) as usize & self.mask;
            // Move it if its home is not between the hole (exclusive) and here.
            if index.wrapping_sub(home) & self.mask >= index.wrapping_sub(hole) & self.mask {
                if let Some(to) = self.slots.get_mut(hole) {
                    *to = slot;
                }
                hole = index;
            }
        }
        if let Some(slot) = self.slots.get_mut(hole) {
            *slot = 0;
        }
    }
}

/// The hash of an installed flow.
#[inline]
pub(crate) fn flow_hash(key: u64, hot: &HotFlow, cold: &ColdFlow) -> u64 {
    if hot.flags.get() & hot_flags::IPV6 != 0 {
        return ipv6::hash(key, &ipv6::flow_addresses(cold), hot.ports.get());
    }
    hash(key, hot.remote_ip.get(), hot.local_ip.get(), hot.ports.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Insertions and removals against a `HashMap`, with hashes squeezed so that runs overlap and wrap.
    #[test]
    fn agrees_with_a_map() {
        let mut table = Lookup::new(64);
        let mut model: HashMap<u32, u64> = HashMap::new();
        let hashes: Vec<u64> = (0..64u64).map(|flow| (flow % 7) << 32 | (120 + flow % 9)).collect();
        let mut random = 88_172_645_463_325_252u64;
        for step in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let flow = (random >> 20) as u32 % 64;
            let hash = hashes[flow as usize];
            if model.remove(&flow).is_some() {
                table.remove(hash, flow, |other| hashes[other as usize]);
            } else {
                table.insert(hash, flow);
                model.insert(flow, hash);
            }
            for probe in 0..64u32 {
                let found = table.find(hashes[probe as usize], |candidate| candidate == probe);
                assert_eq!(found.is_some(), model.contains_key(&probe), "step {step} flow {probe}");
            }
        }
    }

    #[test]
    fn the_key_changes_the_hash() {
        assert_ne!(
            hash(1, 0x0a00_0001, 0x0a00_0002, 80 << 16 | 5000),
            hash(2, 0x0a00_0001, 0x0a00_0002, 80 << 16 | 5000)
        );
    }
}
