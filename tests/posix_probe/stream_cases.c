// SPDX-License-Identifier: MIT OR Apache-2.0
/* Opening, moving data, closing. */
#include "probe.h"

#define BIG 1000000

static void socket_flags(void)
{
    int fd = stream_socket(SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    int plain = stream_socket(0);
    CHECK(!(fcntl(plain, F_GETFL) & O_NONBLOCK));
    CHECK(!(fcntl(plain, F_GETFD) & FD_CLOEXEC));
    CHECK(close(fd) == 0 && close(plain) == 0);
    FAILS(close(fd), EBADF);
    FAILS(read(fd, &plain, 1), EBADF);
}

static void socket_errors(void)
{
    FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    CHECK(fd >= 0);
}

static void echo(void)
{
    char buffer[16] = "";
    int fd = peer("echo");
    write_all(fd, "hello world", 11);
    CHECK(read_all(fd, buffer, 11) == 11 && !memcmp(buffer, "hello world", 11));
    CHECK(close(fd) == 0);
}

static void ping_pong(void)
{
    int fd = peer("echo");
    for (int i = 0; i < 2000; i++) {
        int back = -1;
        write_all(fd, &i, sizeof i);
        CHECK(read_all(fd, &back, sizeof back) == sizeof back && back == i);
    }
}

static void *write_big(void *argument)
{
    int fd = *(int *)argument;
    unsigned char *data = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        data[i] = pattern(i);
    write_all(fd, data, BIG);
    free(data);
    return NULL;
}

static void big_echo(void)
{
    int fd = peer("echo");
    pthread_t writer;
    unsigned char *data = malloc(BIG);
    CHECK(pthread_create(&writer, NULL, write_big, &fd) == 0);
    CHECK(read_all(fd, data, BIG) == BIG);
    for (size_t i = 0; i < BIG; i++)
        CHECK(data[i] == pattern(i));
    pthread_join(writer, NULL);
}

static void big_receive(void)
{
    int fd = peer("send 3000000");
    unsigned char *data = malloc(3000001);
    CHECK(read_all(fd, data, 3000001) == 3000000);
    for (size_t i = 0; i < 3000000; i++)
        CHECK(data[i] == pattern(i));
}

static void big_send(void)
{
    long bytes;
    int error, fd = peer("watch 100");
    char *data = calloc(1, 3000000);
    write_all(fd, data, 3000000);
    close(fd);
    watched(100, &bytes, &error);
    CHECK(bytes == 3000000 && error == 0);
}

static void fin_recv0(void)
{
    char buffer[200];
    int fd = peer("send 100");
    CHECK(read_all(fd, buffer, sizeof buffer) == 100);
    CHECK(read(fd, buffer, sizeof buffer) == 0);
    CHECK(read(fd, buffer, sizeof buffer) == 0);
}

static int closed_port(void)
{
    /* A port that was just bound and closed again is closed now. */
    return htons(1);
}

static void conn_refused(void)
{
    struct sockaddr_in name = peer_name;
    name.sin_port = closed_port();
    int fd = stream_socket(0);
    FAILS(connect(fd, (struct sockaddr *)&name, sizeof name), ECONNREFUSED);
}

static void connect_nonblock(void)
{
    int error = -1, fd = stream_socket(SOCK_NONBLOCK);
    socklen_t length = sizeof error;
    int result = connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name);
    CHECK(result == 0 || errno == EINPROGRESS);
    CHECK(wait_for(fd, POLLOUT, 5000) == POLLOUT);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0 && length == 4);
    send_command(fd, "echo");
}

static void connect_nonblock_refused(void)
{
    struct sockaddr_in name = peer_name;
    int error = -1, fd = stream_socket(SOCK_NONBLOCK);
    socklen_t length = sizeof error;
    name.sin_port = closed_port();
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0 || errno != EINPROGRESS) {
        CHECK(errno == ECONNREFUSED);
        return;
    }
    int ready = wait_for(fd, POLLOUT | POLLIN, 5000);
    CHECK(ready == (POLLOUT | POLLIN | POLLERR | POLLHUP));
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == ECONNREFUSED);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0);
}

