// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching to the slow path: the channel, and what is said in the first calls.

use std::ffi::CString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use abi::message::{AttachFast, Message, Op, Route};
use anyhow::{Context, Result};
use tas::control::daemon::DaemonChannel;
use tas::control::kernel::KernelChannel;
use tas::control::{attach, errno, socket_path, ControlChannel, Target};

use super::device::Device;
use super::option_values::RouteOption;
use super::options::{Backend, Options};
use super::wake::CoreWake;

/// Microseconds of a second.
const SECOND_US: u32 = 1_000_000;
/// Kilobits of a gigabit.
const GIGABIT_KBITS: u32 = 1_000_000;

/// Bits of [`AttachFast::features`].
mod features {
    /// ECN may be negotiated.
    pub(super) const ECN: u32 = 1 << 0;
    /// The port verifies receive checksums.
    pub(super) const RX_CHECKSUM: u32 = 1 << 1;
    /// The port computes transmit checksums.
    pub(super) const TX_CHECKSUM: u32 = 1 << 2;
}

/// Opens the channel to the slow path.
///
/// # Errors
/// It is not there, or this process may not use it.
pub(super) fn open(options: &Options) -> Result<Arc<dyn ControlChannel>> {
    Ok(match options.backend {
        Backend::Kernel => {
            let path = CString::new(options.device.as_os_str().as_bytes())
                .context("--device contains a zero byte")?;
            Arc::new(KernelChannel::open_at(&path)?)
        }
        Backend::Daemon => {
            let path = options.socket.clone().unwrap_or_else(|| socket_path(&options.instance));
            Arc::new(DaemonChannel::open(&path)?)
        }
    })
}

/// Becomes the instance's fast path; the slow path's answer.
///
/// # Errors
/// Another fast path is there, permission is missing, or the versions differ.
pub(super) fn attach_fast(
    channel: &dyn ControlChannel,
    options: &Options,
    device: &Device,
) -> Result<AttachFast> {
    let request = request(options, device);
    attach::fast(channel, &options.instance, &request).map_err(|error| {
        let refused = errno(&error) == libc::EINVAL;
        let error = anyhow::Error::new(error).context("attaching to the slow path");
        match refused {
            // The options were checked: what remains is a difference from what lives there.
            true => error.context(format!(
                "instance {} holds connections of a fast path with another --cores, --flows, --ip or --mtu: give the same, or end \
                 the applications (tasctl status)",
                options.instance
            )),
            false => error,
        }
    })
}

fn request(options: &Options, device: &Device) -> AttachFast {
    let (tcp, cc) = (&options.tcp, &options.cc);
    let feature = |on: bool, bit: u32| if on { bit } else { 0 };
    AttachFast {
        cores: options.cores,
        flows: flow_slots(options),
        mtu_bytes: u32::from(device.mtu_bytes),
        ipv4: options.ip.ipv4_bits(),
        ipv6: options.ip6.map_or([0; 4], |net| address_words(net.address)),
        ipv6_prefix: options.ip6.map_or(0, |net| net.prefix),
        prefix: options.ip.prefix,
        mac: mac_bits(device.mac),
        congestion: cc.cc.number(),
        handshake_timeout_us: tcp.tcp_handshake_timeout,
        handshake_retries: tcp.tcp_handshake_retries,
        rto_min_us: tcp.tcp_rto_min,
        rx_buffer_bytes: tcp.tcp_rxbuf_len,
        tx_buffer_bytes: tcp.tcp_txbuf_len,
        link_kbps: tcp.tcp_link_bw.saturating_mul(GIGABIT_KBITS),
        rtt_init_us: tcp.tcp_rtt_init,
        control_interval_rtts: cc.cc_control_interval,
        dctcp_weight: cc.cc_dctcp_weight.0,
        dctcp_init_kbps: cc.cc_dctcp_init,
        dctcp_step_kbps: cc.cc_dctcp_step,
        dctcp_min_kbps: cc.cc_dctcp_min,
        const_rate_kbps: cc.cc_const_rate,
        arp_timeout_us: tcp.arp_timeout,
        arp_age_us: tcp.arp_age.saturating_mul(SECOND_US),
        time_wait_us: tcp.tcp_time_wait.saturating_mul(SECOND_US),
        features: feature(!tcp.no_ecn, features::ECN)
            | feature(device.rx_checksums, features::RX_CHECKSUM)
            | feature(device.tx_tcp_checksum, features::TX_CHECKSUM),
        ..AttachFast::default()
    }
}

