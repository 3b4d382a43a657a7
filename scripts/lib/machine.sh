# SPDX-License-Identifier: MIT OR Apache-2.0
# Starting, reaching and stopping the guest. Its state lies in $TAS_RUN/guest-NAME:
# pid, port (of guest-agent, on 127.0.0.1), console.log, qmp, control/ (shared with it).

[ -n "${TAS_MACHINE_SH:-}" ] && return 0
TAS_MACHINE_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/image.sh"

# What a guest is started with; scripts/guest's options change these.
guest_name=default
guest_cpus=2
guest_memory_mib=2048
guest_hugepages=256
guest_nic=none
guest_driver=vfio-pci
guest_queues=1
guest_tap=
guest_netns=
guest_mac=52:54:00:77:00:01
guest_shares=()
guest_append=
guest_debug_kernel=

# Where the data NIC sits in the guest, whatever its model.
guest_nic_slot=0x8
guest_nic_pci=0000:00:08.0

guest_state() { printf '%s/guest-%s\n' "${TAS_RUN:-/run/tas}" "$guest_name"; }

# guest_running: whether QEMU runs; a recycled process id is not mistaken for it.
guest_running() {
    local pid
    pid=$(cat "$(guest_state)/pid" 2>/dev/null) || return 1
    { tr '\0' '\n' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -x "tas-guest-$guest_name" >/dev/null || return 1
}

# --- Starting ---------------------------------------------------------------

guest_start() {
    local state
    state=$(guest_state)
    ! guest_running || fail "a guest named $guest_name is running" "" "scripts/guest stop --name $guest_name"
    rm -rf "$state"
    mkdir -p "$state/control"
    chmod 700 "$state"
    install -m 755 "$tas_lib/guest-init" "$tas_lib/guest-agent" "$state/control/"
    od -An -tx1 -N16 /dev/urandom | tr -d ' \n' >"$state/control/token"
    free_port >"$state/port"
    qemu_command "$state"
    write_config "$state/control/config"
    say "booting the guest ($guest_cpus CPUs, $guest_memory_mib MiB, nic $guest_nic, kernel $(kernel_name))"
    # QEMU creates the tap, so that it is gone when QEMU is. setsid: a Ctrl-C at the
    # terminal is for the command in the guest, not for the guest.
    setsid "${qemu[@]}" >"$state/qemu.log" 2>&1 </dev/null 9>&- &
    echo $! >"$state/pid"
    # From here on guest_running knows it: the shell's child has become QEMU, or is gone.
    while ! guest_running && kill -0 $! 2>/dev/null; do sleep 0.02; done
    place_tap "$state"
    wait_for_agent "$state"
}

kernel_name() { if [ -n "$guest_debug_kernel" ]; then echo "debug $kernel_release"; else echo "$kernel_release"; fi; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

write_config() {
    local i
    {
        [ "$guest_nic" = none ] || echo "nic $guest_nic_pci $guest_driver"
        echo "hugepages $guest_hugepages"
        for i in "${!guest_shares[@]}"; do echo "share share$i ${guest_shares[i]}"; done
    } >"$1"
}

place_tap() {
    [ -n "$guest_tap" ] || return 0
    local tries=0
    until ip link show dev "$guest_tap" >/dev/null 2>&1; do
        guest_running && [ $((tries += 1)) -lt 100 ] || { tail "$1/qemu.log" >&2 && fail "QEMU made no tap $guest_tap" "see above" "ip link"; }
        sleep 0.1
    done
    if [ -n "$guest_netns" ]; then
        ip link set dev "$guest_tap" netns "$guest_netns"
        ip -n "$guest_netns" link set dev "$guest_tap" up
    else
        ip link set dev "$guest_tap" up
    fi
}

# A guest without hardware virtualisation boots in 10 s on an idle machine, the debug
# kernel in 40 s; a busy machine takes several times that (guest-exec waits accordingly).
boot_patience_seconds=300

wait_for_agent() {
    local state=$1
    "$tas_lib/guest-exec" "$state" --wait "$boot_patience_seconds" -- true </dev/null && return 0
    tail -n 30 "$state/console.log" "$state/qemu.log" >&2 || true
    guest_stop
    fail "the guest did not come up" "its console's end is above" "less $state/console.log"
}

# --- QEMU's command line ----------------------------------------------------

# qemu_command STATE: sets the array qemu.
qemu_command() {
    local state=$1 image
    image=$(image_dir)
    qemu=(qemu-system-x86_64 -name "tas-guest-$guest_name" -accel tcg,thread=multi -cpu max -machine q35
        -smp "$guest_cpus" -m "$guest_memory_mib" -no-reboot -nodefaults -display none
        -serial "file:$state/console.log" -qmp "unix:$state/qmp,server=on,wait=off"
        -kernel "$(kernel_image "$image")" -initrd "$image/initramfs" -append "$(kernel_command_line)"
        -drive "file=$image/root.squashfs,format=raw,if=none,id=root,readonly=on" -device virtio-blk-pci,drive=root
        -netdev "user,id=management,restrict=on,net=169.254.77.0/24,host=169.254.77.2,hostfwd=tcp:127.0.0.1:$(cat "$state/port")-169.254.77.15:7")
    ! needs_iommu || qemu+=(-device intel-iommu,intremap=on)
    qemu+=(-device virtio-net-pci,netdev=management,addr=0x4,romfile=)
    qemu_nic
    qemu_share control "$state/control"
    local i
    for i in "${!guest_shares[@]}"; do qemu_share "share$i" "${guest_shares[i]}"; done
}

qemu_share() {
    qemu+=(-virtfs "local,path=$2,mount_tag=$1,security_model=none,multidevs=remap")
}

needs_iommu() { [ "$guest_nic" != none ] && [ "$guest_driver" = vfio-pci ]; }

kernel_image() { if [ -n "$guest_debug_kernel" ]; then echo "$(debug_kernel_dir)/bzImage"; else echo "$1/vmlinuz"; fi; }

# no_timer_check: under emulation the timer's self test fails when the host is busy, and
# with interrupt remapping that is a panic.
kernel_command_line() {
    local iommu=intel_iommu=off
    ! needs_iommu || iommu=intel_iommu=on
    echo "console=ttyS0 panic=-1 loglevel=5 no_timer_check $iommu $guest_append"
}

qemu_nic() {
    [ "$guest_nic" != none ] || return 0
    local device="mac=$guest_mac,netdev=wire,addr=$guest_nic_slot,romfile=" backend=socket
    if [ -n "$guest_tap" ]; then
        backend="tap,ifname=$guest_tap,script=no,downscript=no"
    else
        backend=hubport,hubid=0 # a wire with nobody at the other end
    fi
    if [ "$guest_nic" = virtio ] && [ "$guest_queues" -gt 1 ]; then
        [ -n "$guest_tap" ] || fail "--queues needs --tap" "only a tap has several queues" "scripts/guest --help"
        backend+=",queues=$guest_queues"
        device+=",mq=on,vectors=$((2 * guest_queues + 2))"
    fi
    case $guest_nic in
    virtio)
        device="virtio-net-pci,$device"
        # Only a modern device can be behind the IOMMU; uio_pci_generic wants a transitional one.
        ! needs_iommu || device+=",disable-legacy=on,iommu_platform=on,ats=on"
        ;;
    e1000e | igb) device="$guest_nic,$device" ;;
    *) fail "no such NIC: $guest_nic" "the guest can have: virtio, e1000e, igb, none" "scripts/guest --help" ;;
    esac
    qemu+=(-netdev "$backend,id=wire" -device "$device")
}

# --- Reaching and stopping --------------------------------------------------

# guest_exec [guest-exec's options] -- CMD…
guest_exec() { "$tas_lib/guest-exec" "$(guest_state)" "$@"; }

guest_stop() {
    local state pid tries=0
    state=$(guest_state)
    if guest_running; then
        pid=$(cat "$state/pid")
        kill -TERM "$pid" 2>/dev/null || true
        while guest_running && [ $((tries += 1)) -lt 50 ]; do sleep 0.1; done
        ! guest_running || kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$state/pid" "$state/port"
}

# What a kernel that is not well says, in dmesg or on the console.
kernel_complaints='BUG:|WARNING:|Oops|KASAN|UBSAN|KFENCE|kernel BUG|rust_kernel: panicked|general protection|unable to handle|possible (circular|recursive|irq)|suspicious RCU|inconsistent lock|INFO: (task|rcu|trying)|unreferenced object|blocked for more than|Call Trace'

# guest_complaints: prints them; succeeds when there are none.
guest_complaints() {
    ! { guest_exec -- dmesg </dev/null 2>/dev/null || cat "$(guest_state)/console.log"; } |
        grep -E -B 2 -A 30 "$kernel_complaints"
}
