// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an observer on the wire can check without knowing the stack: form, windows, acknowledgements,
//! repeated bytes, rates.

mod half;

use crate::{
    plan::Strip,
    segment::{flag, parse, Parsed, Segment, ETHERNET_BYTES},
};
pub(crate) use half::Half;
use std::collections::BTreeMap;

/// Port on the first host, port on the second.
pub(crate) type Key = (u16, u16);

/// One connection as the wire shows it; `halves[h]` is the stream that host `h` sends.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) halves: [Half; 2],
    /// The stream of a host as its SYN-ACK before the last began it: a SYN cookie, perhaps, that is still on its way.
    earlier: Option<(usize, Half)>,
    /// An RST passed: nothing is checked any more but form.
    pub(crate) over: bool,
    /// One of its applications lies.
    pub(crate) untrusted: bool,
}

impl Flow {
    fn both(&self, has: impl Fn(&Half) -> bool) -> bool {
        has(&self.halves[0]) && has(&self.halves[1])
    }
    /// Host `h` sends a segment behind its SYN-ACKs, or its peer acknowledges one of them: which of them counts.
    fn settle(&mut self, h: usize, seq: u32) {
        let Some((_, earlier)) = self.earlier.as_mut().filter(|(of, _)| *of == h) else {
            return;
        };
        if earlier.begins_near(seq) && !self.halves[h].begins_near(seq) {
            std::mem::swap(earlier, &mut self.halves[h]);
        }
    }
    /// The shift of windows that host `h` advertises.
    fn shift(&self, h: usize) -> u32 {
        if self.both(|half| half.shift.is_some()) {
            u32::from(self.halves[h].shift.unwrap_or(0))
        } else {
            0
        }
    }
}

/// What was seen of a frame that was sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The connection.
    pub(crate) key: Option<Key>,
    /// It was sent before.
    pub(crate) again: bool,
    /// It advertises a window of zero.
    pub(crate) zero_window: bool,
    /// The box in the middle took something out.
    pub(crate) stripped: bool,
}

/// See the module.
pub(crate) struct Observer {
    pub(crate) flows: BTreeMap<Key, Flow>,
    addresses: [u32; 2],
    mtu_bytes: [usize; 2],
    /// Bytes per second that each host's connections may send, if their rate is constant.
    rate: [Option<u64>; 2],
    strip: Strip,
    /// A fast path was killed: what it had counted as sent may never have left.
    pub(crate) may_skip: [bool; 2],
}

fn complain<T>(host: usize, segment: &Segment, what: &str) -> Result<T, String> {
    Err(format!(
        "host {host} sent {what}: port {} to {}, seq {:#x} ack {:#x} flags {:#x} window {} payload {}",
        segment.source.1,
        segment.destination.1,
        segment.seq,
        segment.ack,
        segment.flags,
        segment.window,
        segment.payload_bytes
    ))
}

impl Observer {
    pub(crate) fn new(
        addresses: [u32; 2],
        mtu_bytes: [usize; 2],
        rate_kbps: [Option<u64>; 2],
        strip: Strip,
    ) -> Self {
        let rate = rate_kbps.map(|kbps| kbps.map(|kbps| kbps * 125));
        Self { flows: BTreeMap::new(), addresses, mtu_bytes, rate, strip, may_skip: [false; 2] }
    }

    fn key(h: usize, segment: &Segment) -> Key {
        if h == 0 {
            (segment.source.1, segment.destination.1)
        } else {
            (segment.destination.1, segment.source.1)
        }
    }

