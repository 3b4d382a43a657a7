// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections through an instance with a fast path played by hand: opening, the listing, death of the
//! application and of the fast path.

mod common;

use abi::{
    event::kernel_event,
    kernel_ring::{reason, to_fast, to_slow, KernelEntry},
    limits::{CONTEXT_ENTRIES_PER_LOOP, CONTEXT_RING_ENTRIES},
    message::{
        notice, Accept, ApplicationEntry, AttachFast, Connect, Endpoint, FlowEntry, FlowInfo, Op, Status,
    },
};
use common::{
    attach_request, entries,
    frames::{self, Segment, ACK, LOCAL_IP, PEER_IP, RST, SYN},
    refused, segments, App, Out, World, ROOT, USER,
};
use daemon::Give;
use std::sync::atomic::Ordering::Relaxed;

const PORT: u16 = 7000;
const PEER_PORT: u16 = 40_000;
const PEER_ISN: u32 = 5000;

/// Completes the peer's handshake with a listener; what the fast path got.
fn handshake(world: &mut World) -> (u32, u32) {
    let syn = Segment {
        source: PEER_PORT,
        destination: PORT,
        sequence: PEER_ISN,
        flags: SYN,
        ..Segment::default()
    };
    world.rings.packet(reason::NO_FLOW, &frames::from_peer(syn, &[]));
    let mut out = world.run();
    if out.iter().any(|out| matches!(out, Out::Frame(frame) if frames::is_arp_request(frame))) {
        world.rings.packet(reason::NOT_TCP, &frames::arp(2));
        out.extend(world.run());
    }
    let answer = segments(&out);
    let [syn_ack] = answer[..] else { panic!("no SYN-ACK in {out:?}") };
    assert_eq!((syn_ack.flags & (SYN | ACK), syn_ack.acknowledgement), (SYN | ACK, PEER_ISN + 1));
    let ack = Segment {
        source: PEER_PORT,
        destination: PORT,
        sequence: PEER_ISN + 1,
        acknowledgement: syn_ack.sequence.wrapping_add(1),
        flags: ACK,
    };
    world.rings.packet(reason::NO_FLOW, &frames::from_peer(ack, &[]));
    let installed = entries(&world.run());
    let install = installed.iter().find(|entry| entry.op == to_fast::INSTALL);
    (install.expect("no INSTALL").flow, syn_ack.sequence.wrapping_add(1))
}

/// Accepts a connection.
fn accept(world: &mut World, app: &App, listener: u32) -> FlowInfo {
    let body = Accept { opaque: 9, context: app.context, ..Accept::default() };
    let (message, reply) = world.call(app.client, Op::Accept, listener, &body).unwrap();
    let info: FlowInfo = message.get();
    assert_eq!(reply.give, [Give::Socket(info.socket)]);
    info
}

#[test]
fn a_passive_open_reaches_the_accept_queue_and_the_listing() {
    let mut world = World::new();
    let mut app = world.application();
    let listener = world.listener(&app, PORT).unwrap();
    let (flow, start) = handshake(&mut world);
    let event = app.event().expect("no event");
    assert_eq!((event.kind, event.socket, event.opaque), (kernel_event::ACCEPTABLE, listener, 7));
    let info = accept(&mut world, &app, listener);
    assert_eq!((info.flow, info.core, info.context), (flow, 0, app.context));
    assert_eq!((info.rx_start as u32, info.tx_start as u32), (PEER_ISN + 1, start));
    assert_eq!((info.remote.as_ipv4(), info.remote.port), (Some(PEER_IP), PEER_PORT));
    assert_eq!((info.local.as_ipv4(), info.local.port), (Some(LOCAL_IP), PORT));
    assert!(entries(&world.run()).iter().any(|entry| entry.op == to_fast::UPDATE && entry.flow == flow));
    let again = Accept { context: app.context, ..Accept::default() };
    assert_eq!(refused(world.call(app.client, Op::Accept, listener, &again)), libc::EAGAIN);

    let control = world.control();
    let entry: FlowEntry = world.ask(control, Op::FlowEntry, 0).unwrap().0.get();
    assert_eq!((entry.id, entry.pid, entry.uid, entry.tcp_state), (flow, USER.pid, USER.uid, 1));
    assert_eq!(refused(world.ask(control, Op::FlowEntry, flow + 1)), libc::ENOENT);
    let entry: FlowEntry = world.ask(control, Op::ListenEntry, 0).unwrap().0.get();
    assert_eq!((entry.id, entry.local.port), (listener, PORT));
    let status: Status = world.ask(control, Op::Status, 0).unwrap().0.get();
    assert_eq!((status.fastpath, status.flows_used, status.applications, status.contexts), (1, 1, 1, 1));
    assert_eq!(status.fastpath_pid, ROOT.pid);
    let entry: ApplicationEntry = world.ask(control, Op::ApplicationEntry, 0).unwrap().0.get();
    assert_eq!((entry.id, entry.flows, entry.map_segments, entry.contexts), (app.id, 1, 1, 1));
    assert!(entry.pool_segments > 0);
}

