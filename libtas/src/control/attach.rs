// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first call on a channel: take a role, with versions and layout hashes checked.

use super::{errno, error::explained, ControlChannel, Target};
use abi::{
    limits::INSTANCE_NAME_BYTES,
    message::{AttachApplication, AttachControl, AttachFast, Body, Message, Op},
    version,
};
use std::{cmp::Ordering, io};

/// An instance name as it stands in messages, zero-padded.
///
/// # Errors
/// EINVAL when it is longer than [`INSTANCE_NAME_BYTES`] or has other characters than letters,
/// digits, `-` and `_`.
pub fn instance_name(name: &str) -> io::Result<[u8; INSTANCE_NAME_BYTES]> {
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let mut padded = [0; INSTANCE_NAME_BYTES];
    match padded.get_mut(..name.len()) {
        Some(start) if valid => start.copy_from_slice(name.as_bytes()),
        _ => {
            let text = format!("instance `{name}`: up to {INSTANCE_NAME_BYTES} letters, digits, `-` or `_`");
            return Err(explained(libc::EINVAL, text));
        }
    }
    Ok(padded)
}

/// The name of the calling command, for `tasctl`.
pub fn command_name() -> [u8; 16] {
    let mut name = [0; 16];
    let command = std::fs::read("/proc/self/comm").unwrap_or_default();
    for (to, from) in name.iter_mut().zip(command.split(|byte| *byte == b'\n').next().unwrap_or_default()) {
        *to = *from;
    }
    name
}

/// Becomes an application of `instance`.
///
/// # Errors
/// ENODEV: no fast path serves the instance. EPROTO: the slow path was built from another version.
pub fn application(
    channel: &dyn ControlChannel,
    instance: &str,
    command: [u8; 16],
) -> io::Result<AttachApplication> {
    let request = AttachApplication {
        abi_hash: version::APPLICATION_HASH,
        version: version::APPLICATION_VERSION,
        instance: instance_name(instance)?,
        command,
        ..AttachApplication::default()
    };
    attach(channel, Op::AttachApplication, &request, instance, |reply| (reply.version, reply.abi_hash))
}

/// Becomes a control client of `instance`.
///
/// # Errors
/// As [`application`].
pub fn control(channel: &dyn ControlChannel, instance: &str) -> io::Result<AttachControl> {
    let request = AttachControl {
        abi_hash: version::CONTROL_HASH,
        version: version::CONTROL_VERSION,
        instance: instance_name(instance)?,
        ..AttachControl::default()
    };
    attach(channel, Op::AttachControl, &request, instance, |reply| (reply.version, reply.abi_hash))
}

/// Becomes the fast path of `instance`. Hash, version and name in `request` are filled in.
///
/// # Errors
/// EBUSY: the instance has a fast path. EPERM: CAP_NET_ADMIN is missing. EPROTO: the slow path
/// was built from another version.
pub fn fast(channel: &dyn ControlChannel, instance: &str, request: &AttachFast) -> io::Result<AttachFast> {
    let request = AttachFast {
        abi_hash: version::FAST_HASH,
        version: version::FAST_VERSION,
        instance: instance_name(instance)?,
        ..*request
    };
    attach(channel, Op::AttachFast, &request, instance, |reply| (reply.version, reply.abi_hash))
}

fn attach<T: Body>(
    channel: &dyn ControlChannel,
    op: Op,
    request: &T,
    instance: &str,
    version_and_hash: impl Fn(&T) -> (u32, u64),
) -> io::Result<T> {
    let mut message = Message::with(op, 0, request);
    match channel.call(Target::Instance, &mut message, None) {
        Ok(_) => Ok(message.get::<T>()),
        Err(error) => {
            let theirs = version_and_hash(&message.get::<T>());
            Err(explain(&error, op, instance, version_and_hash(request), theirs, channel.name()))
        }
    }
}

fn explain(
    error: &io::Error,
    op: Op,
    instance: &str,
    ours: (u32, u64),
    theirs: (u32, u64),
    backend: &str,
) -> io::Error {
    let slow_path = if backend == "kernel" { "tas.ko" } else { "tas-slowpathd" };
    let text = match errno(error) {
        libc::EPROTO => match ours.0.cmp(&theirs.0) {
            Ordering::Less => format!(
                "this program is older than {slow_path} (interface version {} against {}); rebuild or update the program",
                ours.0, theirs.0
            ),
            Ordering::Greater => format!(
                "{slow_path} is older than this program (interface version {} against {}); update {slow_path} and load it again",
                theirs.0, ours.0
            ),
            Ordering::Equal => format!(
                "this program and {slow_path} were built from different sources (layout {:016x} against {:016x}); build both from one tree",
                ours.1, theirs.1
            ),
        },
        libc::ENODEV => format!("no fast path serves instance `{instance}`; type `sudo tas-fastpath --ip ADDRESS/PREFIX -- ...`"),
        libc::EBUSY if op == Op::AttachFast => format!("instance `{instance}` has a fast path; end it, or choose another with --instance"),
        libc::EPERM | libc::EACCES => format!("attaching to instance `{instance}` needs CAP_NET_ADMIN; type it with sudo"),
        _ => return io::Error::from_raw_os_error(errno(error)),
    };
    explained(errno(error), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_checked() {
        assert_eq!(&instance_name("tas0").unwrap()[..5], b"tas0\0");
        assert!(instance_name("seventeen-letters").is_err());
        assert!(instance_name("../x").is_err());
    }

    #[test]
    fn a_mismatch_says_which_side_is_older() {
        let error = io::Error::from_raw_os_error(libc::EPROTO);
        let text =
            |ours, theirs| explain(&error, Op::AttachControl, "tas0", ours, theirs, "kernel").to_string();
        assert!(text((1, 5), (2, 6)).contains("this program is older than tas.ko"));
        assert!(text((3, 5), (2, 6)).contains("tas.ko is older"));
        assert!(text((2, 5), (2, 6)).contains("different sources"));
    }
}
