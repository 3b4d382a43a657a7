// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EAL is started with: the operator's arguments, and defaults for what they leave open.
//! Pure; [`super::host`] gathers the facts.

use abi::limits::{ETHERNET_MTU, JUMBO_SLOT_BYTES};
use abi::region::KernelRingLayout;

use super::host::{Host, PciBinding};

/// Memory asked for without huge pages, in MiB: 16 cores' packet buffers and descriptors.
const NO_HUGE_MIB: u64 = 256;
/// The same where the MTU is larger than standard Ethernet's, as are the buffers.
const NO_HUGE_JUMBO_MIB: u64 = 768;
/// net_af_packet's ring for jumbo frames: four frames in nine pages. Its frames are no larger than a packet buffer: the
/// driver copies without looking.
const JUMBO_RING: &str = ",blocksz=36864,framesz=9216,framecnt=512";
const _: () = assert!(JUMBO_SLOT_BYTES == 9216);
/// Free huge page memory below which they are not worth using, in MiB.
const HUGE_MIB_MIN: u64 = 128;

/// EAL's arguments, and what to tell the operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EalArguments {
    /// Without the program's name.
    pub(super) words: Vec<String>,
    /// Lines worth printing.
    pub(super) notes: Vec<String>,
}

/// Completes the operator's EAL arguments for a port with this MTU.
///
/// # Errors
/// Arguments that cannot work on this host, with what to type instead.
pub(super) fn complete(
    given: &[String],
    no_hugepages: bool,
    mtu_bytes: u32,
    host: &dyn Host,
) -> Result<EalArguments, String> {
    let given = Given(given);
    let jumbo = mtu_bytes > ETHERNET_MTU;
    let mut words = given.0.to_vec();
    if jumbo {
        words.iter_mut().for_each(widen_ring);
    }
    let mut notes = Vec::new();
    let devices = pci_devices(&given, mtu_bytes, host)?;
    let physical = devices.iter().any(|device| device.binding.needs_physical_addresses());

    if !given.has(&["--iova-mode"]) {
        words.push(format!("--iova-mode={}", if physical { "pa" } else { "va" }));
    }
    if physical {
        notes.push(
            "the port is not behind an IOMMU: this process can reach all memory of the host and is \
             as trusted as the kernel"
                .into(),
        );
    }
    let no_huge_mib = if jumbo { NO_HUGE_JUMBO_MIB } else { NO_HUGE_MIB };
    add_memory(&given, (no_hugepages, no_huge_mib), physical, host, &mut words, &mut notes)?;
    if given.has(&["--vdev"]) && !given.has(&["-a", "--allow", "-b", "--block", "--no-pci"]) {
        // Otherwise EAL would take every device bound to vfio, whoever it is meant for.
        words.push("--no-pci".into());
    }
    if !given.has(&["--no-telemetry", "--telemetry"]) {
        words.push("--no-telemetry".into());
    }
    if !given.has(&["--log-level"]) {
        words.push("--log-level=*:warning".into());
    }
    Ok(EalArguments { words, notes })
}

/// A net_af_packet port whose ring the operator leaves open gets one for jumbo frames.
fn widen_ring(word: &mut String) {
    let value = word.strip_prefix("--vdev=").unwrap_or(word);
    if is_af_packet(value) && !["framesz=", "blocksz=", "framecnt="].iter().any(|key| value.contains(key)) {
        word.push_str(JUMBO_RING);
    }
}

fn is_af_packet(value: &str) -> bool {
    value.starts_with("net_af_packet") || value.starts_with("eth_af_packet")
}

fn add_memory(
    given: &Given<'_>,
    (no_hugepages, no_huge_mib): (bool, u64),
    physical: bool,
    host: &dyn Host,
    words: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let chosen =
        ["--no-huge", "--in-memory", "--huge-dir", "--legacy-mem", "--single-file-segments", "--file-prefix"];
    let asked_none = no_hugepages || given.has(&["--no-huge"]);
    let free_mib = host.free_hugepage_mib();
    if physical && (asked_none || free_mib < HUGE_MIB_MIN) {
        return Err(format!(
            "a port without an IOMMU needs huge pages, and {free_mib} MiB are free. Type: \
             echo {} > /proc/sys/vm/nr_hugepages (2 MiB pages), or bind the port to vfio-pci",
            HUGE_MIB_MIN
        ));
    }
    let vhost = given.value_contains("--vdev", "net_vhost") || given.value_contains("--vdev", "virtio_user");
    if !asked_none && given.has(&chosen) {
        return Ok(());
    }
    if asked_none || free_mib < HUGE_MIB_MIN {
        if !asked_none {
            notes.push(format!(
                "{free_mib} MiB of huge pages are free, at least {HUGE_MIB_MIN} are wanted: using ordinary pages. For \
                 huge pages type: echo {no_huge_mib} > /proc/sys/vm/nr_hugepages (2 MiB pages)"
            ));
        }
        if !given.has(&["--no-huge"]) {
            words.push("--no-huge".into());
        }
        if !given.has(&["-m", "--socket-mem"]) {
            words.extend(["-m".into(), no_huge_mib.to_string()]);
        }
        if !given.has(&["--file-prefix", "--no-shconf"]) {
            // No files in /run: several instances do not meet, and a killed one leaves nothing.
            words.push("--no-shconf".into());
        }
        return Ok(());
    }
    words.push("--in-memory".into());
    if vhost {
        // One descriptor for all memory: vhost-user hands over at most eight.
        words.push("--single-file-segments".into());
    }
    Ok(())
}

struct PciDevice {
    binding: PciBinding,
}

