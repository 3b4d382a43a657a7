// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is running.

use super::{host::bound_devices, Finding};
use crate::{client::Client, interposer, Place};
use abi::core_status::{CoreStatus, Counter, CORE_STATUS_STRIDE};
use nix::unistd::{access, AccessFlags};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    sync::atomic::Ordering::Relaxed,
};
use tas::control::{self, daemon::DaemonChannel};

/// The daemon's socket: there, open to this user, served.
pub(super) fn daemon_socket(path: &Path) -> Finding {
    const CHECK: &str = "daemon";
    let name = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        return Finding::fail(
            CHECK,
            format!("there is no {name}: tas-slowpathd is not running"),
            "sudo tas-slowpathd",
        );
    };
    if !metadata.file_type().is_socket() {
        return Finding::fail(
            CHECK,
            format!("{name} is not a socket"),
            format!("sudo rm {name}, then sudo tas-slowpathd"),
        );
    }
    let (mode, group) = (metadata.mode() & 0o777, metadata.gid());
    if access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        let why = format!("{name} has mode {mode:04o}, group {group}: this user may not connect");
        return Finding::fail(CHECK, why, "sudo usermod -aG tas $USER (and log in again)");
    }
    match DaemonChannel::open(path) {
        Ok(_) => Finding::ok(CHECK, format!("tas-slowpathd serves {name} (mode {mode:04o}, group {group})")),
        Err(_) => Finding::fail(
            CHECK,
            format!("nobody serves {name}: tas-slowpathd has ended"),
            "sudo tas-slowpathd",
        ),
    }
}

/// Whether the interfaces fit, and whether a fast path is there.
pub(super) fn service_checks(place: &Place, reachable: bool) -> Vec<Finding> {
    const ABI: &str = "abi";
    const FAST: &str = "fast path";
    if !reachable {
        let why = "no slow path to ask";
        return vec![
            Finding::fail(ABI, why, "sudo tas-slowpathd"),
            Finding::fail(FAST, why, "sudo tas-slowpathd"),
        ];
    }
    let client = match Client::open(place) {
        Ok(client) => client,
        Err(error) => {
            let fix = match control::errno(&error) {
                libc::EPROTO => "cargo build, then load or start the slow path again",
                libc::ENODEV => "tasctl doctor --instance NAME, with the name the slow path was started with",
                _ => "see above",
            };
            return vec![Finding::fail(ABI, error.to_string(), fix), Finding::fail(FAST, "cannot ask", fix)];
        }
    };
    let hash = abi::version::CONTROL_HASH;
    let mut findings =
        vec![Finding::ok(ABI, format!("same interface as the {} (hash {hash:016x})", client.backend()))];
    findings.push(match client.status() {
        Ok(status) if status.fastpath != 0 => {
            Finding::ok(FAST, format!("pid {} serves {} cores", status.fastpath_pid, status.cores))
        }
        Ok(_) => Finding::fail(
            FAST,
            format!("no fast path serves instance {}", place.instance()),
            format!(
                "sudo tas-fastpath --ip ADDRESS/PREFIX --backend {} -- <EAL arguments>",
                client.backend()
            ),
        ),
        Err(error) => Finding::fail(FAST, format!("{error:#}"), "tasctl status"),
    });
    findings
}

/// The library for `tasctl run`.
pub(super) fn interposer() -> Finding {
    const CHECK: &str = "interposer";
    match interposer::find() {
        Ok(path) => Finding::ok(CHECK, path.display().to_string()),
        Err(error) => Finding::fail(CHECK, error.to_string(), "cargo build -p tas-interpose"),
    }
}

/// Whether idle cores sleep, and on what.
pub(super) fn sleep(place: &Place, reachable: bool, root: &Path) -> Finding {
    const CHECK: &str = "idle sleep";
    let timed = bound_devices(root, "uio_pci_generic") + bound_devices(root, "igb_uio");
    let interrupt = bound_devices(root, "vfio-pci");
    let port = match (interrupt, timed) {
        (0, 0) => "no NIC is bound to a driver of DPDK; a virtual port sleeps for short times",
        (0, _) => "the NIC's driver (uio) gives no receive interrupt: idle cores sleep for short times",
        _ => "vfio-pci gives receive interrupts: idle cores sleep on them where the NIC's driver has them",
    };
    let slept = if reachable { Client::open(place).ok().and_then(|client| sleeps(&client)) } else { None };
    match slept {
        Some(0) => Finding::fail(
            CHECK,
            format!("no core has slept yet; {port}"),
            "tasctl counters --watch (an idle core shows sleeps)",
        )
        .only_if(false),
        Some(count) => Finding::ok(CHECK, format!("cores slept {count} times; {port}")),
        None => {
            Finding::fail(CHECK, port, "sudo modprobe vfio-pci && sudo dpdk-devbind.py -b vfio-pci ADDRESS")
                .only_if(false)
        }
    }
}

/// Times the cores went to sleep; none without a core.
fn sleeps(client: &Client) -> Option<u64> {
    let pages = client.core_status().ok()??;
    let core = |index: usize| {
        let start = pages.at(index * CORE_STATUS_STRIDE, size_of::<CoreStatus>())?;
        // SAFETY: `at` checked the bounds; pages are aligned; the mapping outlives the borrow.
        let page: &[CoreStatus] = unsafe { ring::table(start, 1) };
        page.first().map(|page| page.counters[Counter::Sleeps as usize].load(Relaxed))
    };
    Some((0..client.cores as usize).filter_map(core).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_missing_daemon_is_told_from_a_wrong_path() {
        let missing = daemon_socket(Path::new("/nonexistent/tas0.sock"));
        assert_eq!((missing.verdict, missing.fix.as_deref()), (Verdict::Fail, Some("sudo tas-slowpathd")));
        assert!(daemon_socket(Path::new("/dev/null")).why.contains("not a socket"));
    }
}
