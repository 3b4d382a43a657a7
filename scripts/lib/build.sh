# SPDX-License-Identifier: MIT OR Apache-2.0
# Building the user-space programs on this machine, and where they end up.

[ -n "${TAS_BUILD_SH:-}" ] && return 0
TAS_BUILD_SH=1

tas_target=${CARGO_TARGET_DIR:-$tas_tree/target}
tas_bin=$tas_target/release

# What the lab, the demonstration and the end-to-end suite run.
tas_programs=(tas-slowpathd tas-fastpath tasctl tas-e2e tas-wire)

build_user_space() {
    step "cargo build --release" cargo build --release --locked --manifest-path "$tas_tree/Cargo.toml" \
        -p tas-daemon -p tas-fastpath -p tasctl -p tas-interpose -p libtas -p tas-tests -p tas-wire
}

# The lab's commands are run many times: they build only what is not there.
need_user_space() {
    local program
    for program in "${tas_programs[@]}"; do
        [ -x "$tas_bin/$program" ] || { build_user_space; return; }
    done
}
