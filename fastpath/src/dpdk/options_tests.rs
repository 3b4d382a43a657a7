// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::option_values::*;
use super::*;

fn parse(words: &[&str]) -> Result<Options, String> {
    let all = ["tas-fastpath"].iter().chain(words);
    let options = Options::try_parse_from(all).map_err(|error| error.to_string())?;
    options.check()?;
    Ok(options)
}

fn refused(words: &[&str], because: &str) {
    let error = parse(words).expect_err(&format!("{words:?} was accepted"));
    assert!(error.contains(because), "{words:?}: {error}");
}

#[test]
fn the_command_line_is_sound() {
    <Options as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn defaults() {
    let options = parse(&["--ip", "10.0.0.1/24"]).unwrap();
    assert_eq!((options.cores, options.flows), (1, 131_072));
    assert_eq!(options.backend, Backend::Kernel);
    assert_eq!(options.instance, "tas0");
    assert_eq!(options.device, PathBuf::from("/dev/tas"));
    assert_eq!(options.cc.cc_dctcp_weight, Fraction(4096));
    assert_eq!((options.ip.ipv4_bits(), options.ip6), (0x0a00_0001, None));
    assert!(options.eal.is_empty());
}

#[test]
fn every_option_shows_its_default() {
    let help = <Options as clap::CommandFactory>::command().render_long_help().to_string();
    for option in <Options as clap::CommandFactory>::command().get_arguments() {
        let name = option.get_long().unwrap_or("EAL ARGUMENTS");
        assert!(help.contains(name), "--{name} is missing in --help");
        let optional = option.get_action().takes_values() && !option.is_required_set();
        let repeatable = matches!(option.get_action(), clap::ArgAction::Append);
        if optional && !repeatable && !["port", "ready-fd"].contains(&name) {
            let text = option.get_help().map(ToString::to_string).unwrap_or_default();
            let shown = !option.get_default_values().is_empty() || text.contains("[default:");
            assert!(shown, "--{name} does not show its default");
        }
    }
}

#[test]
fn eal_arguments_pass_through() {
    let options = parse(&[
        "--ip",
        "10.0.0.1/24",
        "--dpdk-extra",
        "--no-telemetry",
        "--",
        "--vdev=net_null0",
        "-l",
        "1",
    ])
    .unwrap();
    assert_eq!(options.eal, ["--vdev=net_null0", "-l", "1"]);
    assert_eq!(options.dpdk_extra, ["--no-telemetry"]);
}

#[test]
fn names_of_the_original_still_work() {
    let options = parse(&[
        "--ip-addr=10.0.0.1/24",
        "--ip-route=10.1.0.0/16,10.0.0.2",
        "--fp-cores-max=2",
        "--fp-no-ints",
        "--fp-no-xsumoffload",
        "--fp-no-hugepages",
        "--fp-poll-interval-tas=5",
        "--cc=dctcp-rate",
    ])
    .unwrap();
    assert_eq!((options.cores, options.core.poll_interval), (2, 5));
    assert!(options.core.no_ints && options.core.no_xsumoffload && options.core.no_hugepages);
    assert_eq!(options.route[0].destination.prefix, 16);
}

#[test]
fn a_vlan_has_an_id_that_frames_may_carry() {
    assert_eq!(parse(&["--ip=10.0.0.1/24"]).unwrap().vlan, None);
    for id in [1, 7, 4094] {
        assert_eq!(parse(&["--ip=10.0.0.1/24", &format!("--vlan={id}")]).unwrap().vlan, Some(id));
    }
    for id in ["0", "4095", "-1", "x"] {
        assert!(parse(&["--ip=10.0.0.1/24", &format!("--vlan={id}")]).is_err(), "{id}");
    }
}

#[test]
fn both_families() {
    let options = parse(&[
        "--ip=10.0.0.1/24",
        "--ip6=2001:db8:0:1::7/64",
        "--route=default,10.0.0.254",
        "--route=default,fe80::1",
        "--route=2001:db8:2::/48,2001:db8:0:1::1",
        "--route=2001:db8:3::9,2001:db8:0:1::1",
    ])
    .unwrap();
    let net = options.ip6.unwrap();
    assert_eq!((net.to_string().as_str(), net.ipv4_bits()), ("2001:db8:0:1::7/64", 0));
    let shown: Vec<String> =
        options.route.iter().map(|route| format!("{} {}", route.destination, route.next_hop)).collect();
    assert_eq!(
        shown,
        [
            "0.0.0.0/0 10.0.0.254",
            "::/0 fe80::1",
            "2001:db8:2::/48 2001:db8:0:1::1",
            "2001:db8:3::9/128 2001:db8:0:1::1"
        ]
    );
}

#[test]
fn wrong_values_are_refused() {
    refused(&[], "--ip");
    refused(&["--ip", "10.0.0.1"], "10.0.0.1/24");
    refused(&["--ip", "10.0.0.1/33"], "0 to 32");
    refused(&["--ip", "10.0.0/24"], "not an IPv4");
    refused(&["--ip", "2001:db8::1/64"], "say --ip6 2001:db8::1/64");
    refused(&["--ip", "10.0.0.0/24"], "network's own");
    refused(&["--ip", "10.0.0.255/24"], "broadcast");
    refused(&["--ip", "224.0.0.1/24"], "cannot be");
    refused(&["--ip", "127.0.0.1/8"], "cannot be");
    refused(&["--ip", "250.0.0.1/24"], "cannot be");
    let with = |words: &[&'static str], because: &str| {
        let mut all = vec!["--ip", "10.0.0.1/24"];
        all.extend_from_slice(words);
        refused(&all, because);
    };
    with(&["--cores", "0"], "1..=16");
    with(&["--cores", "17"], "1..=16");
    with(&["--cores", "two"], "invalid digit");
    with(&["--backend", "cloud"], "possible values");
    with(&["--cc", "vegas"], "possible values");
    with(&["--flows", "5000000"], "4194304");
    with(&["--tcp-rxbuf-len", "1048576"], "258048");
    with(&["--cc-dctcp-weight", "0"], "above 0");
    with(&["--cc-dctcp-weight", "1.5"], "at most 1");
    with(&["--cc-dctcp-weight", "1/0"], "at most 1");
    with(&["--cc-dctcp-init", "0"], "rate");
    with(&["--instance", "a/b"], "letters");
    with(&["--instance", "sixteen-letters-"], "letters");
    with(&["--route", "10.1.0.0/16"], "next hop missing");
    with(&["--route", "10.1.0.1/16,10.0.0.2"], "host bits");
    with(&["--route", "default,10.9.0.2"], "not on the link");
    with(&["--route", "default,10.0.0.1"], "TAS itself");
    with(&["--route", "2001:db8::/32,10.0.0.2"], "different families");
    with(&["--route", "default,2001:db8::2"], "without --ip6");
    with(&["--ip6", "2001:db8::1"], "say 2001:db8::1/64");
    with(&["--ip6", "2001:db8::1/129"], "0 to 128");
    with(&["--ip6", "10.0.0.2/24"], "say --ip 10.0.0.2/24");
    with(&["--ip6", "fe80::1/64"], "address of the link");
    for address in ["::/64", "::1/64", "ff02::1/64", "::ffff:10.0.0.1/64"] {
        refused(&["--ip", "10.0.0.1/24", "--ip6", address], "cannot be");
    }
    with(&["--ip6", "2001:db8::/64"], "anycast");
    with(&["--ip6", "2001:db8::1/64", "--mtu", "1279"], "1280");
    with(&["--ip6", "2001:db8::1/64", "--route", "default,2001:db8:1::2"], "not on the link");
    with(&["--ip6", "2001:db8::1/64", "--route", "default,2001:db8::1"], "TAS itself");
    with(&["--ip6", "2001:db8::1/64", "--route", "2001:db8::1:1/64,2001:db8::2"], "host bits");
    with(&["--cpus", "3-1"], "list like");
    with(&["--cpus", "1,1"], "twice");
    with(&["--cpus", "1,2"], "2 processors for --cores 1");
    with(&["--cpus", "1", "--no-pin"], "exclude");
    with(&["--socket", "/tmp/x"], "--backend daemon");
    with(&["--ready-fd", "-1"], "-1");
    with(&["--mtu", "9001"], "9000");
    with(&["--no-such-option"], "unexpected argument");
}

#[test]
fn lists_of_processors() {
    assert_eq!("2,4-6".parse(), Ok(CpuList(vec![2, 4, 5, 6])));
    assert_eq!("0".parse(), Ok(CpuList(vec![0])));
    assert!("".parse::<CpuList>().is_err());
    assert!("1024".parse::<CpuList>().is_err());
}
