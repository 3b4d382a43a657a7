// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real server at a path of its own, with the real client side.

mod common;

use abi::{
    clock::ClockPage,
    message::{
        AttachApplication, Endpoint, FlowEntry, Message, Name, Notice, Op, Socket, Status,
        MESSAGE_BYTES,
    },
    region::{Region, RegionKind},
    version,
};
use common::{attach_request, frames};
use daemon::server::{Options, Server};
use nix::{
    errno::Errno,
    poll::{poll, PollFd, PollFlags, PollTimeout},
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{
            connect, recv, send, sendmsg, socket, AddressFamily, ControlMessage, MsgFlags,
            SockFlag, SockType, UnixAddr,
        },
    },
};
use std::{
    fs,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::PathBuf,
    sync::{
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
        Arc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tas::control::{attach, daemon::DaemonChannel, errno, ControlChannel, Target};
use zerocopy::{FromBytes, IntoBytes};

/// Longest wait for something that must come, milliseconds: only a failing test reaches it.
const PATIENCE_MS: u16 = 20_000;

/// A directory of the test's own.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tas-daemon-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn options(&self) -> Options {
        Options {
            socket: self.0.join("tas0.sock"),
            ..Options::new("tas0")
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon in a thread.
struct Daemon {
    directory: Directory,
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start() -> Self {
        let directory = Directory::new();
        let server = Server::new(&directory.options()).unwrap();
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
        let theirs: OwnedFd = stop.as_fd().try_clone_to_owned().unwrap();
        let thread = thread::spawn(move || server.run(theirs.as_fd()).unwrap());
        Self {
            directory,
            stop,
            thread: Some(thread),
        }
    }
    fn path(&self) -> PathBuf {
        self.directory.options().socket
    }
    fn channel(&self) -> Arc<DaemonChannel> {
        Arc::new(DaemonChannel::open(&self.path()).unwrap())
    }
    /// A fast path of one core; its channel and the eventfd of its core.
    fn fast_path(&self) -> (Arc<DaemonChannel>, EventFd) {
        let channel = self.channel();
        attach::fast(&*channel, "tas0", &attach_request()).unwrap();
        let core = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .unwrap();
        channel
            .call(
                Target::Instance,
                &mut Message::new(Op::CoreEventfd, 0),
                Some(core.as_fd()),
            )
            .unwrap();
        channel
            .call(Target::Instance, &mut Message::new(Op::Ready, 0), None)
            .unwrap();
        (channel, core)
    }
    fn control(&self) -> Arc<DaemonChannel> {
        let channel = self.channel();
        attach::control(&*channel, "tas0").unwrap();
        channel
    }
    /// An application; the fast path carries out its notices meanwhile.
    fn application(&self, fast: &Arc<DaemonChannel>) -> (Arc<DaemonChannel>, AttachApplication) {
        let channel = self.channel();
        let attached = while_serving(fast, || {
            attach::application(&*channel, "tas0", *b"test\0\0\0\0\0\0\0\0\0\0\0\0")
        });
        (channel, attached.unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.write(1).unwrap();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))));
            assert!(!self.path().exists(), "the socket path stays behind");
        }
    }
}

fn wait_readable(descriptor: impl AsFd) {
    let mut ready = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut ready, PollTimeout::from(PATIENCE_MS)),
        Ok(1),
        "nothing came"
    );
}

fn is_readable(descriptor: impl AsFd) -> bool {
    poll(
        &mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)],
        PollTimeout::ZERO,
    ) == Ok(1)
}

/// Carries out waiting notices.
fn serve_notices(fast: &DaemonChannel) -> Vec<Notice> {
    let mut all = Vec::new();
    loop {
        let mut message = Message::new(Op::NextNotice, 0);
        match fast.call(Target::Instance, &mut message, None) {
            Ok(_) => {
                let notice: Notice = message.get();
                fast.call(
                    Target::Instance,
                    &mut Message::with(Op::NoticeDone, 0, &notice),
                    None,
                )
                .unwrap();
                all.push(notice);
            }
            Err(error) => {
                assert_eq!(errno(&error), libc::EAGAIN);
                return all;
            }
        }
    }
}

/// Runs `work` in a thread and answers notices until it is done.
fn while_serving<T: Send>(fast: &Arc<DaemonChannel>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            serve_notices(fast);
            thread::yield_now();
        }
        worker.join().unwrap()
    })
}

/// Asks again until the answer is as wished: for what happens when the kernel tells the daemon.
fn eventually<T: std::fmt::Debug>(mut ask: impl FnMut() -> T, wished: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let answer = ask();
        if wished(&answer) {
            return answer;
        }
        assert!(
            start.elapsed() < Duration::from_millis(PATIENCE_MS.into()),
            "still {answer:?}"
        );
        thread::yield_now();
    }
}

