# SPDX-License-Identifier: MIT OR Apache-2.0
# The lab's flaky wire. Sourced by scripts/lab.
#
#     namespace tas-lab-wire                    namespace tas-lab-peer
#     tasw0 --- tas-wire ------------------------- tas0, 10.77.0.2
#       |  net_tap, or the tap of the guest's NIC       a tap of tas-wire's
#     TAS, 10.77.0.1

wire_ns=tas-lab-wire
wire_device=tasw0
wire_status=$lab_state/wire.json
wire_spec_file=$lab_state/wire.spec
# A value of --wire; "none" is a perfect wire that can be changed later.
wire=

wire_spec() { [ "$1" = none ] || printf '%s\n' "$1"; }

# Before TAS's end is made.
wire_prepare() {
    [ -n "$wire" ] || return 0
    [ -x "$tas_bin/tas-wire" ] || step "cargo build --release -p tas-wire" \
        cargo build --release --locked --manifest-path "$tas_tree/Cargo.toml" -p tas-wire
    ip netns add "$wire_ns"
    # Linux must not speak on TAS's end of the wire.
    ip netns exec "$wire_ns" sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || true
}

# When TAS's end is there; makes the peer's.
wire_up() {
    [ -n "$wire" ] || return 0
    ip -n "$wire_ns" link set "$wire_device" up
    start_service wire "tas-wire: ready" ip netns exec "$wire_ns" "$tas_bin/tas-wire" \
        --left "packet:$wire_device" --right "tap:$peer_device" --spec "$(wire_spec "$wire")" \
        --spec-file "$wire_spec_file" --status "$wire_status"
    ip -n "$wire_ns" link set "$peer_device" netns "$peer_ns"
}

wire_down() { stop_service wire; }

# wire_signal SIGNAL: prints the status that the wire then writes.
wire_signal() {
    local tries=0
    rm -f "$wire_status"
    kill "-$1" "$(cat "$lab_state/wire.pid")" || fail "tas-wire does not run" "its log is $lab_state/wire.log" "sudo scripts/lab down"
    until [ -e "$wire_status" ]; do
        [ $((tries += 1)) -lt 500 ] || fail "tas-wire does not answer" "its log is $lab_state/wire.log" "sudo scripts/lab down"
        sleep 0.02
    done
    cat "$wire_status"
}

# lab_wire [SPEC]: changes the wire, or prints its counters.
lab_wire() {
    local answer
    [ -e "$lab_state/wire.pid" ] || fail "the lab has no flaky wire" "it was started without --wire" \
        "sudo scripts/lab down && sudo scripts/lab up --wire none"
    if [ $# = 0 ]; then
        wire_signal USR1
        return
    fi
    wire_spec "$1" >"$wire_spec_file"
    answer=$(wire_signal HUP)
    case $answer in
    *'"error":'*) fail "the wire stays as it was" "$answer" "scripts/lab --help" ;;
    esac
}
