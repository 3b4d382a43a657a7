// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Neighbor Discovery (RFC 4861): asking for an IPv6 neighbour, answering for ourselves, and asking once whether
//! somebody else has our addresses (RFC 4862 §5.4). Routers are configured: their advertisements, and redirects,
//! change nothing here.

use crate::{
    counters::Counter,
    neighbors::Reach,
    stack::Stack,
    wire::{
        address::Address,
        discovery::{
            group_mac, solicited_node, Discovery, ADVERTISEMENT, ALL_NODES, OVERRIDE, SOLICITATION, SOLICITED,
        },
        ethernet,
        ethernet::Ethernet,
        ipv6::{Ipv6, HOP_LIMIT_LINK},
    },
};
use abi::{flow::NONE, kernel_ring::to_fast};

/// How long after a fast path attached an objection to our addresses counts: DupAddrDetectTransmits (1) times
/// RetransTimer (1 s) of RFC 4862 §5.1. The addresses are in use meanwhile (RFC 4429).
const DETECTION_US: u64 = 1_000_000;

/// Detection of duplicates of the local addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Duplicates {
    until_us: u64,
    global: bool,
    link_local: bool,
}

impl Stack<'_> {
    /// Whether an address is ours and nobody else's.
    pub(crate) fn owns(&self, address: &Address) -> bool {
        let duplicate =
            if address.is_link_local() { self.duplicates.link_local } else { self.duplicates.global };
        self.config.is_local(address) && (address.is_v4() || !duplicate)
    }

    /// Asks whether somebody has our addresses; without `anew` they have been ours all along.
    pub(crate) fn detect_duplicates(&mut self, anew: bool) {
        if !anew {
            self.join_groups();
            return;
        }
        self.duplicates =
            Duplicates { until_us: self.now_us.saturating_add(DETECTION_US), ..Default::default() };
        // First, or no objection would be heard (RFC 4862 §5.4.2).
        self.join_groups();
        for target in [self.config.link_local_v6(), self.config.global_v6()].into_iter().flatten() {
            let probe = Discovery { kind: SOLICITATION, flags: 0, target, link: None };
            let group = solicited_node(&target);
            self.send_discovery(0, &probe, group_mac(&group), &Address::UNSPECIFIED, &group);
        }
    }

    /// Whether nobody has had the time yet to object to our addresses.
    pub(crate) fn detects_duplicates(&self) -> bool {
        self.now_us < self.duplicates.until_us
    }

    /// Somebody else has, or wants, an address of ours.
    fn note_duplicate(&mut self, target: &Address) {
        self.counters.add(Counter::DuplicateAddresses);
        if self.detects_duplicates() {
            if target.is_link_local() {
                self.duplicates.link_local = true;
            } else {
                self.duplicates.global = true;
            }
        }
    }

    /// Asks for an IPv6 neighbour: those whose address ends like its, or `known` whether it still is the one.
    pub(crate) fn send_solicitation(&mut self, target: &Address, known: Option<u64>) {
        let Some(source) = self.config.local_for(target) else { return };
        let group = solicited_node(target);
        let (mac, destination) = match known {
            Some(mac) => (mac, *target),
            None => (group_mac(&group), group),
        };
        let link = Some(self.config.mac);
        let message = Discovery { kind: SOLICITATION, flags: 0, target: *target, link };
        self.send_discovery(0, &message, mac, &source, &destination);
    }

    fn send_discovery(
        &mut self,
        core: u32,
        message: &Discovery,
        mac: u64,
        source: &Address,
        destination: &Address,
    ) {
        let macs = Ethernet { destination: mac, source: self.config.mac, ethertype: ethernet::IPV6 };
        let Some(id) = self.new_frame() else { return };
        let length = message.write(self.frame_bytes.at_mut(id), &macs, source, destination);
        self.counters.add(Counter::DiscoverySent);
        self.send(core, id, to_fast::TRANSMIT, NONE, length);
    }

    /// A message of Neighbor Discovery, its checksum verified.
    pub(crate) fn discovery_input(&mut self, core: u32, header: &Ethernet, ip: &Ipv6, message: &[u8]) {
        let parsed = Discovery::parse(message).filter(|_| ip.hop_limit == HOP_LIMIT_LINK);
        let Some(discovery) = parsed else {
            self.counters.add(Counter::Malformed);
            return;
        };
        // Our own, that a switch or the port gave back.
        if header.source == self.config.mac {
            return;
        }
        if discovery.kind == SOLICITATION {
            self.solicited(core, header, ip, &discovery);
        } else {
            self.advertised(ip, &discovery);
        }
    }

    /// A solicitation (RFC 4861 §7.1.1, §7.2.3).
    fn solicited(&mut self, core: u32, header: &Ethernet, ip: &Ipv6, asked: &Discovery) {
        let probe = ip.source.is_unspecified();
        if probe && (asked.link.is_some() || ip.destination != solicited_node(&asked.target)) {
            self.counters.add(Counter::Malformed);
            return;
        }
        if !self.config.is_local(&asked.target) {
            return;
        }
        if probe {
            self.note_duplicate(&asked.target);
        } else if !self.config.is_host(&ip.source) || !self.is_on_link(&ip.source) {
            return;
        }
        let told = asked.link.filter(|mac| mac & ethernet::GROUP == 0 && *mac != 0);
        if let Some(mac) = told {
            // Whoever asks for us is about to talk to us.
            if let Some(id) = self.find_neighbor(&ip.source).or_else(|| self.new_neighbor(&ip.source)) {
                self.learn(id, mac);
            }
        }
        if !self.owns(&asked.target) || !self.answers.allow(self.now_us) {
            return;
        }
        let flags = if probe { OVERRIDE } else { SOLICITED | OVERRIDE };
        let link = Some(self.config.mac);
        let answer = Discovery { kind: ADVERTISEMENT, flags, target: asked.target, link };
        let (mac, destination) = if probe {
            (group_mac(&ALL_NODES), ALL_NODES)
        } else {
            (told.unwrap_or(header.source), ip.source)
        };
        self.send_discovery(core, &answer, mac, &asked.target, &destination);
    }

    /// An advertisement (RFC 4861 §7.1.2, §7.2.5): it confirms or changes what is asked for, and makes no entry.
    fn advertised(&mut self, ip: &Ipv6, told: &Discovery) {
        let solicited = told.flags & SOLICITED != 0;
        if solicited && ip.destination.is_multicast_v6() {
            self.counters.add(Counter::Malformed);
            return;
        }
        if self.config.is_local(&told.target) {
            self.note_duplicate(&told.target);
            return;
        }
        let Some(id) = self.find_neighbor(&told.target) else { return };
        let entry = *self.neighbors.at(id);
        let link = told.link.filter(|mac| mac & ethernet::GROUP == 0 && *mac != 0);
        match (entry.reach, link) {
            (Reach::Asking, Some(mac)) => self.learn(id, mac),
            (Reach::Asking | Reach::Free, _) => {}
            (_, Some(mac)) if mac != entry.mac => {
                if told.flags & OVERRIDE != 0 {
                    self.learn(id, mac);
                } else {
                    self.suspect_neighbor(id);
                }
            }
            // The answer to a question to this neighbour alone needs no address.
            _ if solicited => self.learn(id, entry.mac),
            _ => {}
        }
    }
}