/// A connection that sends what it likes.
fn raw_client(daemon: &Daemon) -> OwnedFd {
    let client = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    connect(client.as_raw_fd(), &UnixAddr::new(&daemon.path()).unwrap()).unwrap();
    client
}

/// The next reply on it.
fn answer(client: &OwnedFd) -> Message {
    let mut reply = [0u8; MESSAGE_BYTES + 1];
    wait_readable(client);
    assert_eq!(
        recv(client.as_raw_fd(), &mut reply, MsgFlags::empty()),
        Ok(MESSAGE_BYTES)
    );
    Message::read_from_bytes(&reply[..MESSAGE_BYTES]).unwrap()
}

fn create_context(channel: &DaemonChannel, event: &EventFd) -> io::Result<u32> {
    let mut message = Message::new(Op::CreateContext, 0);
    channel.call(Target::Instance, &mut message, Some(event.as_fd()))?;
    Ok(message.get::<abi::message::Context>().context)
}

fn new_socket(channel: &DaemonChannel, context: u32) -> (u32, OwnedFd) {
    let mut message = Message::with(
        Op::Socket,
        0,
        &Socket {
            family: 2,
            context,
            ..Socket::default()
        },
    );
    let mut descriptors = channel.call(Target::Instance, &mut message, None).unwrap();
    assert_eq!(descriptors.len(), 1);
    (message.get::<Socket>().socket, descriptors.remove(0))
}

fn listen(channel: &DaemonChannel, socket: u32, descriptor: &OwnedFd, port: u16) -> io::Result<()> {
    let target = Target::Socket(descriptor.as_fd(), socket);
    let name = Name {
        endpoint: Endpoint::ipv4(0, port),
        reserved: 0,
    };
    channel.call(target, &mut Message::with(Op::Bind, 0, &name), None)?;
    let mut message = Message::new(Op::Listen, 0);
    message.flags = 8;
    channel.call(target, &mut message, None).map(|_| ())
}

fn first_listener(control: &DaemonChannel) -> Option<FlowEntry> {
    let mut message = Message::new(Op::ListenEntry, 0);
    control
        .call(Target::Instance, &mut message, None)
        .ok()
        .map(|_| message.get())
}

#[test]
fn the_path_is_private_and_only_a_stale_one_is_removed() {
    let daemon = Daemon::start();
    let metadata = fs::metadata(daemon.path()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o660);
    let error = Server::new(&daemon.directory.options())
        .err()
        .expect("two serve one path")
        .to_string();
    assert!(
        error.contains("is served by another") && error.contains("--instance"),
        "{error}"
    );
    assert!(daemon.path().exists());

    let directory = Directory::new();
    let options = directory.options();
    fs::write(&options.socket, "precious").unwrap();
    let error = Server::new(&options)
        .err()
        .expect("a file was taken for a socket")
        .to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&options.socket).unwrap(), "precious");
    fs::remove_file(&options.socket).unwrap();

    let stale = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
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
    assert_eq!(
        exchange(Message::with(Op::AttachControl, 0, &request).as_bytes()).error,
        0
    );
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
        errno(
            &app.call(Target::Instance, &mut message, Some(file.as_fd()))
                .unwrap_err()
        ),
        libc::EINVAL
    );
    assert_eq!(
        errno(&app.call(Target::Instance, &mut message, None).unwrap_err()),
        libc::EINVAL
    );
    let before = open();
    for _ in 0..100 {
        let mut message = Message::new(Op::Names, 5);
        assert!(app
            .call(Target::Instance, &mut message, Some(file.as_fd()))
            .is_err());
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
    assert!(
        open() < before + 1000,
        "the daemon keeps what it was passed"
    );
}

