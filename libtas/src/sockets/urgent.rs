// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGURG. The kernel sends it when a segment with URG arrives, whatever the process does at the moment; here
//! nobody looks at the rings while the process computes. So the first F_SETOWN on a socket starts a thread that
//! waits for events like any other and sends the signal. It has all signals blocked: handlers run elsewhere.

use super::{
    bell::{self, Bell},
    errno::{check, Result},
    process::Process,
    real,
    wait::{sleep, Deadline, Sleep},
};
use libc::{c_int, c_ulong};
use std::{mem, os::fd::RawFd, ptr, sync::Arc};

// From fcntl.h; the libc crate lacks them.
pub(crate) const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;
const F_OWNER_TID: c_int = 0;
const F_OWNER_PGRP: c_int = 2;

/// `struct f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: c_int,
    id: libc::pid_t,
}

/// What the engine keeps for the thread.
#[derive(Default)]
pub(crate) struct Signals {
    /// Descriptors of sockets whose owner is to be told of urgent data.
    due: Vec<RawFd>,
    /// The thread's bell; None until there is one.
    bell: Option<Arc<Bell>>,
}

impl Signals {
    /// The peer announced urgent data on the socket with this descriptor.
    pub(crate) fn announce(&mut self, fd: Option<&RawFd>) {
        if let (Some(fd), Some(bell)) = (fd, &self.bell) {
            self.due.push(*fd);
            bell.ring();
        }
    }
}

/// F_SETOWN and F_SETOWN_EX: the kernel keeps the owner (`set` tells it), and SIGURG is sent from now on.
///
/// # Errors
/// What `set` reports; EAGAIN when there can be no thread.
pub(crate) fn set_owner(process: &'static Process, set: impl FnOnce() -> c_int) -> Result<c_int> {
    let result = check(set().into())? as c_int;
    if process.engine().signals.bell.is_none() {
        let (send, receive) = std::sync::mpsc::channel();
        let builder = std::thread::Builder::new().name("tas-sigurg".into());
        builder.spawn(move || run(process, &send))?;
        // The thread is ready, or has given up.
        let _ = receive.recv();
    }
    Ok(result)
}

fn run(process: &'static Process, ready: &std::sync::mpsc::Sender<()>) {
    // SAFETY: an all-zero set is valid; nothing else is touched.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
    }
    let Ok(bell) = bell::mine() else { return };
    {
        let signals = &mut process.engine().signals;
        if signals.bell.is_some() {
            return;
        }
        signals.bell = Some(bell.clone());
    }
    let _ = ready.send(());
    let mut kernel = Vec::with_capacity(2);
    loop {
        process.pump();
        let due = mem::take(&mut process.engine().signals.due);
        if due.is_empty() {
            let sleep_on =
                Sleep { kernel: &mut kernel, deadline: Deadline::Never, mask: ptr::null(), may_follow: true };
            // It fails only for want of memory; then this loop polls.
            let _ = sleep(process, &bell, sleep_on);
        }
        due.into_iter().for_each(send);
    }
}

/// Sends SIGURG to the owner of a file, as send_sigurg in fs/fcntl.c does.
fn send(fd: RawFd) {
    let mut owner = Owner { kind: 0, id: 0 };
    // SAFETY: the command writes an owner; signals are sent by number.
    unsafe {
        if real::fcntl(fd, F_GETOWN_EX, (&raw mut owner) as c_ulong) < 0 || owner.id == 0 {
            return;
        }
        match owner.kind {
            F_OWNER_TID => {
                // The thread may be another process's: tkill() does not ask whose it is.
                libc::syscall(libc::SYS_tkill, owner.id, libc::SIGURG);
            }
            F_OWNER_PGRP => {
                libc::kill(-owner.id, libc::SIGURG);
            }
            _ => {
                libc::kill(owner.id, libc::SIGURG);
            }
        }
    }
}
