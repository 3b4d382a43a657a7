// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of a core.

use crate::port::BATCH_MAX;
use abi::limits::{
    CONTEXTS_PER_LOOP_SHIFT, CONTEXT_ENTRIES_PER_LOOP, CORES_MAX, ETHERNET_MTU, MTU_MAX, MTU_MIN,
};

/// Settings of one core. `Default` gives one core with the values documented at each field.
#[derive(Debug, Clone)]
pub struct Config {
    /// This core's number, 0 … `cores` - 1.
    pub core: u32,
    /// Cores of the instance (1).
    pub cores: u32,
    /// Our MAC address.
    pub mac: [u8; 6],
    /// Key of the flow hash: random, private to the process, the same for every core.
    pub hash_key: u64,
    /// Key of the IPv6 flow labels: random, the instance's own, so that a flow keeps its label when the process is
    /// replaced.
    pub label_key: u64,
    /// MTU of the port, bytes (1500). Its packet buffers hold an Ethernet header more.
    pub mtu_bytes: u32,
    /// Frames taken from the port in one burst, 1 … [`BATCH_MAX`] (16, the original's).
    pub batch: usize,
    /// How long an acknowledgement may wait for data to ride on, microseconds (100). RFC 9293
    /// §3.8.6.3 allows 500,000; a data-centre peer should not notice.
    pub delayed_ack_us: u32,
    /// Entries taken from one context's ring in one poll (32). The slow path counts on as many when it waits
    /// for an application's last words.
    pub context_entries: usize,
    /// Contexts looked at in one poll (32): with more, they take turns. The slow path counts on that too.
    pub context_scan: usize,
    /// Entries taken from the slow path's ring in one poll (8, the original's).
    pub kernel_entries: usize,
    /// Time-to-live of what we send (64, RFC 1700).
    pub ttl: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            core: 0,
            cores: 1,
            mac: [0; 6],
            hash_key: 0x9e37_79b9_7f4a_7c15,
            label_key: 0xbf58_476d_1ce4_e5b9,
            mtu_bytes: ETHERNET_MTU,
            batch: 16,
            delayed_ack_us: 100,
            context_entries: CONTEXT_ENTRIES_PER_LOOP as usize,
            context_scan: 1 << CONTEXTS_PER_LOOP_SHIFT,
            kernel_entries: 8,
            ttl: 64,
        }
    }
}

/// A value out of its range: the field's name and what it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigError(pub &'static str);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fast path setting out of range: {}", self.0)
    }
}
impl std::error::Error for ConfigError {}

impl Config {
    /// Checks every range.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            ((1..=CORES_MAX).contains(&self.cores), "cores must be 1 to 16"),
            (self.core < self.cores, "core must be below cores"),
            ((MTU_MIN..=MTU_MAX).contains(&self.mtu_bytes), "mtu_bytes must be 576 to 9000"),
            ((1..=BATCH_MAX).contains(&self.batch), "batch must be 1 to 32"),
            (self.delayed_ack_us <= 500_000, "delayed_ack_us must be at most 500000"),
            (self.context_entries > 0, "context_entries must not be 0"),
            (self.context_scan > 0, "context_scan must not be 0"),
            (self.kernel_entries > 0, "kernel_entries must not be 0"),
            (self.ttl > 0, "ttl must not be 0"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(ConfigError(what)),
            None => Ok(()),
        }
    }
}
