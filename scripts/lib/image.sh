# SPDX-License-Identifier: MIT OR Apache-2.0
# What the guest boots: the stock kernel, an initramfs that finds the root, and the root
# itself, a squashfs under a tmpfs overlay (9p as root is ten times slower).

[ -n "${TAS_IMAGE_SH:-}" ] && return 0
TAS_IMAGE_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/chroot.sh"

# dpdk is there for dpdk-devbind; the libraries after it are those outside DPDK that a
# program with DPDK linked in statically still asks for.
image_packages=(dpdk libnuma1 libfdt1 libbsd0 libpcap0.8t64 libelf1t64 libjansson4 libbpf1 libxdp1 redis-server redis-tools iperf3 curl python3 iproute2 iputils-ping ethtool tcpdump
    procps psmisc kmod mount util-linux hostname strace zlib1g netcat-openbsd less ca-certificates)

# Kernel modules that no virtual machine loads.
image_modules_left_out=(sound drivers/gpu drivers/media drivers/iio drivers/infiniband drivers/scsi drivers/usb
    drivers/net/wireless drivers/hwmon drivers/hid drivers/input drivers/platform drivers/comedi drivers/staging)

# What the initramfs loads, in the order of need, to reach the root.
initramfs_modules=(virtio_pci virtio_blk squashfs overlay 9pnet_virtio 9p)

# image_dir: where the image for the recorded kernel is, or would be.
image_dir() {
    printf '%s/image-%s\n' "$tas_cache" \
        "$(key_of "$kernel_release" "$kernel_version" "${image_packages[@]}" "${image_modules_left_out[@]}" \
            "${initramfs_modules[@]}" "$(cat "$tas_lib/initramfs-init")")"
}

image_build() {
    cached "$(image_dir)" image_make
    keep_newest 'image-*' 2
}

# image_make DIR: DIR/root.squashfs, DIR/vmlinuz, DIR/initramfs.
image_make() {
    step "making the guest's root (Debian 13, redis, iperf3, DPDK, kernel $kernel_release)" image_fill "$1"
}

image_fill() {
    local root=$1/root
    debootstrap_trixie "$root" essential "${image_packages[@]}"
    mkdir "$1/debs"
    fetch_packages "$1/debs" "linux-modules-$kernel_release=$kernel_version" \
        "linux-binary-$kernel_release=$kernel_version" "linux-base-$kernel_release=$kernel_version"
    local deb
    for deb in "$1"/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink; done
    image_trim "$root"
    depmod -b "$root/usr" "$kernel_release"
    mv "$root/usr/lib/modules/$kernel_release/vmlinuz" "$1/vmlinuz"
    make_initramfs "$root" "$1/initramfs"
    mksquashfs "$root" "$1/root.squashfs" -comp zstd -Xcompression-level 3 -noappend -quiet -no-progress
    rm -rf "$root" "$1/debs"
}

image_trim() {
    local part
    for part in "${image_modules_left_out[@]}"; do rm -rf "$1/usr/lib/modules/$kernel_release/kernel/$part"; done
    rm -rf "$1"/usr/share/{doc,man,locale,bug,lintian} "$1"/var/cache/apt "$1"/var/lib/apt/lists
    mkdir -p "$1/run" "$1/tmp"
}

# make_initramfs ROOT FILE: busybox, the modules that lead to the root, and our init.
make_initramfs() {
    local tree=$1.initramfs applet module file count=0
    mkdir -p "$tree"/{bin,modules,proc,sys,dev,lower,upper,root}
    cp "$(busybox_file)" "$tree/bin/busybox"
    for applet in $("$tree/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    for module in "${initramfs_modules[@]}"; do
        modprobe -d "$1" -S "$kernel_release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tree/modules.list"
    while IFS= read -r file; do
        count=$((count + 1))
        unpack_module "$file" "$tree/modules/$(printf '%02d' $count)-$(basename "${file%%.ko*}").ko"
    done <"$tree/modules.list"
    install -m 755 "$tas_lib/initramfs-init" "$tree/init"
    (cd "$tree" && find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet) >"$2"
    rm -rf "$tree"
}

unpack_module() {
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *.zst) zstd -dcq "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

busybox_file() {
    local file
    for file in /usr/bin/busybox /bin/busybox; do
        if [ -x "$file" ]; then printf '%s\n' "$file" && return; fi
    done
    fail "no busybox" "the initramfs is made of it" "sudo apt-get install busybox-static"
}
