// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MTU of a port: chosen before the port is configured, since drivers size their buffers then, and set after it.

use std::ffi::CStr;

use abi::limits::ETHERNET_MTU;
use anyhow::{ensure, Context, Result};
use dpdk_sys::*;

use super::device::DeviceRequest;
use super::eal::check;
use super::host::interface_mtu;

/// Ethernet header and checksum: what DPDK takes for a frame's bytes beyond the MTU if the driver does not say.
const ETHERNET_OVERHEAD_BYTES: u32 = 14 + 4;
/// The driver that says of every interface that it has a standard MTU, and carries what its ring's frames hold.
const AF_PACKET: &str = "net_af_packet";

/// What a port is to have.
pub(super) struct Mtu {
    /// Bytes.
    pub(super) wanted: u16,
    /// What it has before it is configured.
    current: u16,
    /// DPDK does not take the port for one that carries this; the interface below it does.
    beyond_driver: bool,
}

impl Mtu {
    /// # Errors
    /// The port does not carry what is asked for.
    pub(super) fn choose(
        port: u16,
        info: &rte_eth_dev_info,
        driver: &str,
        request: &DeviceRequest,
    ) -> Result<Self> {
        let current = current(port)?;
        let largest = largest(info);
        let wanted = request.mtu_bytes.unwrap_or(current.min(largest).min(ETHERNET_MTU as u16));
        let beyond_driver = wanted > largest && driver == AF_PACKET;
        if beyond_driver {
            let (interface, has) = interface_mtu(info.if_index).context("the interface's MTU")?;
            ensure!(
                has >= u32::from(wanted),
                "{interface} has an MTU of {has}. Type: ip link set {interface} mtu {wanted}"
            );
        } else {
            ensure!(
                wanted <= largest && wanted >= info.min_mtu,
                "MTU {wanted} is not between {} and {largest}, which {driver} of this DPDK ({}) carries",
                info.min_mtu,
                version()
            );
        }
        Ok(Self { wanted, current, beyond_driver })
    }

    /// Before the port is configured: larger frames than it would expect.
    pub(super) fn configure(&self, conf: &mut rte_eth_conf) {
        if u32::from(self.wanted) > ETHERNET_MTU && !self.beyond_driver {
            conf.rxmode.mtu = u32::from(self.wanted);
        }
    }

    /// After that.
    ///
    /// # Errors
    /// What the driver reports.
    pub(super) fn set(&self, port: u16) -> Result<()> {
        if self.wanted == self.current || self.beyond_driver {
            return Ok(());
        }
        // SAFETY: the port is configured and stopped.
        let code = unsafe { rte_eth_dev_set_mtu(port, self.wanted) };
        // A port that cannot change its MTU was configured with it, or may still carry smaller packets.
        if code != -libc::ENOTSUP || self.wanted > current(port)? {
            check(code, "rte_eth_dev_set_mtu")?;
        }
        Ok(())
    }
}

fn current(port: u16) -> Result<u16> {
    let mut bytes = 0;
    // SAFETY: plain out-parameter.
    check(unsafe { rte_eth_dev_get_mtu(port, &mut bytes) }, "rte_eth_dev_get_mtu")?;
    Ok(bytes)
}

/// The largest that DPDK lets a port have.
fn largest(info: &rte_eth_dev_info) -> u16 {
    let max_mtu = u32::from(info.max_mtu);
    let told = info.max_mtu != u16::MAX && info.max_rx_pktlen > max_mtu;
    let overhead = if told { info.max_rx_pktlen - max_mtu } else { ETHERNET_OVERHEAD_BYTES };
    max_mtu.min(info.max_rx_pktlen.saturating_sub(overhead)) as u16
}

fn version() -> String {
    // SAFETY: a static string.
    unsafe { CStr::from_ptr(rte_version()) }.to_string_lossy().into_owned()
}