/// The PCI devices EAL would take, checked.
fn pci_devices(given: &Given<'_>, mtu_bytes: u32, host: &dyn Host) -> Result<Vec<PciDevice>, String> {
    let mut devices = Vec::new();
    for value in given.values(&["-a", "--allow"]) {
        let name = value.split(',').next().unwrap_or_default();
        if !is_pci_address(name) {
            continue;
        }
        let address = full_pci_address(name);
        let binding =
            host.pci_binding(&address).ok_or_else(|| format!("no PCI device {address}. Type: lspci -D"))?;
        check_binding(&address, &binding)?;
        devices.push(PciDevice { binding });
    }
    for value in given.values(&["--vdev"]) {
        check_vdev(value, mtu_bytes, host)?;
    }
    let by_scan = devices.is_empty() && !given.has(&["--vdev", "--no-pci", "-a", "--allow"]);
    if by_scan {
        devices.extend(host.userspace_pci().into_iter().map(|binding| PciDevice { binding }));
        if devices.is_empty() {
            return Err(
                "no port: no PCI device is bound to vfio-pci or uio_pci_generic, and no --vdev was given. \
                 Type: dpdk-devbind.py --status, then dpdk-devbind.py --bind=vfio-pci DEVICE; or, to try TAS \
                 without a NIC, end the command with: -- --vdev=net_tap0,iface=tas0"
                    .into(),
            );
        }
    }
    Ok(devices)
}

fn check_binding(address: &str, binding: &PciBinding) -> Result<(), String> {
    match binding {
        PciBinding::Kernel { driver, interface: Some(interface), only_way_in: true } => Err(format!(
            "refused: {interface} ({address}, driver {driver}) has this host's default route and is its only way \
             in; giving it to TAS would cut the host off. Use another port, or first give the host another default route"
        )),
        PciBinding::Kernel { driver, .. } => Err(format!(
            "{address} belongs to the kernel driver {driver}. Type: modprobe vfio-pci && \
             dpdk-devbind.py --bind=vfio-pci {address}"
        )),
        PciBinding::None => Err(format!(
            "{address} has no driver. Type: modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}"
        )),
        PciBinding::Vfio { .. } | PciBinding::Uio => Ok(()),
    }
}

/// `remote=` makes net_tap take all traffic of an interface; an interface that does not exist
/// would only be reported as a failed probe.
fn check_vdev(value: &str, mtu_bytes: u32, host: &dyn Host) -> Result<(), String> {
    let (name, options) = value.split_once(',').unwrap_or((value, ""));
    let option = |key: &str| options.split(',').find_map(|pair| pair.strip_prefix(key));
    let interface = match name {
        _ if name.starts_with("net_tap") => option("remote="),
        _ if is_af_packet(name) => {
            let most = KernelRingLayout::of(mtu_bytes).slot_bytes();
            let given = option("framesz=").map_or(Ok(0), str::parse::<usize>);
            if !given.is_ok_and(|bytes| bytes <= most) {
                return Err(format!(
                    "{name}: framesz must be a number up to {most}, what a packet buffer holds"
                ));
            }
            Some(option("iface=").ok_or_else(|| format!("{name} needs iface=INTERFACE"))?)
        }
        _ => None,
    };
    let Some(interface) = interface else {
        return Ok(());
    };
    if !host.interface_exists(interface) {
        return Err(format!("{name}: there is no interface {interface}. Type: ip link"));
    }
    if name.starts_with("net_tap") && host.only_way_in(interface) {
        return Err(format!(
            "refused: {interface} has this host's default route and is its only way in; remote={interface} \
             would cut the host off"
        ));
    }
    Ok(())
}

fn is_pci_address(name: &str) -> bool {
    let parts: Vec<&str> = name.split([':', '.']).collect();
    let hex = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit());
    matches!(parts.len(), 3 | 4) && name.contains('.') && parts.iter().all(hex)
}

fn full_pci_address(name: &str) -> String {
    if name.matches(':').count() == 1 {
        format!("0000:{name}")
    } else {
        name.to_owned()
    }
}

/// The arguments as the operator gave them. EAL takes `--name=value`, `--name value`, `-n value`
/// and `-nvalue`.
struct Given<'a>(&'a [String]);

impl Given<'_> {
    fn matches(word: &str, name: &str) -> bool {
        match word.strip_prefix(name) {
            Some(rest) if name.starts_with("--") => rest.is_empty() || rest.starts_with('='),
            Some(_) => true,
            None => false,
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        self.0.iter().any(|word| names.iter().any(|name| Self::matches(word, name)))
    }

    fn values(&self, names: &[&str]) -> Vec<&str> {
        let mut found = Vec::new();
        let mut words = self.0.iter();
        while let Some(word) = words.next() {
            let Some(name) = names.iter().find(|name| Self::matches(word, name)) else {
                continue;
            };
            let rest = word.strip_prefix(name).unwrap_or_default();
            let rest = rest.strip_prefix('=').unwrap_or(rest);
            if !rest.is_empty() {
                found.push(rest);
            } else if let Some(next) = words.next() {
                found.push(next);
            }
        }
        found
    }

    fn value_contains(&self, name: &str, part: &str) -> bool {
        self.values(&[name]).iter().any(|value| value.contains(part))
    }
}

/// True when the operator named the processors EAL may use (`-l`, `-c`, `--lcores`).
pub(super) fn names_lcores(given: &[String]) -> bool {
    let given = Given(given);
    given.has(&["--lcores", "--main-lcore"])
        || given
            .0
            .iter()
            .any(|word| !word.starts_with("--") && (word.starts_with("-l") || word.starts_with("-c")))
}

#[cfg(test)]
#[path = "eal_arguments_tests.rs"]
mod tests;
