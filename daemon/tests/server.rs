// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real server at a path of its own, with the real client side.

mod common;
mod harness;

use abi::{
    clock::ClockPage,
    message::{AttachApplication, Message, Notice, Op, Status, MESSAGE_BYTES},
    region::{Region, RegionKind},
    version,
};
use common::{attach_request, frames};
use daemon::server::Server;
use harness::*;
use nix::{
    errno::Errno,
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{
            send, sendmsg, socket, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr,
        },
    },
};
use std::{
    fs,
    io::IoSlice,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    sync::{atomic::Ordering::SeqCst, Arc},
    thread,
};
use tas::control::{attach, daemon::DaemonChannel, errno, ControlChannel, Target};
use zerocopy::IntoBytes;

#[test]
fn the_path_is_private_and_only_a_stale_one_is_removed() {
    let daemon = Daemon::start();
    let metadata = fs::metadata(daemon.path()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o660);
    let error = Server::new(&daemon.directory.options()).err().expect("two serve one path").to_string();
    assert!(error.contains("is served by another") && error.contains("--instance"), "{error}");
    assert!(daemon.path().exists());

    let directory = Directory::new();
    let options = directory.options();
    fs::write(&options.socket, "precious").unwrap();
    let error = Server::new(&options).err().expect("a file was taken for a socket").to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&options.socket).unwrap(), "precious");
    fs::remove_file(&options.socket).unwrap();

    let stale = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    nix::sys::socket::bind(stale.as_raw_fd(), &UnixAddr::new(&options.socket).unwrap()).unwrap();
    drop(stale);
    Server::new(&options).expect("a stale path is in the way");
}

#[test]
fn datagrams_that_are_no_messages_get_einval() {
    let daemon = Daemon::start();
    let client = raw_client(&daemon);
    let exchange = |bytes: &[u8]| {
        send(client.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
        answer(&client)
    };
    for length in [1usize, 3, 4, 15, 16, 255, 257, 4096] {
        let reply = exchange(&vec![7; length]);
        assert_eq!(reply.error, libc::EINVAL as u32, "{length} bytes");
    }
    let mut unknown = Message::new(Op::Status, 0);
    unknown.op = 999;
    let reply = exchange(unknown.as_bytes());
    assert_eq!((reply.op, reply.error), (999, libc::EINVAL as u32));
    let request = abi::message::AttachControl {
        abi_hash: version::CONTROL_HASH,
        version: version::CONTROL_VERSION,
        ..Default::default()
    };
    assert_eq!(exchange(Message::with(Op::AttachControl, 0, &request).as_bytes()).error, 0);
}

#[test]
fn descriptors_that_belong_nowhere_are_closed() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let (app, _) = daemon.application(&fast);
    let file = fs::File::open("/dev/null").unwrap();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    // Only an eventfd wakes; nothing at all does not either.
    let mut message = Message::new(Op::CreateContext, 0);
    assert_eq!(
        errno(&app.call(Target::Instance, &mut message, Some(file.as_fd())).unwrap_err()),
        libc::EINVAL
    );
    assert_eq!(errno(&app.call(Target::Instance, &mut message, None).unwrap_err()), libc::EINVAL);
    let before = open();
    for _ in 0..100 {
        let mut message = Message::new(Op::Names, 5);
        assert!(app.call(Target::Instance, &mut message, Some(file.as_fd())).is_err());
    }
    // The daemon runs in this process: other tests open files too, but not a hundred.
    assert!(open() < before + 90, "the daemon keeps what it was passed");
}

#[test]
fn a_datagram_full_of_descriptors_leaves_none_open() {
    let daemon = Daemon::start();
    let client = raw_client(&daemon);
    let file = fs::File::open("/dev/null").unwrap();
    let raw = [file.as_raw_fd(); 60];
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..40 {
        let rights = [ControlMessage::ScmRights(&raw)];
        let bytes = [IoSlice::new(&[1; MESSAGE_BYTES])];
        sendmsg::<()>(client.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
        assert_eq!(answer(&client).error, libc::EINVAL as u32);
    }
    // 2,400 were passed; other tests of this process open a few meanwhile.
    assert!(open() < before + 1000, "the daemon keeps what it was passed");
}

#[test]
fn a_client_that_takes_no_replies_is_dropped() {
    let daemon = Daemon::start();
    let client = raw_client(&daemon);
    let gone = (0..1_000_000).find_map(|_| send(client.as_raw_fd(), &[1; 8], MsgFlags::MSG_NOSIGNAL).err());
    assert!(matches!(gone, Some(Errno::EPIPE | Errno::ECONNRESET)), "{gone:?}");
    daemon.control();
}

#[test]
fn an_application_that_dies_while_it_waits_is_forgotten() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let client = raw_client(&daemon);
    let request = AttachApplication {
        abi_hash: version::APPLICATION_HASH,
        version: version::APPLICATION_VERSION,
        ..AttachApplication::default()
    };
    send(client.as_raw_fd(), Message::with(Op::AttachApplication, 0, &request).as_bytes(), MsgFlags::empty())
        .unwrap();
    wait_readable(fast.notice_fd());
    drop(client);
    let mut ended = Vec::new();
    let removed = |ended: &Vec<u32>| ended.contains(&abi::message::notice::APPLICATION_REMOVED);
    eventually(
        || {
            ended.extend(serve_notices(&fast).into_iter().map(|notice| notice.kind));
            ended.clone()
        },
        removed,
    );
    let (_app, attached) = daemon.application(&fast);
    assert!(attached.application > 0);
}

