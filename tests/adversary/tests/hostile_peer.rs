// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that mean harm. The victim's connection goes on at its speed, byte for byte, and the attack is counted.

use abi::core_status::Counter;
use adversary::{beside_a_victim, flag, run, seed, Arena, Heard, Known, Peer, Segment, Victim, HONEST};

/// The victim keeps at least this share of what it moves in peace, in percent.
const LEAST_PERCENT: u64 = 95;
/// It is never silent for longer: twice the smallest retransmission timeout.
const SILENCE_MAX_US: u64 = 10_000;
/// An address of the attacker's.
const ATTACKER: u32 = 0x0a00_0066;

fn assert_unharmed(arena: &Arena, victim: &Victim, quiet_bytes: u64, least_percent: u64) {
    let progress = victim.progress(arena);
    println!("in peace {quiet_bytes} bytes, under attack {progress:?}");
    assert!(
        progress.bytes * 100 >= quiet_bytes * least_percent,
        "{} of {quiet_bytes} bytes: {:?}",
        progress.bytes,
        arena.flows_with(HONEST)
    );
    assert!(progress.longest_silence_us < SILENCE_MAX_US, "{progress:?}");
}

/// Runs an attack of blind segments with the victim's addresses and ports beside the victim.
fn blind(ms: u64, mut make: impl FnMut(&mut Arena, &Known) -> Vec<Segment>) -> (Arena, Victim, u64) {
    beside_a_victim(seed(), ms, |arena, _, _| {
        for known in arena.flows_with(HONEST) {
            for segment in make(arena, &known) {
                let (source_port, port) = (known.remote_port, known.local_port);
                arena.inject(&Segment { source: HONEST, source_port, port, ..segment }.frame());
            }
        }
    })
}

fn any(arena: &mut Arena) -> u32 {
    arena.random.next() as u32
}

/// A number inside the window, but not the next one.
fn inside(arena: &mut Arena, known: &Known) -> u32 {
    let window = known.rcv_adv.wrapping_sub(known.rcv_nxt).max(2);
    known.rcv_nxt.wrapping_add(1 + arena.random.below(u64::from(window) - 1) as u32)
}

