// SPDX-License-Identifier: MIT OR Apache-2.0
/* Options, flags, queues: getsockopt, setsockopt, fcntl, ioctl. */
#include "probe.h"
#include <linux/sockios.h>
#include <net/if.h>

static int option(int fd, int level, int name)
{
    int value = -12345;
    socklen_t length = sizeof value;
    CHECK(getsockopt(fd, level, name, &value, &length) == 0 && length == sizeof value);
    return value;
}

static void set(int fd, int level, int name, int value)
{
    CHECK(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

static void kinds(void)
{
    int port, fd = stream_socket(0), listening = listener(&port, 1);
    CHECK(option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
    CHECK(option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET);
    CHECK(option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
    CHECK(option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0);
    CHECK(option(listening, SOL_SOCKET, SO_ACCEPTCONN) == 1);
    int value = 1;
    FAILS(setsockopt(fd, SOL_SOCKET, SO_TYPE, &value, sizeof value), ENOPROTOOPT);
    FAILS(setsockopt(fd, SOL_SOCKET, 9999, &value, sizeof value), ENOPROTOOPT);
}

static void flags(void)
{
    static const int names[][2] = {{SOL_SOCKET, SO_REUSEADDR},  {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_KEEPALIVE},
                                   {SOL_SOCKET, SO_BROADCAST},  {SOL_SOCKET, SO_OOBINLINE}, {SOL_SOCKET, SO_DONTROUTE},
                                   {IPPROTO_TCP, TCP_NODELAY}};
    int fd = stream_socket(0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(option(fd, names[i][0], names[i][1]) == 0);
        set(fd, names[i][0], names[i][1], 5);
        CHECK(option(fd, names[i][0], names[i][1]) == 1);
        set(fd, names[i][0], names[i][1], 0);
        CHECK(option(fd, names[i][0], names[i][1]) == 0);
    }
}

static void short_values(void)
{
    char byte = -1;
    socklen_t length = 1;
    int fd = stream_socket(0), on = 1;
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &byte, &length) == 0 && length == 1 && byte == 1);
    FAILS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, 2), EINVAL);
}

static void buffers(void)
{
    int fd = stream_socket(0);
    set(fd, SOL_SOCKET, SO_RCVBUF, 20000);
    CHECK(option(fd, SOL_SOCKET, SO_RCVBUF) == 40000);
    set(fd, SOL_SOCKET, SO_SNDBUF, 20000);
    CHECK(option(fd, SOL_SOCKET, SO_SNDBUF) == 40000);
    set(fd, SOL_SOCKET, SO_SNDBUF, 1);
    CHECK(option(fd, SOL_SOCKET, SO_SNDBUF) == 4608);
}

static void linger(void)
{
    struct linger value = {1, 7}, back = {0, 0};
    socklen_t length = sizeof back;
    int fd = stream_socket(0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof value) == 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &back, &length) == 0 && length == sizeof back);
    CHECK(back.l_onoff == 1 && back.l_linger == 7);
}

static void keepalive(void)
{
    int fd = stream_socket(0), zero = 0;
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
    CHECK(option(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 30);
    CHECK(option(fd, IPPROTO_TCP, TCP_KEEPINTVL) == 10);
    CHECK(option(fd, IPPROTO_TCP, TCP_KEEPCNT) == 3);
    CHECK(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 5000);
    FAILS(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &zero, sizeof zero), EINVAL);
}

static void tcp_options(void)
{
    int fd = peer("echo");
    set(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
    set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
    set(fd, SOL_SOCKET, SO_PRIORITY, 2);
    CHECK(option(fd, SOL_SOCKET, SO_PRIORITY) == 2);
    int segment = option(fd, IPPROTO_TCP, TCP_MAXSEG);
    CHECK(segment >= 536 && segment <= 65535);
    int bad = 10;
    FAILS(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &bad, sizeof bad), EINVAL);
    char name[16] = "";
    socklen_t length = sizeof name;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 && name[0]);
    FAILS(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nosuch", 6), ENOENT);
}

static int state(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    memset(&info, 0xff, sizeof info);
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && length > 50);
    if (info.tcpi_state == TCP_ESTABLISHED)
        CHECK(info.tcpi_snd_mss >= 500);
    return info.tcpi_state;
}

static void tcp_info_(void)
{
    int port, fd = stream_socket(0);
    CHECK(state(fd) == TCP_CLOSE);
    CHECK(state(listener(&port, 1)) == TCP_LISTEN);
    fd = peer("half 100");
    CHECK(state(fd) == TCP_ESTABLISHED);
    usleep(400000);
    CHECK(state(fd) == TCP_CLOSE_WAIT);
}

