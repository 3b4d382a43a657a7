// SPDX-License-Identifier: MIT OR Apache-2.0
//! The instance with a fast path played by hand: roles, memory, notices, identifiers.

mod common;

use abi::{
    message::{notice, AttachFast, Grow, MapRequest, Message, Notice, Op},
    region::RegionKind,
    version,
};
use common::{attach_request, bare, refused, World, ROOT, USER};
use daemon::{Give, MemoryKind, Wake};

#[test]
fn attaching_as_fast_path_is_checked() {
    let mut instance = bare(MemoryKind::Heap);
    let mut attach = |credentials, change: &dyn Fn(&mut AttachFast)| {
        let client = instance.connect(credentials);
        let mut request = attach_request();
        change(&mut request);
        let mut message = Message::with(Op::AttachFast, 0, &request);
        instance.request(0, client, &mut message);
        (message.error as i32, message.get::<AttachFast>())
    };
    assert_eq!(attach(USER, &|_| ()).0, libc::EPERM);
    let (error, reply) = attach(ROOT, &|request| request.abi_hash ^= 1);
    assert_eq!((error, reply.abi_hash), (libc::EPROTO, version::FAST_HASH));
    let (error, reply) = attach(ROOT, &|request| request.version += 1);
    assert_eq!((error, reply.version), (libc::EPROTO, version::FAST_VERSION));
    assert_eq!(attach(ROOT, &|request| request.instance = *b"other\0\0\0\0\0\0\0\0\0\0\0").0, libc::ENODEV);
    assert_eq!(attach(ROOT, &|request| request.cores = 0).0, libc::EINVAL);
    assert_eq!(attach(ROOT, &|request| request.cores = 17).0, libc::EINVAL);
    assert_eq!(attach(ROOT, &|request| request.flows = u32::MAX).0, libc::EINVAL);
    let (error, reply) = attach(ROOT, &|request| request.flows = 200);
    assert_eq!((error, reply.flows, reply.epoch, reply.resumed), (0, 256, 1, 0));
    assert_eq!(attach(ROOT, &|_| ()).0, libc::EBUSY);
}

#[test]
fn applications_wait_for_a_ready_fast_path() {
    let mut instance = bare(MemoryKind::Heap);
    let attach = |instance: &mut daemon::Instance| {
        let client = instance.connect(USER);
        let request = abi::message::AttachApplication {
            abi_hash: version::APPLICATION_HASH,
            version: version::APPLICATION_VERSION,
            ..Default::default()
        };
        let mut message = Message::with(Op::AttachApplication, 0, &request);
        let reply = instance.request(0, client, &mut message);
        (message.error as i32, reply)
    };
    assert_eq!(attach(&mut instance).0, libc::ENODEV);
    let fast = instance.connect(ROOT);
    instance.request(
        0,
        fast,
        &mut Message::with(Op::AttachFast, 0, &AttachFast { cores: 2, ..attach_request() }),
    );
    assert_eq!(attach(&mut instance).0, libc::ENODEV);
    instance.request(0, fast, &mut Message::new(Op::Ready, 0));
    let (error, reply) = attach(&mut instance);
    assert_eq!((error, reply.give), (0, vec![Give::CoreWake(0), Give::CoreWake(1)]));
    assert_eq!(instance.poll_wake(), Some(Wake::Notice));
}

#[test]
fn a_role_is_fixed_and_bounds_what_may_be_asked() {
    let mut world = World::new();
    let app = world.application();
    let (fast, control) = (world.fast, world.control());
    let nobody = world.instance.connect(ROOT);
    for &op in Op::ALL {
        let attach = matches!(op, Op::AttachFast | Op::AttachApplication | Op::AttachControl);
        if !attach {
            assert_eq!(refused(world.ask(nobody, op, 0)), libc::EPERM, "{op:?} without a role");
        } else {
            assert_eq!(refused(world.ask(app.client, op, 0)), libc::EALREADY, "{op:?} again");
        }
    }
    for op in [
        Op::AddRoute,
        Op::CoreEventfd,
        Op::Ready,
        Op::NextNotice,
        Op::NoticeDone,
        Op::WakeContext,
        Op::WakeSlowpath,
    ] {
        assert_eq!(refused(world.ask(app.client, op, 0)), libc::EPERM, "{op:?} by an application");
        assert_eq!(refused(world.ask(control, op, 0)), libc::EPERM, "{op:?} by a control client");
    }
    for op in [Op::CreateContext, Op::DestroyContext, Op::Grow, Op::WakeCore, Op::Bind, Op::Accept, Op::Close]
    {
        assert_eq!(refused(world.ask(fast, op, 0)), libc::EPERM, "{op:?} by the fast path");
        assert_eq!(refused(world.ask(control, op, 0)), libc::EPERM, "{op:?} by a control client");
    }
    for op in
        [Op::Status, Op::FlowEntry, Op::ListenEntry, Op::ApplicationEntry, Op::ResetFlow, Op::SlowCounters]
    {
        assert_eq!(refused(world.ask(app.client, op, 0)), libc::EPERM, "{op:?} by an application");
    }
}

