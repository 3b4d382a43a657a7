// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real server in a thread, with the real client side.
#![allow(dead_code, unreachable_pub, missing_docs)]

use super::common::attach_request;
use abi::message::{
    AttachApplication, Endpoint, FlowEntry, Message, Name, Notice, Op, Socket, MESSAGE_BYTES,
};
use daemon::server::{Options, Server};
use nix::{
    poll::{poll, PollFd, PollFlags, PollTimeout},
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{connect, recv, socket, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr},
    },
};
use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        Arc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tas::control::{attach, daemon::DaemonChannel, errno, ControlChannel, Target};
use zerocopy::FromBytes;

/// Longest wait for something that must come, milliseconds: only a failing test reaches it.
pub const PATIENCE_MS: u16 = 20_000;

/// A directory of the test's own.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tas-daemon-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn options(&self) -> Options {
        Options { socket: self.0.join("tas0.sock"), ..Options::new("tas0") }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon in a thread.
pub struct Daemon {
    pub directory: Directory,
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    pub fn start() -> Self {
        let directory = Directory::new();
        let server = Server::new(&directory.options()).unwrap();
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
        let theirs: OwnedFd = stop.as_fd().try_clone_to_owned().unwrap();
        let thread = thread::spawn(move || server.run(theirs.as_fd()).unwrap());
        Self { directory, stop, thread: Some(thread) }
    }
    pub fn path(&self) -> PathBuf {
        self.directory.options().socket
    }
    pub fn channel(&self) -> Arc<DaemonChannel> {
        Arc::new(DaemonChannel::open(&self.path()).unwrap())
    }
    /// A fast path of one core; its channel and the eventfd of its core.
    pub fn fast_path(&self) -> (Arc<DaemonChannel>, EventFd) {
        let channel = self.channel();
        attach::fast(&*channel, "tas0", &attach_request()).unwrap();
        let core = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        channel.call(Target::Instance, &mut Message::new(Op::CoreEventfd, 0), Some(core.as_fd())).unwrap();
        channel.call(Target::Instance, &mut Message::new(Op::Ready, 0), None).unwrap();
        (channel, core)
    }
    pub fn control(&self) -> Arc<DaemonChannel> {
        let channel = self.channel();
        attach::control(&*channel, "tas0").unwrap();
        channel
    }
    /// An application; the fast path carries out its notices meanwhile.
    pub fn application(&self, fast: &Arc<DaemonChannel>) -> (Arc<DaemonChannel>, AttachApplication) {
        let channel = self.channel();
        let attached =
            while_serving(fast, || attach::application(&*channel, "tas0", *b"test\0\0\0\0\0\0\0\0\0\0\0\0"));
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

pub fn wait_readable(descriptor: impl AsFd) {
    let mut ready = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ready, PollTimeout::from(PATIENCE_MS)), Ok(1), "nothing came");
}

pub fn is_readable(descriptor: impl AsFd) -> bool {
    poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
}

/// Carries out waiting notices.
pub fn serve_notices(fast: &DaemonChannel) -> Vec<Notice> {
    let mut all = Vec::new();
    loop {
        let mut message = Message::new(Op::NextNotice, 0);
        match fast.call(Target::Instance, &mut message, None) {
            Ok(_) => {
                let notice: Notice = message.get();
                fast.call(Target::Instance, &mut Message::with(Op::NoticeDone, 0, &notice), None).unwrap();
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
pub fn while_serving<T: Send>(fast: &Arc<DaemonChannel>, work: impl FnOnce() -> T + Send) -> T {
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
pub fn eventually<T: std::fmt::Debug>(mut ask: impl FnMut() -> T, wished: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let answer = ask();
        if wished(&answer) {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_millis(PATIENCE_MS.into()), "still {answer:?}");
        thread::yield_now();
    }
}

/// A connection that sends what it likes.
pub fn raw_client(daemon: &Daemon) -> OwnedFd {
    let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    connect(client.as_raw_fd(), &UnixAddr::new(&daemon.path()).unwrap()).unwrap();
    client
}

/// The next reply on it.
pub fn answer(client: &OwnedFd) -> Message {
    let mut reply = [0u8; MESSAGE_BYTES + 1];
    wait_readable(client);
    assert_eq!(recv(client.as_raw_fd(), &mut reply, MsgFlags::empty()), Ok(MESSAGE_BYTES));
    Message::read_from_bytes(&reply[..MESSAGE_BYTES]).unwrap()
}

pub fn create_context(channel: &DaemonChannel, event: &EventFd) -> io::Result<u32> {
    let mut message = Message::new(Op::CreateContext, 0);
    channel.call(Target::Instance, &mut message, Some(event.as_fd()))?;
    Ok(message.get::<abi::message::Context>().context)
}

pub fn new_socket(channel: &DaemonChannel, context: u32) -> (u32, OwnedFd) {
    let mut message = Message::with(Op::Socket, 0, &Socket { family: 2, context, ..Socket::default() });
    let mut descriptors = channel.call(Target::Instance, &mut message, None).unwrap();
    assert_eq!(descriptors.len(), 1);
    (message.get::<Socket>().socket, descriptors.remove(0))
}

pub fn listen(channel: &DaemonChannel, socket: u32, descriptor: &OwnedFd, port: u16) -> io::Result<()> {
    let target = Target::Socket(descriptor.as_fd(), socket);
    let name = Name { endpoint: Endpoint::ipv4(0, port), reserved: 0 };
    channel.call(target, &mut Message::with(Op::Bind, 0, &name), None)?;
    let mut message = Message::new(Op::Listen, 0);
    message.flags = 8;
    channel.call(target, &mut message, None).map(|_| ())
}

pub fn first_listener(control: &DaemonChannel) -> Option<FlowEntry> {
    let mut message = Message::new(Op::ListenEntry, 0);
    control.call(Target::Instance, &mut message, None).ok().map(|_| message.get())
}