static void so_error(void)
{
    int fd = peer("reset 50");
    CHECK(wait_for(fd, POLLIN, 5000) & POLLERR);
    CHECK(option(fd, SOL_SOCKET, SO_ERROR) == ECONNRESET);
    CHECK(option(fd, SOL_SOCKET, SO_ERROR) == 0);
    char byte;
    CHECK(recv(fd, &byte, 1, 0) == 0);
}

static void receive_timeout(void)
{
    struct timeval limit = {0, 200000}, back;
    socklen_t length = sizeof back;
    char byte;
    int fd = peer("echo");
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &back, &length) == 0 && length == sizeof back);
    CHECK(back.tv_sec == 0 && back.tv_usec >= 195000 && back.tv_usec <= 205000);
    double start = now_s();
    FAILS(recv(fd, &byte, 1, 0), EAGAIN);
    CHECK(now_s() - start >= 0.19 && now_s() - start < 3);
    int port, listening = listener(&port, 1);
    CHECK(setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    FAILS(accept(listening, NULL, NULL), EAGAIN);
    limit.tv_usec = 1000000;
    FAILS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), EDOM);
}

static void send_timeout(void)
{
    struct timeval limit = {0, 300000};
    char *data = calloc(1, 65536);
    int fd = peer("stall 6000");
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    ssize_t sent;
    do
        sent = send(fd, data, 65536, 0);
    while (sent == 65536);
    if (sent >= 0)
        FAILS(send(fd, data, 65536, 0), EAGAIN);
    else
        CHECK(errno == EAGAIN);
}

static void low_water(void)
{
    char buffer[16];
    int fd = peer("drip 50 10");
    set(fd, SOL_SOCKET, SO_RCVLOWAT, 10);
    CHECK(option(fd, SOL_SOCKET, SO_RCVLOWAT) == 10);
    CHECK(wait_for(fd, POLLIN, 100) == 0);
    CHECK(wait_for(fd, POLLIN, 5000) == POLLIN);
    CHECK(recv(fd, buffer, sizeof buffer, 0) == 10);
}

static void fionbio(void)
{
    int on = 1, off = 0, fd = peer("echo");
    char byte;
    CHECK(ioctl(fd, FIONBIO, &on) == 0);
    FAILS(recv(fd, &byte, 1, 0), EAGAIN);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(ioctl(fd, FIONBIO, &off) == 0);
    CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
}

static void fcntl_nonblock(void)
{
    char byte;
    int fd = peer("delay 200 1");
    nonblocking(fd, 1);
    FAILS(recv(fd, &byte, 1, 0), EAGAIN);
    nonblocking(fd, 0);
    CHECK(recv(fd, &byte, 1, 0) == 1);
}

static void queues(void)
{
    int count = -1, fd = peer("sendhold 1234");
    char byte;
    CHECK(recv(fd, &byte, 1, MSG_PEEK) == 1);
    for (int i = 0; i < 100 && count != 1234; i++) {
        CHECK(ioctl(fd, FIONREAD, &count) == 0);
        usleep(10000);
    }
    CHECK(count == 1234);
    for (int i = 0; i < 100 && count != 0; i++) {
        CHECK(ioctl(fd, SIOCOUTQ, &count) == 0);
        usleep(10000);
    }
    CHECK(count == 0);
    CHECK(ioctl(fd, SIOCATMARK, &count) == 0);
}

static void interfaces(void)
{
    struct ifreq requests[8];
    struct ifconf list = {.ifc_len = sizeof requests, .ifc_req = requests};
    int fd = stream_socket(0);
    CHECK(ioctl(fd, SIOCGIFCONF, &list) == 0);
}

static void inherited_options(void)
{
    int port, fd = listener(&port, 5);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    dial(port, "echo");
    int accepted = accept(fd, NULL, NULL);
    CHECK(accepted >= 0 && option(accepted, IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(option(accepted, SOL_SOCKET, SO_KEEPALIVE) == 1);
}

const struct test option_cases[] = {
    {"kinds", kinds},
    {"flags", flags},
    {"short_values", short_values},
    {"buffers", buffers},
    {"linger", linger},
    {"keepalive", keepalive},
    {"tcp_options", tcp_options},
    {"tcp_info", tcp_info_},
    {"so_error", so_error},
    {"receive_timeout", receive_timeout},
    {"send_timeout", send_timeout},
    {"low_water", low_water},
    {"fionbio", fionbio},
    {"fcntl_nonblock", fcntl_nonblock},
    {"queues", queues},
    {"interfaces", interfaces},
    {"inherited_options", inherited_options},
    {NULL, NULL},
};
