# SPDX-License-Identifier: MIT OR Apache-2.0
# The lab with the kernel backend: applications, tas.ko and the fast path in a guest with Debian's
# stock kernel; the other end of its NIC is the peer's interface. Sourced by scripts/lab.
#
#     guest (no interface but lo)               namespace tas-lab-peer
#     applications under tasctl run             Linux TCP on tas0, 10.77.0.2
#     tas.ko --- tas-fastpath 10.77.0.1              |  tap
#                     `------- virtio-net PCI (vfio-pci) ---'

lab_guest=tas-lab
guest_nic_address=0000:00:08.0
guest_bin=/opt/tas
# The driver that gives the fast path its NIC; uio_pci_generic is the other one tested.
lab_driver=${TAS_LAB_DRIVER:-vfio-pci}
# Non-empty: the KASAN and lockdep kernel.
lab_debug=${TAS_LAB_DEBUG_KERNEL:+--debug-kernel}

guest_tool() {
    local command=$1
    shift
    "$tas_tree/scripts/guest" "$command" --name "$lab_guest" "$@"
}

kernel_up() {
    local share_options=() module programs
    [ -z "$share" ] || share_options=(--share "$share")
    packages_install e2e
    "$tas_tree/scripts/guest" build $lab_debug
    module=$("$tas_tree/scripts/guest" module $lab_debug | tail -n 1)
    build_guest_programs
    programs=$("$tas_tree/scripts/guest" where)/release
    ip netns add "$peer_ns"
    ip -n "$peer_ns" link set lo up
    wire_prepare
    : >"$lab_state/guest.started"
    "$tas_tree/scripts/guest" start --name "$lab_guest" $lab_debug --nic virtio --driver "$lab_driver" \
        --tap "$(near_device)" --netns "$(near_ns)" "${share_options[@]}"
    guest_tool put "$module" "$programs/tas-fastpath" "$programs/tasctl" \
        "$programs/libtas_interpose.so" "$tas_tree/kmod/60-tas.rules" "$guest_bin"
    guest_tool exec -- sh -c "groupadd -f -r tas; insmod $guest_bin/tas.ko && test -c /dev/tas"
    start_guest_fastpath "$@"
    wire_up
    address_peer
}

build_guest_programs() {
    step "building for the guest" "$tas_tree/scripts/guest" cargo build --release --locked \
        -p tas-fastpath -p tasctl -p tas-interpose -p libtas
}

start_guest_fastpath() {
    guest_tool exec -- sh -c "setsid $guest_bin/tas-fastpath --ip $tas_address/24 --ip6 $tas_address6/64 \
        --cores 1 --backend kernel \
        --instance $lab_instance $* -- -m 256 -a $guest_nic_address >/run/tas-fastpath.log 2>&1 </dev/null &
        for i in \$(seq 600); do
            grep -q 'tas-fastpath: ready' /run/tas-fastpath.log && exit 0
            pidof tas-fastpath >/dev/null || [ \$i -lt 5 ] || break
            sleep 0.1
        done
        cat /run/tas-fastpath.log >&2; exit 1" ||
        fail "tas-fastpath did not become ready in the guest" "its log is above" "scripts/guest exec --name $lab_guest -- dmesg"
    say "tas-fastpath is ready in the guest"
}

kernel_tasctl() {
    guest_tool exec --env "TAS_BACKEND=kernel" --env "TAS_INSTANCE=$lab_instance" -- "$guest_bin/tasctl" "$@"
}

kernel_run_tas() {
    exec "$tas_tree/scripts/guest" exec --name "$lab_guest" --env "TAS_BACKEND=kernel" --env "TAS_INSTANCE=$lab_instance" \
        -- "$guest_bin/tasctl" run --require -- "$@"
}

kernel_down() {
    [ -e "$lab_state/guest.started" ] || return 0
    "$tas_tree/scripts/guest" stop --name "$lab_guest" || true
    rm -f "$lab_state/guest.started"
}
