// SPDX-License-Identifier: MIT OR Apache-2.0
//! Facts about this host, read from /sys and /proc.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Who drives a PCI device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PciBinding {
    /// vfio-pci; `no_iommu` when in its unsafe mode.
    Vfio {
        /// The device's group has no IOMMU behind it.
        no_iommu: bool,
    },
    /// uio_pci_generic or igb_uio.
    Uio,
    /// A kernel driver, perhaps with a network interface.
    Kernel {
        /// Its name.
        driver: String,
        /// The interface's name.
        interface: Option<String>,
        /// That interface is the host's only way in.
        only_way_in: bool,
    },
    /// No driver.
    None,
}

impl PciBinding {
    /// No IOMMU translates for the device: it is programmed with physical addresses.
    pub(super) fn needs_physical_addresses(&self) -> bool {
        matches!(self, Self::Uio | Self::Vfio { no_iommu: true })
    }
}

/// What the start-up checks want to know; a trait so that they can be tested.
pub(super) trait Host {
    /// Free huge page memory of every size, MiB.
    fn free_hugepage_mib(&self) -> u64;
    /// Who drives this device; `None` when there is no such device.
    fn pci_binding(&self, address: &str) -> Option<PciBinding>;
    /// Network devices bound to vfio or uio.
    fn userspace_pci(&self) -> Vec<PciBinding>;
    /// A network interface of this name exists.
    fn interface_exists(&self, name: &str) -> bool;
    /// The interface has the default route and no other interface has one.
    fn only_way_in(&self, interface: &str) -> bool;
    /// The interface that has this address, if any.
    fn address_owner(&self, address: IpAddr) -> Option<String>;
}

/// Name and MTU of the network interface with this number.
pub(super) fn interface_mtu(index: u32) -> Option<(String, u32)> {
    let number = |entry: &fs::DirEntry, file: &str| -> Option<u32> {
        fs::read_to_string(entry.path().join(file)).ok()?.trim().parse().ok()
    };
    let mut entries = fs::read_dir("/sys/class/net").ok()?.flatten();
    let entry = entries.find(|entry| number(entry, "ifindex") == Some(index))?;
    Some((entry.file_name().to_string_lossy().into_owned(), number(&entry, "mtu")?))
}

/// Number of CAP_NET_ADMIN in <linux/capability.h>.
const CAP_NET_ADMIN: u32 = 12;

/// True if this process has CAP_NET_ADMIN, which the slow path asks of a fast path.
pub(super) fn has_net_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_capabilities(&status) >> CAP_NET_ADMIN & 1 == 1
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

/// The host this process runs on.
pub(super) struct ThisHost;

const PCI_DEVICES: &str = "/sys/bus/pci/devices";
/// PCI base class of network controllers, as sysfs prints it.
const PCI_CLASS_NETWORK: &str = "0x02";

fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

