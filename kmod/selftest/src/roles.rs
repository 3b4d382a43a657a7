// SPDX-License-Identifier: GPL-2.0-only
//! Attaching in each role, and a stand-in for the fast path that answers notices.

use crate::sys::{self, Errno, Map};
use abi::{
    message::{notice, AttachApplication, AttachControl, AttachFast, Context, Message, Notice, Op, Socket},
    region::KernelRingLayout,
    version,
};
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long the module may take for anything. Only reached when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the instance of these tests, and another one.
pub(crate) const NAME: [u8; 16] = *b"selftest\0\0\0\0\0\0\0\0";
pub(crate) const OTHER: [u8; 16] = *b"other\0\0\0\0\0\0\0\0\0\0\0";
/// 10.88.0.1
pub(crate) const ADDRESS: u32 = 0x0a58_0001;

/// Rings of such a fast path.
pub(crate) const RINGS: KernelRingLayout = KernelRingLayout::of(1500);

/// A good request.
pub(crate) fn fast_request() -> AttachFast {
    AttachFast {
        abi_hash: version::FAST_HASH,
        version: version::FAST_VERSION,
        cores: 2,
        instance: NAME,
        flows: 1024,
        mtu_bytes: 1500,
        ipv4: ADDRESS,
        prefix: 24,
        mac: 0x0200_0000_0001,
        ..AttachFast::default()
    }
}

pub(crate) fn attach_fast(fd: &OwnedFd, request: &AttachFast) -> Result<AttachFast, (Errno, AttachFast)> {
    let mut message = Message::with(Op::AttachFast, 0, request);
    match sys::call(fd, &mut message) {
        Ok(()) => Ok(message.get()),
        Err(error) => Err((error, message.get())),
    }
}

/// Attaches as an application of `instance`.
pub(crate) fn attach_application(fd: &OwnedFd, instance: [u8; 16]) -> Result<AttachApplication, Errno> {
    let request = AttachApplication {
        abi_hash: version::APPLICATION_HASH,
        version: version::APPLICATION_VERSION,
        instance,
        ..AttachApplication::default()
    };
    let mut message = Message::with(Op::AttachApplication, 0, &request);
    sys::call(fd, &mut message).map(|()| message.get())
}

pub(crate) fn attach_control(fd: &OwnedFd, instance: [u8; 16]) -> Result<AttachControl, Errno> {
    let request = AttachControl {
        abi_hash: version::CONTROL_HASH,
        version: version::CONTROL_VERSION,
        instance,
        ..AttachControl::default()
    };
    let mut message = Message::with(Op::AttachControl, 0, &request);
    sys::call(fd, &mut message).map(|()| message.get())
}

/// A new application: its file and the reply.
pub(crate) fn application() -> (OwnedFd, AttachApplication) {
    let file = sys::open();
    let reply =
        attach_application(&file, NAME).unwrap_or_else(|error| panic!("attach application: errno {error}"));
    (file, reply)
}

/// A control client.
pub(crate) fn control() -> OwnedFd {
    let file = sys::open();
    attach_control(&file, NAME).unwrap_or_else(|error| panic!("attach control: errno {error}"));
    file
}

/// A new context of an application; the eventfd that wakes it.
pub(crate) fn context(application: &OwnedFd) -> Result<(Context, OwnedFd), Errno> {
    let wake = sys::eventfd();
    let mut message = Message::new(Op::CreateContext, 0);
    message.flags = wake.as_raw_fd() as u32;
    sys::call(application, &mut message)?;
    Ok((message.get(), wake))
}

/// A new socket of an application, delivering events to `context`.
pub(crate) fn socket(
    application: &OwnedFd,
    context: u32,
    file_flags: i32,
) -> Result<(Socket, OwnedFd), Errno> {
    let request =
        Socket { family: 2, file_flags: file_flags as u32, context, opaque: 7, ..Socket::default() };
    let mut message = Message::with(Op::Socket, 0, &request);
    sys::call(application, &mut message)?;
    let reply: Socket = message.get();
    // SAFETY: just installed for us.
    Ok((reply, unsafe { OwnedFd::from_raw_fd(reply.descriptor as i32) }))
}

