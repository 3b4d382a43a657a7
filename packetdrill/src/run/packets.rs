// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segments to and from the host.

use super::{connection::Connection, world, Runner};
use crate::{
    script::{EcnSpec, IcmpSpec, PacketSpec},
    wire::{self, flag, Ecn, Manner, Parsed, Path, Segment, TcpOption, ANY_SHIFT},
};

/// Ports where the script names none: the host's, and the peer's.
pub(super) const LOCAL_PORT: u16 = 8080;
const REMOTE_PORT: u16 = 4000;

impl Runner<'_> {
    /// The connection of a packet from the peer; made if there is none.
    fn connection_for(&mut self, port: Option<u16>) -> usize {
        let known = match port {
            None => self.current,
            Some(port) => self.connections.iter().rposition(|known| known.remote_port == port),
        };
        let index = known.unwrap_or_else(|| {
            self.connections.push(Connection::new(port.unwrap_or(REMOTE_PORT), LOCAL_PORT));
            self.connections.len() - 1
        });
        if self.current.is_none() {
            self.current = Some(index);
        }
        index
    }

    /// `<`
    ///
    /// # Errors
    /// It is larger than the MTU.
    pub(super) fn send_packet(&mut self, packet: &PacketSpec) -> Result<(), String> {
        let index = self.connection_for(packet.port);
        let mut packet = packet.clone();
        for option in &mut packet.segment.options {
            if *option == TcpOption::AnyFastOpen {
                let cookie = self.cookie.clone().ok_or("FO *: the host has given no cookie yet")?;
                *option = TcpOption::FastOpen(cookie);
            }
        }
        let connection = &mut self.connections[index];
        let segment = connection.outgoing(&packet.segment);
        let payload = connection.payload(&packet.segment);
        let path = self.world.path(connection.remote_port, connection.local_port);
        let manner = Manner { bad_checksum: packet.bad_checksum, ip_options: packet.ip_options };
        self.say(&format!("< {}", packet.segment));
        let frame = wire::encode(&path, &segment, &payload, manner);
        let (bytes, mtu_bytes) = (frame.len() - wire::ETHERNET_BYTES, self.settings.mtu_bytes);
        if bytes > mtu_bytes as usize {
            return Err(format!("a datagram of {bytes} bytes is larger than the MTU of {mtu_bytes}"));
        }
        self.world.inject(&frame);
        Ok(())
    }

    /// `< icmp`
    pub(super) fn send_icmp(&mut self, icmp: &IcmpSpec) {
        let index = self.connection_for(icmp.port);
        let connection = &self.connections[index];
        let path = self.world.path(connection.remote_port, connection.local_port);
        let quoted_path = Path {
            source: path.destination,
            destination: path.source,
            source_port: path.destination_port,
            destination_port: path.source_port,
            ..path
        };
        let (seq, bytes) = icmp.quoted.unwrap_or((0, 0));
        let seq = connection.to_wire(seq);
        self.say(&format!("< icmp type {} code {}", icmp.kind, icmp.code));
        let frame = wire::encode_icmp(&path, &quoted_path, icmp.kind, icmp.code, icmp.mtu, seq, bytes);
        self.world.inject(&frame);
    }

    /// A segment of the host's in the script's numbers.
    pub(super) fn shown(&self, parsed: &Parsed) -> String {
        let connection = self.connection_of(&parsed.path).map(|index| &self.connections[index]);
        let segment = connection.map_or(parsed.segment.clone(), |known| known.incoming(&parsed.segment));
        segment.to_string()
    }

    fn connection_of(&self, path: &Path) -> Option<usize> {
        self.connections.iter().rposition(|known| {
            known.remote_port == path.destination_port && known.local_port == path.source_port
        })
    }

    /// `>`: waits for the next segment of the host's, and compares. When it was sent.
    pub(super) fn expect_packet(
        &mut self,
        packet: &PacketSpec,
        from_us: Option<u64>,
        limit_us: u64,
    ) -> Result<u64, String> {
        let tolerance_us = self.settings.tolerance_us;
        self.settle()?;
        while self.world.sent.is_empty() {
            if self.world.now_us() > limit_us + tolerance_us {
                return Err(format!("nothing was sent; expected: {}", written(packet)));
            }
            self.step(limit_us + tolerance_us + 1)?;
        }
        let Some(sent) = self.world.sent.pop_front() else {
            return Err("nothing was sent".to_owned());
        };
        let compared = self.compare(packet, &sent.parsed, sent.at_us);
        let shown = self.shown(&sent.parsed);
        let line = format!("{} > {shown}", self.seconds(sent.at_us));
        (self.verbose)(&line);
        compared.map_err(|what| format!("{what}\n  expected: {}\n  got:      {shown}", written(packet)))?;
        let early = from_us.is_some_and(|from_us| sent.at_us + tolerance_us < from_us);
        if early || sent.at_us > limit_us + tolerance_us {
            return Err(format!(
                "sent at {}, expected at {}{}: {shown}",
                self.seconds(sent.at_us),
                self.seconds(from_us.unwrap_or(limit_us)),
                if from_us == Some(limit_us) {
                    String::new()
                } else {
                    format!(" to {}", self.seconds(limit_us))
                },
            ));
        }
        Ok(sent.at_us)
    }

    fn compare(&mut self, packet: &PacketSpec, sent: &Parsed, at_us: u64) -> Result<(), String> {
        let path = &sent.path;
        if path.source != world::LOCAL || path.destination != world::REMOTE {
            return Err("the addresses are not the connection's".to_owned());
        }
        let Some(index) = self.connection_of(path) else {
            return Err(format!("no connection from port {} to {}", path.source_port, path.destination_port));
        };
        let wanted = match packet.port {
            Some(port) => self.connections.iter().rposition(|known| known.remote_port == port),
            None => self.current,
        };
        if wanted != Some(index) {
            return Err(format!("a segment of another connection, to port {}", path.destination_port));
        }
        if !sent.dont_fragment || sent.ttl == 0 {
            return Err("the IPv4 header has a TTL of 0, or not DF (RFC 1191)".to_owned());
        }
        for option in &sent.segment.options {
            if let TcpOption::FastOpen(cookie) = option {
                self.cookie = (!cookie.is_empty()).then(|| cookie.clone()).or(self.cookie.take());
            }
        }
        let (tick_us, tolerance_us) = (self.settings.tick_us, self.settings.tolerance_us);
        let connection = &mut self.connections[index];
        connection.notice(&sent.segment, &packet.segment);
        let got = connection.incoming(&sent.segment);
        compare_header(packet, &got)?;
        compare_ecn(packet.ecn, got.ecn)?;
        if let Some((wire, script)) = timestamps(&got).zip(timestamps(&packet.segment)) {
            connection.stamp(script.0, wire.0, at_us, tick_us, tolerance_us)?;
        }
        if !packet.any_options {
            compare_options(&packet.segment, &got)?;
        }
        // Data on a SYN lies behind it.
        let syn = u32::from(sent.segment.flags & flag::SYN != 0);
        connection.check_payload(sent.segment.seq.wrapping_add(syn), &sent.payload)
    }
}

