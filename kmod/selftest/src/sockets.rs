// SPDX-License-Identifier: GPL-2.0-only
//! A socket is a file: who may hold it, and when it closes.

use crate::{
    roles::{self, eventually, FastPath},
    sys, Case,
};
use abi::message::{Accept, ApplicationEntry, Connect, Endpoint, Message, Name, Names, Op, Socket};
use std::{
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::UnixStream,
};

pub(crate) const CASES: &[Case] = &[
    ("socket_requests_are_checked", |_| socket_requests_are_checked()),
    ("sockets_have_their_own_calls", |_| sockets_have_their_own_calls()),
    ("names_are_kept", |_| names_are_kept()),
    ("low_ports_need_the_capability", |_| low_ports_need_the_capability()),
    ("close_on_exec_and_non_blocking", |_| close_on_exec_and_non_blocking()),
    ("the_last_descriptor_closes", |_| the_last_descriptor_closes()),
    ("a_passed_socket_is_the_capability", |_| a_passed_socket_is_the_capability()),
    ("a_socket_in_flight_closes", |_| a_socket_in_flight_closes()),
    ("sockets_outlive_their_owner_safely", |_| sockets_outlive_their_owner_safely()),
    ("looks_like_a_socket", |_| looks_like_a_socket()),
    ("readiness", |_| readiness()),
];

/// A fast path, an application and a context.
struct Setting {
    _fast: FastPath,
    file: OwnedFd,
    id: u32,
    context: u32,
    _wake: OwnedFd,
    control: OwnedFd,
}

impl Setting {
    fn new() -> Self {
        let fast = FastPath::start(&roles::fast_request(), true).unwrap();
        let (file, reply) = roles::application();
        let (context, wake) = roles::context(&file).unwrap();
        let control = roles::control();
        Self { _fast: fast, file, id: reply.application, context: context.context, _wake: wake, control }
    }
    fn socket(&self) -> OwnedFd {
        roles::socket(&self.file, self.context, libc::O_CLOEXEC).unwrap().1
    }
    /// Sockets that the slow path knows of this application.
    fn sockets(&self) -> u32 {
        let message = sys::simple(&self.control, Op::ApplicationEntry, self.id).unwrap();
        message.get::<ApplicationEntry>().sockets
    }
}

fn bind(socket: &OwnedFd, address: u32, port: u16) -> Result<u16, i32> {
    let name = Name { endpoint: Endpoint::ipv4(address, port), ..Name::default() };
    let mut message = Message::with(Op::Bind, 0, &name);
    sys::call(socket, &mut message).map(|()| message.get::<Name>().endpoint.port)
}

fn listen(socket: &OwnedFd, backlog: u32) -> Result<(), i32> {
    let mut message = Message::new(Op::Listen, 0);
    message.flags = backlog;
    sys::call(socket, &mut message)
}

fn socket_requests_are_checked() {
    let setting = Setting::new();
    let good = Socket { family: 2, context: setting.context, ..Socket::default() };
    let error = |request: &Socket| sys::call(&setting.file, &mut Message::with(Op::Socket, 0, request)).err();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (before, sockets) = (descriptors(), setting.sockets());
    assert_eq!(error(&Socket { file_flags: 1, ..good }), Some(libc::EINVAL));
    assert_eq!(error(&Socket { file_flags: u32::MAX, ..good }), Some(libc::EINVAL));
    assert_eq!(error(&Socket { family: 1, ..good }), Some(libc::EAFNOSUPPORT));
    assert!(error(&Socket { context: 4000, ..good }).is_some());
    assert!(error(&Socket { context: u32::MAX - 1, ..good }).is_some());
    assert_eq!((descriptors(), setting.sockets()), (before, sockets), "a refused call left something");
    // Out of descriptors: refused, and nothing is left in the slow path.
    let limit = |value| {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: 4096 };
        // SAFETY: a valid struct.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    };
    limit(3);
    let refused = error(&good);
    limit(1024);
    assert_eq!(refused, Some(libc::EMFILE));
    assert_eq!(setting.sockets(), sockets);
}

fn sockets_have_their_own_calls() {
    let setting = Setting::new();
    let socket = setting.socket();
    for &op in Op::ALL {
        let own = matches!(
            op,
            Op::Bind
                | Op::Listen
                | Op::Connect
                | Op::Accept
                | Op::Shutdown
                | Op::FlowInfo
                | Op::SetOption
                | Op::GetOption
                | Op::Names
                | Op::Move
                | Op::SynData
        );
        if !own {
            assert_eq!(sys::simple(&socket, op, 0).err(), Some(libc::EPERM), "{op:?}");
        }
    }
    assert_eq!(sys::simple(&socket, Op::FlowInfo, 0).err(), Some(libc::ENOTCONN));
    assert_eq!(sys::simple(&socket, Op::Accept, 0).err(), Some(libc::EINVAL));
    let map = sys::Map::at(&socket, 1 << 56, 4096, libc::PROT_READ, libc::MAP_SHARED);
    assert_eq!(map.err(), Some(libc::ENODEV));
}