#[test]
fn an_active_open_asks_for_the_neighbour_and_reports_connected() {
    let mut world = World::new();
    let mut app = world.application();
    let socket = world.socket(&app, 21);
    let connect = Connect { remote: Endpoint::ipv4(PEER_IP, 80), context: app.context, ..Connect::default() };
    assert_eq!(refused(world.call(app.client, Op::Connect, socket, &connect)), libc::EINPROGRESS);
    assert_eq!(refused(world.ask(app.client, Op::FlowInfo, socket)), libc::ENOTCONN);
    let out = world.run();
    assert!(matches!(&out[..], [Out::Frame(frame)] if frames::is_arp_request(frame)), "{out:?}");
    world.rings.packet(reason::NOT_TCP, &frames::arp(2));
    let out = segments(&world.run());
    let [syn] = out[..] else { panic!("no SYN in {out:?}") };
    assert_eq!((syn.flags & (SYN | ACK), syn.destination), (SYN, 80));
    let syn_ack = Segment {
        source: 80,
        destination: syn.source,
        sequence: PEER_ISN,
        acknowledgement: syn.sequence.wrapping_add(1),
        flags: SYN | ACK,
    };
    world.rings.packet(reason::NO_FLOW, &frames::from_peer(syn_ack, &[]));
    let ops: Vec<u8> = entries(&world.run()).iter().map(|entry| entry.op).collect();
    let install = ops.iter().position(|op| *op == to_fast::INSTALL).expect("no INSTALL");
    let ack = ops.iter().position(|op| *op == to_fast::ACKNOWLEDGE).expect("no ACKNOWLEDGE");
    assert!(install < ack);
    let event = app.event().expect("no event");
    assert_eq!((event.kind, event.socket, event.opaque), (kernel_event::CONNECTED, socket, 21));
    let info: FlowInfo = world.ask(app.client, Op::FlowInfo, socket).unwrap().0.get();
    assert_eq!((info.tx_start as u32, info.rx_start as u32), (syn.sequence.wrapping_add(1), PEER_ISN + 1));
}

#[test]
fn sockets_of_others_are_out_of_reach() {
    let mut world = World::new();
    let (app, other) = (world.application(), world.application());
    let socket = world.listener(&app, PORT).unwrap();
    for op in [
        Op::Bind,
        Op::Listen,
        Op::Connect,
        Op::Accept,
        Op::Shutdown,
        Op::FlowInfo,
        Op::SetOption,
        Op::Names,
        Op::Move,
        Op::Close,
    ] {
        assert_eq!(refused(world.ask(other.client, op, socket)), libc::EBADF, "{op:?}");
    }
    assert_eq!(refused(world.listener(&other, PORT)), libc::EADDRINUSE);
    assert_eq!(refused(world.ask(other.client, Op::DestroyContext, app.context)), libc::ENOENT);
    world.ask(app.client, Op::Close, socket).unwrap();
    assert_eq!(refused(world.ask(app.client, Op::Names, socket)), libc::EBADF);
    world.listener(&other, PORT).unwrap();
}

/// Answers REMOVE as the fast path would.
fn confirm_removals(world: &mut World, out: &[Out]) {
    for entry in entries(out).iter().filter(|entry| entry.op == to_fast::REMOVE) {
        assert!(world.rings.report(KernelEntry { op: to_slow::REMOVED, ..*entry }));
    }
}

