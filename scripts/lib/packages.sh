# SPDX-License-Identifier: MIT OR Apache-2.0
# What the machine needs installed, by purpose, and installing what is missing of it.
#
#     packages_install build guest e2e

[ -n "${TAS_PACKAGES_SH:-}" ] && return 0
TAS_PACKAGES_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/mirror.sh"

# To build the user-space crates. Rust is looked at apart: rustup's is as good.
packages_build=(gcc libc6-dev make pkg-config clang libclang-dev libdpdk-dev libnuma-dev libpcap-dev)

# To make the guest and run it.
packages_guest=(qemu-system-x86 qemu-utils seabios mmdebstrap squashfs-tools cpio busybox-static zstd
    xz-utils kmod iproute2 python3 binutils file)

# To run the end-to-end cases and the demonstration, the Linux peer's side included.
packages_e2e=(redis-server redis-tools iperf3 curl iproute2 iputils-ping ethtool python3 procps kmod)

# To measure.
packages_bench=(valgrind)

# Older than this, QEMU has no igb and a weaker emulated IOMMU.
qemu_major_wanted=8

is_installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# packages_install PURPOSE…: installs what is missing, and says what beforehand.
packages_install() {
    local purpose package missing=() backports=()
    for purpose; do
        local -n list=packages_$purpose
        for package in "${list[@]}"; do
            is_installed "$package" || [[ " ${missing[*]} " == *" $package "* ]] || missing+=("$package")
        done
        case $purpose in
        guest) qemu_is_new_enough || backports=(qemu-system-x86 qemu-system-common qemu-system-data qemu-utils seabios) ;;
        build) rust_is_new_enough || mapfile -t -O "${#missing[@]}" missing < <(rust_packages) ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || [ ${#backports[@]} -gt 0 ] || return 0
    need_root "packages are missing: ${missing[*]} ${backports[*]}"
    with_lock packages install_all
}

# --- Versions ---------------------------------------------------------------

qemu_is_new_enough() {
    local major
    have qemu-system-x86_64 || return 1
    major=$(qemu-system-x86_64 --version | sed -nE '1s/.*version ([0-9]+)\..*/\1/p')
    [ "${major:-0}" -ge "$qemu_major_wanted" ]
}

rust_is_new_enough() {
    have cargo && have rustc || return 1
    printf '%s\n%s\n' 1.85.0 "$(rustc --version | cut -d' ' -f2)" | sort -V -C
}

# Debian 13's own compiler is 1.85; Debian 12 carries a newer one under another name.
rust_packages() {
    case $(host_codename) in
    bookworm) printf '%s\n' rustc-web cargo-web ;;
    *) printf '%s\n' rustc cargo ;;
    esac
}

# --- Installing -------------------------------------------------------------
# The functions below run in packages_install's scope and use its arrays.

install_all() {
    local new_services=()
    is_installed redis-server || new_services+=(redis-server)
    say "installing: ${missing[*]} ${backports[*]:+(from backports: ${backports[*]})}"
    refuse_services
    machine_lists
    [ ${#backports[@]} = 0 ] || install_backports
    [ ${#missing[@]} = 0 ] || step "apt-get install" apt_install "${missing[@]}"
    allow_services
    disable_services "${new_services[@]}"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@" ||
        apt_advice "$*"
}

apt_advice() {
    fail "apt could not install: $1" "its own message is above (no network, no such package, or dpkg was interrupted)" \
        "sudo dpkg --configure -a && sudo apt-get update && sudo apt-get install --no-install-recommends $1"
}

# A machine made from an image often has no package lists at all, or old ones.
machine_lists() {
    local known
    known=$(apt-cache show --no-all-versions "${missing[@]}" 2>/dev/null | grep -c '^Package: ' || true)
    [ "$known" -ge "${#missing[@]}" ] || step "apt-get update" apt-get update
}

# QEMU in Debian 12 is too old; its backports, from the same mirror, are not. They are
# named through a private sources file, so the machine's configuration stays as it is.
install_backports() {
    local suite package still=()
    suite=$(host_codename)
    apt_suites "host-$suite" "$suite" "$suite-updates" "$suite-backports"
    # Only these from backports: -t, or NAME/SUITE, would take what they depend on from there
    # too, and then contradict the -dev packages of the release.
    printf 'Package: %s\nPin: release n=%s-backports\nPin-Priority: 990\n' "${backports[*]}" "$suite" \
        >"$tas_cache/apt/host-$suite/preferences"
    step "apt-get install (backports)" apt_install "${apt_options[@]}" \
        -o "Dir::Etc::Preferences=$tas_cache/apt/host-$suite/preferences" "${backports[@]}"
    for package in "${missing[@]}"; do is_installed "$package" || still+=("$package"); done
    missing=("${still[@]}")
}

# Installing redis-server must not start a redis on this machine, nor at its next boot.
policy_file=/usr/sbin/policy-rc.d

refuse_services() {
    [ ! -e $policy_file ] || return 0
    printf '#!/bin/sh\n# made by %s for the time of an installation\nexit 101\n' "$tas_program" >$policy_file
    chmod 755 $policy_file
    trap 'allow_services' EXIT
}

allow_services() {
    if grep -qs "^# made by $tas_program " $policy_file; then rm -f $policy_file; fi
}

disable_services() {
    local service
    have systemctl || return 0
    for service; do systemctl --quiet disable "$service.service" 2>/dev/null || true; done
}
