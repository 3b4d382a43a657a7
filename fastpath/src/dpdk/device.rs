// SPDX-License-Identifier: MIT OR Apache-2.0
//! The DPDK port: found, configured, started, closed.

use std::ffi::CStr;
use std::mem::zeroed;

use abi::region::KernelRingLayout;
use anyhow::{bail, ensure, Context, Result};
use dpdk_sys::*;

use super::eal::{check, error_text};
use super::mtu::Mtu;

/// Descriptors of a receive queue: at 10 Gbit/s of small frames a core may be away for 30 us.
const RX_DESCRIPTORS: u16 = 512;
/// Descriptors of a transmit queue.
const TX_DESCRIPTORS: u16 = 512;
/// Packet buffers a core may hold outside the port's queues: batches, and its mempool cache.
const BUFFERS_PER_CORE: u32 = 2048;
/// Objects in each thread's mempool cache.
const CACHE_OBJECTS: u32 = 256;
/// Any NUMA node (SOCKET_ID_ANY).
const ANY_SOCKET: i32 = -1;

/// How the port is to be set up.
#[derive(Debug, Clone)]
pub struct DeviceRequest {
    /// Name of the port; `None` takes the only one.
    pub name: Option<String>,
    /// Queue pairs, one per core.
    pub queues: u16,
    /// MTU asked for; `None` takes the port's, at most standard Ethernet's: jumbo frames cost memory.
    pub mtu_bytes: Option<u16>,
    /// Let the port compute transmit checksums.
    pub tx_checksums: bool,
    /// Let the port verify receive checksums.
    pub rx_checksums: bool,
    /// The VLAN to serve; `None`: what comes without a tag.
    pub vlan: Option<u16>,
    /// Ask for receive interrupts.
    pub interrupts: bool,
}

/// A started port. Dropped, it is stopped and closed.
pub struct Device {
    /// DPDK's number of the port.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// Its driver, as `net_virtio`.
    pub(super) driver: String,
    /// MAC address.
    pub(super) mac: [u8; 6],
    /// MTU in use, bytes.
    pub mtu_bytes: u16,
    /// Queue pairs in use.
    pub queues: u16,
    /// The port computes TCP checksums of packets to send.
    pub(super) tx_tcp_checksum: bool,
    /// The port computes IPv4 header checksums of packets to send.
    pub(super) tx_ip_checksum: bool,
    /// The port verifies TCP checksums of received packets, where it can.
    pub rx_checksums: bool,
    /// The port spreads flows over its queues itself.
    pub(super) rss: bool,
    /// Every receive queue has an interrupt.
    pub interrupts: bool,
    /// The VLAN served.
    pub(super) vlan: Option<u16>,
    /// The port puts VLAN tags on frames that ask for it.
    pub(super) inserts_tags: bool,
    /// The pool all queues take their buffers from.
    pub pool: *mut rte_mempool,
}

impl Device {
    /// Finds, configures and starts the port.
    ///
    /// # Errors
    /// No such port, too few queues, or what the driver reports.
    pub fn start(request: &DeviceRequest) -> Result<Self> {
        let port = find(request.name.as_deref())?;
        let name = port_name(port)?;
        Self::configure(port, &name, request).with_context(|| format!("port {name}"))
    }