#[test]
fn replies_wait_for_the_fast_path() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let channel = daemon.channel();
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
    thread::scope(|scope| {
        let attach = scope.spawn(|| attach::application(&*channel, "tas0", [0; 16]));
        wait_readable(fast.notice_fd());
        // As long as one notice is open the application waits.
        let mut message = Message::new(Op::NextNotice, 0);
        fast.call(Target::Instance, &mut message, None).unwrap();
        let first: Notice = message.get();
        serve_notices(&fast);
        assert!(!attach.is_finished());
        fast.call(Target::Instance, &mut Message::with(Op::NoticeDone, 0, &first), None).unwrap();
        attach.join().unwrap().unwrap();
        // Nor does it wait for a fast path that is gone.
        let create = scope.spawn(|| create_context(&channel, &event));
        wait_readable(fast.notice_fd());
        drop(fast);
        create.join().unwrap().unwrap();
    });
}

#[test]
fn closing_the_last_descriptor_releases_the_socket() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let (app, _) = daemon.application(&fast);
    let control = daemon.control();
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
    let context = while_serving(&fast, || create_context(&app, &event)).unwrap();
    let (id, descriptor) = new_socket(&app, context);
    listen(&app, id, &descriptor, 7000).unwrap();
    assert_eq!(first_listener(&control).map(|entry| entry.local.port), Some(7000));
    let copy = descriptor.try_clone().unwrap();
    drop(descriptor);
    assert_eq!(first_listener(&control).map(|entry| entry.id), Some(id));
    drop(copy);
    eventually(|| first_listener(&control), Option::is_none);

    let (id, descriptor) = new_socket(&app, context);
    listen(&app, id, &descriptor, 7000).unwrap();
    app.call(Target::Socket(descriptor.as_fd(), id), &mut Message::new(Op::Close, 0), None).unwrap();
    assert!(first_listener(&control).is_none());
    wait_readable(&descriptor);
}

#[test]
fn death_of_an_application_is_noticed() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let (app, attached) = daemon.application(&fast);
    let control = daemon.control();
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
    let context = while_serving(&fast, || create_context(&app, &event)).unwrap();
    let (id, descriptor) = new_socket(&app, context);
    listen(&app, id, &descriptor, 7000).unwrap();
    drop((app, descriptor));
    let mut ended = Vec::new();
    eventually(
        || {
            ended.extend(serve_notices(&fast).into_iter().map(|notice| notice.kind));
            ended.clone()
        },
        |ended| ended.contains(&abi::message::notice::APPLICATION_REMOVED),
    );
    assert!(ended.contains(&abi::message::notice::CONTEXT_REMOVED));
    let mut status = Message::new(Op::Status, 0);
    control.call(Target::Instance, &mut status, None).unwrap();
    let status: Status = status.get();
    assert_eq!((status.applications, status.contexts, status.listeners), (0, 0, 0));
    assert_eq!(attached.cores, 1);
}

#[test]
fn memory_is_handed_out_as_the_role_may_use_it() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let (app, attached) = daemon.application(&fast);
    let whole = |kind| Region::whole(kind, 0);
    let status = whole(RegionKind::CoreStatus);
    assert!(fast.map(status, 4096, true, None).is_ok());
    assert_eq!(errno(&app.map(status, 4096, true, None).unwrap_err()), libc::EACCES);
    assert!(app.map(status, 4096, false, None).is_ok());
    assert_eq!(errno(&app.map(whole(RegionKind::FlowHot), 4096, false, None).unwrap_err()), libc::EACCES);
    assert_eq!(errno(&fast.map(whole(RegionKind::FlowCold), 4096, true, None).unwrap_err()), libc::EACCES);
    let pool = Region { kind: RegionKind::Pool, index: attached.application, byte_offset: 0 };
    let ours = app.map(pool, 2 << 20, true, None).unwrap();
    let theirs = fast.map(pool, 2 << 20, true, None).unwrap();
    // SAFETY: mapped, aligned, both in this process.
    unsafe {
        ours.start().as_ptr().cast::<u64>().write_volatile(0x1234);
        assert_eq!(theirs.start().as_ptr().cast::<u64>().read_volatile(), 0x1234);
    }
    let past = Region { byte_offset: attached.pool_segments * (2 << 20), ..pool };
    assert_eq!(errno(&app.map(past, 2 << 20, true, None).unwrap_err()), libc::ENOENT);
}