/// A packet as the script has it.
fn written(packet: &PacketSpec) -> String {
    let text = packet.segment.to_string();
    let text = if packet.has_window { text } else { text.replacen(" win 0", "", 1) };
    if packet.any_options {
        format!("{text} <...>")
    } else {
        text
    }
}

fn timestamps(segment: &Segment) -> Option<(u32, u32)> {
    segment.options.iter().find_map(|option| match option {
        TcpOption::Timestamps(value, echo) => Some((*value, *echo)),
        _ => None,
    })
}

fn compare_header(packet: &PacketSpec, got: &Segment) -> Result<(), String> {
    let wanted = &packet.segment;
    let urgent = wanted.flags & flag::URG == 0 || wanted.urgent == got.urgent;
    let rules = [
        (wanted.flags == got.flags, "the flags differ"),
        (wanted.seq == got.seq, "the sequence number differs"),
        (wanted.bytes == got.bytes, "the length differs"),
        (wanted.ack == got.ack, "the acknowledgement number differs"),
        (!packet.has_window || wanted.window == got.window, "the window differs"),
        (urgent, "the urgent pointer differs"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err((*what).to_owned()))
}

fn compare_ecn(wanted: Option<EcnSpec>, got: Ecn) -> Result<(), String> {
    let holds = match wanted {
        None => true,
        Some(EcnSpec::Is(mark)) => mark == got,
        Some(EcnSpec::Capable) => matches!(got, Ecn::Ect0 | Ecn::Ect1),
    };
    if holds {
        Ok(())
    } else {
        Err(format!("the congestion mark is {got:?}"))
    }
}

/// Which options there are, whatever their order and padding. The TSval was compared before.
fn compare_options(wanted: &Segment, got: &Segment) -> Result<(), String> {
    let any_shift = wanted.options.contains(&TcpOption::WindowScale(ANY_SHIFT));
    let any_cookie = wanted.options.contains(&TcpOption::AnyFastOpen);
    let essence = |segment: &Segment| {
        let mut options: Vec<String> = segment
            .options
            .iter()
            .filter(|option| !matches!(option, TcpOption::Nop | TcpOption::End))
            .map(|option| match option {
                TcpOption::Timestamps(_, echo) => format!("TS ecr {echo}"),
                TcpOption::WindowScale(_) if any_shift => "wscale *".to_owned(),
                TcpOption::FastOpen(cookie) if any_cookie && !cookie.is_empty() => "FO *".to_owned(),
                other => other.to_string(),
            })
            .collect();
        options.sort();
        options
    };
    let (wanted, got) = (essence(wanted), essence(got));
    if wanted == got {
        Ok(())
    } else {
        Err(format!("the options differ: expected <{}>, got <{}>", wanted.join(","), got.join(",")))
    }
}
