// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IPv6 header, received and sent, with any bytes.

use super::*;
use crate::{header, parse::parse, testing::TestSegment};
use std::collections::HashSet;

fn sample(options: &[u8], payload: &[u8]) -> Vec<u8> {
    TestSegment {
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        source_ip: "2001:db8:1234:5678:9abc:def0:0f1e:2d3c".parse().unwrap(),
        destination_ip: "fe80::1".parse().unwrap(),
        source_port: 40_000,
        destination_port: 80,
        seq: 7,
        ack: 9,
        flags: 0x10,
        window: 500,
        urgent: 0,
        ecn: 3,
        options: options.to_vec(),
        payload: payload.to_vec(),
    }
    .encode()
}

fn verdict(frame: &[u8]) -> Verdict {
    parse(frame, RxChecksum::Good, &mut Segment::default())
}

const ADDRESSES: Addresses =
    Addresses { remote: [0x2001_0db8_1234_5678, 0x9abc_def0_0f1e_2d3c], local: [0xfe80 << 48, 1] };

#[test]
fn a_segment_is_read() {
    let frame = sample(&TestSegment::timestamps(77, 88), b"payload");
    let mut segment = Segment::default();
    assert_eq!(parse(&frame, RxChecksum::Unknown, &mut segment), Verdict::Tcp6);
    assert_eq!(addresses(&frame), ADDRESSES);
    assert_eq!(segment.ports, 80 << 16 | 40_000);
    assert_eq!((segment.seq, segment.ack, segment.window), (7, 9, 500));
    assert_eq!((segment.flags, segment.ecn, segment.ts_value), (0x10, 3, 77));
    assert_eq!((segment.payload_offset, segment.payload_bytes), (86, 7));
}

/// Whatever stood in the segment before is not in it afterwards.
#[test]
fn nothing_of_an_earlier_segment_is_left() {
    let mut segment = Segment::default();
    parse(&sample(&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2], b""), RxChecksum::Unknown, &mut segment);
    assert!(segment.sack);
    parse(&sample(&TestSegment::timestamps(1, 2), b""), RxChecksum::Unknown, &mut segment);
    assert!(segment.timestamps && !segment.sack);
    parse(&sample(&[], b""), RxChecksum::Unknown, &mut segment);
    assert!(!segment.timestamps && !segment.sack);
}

