// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who meddles with frames: a box in the middle that takes options out of SYNs, and somebody who forges.

use crate::{
    observer::{Flow, Key},
    plan::{Forge, Strip},
    random::Random,
    segment::{
        flag, ipv6_of, is_ipv6, tcp_offset, write_icmp_checksum, write_tcp_checksum, Forged, ETHERNET_BYTES,
    },
};

/// Overwrites options of a SYN with NOPs. True: something was there.
pub(crate) fn strip(frame: &mut [u8], what: &Strip) -> bool {
    let offset = tcp_offset(frame);
    let header = usize::from(frame[offset + 12] >> 4) * 4;
    let mut changed = false;
    let mut at = offset + 20;
    let end = offset + header;
    while at < end && frame[at] != 0 {
        if frame[at] == 1 {
            at += 1;
            continue;
        }
        let length = usize::from(frame[at + 1]).max(2);
        let gone = match frame[at] {
            3 => what.window_scale,
            4 => what.sack,
            8 => what.timestamps,
            34 => what.fast_open,
            _ => false,
        };
        if gone {
            frame[at..at + length].fill(1);
            changed = true;
        }
        if let (2, Some(most)) = (frame[at], what.mss) {
            let mss = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
            if mss > most {
                frame[at + 2..at + 4].copy_from_slice(&most.to_be_bytes());
                changed = true;
            }
        }
        at += length;
    }
    if changed {
        write_tcp_checksum(frame);
    }
    changed
}

/// Address of the router on the way.
const ROUTER: u32 = 0x0a00_00fe;

/// What a router says of a frame that it cannot pass on: ICMP "fragmentation needed" (RFC 792, RFC 1191 §4) or ICMPv6
/// "packet too big" (RFC 4443 §3.2) with the IP header and the first eight bytes behind it.
pub(crate) fn too_big(frame: &[u8], mtu_bytes: u32) -> Vec<u8> {
    let quoted = &frame[ETHERNET_BYTES..tcp_offset(frame) + 8];
    // Back to whoever sent it; the peer's MAC address stands for the router's.
    let mut answer = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
    let icmp = 8 + quoted.len();
    if is_ipv6(frame) {
        answer.extend([0x60, 0, 0, 0, 0, icmp as u8, 58, 64]);
        answer.extend(ipv6_of(ROUTER).iter().flat_map(|word| word.to_be_bytes()));
        answer.extend(&quoted[8..24]);
        answer.extend([2, 0, 0, 0]);
    } else {
        answer.extend([0x45, 0, 0, 20 + icmp as u8, 0, 0, 0x40, 0, 64, 1, 0, 0]);
        answer.extend(ROUTER.to_be_bytes());
        answer.extend(&quoted[12..16]);
        answer.extend([3, 4, 0, 0]);
    }
    answer.extend(mtu_bytes.to_be_bytes());
    answer.extend(quoted);
    write_icmp_checksum(&mut answer);
    answer
}

/// Far outside of every window.
const FAR: i64 = 0x3000_0000;

/// A forged segment to host `to`, pretending to be of a connection that the wire saw.
pub(crate) fn forge(
    what: Forge,
    to: usize,
    macs: [[u8; 6]; 2],
    (addresses, ipv6): ([u32; 2], bool),
    (key, flow): (Key, &Flow),
    random: &mut Random,
) -> Vec<u8> {
    let from = 1 - to;
    let ports = [key.0, key.1];
    let (theirs, ours) = (&flow.halves[from], &flow.halves[to]);
    let next = theirs.prefix;
    let inside = next + 1 + random.below(1000) as i64;
    let (flags, seq, ack, payload_bytes) = match what {
        Forge::ResetOutside => (flag::RST, next + FAR, ours.end, 0),
        Forge::ResetInside => (flag::RST, inside, ours.end, 0),
        Forge::ResetExact => (flag::RST, next, ours.end, 0),
        Forge::Syn => (flag::SYN, random.next() as u32 as i64, 0, 0),
        Forge::SynAck => (flag::SYN | flag::ACK, random.next() as u32 as i64, random.next() as u32 as i64, 0),
        // Beyond any window, so that it cannot have been sent when this arrives.
        Forge::AckAhead => (flag::ACK, next, ours.end.max(ours.edge_known) + 5000, 0),
        Forge::AckOld => (flag::ACK, next, ours.acked - 1 - random.below(1000) as i64, 0),
        Forge::DataOutside => (flag::ACK | flag::PSH, next + FAR, ours.prefix, 100),
        Forge::FinOutside => (flag::ACK | flag::FIN, next + FAR, ours.prefix, 0),
        Forge::Stray => (flag::ACK, random.next() as u32 as i64, random.next() as u32 as i64, 0),
    };
    let stray = what == Forge::Stray;
    Forged {
        ipv6,
        macs: [macs[to], macs[from]],
        source: (addresses[from], if stray { 1 } else { ports[from] }),
        destination: (addresses[to], ports[to]),
        seq: theirs.sequence(seq),
        ack: ours.sequence(ack),
        flags,
        window: 0,
        timestamps: theirs.last_timestamp.filter(|_| flags & flag::SYN == 0).map(|value| (value, 0)),
        payload_bytes,
    }
    .frame()
}
