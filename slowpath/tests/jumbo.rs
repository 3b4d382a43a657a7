// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! An instance with an MTU of 9000.

mod common;

use abi::{
    flow::hot_flags,
    message::{congestion, FlowInfo},
};
use common::{frames::*, *};
use slowpath::{counters::Counter, Config, Errno};
use std::sync::atomic::Ordering::Relaxed;

const MTU: u32 = 9000;
const SECOND: u64 = 1_000_000;

fn jumbo() -> Config {
    Config { mtu_bytes: MTU, congestion: congestion::NEWRENO, ..config() }
}

fn options(mss: u16) -> Vec<u8> {
    let mut options = linux_options(77, 0);
    options[2..4].copy_from_slice(&mss.to_be_bytes());
    options
}

/// A connection with a peer that announces `mss`, and what we announced.
fn established(mss: u16) -> (World, FlowInfo, u16) {
    let mut world = World::with(jumbo());
    let listener = world.listener(8080, 5);
    world.peer(Tcp { options: options(mss), ..Tcp::syn(4000, 8080, 5000) });
    let syn_ack = world.sent().pop().expect("SYN-ACK");
    let announced = syn_ack.option(2).unwrap();
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    let info = world.accept(listener).unwrap();
    world.frames.clear();
    (world, info, u16::from_be_bytes([announced[0], announced[1]]))
}

/// The flow's MSS, with what IPv6's header takes more.
fn mss(world: &World, flow: u32) -> u32 {
    world.cold[flow as usize].mss_bytes.load(Relaxed) + extra()
}

#[test]
fn the_smaller_mss_counts_in_each_direction() {
    for (theirs, ours) in [(8960 - extra() as u16, 8948), (1460 - extra() as u16, 1448), (u16::MAX, 8948)] {
        let (world, info, announced) = established(theirs);
        assert_eq!((u32::from(announced) + extra(), mss(&world, info.flow)), (8960, ours), "{theirs}");
        let window = world.cold[info.flow as usize].cwnd_bytes.load(Relaxed);
        // RFC 6928 §2: ten segments, or two if they are long.
        let segments = if ours > 1448 { 2 } else { 10 };
        assert_eq!(window, segments * (ours - extra()));
    }
}

/// What waits for a connection, what is answered and what is put together may be as long as the MTU.
#[test]
fn the_largest_frames_pass() {
    let (mut world, info, _) = established(8960);
    let payload: Vec<u8> = (0..8960 - extra()).map(|at| (at * 7 >> 3) as u8).collect();
    let segment = Tcp { payload, ..Tcp::ack(4000, 8080, 5001, info.tx_start as u32) };
    let frame = segment.frame();
    assert_eq!(frame.len(), 9014);
    world.receive(frame.clone());
    world.pump();
    assert_eq!(world.injected.pop(), Some((info.flow, frame.clone())));
    // One byte more is more than anybody may send.
    let longer = Tcp { payload: vec![1; 8961 + 64 - extra() as usize], ..segment };
    world.receive(longer.frame());
    world.pump();
    assert!(world.injected.is_empty());
    // ping -s 8972
    world.receive(icmp(8, 0, &vec![9; 8976 - extra() as usize]));
    world.pump();
    let reply = world.frames.pop().expect("echo reply");
    assert_eq!((reply.len(), reply[9013]), (9014, 9));
}