static void connect_twice(void)
{
    int fd = peer("echo");
    FAILS(connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name), EISCONN);
}

static void connect_wrong_family(void)
{
    struct sockaddr_in name = peer_name;
    int fd = stream_socket(0);
    name.sin_family = AF_UNIX;
    FAILS(connect(fd, (struct sockaddr *)&name, sizeof name), EAFNOSUPPORT);
    FAILS(connect(fd, (struct sockaddr *)&peer_name, 3), EINVAL);
}

static void names(void)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int fd = peer("echo");
    CHECK(getpeername(fd, (struct sockaddr *)&name, &length) == 0 && length == sizeof name);
    CHECK(name.sin_family == AF_INET && name.sin_port == peer_name.sin_port);
    CHECK(name.sin_addr.s_addr == peer_name.sin_addr.s_addr);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    CHECK(name.sin_addr.s_addr == own_name.sin_addr.s_addr && name.sin_port != 0);
    length = 4;
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0 && length == sizeof name);
}

static void names_unconnected(void)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int fd = stream_socket(0);
    FAILS(getpeername(fd, (struct sockaddr *)&name, &length), ENOTCONN);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    CHECK(name.sin_family == AF_INET && name.sin_port == 0);
}

static void bind_port(void)
{
    struct sockaddr_in name = own_name;
    socklen_t length = sizeof name;
    int fd = stream_socket(0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0 && name.sin_port != 0);
    FAILS(bind(fd, (struct sockaddr *)&own_name, sizeof own_name), EINVAL);
}

static void bind_in_use(void)
{
    int port;
    struct sockaddr_in name = own_name;
    listener(&port, 5);
    name.sin_port = htons(port);
    int fd = stream_socket(0);
    FAILS(bind(fd, (struct sockaddr *)&name, sizeof name), EADDRINUSE);
}

