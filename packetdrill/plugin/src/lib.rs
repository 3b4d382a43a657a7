// SPDX-License-Identifier: MIT OR Apache-2.0
//! `libtas_packetdrill.so`: the real slow path, fast path and sockets layer as a library for Google's packetdrill
//! (`packetdrill --so_filename=…/libtas_packetdrill.so --so_flags=…`), in virtual time. `docs/packetdrill.md` says how.
//!
//! One host of [`sim`] lives in the tool's process. The tool's main thread moves the clock, by its calls of `usleep`
//! and by waiting for a packet; a call that blocks waits in the tool's second thread until the main thread has come
//! to the time at which it returns. See [`plugin`].

mod calls;
mod interface;
mod plugin;
mod settings;
mod world;

pub use interface::Interface;

use plugin::Plugin;
use settings::Settings;
use std::{
    ffi::{c_char, c_int, c_void, CStr},
    process,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering::*},
};

/// What the tool's own reading of `TCP_INFO` goes to; see [`getsockopt`].
static CURRENT: AtomicPtr<Plugin> = AtomicPtr::new(null_mut());

/// What packetdrill calls first: makes the host and fills in the functions. `flags` is the value of `--so_flags`:
/// `name=value`, separated by commas, as [`settings`] has them. There is no way to report an error: it ends the process.
///
/// # Safety
/// `flags` is null or a C string, `interface` is writable.
#[no_mangle]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, interface: *mut Interface) {
    // SAFETY: the caller's promise.
    let flags = if flags.is_null() { c"" } else { unsafe { CStr::from_ptr(flags) } };
    let made = Settings::parse(&flags.to_string_lossy())
        .and_then(|settings| Plugin::new(&settings).map_err(|error| error.to_string()));
    match made {
        Ok(plugin) => {
            let plugin = Box::into_raw(Box::new(plugin));
            CURRENT.store(plugin, Release);
            // SAFETY: the caller's promise.
            unsafe { interface.write(calls::table(plugin)) };
        }
        Err(error) => {
            eprintln!("libtas_packetdrill: {error}");
            process::exit(3);
        }
    }
}

/// The tool is about to free `plugin`.
pub(crate) fn forget(plugin: *mut Plugin) {
    let _ = CURRENT.compare_exchange(plugin, null_mut(), AcqRel, Relaxed);
}

/// getsockopt(2) for the tool itself, which reads `TCP_INFO` for `%{ }%` past its interface: with the library also in
/// LD_PRELOAD the sockets of the host are found here. Everything else is the kernel's.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut libc::socklen_t,
) -> c_int {
    let plugin = CURRENT.load(Acquire);
    if !plugin.is_null() && tas::sockets::find(fd).is_some() {
        // SAFETY: made by `packetdrill_interface_init`; the caller's promise.
        return unsafe { calls::getsockopt(plugin.cast(), fd, level, name, value, length) };
    }
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, value, length) as c_int }
}
