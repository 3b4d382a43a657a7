// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every header and option length, with any bytes.

use super::*;
use crate::testing::TestSegment;

fn sample(options: &[u8], payload: &[u8]) -> Vec<u8> {
    TestSegment {
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        source_ip: [10, 0, 0, 2].into(),
        destination_ip: [10, 0, 0, 1].into(),
        source_port: 40_000,
        destination_port: 80,
        seq: 7,
        ack: 9,
        flags: 0x10,
        urgent: 0,
        window: 500,
        ecn: 0,
        options: options.to_vec(),
        payload: payload.to_vec(),
    }
    .encode()
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Every option length 0…40 with random bytes: parsed, never a panic or an endless loop, payload found.
#[test]
fn any_option_bytes_survive() {
    let mut seed = 0x5eed_0001u64;
    for len in (0..=40usize).step_by(4) {
        for round in 0..2000 {
            let mut options = vec![0u8; len];
            for byte in &mut options {
                *byte = xorshift(&mut seed) as u8;
                if round % 2 == 0 {
                    // Near the interesting values: kinds and lengths are small.
                    *byte %= 12;
                }
            }
            let frame = sample(&options, b"payload");
            let mut segment = Segment::default();
            assert_eq!(parse(&frame, RxChecksum::Unknown, &mut segment), Verdict::Tcp, "options {options:?}");
            assert_eq!(segment.payload_bytes, 7);
            assert_eq!(usize::from(segment.payload_offset), 54 + len);
        }
    }
}

#[test]
fn timestamps_are_found_wherever_they_stand() {
    let option = [8, 10, 0, 0, 4, 210, 0, 0, 0, 1];
    for before in 0..=30usize {
        let mut options = vec![1; before];
        options.extend(option);
        let mut segment = Segment::default();
        assert_eq!(parse(&sample(&options, b""), RxChecksum::Unknown, &mut segment), Verdict::Tcp);
        assert!(segment.timestamps && segment.ts_value == 1234, "{before} NOPs before");
    }
    // Behind an unknown option; not behind the end of the list, a length of zero or one past the end.
    for (options, found) in [
        (vec![254, 4, 0, 0, 8, 10, 0, 0, 4, 210, 0, 0, 0, 0], true),
        (vec![0, 8, 10, 0, 0, 4, 210, 0, 0, 0, 0, 0], false),
        (vec![3, 0, 8, 10, 0, 0, 4, 210, 0, 0, 0, 0], false),
        (vec![3, 1, 8, 10, 0, 0, 4, 210, 0, 0, 0, 0], false),
        (vec![3, 99, 8, 10, 0, 0, 4, 210, 0, 0, 0, 0], false),
        (vec![1, 1, 8, 9, 0, 0, 4, 210, 0, 0, 0, 0], false),
        (vec![1, 1, 1, 8], false),
    ] {
        let mut segment = Segment::default();
        assert_eq!(parse(&sample(&options, b"x"), RxChecksum::Unknown, &mut segment), Verdict::Tcp);
        assert_eq!(segment.timestamps, found, "{options:?}");
    }
}

/// Every TCP header length, IHL, total length and frame length: a verdict, and only the consistent ones are TCP.
#[test]
fn every_length_is_checked() {
    let frame = sample(&[1; 12], &[0xab; 20]);
    for offset in 0..16u8 {
        let mut bytes = frame.clone();
        bytes[46] = offset << 4;
        let mut segment = Segment::default();
        let verdict = parse(&bytes, RxChecksum::Good, &mut segment);
        assert_eq!(
            verdict == Verdict::Tcp,
            offset >= 5 && usize::from(offset) * 4 <= 52,
            "data offset {offset}"
        );
    }
    for version_ihl in 0..=255u8 {
        let mut bytes = frame.clone();
        bytes[14] = version_ihl;
        let verdict = parse(&bytes, RxChecksum::Good, &mut Segment::default());
        let expected = match version_ihl {
            0x45 => Verdict::Tcp,
            0x46..=0x4f if usize::from(version_ihl & 15) * 4 <= 72 => Verdict::IpOptions,
            _ => Verdict::Malformed,
        };
        assert_eq!(verdict, expected, "version and IHL {version_ihl:#x}");
    }
    for total in 0..200u16 {
        let mut bytes = frame.clone();
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        let verdict = parse(&bytes, RxChecksum::Good, &mut Segment::default());
        assert_eq!(verdict == Verdict::Tcp, (52..=72).contains(&total), "total length {total}");
    }
    for len in 0..frame.len() {
        let verdict = parse(&frame[..len], RxChecksum::Good, &mut Segment::default());
        assert_ne!(verdict, Verdict::Tcp, "frame cut to {len}");
    }
    let mut padded = frame;
    padded.extend([0; 30]);
    let mut segment = Segment::default();
    assert_eq!(parse(&padded, RxChecksum::Unknown, &mut segment), Verdict::Tcp);
    assert_eq!(segment.payload_bytes, 20, "padding is not payload");
}

/// Every single-bit error in header or payload is found.
#[test]
fn a_flipped_bit_is_found() {
    let frame = sample(&[1; 12], &[0x5a; 33]);
    for bit in ETHERNET_BYTES * 8..frame.len() * 8 {
        let mut bytes = frame.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = parse(&bytes, RxChecksum::Unknown, &mut Segment::default());
        assert_ne!(verdict, Verdict::Tcp, "bit {bit}");
    }
    assert_eq!(parse(&frame, RxChecksum::Bad, &mut Segment::default()), Verdict::BadChecksum);
}

#[test]
fn what_is_not_ours_goes_elsewhere() {
    let mut arp = vec![0xff; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(parse(&arp, RxChecksum::Unknown, &mut Segment::default()), Verdict::NotTcp);
    let mut frame = sample(&[], b"");
    frame[23] = 17;
    assert_eq!(parse(&frame, RxChecksum::Good, &mut Segment::default()), Verdict::NotTcp);
    for fragment in [0x2000u16, 0x0001, 0x1fff] {
        let mut frame = sample(&[], b"12345678");
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        assert_eq!(
            parse(&frame, RxChecksum::Good, &mut Segment::default()),
            Verdict::IpOptions,
            "{fragment:#x}"
        );
    }
    // The end of a fragmented datagram may be short, and the frame without padding.
    let mut end = sample(&[], b"");
    end.truncate(42);
    end[16..18].copy_from_slice(&28u16.to_be_bytes());
    for (word, verdict) in
        [(0x0001u16, Verdict::IpOptions), (0x00b4, Verdict::IpOptions), (0, Verdict::Malformed)]
    {
        end[20..22].copy_from_slice(&word.to_be_bytes());
        assert_eq!(parse(&end, RxChecksum::Unknown, &mut Segment::default()), verdict, "{word:#x}");
    }
    // A short ICMP datagram in a frame without padding.
    let mut icmp = vec![0u8; 42];
    icmp[12..14].copy_from_slice(&[0x08, 0x00]);
    icmp[14] = 0x45;
    icmp[23] = 1;
    assert_eq!(parse(&icmp, RxChecksum::Unknown, &mut Segment::default()), Verdict::NotTcp);
}

/// Random frames of every length: no panic.
#[test]
fn noise_survives() {
    let mut seed = 0x5eed_0002u64;
    for round in 0..200_000 {
        let len = (xorshift(&mut seed) % 100) as usize;
        let mut frame: Vec<u8> = (0..len).map(|_| xorshift(&mut seed) as u8).collect();
        if round % 2 == 0 && len > 24 {
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            frame[23] = 6;
        }
        parse(&frame, RxChecksum::Good, &mut Segment::default());
    }
}