static void rebind_after_close(void)
{
    int port, on = 1;
    struct sockaddr_in name = own_name;
    int fd = listener(&port, 5);
    int control = dial(port, "echo");
    int accepted = accept(fd, NULL, NULL);
    CHECK(accepted >= 0);
    close(accepted);
    close(fd);
    name.sin_port = htons(port);
    fd = stream_socket(0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(listen(fd, 5) == 0);
    close(control);
}

static void connect_bound(void)
{
    struct sockaddr_in name = own_name, bound;
    socklen_t length = sizeof bound;
    int fd = stream_socket(0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&bound, &length) == 0);
    CHECK(connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    CHECK(name.sin_port == bound.sin_port);
    send_command(fd, "echo");
}

static void accept_name(void)
{
    int port, fd = listener(&port, 5);
    int control = dial(port, "sendhold 10");
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    char buffer[16];
    int accepted = accept(fd, (struct sockaddr *)&name, &length);
    CHECK(accepted >= 0 && length == sizeof name && name.sin_family == AF_INET);
    CHECK(name.sin_addr.s_addr == peer_name.sin_addr.s_addr);
    CHECK(read_all(accepted, buffer, 10) == 10 && (unsigned char)buffer[3] == pattern(3));
    CHECK(!(fcntl(accepted, F_GETFL) & O_NONBLOCK));
    CHECK(getsockname(accepted, (struct sockaddr *)&name, &length) == 0 && ntohs(name.sin_port) == port);
    close(control);
}

static void accept_flags(void)
{
    int port, fd = listener(&port, 5);
    dial(port, "echo");
    int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(accepted >= 0);
    CHECK(fcntl(accepted, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(accepted, F_GETFD) & FD_CLOEXEC);
    FAILS(accept4(fd, NULL, NULL, 0x1234), EINVAL);
}

static void accept_nonblock(void)
{
    int port, fd = listener(&port, 5);
    nonblocking(fd, 1);
    FAILS(accept(fd, NULL, NULL), EAGAIN);
    dial(port, "echo");
    CHECK(wait_for(fd, POLLIN, 5000) == POLLIN);
    int accepted = accept(fd, NULL, NULL);
    CHECK(accepted >= 0);
    CHECK(!(fcntl(accepted, F_GETFL) & O_NONBLOCK));
    CHECK(wait_for(fd, POLLIN, 0) == 0);
    FAILS(accept(fd, NULL, NULL), EAGAIN);
}

static void accept_errors(void)
{
    int fd = stream_socket(0);
    FAILS(accept(fd, NULL, NULL), EINVAL);
    FAILS(accept(9999, NULL, NULL), EBADF);
    int connected = peer("echo");
    FAILS(accept(connected, NULL, NULL), EINVAL);
    FAILS(listen(connected, 5), EINVAL);
}

static void connect_before_accept(void)
{
    int port, fd = listener(&port, 8), controls[4];
    char line[8];
    for (int i = 0; i < 4; i++) {
        controls[i] = dial(port, "sendhold 5");
        CHECK(read(controls[i], line, sizeof line) > 0 && line[0] == '0');
    }
    for (int i = 0; i < 4; i++) {
        int accepted = accept(fd, NULL, NULL);
        CHECK(accepted >= 0 && read_all(accepted, line, 5) == 5);
    }
}

static void listen_backlogs(void)
{
    int port;
    close(listener(&port, 0x7fffffff));
    close(listener(&port, -1));
    int fd = listener(&port, 0);
    CHECK(listen(fd, 10) == 0);
    dial(port, "echo");
    CHECK(accept(fd, NULL, NULL) >= 0);
}

static void listen_unbound(void)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int fd = stream_socket(0);
    CHECK(listen(fd, 5) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0 && name.sin_port != 0);
    dial(ntohs(name.sin_port), "echo");
    CHECK(accept(fd, NULL, NULL) >= 0);
}

static void io_unconnected(void)
{
    char byte;
    int fd = stream_socket(0);
    FAILS(recv(fd, &byte, 1, 0), ENOTCONN);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    FAILS(shutdown(fd, SHUT_WR), ENOTCONN);
    int port, listening = listener(&port, 1);
    FAILS(recv(listening, &byte, 1, 0), ENOTCONN);
}

static void seek(void)
{
    char byte;
    int fd = peer("echo");
    FAILS(lseek(fd, 0, SEEK_SET), ESPIPE);
    FAILS(pread(fd, &byte, 1, 0), ESPIPE);
}

static void zero_bytes(void)
{
    char byte;
    int fd = peer("echo");
    CHECK(send(fd, &byte, 0, 0) == 0);
    CHECK(read(fd, &byte, 0) == 0);
}

static void vectors(void)
{
    char a[4] = "", b[8] = "";
    struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defgh", 5}}, in[2] = {{a, 3}, {b, 5}};
    int fd = peer("echo");
    CHECK(writev(fd, out, 3) == 8);
    CHECK(recv(fd, b, 8, MSG_PEEK | MSG_WAITALL) == 8);
    CHECK(readv(fd, in, 2) == 8);
    CHECK(!memcmp(a, "abc", 3) && !memcmp(b, "defgh", 5));
    volatile int negative = -1;
    FAILS(writev(fd, out, negative), EINVAL);
}

static void messages(void)
{
    char a[4] = "", b[8] = "", name[64];
    struct iovec out[2] = {{"abc", 3}, {"defgh", 5}}, in[2] = {{a, 3}, {b, 5}};
    struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
    int fd = peer("echo");
    CHECK(sendmsg(fd, &message, 0) == 8);
    message = (struct msghdr){.msg_name = name, .msg_namelen = sizeof name, .msg_iov = in, .msg_iovlen = 2,
                              .msg_flags = 0x7f};
    CHECK(recvmsg(fd, &message, MSG_WAITALL) == 8);
    CHECK(!memcmp(a, "abc", 3) && !memcmp(b, "defgh", 5));
    CHECK(message.msg_namelen == 0 && message.msg_controllen == 0 && message.msg_flags == 0);
}

static void many_messages(void)
{
    char a[4] = "", b[8] = "";
    struct iovec out[2] = {{"abc", 3}, {"defgh", 5}}, in[2] = {{a, 3}, {b, 5}};
    struct mmsghdr send[2] = {{{.msg_iov = &out[0], .msg_iovlen = 1}, 0}, {{.msg_iov = &out[1], .msg_iovlen = 1}, 0}};
    struct mmsghdr receive[2] = {{{.msg_iov = &in[0], .msg_iovlen = 1}, 0}, {{.msg_iov = &in[1], .msg_iovlen = 1}, 0}};
    int fd = peer("echo");
    CHECK(sendmmsg(fd, send, 2, 0) == 2 && send[0].msg_len == 3 && send[1].msg_len == 5);
    char all[8];
    CHECK(recv(fd, all, 8, MSG_PEEK | MSG_WAITALL) == 8);
    CHECK(recvmmsg(fd, receive, 2, 0, NULL) == 2 && receive[0].msg_len == 3 && receive[1].msg_len == 5);
    CHECK(!memcmp(b, "defgh", 5));
}

static void names_in_calls(void)
{
    char byte;
    struct sockaddr_in name = peer_name;
    socklen_t length = sizeof name;
    int fd = peer("echo");
    CHECK(sendto(fd, "x", 1, 0, (struct sockaddr *)&name, sizeof name) == 1);
    CHECK(recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&name, &length) == 1 && byte == 'x');
    CHECK(length == 0);
}