/// RFC 5961 §3: only the exact number resets; inside the window there is a challenge, with a limit.
#[test]
fn blind_resets() {
    let (arena, victim, quiet) = blind(600, |arena, known| {
        let mut made = Vec::new();
        for sequence in [any(arena), inside(arena, known), known.rcv_nxt.wrapping_sub(1), known.rcv_adv] {
            // By chance a random number may be the one that resets.
            if sequence != known.rcv_nxt {
                made.push(Segment { sequence, flags: flag::RST, ..Segment::default() });
                made.push(Segment { sequence, flags: flag::RST | flag::ACK, ..Segment::default() });
            }
        }
        made
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    let sent = arena.slow("challenge_acks");
    assert!((1..100).contains(&sent), "{sent} challenges");
    assert_eq!(arena.slow("resets_received"), 0);
}

/// RFC 5961 §4: a SYN never ends a connection, wherever it is.
#[test]
fn blind_syns() {
    let (arena, victim, quiet) = blind(600, |arena, known| {
        [any(arena), inside(arena, known), known.rcv_nxt, known.rcv_nxt.wrapping_sub(1)]
            .into_iter()
            .flat_map(|sequence| {
                [flag::SYN, flag::SYN | flag::ACK, flag::SYN | flag::FIN, flag::SYN | flag::RST]
                    .map(|flags| (sequence, flags))
            })
            // A RST with the exact number is a reset.
            .filter(|(sequence, flags)| flags & flag::RST == 0 || *sequence != known.rcv_nxt)
            .map(|(sequence, flags)| Segment {
                sequence,
                flags,
                acknowledgement: known.snd_una,
                options: vec![2, 4, 5, 180],
                ..Segment::default()
            })
            .collect()
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    assert!(arena.slow("challenge_acks") > 0);
}

/// RFC 5961 §5: data is taken only with an acknowledgement that could be one; outside the window never.
#[test]
fn blind_data() {
    let (arena, victim, quiet) = blind(600, |arena, known| {
        let payload: Vec<u8> = (0..1 + arena.random.below(1400)).map(|_| arena.random.next() as u8).collect();
        let stale = known.ts_recent.wrapping_sub(1 + any(arena) % 1000).to_be_bytes();
        let timestamp = [&[1, 1, 8, 10][..], &stale, &[0; 4]].concat();
        let ok = known.snd_una;
        let segment = |sequence, acknowledgement, options: &[u8]| Segment {
            sequence,
            acknowledgement,
            flags: flag::ACK | flag::PSH,
            options: options.to_vec(),
            payload: payload.clone(),
            ..Segment::default()
        };
        vec![
            // Acknowledges what was never sent.
            segment(known.rcv_nxt, known.snd_max.wrapping_add(1 + any(arena) % (1 << 30)), &[]),
            // Acknowledges what was acknowledged long ago.
            segment(known.rcv_nxt, ok.wrapping_sub((1 << 30) + any(arena) % (1 << 30)), &[]),
            // Behind the window, and before it.
            segment(known.rcv_adv.wrapping_add(1 + any(arena) % (1 << 30)), ok, &[]),
            segment(known.rcv_nxt.wrapping_sub(1500 + any(arena) % (1 << 30)), ok, &[]),
            // The right numbers and a stale timestamp (RFC 7323 §5).
            segment(known.rcv_nxt, ok, &timestamp),
            // No acknowledgement at all.
            Segment { flags: flag::PSH, ..segment(known.rcv_nxt, ok, &[]) },
            Segment { flags: 0, ..segment(known.rcv_nxt, ok, &[]) },
            Segment { flags: flag::FIN, ..segment(known.rcv_nxt, ok, &[]) },
        ]
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    assert!(arena.fast(Counter::Unacceptable) > 0 && arena.fast(Counter::StaleTimestamp) > 0);
}

/// RFC 5961 §5: acknowledgements of what was never sent, and very old ones, move nothing.
#[test]
fn blind_acknowledgements() {
    let (arena, victim, quiet) = blind(600, |arena, known| {
        let beyond = known.snd_max.wrapping_add(1 + any(arena) % (1 << 30));
        let before = known.snd_una.wrapping_sub((1 << 20) + any(arena) % (1 << 30));
        [beyond, known.snd_max.wrapping_add(1), before]
            .map(|acknowledgement| Segment {
                sequence: known.rcv_nxt,
                acknowledgement,
                window: arena.random.next() as u16,
                ..Segment::default()
            })
            .to_vec()
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    assert!(arena.fast(Counter::Unacceptable) > 0);
}

/// Bytes where options should be: every length, every kind, on the victim's connection (with numbers that are not
/// acceptable), on SYNs and on a connection of the attacker's own.
#[test]
fn option_bombs() {
    let mut peers = Vec::new();
    let (arena, victim, quiet) = beside_a_victim(seed(), 600, |arena, _, ms| {
        if ms == 0 {
            peers.push(Peer::connect(arena, ATTACKER, 999, Vec::new()));
        }
        Peer::listen(arena, &mut peers);
        for round in 0..8 {
            let options: Vec<u8> = (0..arena.random.below(11) * 4)
                .map(|_| match arena.random.below(3) {
                    0 => arena.random.below(10) as u8,
                    1 => arena.random.below(41) as u8,
                    _ => arena.random.next() as u8,
                })
                .collect();
            let flags = if round % 2 == 0 { flag::SYN } else { flag::ACK };
            let source_port = 2000 + arena.random.below(100) as u16;
            arena.inject(
                &Segment {
                    source: ATTACKER,
                    source_port,
                    flags,
                    options: options.clone(),
                    ..Segment::default()
                }
                .frame(),
            );
            for peer in peers.iter().filter(|peer| peer.is_established) {
                arena.inject(&Segment { options: options.clone(), ..peer.segment() }.frame());
            }
            for known in arena.flows_with(HONEST) {
                let (source_port, port) = (known.remote_port, known.local_port);
                let sequence = known.rcv_nxt.wrapping_sub(1 << 30);
                arena.inject(
                    &Segment {
                        source: HONEST,
                        source_port,
                        port,
                        sequence,
                        options: options.clone(),
                        ..Segment::default()
                    }
                    .frame(),
                );
            }
        }
    });
    assert!(peers[0].is_established, "the attacker's own connection was not made");
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
}

/// Connections of the attacker's that make the server send: `answer` is what each says every millisecond.
fn own_connections(
    count: u16,
    ms: u64,
    mut answer: impl FnMut(&mut Arena, &mut Peer, u64),
) -> (Arena, Victim, u64, Vec<Peer>) {
    let mut peers = Vec::new();
    let (arena, victim, quiet) = beside_a_victim(seed(), ms, |arena, _, ms| {
        if ms < u64::from(count) {
            let options = vec![2, 4, 5, 180, 1, 3, 3, 7];
            peers.push(Peer::connect(arena, ATTACKER, 1000 + ms as u16, options));
        }
        Peer::listen(arena, &mut peers);
        for peer in peers.iter_mut().filter(|peer| peer.is_established) {
            answer(arena, peer, ms);
        }
    });
    assert!(peers.iter().all(|peer| peer.is_established), "not every connection was made");
    (arena, victim, quiet, peers)
}

/// Acknowledging data before it came, and data that was never sent.
#[test]
fn optimistic_acknowledgements() {
    let (arena, victim, quiet, peers) = own_connections(4, 700, |arena, peer, _| {
        for ahead in [1, 1460, 14_600, 146_000] {
            let acknowledgement = peer.expected.wrapping_add(ahead);
            arena.inject(&Segment { acknowledgement, ..peer.segment() }.frame());
        }
        arena.inject(&peer.segment().frame());
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    assert!(arena.fast(Counter::Unacceptable) > 0);
    assert!(peers.iter().all(|peer| peer.received_bytes > 0));
}

/// The window offered shrinks, to nothing and below what is in flight, and grows again (RFC 9293 §3.8.6).
#[test]
fn shrinking_windows() {
    let (mut arena, mut victim, quiet, mut peers) = own_connections(4, 700, |arena, peer, ms| {
        let window = [0xffff, 0, 1, 100, 0, 7][ms as usize % 6];
        arena.inject(&Segment { window, ..peer.segment() }.frame());
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    // They behave from now on, and get what they are owed.
    let before: Vec<_> = peers.iter().map(|peer| peer.expected).collect();
    run(&mut arena, &mut victim, 2000, |arena, _, _| {
        Peer::listen(arena, &mut peers);
        peers.iter().for_each(|peer| arena.inject(&peer.segment().frame()));
    });
    let moved = peers.iter().zip(before).all(|(peer, before)| peer.expected != before && !peer.is_reset);
    assert!(moved, "a window that has opened again is not used: {peers:?}");
}

/// Readers that take next to nothing, and then nothing at all.
#[test]
fn slow_readers() {
    let (arena, victim, quiet, peers) = own_connections(60, 1000, |arena, peer, ms| {
        if ms % 10 == 0 {
            let window = u16::from(ms < 700 && ms % 100 == 0);
            arena.inject(&Segment { window, ..peer.segment() }.frame());
        }
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    // What they were sent was not more than they offered.
    assert!(peers.iter().all(|peer| peer.received_bytes < 100_000), "{peers:?}");
}

/// Segments of the attacker's own connection with everything in them: urgent pointers, FIN before data, overlaps with
/// other bytes, gaps.
#[test]
fn confused_streams() {
    let (arena, victim, quiet, _) = own_connections(8, 700, |arena, peer, _| {
        for _ in 0..4 {
            let payload: Vec<u8> = (0..arena.random.below(1400)).map(|_| arena.random.next() as u8).collect();
            let sequence = peer.sequence.wrapping_add(arena.random.below(60_000) as u32).wrapping_sub(3000);
            let flags = flag::ACK | (arena.random.next() as u8 & (flag::URG | flag::PSH));
            let urgent = arena.random.next() as u16;
            arena.inject(&Segment { sequence, payload, flags, urgent, ..peer.segment() }.frame());
        }
        if arena.random.chance(100) {
            let sequence = peer.sequence.wrapping_add(arena.random.below(60_000) as u32);
            arena.inject(&Segment { sequence, flags: flag::ACK | flag::FIN, ..peer.segment() }.frame());
        }
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    assert!(arena.fast(Counter::OutOfOrder) > 0);
}

/// A flood of SYNs from addresses that do not answer, 40,000 each second of virtual time: RFC 4987. Connections of honest
/// hosts are made all the same.
#[test]
fn syn_flood() {
    let wanted = 20;
    let (mut arena, mut victim, quiet) = beside_a_victim(seed(), 1000, |arena, victim, ms| {
        for _ in 0..40 {
            let source = 0x0a10_0000 | arena.random.below(1 << 20) as u32;
            let segment = Segment {
                source,
                source_port: arena.random.next() as u16,
                sequence: any(arena),
                flags: flag::SYN,
                options: vec![2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
                ..Segment::default()
            };
            arena.inject(&segment.frame());
        }
        victim.sends_to_others = false;
        if ms >= 400 && ms % 20 == 0 && victim.honest.len() < wanted {
            victim.connect_another();
        }
        arena.heard.clear();
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    run(&mut arena, &mut victim, 500, |_, _, _| ());
    assert_eq!((victim.established(), victim.failed), (wanted, 0));
    assert!(arena.slow("syns") >= 40_000);
}

/// The same from addresses that answer ARP but never complete the handshake.
#[test]
fn syn_flood_from_neighbours() {
    let wanted = 20;
    let (mut arena, mut victim, quiet) = beside_a_victim(seed(), 1000, |arena, victim, ms| {
        for _ in 0..20 {
            let source = ATTACKER + arena.random.below(16) as u32;
            let source_port = arena.random.next() as u16;
            let sequence = any(arena);
            arena.inject(
                &Segment { source, source_port, sequence, flags: flag::SYN, ..Segment::default() }.frame(),
            );
        }
        while let Some(frame) = arena.heard.pop_front() {
            if let Heard::Arp(address @ ATTACKER..=0x0a00_0076) = Heard::read(&frame) {
                arena.inject(&Heard::arp_reply(address));
            }
        }
        victim.sends_to_others = false;
        if ms >= 400 && ms % 20 == 0 && victim.honest.len() < wanted {
            victim.connect_another();
        }
    });
    assert_unharmed(&arena, &victim, quiet, LEAST_PERCENT);
    run(&mut arena, &mut victim, 500, |_, _, _| ());
    assert_eq!((victim.established(), victim.failed), (wanted, 0));
}
