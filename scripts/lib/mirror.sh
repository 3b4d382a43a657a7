# SPDX-License-Identifier: MIT OR Apache-2.0
# The machine's own Debian mirror, and apt looking at suites of it that the
# machine itself does not use. No other source of packages is ever asked.

[ -n "${TAS_MIRROR_SH:-}" ] && return 0
TAS_MIRROR_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"

host_codename() { . /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}"; }
host_id() { . /etc/os-release && printf '%s\n' "${ID:-}"; }

# Every file in which the administrator names a source.
source_files() {
    find /etc/apt -maxdepth 2 -type f \( -path /etc/apt/sources.list -o -path '/etc/apt/sources.list.d/*.list' \
        -o -path '/etc/apt/sources.list.d/*.sources' \)
}

# debian_mirror: the URI from which this machine gets Debian, as apt reads it.
debian_mirror() {
    local uri
    if [ -n "${TAS_DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "${TAS_DEBIAN_MIRROR%/}"
        return
    fi
    [ "$(host_id)" = debian ] || fail "this machine is not Debian, so it has no Debian mirror configured" \
        "the guest is made of Debian packages, and only a configured mirror is used" \
        "TAS_DEBIAN_MIRROR=http://your.mirror/debian $0 …   (with debian-archive-keyring installed)"
    uri=$(host_archive)
    if [ -z "$uri" ]; then # apt names a source only after it has read its index
        step "apt-get update" apt-get update
        uri=$(host_archive)
    fi
    [ -n "$uri" ] || fail "apt has no source for $(host_codename) main" \
        "the project takes packages only from the machine's own mirror" \
        "add one to /etc/apt/sources.list.d/debian.sources, then: sudo apt-get update"
    printf '%s\n' "${uri%/}"
}

host_archive() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
        awk -v suite="$(host_codename)" '$2 == suite && $3 == "main" && !found++ { print $1 }'
}

# debian_keyring: the key file the configured source is checked with.
debian_keyring() {
    local uri key
    uri=$(debian_mirror)
    key=$(source_files | while IFS= read -r file; do if grep -qF -- "$uri" "$file"; then cat "$file"; fi; done |
        sed -nE -e 's/^Signed-By:[[:space:]]*(\/[^[:space:]]+).*/\1/p' -e 's/.*[[ ]signed-by=([^] ]+).*/\1/p' | head -n 1)
    [ -n "$key" ] && [ -e "$key" ] || key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$key" ] || fail "no key to check packages with" "$key is missing" \
        "sudo apt-get install debian-archive-keyring"
    printf '%s\n' "$key"
}

# suite_lines SUITE…: one-line sources for suites of the configured mirror.
suite_lines() {
    local uri key suite
    uri=$(debian_mirror)
    key=$(debian_keyring)
    for suite; do printf 'deb [signed-by=%s] %s %s main\n' "$key" "$uri" "$suite"; done
}

# The machine's settings for fetching (proxy, retries, date checks), for tools that
# do not read /etc/apt/apt.conf.d themselves.
apt_fetch_options() {
    apt-config dump --format '%F "%v";%n' Acquire |
        grep -E '^Acquire::(http|https|ftp|Retries|Check-|ForceIPv|Proxy)[^ ]* "[^"]' || true
}

# apt_suites NAME SUITE…: prepares a private apt that sees exactly these suites,
# with nothing installed, and leaves its options in the array apt_options. The
# machine's own sources and lists stay as they are.
apt_suites() {
    local dir=$tas_cache/apt/$1 lines
    shift
    mkdir -p "$dir"/{lists/partial,archives/partial}
    lines=$(suite_lines "$@")
    apt_options=(-o "Dir::Etc::SourceList=$dir/sources.list" -o "Dir::Etc::SourceParts=-"
        -o "Dir::State::Lists=$dir/lists" -o "Dir::Cache::Archives=$dir/archives"
        -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o "APT::Sandbox::User=root")
    # Lists younger than a day are good enough: a package that left the archive in
    # between is a failed download, after which the lists are fetched again.
    if [ "$lines" != "$(cat "$dir/sources.list" 2>/dev/null)" ] ||
        [ -z "$(find "$dir/updated" -mmin -1440 2>/dev/null)" ]; then
        printf '%s\n' "$lines" >"$dir/sources.list"
        step "reading the package index of $*" apt-get "${apt_options[@]}" update --error-on=any
        touch "$dir/updated"
    fi
}
