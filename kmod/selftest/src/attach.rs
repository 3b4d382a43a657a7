// SPDX-License-Identifier: GPL-2.0-only
//! Who may attach, and as what.

use crate::{
    roles::{self, FastPath, NAME, OTHER},
    sys, Case,
};
use abi::{
    message::{AttachApplication, AttachFast, Message, Op},
    version,
};
use std::os::unix::fs::PermissionsExt;

pub(crate) const CASES: &[Case] = &[
    ("device_is_not_for_everybody", |_| device_is_not_for_everybody()),
    ("unattached_files_can_do_nothing", |_| unattached_files_can_do_nothing()),
    ("fast_path_requests_are_checked", |_| fast_path_requests_are_checked()),
    ("fast_path_needs_the_capability", |_| fast_path_needs_the_capability()),
    ("one_fast_path_per_instance", |_| one_fast_path_per_instance()),
    ("applications_wait_for_ready", |_| applications_wait_for_ready()),
    ("roles_are_fixed", |_| roles_are_fixed()),
    ("roles_have_their_own_calls", |_| roles_have_their_own_calls()),
];

fn device_is_not_for_everybody() {
    let mode = std::fs::metadata("/dev/tas").expect("/dev/tas").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

fn unattached_files_can_do_nothing() {
    let file = sys::open();
    for &op in Op::ALL {
        if !matches!(op, Op::AttachFast | Op::AttachApplication | Op::AttachControl) {
            assert_eq!(sys::simple(&file, op, 0).err(), Some(libc::EPERM), "{op:?}");
        }
    }
    let map = sys::Map::at(&file, 1 << 56, 4096, libc::PROT_READ, libc::MAP_SHARED);
    assert_eq!(map.err(), Some(libc::EPERM));
    assert_eq!(sys::poll(&file, 0), 0);
    assert_eq!(roles::attach_application(&file, NAME).err(), Some(libc::ENODEV));
    assert_eq!(roles::attach_control(&file, NAME).err(), Some(libc::ENODEV));
}

fn fast_path_requests_are_checked() {
    let file = sys::open();
    let good = roles::fast_request();
    let error = |request: &AttachFast| roles::attach_fast(&file, request).err().map(|(error, _)| error);
    let (wrong_hash, ours) = roles::attach_fast(&file, &AttachFast { abi_hash: 1, ..good }).unwrap_err();
    assert_eq!(
        (wrong_hash, ours.abi_hash, ours.version),
        (libc::EPROTO, version::FAST_HASH, version::FAST_VERSION)
    );
    assert_eq!(error(&AttachFast { version: 99, ..good }), Some(libc::EPROTO));
    for request in [
        AttachFast { cores: 0, ..good },
        AttachFast { cores: 17, ..good },
        AttachFast { flows: u32::MAX, ..good },
        AttachFast { mtu_bytes: abi::limits::MTU_MAX + 1, ..good },
        AttachFast { prefix: 33, ..good },
        AttachFast { ipv4: 0, ..good },
        AttachFast { ipv4: 0xe000_0001, ..good },
        AttachFast { congestion: 77, ..good },
        AttachFast { instance: [b'/'; 16], ..good },
        AttachFast { instance: *b"a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0", ..good },
    ] {
        assert_eq!(error(&request), Some(libc::EINVAL), "{request:?}");
    }
    // None of them left anything behind.
    assert_eq!(roles::attach_control(&sys::open(), NAME).err(), Some(libc::ENODEV));
}

/// In a child that gave its capabilities away after it opened the device.
fn without_capabilities(file: &std::os::fd::OwnedFd, body: impl FnOnce(&std::os::fd::OwnedFd) -> i32) -> i32 {
    let status = sys::in_child(|| {
        // SAFETY: only this child is affected.
        unsafe {
            assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
        body(file)
    });
    libc::WEXITSTATUS(status)
}

fn fast_path_needs_the_capability() {
    let file = sys::open();
    let attach =
        |file: &_| roles::attach_fast(file, &roles::fast_request()).err().map_or(0, |(error, _)| error);
    assert_eq!(without_capabilities(&file, attach), libc::EPERM);
    // Being root in a user namespace of one's own is no help.
    let status = sys::in_child(|| {
        // SAFETY: only this child is affected.
        let unshared =
            unsafe { libc::setresuid(65534, 65534, 65534) == 0 && libc::unshare(libc::CLONE_NEWUSER) == 0 };
        if unshared {
            attach(&file)
        } else {
            libc::EPERM
        }
    });
    assert_eq!(libc::WEXITSTATUS(status), libc::EPERM);
}

fn one_fast_path_per_instance() {
    let request = roles::fast_request();
    let fast = FastPath::start(&request, true).unwrap();
    assert_eq!((fast.reply.cores, fast.reply.flows, fast.reply.resumed, fast.reply.epoch), (2, 1024, 0, 1));
    assert_ne!(fast.reply.hash_key, [0, 0]);
    let second = roles::attach_fast(&sys::open(), &request).unwrap_err();
    assert_eq!(second.0, libc::EBUSY);
    let same_address =
        roles::attach_fast(&sys::open(), &AttachFast { instance: OTHER, ..request }).unwrap_err();
    assert_eq!(same_address.0, libc::EADDRINUSE);
    let other = AttachFast { instance: OTHER, ipv4: roles::ADDRESS + 256, flows: 100, ..request };
    let other = FastPath::start(&other, true).unwrap();
    assert_eq!(other.reply.flows, 128, "rounded up to a power of two");
    assert_eq!(roles::attach_control(&sys::open(), OTHER).unwrap().cores, 2);
    drop(fast);
    assert_eq!(roles::attach_control(&sys::open(), NAME).err(), Some(libc::ENODEV));
}

fn applications_wait_for_ready() {
    let fast = FastPath::start(&roles::fast_request(), false).unwrap();
    assert_eq!(roles::attach_application(&sys::open(), NAME).err(), Some(libc::ENODEV));
    sys::simple(&*fast.file, Op::Ready, 0).unwrap();
    let (_file, reply) = roles::application();
    assert_eq!((reply.cores, reply.flows, reply.ipv4, reply.prefix), (2, 1024, roles::ADDRESS, 24));
    assert!(reply.application != 0 && reply.pool_segments > 0 && reply.map_segments > 0);
    let (second, other) = roles::application();
    assert_ne!(reply.application, other.application);
    drop(second);
    fast.wait_removed(other.application);
}

fn roles_are_fixed() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, _) = roles::application();
    assert_eq!(roles::attach_application(&file, NAME).err(), Some(libc::EISCONN));
    assert_eq!(roles::attach_control(&file, NAME).err(), Some(libc::EISCONN));
    assert_eq!(roles::attach_fast(&fast.file, &roles::fast_request()).unwrap_err().0, libc::EISCONN);
    // A refusal does not fix a role.
    let file = sys::open();
    let wrong = AttachApplication { abi_hash: 5, ..AttachApplication::default() };
    let mut message = Message::with(Op::AttachApplication, 0, &wrong);
    assert_eq!(sys::call(&file, &mut message).err(), Some(libc::EPROTO));
    assert_eq!(message.get::<AttachApplication>().abi_hash, version::APPLICATION_HASH);
    roles::attach_control(&file, NAME).unwrap();
}