    /// Host `h` sent a frame, which the box in the middle may change.
    pub(crate) fn sent(&mut self, h: usize, now_us: u64, frame: &mut [u8]) -> Result<Seen, String> {
        if frame.len() > self.mtu_bytes[h] + ETHERNET_BYTES {
            return Err(format!("host {h} sent {} bytes over an MTU of {}", frame.len(), self.mtu_bytes[h]));
        }
        let mut segment = match parse(frame) {
            Parsed::Malformed(what) => return Err(format!("host {h} sent a malformed frame: {what}")),
            Parsed::Other => return Ok(Seen::default()),
            Parsed::Tcp(segment) => segment,
        };
        if (segment.source.0, segment.destination.0) != (self.addresses[h], self.addresses[1 - h]) {
            return complain(h, &segment, "from or to a wrong address");
        }
        let mut seen = Seen { key: Some(Self::key(h, &segment)), ..Seen::default() };
        if segment.has(flag::SYN) {
            if crate::meddler::strip(frame, &self.strip) {
                seen.stripped = true;
                let Parsed::Tcp(changed) = parse(frame) else {
                    return Err("the box in the middle broke a SYN".to_owned());
                };
                segment = changed;
            }
            seen.again = self.syn_sent(h, &segment, frame)?;
            return Ok(seen);
        }
        let may_skip = self.may_skip[h];
        let rate = self.rate[h];
        let mtu = self.mtu_bytes[h] as u64;
        let Some(flow) = self.flows.get_mut(&Self::key(h, &segment)) else {
            return Ok(seen);
        };
        if segment.has(flag::RST) || flow.over || flow.untrusted || !flow.both(|half| half.open) {
            flow.over |= segment.has(flag::RST);
            // Who forges goes by what was sent even so.
            flow.halves[h].follow(&segment);
            return Ok(seen);
        }
        flow.settle(h, segment.seq);
        flow.settle(1 - h, segment.ack);
        seen.zero_window = segment.window == 0;
        options_agree(flow, h, &segment)?;
        acknowledges(flow, h, &segment)?;
        seen.again = sends(flow, h, &segment, frame, may_skip)?;
        if let (Some(rate), true) = (rate, segment.payload_bytes > 0) {
            let bytes = (segment.ip_bytes + ETHERNET_BYTES) as u64;
            if !flow.halves[h].within_rate(now_us, bytes, rate, mtu) {
                return complain(h, &segment, "faster than its rate");
            }
        }
        Ok(seen)
    }

    /// A SYN begins a connection, or the answer of its other half. True: it was sent before.
    fn syn_sent(&mut self, h: usize, segment: &Segment, frame: &[u8]) -> Result<bool, String> {
        let flow = self.flows.entry(Self::key(h, segment)).or_default();
        let payload = &frame[segment.payload_offset..segment.payload_offset + segment.payload_bytes];
        let earlier = flow.earlier.as_ref().is_some_and(|(of, half)| *of == h && half.iss == segment.seq);
        if earlier || (flow.halves[h].open && flow.halves[h].iss == segment.seq) {
            if !flow.halves[h].repeats(0, payload) {
                return complain(h, segment, "a SYN with other bytes than the first time");
            }
            return Ok(true);
        }
        if segment.has(flag::ACK) && !payload.is_empty() {
            return complain(h, segment, "data with a SYN-ACK");
        }
        if !segment.has(flag::ACK) {
            *flow = Flow { untrusted: flow.untrusted, ..Flow::default() };
        }
        if flow.over {
            // Answers to a forged SYN.
            return Ok(false);
        }
        if segment.has(flag::ACK) && flow.halves[h].open && flow.halves[h].end == 0 {
            flow.earlier = Some((h, std::mem::take(&mut flow.halves[h])));
        }
        let half = &mut flow.halves[h];
        if segment.has(flag::ACK) && half.open && (half.end > 0 || half.fin.is_some()) {
            // The answer to a SYN from before, which a stalled core sent late: two connections have one name now.
            flow.over = true;
            return Ok(false);
        }
        half.begin(segment);
        half.repeats(0, payload);
        half.end = payload.len() as i64;
        let other = &mut flow.halves[1 - h];
        other.edge_sent = 0;
        other.edge_known = 0;
        if segment.has(flag::ACK) && other.open {
            let taken = other.relative(segment.ack);
            if (1..=other.end).contains(&taken) && taken > other.prefix {
                return complain(h, segment, "an ACK of SYN data that did not arrive");
            }
            other.edge_sent = i64::from(segment.window) + taken.clamp(0, other.end);
            // With fast open its data may follow at once (RFC 7413 §4.2.2).
            let window = other.syn_window;
            flow.halves[h].edge_known = window;
        }
        Ok(false)
    }

