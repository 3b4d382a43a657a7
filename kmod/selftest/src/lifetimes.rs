// SPDX-License-Identifier: GPL-2.0-only
//! Contexts, wake-ups, and what happens when somebody dies.

use crate::{
    roles::{self, eventually, FastPath, NAME},
    sys::{self, Map},
    Case,
};
use abi::{
    message::{notice, AttachFast, Message, Op},
    region::{KernelRingLayout, Region, RegionKind},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

pub(crate) const CASES: &[Case] = &[
    ("contexts_come_and_go", |_| contexts_come_and_go()),
    ("contexts_have_a_limit", |_| contexts_have_a_limit()),
    ("wake_ups_reach_their_sleeper", |_| wake_ups_reach_their_sleeper()),
    ("notices_are_answered_once", |_| notices_are_answered_once()),
    ("calls_wait_for_the_fast_path", |_| calls_wait_for_the_fast_path()),
    ("a_killed_application_leaves_nothing", |_| a_killed_application_leaves_nothing()),
    ("memory_comes_back", |_| memory_comes_back()),
    ("mappings_outlive_their_owner", |_| mappings_outlive_their_owner()),
    ("a_dead_fast_path_is_replaced", |_| a_dead_fast_path_is_replaced()),
    ("the_last_one_turns_off_the_light", |_| the_last_one_turns_off_the_light()),
];

fn create(application: &OwnedFd, descriptor: i32) -> Option<i32> {
    let mut message = Message::new(Op::CreateContext, 0);
    message.flags = descriptor as u32;
    sys::call(application, &mut message).err()
}

fn contexts_come_and_go() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (one, reply) = roles::application();
    let (two, _) = roles::application();
    assert_eq!(create(&one, -1), Some(libc::EBADF));
    assert_eq!(create(&one, File::open("/dev/null").unwrap().as_raw_fd()), Some(libc::EINVAL));
    let (context, _wake) = roles::context(&one).unwrap();
    assert_eq!(context.cores, 2);
    assert!(
        fast.saw(notice::CONTEXT_ADDED, reply.application),
        "the call returned before the notice was answered"
    );
    assert_eq!(sys::simple(&two, Op::DestroyContext, context.context).err(), Some(libc::ENOENT));
    assert_eq!(sys::simple(&one, Op::DestroyContext, 4095).err(), Some(libc::ENOENT));
    assert_eq!(sys::simple(&one, Op::DestroyContext, u32::MAX).err(), Some(libc::ENOENT));
    sys::simple(&one, Op::DestroyContext, context.context).unwrap();
    assert_eq!(sys::simple(&one, Op::DestroyContext, context.context).err(), Some(libc::ENOENT));
    let region = Region::whole(RegionKind::Context, context.context);
    eventually("the context's slot is free", || {
        fast.saw(notice::CONTEXT_REMOVED, reply.application)
            && Map::new(&one, region, 4096, libc::PROT_READ).err() == Some(libc::ENOENT)
    });
}

fn contexts_have_a_limit() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, reply) = roles::application();
    let wake = sys::eventfd();
    let mut made = 0;
    let error = loop {
        match create(&file, wake.as_raw_fd()) {
            None => made += 1,
            Some(error) => break error,
        }
        assert!(made < 10_000);
    };
    assert_eq!((error, made), (libc::EMFILE, 256));
    drop(file);
    fast.wait_removed(reply.application);
}

fn wake_ups_reach_their_sleeper() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, _) = roles::application();
    let (context, wake) = roles::context(&file).unwrap();
    assert_eq!(sys::poll(&wake, 0) & libc::POLLIN, 0);
    sys::simple(&*fast.file, Op::WakeContext, context.context).unwrap();
    assert_eq!(sys::poll(&wake, 1000) & libc::POLLIN, libc::POLLIN);
    for (core, wake) in fast.core_wakes.iter().enumerate() {
        assert_eq!(sys::poll(wake, 0) & libc::POLLIN, 0);
        sys::simple(&file, Op::WakeCore, core as u32).unwrap();
        assert_eq!(sys::poll(wake, 1000) & libc::POLLIN, libc::POLLIN);
    }
    sys::simple(&*fast.file, Op::WakeSlowpath, 0).unwrap();
    for wrong in [2, 16, 17, u32::MAX] {
        assert_eq!(sys::simple(&file, Op::WakeCore, wrong).err(), Some(libc::ENOENT));
    }
    for wrong in [context.context + 1, 4096, u32::MAX] {
        assert_eq!(sys::simple(&*fast.file, Op::WakeContext, wrong).err(), Some(libc::ENOENT));
    }
    let mut message = Message::new(Op::CoreEventfd, 2);
    message.flags = wake.as_raw_fd() as u32;
    assert_eq!(sys::call(&*fast.file, &mut message).err(), Some(libc::EINVAL));
}

