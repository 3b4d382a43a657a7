// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine has. Every path is below `root`, so that tests bring their own.

use super::Finding;
use nix::unistd::{access, AccessFlags};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// Others may not open the device (DESIGN: mode 0660).
const OTHERS: u32 = 0o007;

/// What the kernel backend needs, in order.
pub(super) fn kernel_checks(root: &Path) -> Vec<Finding> {
    vec![rust(root), module(root), device(root)]
}

fn release(root: &Path) -> String {
    fs::read_to_string(root.join("proc/sys/kernel/osrelease"))
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

fn rust(root: &Path) -> Finding {
    const CHECK: &str = "kernel";
    let release = release(root);
    if root.join("sys/module/tas").exists() {
        return Finding::ok(CHECK, format!("{release} runs Rust modules"));
    }
    let fix = "tas-slowpathd & (the daemon needs nothing of the kernel), or boot a kernel with CONFIG_RUST=y";
    let config = fs::read_to_string(root.join(format!("boot/config-{release}")))
        .or_else(|_| fs::read_to_string(root.join(format!("lib/modules/{release}/config"))));
    match config {
        Ok(config) if config.lines().any(|line| line == "CONFIG_RUST=y") => {
            Finding::ok(CHECK, format!("{release} has CONFIG_RUST=y"))
        }
        Ok(_) => Finding::fail(
            CHECK,
            format!("{release} was built without CONFIG_RUST: it cannot load tas.ko"),
            fix,
        ),
        Err(_) => Finding::fail(
            CHECK,
            format!("/boot/config-{release} cannot be read: it is not known whether tas.ko loads"),
            fix,
        ),
    }
}

fn module(root: &Path) -> Finding {
    const CHECK: &str = "module";
    if !root.join("sys/module/tas").exists() {
        let fix = "make -C /lib/modules/$(uname -r)/build M=$PWD && sudo insmod tas.ko";
        return Finding::fail(CHECK, "tas.ko is not loaded", fix);
    }
    let version = fs::read_to_string(root.join("sys/module/tas/version")).unwrap_or_default();
    Finding::ok(CHECK, format!("tas.ko {} is loaded", version.trim()).replace("  ", " "))
}

fn device(root: &Path) -> Finding {
    const CHECK: &str = "/dev/tas";
    let path = root.join("dev/tas");
    let Ok(metadata) = fs::metadata(&path) else {
        return Finding::fail(CHECK, "there is no /dev/tas; the module makes it", "sudo insmod tas.ko");
    };
    if !metadata.file_type().is_char_device() {
        return Finding::fail(
            CHECK,
            "/dev/tas is not a character device",
            "sudo rm /dev/tas && sudo rmmod tas && sudo insmod tas.ko",
        );
    }
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 {
        let why = format!("mode {mode:04o} lets everybody in");
        return Finding::fail(CHECK, why, "sudo chgrp tas /dev/tas && sudo chmod 0660 /dev/tas");
    }
    if access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        let why = format!("mode {mode:04o}, group {}: this user may not open it", metadata.gid());
        return Finding::fail(CHECK, why, "sudo usermod -aG tas $USER (and log in again)");
    }
    Finding::ok(CHECK, format!("mode {mode:04o}, group {}, open to this user", metadata.gid()))
}

/// What the fast path's memory and NIC need. None of it is needed for a virtual device.
pub(super) fn memory_checks(root: &Path) -> Vec<Finding> {
    vec![huge_pages(root).only_if(false), iommu(root).only_if(false)]
}

/// A number from /proc/meminfo.
fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn huge_pages(root: &Path) -> Finding {
    const CHECK: &str = "huge pages";
    let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let total = meminfo(&text, "HugePages_Total").unwrap_or(0);
    let free = meminfo(&text, "HugePages_Free").unwrap_or(0);
    match (total, free) {
        (0, _) => Finding::fail(
            CHECK,
            "none are reserved; a hardware port needs some, net_tap runs with --no-huge",
            "sudo sysctl vm.nr_hugepages=512",
        ),
        (_, 0) => Finding::fail(
            CHECK,
            format!("all {total} are in use"),
            format!("sudo sysctl vm.nr_hugepages={}", total + 512),
        ),
        _ => Finding::ok(CHECK, format!("{free} of {total} are free")),
    }
}