/// The words of an IPv6 address as messages have it, most significant first.
fn address_words(address: IpAddr) -> [u32; 4] {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

/// Multicast MAC addresses where neighbours look for us: all nodes, and the solicited-node groups of both our
/// addresses (RFC 4291 §2.7.1, RFC 2464 §7).
fn groups(ipv6: [u32; 4], link_local: [u32; 4]) -> [[u8; 6]; 3] {
    let solicited = |words: [u32; 4]| {
        let [.., low] = words;
        let [_, a, b, c] = low.to_be_bytes();
        [0x33, 0x33, 0xff, a, b, c]
    };
    [[0x33, 0x33, 0, 0, 0, 1], solicited(ipv6), solicited(link_local)]
}

/// Lets the port receive what IPv6 neighbours send to groups.
pub(super) fn join_groups(device: &Device, attached: &AttachFast, quiet: bool) {
    if attached.ipv6 == [0; 4] {
        return;
    }
    if !device.receive_groups(&groups(attached.ipv6, attached.ipv6_link_local)) && !quiet {
        eprintln!(
            "tas-fastpath: port {} has no multicast filter to set; if it drops multicast, IPv6 neighbours cannot find TAS",
            device.name
        );
    }
}

/// Flow slots of the instance: what was asked for, rounded up to a power of two.
pub(super) fn flow_slots(options: &Options) -> u32 {
    options.flows.next_power_of_two()
}

/// A MAC address as the messages have it: first byte on the wire highest.
fn mac_bits(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// Tells the slow path the routes.
///
/// # Errors
/// It refuses one.
pub(super) fn add_routes(channel: &dyn ControlChannel, options: &Options) -> Result<()> {
    for route in &options.route {
        let RouteOption { destination: net, next_hop } = *route;
        let body = match (net.address, next_hop) {
            (IpAddr::V4(address), IpAddr::V4(hop)) => {
                Route::ipv4(address.to_bits(), net.prefix, hop.to_bits())
            }
            (address, hop) => Route::ipv6(address_words(address), net.prefix, address_words(hop)),
        };
        let mut message = Message::with(Op::AddRoute, 0, &body);
        let what = || format!("route {net}");
        channel.call(Target::Instance, &mut message, None).with_context(what)?;
    }
    Ok(())
}

/// Registers what wakes each core.
///
/// # Errors
/// The slow path refuses.
pub(super) fn register_wakes(channel: &dyn ControlChannel, wakes: &[CoreWake]) -> Result<()> {
    for (core, wake) in wakes.iter().enumerate() {
        let mut message = Message::new(Op::CoreEventfd, core as u32);
        channel
            .call(Target::Instance, &mut message, Some(wake.fd()))
            .with_context(|| format!("wake-up of core {core}"))?;
    }
    Ok(())
}

/// Set-up is complete: applications may attach.
///
/// # Errors
/// The slow path is gone.
pub(super) fn ready(channel: &dyn ControlChannel) -> Result<()> {
    channel.call(Target::Instance, &mut Message::new(Op::Ready, 0), None).context("READY")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_addresses() {
        let global = address_words("2001:db8::1234:5678".parse().unwrap());
        assert_eq!(global, [0x2001_0db8, 0, 0, 0x1234_5678]);
        let [all, own, link] = groups(global, [0xfe80_0000, 0, 0x5054_00ff, 0xfe12_34ab]);
        assert_eq!(all, [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(own, [0x33, 0x33, 0xff, 0x34, 0x56, 0x78]);
        assert_eq!(link, [0x33, 0x33, 0xff, 0x12, 0x34, 0xab]);
    }

    #[test]
    fn mac_is_in_wire_order() {
        assert_eq!(mac_bits([0x52, 0x54, 0, 0x12, 0x34, 0x56]), 0x5254_0012_3456);
    }
}