#[test]
fn what_is_written_parses() {
    let header = Header {
        destination_mac: 0x0200_0000_0002,
        source_mac: 0x0200_0000_0001,
        local_ip: 0,
        remote_ip: 0,
        ports: 6379 << 16 | 40_000,
        seq: 0x1234_5678,
        ack: 0x9abc_def0,
        window: 0xfedc,
        flags: 0x18,
        ecn: 2,
        ttl: 64,
        id: 7,
        options_bytes: 12,
    };
    for payload in 0..40u8 {
        let mut frame = vec![0xa5; PLAIN_BYTES + TIMESTAMP_BYTES + usize::from(payload)];
        write(&mut frame, &header, &ADDRESSES, 5);
        header::write_timestamps(&mut frame, PLAIN_BYTES, 77, 88);
        header::write_checksums(&mut frame);
        let mut segment = Segment::default();
        assert_eq!(parse(&frame, RxChecksum::Unknown, &mut segment), Verdict::Tcp6);
        // Seen from the other side.
        let Addresses { remote, local } = addresses(&frame);
        assert_eq!((remote, local), (ADDRESSES.local, ADDRESSES.remote));
        assert_eq!(segment.ports, 40_000 << 16 | 6379);
        assert_eq!((segment.seq, segment.ack, segment.window), (header.seq, header.ack, header.window));
        assert_eq!((segment.flags, segment.ecn, segment.ts_value), (0x18, 2, 77));
        assert_eq!((segment.payload_offset, segment.payload_bytes), (86, u16::from(payload)));
        assert_eq!(&frame[..12], &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        assert_eq!((frame[14] >> 4, frame[20], frame[21]), (6, 6, 64), "version, next header, hop limit");
        assert_eq!(&frame[72..74], &[0, 0], "urgent pointer");
    }
}

/// RFC 6437 §3: uniform, stable, never zero. Distinct flows rarely share a label.
#[test]
fn flow_labels() {
    let mut seen = HashSet::new();
    for port in 0..2000u32 {
        let label = flow_label(1, &ADDRESSES, 443 << 16 | port);
        assert!((1..1 << 20).contains(&label));
        assert_eq!(label, flow_label(1, &ADDRESSES, 443 << 16 | port));
        seen.insert(label);
    }
    assert!(seen.len() > 1980, "{} labels for 2000 flows", seen.len());
    assert_ne!(flow_label(1, &ADDRESSES, 1), flow_label(2, &ADDRESSES, 1), "keyed");
}

/// Every bit of the identity and of the key changes the hash, and addresses chosen so that a plain fold of
/// their words is the same do not collide.
#[test]
fn the_hash_sees_every_bit() {
    let base = hash(9, &ADDRESSES, 80);
    for bit in 0..64 {
        assert_ne!(hash(9 ^ 1 << bit, &ADDRESSES, 80), base);
        for half in 0..2 {
            let mut other = ADDRESSES;
            other.remote[half] ^= 1 << bit;
            assert_ne!(hash(9, &other, 80) >> 32, base >> 32, "remote {half} {bit}");
            let mut other = ADDRESSES;
            other.local[half] ^= 1 << bit;
            assert_ne!(hash(9, &other, 80) >> 32, base >> 32, "local {half} {bit}");
        }
    }
    let mut seen = HashSet::new();
    for word in 0..4000u64 {
        let remote = [ADDRESSES.remote[0] ^ word << 32 ^ word, ADDRESSES.remote[1] ^ word ^ word << 32];
        seen.insert(hash(9, &Addresses { remote, ..ADDRESSES }, 80));
    }
    assert_eq!(seen.len(), 4000);
}

/// Every header length, payload length and frame length: a verdict, and only the consistent ones are TCP.
#[test]
fn every_length_is_checked() {
    let frame = sample(&[1; 12], &[0xab; 20]);
    for offset in 0..16u8 {
        let mut bytes = frame.clone();
        bytes[66] = offset << 4;
        let good = offset >= 5 && usize::from(offset) * 4 <= 52;
        assert_eq!(verdict(&bytes) == Verdict::Tcp6, good, "data offset {offset}");
    }
    for version in 0..16u8 {
        let mut bytes = frame.clone();
        bytes[14] = version << 4 | 5;
        let expected = if version == 6 { Verdict::Tcp6 } else { Verdict::Malformed };
        assert_eq!(verdict(&bytes), expected, "version {version}");
    }
    for total in 0..200u16 {
        let mut bytes = frame.clone();
        bytes[18..20].copy_from_slice(&total.to_be_bytes());
        assert_eq!(verdict(&bytes) == Verdict::Tcp6, (32..=52).contains(&total), "payload length {total}");
    }
    for len in 0..frame.len() {
        assert!(!matches!(verdict(&frame[..len]), Verdict::Tcp | Verdict::Tcp6), "frame cut to {len}");
    }
    let mut padded = frame;
    padded.extend([0; 30]);
    let mut segment = Segment::default();
    assert_eq!(parse(&padded, RxChecksum::Unknown, &mut segment), Verdict::Tcp6);
    assert_eq!(segment.payload_bytes, 20, "padding is not payload");
}

/// Every single-bit error in addresses, payload length, next header and segment is found. (Traffic class, flow label
/// and hop limit are under no checksum.)
#[test]
fn a_flipped_bit_is_found() {
    let frame = sample(&[1; 12], &[0x5a; 33]);
    for bit in (18 * 8..21 * 8).chain(22 * 8..frame.len() * 8) {
        let mut bytes = frame.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = parse(&bytes, RxChecksum::Unknown, &mut Segment::default());
        assert!(!matches!(verdict, Verdict::Tcp | Verdict::Tcp6), "bit {bit}");
    }
    assert_eq!(parse(&frame, RxChecksum::Bad, &mut Segment::default()), Verdict::BadChecksum);
}

#[test]
fn what_is_not_ours_goes_elsewhere() {
    for next in 0..=255u8 {
        for payload in [0, 1, 20] {
            let mut frame = sample(&[], &[0; 20]);
            frame[20] = next;
            // An ICMPv6 message may be shorter than a TCP header.
            frame.truncate(58 + payload);
            let expected = match next {
                6 => Verdict::Malformed,
                0 | 43 | 44 | 50 | 51 | 60 | 135 | 139 | 140 => Verdict::IpOptions,
                _ => Verdict::NotTcp,
            };
            assert_eq!(verdict(&frame), expected, "next header {next}, {payload} bytes");
        }
    }
    assert_eq!(verdict(&sample(&[], b"")[..53]), Verdict::Malformed, "half a header");
}

/// Random frames of every length: no panic.
#[test]
fn noise_survives() {
    let mut seed = 0x5eed_0006u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..200_000 {
        let len = (next() % 130) as usize;
        let mut frame: Vec<u8> = (0..len).map(|_| next() as u8).collect();
        if len > 20 {
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[20] = 6;
        }
        let checksums = if next() % 2 == 0 { RxChecksum::Good } else { RxChecksum::Unknown };
        parse(&frame, checksums, &mut Segment::default());
        addresses(&frame);
    }
}