    /// A frame reached host `to`'s port. None: the checksum refuses it, or it is not TCP.
    pub(crate) fn delivered(&mut self, to: usize, segment: &Segment) {
        let from = 1 - to;
        let Some(flow) = self.flows.get_mut(&Self::key(from, segment)) else {
            return;
        };
        if segment.has(flag::RST) {
            flow.over = true;
            return;
        }
        let shift = if segment.has(flag::SYN) { 0 } else { flow.shift(from) };
        if segment.has(flag::ACK) && flow.halves[to].open {
            let earlier = flow.earlier.as_mut().filter(|(of, _)| *of == to).map(|(_, half)| half);
            for half in earlier.into_iter().chain([&mut flow.halves[to]]) {
                half.acknowledged(segment.ack, i64::from(segment.window) << shift);
            }
        }
        let half = &mut flow.halves[from];
        if segment.has(flag::SYN) && half.open && half.iss == segment.seq {
            half.deliver(0, segment.payload_bytes as i64);
        }
        if segment.has(flag::SYN) || !half.open {
            return;
        }
        let start = half.relative(segment.seq);
        let end = start + i64::from(segment.length());
        if start >= 0 && end <= half.end + 1 && end > start {
            half.deliver(start, end);
        }
        if let Some((value, _)) = segment.timestamps {
            half.last_timestamp = Some(value);
        }
    }

    /// A fast path of host `h` was killed.
    pub(crate) fn killed(&mut self, h: usize) {
        self.may_skip[h] = true;
        for flow in self.flows.values_mut() {
            flow.halves[h].forget_rate();
        }
    }
}

/// What was negotiated is used, and nothing else (RFC 7323 §3.2, RFC 2018 §2).
fn options_agree(flow: &Flow, h: usize, segment: &Segment) -> Result<(), String> {
    if flow.both(|half| half.timestamps) != segment.timestamps.is_some() {
        return complain(h, segment, "timestamps against what was agreed");
    }
    if !segment.sack.is_empty() && !flow.both(|half| half.sack) {
        return complain(h, segment, "SACK that was not permitted");
    }
    let other = &flow.halves[1 - h];
    for (left, right) in &segment.sack {
        let (left, right) = (other.relative(*left), other.relative(*right));
        if left < 0 || left >= right || right > other.end + 1 {
            let what =
                format!("a SACK block {left}..{right} of bytes that were not sent (end {})", other.end);
            return complain(h, segment, &what);
        }
    }
    Ok(())
}

/// Acknowledgement and window: of what arrived, and never backwards (RFC 9293 §3.8.6.2.1).
fn acknowledges(flow: &mut Flow, h: usize, segment: &Segment) -> Result<(), String> {
    let shift = flow.shift(h);
    let other = &mut flow.halves[1 - h];
    let ack = other.relative(segment.ack);
    if ack > other.prefix {
        return complain(h, segment, &format!("an ACK of {} bytes that did not arrive", ack - other.prefix));
    }
    let edge = ack + (i64::from(segment.window) << shift);
    if !other.is_all_delivered() && edge + (1 << shift) <= other.edge_sent {
        return complain(h, segment, &format!("a window edge {} bytes back", other.edge_sent - edge));
    }
    other.edge_sent = other.edge_sent.max(edge);
    Ok(())
}

/// Sequence, window and bytes. True: all of it was sent before.
fn sends(flow: &mut Flow, h: usize, segment: &Segment, frame: &[u8], may_skip: bool) -> Result<bool, String> {
    let mss = i64::from(flow.halves[1 - h].mss);
    let half = &mut flow.halves[h];
    let start = half.relative(segment.seq);
    let bytes = segment.payload_bytes as i64;
    let end = start + bytes;
    if bytes > mss {
        return complain(h, segment, &format!("more than the MSS of {mss}"));
    }
    if segment.length() == 0 {
        return Ok(false);
    }
    if bytes > 0 && end > half.edge_known {
        return complain(h, segment, &format!("{} bytes beyond the window", end - half.edge_known));
    }
    if start > half.end && !may_skip {
        return complain(h, segment, &format!("bytes after a gap of {}", start - half.end));
    }
    if half.fin.is_some_and(|fin| end > fin || (segment.has(flag::FIN) && end != fin)) {
        return complain(h, segment, "bytes behind its FIN");
    }
    let payload = &frame[segment.payload_offset..segment.payload_offset + segment.payload_bytes];
    if start < 0 || !half.repeats(start, payload) {
        return complain(h, segment, "other bytes than the first time");
    }
    let again = start + i64::from(segment.length()) <= half.end + i64::from(half.fin.is_some());
    if segment.has(flag::FIN) {
        half.fin = Some(end);
    }
    half.end = half.end.max(end);
    Ok(again)
}