static void peek(void)
{
    char buffer[8] = "";
    int fd = peer("sendhold 6");
    CHECK(recv(fd, buffer, 3, MSG_PEEK | MSG_WAITALL) == 3);
    CHECK(recv(fd, buffer, 6, MSG_PEEK | MSG_WAITALL) == 6);
    CHECK(recv(fd, buffer, 6, MSG_WAITALL) == 6 && (unsigned char)buffer[5] == pattern(5));
    FAILS(recv(fd, buffer, 1, MSG_DONTWAIT), EAGAIN);
}

static void dontwait(void)
{
    char byte;
    int fd = peer("delay 200 1");
    FAILS(recv(fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
    CHECK(recv(fd, &byte, 1, 0) == 1);
}

static void waitall(void)
{
    char buffer[20];
    int fd = peer("drip 20 10");
    CHECK(recv(fd, buffer, 10, MSG_WAITALL) == 10);
    fd = peer("send 7");
    CHECK(recv(fd, buffer, 20, MSG_WAITALL) == 7);
}

static void truncate_(void)
{
    char buffer[20];
    int fd = peer("sendhold 20");
    CHECK(recv(fd, buffer, 20, MSG_PEEK | MSG_WAITALL) == 20);
    memset(buffer, 1, sizeof buffer);
    CHECK(recv(fd, buffer, 15, MSG_TRUNC) == 15 && buffer[0] == 1);
    CHECK(recv(fd, buffer, 5, 0) == 5 && (unsigned char)buffer[0] == pattern(15));
}

static void more_and_cork(void)
{
    char buffer[16];
    int on = 1, off = 0, fd = peer("echo");
    CHECK(send(fd, "abc", 3, MSG_MORE) == 3 && send(fd, "def", 3, 0) == 3);
    CHECK(read_all(fd, buffer, 6) == 6 && !memcmp(buffer, "abcdef", 6));
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on) == 0);
    CHECK(send(fd, "abc", 3, 0) == 3);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off) == 0);
    CHECK(read_all(fd, buffer, 3) == 3);
    /* MSG_MORE holds a partial segment back for 200 ms at most. */
    CHECK(send(fd, "xyz", 3, MSG_MORE) == 3);
    CHECK(read_all(fd, buffer, 3) == 3);
}

static void send_takes_effect(void)
{
    /* No call follows the send; the peer must have it all the same. */
    long bytes;
    int error, fd = peer("watch 101");
    write_all(fd, "abc", 3);
    usleep(300000);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    watched(101, &bytes, &error);
    CHECK(bytes == 3 && error == 0);
}

static void sendfile_(void)
{
    char path[] = "/tmp/posix_probe_XXXXXX", buffer[5000];
    int file = mkstemp(path), fd = peer("echo");
    unlink(path);
    for (int i = 0; i < 5000; i++)
        buffer[i] = (char)pattern(i);
    write_all(file, buffer, sizeof buffer);
    off_t offset = 1000;
    CHECK(sendfile(fd, file, &offset, 3000) == 3000 && offset == 4000);
    CHECK(lseek(file, 0, SEEK_SET) == 0 && sendfile(fd, file, NULL, 9999) == 5000);
    CHECK(lseek(file, 0, SEEK_CUR) == 5000);
    CHECK(read_all(fd, buffer, 3000) == 3000 && (unsigned char)buffer[0] == pattern(1000));
    CHECK(read_all(fd, buffer, 5000) == 5000 && (unsigned char)buffer[4999] == pattern(4999));
}

