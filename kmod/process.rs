// SPDX-License-Identifier: GPL-2.0-only
//! What is asked of the calling process.

use crate::shim;
use kernel::{bindings, current, task::Kuid};

/// CAP_NET_ADMIN in the initial user namespace: a user namespace of one's own gives nothing.
pub(crate) fn is_net_admin() -> bool {
    // SAFETY: FFI without preconditions.
    unsafe { bindings::capable(bindings::CAP_NET_ADMIN as i32) }
}

/// CAP_NET_BIND_SERVICE, likewise.
pub(crate) fn may_bind_low_ports() -> bool {
    // SAFETY: FFI without preconditions.
    unsafe { bindings::capable(bindings::CAP_NET_BIND_SERVICE as i32) }
}

/// Process id, in the initial namespace.
pub(crate) fn id() -> u32 {
    current!().tgid() as u32
}

/// Effective user id, in the initial namespace.
pub(crate) fn uid() -> u32 {
    // SAFETY: FFI; the namespace is a static of the kernel.
    unsafe { bindings::from_kuid(&raw mut bindings::init_user_ns, Kuid::current_euid().into_raw()) }
}

/// Command name, zero-padded.
pub(crate) fn command() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the buffer has the length given.
    unsafe { shim::tas_shim_command(name.as_mut_ptr(), name.len() as u32) };
    name
}
