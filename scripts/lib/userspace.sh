# SPDX-License-Identifier: MIT OR Apache-2.0
# Building for the guest, in the build chroot and outside the tree.

[ -n "${TAS_USERSPACE_SH:-}" ] && return 0
TAS_USERSPACE_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/chroot.sh"

# build_dir NAME: where the builds of this tree go. Two trees do not share one.
build_dir() { printf '%s/build/%s/%s\n' "$tas_cache" "$(key_of "$tas_tree")" "$1"; }

# module_build [MAKE ARGUMENTS]: builds tas.ko for the stock kernel; prints its path.
module_build() {
    local out
    out=$(build_dir module)
    mkdir -p "$out"
    with_lock "module-$(key_of "$tas_tree")" in_chroot "$(chroot_dir)" --bind-ro "$tas_tree" --bind "$out" \
        make -C "/lib/modules/$kernel_release/build" "M=$tas_tree" "MO=$out" "-j$(nproc)" "$@" >&2 || module_failed
    printf '%s\n' "$out/tas.ko"
}

module_failed() { fail "tas.ko did not build" "the compiler's messages are above" "scripts/guest module V=1"; }

# cargo_in_chroot ARGUMENTS: cargo with Debian 13's Rust 1.85 and DPDK 24.11. Crates are
# fetched through the chroot's own cargo, with the machine's registry configuration.
cargo_in_chroot() {
    local target home=$tas_cache/cargo config
    target=$(build_dir target)
    mkdir -p "$target" "$home"
    for config in "${CARGO_HOME:-$HOME/.cargo}"/config.toml "${CARGO_HOME:-$HOME/.cargo}"/config; do
        [ ! -e "$config" ] || cp -L "$config" "$home/"
    done
    CARGO_HOME=$home CARGO_TARGET_DIR=$target in_chroot "$(chroot_dir)" \
        --bind-ro "$tas_tree" --bind "$target" --bind "$home" \
        env --chdir="$tas_tree" cargo "$@"
}