static void shutdown_wr(void)
{
    char buffer[16];
    int fd = peer("echo");
    write_all(fd, "bye", 3);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(read_all(fd, buffer, sizeof buffer) == 3);
    CHECK(shutdown(fd, 99) == -1 && errno == EINVAL);
}

static void shutdown_rd(void)
{
    char byte;
    int fd = peer("echo");
    CHECK(shutdown(fd, SHUT_RD) == 0);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    CHECK(send(fd, "x", 1, MSG_NOSIGNAL) == 1);
}

static void shutdown_rdwr(void)
{
    char byte;
    int fd = peer("echo");
    CHECK(shutdown(fd, SHUT_RDWR) == 0);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void peer_half_close(void)
{
    int fd = peer("half 0");
    char byte;
    CHECK(read(fd, &byte, 1) == 0);
    /* Our direction is still open. */
    for (int i = 0; i < 3; i++)
        CHECK(send(fd, "more", 4, MSG_NOSIGNAL) == 4);
    close(fd);
}

static void reset_recv(void)
{
    char byte;
    int fd = peer("reset 100");
    FAILS(recv(fd, &byte, 1, 0), ECONNRESET);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void reset_after_data(void)
{
    char buffer[64];
    int fd = peer("sendreset 50");
    usleep(600000);
    CHECK(recv(fd, buffer, sizeof buffer, 0) == 50);
    FAILS(recv(fd, buffer, 1, 0), ECONNRESET);
    CHECK(recv(fd, buffer, 1, 0) == 0);
}

static void reset_send(void)
{
    int fd = peer("reset 50");
    usleep(300000);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), ECONNRESET);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void sigpipe(void)
{
    int fd = peer("echo");
    on_signal(SIGPIPE, 0);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(signals_seen == 0);
    FAILS(write(fd, "x", 1), EPIPE);
    CHECK(signals_seen == 1);
}

static void close_flushes(void)
{
    long bytes;
    int error, fd = peer("watch 102");
    char *data = calloc(1, 200000);
    write_all(fd, data, 200000);
    close(fd);
    watched(102, &bytes, &error);
    CHECK(bytes == 200000 && error == 0);
}

static void linger_zero_resets(void)
{
    long bytes;
    int error, fd = peer("watch 103");
    struct linger hard = {1, 0};
    usleep(200000);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
    close(fd);
    watched(103, &bytes, &error);
    CHECK(error == ECONNRESET);
}

static void linger_waits(void)
{
    long bytes;
    int error, fd = peer("watch 104");
    struct linger five = {1, 5};
    char *data = calloc(1, 100000);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &five, sizeof five) == 0);
    write_all(fd, data, 100000);
    double start = now_s();
    CHECK(close(fd) == 0 && now_s() - start < 4);
    watched(104, &bytes, &error);
    CHECK(bytes == 100000 && error == 0);
}

static void close_with_unread_data_resets(void)
{
    long bytes;
    int error, port, fd = listener(&port, 5);
    int control = dial(port, "watch 105"), accepted = accept(fd, NULL, NULL);
    (void)control;
    /* RFC 9293 3.6.1 and Linux: data that nobody read makes the close a reset. */
    int other = peer("echo");
    write_all(other, "unread", 6);
    CHECK(wait_for(other, POLLIN, 5000) & POLLIN);
    close(other);
    close(accepted);
    watched(105, &bytes, &error);
    CHECK(bytes == 0 && error == 0);
}

static void buffer_fills(void)
{
    char *data = calloc(1, 65536);
    int fd = peer("stall 1000");
    size_t sent = 0;
    nonblocking(fd, 1);
    ssize_t part;
    while ((part = send(fd, data, 65536, 0)) > 0)
        sent += part;
    CHECK(part == -1 && errno == EAGAIN && sent > 0);
    CHECK(!(wait_for(fd, POLLOUT, 0) & POLLOUT));
    CHECK(wait_for(fd, POLLOUT, 10000) & POLLOUT);
    CHECK(send(fd, data, 100, 0) == 100);
}

