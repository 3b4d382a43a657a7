// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host holds, for checks and for the messages of failed ones.

use super::Host;
use abi::{
    flow::{ColdFlow, HotFlow},
    message::{Message, Op, Status},
    region::{Region, RegionKind},
};
use fastpath::{Port, Steer};
use std::sync::atomic::Ordering::Relaxed;

impl<P: Port, S: Steer<P::Packet>> Host<P, S> {
    /// The flows of the slow path in words, for messages of failed tests.
    pub fn describe_flows(&mut self) -> Vec<String> {
        let flows = Region::whole(RegionKind::FlowCold, 0);
        let hot = Region::whole(RegionKind::FlowHot, 0);
        let count = self.config.flows as usize;
        let instance = self.instance();
        let (Some(cold), Some(hot)) = (instance.region(flows), instance.region(hot)) else {
            return Vec::new();
        };
        let (Some(cold), Some(hot)) = (cold.table::<ColdFlow>(0, count), hot.table::<HotFlow>(0, count))
        else {
            return Vec::new();
        };
        let used = cold.iter().zip(hot).filter(|(cold, _)| cold.state.load(Relaxed) != 0);
        used.map(|(cold, hot)| {
            format!(
                "ports {:08x} slot {} tcp {} hot flags {:#x} una {:#x} nxt {:#x} max {:#x} end {:#x} wnd {} rcv_nxt {:#x} read {:#x} timeouts {} cwnd {} rate {} srtt {}",
                cold.ports.load(Relaxed),
                cold.state.load(Relaxed),
                cold.tcp_state.load(Relaxed),
                hot.flags.load(Relaxed),
                hot.snd_una.load(Relaxed),
                hot.snd_nxt.load(Relaxed),
                hot.snd_max.load(Relaxed),
                hot.snd_end.load(Relaxed),
                hot.snd_wnd.load(Relaxed),
                hot.rcv_nxt.load(Relaxed),
                hot.rcv_read.load(Relaxed),
                cold.timeouts.load(Relaxed),
                hot.cwnd_bytes.load(Relaxed),
                hot.rate_kbps.load(Relaxed),
                cold.srtt_us.load(Relaxed),
            )
        })
        .collect()
    }

    /// Flow slots in use.
    pub fn flows_used(&mut self) -> u32 {
        self.slow_status().map_or(u32::MAX, |status| status.flows_used)
    }

    /// What the slow path says of itself.
    pub fn slow_status(&self) -> Option<Status> {
        let mut status = Message::new(Op::Status, 0);
        self.ask(&mut status).ok().map(|()| status.get::<Status>())
    }

    /// Whether connections, half-open ones or ones in TIME-WAIT are left: a quick look before [`Self::slow_usage`].
    pub fn has_connections(&self) -> bool {
        let left = |status: Status| status.flows_used | status.half_open | status.time_wait != 0;
        self.slow_status().is_none_or(left)
    }

    /// What the slow path has in use.
    pub fn slow_usage(&self) -> Option<slowpath::Usage> {
        self.instance().stack().map(|stack| stack.usage())
    }

    /// What flows of the given applications hold of the fast path; `None` without one.
    pub fn fast_usage(&self, applications: &[u16]) -> Option<fastpath::Usage> {
        let mut cores = self.cores.iter();
        let mut all = cores.next()?.usage(applications);
        for core in cores {
            all.add_core(&core.usage(applications), core.kept_chunks(applications));
        }
        Some(all)
    }

    /// The TCP state of a connection of this host ([`abi::message::tcp_state`]).
    pub fn state_of(&self, local_port: u16, remote: (u32, u16)) -> u32 {
        let local = self.config.name(self.config.ipv4, local_port);
        let remote = self.config.name(remote.0, remote.1);
        self.instance().stack().map_or(0, |stack| stack.state_of(&local, &remote))
    }
}
