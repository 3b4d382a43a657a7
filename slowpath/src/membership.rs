// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Multicast Listener Discovery (RFC 3810), the listener's part: switches that snoop forward solicitations to those
//! only who have said that they listen to the group. The groups are those of our addresses (RFC 4861 §7.2.1).

use crate::{
    counters::Counter,
    stack::Stack,
    timers::Timer,
    wire::{
        address::Address,
        discovery::solicited_node,
        ethernet, ipv6,
        membership::{self, has_router_alert, Query, Record},
    },
};
use abi::{flow::NONE, kernel_ring::to_fast};

/// Robustness variable (RFC 3810 §9.1): how often a change is told.
const ROBUSTNESS: u8 = 2;
/// Unsolicited report interval (RFC 3810 §9.11), microseconds.
const UNSOLICITED_US: u32 = 1_000_000;
/// Longest delay of an answer that fits the random choice, microseconds; RFC 3810 §9.3 has 10 s as the default.
const ANSWER_MAX_US: u64 = 3_600_000_000;

/// What is owed to routers and switches.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Membership {
    /// How often it is still to be told that we listen.
    joins: u8,
    answer: Answer,
    /// When the timer expires, if anything is owed.
    due_us: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    None,
    V1,
    V2,
}

impl Membership {
    fn owes(&self) -> bool {
        self.joins > 0 || self.answer != Answer::None
    }
}

impl Stack<'_> {
    /// Tells that we listen to the groups of our addresses.
    pub(crate) fn join_groups(&mut self) {
        self.membership = Membership { joins: ROBUSTNESS, ..Membership::default() };
        self.membership_timer();
    }

    /// A query, its checksum verified.
    pub(crate) fn membership_query(&mut self, ip: &ipv6::Ipv6, frame: &[u8], message: &[u8]) {
        let packet = frame.get(ethernet::HEADER_BYTES..).unwrap_or_default();
        let proper =
            ip.source.is_link_local() && ip.hop_limit == membership::HOP_LIMIT && has_router_alert(packet);
        let Some(query) = Query::parse(message).filter(|_| proper) else {
            self.counters.add(Counter::Malformed);
            return;
        };
        let (groups, count) = self.groups();
        let concerned = groups.get(..count).unwrap_or_default();
        if concerned.is_empty() || !(query.group.is_unspecified() || concerned.contains(&query.group)) {
            return;
        }
        // RFC 3810 §6.2: at a random time, or when another answer is due if that is earlier.
        self.membership.answer = if query.is_v1 { Answer::V1 } else { Answer::V2 };
        let delay_us = self.random.below(query.within_us.min(ANSWER_MAX_US) as u32);
        let due_us = self.now_us.saturating_add(delay_us as u64);
        let pending = self.membership.due_us > self.now_us;
        if !pending || due_us < self.membership.due_us {
            self.membership.due_us = due_us;
            self.set_timer(Timer::Membership, delay_us as u64);
        }
    }

    /// Tells what is due.
    pub(crate) fn membership_timer(&mut self) {
        let owed = self.membership;
        self.membership.answer = Answer::None;
        if owed.joins > 0 {
            self.report_groups(Record::Joined);
            self.membership.joins = owed.joins.saturating_sub(1);
        }
        match owed.answer {
            Answer::None => {}
            Answer::V1 => self.report_groups_v1(),
            Answer::V2 => self.report_groups(Record::Listening),
        }
        if self.membership.owes() {
            let delay_us = self.random.below(UNSOLICITED_US) as u64;
            self.membership.due_us = self.now_us.saturating_add(delay_us);
            self.set_timer(Timer::Membership, delay_us);
        }
    }

    /// The groups of our addresses, and how many they are.
    fn groups(&self) -> ([Address; 2], usize) {
        let mut groups = [Address::UNSPECIFIED; 2];
        let mut count = 0usize;
        for address in [self.config.link_local_v6(), self.config.global_v6()].into_iter().flatten() {
            let group = solicited_node(&address);
            if !address.is_unspecified() && !groups.contains(&group) {
                if let Some(slot) = groups.get_mut(count) {
                    *slot = group;
                    count = count.wrapping_add(1);
                }
            }
        }
        (groups, count)
    }

    /// Source of reports: the link-local address, once it is sure to be ours (RFC 3590 §4).
    fn report_source(&self) -> Address {
        match self.config.link_local_v6() {
            Some(address) if self.owns(&address) && !self.detects_duplicates() => address,
            _ => Address::UNSPECIFIED,
        }
    }

    fn report_groups(&mut self, record: Record) {
        let (groups, count) = self.groups();
        let (mac, source) = (self.config.mac, self.report_source());
        match groups.get(..count) {
            None | Some([]) => {}
            Some(groups) => {
                self.send_report(|frame| membership::write(frame, mac, &source, record, groups));
            }
        }
    }

    fn report_groups_v1(&mut self) {
        let (groups, count) = self.groups();
        let (mac, source) = (self.config.mac, self.report_source());
        for group in groups.iter().take(count) {
            self.send_report(|frame| membership::write_v1(frame, mac, &source, group));
        }
    }

    fn send_report(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let Some(id) = self.new_frame() else { return };
        let length = write(self.frame_bytes.at_mut(id));
        self.counters.add(Counter::MembershipReports);
        self.send(0, id, to_fast::TRANSMIT, NONE, length);
    }
}