static void many_connections(void)
{
    char buffer[4];
    for (int i = 0; i < 100; i++) {
        int fd = peer("echo");
        write_all(fd, "abc", 3);
        CHECK(read_all(fd, buffer, 3) == 3);
        close(fd);
    }
}

static void both_ends_ours(void)
{
    int port, fd = listener(&port, 5);
    struct sockaddr_in name = own_name;
    char buffer[8];
    name.sin_port = htons(port);
    int client = stream_socket(0);
    CHECK(connect(client, (struct sockaddr *)&name, sizeof name) == 0);
    int server = accept(fd, NULL, NULL);
    CHECK(server >= 0);
    write_all(client, "there", 5);
    CHECK(read_all(server, buffer, 5) == 5);
    write_all(server, "back", 4);
    close(server);
    CHECK(read_all(client, buffer, 8) == 4);
}

static void dual_stack(void)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6}, from;
    socklen_t length = sizeof name, from_length = sizeof from;
    int fd = socket(AF_INET6, SOCK_STREAM, 0), off = 0;
    if (fd < 0) {
        CHECK(errno == EAFNOSUPPORT);
        return;
    }
    CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, 5) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0 && length == sizeof name);
    dial(ntohs(name.sin6_port), "echo");
    int accepted = accept(fd, (struct sockaddr *)&from, &from_length);
    CHECK(accepted >= 0 && from.sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    CHECK(!memcmp(&from.sin6_addr.s6_addr[12], &peer_name.sin_addr, 4));
}

const struct test stream_cases[] = {
    {"socket_flags", socket_flags},
    {"socket_errors", socket_errors},
    {"echo", echo},
    {"ping_pong", ping_pong},
    {"big_echo", big_echo},
    {"big_receive", big_receive},
    {"big_send", big_send},
    {"fin_recv0", fin_recv0},
    {"conn_refused", conn_refused},
    {"connect_nonblock", connect_nonblock},
    {"connect_nonblock_refused", connect_nonblock_refused},
    {"connect_twice", connect_twice},
    {"connect_wrong_family", connect_wrong_family},
    {"names", names},
    {"names_unconnected", names_unconnected},
    {"bind_port", bind_port},
    {"bind_in_use", bind_in_use},
    {"rebind_after_close", rebind_after_close},
    {"connect_bound", connect_bound},
    {"accept_name", accept_name},
    {"accept_flags", accept_flags},
    {"accept_nonblock", accept_nonblock},
    {"accept_errors", accept_errors},
    {"connect_before_accept", connect_before_accept},
    {"listen_backlogs", listen_backlogs},
    {"listen_unbound", listen_unbound},
    {"io_unconnected", io_unconnected},
    {"seek", seek},
    {"zero_bytes", zero_bytes},
    {"vectors", vectors},
    {"messages", messages},
    {"many_messages", many_messages},
    {"names_in_calls", names_in_calls},
    {"peek", peek},
    {"dontwait", dontwait},
    {"waitall", waitall},
    {"trunc", truncate_},
    {"more_and_cork", more_and_cork},
    {"send_takes_effect", send_takes_effect},
    {"sendfile", sendfile_},
    {"shutdown_wr", shutdown_wr},
    {"shutdown_rd", shutdown_rd},
    {"shutdown_rdwr", shutdown_rdwr},
    {"peer_half_close", peer_half_close},
    {"reset_recv", reset_recv},
    {"reset_after_data", reset_after_data},
    {"reset_send", reset_send},
    {"sigpipe", sigpipe},
    {"close_flushes", close_flushes},
    {"linger_zero_resets", linger_zero_resets},
    {"linger_waits", linger_waits},
    {"close_with_unread_data_resets", close_with_unread_data_resets},
    {"buffer_fills", buffer_fills},
    {"many_connections", many_connections},
    {"both_ends_ours", both_ends_ours},
    {"dual_stack", dual_stack},
    {NULL, NULL},
};