fn roles_have_their_own_calls() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (application, _) = roles::application();
    let control = roles::control();
    let fast_only = [
        Op::AddRoute,
        Op::CoreEventfd,
        Op::Ready,
        Op::NextNotice,
        Op::NoticeDone,
        Op::WakeContext,
        Op::WakeSlowpath,
    ];
    let application_only = [Op::CreateContext, Op::DestroyContext, Op::Grow, Op::WakeCore, Op::Socket];
    let on_sockets = [
        Op::Bind,
        Op::Listen,
        Op::Connect,
        Op::Accept,
        Op::Shutdown,
        Op::FlowInfo,
        Op::SetOption,
        Op::GetOption,
        Op::Names,
        Op::Move,
        Op::Close,
        Op::Map,
    ];
    for op in fast_only {
        assert_eq!(sys::simple(&application, op, 0).err(), Some(libc::EPERM), "{op:?}");
        assert_eq!(sys::simple(&control, op, 0).err(), Some(libc::EPERM), "{op:?}");
    }
    for op in application_only {
        assert_eq!(sys::simple(&*fast.file, op, 0).err(), Some(libc::EPERM), "{op:?}");
        assert_eq!(sys::simple(&control, op, 0).err(), Some(libc::EPERM), "{op:?}");
    }
    for op in on_sockets {
        for file in [&*fast.file, &application, &control] {
            assert_eq!(sys::simple(file, op, 0).err(), Some(libc::EPERM), "{op:?}");
        }
    }
    assert!(sys::simple(&control, Op::Status, 0).is_ok());
    assert_eq!(sys::simple(&application, Op::Status, 0).err(), Some(libc::EPERM));
    assert_eq!(sys::simple(&application, Op::ResetFlow, 0).err(), Some(libc::EPERM));
    let reset = without_capabilities(&control, |file| sys::simple(file, Op::ResetFlow, 0).err().unwrap_or(0));
    assert_eq!(reset, libc::EPERM);
}