#[test]
fn a_dead_application_leaves_nothing_behind() {
    let mut world = World::new();
    let app = world.application();
    let listener = world.listener(&app, PORT).unwrap();
    let (flow, start) = handshake(&mut world);
    accept(&mut world, &app, listener);
    world.run();

    world.instance.disconnect(world.now_us, app.client);
    // The peer is told: by a FIN that the core sends, or by a RST.
    // Before that the core takes a whole ring of last words: a loop each millisecond here.
    let mut out = world.run();
    world.pass(u64::from(CONTEXT_RING_ENTRIES / CONTEXT_ENTRIES_PER_LOOP + 8) * 1000);
    out.extend(world.rings.take());
    let told = entries(&out).iter().any(|entry| entry.op == to_fast::FINISH && entry.flow == flow)
        || segments(&out).iter().any(|segment| segment.flags & RST != 0);
    assert!(told, "the peer hears nothing: {out:?}");
    assert_eq!(world.notices(), [(notice::CONTEXT_REMOVED, app.id, app.context)]);

    // A RST of the peer ends what is left.
    let reset = Segment {
        source: PEER_PORT,
        destination: PORT,
        sequence: PEER_ISN + 1,
        acknowledgement: start,
        flags: RST | ACK,
    };
    world.rings.packet(reason::FLAGS, &frames::from_peer(reset, &[]));
    let out = world.run();
    confirm_removals(&mut world, &out);
    for _ in 0..10 {
        world.pass(10_000);
        let out = world.rings.take();
        confirm_removals(&mut world, &out);
    }
    assert_eq!(world.notices(), [(notice::APPLICATION_REMOVED, app.id, 0)]);
    let control = world.control();
    assert_eq!(refused(world.ask(control, Op::FlowEntry, 0)), libc::ENOENT);
    assert_eq!(refused(world.ask(control, Op::ListenEntry, 0)), libc::ENOENT);
    assert_eq!(refused(world.ask(control, Op::ApplicationEntry, 0)), libc::ENOENT);
    let next = world.application();
    world.listener(&next, PORT).unwrap();
}

#[test]
fn flows_survive_the_fast_path() {
    let mut world = World::new();
    let app = world.application();
    let listener = world.listener(&app, PORT).unwrap();
    let (flow, _) = handshake(&mut world);
    accept(&mut world, &app, listener);
    world.run();
    let epoch = |world: &World| world.instance.clock().fastpath_epoch.load(Relaxed);
    assert_eq!(epoch(&world), 2);
    world.instance.disconnect(world.now_us, world.fast);
    assert_eq!(epoch(&world), 3);
    world.now_us += 60_000_000;
    world.instance.run_once(world.now_us);
    let control = world.control();
    let status: Status = world.ask(control, Op::Status, 0).unwrap().0.get();
    assert_eq!((status.fastpath, status.flows_used), (0, 1));

    assert_eq!(world.reattach(&AttachFast { cores: 2, ..attach_request() }).err(), Some(libc::EINVAL as u32));
    assert_eq!(
        world.reattach(&AttachFast { mtu_bytes: 9000, ..attach_request() }).err(),
        Some(libc::EINVAL as u32)
    );
    assert_eq!(
        world.reattach(&AttachFast { flows: 512, ..attach_request() }).err(),
        Some(libc::EINVAL as u32)
    );
    let reply = world.reattach(&attach_request()).unwrap();
    assert_eq!((reply.resumed, reply.epoch), (1, 2));
    assert_eq!(epoch(&world), 4);
    let notices = world.notices();
    assert!(notices.contains(&(notice::CONTEXT_ADDED, app.id, app.context)));
    assert!(
        notices.contains(&(notice::MAP_SEGMENT, app.id, 0))
            && notices.contains(&(notice::POOL_SEGMENT, app.id, 0))
    );
    let entry: FlowEntry = world.ask(control, Op::FlowEntry, 0).unwrap().0.get();
    assert_eq!((entry.id, entry.tcp_state), (flow, 1));
}

#[test]
fn an_idle_instance_may_change_its_shape() {
    let mut world = World::new();
    let app = world.application();
    world.instance.disconnect(world.now_us, app.client);
    world.pass(20_000);
    world.notices();
    world.notices();
    world.instance.disconnect(world.now_us, world.fast);
    let reply = world.reattach(&AttachFast { cores: 2, flows: 1024, ..attach_request() }).unwrap();
    assert_eq!((reply.cores, reply.flows, reply.resumed), (2, 1024, 0));
}

#[test]
fn nothing_is_lost_when_the_ring_to_the_fast_path_is_full() {
    let mut world = World::new();
    let app = world.application();
    world.listener(&app, PORT).unwrap();
    let (_, _) = handshake(&mut world);
    let slots = abi::limits::KERNEL_RING_ENTRIES;
    // The peer asks who we are more often than there is room for answers.
    for _ in 0..slots / 256 + 1 {
        for _ in 0..256 {
            world.rings.packet(reason::NOT_TCP, &frames::arp(1));
        }
        world.now_us += 1_000_000;
        world.instance.run_once(world.now_us);
    }
    let first = world.rings.take().len();
    assert!(first <= slots as usize);
    // The listener still answers.
    let syn =
        Segment { source: PEER_PORT + 1, destination: PORT, sequence: 1, flags: SYN, ..Segment::default() };
    world.rings.packet(reason::NO_FLOW, &frames::from_peer(syn, &[]));
    let mut out = world.run();
    world.pass(10_000);
    out.extend(world.rings.take());
    assert!(
        segments(&out).iter().any(|segment| segment.flags & SYN != 0),
        "no SYN-ACK among {} entries",
        out.len()
    );
}