#[test]
fn regions_go_to_those_who_may_have_them() {
    let mut world = World::new();
    let (app, other) = (world.application(), world.application());
    let (fast, control) = (world.fast, world.control());
    let mut map = |client, kind: RegionKind, index: u32, byte_offset: u32| {
        let request = MapRequest { kind: kind as u32, index, byte_offset, ..MapRequest::default() };
        match world.call(client, Op::Map, kind as u32, &request) {
            Ok((message, reply)) => {
                let mapped: MapRequest = message.get();
                assert!(mapped.bytes > 0);
                assert!(
                    matches!(reply.give[..], [Give::Region { writable, .. }] if writable == (mapped.writable == 1))
                );
                if mapped.writable == 1 {
                    "write"
                } else {
                    "read"
                }
            }
            Err(errno) if errno == libc::EACCES as u32 => "no",
            Err(errno) if errno == libc::ENOENT as u32 => "none",
            Err(errno) => panic!("errno {errno}"),
        }
    };
    for (kind, for_fast, for_app, for_control) in [
        (RegionKind::Clock, "read", "read", "read"),
        (RegionKind::FlowHot, "write", "no", "no"),
        (RegionKind::FlowCold, "read", "no", "no"),
        (RegionKind::Adjacencies, "read", "no", "no"),
        (RegionKind::Recovery, "write", "no", "no"),
        (RegionKind::KernelRings, "write", "no", "no"),
        (RegionKind::CoreStatus, "write", "read", "read"),
    ] {
        let found = [fast, app.client, control].map(|client| map(client, kind, 0, 0));
        assert_eq!(found, [for_fast, for_app, for_control], "{kind:?}");
    }
    for (kind, index) in
        [(RegionKind::Context, app.context), (RegionKind::Pool, app.id), (RegionKind::Maps, app.id)]
    {
        let found = [fast, app.client, other.client, control].map(|client| map(client, kind, index, 0));
        assert_eq!(found, ["write", "write", "no", "no"], "{kind:?}");
    }
    assert_eq!(map(fast, RegionKind::KernelRings, 1, 0), "none");
    assert_eq!(map(app.client, RegionKind::Pool, app.id, 4096), "none");
    assert_eq!(map(app.client, RegionKind::Maps, app.id, 2 << 20), "none");
    assert_eq!(map(fast, RegionKind::Context, 4095, 0), "none");
    assert_eq!(map(fast, RegionKind::Context, u32::MAX, 0), "none");
}

#[test]
fn identifiers_come_back_when_the_fast_path_let_go() {
    let mut world = World::new();
    for _ in 0..3 * abi::limits::APPLICATIONS_MAX {
        let (client, _) = world.attach(USER).expect("application identifiers ran out");
        world.ask(client, Op::CreateContext, 0).expect("context identifiers ran out");
        world.instance.disconnect(world.now_us, client);
        world.pass(1000);
        world.notices();
        world.notices();
    }
}

#[test]
fn a_fast_path_that_does_not_answer_keeps_identifiers_taken() {
    let mut world = World::new();
    let (client, first) = world.attach(USER).unwrap();
    world.instance.disconnect(world.now_us, client);
    world.pass(1000);
    for _ in 0..abi::limits::APPLICATIONS_MAX {
        match world.attach(USER) {
            Ok((client, attached)) => {
                assert_ne!(
                    attached.application, first.application,
                    "given out while the fast path may have it mapped"
                );
                world.instance.disconnect(world.now_us, client);
            }
            Err(errno) => assert_eq!(errno as i32, libc::EMFILE),
        }
    }
    // Gone with all its mappings: everything is free again.
    world.instance.disconnect(world.now_us, world.fast);
    world.pass(1_000_000);
    world.reattach(&attach_request()).unwrap();
    world.ask(world.fast, Op::Ready, 0).unwrap();
    world.attach(USER).unwrap();
}

#[test]
fn memory_grows_to_its_limit() {
    let mut world = World::new();
    let app = world.application();
    assert_eq!(
        refused(world.call(app.client, Op::Grow, 0, &Grow { kind: 99, ..Grow::default() })),
        libc::EINVAL
    );
    let grow = Grow { kind: RegionKind::Maps as u32, ..Grow::default() };
    let mut granted = 1;
    loop {
        match world.call(app.client, Op::Grow, 0, &grow) {
            Ok((message, reply)) => {
                granted += 1;
                assert_eq!(message.get::<Grow>().segments, granted);
                assert_eq!(world.notices(), [(notice::MAP_SEGMENT, app.id, granted - 1)]);
                assert!(world.instance.is_settled(reply.after_notice.unwrap()));
            }
            Err(errno) => {
                assert_eq!((errno as i32, granted), (libc::ENOBUFS, abi::pool::MAP_SEGMENTS_MAX));
                break;
            }
        }
    }
}

#[test]
fn notices_are_answered_once() {
    let mut world = World::new();
    world.attach(USER).unwrap();
    let (message, _) = world.ask(world.fast, Op::NextNotice, 0).unwrap();
    let taken: Notice = message.get();
    world.call(world.fast, Op::NoticeDone, 0, &taken).unwrap();
    assert_eq!(refused(world.call(world.fast, Op::NoticeDone, 0, &taken)), libc::ENOENT);
    assert_eq!(
        refused(world.call(world.fast, Op::NoticeDone, 0, &Notice { sequence: 77_777, ..taken })),
        libc::ENOENT
    );
}
