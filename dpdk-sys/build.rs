// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the system's DPDK, generates bindings from an allow-list, compiles the
//! C shim and says what to link.
//!
//! `DPDK_LINK=dynamic` links the shared libraries instead of the archives; the
//! drivers then come from the distribution's plug-in directory.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The oldest release whose ethdev and mbuf interfaces are the ones used here.
const OLDEST_DPDK: &str = "22.11";

/// Libraries that must exist. Order does not matter: whole archives.
const LIBRARIES: &[&str] = &[
    "cmdline",
    "cryptodev",
    "dmadev",
    "eal",
    "ethdev",
    "gso",
    "hash",
    "ip_frag",
    "kvargs",
    "mbuf",
    "mempool",
    "meter",
    "net",
    "pci",
    "rcu",
    "ring",
    "security",
    "telemetry",
    "timer",
    "vhost",
];

/// Libraries only some releases have.
const OPTIONAL_LIBRARIES: &[&str] = &["argparse", "log", "lpm", "rib"];

/// Drivers that need nothing outside the distribution's DPDK. A driver that a
/// release does not have is left out.
const DRIVERS: &[&str] = &[
    "bus_auxiliary",
    "bus_pci",
    "bus_vdev",
    "bus_vmbus",
    "common_iavf",
    "mempool_ring",
    "net_af_packet",
    "net_e1000",
    "net_ena",
    "net_i40e",
    "net_iavf",
    "net_ice",
    "net_igc",
    "net_ixgbe",
    "net_netvsc",
    "net_null",
    "net_ring",
    "net_tap",
    "net_vhost",
    "net_virtio",
    "net_vmxnet3",
];

/// Libraries outside DPDK that the archives above may want; linked when this
/// release's pkg-config file names them (`--as-needed` drops the rest).
const OUTSIDE: &[&str] = &[
    "archive", "atomic", "bpf", "bsd", "crypto", "dl", "elf", "fdt", "jansson", "m", "md", "numa", "pthread",
    "rt", "z",
];

/// What Rust calls or names. Everything else stays out of the bindings.
const FUNCTIONS: &[&str] = &[
    "tas_.*",
    "rte_eal_(init|cleanup|process_type|iova_mode)",
    "rte_eth_dev_(info_get|configure|start|stop|close|socket_id|is_valid_port|set_mtu|get_mtu)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|rx_intr_enable|rx_intr_disable|rx_intr_ctl_q_get_fd|rss_reta_update)",
    "rte_eth_dev_(get_name_by_port|get_port_by_name|count_avail)",
    "rte_eth_(rx_queue_setup|tx_queue_setup|macaddr_get|link_get_nowait|stats_get)",
    "rte_eth_(promiscuous_enable|allmulticast_enable|dev_set_mc_addr_list)",
    "rte_eth_(find_next_owned_by|from_rings)",
    "rte_pktmbuf_pool_create",
    "rte_mempool_(free|avail_count)",
    "rte_ring_(create|free)",
    "rte_thread_(register|unregister)",
    "rte_log_(get|set)_global_level",
    "rte_get_(next|main)_lcore",
    "rte_lcore_to_cpu_id",
    "rte_strerror",
    "rte_get_tsc_hz",
    "rte_version",
];

fn main() {
    println!("cargo:rerun-if-changed=c/shim.h");
    println!("cargo:rerun-if-changed=c/shim.c");
    println!("cargo:rerun-if-env-changed=DPDK_LINK");
    let dynamic = match env::var("DPDK_LINK").as_deref() {
        Err(_) | Ok("static") => false,
        Ok("dynamic") => true,
        Ok(other) => panic!("DPDK_LINK={other}: say static (the default) or dynamic"),
    };
    let dpdk = find_dpdk();
    let cflags = c_flags();
    compile_shim(&cflags);
    generate_bindings(&cflags);
    if dynamic {
        link_dynamic();
    } else {
        link_static(&dpdk);
    }
}

fn find_dpdk() -> pkg_config::Library {
    pkg_config::Config::new()
        .atleast_version(OLDEST_DPDK)
        .cargo_metadata(false)
        .env_metadata(true)
        .probe("libdpdk")
        .unwrap_or_else(|error| {
            panic!(
                "DPDK {OLDEST_DPDK} or newer was not found by pkg-config: {error}\n\
                 On Debian: sudo apt-get install libdpdk-dev libclang-dev pkg-config"
            )
        })
}

