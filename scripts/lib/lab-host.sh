# SPDX-License-Identifier: MIT OR Apache-2.0
# The lab with the kernel backend on this very host: the layout of lab-daemon.sh with tas.ko in
# place of the daemon. Sourced by scripts/lab.

# TAS_MODULE: a tas.ko that was built already, for this host's kernel. Nothing is built then.
host_obstacle_to_build() {
    local release=$1
    if ! grep -qs '^CONFIG_RUST=y' "/boot/config-$release" && ! zgrep -qs '^CONFIG_RUST=y' /proc/config.gz; then
        echo "the running kernel $release has no CONFIG_RUST=y"
    elif [ ! -d "/lib/modules/$release/build" ]; then
        echo "the headers of the running kernel are not installed (sudo apt-get install linux-headers-$release)"
    fi
}

# host_obstacle: prints why this host cannot load tas.ko, or nothing.
host_obstacle() {
    local release capabilities
    release=$(uname -r)
    capabilities=$(sed -n 's/^CapEff:\s*//p' /proc/self/status)
    if (((0x$capabilities >> 16 & 1) == 0)); then
        echo "this process may not load modules (no CAP_SYS_MODULE: a container?)"
    elif [ "$(cat /proc/sys/kernel/modules_disabled 2>/dev/null || echo 1)" != 0 ]; then
        echo "the kernel does not load modules (kernel.modules_disabled)"
    elif [ -z "${TAS_MODULE:-}" ]; then
        host_obstacle_to_build "$release"
    fi
}

host_module() {
    if [ -n "${TAS_MODULE:-}" ]; then
        echo "$TAS_MODULE"
        return
    fi
    "$tas_tree/scripts/kernel-metadata" >&2
    step "building tas.ko for $(uname -r)" make -C "/lib/modules/$(uname -r)/build" "M=$tas_tree" "-j$(nproc)"
    echo "$tas_tree/tas.ko"
}

host_up() {
    local obstacle module
    obstacle=$(host_obstacle)
    [ -z "$obstacle" ] || fail "this host cannot load tas.ko" "$obstacle" "sudo scripts/lab up --backend kernel"
    [ -n "${TAS_MODULE:-}" ] || packages_install build
    packages_install e2e
    need_user_space
    module=$(host_module | tail -n 1)
    getent group tas >/dev/null || groupadd -r tas
    if ! grep -q '^tas ' /proc/modules; then
        insmod "$module"
        : >"$lab_state/module.loaded"
    fi
    # A small system has the tap driver, but nobody who loads it at the first use.
    [ -c /dev/net/tun ] || modprobe tun
    make_namespaces
    port_prepare
    start_service fastpath "tas-fastpath: ready" \
        ip netns exec "$(near_ns)" "$tas_bin/tas-fastpath" --ip "$tas_address/24" --ip6 "$tas_address6/64" --cores 1 \
        --backend kernel --instance "$lab_instance" "$@" \
        -- --no-huge -m 256 --file-prefix tas-lab "$(port_device)"
    wire_up
    configure_peer
}

host_tasctl() {
    env TAS_BACKEND=kernel TAS_INSTANCE="$lab_instance" "$tas_bin/tasctl" "$@"
}

host_run_tas() {
    exec ip netns exec "$apps_ns" env TAS_BACKEND=kernel TAS_INSTANCE="$lab_instance" \
        "$tas_bin/tasctl" run --require -- "$@"
}

host_down() {
    stop_service fastpath
    [ -e "$lab_state/module.loaded" ] || return 0
    rmmod tas || say "tas.ko stays loaded: something still uses it"
    rm -f "$lab_state/module.loaded"
}