/// Waits until `done`; panics with `what` if it never is.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Notices, as the thread that answers them finds them.
type Notices = Arc<Mutex<Vec<Notice>>>;

fn has(notices: &Notices, kind: u32, application: u32) -> bool {
    notices.lock().unwrap().iter().any(|notice| notice.kind == kind && notice.application == application)
}

/// A process's worth of fast path: attached, ready, answering notices as it should.
pub(crate) struct FastPath {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) reply: AttachFast,
    pub(crate) core_wakes: Vec<OwnedFd>,
    /// Notices seen, and those answered as well, in order.
    pub(crate) seen: Notices,
    pub(crate) answered: Notices,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FastPath {
    /// Attaches with `request` and answers notices; `ready` unless told otherwise.
    pub(crate) fn start(request: &AttachFast, ready: bool) -> Result<Self, Errno> {
        let file = Arc::new(sys::open());
        let reply = attach_fast(&file, request).map_err(|(error, _)| error)?;
        let core_wakes: Vec<OwnedFd> = (0..request.cores).map(|_| sys::eventfd()).collect();
        for (core, wake) in core_wakes.iter().enumerate() {
            let mut message = Message::new(Op::CoreEventfd, core as u32);
            message.flags = wake.as_raw_fd() as u32;
            sys::call(&*file, &mut message)?;
        }
        if ready {
            sys::simple(&*file, Op::Ready, 0)?;
        }
        let (stop, seen, answered) =
            (Arc::new(AtomicBool::new(false)), Notices::default(), Notices::default());
        let thread = {
            let (file, stop, seen, answered) = (file.clone(), stop.clone(), seen.clone(), answered.clone());
            std::thread::spawn(move || answer_notices(&file, &stop, &seen, &answered))
        };
        Ok(Self { file, reply, core_wakes, seen, answered, stop, thread: Some(thread) })
    }

    /// True if a notice of this kind about `application` was seen.
    pub(crate) fn saw(&self, kind: u32, application: u32) -> bool {
        has(&self.seen, kind, application)
    }

    /// Waits until the notice that an application is to be unmapped was answered.
    pub(crate) fn wait_removed(&self, application: u32) {
        eventually("APPLICATION_REMOVED", || has(&self.answered, notice::APPLICATION_REMOVED, application));
    }
}

impl Drop for FastPath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_notices(
    file: &OwnedFd,
    stop: &AtomicBool,
    seen: &Mutex<Vec<Notice>>,
    answered: &Mutex<Vec<Notice>>,
) {
    while !stop.load(Ordering::Relaxed) {
        if sys::poll(file, 20) & libc::POLLIN == 0 {
            continue;
        }
        while let Ok(message) = sys::simple(file, Op::NextNotice, 0) {
            let notice: Notice = message.get();
            seen.lock().unwrap().push(notice);
            let mut answer = Message::with(Op::NoticeDone, 0, &notice);
            sys::call(file, &mut answer).expect("NOTICE_DONE of a notice just taken");
            answered.lock().unwrap().push(notice);
        }
    }
}

/// Everything the fast path may map, with the length; to check and to scribble over.
pub(crate) fn fast_maps(fast: &FastPath) -> Vec<Map> {
    use abi::region::{recovery_blocks, Region, RegionKind};
    let flows = fast.reply.flows as usize;
    let write = libc::PROT_READ | libc::PROT_WRITE;
    let mut maps = vec![
        Map::new(&*fast.file, Region::whole(RegionKind::FlowHot, 0), flows * 128, write).unwrap(),
        Map::new(
            &*fast.file,
            Region::whole(RegionKind::Recovery, 0),
            recovery_blocks(fast.reply.flows) as usize * 128,
            write,
        )
        .unwrap(),
        Map::new(
            &*fast.file,
            Region::whole(RegionKind::CoreStatus, 0),
            fast.reply.cores as usize * 4096,
            write,
        )
        .unwrap(),
    ];
    for core in 0..fast.reply.cores {
        maps.push(
            Map::new(&*fast.file, Region::whole(RegionKind::KernelRings, core), RINGS.bytes(), write)
                .unwrap(),
        );
    }
    maps
}