/// The compiler flags of the .pc file, complete: pkg-config the crate drops
/// `-include` and `-march`, which DPDK's headers need.
fn c_flags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let out = std::process::Command::new(&tool)
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|error| panic!("cannot run {tool}: {error}"));
    assert!(out.status.success(), "{tool} --cflags libdpdk failed");
    String::from_utf8_lossy(&out.stdout).split_whitespace().map(str::to_owned).collect()
}

fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build.file("c/shim.c").opt_level(2).warnings(false);
    for flag in cflags {
        build.flag(flag);
    }
    build.compile("tas_dpdk_shim");
}

fn generate_bindings(cflags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(cflags)
        .allowlist_var("TAS_.*|RTE_MAX_ETHPORTS|RTE_MAX_LCORE|RTE_PKTMBUF_HEADROOM|RTE_ETHER_MAX_LEN")
        .allowlist_var("RTE_MBUF_(L2|L3|L4|TSO_SEGSZ)_(LEN_)?(BITS|OFS)|RTE_LOG_.*|RTE_ETH_LINK_UP")
        .allowlist_var("RING_F_S[PC]_(ENQ|DEQ)|rte_eth_fp_ops|RTE_ETH_RETA_GROUP_SIZE")
        .allowlist_type(
            "tas_.*|rte_eth_(conf|dev_info|rxconf|txconf|stats|link|fp_ops|rss_reta_entry64|rx_mq_mode)",
        )
        // Read by offset (see shim.h): their layout differs between releases.
        .opaque_type("rte_mbuf|rte_mempool|rte_mempool_cache|rte_ring|rte_device")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .layout_tests(true)
        .generate_comments(false)
        .rust_target(
            bindgen::RustTarget::stable(85, 0).unwrap_or_else(|_| panic!("bindgen does not know Rust 1.85")),
        )
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    builder
        .generate()
        .unwrap_or_else(|error| {
            panic!("bindgen: {error}\nOn Debian: sudo apt-get install clang libclang-dev")
        })
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR is writable");
}

fn link_static(dpdk: &pkg_config::Library) {
    let libdir = variable("libdir");
    println!("cargo:rustc-link-search=native={libdir}");
    let has = |name: &str| Path::new(&libdir).join(format!("librte_{name}.a")).exists();
    let mut missing = String::new();
    for name in LIBRARIES.iter().filter(|name| !has(name)) {
        let _ = write!(missing, " librte_{name}.a");
    }
    assert!(
        missing.is_empty(),
        "DPDK {}: archives missing in {libdir}:{missing}. Install the static libraries \
         (Debian: libdpdk-dev) or build with DPDK_LINK=dynamic",
        dpdk.version
    );
    let optional = OPTIONAL_LIBRARIES.iter().chain(DRIVERS).filter(|name| has(name));
    for name in LIBRARIES.iter().chain(optional) {
        // Drivers register in constructors, which nothing refers to: whole
        // archives. -bundle: linked at the end, not copied into our rlib.
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=rte_{name}");
    }
    let named = pkg_config::Config::new()
        .statik(true)
        .cargo_metadata(false)
        .probe("libdpdk")
        .map(|library| library.libs)
        .unwrap_or_default();
    for name in OUTSIDE.iter().filter(|name| named.iter().any(|lib| lib == *name)) {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
}

fn link_dynamic() {
    println!("cargo:rustc-link-search=native={}", variable("libdir"));
    // The ring driver's own interface is called directly; the rest are loaded
    // by EAL from the distribution's plug-in directory.
    for name in ["ethdev", "mempool", "mbuf", "ring", "eal", "net_ring", "bus_vdev", "log"] {
        let libdir = variable("libdir");
        if Path::new(&libdir).join(format!("librte_{name}.so")).exists() {
            println!("cargo:rustc-link-lib=dylib=rte_{name}");
        }
    }
}

fn variable(name: &str) -> String {
    pkg_config::get_variable("libdpdk", name)
        .unwrap_or_else(|error| panic!("libdpdk.pc has no {name}: {error}"))
}
