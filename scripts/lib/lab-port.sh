# SPDX-License-Identifier: MIT OR Apache-2.0
# The lab's port of a fast path on this machine. Sourced by scripts/lab.
#
# It is a tap, as a rule. net_tap of DPDK 22.11 carries no jumbo frames, so for those it is net_af_packet at one end of
# a veth pair, in a namespace of its own: Linux, which has the peer's addresses in the other, must not hear there.
#
#     namespace tas-lab-wire                    namespace tas-lab-peer
#     TAS, 10.77.0.1, on tasw0 ------ veth ------ tas0, 10.77.0.2

is_jumbo() { [ "$lab_mtu" -gt 1500 ]; }

# What TAS's end of the link is called, and where it is.
near_ns() { if [ -n "$wire" ] || { is_jumbo && [ "$backend" != kernel ]; }; then echo "$wire_ns"; else echo "$peer_ns"; fi; }
near_device() { if [ "$(near_ns)" = "$wire_ns" ]; then echo "$wire_device"; else echo "$peer_device"; fi; }

# Before the fast path starts: the namespace, and the pair.
port_prepare() {
    wire_prepare
    is_jumbo || return 0
    ip netns add "$wire_ns"
    ip netns exec "$wire_ns" sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || true
    ip -n "$peer_ns" link add "$peer_device" mtu "$lab_mtu" type veth \
        peer name "$wire_device" mtu "$lab_mtu" netns "$wire_ns"
    # What a veth's end leaves to its device nobody would do, and no frame is longer than the MTU.
    ip netns exec "$peer_ns" ethtool -K "$peer_device" tx off tso off gso off gro off >/dev/null
    ip -n "$wire_ns" link set "$wire_device" up
    ip -n "$peer_ns" link set "$peer_device" up
}

# EAL's argument that makes the port.
port_device() {
    if is_jumbo; then echo "--vdev=net_af_packet0,iface=$wire_device"; else echo "--vdev=net_tap0,iface=$(near_device)"; fi
}
