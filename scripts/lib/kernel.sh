# SPDX-License-Identifier: MIT OR Apache-2.0
# Which kernel: Debian's newest trixie-backports one for amd64, by the package index.
# The archive keeps only the newest, so nothing here names a version.

[ -n "${TAS_KERNEL_SH:-}" ] && return 0
TAS_KERNEL_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/packages.sh"

# The suites the build chroot and the guest are made from.
guest_suites=(trixie trixie-updates trixie-backports)

# What the caches below were made for. Kept so that a built guest runs without a network.
kernel_record=$tas_cache/kernel.env

# kernel_resolve: asks the index, and sets
#   kernel_release   7.3.4+deb13-amd64          (uname -r, /lib/modules/…)
#   kernel_version   7.3.4-1~bpo13+1            (the package version)
#   kernel_source    linux-source-7.3           (the package with the source)
kernel_resolve() {
    local depends
    apt_suites trixie "${guest_suites[@]}"
    depends=$(apt-cache "${apt_options[@]}" show linux-image-amd64/trixie-backports | sed -n 's/^Depends: //p' | head -n 1)
    kernel_release=$(sed -nE 's/.*linux-image-([0-9][^ ]*) \(= .*/\1/p' <<<"$depends")
    kernel_version=$(sed -nE 's/.*linux-image-[0-9][^ ]* \(= ([^)]*)\).*/\1/p' <<<"$depends")
    [ -n "$kernel_release" ] && [ -n "$kernel_version" ] ||
        fail "the package index names no kernel in trixie-backports" "linux-image-amd64 depends on: ${depends:-nothing}" \
            "rm -r $tas_cache/apt/trixie && $0 build"
    kernel_source=$(source_package "$kernel_release")
    mkdir -p "$tas_cache"
    declare -p kernel_release kernel_version kernel_source | sed 's/^declare -- //' >"$kernel_record.new"
    mv "$kernel_record.new" "$kernel_record"
}

# kernel_resolve_or_keep: without a network, what was built once goes on working.
kernel_resolve_or_keep() {
    if ! (kernel_resolve) && [ -e "$kernel_record" ]; then
        say "the package index could not be read; staying with the kernel it named last"
    fi
    kernel_recorded || fail "no kernel is known" "the package index could not be read (see above)" "$0 build"
}

# kernel_recorded: sets the same from the last kernel_resolve; fails if there was none.
kernel_recorded() {
    [ -e "$kernel_record" ] && . "$kernel_record"
}

# source_package RELEASE: the package that carries this kernel's source.
source_package() { sed -nE 's/^([0-9]+\.[0-9]+)[.+-].*/linux-source-\1/p' <<<"$1"; }

# fetch_packages DIR PACKAGE…: downloads from the guest's suites into DIR. The index
# may be up to a day old: when a file has left the archive meanwhile, it is read again.
fetch_packages() {
    local dir=$1
    shift
    apt_suites trixie "${guest_suites[@]}"
    (cd "$dir" && apt-get "${apt_options[@]}" download "$@") && return 0
    rm -f "$tas_cache/apt/trixie/updated"
    fail "the archive no longer has: $*" "a newer kernel has replaced it there since the index was read" "$0 build"
}