    fn configure(port: u16, name: &str, request: &DeviceRequest) -> Result<Self> {
        let info = device_info(port)?;
        let queues = request.queues;
        let offered = info.max_rx_queues.min(info.max_tx_queues);
        ensure!(
            queues <= offered,
            "{queues} cores need as many queue pairs, and it has {offered}. Type --cores {offered}, or give it more \
             (queues={queues} for net_vhost and net_virtio_user, qpairs={queues} for net_af_packet)"
        );
        // SAFETY: the driver's name is a static string.
        let driver = unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned();

        let mut conf = wanted_configuration(&info, request);
        let mtu = Mtu::choose(port, &info, &driver, request)?;
        let mtu_bytes = mtu.wanted;
        mtu.configure(&mut conf);
        let interrupts = try_configure(port, queues, &mut conf)?;
        mtu.set(port)?;
        let (pool, rx_descriptors, tx_descriptors) = create_pool(port, queues, mtu_bytes)?;
        // From here on a failure must close the port: build Self first.
        let mut device = Self {
            port,
            name: name.to_owned(),
            driver,
            mac: mac_address(port)?,
            mtu_bytes,
            queues,
            tx_tcp_checksum: conf.txmode.offloads & TAS_TX_OFFLOAD_TCP_CKSUM != 0,
            tx_ip_checksum: conf.txmode.offloads & TAS_TX_OFFLOAD_IPV4_CKSUM != 0,
            rx_checksums: conf.rxmode.offloads & TAS_RX_OFFLOAD_TCP_CKSUM != 0,
            rss: queues > 1 && conf.rxmode.mq_mode == RTE_ETH_MQ_RX_RSS,
            interrupts,
            vlan: request.vlan,
            inserts_tags: conf.txmode.offloads & TAS_TX_OFFLOAD_VLAN_INSERT != 0,
            pool,
        };
        for queue in 0..queues {
            device.setup_queue(queue, rx_descriptors, tx_descriptors, &info, &conf)?;
        }
        // SAFETY: the port is configured.
        check(unsafe { rte_eth_dev_start(port) }, "rte_eth_dev_start")?;
        // Some drivers take the wish for interrupts and have none.
        device.interrupts = (0..queues).all(|queue| device.interrupt_fd(queue).is_some());
        Ok(device)
    }

    fn setup_queue(
        &self,
        queue: u16,
        rx: u16,
        tx: u16,
        info: &rte_eth_dev_info,
        conf: &rte_eth_conf,
    ) -> Result<()> {
        // SAFETY: plain data of C; the driver's defaults with our offloads.
        unsafe {
            let socket = rte_eth_dev_socket_id(self.port) as u32;
            let mut rx_conf = info.default_rxconf;
            rx_conf.offloads = conf.rxmode.offloads;
            check(
                rte_eth_rx_queue_setup(self.port, queue, rx, socket, &rx_conf, self.pool),
                "rte_eth_rx_queue_setup",
            )?;
            let mut tx_conf = info.default_txconf;
            tx_conf.offloads = conf.txmode.offloads;
            check(rte_eth_tx_queue_setup(self.port, queue, tx, socket, &tx_conf), "rte_eth_tx_queue_setup")?;
        }
        Ok(())
    }

    /// The descriptor that becomes readable when packets wait in `queue`, where the port has one.
    pub(super) fn interrupt_fd(&self, queue: u16) -> Option<i32> {
        if !self.interrupts {
            return None;
        }
        // SAFETY: the port is started. DPDK logs an error where there is none, which is none to us.
        let fd = unsafe {
            let level = rte_log_get_global_level();
            rte_log_set_global_level(RTE_LOG_CRIT);
            let fd = rte_eth_dev_rx_intr_ctl_q_get_fd(self.port, queue);
            rte_log_set_global_level(level);
            fd
        };
        (fd >= 0).then_some(fd)
    }

    /// Lets the port receive these multicast groups, or all of them, or every frame, whichever it can first. False: it
    /// can do none of that, and receives them if it filters nothing.
    pub(super) fn receive_groups(&self, groups: &[[u8; 6]]) -> bool {
        let mut list: Vec<rte_ether_addr> =
            groups.iter().map(|group| rte_ether_addr { addr_bytes: *group }).collect();
        // SAFETY: the port is started; DPDK copies the list.
        unsafe {
            rte_eth_dev_set_mc_addr_list(self.port, list.as_mut_ptr(), list.len() as u32) == 0
                || rte_eth_allmulticast_enable(self.port) == 0
                || rte_eth_promiscuous_enable(self.port) == 0
        }
    }

    /// Frames the NIC dropped because no descriptor was free.
    pub(super) fn missed(&self) -> u64 {
        // SAFETY: the port is started; `stats` is plain data.
        unsafe {
            let mut stats: rte_eth_stats = zeroed();
            rte_eth_stats_get(self.port, &mut stats);
            stats.imissed.wrapping_add(stats.rx_nombuf)
        }
    }

