# SPDX-License-Identifier: MIT OR Apache-2.0
# The build chroot: Debian 13's own compilers and the kernel's headers, in which both
# tas.ko and the user-space programs for the guest are built.

[ -n "${TAS_CHROOT_SH:-}" ] && return 0
TAS_CHROOT_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/kernel.sh"

chroot_kernel_packages=(rustc rust-src rust-clippy rustfmt bindgen gcc gcc-14 gcc-14-for-host make flex bison bc libelf-dev
    libssl-dev libdw-dev python3 kmod dwarves cpio xz-utils zstd)
chroot_user_packages=(cargo clang libclang-dev libdpdk-dev libnuma-dev libpcap-dev libc6-dev pkg-config ca-certificates git)

# chroot_dir: where the chroot for the recorded kernel is, or would be.
chroot_dir() {
    printf '%s/chroot-%s\n' "$tas_cache" \
        "$(key_of "$kernel_release" "$kernel_version" "${chroot_kernel_packages[@]}" "${chroot_user_packages[@]}")"
}

chroot_build() {
    cached "$(chroot_dir)" chroot_make
    keep_newest 'chroot-*' 2
}

chroot_make() {
    step "making the build chroot (Debian 13, compilers, headers of $kernel_release)" \
        debootstrap_trixie "$1" apt \
        "${chroot_kernel_packages[@]}" "${chroot_user_packages[@]}" "linux-headers-$kernel_release"
}

# debootstrap_trixie DIR VARIANT PACKAGE…
debootstrap_trixie() {
    local dir=$1 variant=$2 lines=() packages
    shift 2
    packages=$(IFS=, && printf '%s' "$*")
    mapfile -t lines < <(suite_lines "${guest_suites[@]}")
    apt_fetch_options >"$dir.aptopt"
    # In a mount namespace of its own: if it is killed, its mounts of /proc and /dev go with it.
    unshare --mount --propagation private mmdebstrap --mode=root --variant="$variant" --skip=output/dev \
        --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' --aptopt="$dir.aptopt" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$packages" trixie "$dir" "${lines[@]}"
    rm -f "$dir.aptopt"
}

# in_chroot DIR [--bind PATH | --bind-ro PATH | --bind-at PATH INSIDE]… CMD…: runs CMD as root in the chroot, in
# a mount and process namespace of its own: nothing stays mounted, nothing keeps running.
in_chroot() {
    local dir=$1 binds=()
    shift
    while true; do
        case $1 in
        --bind | --bind-ro) binds+=("$1" "$2") && shift 2 ;;
        --bind-at) binds+=("$1" "$2" "$3") && shift 3 ;;
        *) break ;;
        esac
    done
    unshare --mount --pid --fork --kill-child --propagation private \
        bash "$tas_lib/enter-chroot" "$dir" "${binds[@]}" -- "$@"
}
