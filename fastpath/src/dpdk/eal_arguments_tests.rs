// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use std::net::IpAddr;

struct Fake {
    hugepage_mib: u64,
    binding: Option<PciBinding>,
    only_way_in: bool,
}

impl Host for Fake {
    fn free_hugepage_mib(&self) -> u64 {
        self.hugepage_mib
    }
    fn pci_binding(&self, address: &str) -> Option<PciBinding> {
        assert_eq!(address, "0000:00:03.0");
        self.binding.clone()
    }
    fn userspace_pci(&self) -> Vec<PciBinding> {
        self.binding.clone().into_iter().collect()
    }
    fn interface_exists(&self, name: &str) -> bool {
        name == "eth0"
    }
    fn only_way_in(&self, _: &str) -> bool {
        self.only_way_in
    }
    fn address_owner(&self, _: IpAddr) -> Option<String> {
        None
    }
}

const PLAIN: Fake = Fake { hugepage_mib: 0, binding: None, only_way_in: false };

fn run(words: &[&str], host: &Fake) -> Result<EalArguments, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    complete(&words, false, 1500, host)
}

fn accepted(words: &[&str], host: &Fake) -> Vec<String> {
    run(words, host).unwrap().words
}

fn with_binding(binding: PciBinding) -> Fake {
    Fake { hugepage_mib: 512, binding: Some(binding), only_way_in: false }
}

#[test]
fn tap_without_huge_pages() {
    let done = run(&["--vdev=net_tap0"], &PLAIN).unwrap();
    for word in ["--vdev=net_tap0", "--iova-mode=va", "--no-huge", "-m", "256", "--no-pci"] {
        assert!(done.words.iter().any(|have| have == word), "{word} missing: {:?}", done.words);
    }
    assert!(done.notes[0].contains("nr_hugepages"));
}

#[test]
fn huge_pages_are_used_when_free() {
    let rich = Fake { hugepage_mib: 512, ..PLAIN };
    let words = accepted(&["--vdev", "net_tap0"], &rich);
    assert!(words.contains(&"--in-memory".into()) && !words.contains(&"--no-huge".into()));
    assert!(!words.contains(&"--single-file-segments".into()));
    let words = accepted(&["--vdev=net_vhost0,iface=/tmp/x"], &rich);
    assert!(words.contains(&"--single-file-segments".into()));
    let words = complete(&["--vdev=net_tap0".into()], true, 1500, &rich).unwrap().words;
    assert!(words.contains(&"--no-huge".into()) && !words.contains(&"--in-memory".into()));
}

#[test]
fn the_operator_decides() {
    let words = accepted(&["--vdev=net_tap0", "--no-huge", "-m", "64", "--iova-mode=pa"], &PLAIN);
    assert!(!words.contains(&"--iova-mode=va".into()));
    assert_eq!(words.iter().filter(|word| *word == "-m").count(), 1);
    assert_eq!(words.iter().filter(|word| *word == "--no-huge").count(), 1);
    let words = accepted(&["--vdev=net_tap0", "--in-memory"], &PLAIN);
    assert!(!words.contains(&"--no-huge".into()));
}

#[test]
fn the_only_way_in_is_refused() {
    let kernel = |only_way_in| {
        with_binding(PciBinding::Kernel {
            driver: "virtio-pci".into(),
            interface: Some("eth0".into()),
            only_way_in,
        })
    };
    let error = run(&["-a", "00:03.0"], &kernel(true)).unwrap_err();
    assert!(error.contains("refused") && error.contains("eth0"), "{error}");
    let error = run(&["-a", "0000:00:03.0,opt=1"], &kernel(false)).unwrap_err();
    assert!(error.contains("dpdk-devbind.py --bind=vfio-pci 0000:00:03.0"), "{error}");
    let way_in = Fake { only_way_in: true, ..PLAIN };
    assert!(run(&["--vdev=net_tap0,remote=eth0"], &way_in).unwrap_err().contains("refused"));
    assert!(run(&["--vdev=net_af_packet0,iface=eth0"], &way_in).is_ok());
    assert!(run(&["--vdev=net_af_packet0,iface=eth9"], &PLAIN).unwrap_err().contains("no interface eth9"));
    assert!(run(&["--vdev=net_af_packet0"], &PLAIN).unwrap_err().contains("iface="));
}

#[test]
fn uio_wants_physical_addresses_and_huge_pages() {
    let done = run(&["-a0000:00:03.0"], &with_binding(PciBinding::Uio)).unwrap();
    assert!(done.words.contains(&"--iova-mode=pa".into()));
    assert!(done.notes.iter().any(|note| note.contains("as trusted as the kernel")));
    let poor = Fake { hugepage_mib: 0, ..with_binding(PciBinding::Vfio { no_iommu: true }) };
    assert!(run(&[], &poor).unwrap_err().contains("nr_hugepages"));
    let vfio = with_binding(PciBinding::Vfio { no_iommu: false });
    assert!(accepted(&["--allow=0000:00:03.0"], &vfio).contains(&"--iova-mode=va".into()));
}

#[test]
fn no_port_at_all() {
    assert!(run(&[], &PLAIN).unwrap_err().contains("--vdev=net_tap0"));
    assert!(run(&["-a", "00:03.0"], &PLAIN).unwrap_err().contains("lspci"));
    let unbound = with_binding(PciBinding::None);
    assert!(run(&["-a", "00:03.0"], &unbound).unwrap_err().contains("no driver"));
}

#[test]
fn lcores_are_noticed() {
    let named =
        |words: &[&str]| names_lcores(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert!(named(&["-l", "1,2"]) && named(&["-c3"]) && named(&["--lcores=1"]));
    assert!(!named(&["--log-level=3", "--vdev=net_tap0", "-m", "64"]));
}

#[test]
fn jumbo_frames_need_more_memory_and_larger_rings() {
    let jumbo = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        complete(&words, false, 9000, &PLAIN)
    };
    let done = jumbo(&["--vdev=net_af_packet0,iface=eth0"]).unwrap().words;
    assert_eq!(done[0], "--vdev=net_af_packet0,iface=eth0,blocksz=36864,framesz=9216,framecnt=512");
    assert!(done.contains(&"768".to_owned()), "{done:?}");
    let done = jumbo(&["--vdev", "net_af_packet0,iface=eth0"]).unwrap().words;
    assert!(done[1].ends_with("framecnt=512"), "{done:?}");
    let own = "--vdev=net_af_packet0,iface=eth0,blocksz=65536,framesz=8192";
    assert_eq!(jumbo(&[own]).unwrap().words[0], own);
    assert_eq!(
        accepted(&["--vdev=net_af_packet0,iface=eth0"], &PLAIN)[0],
        "--vdev=net_af_packet0,iface=eth0"
    );
    // The driver would write beyond a packet buffer.
    for (framesz, mtu) in [("4096", 1500), ("16384", 1500), ("16384", 9000), ("x", 9000)] {
        let word = format!("--vdev=net_af_packet0,iface=eth0,blocksz=65536,framesz={framesz}");
        let error = complete(&[word], false, mtu, &PLAIN).unwrap_err();
        assert!(error.contains("framesz"), "{error}");
    }
}
