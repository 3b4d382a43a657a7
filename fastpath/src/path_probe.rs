// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probing for a larger path MTU (RFC 4821 §7, RFC 8899): one segment longer than the MSS, when the slow path asks for it.
//! Its loss tells of the path and not of congestion. A flow that is not asked costs nothing.

use crate::{
    core::Core,
    flow::Flow,
    port::{Port, Steer},
    private::bit,
    scoreboard::Board,
    word::Word,
};
use abi::{
    flow::hot_flags,
    kernel_ring::{to_slow, KernelEntry},
};
use std::collections::HashMap;

/// Full segments that must follow a probe, so that its loss is found without a timeout (RFC 8985 §6.2: three).
const FOLLOWERS: u64 = 3;

/// Probes asked for and in flight. At most one per flow.
#[derive(Default)]
pub(crate) struct PathProbes {
    flows: HashMap<u32, Probe>,
}

#[derive(Clone, Copy)]
enum Probe {
    /// To be sent, with so many bytes.
    Asked(u64),
    /// In flight, from … to.
    Sent(u64, u64),
}

/// Whether a probe is to be sent now.
pub(crate) enum Wanted {
    /// No.
    No,
    /// As soon as the windows have room for it, which acknowledgements will make.
    Soon,
    /// With so many bytes.
    Now(u64),
}

impl PathProbes {
    /// Forgets a flow's probe.
    pub(crate) fn forget(&mut self, flow: u32) {
        self.flows.remove(&flow);
    }
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// The slow path asks for a probe with `bytes` of payload.
    pub(crate) fn ask_path_probe(&mut self, flow: Flow<'m>, bytes: u64) {
        if matches!(self.path_probes.flows.get(&flow.id), Some(Probe::Asked(_))) {
            return;
        }
        self.drop_path_probe(flow);
        let fits = bytes > u64::from(flow.mss()) && bytes <= u64::from(flow.mss_room(self.config.mtu_bytes));
        if !fits || !flow.has(hot_flags::SACK) || self.private[flow.id as usize].has(bit::RESEND) {
            return;
        }
        self.path_probes.flows.insert(flow.id, Probe::Asked(bytes));
        // What leads the scheduler away from the hot path.
        self.private[flow.id as usize].bits |= bit::RESEND;
        self.schedule(flow);
    }

    /// The flow's probe, if it has one, is not to be sent, or counts as failed.
    pub(crate) fn drop_path_probe(&mut self, flow: Flow<'m>) {
        if flow.has(hot_flags::PATH_PROBE) {
            flow.clear(hot_flags::PATH_PROBE);
        }
        self.path_probes.forget(flow.id);
    }

    /// Whether a probe leaves next. One that cannot leave with enough behind it is not sent at all.
    pub(crate) fn path_probe_wanted(&mut self, flow: Flow<'m>) -> Wanted {
        let Some(Probe::Asked(bytes)) = self.path_probes.flows.get(&flow.id).copied() else {
            return Wanted::No;
        };
        let hot = flow.hot;
        let (una, nxt, max) = (hot.snd_una.get(), hot.snd_nxt.get(), hot.snd_max.get());
        let windows = u64::from(hot.cwnd_bytes.get().min(hot.snd_wnd.get()));
        let needed = bytes + FOLLOWERS * u64::from(flow.mss());
        let disorder = flow.has(hot_flags::DISORDER | hot_flags::RECOVERY | hot_flags::FIN_QUEUED);
        if disorder || nxt != max || hot.snd_end.get().saturating_sub(nxt) < needed || windows < needed {
            self.path_probes.forget(flow.id);
            if !flow.has(hot_flags::SCOREBOARD | hot_flags::RECOVERY) {
                // Set for the probe alone.
                self.private[flow.id as usize].bits &= !bit::RESEND;
            }
            return Wanted::No;
        }
        if una.wrapping_add(windows).saturating_sub(nxt) < bytes {
            return Wanted::Soon;
        }
        Wanted::Now(bytes)
    }

    /// The probe leaves, as `start..end`.
    pub(crate) fn path_probe_sent(&mut self, flow: Flow<'m>, start: u64, end: u64) {
        let Some(Probe::Asked(bytes)) = self.path_probes.flows.get(&flow.id).copied() else {
            return;
        };
        if bytes != end - start {
            return;
        }
        self.path_probes.flows.insert(flow.id, Probe::Sent(start, end));
        self.private[flow.id as usize].bits &= !bit::RESEND;
        flow.set(hot_flags::PATH_PROBE);
        self.kernel.report(KernelEntry {
            op: to_slow::PATH_PROBE,
            flow: flow.id,
            value: end,
            ..KernelEntry::default()
        });
    }

    /// True if all that counts as lost is the probe: it is sent again in segments that pass, and no window shrinks
    /// (RFC 4821 §7.5). A probe that is lost with others says nothing, and counts as failed.
    pub(crate) fn is_path_probe_lost(&mut self, flow: Flow<'m>, board: &Board) -> bool {
        let Some(Probe::Sent(start, end)) = self.path_probes.flows.get(&flow.id).copied() else {
            return false;
        };
        if flow.hot.snd_una.get() >= end {
            self.path_probes.forget(flow.id);
            return false;
        }
        self.drop_path_probe(flow);
        board.has_lost_only(start, end)
    }
}