fn iommu(root: &Path) -> Finding {
    const CHECK: &str = "iommu";
    let groups = fs::read_dir(root.join("sys/kernel/iommu_groups")).map_or(0, Iterator::count);
    if groups == 0 {
        let why = "no IOMMU is active: a fast path on a real NIC is as trusted as the kernel";
        return Finding::fail(
            CHECK,
            why,
            "add intel_iommu=on (or amd_iommu=on) to the kernel's command line and reboot",
        );
    }
    if !root.join("sys/module/vfio_pci").exists() {
        let why = format!("{groups} IOMMU groups, but vfio-pci is not loaded");
        return Finding::fail(CHECK, why, "sudo modprobe vfio-pci");
    }
    Finding::ok(CHECK, format!("{groups} IOMMU groups, vfio-pci is loaded"))
}

/// PCI devices bound to the drivers that DPDK uses.
pub(super) fn bound_devices(root: &Path, driver: &str) -> usize {
    let entries = fs::read_dir(root.join("sys/bus/pci/drivers").join(driver));
    // Devices are the links with a domain, bus and slot in their name.
    entries.map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().contains(':')).count()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use std::path::PathBuf;

    /// A made-up machine.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("tasctl-doctor-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }
        fn file(&self, path: &str, text: &str) -> &Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_kernel_without_rust_is_told_from_one_that_lacks_the_module() {
        let machine = Machine::new("kernel");
        machine
            .file("proc/sys/kernel/osrelease", "7.3\n")
            .file("boot/config-7.3", "# CONFIG_RUST is not set\n");
        assert!(rust(&machine.0).why.contains("without CONFIG_RUST"));
        machine.file("boot/config-7.3", "CONFIG_RUST=y\n");
        assert_eq!(rust(&machine.0).verdict, Verdict::Ok);
        assert_eq!(module(&machine.0).verdict, Verdict::Fail);
        machine.file("sys/module/tas/version", "0.1.0\n");
        assert_eq!(module(&machine.0).why, "tas.ko 0.1.0 is loaded");
    }

    #[test]
    fn a_file_in_place_of_the_device_is_noticed() {
        let machine = Machine::new("device");
        assert!(device(&machine.0).why.contains("there is no /dev/tas"));
        machine.file("dev/tas", "");
        assert!(device(&machine.0).why.contains("not a character device"));
    }

    #[test]
    fn huge_pages_in_use_differ_from_none() {
        let machine = Machine::new("pages");
        machine.file("proc/meminfo", "MemTotal: 1 kB\nHugePages_Total:       0\nHugePages_Free:        0\n");
        assert!(huge_pages(&machine.0).why.starts_with("none"));
        machine.file("proc/meminfo", "HugePages_Total:      64\nHugePages_Free:        0\n");
        assert_eq!(huge_pages(&machine.0).fix.as_deref(), Some("sudo sysctl vm.nr_hugepages=576"));
        machine.file("proc/meminfo", "HugePages_Total:      64\nHugePages_Free:        3\n");
        assert_eq!(huge_pages(&machine.0).verdict, Verdict::Ok);
    }

    #[test]
    fn bound_devices_are_counted_without_the_drivers_own_files() {
        let machine = Machine::new("bound");
        machine
            .file("sys/bus/pci/drivers/vfio-pci/0000:00:03.0", "")
            .file("sys/bus/pci/drivers/vfio-pci/bind", "");
        assert_eq!(bound_devices(&machine.0, "vfio-pci"), 1);
        assert_eq!(bound_devices(&machine.0, "uio_pci_generic"), 0);
        assert_eq!(iommu(&machine.0).verdict, Verdict::Fail);
    }
}