    /// One line for the operator.
    pub(super) fn describe(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        let word = |on: bool, yes: &'static str, no: &'static str| if on { yes } else { no };
        format!(
            "port {} ({}) {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} mtu {} queues {}{}{}, checksums: transmit {}, \
             receive {}, idle cores {}",
            self.name,
            self.driver,
            self.mtu_bytes,
            self.queues,
            word(self.rss, " (RSS)", ""),
            self.vlan.map(|id| format!(" VLAN {id}")).unwrap_or_default(),
            word(self.tx_tcp_checksum, "by the port", "in software"),
            word(self.rx_checksums, "by the port", "in software"),
            word(self.interrupts, "sleep on the port's interrupt", "sleep for short times"),
        )
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the cores have left their queues: they borrow the device.
        unsafe {
            rte_eth_dev_stop(self.port);
            rte_eth_dev_close(self.port);
            rte_mempool_free(self.pool);
        }
    }
}

// SAFETY: DPDK's control functions are called from the control thread only; a core uses its own
// queue and the pool, which is safe for many threads.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

const TX_CHECKSUMS: u64 = TAS_TX_OFFLOAD_IPV4_CKSUM | TAS_TX_OFFLOAD_TCP_CKSUM;
const RX_CHECKSUMS: u64 = TAS_RX_OFFLOAD_IPV4_CKSUM | TAS_RX_OFFLOAD_TCP_CKSUM;

fn find(name: Option<&str>) -> Result<u16> {
    let ports = all_ports();
    let names = || ports.iter().map(|port| port_name(*port)).collect::<Result<Vec<_>>>();
    match (name, ports.as_slice()) {
        (_, []) => bail!(
            "DPDK found no port. Type: dpdk-devbind.py --status, and give a device (-- -a DEVICE) or a virtual one \
             (-- --vdev=net_tap0,iface=tas0)"
        ),
        (None, [only]) => Ok(*only),
        (None, _) => bail!("DPDK found several ports; type --port NAME with one of: {}", names()?.join(" ")),
        (Some(wanted), _) => {
            let index = names()?.iter().position(|name| name == wanted);
            let port = index.and_then(|index| ports.get(index));
            port.copied().with_context(|| format!("no port {wanted}; DPDK found: {}", names().unwrap_or_default().join(" ")))
        }
    }
}

fn all_ports() -> Vec<u16> {
    let mut ports = Vec::new();
    let mut next = 0;
    loop {
        // SAFETY: EAL is running; any number may be asked for.
        let found = unsafe { rte_eth_find_next_owned_by(next, 0) };
        match u16::try_from(found) {
            Ok(port) if u32::from(port) < RTE_MAX_ETHPORTS => {
                ports.push(port);
                next = port + 1;
            }
            _ => return ports,
        }
    }
}