#[test]
fn a_client_that_takes_no_replies_is_dropped() {
    let daemon = Daemon::start();
    let client = raw_client(&daemon);
    let gone = (0..1_000_000)
        .find_map(|_| send(client.as_raw_fd(), &[1; 8], MsgFlags::MSG_NOSIGNAL).err());
    assert!(
        matches!(gone, Some(Errno::EPIPE | Errno::ECONNRESET)),
        "{gone:?}"
    );
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
    send(
        client.as_raw_fd(),
        Message::with(Op::AttachApplication, 0, &request).as_bytes(),
        MsgFlags::empty(),
    )
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
        fast.call(
            Target::Instance,
            &mut Message::with(Op::NoticeDone, 0, &first),
            None,
        )
        .unwrap();
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
    assert_eq!(
        first_listener(&control).map(|entry| entry.local.port),
        Some(7000)
    );
    let copy = descriptor.try_clone().unwrap();
    drop(descriptor);
    assert_eq!(first_listener(&control).map(|entry| entry.id), Some(id));
    drop(copy);
    eventually(|| first_listener(&control), Option::is_none);

    let (id, descriptor) = new_socket(&app, context);
    listen(&app, id, &descriptor, 7000).unwrap();
    app.call(
        Target::Socket(descriptor.as_fd(), id),
        &mut Message::new(Op::Close, 0),
        None,
    )
    .unwrap();
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
    assert_eq!(
        (status.applications, status.contexts, status.listeners),
        (0, 0, 0)
    );
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
    assert_eq!(
        errno(&app.map(status, 4096, true, None).unwrap_err()),
        libc::EACCES
    );
    assert!(app.map(status, 4096, false, None).is_ok());
    assert_eq!(
        errno(
            &app.map(whole(RegionKind::FlowHot), 4096, false, None)
                .unwrap_err()
        ),
        libc::EACCES
    );
    assert_eq!(
        errno(
            &fast
                .map(whole(RegionKind::FlowCold), 4096, true, None)
                .unwrap_err()
        ),
        libc::EACCES
    );
    let pool = Region {
        kind: RegionKind::Pool,
        index: attached.application,
        byte_offset: 0,
    };
    let ours = app.map(pool, 2 << 20, true, None).unwrap();
    let theirs = fast.map(pool, 2 << 20, true, None).unwrap();
    // SAFETY: mapped, aligned, both in this process.
    unsafe {
        ours.start().as_ptr().cast::<u64>().write_volatile(0x1234);
        assert_eq!(
            theirs.start().as_ptr().cast::<u64>().read_volatile(),
            0x1234
        );
    }
    let past = Region {
        byte_offset: attached.pool_segments * (2 << 20),
        ..pool
    };
    assert_eq!(
        errno(&app.map(past, 2 << 20, true, None).unwrap_err()),
        libc::ENOENT
    );
}

#[test]
fn the_clock_runs_and_the_daemon_sleeps_until_it_is_woken() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let mapping = fast
        .map(Region::whole(RegionKind::Clock, 0), 4096, false, None)
        .unwrap();
    // SAFETY: mapped for the rest of the test, aligned, made of atomics.
    let page: &ClockPage = unsafe { mapping.start().cast().as_ref() };
    let before = page.microseconds(daemon::clock::ticks());
    let after = eventually(
        || page.microseconds(daemon::clock::ticks()),
        |now| *now > before + 100,
    );
    assert!(after > before);
    let waiting = || page.slowpath_waiting.load(SeqCst);
    eventually(waiting, |waiting| *waiting == 1);
    // A wake-up makes it look at the rings: an ARP request is answered.
    let rings = fast
        .map(
            Region::whole(RegionKind::KernelRings, 0),
            abi::region::kernel_rings::BYTES,
            true,
            None,
        )
        .unwrap();
    let words = abi::context::ring_bytes(abi::limits::KERNEL_RING_ENTRIES, 2) / 8;
    let at = |offset| std::ptr::NonNull::new(rings.start().as_ptr().wrapping_add(offset)).unwrap();
    // SAFETY: inside the mapping, which outlives the ends.
    let (to_slow, to_fast, slots) = unsafe {
        (
            ring::words(at(abi::region::kernel_rings::TO_SLOW), words),
            ring::words(at(abi::region::kernel_rings::TO_FAST), words),
            ring::SharedBytes::new(at(abi::region::kernel_rings::TO_SLOW_SLOTS), 2048),
        )
    };
    let mut producer =
        ring::Producer::<2>::attach(to_slow, abi::limits::KERNEL_RING_ENTRIES).unwrap();
    let mut consumer =
        ring::Consumer::<2>::attach(to_fast, abi::limits::KERNEL_RING_ENTRIES).unwrap();
    let frame = frames::arp(1);
    assert!(slots.write(0, &frame));
    let entry = abi::kernel_ring::KernelEntry {
        op: 1,
        reason: 1,
        flow: 0,
        value: frame.len() as u64,
    };
    assert!(producer.push(entry.encode()));
    fast.wake_slowpath().unwrap();
    let answer = eventually(|| consumer.pop(), Option::is_some).unwrap();
    assert_eq!(
        abi::kernel_ring::KernelEntry::decode(answer).op,
        abi::kernel_ring::to_fast::TRANSMIT
    );
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
            attach::fast(&*channel, "tas0", &attach_request())
                .ok()
                .map(|_| channel)
        },
        Option::is_some,
    );
    let channel = channel.unwrap();
    let core =
        EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
    channel
        .call(
            Target::Instance,
            &mut Message::new(Op::CoreEventfd, 0),
            Some(core.as_fd()),
        )
        .unwrap();
    (channel, core)
}

#[test]
fn notices_carry_the_eventfd_of_the_context() {
    let daemon = Daemon::start();
    let (fast, _core) = daemon.fast_path();
    let (app, _) = daemon.application(&fast);
    let event =
        EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
    let context = while_serving(&fast, || create_context(&app, &event)).unwrap();
    assert!(!is_readable(&event));
    fast.wake_context(context).unwrap();
    assert!(is_readable(&event));
}