impl Host for ThisHost {
    fn free_hugepage_mib(&self) -> u64 {
        let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
            return 0;
        };
        let free_kib = |entry: fs::DirEntry| -> Option<u64> {
            let name = entry.file_name().into_string().ok()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 =
                fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(kib.saturating_mul(free))
        };
        sizes.flatten().filter_map(free_kib).sum::<u64>() / 1024
    }

    fn pci_binding(&self, address: &str) -> Option<PciBinding> {
        let device = Path::new(PCI_DEVICES).join(address);
        if !device.exists() {
            return None;
        }
        let Some(driver) = link_name(&device.join("driver")) else {
            return Some(PciBinding::None);
        };
        Some(match driver.as_str() {
            "vfio-pci" => {
                let group = fs::read_to_string(device.join("iommu_group/name")).unwrap_or_default();
                PciBinding::Vfio { no_iommu: group.trim() == "vfio-noiommu" }
            }
            "uio_pci_generic" | "igb_uio" => PciBinding::Uio,
            _ => {
                let interface = net_interface(&device);
                let only_way_in = interface.as_deref().is_some_and(|name| self.only_way_in(name));
                PciBinding::Kernel { driver, interface, only_way_in }
            }
        })
    }

    fn userspace_pci(&self) -> Vec<PciBinding> {
        let Ok(devices) = fs::read_dir(PCI_DEVICES) else {
            return Vec::new();
        };
        devices
            .flatten()
            .filter(|entry| {
                let class = fs::read_to_string(entry.path().join("class")).unwrap_or_default();
                class.starts_with(PCI_CLASS_NETWORK)
            })
            .filter_map(|entry| self.pci_binding(&entry.file_name().to_string_lossy()))
            .filter(|binding| matches!(binding, PciBinding::Vfio { .. } | PciBinding::Uio))
            .collect()
    }

    fn interface_exists(&self, name: &str) -> bool {
        !name.is_empty() && !name.contains('/') && Path::new("/sys/class/net").join(name).exists()
    }

    fn only_way_in(&self, interface: &str) -> bool {
        let mut with_default = default_route_interfaces(
            &fs::read_to_string("/proc/net/route").unwrap_or_default(),
            &fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default(),
        );
        with_default.sort();
        with_default.dedup();
        with_default == [interface]
    }

    fn address_owner(&self, address: IpAddr) -> Option<String> {
        nix::ifaddrs::getifaddrs().ok()?.find_map(|entry| {
            let held = entry.address?;
            let v4 = held.as_sockaddr_in().map(|held| IpAddr::V4(held.ip()));
            let held = v4.or_else(|| held.as_sockaddr_in6().map(|held| IpAddr::V6(held.ip())))?;
            (held == address).then_some(entry.interface_name)
        })
    }
}

/// A virtio NIC's interface hangs below the virtio device, others directly below the PCI device.
fn net_interface(device: &Path) -> Option<String> {
    let first = |path: &Path| {
        let entry = fs::read_dir(path).ok()?.flatten().next()?;
        Some(entry.file_name().to_string_lossy().into_owned())
    };
    if let Some(name) = first(&device.join("net")) {
        return Some(name);
    }
    let children = fs::read_dir(device).ok()?.flatten();
    children
        .filter(|child| child.file_name().to_string_lossy().starts_with("virtio"))
        .find_map(|child| first(&child.path().join("net")))
}

/// Interfaces of default routes in the formats of /proc/net/route and /proc/net/ipv6_route.
fn default_route_interfaces(ipv4: &str, ipv6: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in ipv4.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [name, "00000000", _, _, _, _, _, "00000000", ..] = fields[..] {
            names.push(name.to_owned());
        }
    }
    for line in ipv6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [destination, "00", .., name] = fields[..] {
            // The kernel lists an unreachable default route on lo.
            if destination.bytes().all(|byte| byte == b'0') && name != "lo" {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn default_routes_of_both_families() {
        let ipv4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let ipv6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    fe80000000000000000000000000ffff 00000400 00000001 00000000 00000003     wlan0\n\
                    00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n\
                    fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1\n";
        assert_eq!(default_route_interfaces(ipv4, ipv6), ["eth0", "wlan0"]);
        assert!(default_route_interfaces("", "").is_empty());
    }

    #[test]
    fn capabilities_are_read() {
        assert_eq!(
            effective_capabilities("Name:\tx\nCapPrm:\tff\nCapEff:\t0000000000001000\n"),
            1 << CAP_NET_ADMIN
        );
        assert_eq!(effective_capabilities(""), 0);
    }

    #[test]
    fn loopback_has_its_address() {
        assert_eq!(ThisHost.address_owner(Ipv4Addr::LOCALHOST.into()).as_deref(), Some("lo"));
        assert_eq!(ThisHost.address_owner(Ipv4Addr::new(192, 0, 2, 77).into()), None);
        assert!(ThisHost.interface_exists("lo") && !ThisHost.interface_exists("../net/lo"));
    }
}