fn port_name(port: u16) -> Result<String> {
    let mut name = [0 as std::ffi::c_char; NAME_BYTES];
    // SAFETY: DPDK writes at most RTE_ETH_NAME_MAX_LEN bytes, zero included.
    check(unsafe { rte_eth_dev_get_name_by_port(port, name.as_mut_ptr()) }, "port name")?;
    // SAFETY: zero-terminated within the array.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// RTE_ETH_NAME_MAX_LEN (64), with room.
const NAME_BYTES: usize = 128;

fn device_info(port: u16) -> Result<rte_eth_dev_info> {
    // SAFETY: plain data, filled in by DPDK.
    unsafe {
        let mut info: rte_eth_dev_info = zeroed();
        check(rte_eth_dev_info_get(port, &mut info), "rte_eth_dev_info_get")?;
        Ok(info)
    }
}

fn wanted_configuration(info: &rte_eth_dev_info, request: &DeviceRequest) -> rte_eth_conf {
    // SAFETY: an all-zero configuration is DPDK's documented start.
    let mut conf: rte_eth_conf = unsafe { zeroed() };
    // The IPv4 header's sum alone is not worth an offload: software has it in a few instructions.
    if request.tx_checksums && info.tx_offload_capa & TAS_TX_OFFLOAD_TCP_CKSUM != 0 {
        conf.txmode.offloads |= info.tx_offload_capa & TX_CHECKSUMS;
    }
    if request.rx_checksums && info.rx_offload_capa & TAS_RX_OFFLOAD_TCP_CKSUM != 0 {
        conf.rxmode.offloads |= info.rx_offload_capa & RX_CHECKSUMS;
    }
    if request.vlan.is_some() {
        conf.rxmode.offloads |= info.rx_offload_capa & TAS_RX_OFFLOAD_VLAN_STRIP;
        conf.txmode.offloads |= info.tx_offload_capa & TAS_TX_OFFLOAD_VLAN_INSERT;
    }
    // One pool serves all queues and packets leave with one reference.
    conf.txmode.offloads |= info.tx_offload_capa & TAS_TX_OFFLOAD_MBUF_FAST_FREE;
    let families = TAS_RSS_IPV4 | TAS_RSS_TCP_IPV4 | TAS_RSS_IPV6 | TAS_RSS_TCP_IPV6;
    let hash = info.flow_type_rss_offloads & families;
    // A port that spreads packets without a redirection table (net_tap) promises nothing: the cores steer.
    if request.queues > 1 && hash != 0 && info.reta_size > 0 {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = hash;
    }
    if request.interrupts {
        conf.intr_conf.set_rxq(1);
    }
    conf
}

/// Configures the port, without what it turns out not to have. True: with receive interrupts.
fn try_configure(port: u16, queues: u16, conf: &mut rte_eth_conf) -> Result<bool> {
    let with_interrupts = conf.intr_conf.rxq() == 1;
    // SAFETY: `conf` is complete.
    let first = unsafe { rte_eth_dev_configure(port, queues, queues, conf) };
    if first >= 0 {
        return Ok(with_interrupts);
    }
    if with_interrupts {
        conf.intr_conf.set_rxq(0);
        // SAFETY: as above.
        if unsafe { rte_eth_dev_configure(port, queues, queues, conf) } >= 0 {
            return Ok(false);
        }
    }
    // Some virtual ports offer RSS functions and then refuse the mode.
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
    conf.rx_adv_conf.rss_conf.rss_hf = 0;
    conf.intr_conf.set_rxq(u32::from(with_interrupts) as _);
    // SAFETY: as above.
    let code = unsafe { rte_eth_dev_configure(port, queues, queues, conf) };
    check(code, &format!("rte_eth_dev_configure (first try: {})", error_text(first.saturating_neg())))?;
    Ok(with_interrupts)
}

/// Data room of a packet buffer: a frame of this MTU in one piece, and a slot of the kernel ring, with headroom.
fn data_room_bytes(mtu_bytes: u16) -> u16 {
    KernelRingLayout::of(u32::from(mtu_bytes)).slot_bytes() as u16 + RTE_PKTMBUF_HEADROOM as u16
}

fn create_pool(port: u16, queues: u16, mtu_bytes: u16) -> Result<(*mut rte_mempool, u16, u16)> {
    let (mut rx, mut tx) = (RX_DESCRIPTORS, TX_DESCRIPTORS);
    // SAFETY: out-parameters; the port is configured.
    check(unsafe { rte_eth_dev_adjust_nb_rx_tx_desc(port, &mut rx, &mut tx) }, "descriptor counts")?;
    let per_queue = u32::from(rx) + u32::from(tx) + BUFFERS_PER_CORE;
    // SAFETY: the port exists.
    let socket = unsafe { rte_eth_dev_socket_id(port) };
    let name = c"tas-packets".as_ptr();
    let count = per_queue * u32::from(queues);
    let room = data_room_bytes(mtu_bytes);
    // SAFETY: a name, sizes and a node; the result is checked.
    let mut pool = unsafe { rte_pktmbuf_pool_create(name, count, CACHE_OBJECTS, 0, room, socket) };
    if pool.is_null() {
        // SAFETY: as above, on any node.
        pool = unsafe { rte_pktmbuf_pool_create(name, count, CACHE_OBJECTS, 0, room, ANY_SOCKET) };
    }
    if pool.is_null() {
        // SAFETY: reads the calling thread's rte_errno.
        let reason = error_text(unsafe { tas_errno() });
        let mib = (u64::from(count) * u64::from(room)) >> 20;
        bail!("no memory for {count} packet buffers ({mib} MiB): {reason}. Give EAL more: -- -m MIB, or free huge pages");
    }
    Ok((pool, rx, tx))
}

fn mac_address(port: u16) -> Result<[u8; 6]> {
    // SAFETY: plain out-parameter.
    unsafe {
        let mut mac: rte_ether_addr = zeroed();
        check(rte_eth_macaddr_get(port, &mut mac), "rte_eth_macaddr_get")?;
        Ok(mac.addr_bytes)
    }
}