/// Cuts a frame into two fragments.
fn fragments(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let header = 34 + extra() as usize;
    let (head, payload) = frame.split_at(header);
    [(0, at, true), (at, payload.len(), false)].map(|(from, to, more)| {
        let piece = &payload[from..to];
        if is_v6() {
            let word = (from as u16 | u16::from(more)).to_be_bytes();
            let extension = [6, 0, word[0], word[1], 0, 7, 0, 9];
            return ipv6(&frame[22..38], &frame[38..54], 44, 64, &[&extension, piece].concat());
        }
        let mut packet = [head, piece].concat();
        packet[16..18].copy_from_slice(&((20 + piece.len()) as u16).to_be_bytes());
        packet[18..20].copy_from_slice(&[0, 9]);
        packet[20..22].copy_from_slice(&((from >> 3) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
        packet[24..26].fill(0);
        let sum: u32 = packet[14..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[24..26].copy_from_slice(&(!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes());
        packet
    })
}

/// A peer that heeds our MSS sends at most the MTU in a datagram, and a router may have cut it; nothing larger is put
/// together. With a standard MTU those are 1500 bytes.
#[test]
fn fragments_become_at_most_a_frame_of_the_mtu() {
    for (config, most) in [(jumbo(), 9000), (config(), 1500), (Config { mtu_bytes: 1280, ..config() }, 1500)]
    {
        for (bytes, whole) in [(most, true), (most + 1, false)] {
            let mut world = World::with(config);
            let listener = world.listener(8080, 5);
            let info = world.accepted(listener, 8080, 4000);
            let payload = vec![5; bytes as usize - 40 - extra() as usize];
            let frame = Tcp { payload, ..Tcp::ack(4000, 8080, 5001, info.tx_start as u32) }.frame();
            for piece in fragments(&frame, bytes as usize / 2 & !7) {
                world.receive(piece);
                world.pump();
            }
            let handed_on = world.injected.pop().map(|(_, bytes)| bytes.len());
            assert_eq!(handed_on, whole.then_some(frame.len()), "{bytes} of {most}");
            assert_eq!(world.stack.counter(Counter::Reassembled), u64::from(whole));
        }
    }
}

fn too_big(world: &mut World, info: &FlowInfo, mtu: u16) {
    let mut quoted = vec![0x45, 0, 0x23, 0x28, 0, 1, 0x40, 0, 64, 6, 0, 0];
    if is_v6() {
        quoted = vec![0x60, 0, 0, 0, 0x23, 0, 6, 63];
    }
    quoted.extend(address(LOCAL));
    quoted.extend(address(PEER));
    for word in [8080u16.to_be_bytes(), 4000u16.to_be_bytes()] {
        quoted.extend(word);
    }
    quoted.extend((info.tx_start as u32).to_be_bytes());
    let [high, low] = mtu.to_be_bytes();
    world.receive(icmp(3, 4, &[&[0, 0, high, low], &quoted[..]].concat()));
    world.pump();
}

/// Routers name any MTU below ours (RFC 1191); old ones that name none are taken for the next smaller network.
#[test]
fn a_router_asks_for_less() {
    for (told, expected) in [(8000, 7948), (1500, 1448), (9000, 8948), (0, if is_v6() { 8948 } else { 8114 })]
    {
        let (mut world, info, _) = established(8960);
        world.write(info.flow, 17_000);
        too_big(&mut world, &info, told);
        assert_eq!(mss(&world, info.flow), expected, "{told}");
    }
}

/// RFC 4821 §7.3: the link's MTU is tried first, then that of Ethernet, then what is between.
#[test]
fn larger_segments_are_searched_for_up_to_the_links_mtu() {
    let (mut world, info, _) = established(8960);
    world.write(info.flow, 17_000);
    too_big(&mut world, &info, 1300);
    assert_eq!(mss(&world, info.flow), 1248);
    world.acknowledged(info.flow);
    world.advance(601 * SECOND);
    world.write(info.flow, 0);
    world.hot[info.flow as usize].snd_wnd.store(1 << 20, Relaxed);
    world.cold[info.flow as usize].cwnd_bytes.store(1 << 20, Relaxed);
    world.hot[info.flow as usize].cwnd_bytes.store(1 << 20, Relaxed);
    world.hot[info.flow as usize].snd_end.fetch_add(200_000, Relaxed);
    world.ops();
    let mut sizes = vec![];
    while let Some(size) = world.path_probe(info.flow) {
        sizes.push(size);
        if size > 1500 {
            world.hot[info.flow as usize].flags.fetch_and(!hot_flags::PATH_PROBE, Relaxed);
            world.advance(300_000);
        }
        world.acknowledged(info.flow);
        assert!(sizes.len() < 20, "{sizes:?}");
    }
    assert_eq!(sizes[..3], [8948, 1448, 5198], "{sizes:?}");
    assert!((1448..1508).contains(&mss(&world, info.flow)), "{sizes:?}");
}

/// Frames have the room that they had when the tables were made.
#[test]
fn another_fast_path_must_have_frames_of_the_same_size() {
    for (first, second, good) in
        [(9000, 9000, true), (9000, 2000, true), (9000, 1500, false), (1500, 9000, false)]
    {
        let mut world = World::with(Config { mtu_bytes: first, ..config() });
        world.stack.fast_path_detached(world.now);
        let attached =
            world.stack.fast_path_attached(world.now, &Config { mtu_bytes: second, ..config() }, 43);
        assert_eq!(attached.err(), (!good).then_some(Errno::EINVAL), "{first} {second}");
    }
}
