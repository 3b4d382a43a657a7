# SPDX-License-Identifier: MIT OR Apache-2.0
# The lab with the daemon backend, all on this machine. Sourced by scripts/lab.
#
#     namespace tas-lab-apps            namespace tas-lab-peer
#     applications under tasctl run     Linux TCP on tas0, 10.77.0.2
#     (no interface at all)                   |  net_tap
#            `--- tas-slowpathd --- tas-fastpath, 10.77.0.1

daemon_up() {
    packages_install build e2e
    need_user_space
    make_namespaces
    port_prepare
    # --instance names it for tasctl status; the socket is the lab's own.
    start_service slowpathd "tas-slowpathd: ready" \
        "$tas_bin/tas-slowpathd" --instance "$lab_instance" --socket "$lab_socket"
    start_service fastpath "tas-fastpath: ready" \
        ip netns exec "$(near_ns)" "$tas_bin/tas-fastpath" --ip "$tas_address/24" --ip6 "$tas_address6/64" --cores 1 \
        --backend daemon --instance "$lab_instance" --socket "$lab_socket" "$@" \
        -- --no-huge -m 256 --file-prefix tas-lab "$(port_device)"
    wire_up
    configure_peer
}

daemon_tasctl() {
    env TAS_BACKEND=daemon TAS_SOCKET="$lab_socket" TAS_INSTANCE="$lab_instance" "$tas_bin/tasctl" "$@"
}

daemon_run_tas() {
    exec ip netns exec "$apps_ns" env TAS_BACKEND=daemon TAS_SOCKET="$lab_socket" TAS_INSTANCE="$lab_instance" \
        "$tas_bin/tasctl" run --require -- "$@"
}

daemon_down() {
    stop_service fastpath
    stop_service slowpathd
}
