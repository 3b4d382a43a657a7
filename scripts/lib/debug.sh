# SPDX-License-Identifier: MIT OR Apache-2.0
# The debug kernel: the same source as the stock one, with KASAN, lockdep and kmemleak.
# Rust with KASAN needs clang, so kernel and module are built with LLVM.

[ -n "${TAS_DEBUG_SH:-}" ] && return 0
TAS_DEBUG_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/userspace.sh"

debug_llvm=19
debug_chroot_packages=("lld-$debug_llvm" "llvm-$debug_llvm")

# Where the cache appears in the chroot: a kernel's build tree cannot be moved.
debug_inside=/usr/src/tas-debug-kernel

debug_kernel_dir() {
    printf '%s/debug-kernel-%s\n' "$tas_cache" \
        "$(key_of "$(basename "$(chroot_dir)")" "$kernel_version" "$(cat "$tas_lib/debug-kernel.config")")"
}

# debug_kernel_build: DIR/bzImage, and DIR/src with DIR/obj to build the module against.
debug_kernel_build() {
    [ -d "$(debug_kernel_dir)" ] || say "the debug kernel takes 20 to 30 minutes on two processors, once"
    cached "$(debug_kernel_dir)" debug_kernel_make
    keep_newest 'debug-kernel-*' 1
}

debug_kernel_make() {
    local dir=$1
    step "installing ${debug_chroot_packages[*]} in the build chroot" debug_tools
    step "fetching the kernel's source" fetch_packages "$dir" "$kernel_source=$kernel_version"
    step "unpacking the kernel's source" debug_unpack "$dir"
    step "configuring the debug kernel" debug_configure "$dir"
    step "building the debug kernel" debug_make "$dir" "-j$(nproc)" bzImage modules
    cp "$dir/obj/arch/x86/boot/bzImage" "$dir/bzImage"
    debug_trim "$dir"
}

debug_tools() {
    in_chroot "$(chroot_dir)" sh -c 'dpkg-query -W "$@" >/dev/null 2>&1 || { apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }' sh "${debug_chroot_packages[@]}"
}

debug_unpack() {
    mkdir -p "$1/src" "$1/obj"
    dpkg-deb --fsys-tarfile "$1"/linux-source-*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
        tar -xJ -C "$1/src" --strip-components=1 --no-same-owner
    rm "$1"/linux-source-*.deb
    cp "$tas_lib/debug-kernel.config" "$1/fragment"
}

debug_make() {
    local dir=$1
    shift
    in_chroot "$(chroot_dir)" --bind-at "$dir" "$debug_inside" nice -n "${TAS_NICE:-10}" \
        make -C "$debug_inside/src" "O=$debug_inside/obj" ARCH=x86 "LLVM=-$debug_llvm" "$@"
}

debug_configure() {
    debug_make "$1" "KCONFIG_ALLCONFIG=$debug_inside/fragment" allnoconfig
    local option
    for option in RUST KASAN KASAN_VMALLOC PROVE_LOCKING DEBUG_ATOMIC_SLEEP DEBUG_KMEMLEAK MODULES SQUASHFS_ZSTD NET_9P_VIRTIO; do
        grep -qx "CONFIG_$option=y" "$1/obj/.config" || fail "the debug kernel would lack CONFIG_$option" \
            "Kconfig dropped it: something it depends on is missing" "less $1/obj/.config"
    done
}

# Building a module needs headers, metadata and tools, not the objects (several GB).
debug_trim() {
    find "$1/obj" -path "$1/obj/scripts" -prune -o -path "$1/obj/tools" -prune -o -type f \
        \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' -o -name 'vmlinux*' -o -name '.tmp_*' \) -exec rm -f {} +
    find "$1/src" -path "$1/src/scripts" -prune -o -path "$1/src/tools" -prune -o -type f \
        \( -name '*.c' -o -name '*.S' -o -name '*.dts*' \) -exec rm -f {} +
    rm -rf "$1"/src/{Documentation,samples,sound,drivers/gpu,.git}
}

# debug_module_build [MAKE ARGUMENTS]: builds tas.ko for the debug kernel; prints its path.
debug_module_build() {
    local out dir
    out=$(build_dir module-debug)
    debug_kernel_build
    dir=$(debug_kernel_dir)
    mkdir -p "$out"
    with_lock "module-debug-$(key_of "$tas_tree")" in_chroot "$(chroot_dir)" --bind-at "$dir" "$debug_inside" \
        --bind-ro "$tas_tree" --bind "$out" \
        make -C "$debug_inside/obj" ARCH=x86 "LLVM=-$debug_llvm" "M=$tas_tree" "MO=$out" "-j$(nproc)" "$@" >&2 || module_failed
    printf '%s\n' "$out/tas.ko"
}