#[test]
fn the_clock_runs_and_the_daemon_sleeps_until_it_is_woken() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let mapping = fast.map(Region::whole(RegionKind::Clock, 0), 4096, false, None).unwrap();
    // SAFETY: mapped for the rest of the test, aligned, made of atomics.
    let page: &ClockPage = unsafe { mapping.start().cast().as_ref() };
    let before = page.microseconds(daemon::clock::ticks());
    let after = eventually(|| page.microseconds(daemon::clock::ticks()), |now| *now > before + 100);
    assert!(after > before);
    let waiting = || page.slowpath_waiting.load(SeqCst);
    eventually(waiting, |waiting| *waiting == 1);
    // A wake-up makes it look at the rings: an ARP request is answered.
    let rings =
        fast.map(Region::whole(RegionKind::KernelRings, 0), common::LAYOUT.bytes(), true, None).unwrap();
    let words = abi::context::ring_bytes(abi::limits::KERNEL_RING_ENTRIES, 2) / 8;
    let at = |offset| std::ptr::NonNull::new(rings.start().as_ptr().wrapping_add(offset)).unwrap();
    // SAFETY: inside the mapping, which outlives the ends.
    let (to_slow, to_fast, slots) = unsafe {
        (
            ring::words(at(abi::region::KernelRingLayout::TO_SLOW), words),
            ring::words(at(abi::region::KernelRingLayout::TO_FAST), words),
            ring::SharedBytes::new(at(common::LAYOUT.to_slow_slots()), 2048),
        )
    };
    let mut producer = ring::Producer::<2>::attach(to_slow, abi::limits::KERNEL_RING_ENTRIES).unwrap();
    let mut consumer = ring::Consumer::<2>::attach(to_fast, abi::limits::KERNEL_RING_ENTRIES).unwrap();
    let frame = frames::arp(1);
    assert!(slots.write(0, &frame));
    let entry = abi::kernel_ring::KernelEntry { op: 1, reason: 1, flow: 0, value: frame.len() as u64 };
    assert!(producer.push(entry.encode()));
    fast.wake_slowpath().unwrap();
    let answer = eventually(|| consumer.pop(), Option::is_some).unwrap();
    assert_eq!(abi::kernel_ring::KernelEntry::decode(answer).op, abi::kernel_ring::to_fast::TRANSMIT);
}

#[test]
fn wake_ups_reach_a_fast_path_that_came_later() {
    let daemon = Daemon::start();
    let (fast, core) = daemon.fast_path();
    let (app, _) = daemon.application(&fast);
    app.wake_core(0).unwrap();
    assert!(is_readable(&core));
    drop((fast, core));
    // The application holds the eventfd of the fast path that is gone.
    app.wake_core(0).unwrap();
    let again = eventually(
        || attach::fast(&*daemon.channel(), "tas0", &attach_request()).is_ok(),
        |attached| *attached,
    );
    assert!(again);
    let (fast, core) = eventually_attach(&daemon);
    app.wake_core(0).unwrap();
    wait_readable(&core);
    drop(fast);
}

/// The daemon notices the end of a fast path a moment later.
fn eventually_attach(daemon: &Daemon) -> (Arc<DaemonChannel>, EventFd) {
    let channel = eventually(
        || {
            let channel = daemon.channel();
            attach::fast(&*channel, "tas0", &attach_request()).ok().map(|_| channel)
        },
        Option::is_some,
    );
    let channel = channel.unwrap();
    let core = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
    channel.call(Target::Instance, &mut Message::new(Op::CoreEventfd, 0), Some(core.as_fd())).unwrap();
    (channel, core)
}

#[test]
fn notices_carry_the_eventfd_of_the_context() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let (app, _) = daemon.application(&fast);
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
    let context = while_serving(&fast, || create_context(&app, &event)).unwrap();
    assert!(!is_readable(&event));
    fast.wake_context(context).unwrap();
    assert!(is_readable(&event));
}