fn notices_are_answered_once() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (_file, _) = roles::application();
    assert_eq!(sys::simple(&*fast.file, Op::NextNotice, 0).err(), Some(libc::EAGAIN));
    let answered = fast.answered.lock().unwrap().clone();
    assert!(answered.len() >= 2);
    for notice in answered {
        let mut message = Message::with(Op::NoticeDone, 0, &notice);
        assert_eq!(sys::call(&*fast.file, &mut message).err(), Some(libc::ENOENT), "{notice:?}");
    }
    assert_eq!(sys::simple(&*fast.file, Op::NoticeDone, 0).err(), Some(libc::ENOENT));
    assert_eq!(sys::poll(&*fast.file, 0) & libc::POLLIN, 0);
}

/// A fast path that never answers holds up those who attach, who can still be killed, and no one else.
fn calls_wait_for_the_fast_path() {
    let file = sys::open();
    roles::attach_fast(&file, &roles::fast_request()).unwrap();
    sys::simple(&file, Op::Ready, 0).unwrap();
    // SAFETY: the child only attaches and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it must not outlive a failing test.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let attached = roles::attach_application(&sys::open(), NAME).is_ok();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(attached)) };
    }
    assert!(child > 0);
    assert_eq!(sys::poll(&file, 60_000) & libc::POLLIN, libc::POLLIN, "no notice");
    assert!(sys::simple(&file, Op::NextNotice, 0).is_ok());
    assert!(roles::attach_control(&sys::open(), NAME).is_ok());
    let mut status = 0;
    // SAFETY: our own child.
    unsafe {
        assert_eq!(libc::waitpid(child, &mut status, libc::WNOHANG), 0, "attach did not wait");
        libc::kill(child, libc::SIGKILL);
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
    }
    assert!(libc::WIFSIGNALED(status));
}

/// A process that attaches as an application, runs `body` and is then killed with everything open.
fn killed_application(body: impl FnOnce(&OwnedFd)) -> u32 {
    let (mut report, announce) = sys::pipe();
    let status = sys::in_child(|| {
        let (file, reply) = roles::application();
        body(&file);
        (&announce).write_all(&reply.application.to_ne_bytes()).unwrap();
        // SAFETY: ends this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        0
    });
    assert!(libc::WIFSIGNALED(status), "{status:#x}");
    drop(announce);
    let mut id = [0; 4];
    report.read_exact(&mut id).unwrap();
    u32::from_ne_bytes(id)
}

fn a_killed_application_leaves_nothing() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let control = roles::control();
    let id = killed_application(|file| {
        let (context, wake) = roles::context(file).unwrap();
        let (_, socket) = roles::socket(file, context.context, 0).unwrap();
        std::mem::forget((wake, socket));
        assert!(sys::simple(&roles::control(), Op::ApplicationEntry, 0).is_ok());
    });
    fast.wait_removed(id);
    assert!(fast.saw(notice::CONTEXT_REMOVED, id));
    eventually("no application is listed", || {
        sys::simple(&control, Op::ApplicationEntry, 0).err() == Some(libc::ENOENT)
    });
}

fn available_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn memory_comes_back() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let one_life = || {
        let id = killed_application(|file| {
            let (context, wake) = roles::context(file).unwrap();
            let region = Region::whole(RegionKind::Context, context.context);
            let map =
                Map::new(file, region, context.bytes as usize, libc::PROT_READ | libc::PROT_WRITE).unwrap();
            map.write(0, 1);
            std::mem::forget((map, wake));
        });
        fast.wait_removed(id);
    };
    one_life();
    let before = available_bytes();
    // Each life has 18 MiB: without giving them back this would take 540 MiB.
    (0..30).for_each(|_| one_life());
    let after = available_bytes();
    println!("  available before {before}, after {after}");
    assert!(after + (200 << 20) > before, "memory was lost");
}