fn names_are_kept() {
    let setting = Setting::new();
    let (one, two) = (setting.socket(), setting.socket());
    assert_eq!(bind(&one, 0x0101_0101, 8080), Err(libc::EADDRNOTAVAIL));
    assert_eq!(bind(&one, roles::ADDRESS, 8080), Ok(8080));
    assert_eq!(bind(&one, roles::ADDRESS, 8081), Err(libc::EINVAL));
    assert_eq!(bind(&two, roles::ADDRESS, 8080), Err(libc::EADDRINUSE));
    assert!(bind(&two, 0, 0).unwrap() > 1023);
    let names: Names = sys::simple(&one, Op::Names, 0).unwrap().get();
    assert_eq!((names.local.as_ipv4(), names.local.port), (Some(roles::ADDRESS), 8080));
    listen(&one, 5).unwrap();
    drop(one);
    let again = setting.socket();
    eventually("the port is free again", || bind(&again, roles::ADDRESS, 8080) == Ok(8080));
}

fn low_ports_need_the_capability() {
    let setting = Setting::new();
    let socket = setting.socket();
    let status = sys::in_child(|| {
        // SAFETY: only this child is affected.
        unsafe { assert_eq!(libc::setresuid(65534, 65534, 65534), 0) };
        let low = bind(&socket, 0, 80);
        let high = bind(&socket, 0, 8088);
        i32::from((low, high) != (Err(libc::EACCES), Ok(8088)))
    });
    assert_eq!(status, 0);
    assert_eq!(bind(&setting.socket(), 0, 80), Ok(80));
}

fn close_on_exec_and_non_blocking() {
    let setting = Setting::new();
    for (flags, cloexec, nonblock) in
        [(0, false, false), (libc::O_CLOEXEC, true, false), (libc::O_CLOEXEC | libc::O_NONBLOCK, true, true)]
    {
        let (_, socket) = roles::socket(&setting.file, setting.context, flags).unwrap();
        // SAFETY: only asks.
        let (descriptor, status) = unsafe {
            (libc::fcntl(socket.as_raw_fd(), libc::F_GETFD), libc::fcntl(socket.as_raw_fd(), libc::F_GETFL))
        };
        assert_eq!(descriptor & libc::FD_CLOEXEC != 0, cloexec);
        assert_eq!(status & libc::O_NONBLOCK != 0, nonblock);
        assert_eq!(status & libc::O_ACCMODE, libc::O_RDWR);
    }
}

fn the_last_descriptor_closes() {
    let setting = Setting::new();
    let base = setting.sockets();
    let socket = setting.socket();
    assert_eq!(setting.sockets(), base + 1);
    let copy = socket.try_clone().unwrap();
    drop(socket);
    assert_eq!(setting.sockets(), base + 1, "a dup holds it");
    // SAFETY: the child waits to be killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: sleeps.
            unsafe { libc::pause() };
        }
    }
    drop(copy);
    assert_eq!(setting.sockets(), base + 1, "a child holds it");
    // SAFETY: our own child.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    eventually("killed with the last descriptor", || setting.sockets() == base);
}

fn send_descriptor(stream: &UnixStream, descriptor: &OwnedFd) {
    let bytes = [0u8; 1];
    let mut data = [IoSlice::new(&bytes)];
    let mut control = [0u64; 4];
    // SAFETY: a well-formed message with one descriptor; everything lives until sendmsg returns.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = data.as_mut_ptr().cast();
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(descriptor.as_raw_fd());
        assert_eq!(libc::sendmsg(stream.as_raw_fd(), &message, 0), 1);
    }
}

fn receive_descriptor(stream: &UnixStream) -> OwnedFd {
    use std::os::fd::FromRawFd;
    let mut bytes = [0u8; 1];
    let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 4];
    // SAFETY: as above; the descriptor is new and ours.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = std::mem::size_of_val(&control);
        assert_eq!(libc::recvmsg(stream.as_raw_fd(), &mut message, 0), 1);
        let header = libc::CMSG_FIRSTHDR(&message);
        assert!(!header.is_null());
        OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    }
}