fn mappings_outlive_their_owner() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, reply) = roles::application();
    let region = Region::whole(RegionKind::Pool, reply.application);
    let mine = Map::new(&file, region, 4096, libc::PROT_READ | libc::PROT_WRITE).unwrap();
    let theirs = Map::new(&*fast.file, region, 4096, libc::PROT_READ).unwrap();
    mine.write(100, 42);
    // The mapping holds the file: closing the descriptor alone ends nothing.
    drop(file);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!fast.saw(notice::APPLICATION_REMOVED, reply.application));
    drop(mine);
    fast.wait_removed(reply.application);
    assert_eq!(theirs.read(100), 42, "the fast path's mapping lost its memory");
    assert_eq!(Map::new(&*fast.file, region, 4096, libc::PROT_READ).err(), Some(libc::ENOENT));
}

/// Headers and first entries of a core's ring from the fast path.
const RING_BYTES: std::ops::Range<usize> = KernelRingLayout::TO_SLOW..KernelRingLayout::TO_SLOW + 512;

fn rings_of(fast: &FastPath) -> Map {
    let region = Region::whole(RegionKind::KernelRings, 1);
    Map::new(&*fast.file, region, roles::RINGS.bytes(), libc::PROT_READ | libc::PROT_WRITE).unwrap()
}

fn a_dead_fast_path_is_replaced() {
    let request = roles::fast_request();
    let fast = FastPath::start(&request, true).unwrap();
    let (file, reply) = roles::application();
    let (context, _wake) = roles::context(&file).unwrap();
    let hot = Map::new(
        &*fast.file,
        Region::whole(RegionKind::FlowHot, 0),
        4096,
        libc::PROT_READ | libc::PROT_WRITE,
    )
    .unwrap();
    hot.write(128, 77);
    // What it leaves in the rings to the kernel, the positions in their headers included.
    let dirty = rings_of(&fast);
    RING_BYTES.into_iter().for_each(|offset| dirty.write(offset, 0xa5));
    drop(dirty);
    let clock = Map::new(&file, Region::whole(RegionKind::Clock, 0), 4096, libc::PROT_READ).unwrap();
    let epoch = || clock.read(24);
    assert_eq!(epoch(), 2);
    drop(hot);
    drop(fast);
    assert_eq!(epoch(), 3, "odd while none is attached");
    // The instance stays, and applications can come and go meanwhile.
    let (second, other) = roles::application();
    let (orphan, _orphan_wake) = roles::context(&second).unwrap();
    sys::simple(&second, Op::DestroyContext, orphan.context).unwrap();
    drop(second);
    for wrong in [
        AttachFast { cores: 1, ..request },
        AttachFast { flows: 2048, ..request },
        AttachFast { mtu_bytes: 9000, ..request },
        AttachFast { ipv4: roles::ADDRESS + 1, ..request },
    ] {
        assert_eq!(roles::attach_fast(&sys::open(), &wrong).unwrap_err().0, libc::EINVAL);
    }
    let fast = FastPath::start(&request, true).unwrap();
    assert_eq!((fast.reply.resumed, fast.reply.epoch), (1, 2));
    let clean = rings_of(&fast);
    assert!(RING_BYTES.into_iter().all(|offset| clean.read(offset) != 0xa5), "the rings begin anew");
    assert_eq!(epoch(), 4);
    // It is told everything that is still there.
    eventually("all is told again", || {
        let seen = fast.answered.lock().unwrap();
        let of = |kind| {
            seen.iter().filter(|n| n.kind == kind && n.application == reply.application).count() as u32
        };
        of(notice::POOL_SEGMENT) == reply.pool_segments
            && of(notice::MAP_SEGMENT) == reply.map_segments
            && of(notice::CONTEXT_ADDED) == 1
    });
    assert!(fast.seen.lock().unwrap().iter().all(|notice| notice.application != other.application));
    let hot = Map::new(&*fast.file, Region::whole(RegionKind::FlowHot, 0), 4096, libc::PROT_READ).unwrap();
    assert_eq!(hot.read(128), 77, "the tables were not kept");
    sys::simple(&*fast.file, Op::WakeContext, context.context).unwrap();
}

fn the_last_one_turns_off_the_light() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, _) = roles::application();
    let control = roles::control();
    drop(fast);
    assert!(sys::simple(&control, Op::Status, 0).is_ok());
    drop(file);
    assert_eq!(sys::simple(&control, Op::Status, 0).err(), Some(libc::ENODEV));
    assert_eq!(sys::poll(&control, 0) & libc::POLLHUP, libc::POLLHUP);
    assert_eq!(roles::attach_control(&sys::open(), NAME).err(), Some(libc::ENODEV));
    // A new instance of the name is a new one.
    let other = AttachFast { flows: 256, ..roles::fast_request() };
    assert_eq!(FastPath::start(&other, true).unwrap().reply.resumed, 0);
}