fn a_passed_socket_is_the_capability() {
    let setting = Setting::new();
    let base = setting.sockets();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // SAFETY: the child only uses what it is sent.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(ours);
        // SAFETY: only this child is affected: it could not open the device any more.
        unsafe { libc::setresuid(65534, 65534, 65534) };
        let socket = receive_descriptor(&theirs);
        let bound = bind(&socket, 0, 9099) == Ok(9099) && listen(&socket, 1).is_ok();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!bound)) };
    }
    drop(theirs);
    let socket = setting.socket();
    send_descriptor(&ours, &socket);
    drop(socket);
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { assert_eq!(libc::waitpid(child, &mut status, 0), child) };
    assert_eq!(status, 0);
    eventually("closed with its last holder", || setting.sockets() == base);
}

fn a_socket_in_flight_closes() {
    let setting = Setting::new();
    let base = setting.sockets();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let socket = setting.socket();
    send_descriptor(&ours, &socket);
    drop(socket);
    assert_eq!(setting.sockets(), base + 1, "in flight");
    drop(theirs);
    drop(ours);
    eventually("closed with the stream that carried it", || setting.sockets() == base);
}

/// The id of a dead application's socket may be given to another: the old file must not touch it.
fn sockets_outlive_their_owner_safely() {
    let setting = Setting::new();
    let (stale, survivors) = {
        let (file, reply) = roles::application();
        let (context, _wake) = roles::context(&file).unwrap();
        let (_, stale) = roles::socket(&file, context.context, libc::O_CLOEXEC).unwrap();
        assert_eq!(bind(&stale, 0, 7070), Ok(7070));
        drop(file);
        setting._fast.wait_removed(reply.application);
        (stale, (0..64).map(|_| setting.socket()).collect::<Vec<_>>())
    };
    assert_eq!(sys::poll(&stale, 0) & libc::POLLHUP, libc::POLLHUP);
    for op in [Op::Names, Op::Listen, Op::FlowInfo, Op::Accept, Op::Bind] {
        assert_eq!(sys::simple(&stale, op, 0).err(), Some(libc::ENOTCONN), "{op:?}");
    }
    let count = setting.sockets();
    drop(stale);
    assert_eq!(setting.sockets(), count);
    for socket in &survivors {
        assert!(sys::simple(socket, Op::Names, 0).is_ok());
    }
    drop(survivors);
    eventually("all closed", || setting.sockets() == count - 64);
}

fn readiness() {
    let setting = Setting::new();
    let socket = setting.socket();
    // As Linux has it for a socket that is neither connected nor listening.
    let fresh = sys::poll(&socket, 0);
    assert_eq!(fresh, libc::POLLOUT | libc::POLLHUP, "{fresh:#x}");
    bind(&socket, 0, 6060).unwrap();
    listen(&socket, 1).unwrap();
    assert_eq!(sys::poll(&socket, 0), 0, "nothing to accept");
    let accept = Accept { context: setting.context, ..Accept::default() };
    assert_eq!(sys::call(&socket, &mut Message::with(Op::Accept, 0, &accept)).err(), Some(libc::EAGAIN));
    // Nobody answers ARP: the connection fails in its own time; until then it is not ready.
    let client = setting.socket();
    let connect = Connect {
        remote: Endpoint::ipv4(roles::ADDRESS + 9, 80),
        context: setting.context,
        ..Connect::default()
    };
    assert_eq!(
        sys::call(&client, &mut Message::with(Op::Connect, 0, &connect)).err(),
        Some(libc::EINPROGRESS)
    );
    assert_eq!(sys::poll(&client, 0), 0);
    assert_eq!(sys::call(&client, &mut Message::with(Op::Connect, 0, &connect)).err(), Some(libc::EALREADY));
    let ready = sys::poll(&client, 60_000);
    assert_eq!(ready & (libc::POLLERR | libc::POLLHUP), libc::POLLERR | libc::POLLHUP, "{ready:#x}");
}

fn looks_like_a_socket() {
    use std::os::unix::fs::FileTypeExt;
    let setting = Setting::new();
    let (one, two) = (setting.socket(), setting.socket());
    let stat = |socket: &OwnedFd| std::fs::File::from(socket.try_clone().unwrap()).metadata().unwrap();
    let name = |socket: &OwnedFd| {
        std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()))
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    assert!(stat(&one).file_type().is_socket());
    use std::os::unix::fs::MetadataExt;
    assert_ne!((stat(&one).dev(), stat(&one).ino()), (stat(&two).dev(), stat(&two).ino()));
    assert_ne!(stat(&one).dev(), 0);
    assert!(name(&one).starts_with("socket:[tas:"), "{}", name(&one));
    assert_ne!(name(&one), name(&two));
    let opened = std::fs::File::open(format!("/proc/self/fd/{}", one.as_raw_fd()));
    assert_eq!(opened.err().and_then(|error| error.raw_os_error()), Some(libc::ENXIO));
}
