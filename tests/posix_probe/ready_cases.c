// SPDX-License-Identifier: MIT OR Apache-2.0
/* poll, select, epoll. */
#include "probe.h"

static int epoll(void)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epfd >= 0);
    return epfd;
}

static void add(int epfd, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void modify(int epfd, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event) == 0);
}

/* The events of the only descriptor that is ready, or 0. */
static uint32_t once(int epfd, int timeout_ms)
{
    struct epoll_event events[4];
    int count = epoll_wait(epfd, events, 4, timeout_ms);
    CHECK(count == 0 || count == 1);
    return count ? events[0].events : 0;
}

static void poll_events(void)
{
    char buffer[64];
    int fd = peer("delay 200 10");
    CHECK(wait_for(fd, POLLIN | POLLOUT, 0) == POLLOUT);
    double start = now_s();
    CHECK(wait_for(fd, POLLIN, 100) == 0 && now_s() - start >= 0.099);
    CHECK(wait_for(fd, POLLIN | POLLOUT | POLLRDNORM, 5000) & POLLOUT);
    CHECK(wait_for(fd, POLLIN, 5000) == POLLIN);
    CHECK(wait_for(fd, POLLIN | POLLRDNORM, 5000) == (POLLIN | POLLRDNORM));
    CHECK(read_all(fd, buffer, 10) == 10);
    CHECK(wait_for(fd, POLLIN, 0) == 0);
}

static void poll_end(void)
{
    char byte;
    int fd = peer("finish 100");
    CHECK(wait_for(fd, POLLIN | POLLRDHUP, 5000) == (POLLIN | POLLRDHUP));
    CHECK(read(fd, &byte, 1) == 0);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK(wait_for(fd, POLLIN | POLLRDHUP | POLLOUT, 5000) == (POLLIN | POLLRDHUP | POLLOUT | POLLHUP));
}

static void poll_reset(void)
{
    int fd = peer("reset 100");
    CHECK(wait_for(fd, POLLIN, 5000) == (POLLIN | POLLERR | POLLHUP));
    CHECK(wait_for(fd, POLLIN | POLLOUT | POLLRDHUP, 0) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
}

static void poll_fresh(void)
{
    int fd = stream_socket(0);
    CHECK(wait_for(fd, POLLIN | POLLOUT, 0) == (POLLOUT | POLLHUP));
}

static void poll_invalid(void)
{
    int fd = peer("echo");
    close(fd);
    CHECK(wait_for(fd, POLLIN, 0) == POLLNVAL);
    struct pollfd none = {.fd = -1, .events = POLLIN};
    CHECK(poll(&none, 1, 0) == 0);
}

static void poll_mixed(void)
{
    int pipes[2], fd = peer("delay 300 1"), other = peer("echo");
    CHECK(pipe(pipes) == 0);
    struct pollfd set[4] = {{fd, POLLIN, 0}, {pipes[0], POLLIN, 0}, {-1, POLLIN, 0}, {other, POLLIN, 0}};
    CHECK(poll(set, 4, 0) == 0);
    CHECK(poll(set, 4, 5000) == 1 && set[0].revents == POLLIN && set[1].revents == 0);
    CHECK(write(pipes[1], "x", 1) == 1);
    CHECK(poll(set, 4, 5000) == 2 && set[0].revents == POLLIN && set[1].revents == POLLIN);
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
    CHECK(poll(set, 4, 5000) == 1 && set[1].revents == POLLIN);
}

static void *write_later(void *argument)
{
    usleep(100000);
    CHECK(write(*(int *)argument, "x", 1) == 1);
    return NULL;
}

static void poll_wakes_for_kernel(void)
{
    int pipes[2], fd = peer("echo");
    pthread_t thread;
    CHECK(pipe(pipes) == 0);
    CHECK(pthread_create(&thread, NULL, write_later, &pipes[1]) == 0);
    struct pollfd set[2] = {{fd, POLLIN, 0}, {pipes[0], POLLIN, 0}};
    CHECK(poll(set, 2, 5000) == 1 && set[1].revents == POLLIN && set[0].revents == 0);
    pthread_join(thread, NULL);
}

static void poll_interrupted(void)
{
    int fd = peer("echo");
    struct pollfd set = {fd, POLLIN, 0};
    on_signal(SIGUSR1, SA_RESTART);
    alarm_ms(100);
    FAILS(poll(&set, 1, 5000), EINTR);
    CHECK(signals_seen == 1);
}

static void ppoll_mask(void)
{
    sigset_t block, none;
    struct timespec limit = {5, 0};
    int fd = peer("echo");
    struct pollfd set = {fd, POLLIN, 0};
    on_signal(SIGUSR1, 0);
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    CHECK(signals_seen == 0);
    FAILS(ppoll(&set, 1, &limit, &none), EINTR);
    CHECK(signals_seen == 1);
}

static void select_(void)
{
    fd_set in, out, except;
    struct timeval limit = {0, 100000};
    int fd = peer("delay 300 1");
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    FD_SET(fd, &in);
    FD_SET(fd, &out);
    FD_SET(fd, &except);
    CHECK(select(fd + 1, &in, &out, &except, &limit) == 1);
    CHECK(!FD_ISSET(fd, &in) && FD_ISSET(fd, &out) && !FD_ISSET(fd, &except));
    FD_SET(fd, &in);
    limit = (struct timeval){0, 50000};
    CHECK(select(fd + 1, &in, NULL, NULL, &limit) == 0 && !FD_ISSET(fd, &in));
    CHECK(limit.tv_sec == 0 && limit.tv_usec == 0);
    FD_SET(fd, &in);
    CHECK(select(fd + 1, &in, NULL, NULL, NULL) == 1 && FD_ISSET(fd, &in));
    close(fd);
    FD_SET(fd, &in);
    FAILS(select(fd + 1, &in, NULL, NULL, NULL), EBADF);
}

static void pselect_(void)
{
    sigset_t block, none;
    fd_set in;
    struct timespec limit = {5, 0};
    int fd = peer("echo");
    on_signal(SIGUSR1, 0);
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    FD_ZERO(&in);
    FD_SET(fd, &in);
    FAILS(pselect(fd + 1, &in, NULL, NULL, &limit, &none), EINTR);
    CHECK(signals_seen == 1 && limit.tv_sec == 5);
}

static void epoll_level(void)
{
    char buffer[10];
    int epfd = epoll(), fd = peer("sendhold 10");
    add(epfd, fd, EPOLLIN, 7);
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, 5000) == 1 && event.events == EPOLLIN && event.data.u64 == 7);
    CHECK(once(epfd, 0) == EPOLLIN);
    CHECK(recv(fd, buffer, 10, MSG_WAITALL) == 10);
    CHECK(once(epfd, 0) == 0);
    modify(epfd, fd, EPOLLIN | EPOLLOUT, 8);
    CHECK(once(epfd, 0) == EPOLLOUT);
}

static void epoll_edge(void)
{
    char buffer[16];
    int epfd = epoll(), fd = peer("echo");
    add(epfd, fd, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, 7);
    CHECK(once(epfd, 1000) == EPOLLOUT);
    CHECK(once(epfd, 0) == 0);
    write_all(fd, "abc", 3);
    CHECK(once(epfd, 5000) & EPOLLIN);
    CHECK(once(epfd, 0) == 0);
    /* New data is a new edge, though the old was not read. */
    write_all(fd, "def", 3);
    CHECK(once(epfd, 5000) & EPOLLIN);
    CHECK(recv(fd, buffer, 6, MSG_WAITALL) == 6);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    uint32_t seen = 0;
    for (int i = 0; i < 10 && !(seen & EPOLLHUP); i++)
        seen |= once(epfd, 1000);
    CHECK((seen & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) == (EPOLLIN | EPOLLRDHUP | EPOLLHUP));
}

static void epoll_edge_output(void)
{
    char *data = calloc(1, 65536);
    int epfd = epoll(), fd = peer("stall 500");
    nonblocking(fd, 1);
    add(epfd, fd, EPOLLOUT | EPOLLET, 7);
    CHECK(once(epfd, 1000) == EPOLLOUT);
    while (send(fd, data, 65536, 0) > 0)
        ;
    CHECK(errno == EAGAIN);
    CHECK(once(epfd, 10000) == EPOLLOUT);
    CHECK(send(fd, data, 1, 0) == 1);
}

static void epoll_oneshot(void)
{
    int epfd = epoll(), fd = peer("sendhold 10");
    add(epfd, fd, EPOLLIN | EPOLLONESHOT, 7);
    CHECK(once(epfd, 5000) == EPOLLIN);
    CHECK(once(epfd, 50) == 0);
    modify(epfd, fd, EPOLLIN | EPOLLONESHOT, 7);
    CHECK(once(epfd, 1000) == EPOLLIN);
    CHECK(once(epfd, 0) == 0);
}

static void epoll_errors(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epfd = epoll(), fd = peer("echo"), closed = peer("echo");
    close(closed);
    FAILS(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event), ENOENT);
    FAILS(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, &event), ENOENT);
    add(epfd, fd, EPOLLIN, 0);
    FAILS(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), EEXIST);
    FAILS(epoll_ctl(epfd, EPOLL_CTL_ADD, closed, &event), EBADF);
    FAILS(epoll_ctl(fd, EPOLL_CTL_ADD, epfd, &event), EINVAL);
    FAILS(epoll_ctl(epfd, EPOLL_CTL_ADD, epfd, &event), EINVAL);
    FAILS(epoll_ctl(epfd, 77, fd, &event), EINVAL);
    FAILS(epoll_wait(epfd, &event, 0, 0), EINVAL);
    FAILS(epoll_wait(fd, &event, 1, 0), EINVAL);
    CHECK(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) == 0);
    int copy = dup(fd);
    add(epfd, fd, EPOLLIN, 1);
    add(epfd, copy, EPOLLIN, 2);
}

static void epoll_hang_up(void)
{
    int epfd = epoll(), fd = peer("finish 100");
    add(epfd, fd, EPOLLIN | EPOLLRDHUP, 7);
    CHECK(once(epfd, 5000) == (EPOLLIN | EPOLLRDHUP));
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK(once(epfd, 1000) & EPOLLHUP);
    int other = epoll();
    fd = peer("reset 100");
    add(other, fd, 0, 7);
    CHECK(once(other, 5000) == (EPOLLERR | EPOLLHUP));
}

static void epoll_listener(void)
{
    int port, epfd = epoll(), fd = listener(&port, 10);
    nonblocking(fd, 1);
    add(epfd, fd, EPOLLIN | EPOLLEXCLUSIVE, 9);
    CHECK(once(epfd, 0) == 0);
    dial(port, "echo");
    CHECK(once(epfd, 5000) == EPOLLIN);
    CHECK(accept(fd, NULL, NULL) >= 0);
    CHECK(once(epfd, 0) == 0);
    dial(port, "echo");
    CHECK(once(epfd, 5000) == EPOLLIN);
    CHECK(accept(fd, NULL, NULL) >= 0);
}

static void epoll_connect(void)
{
    int epfd = epoll(), fd = stream_socket(SOCK_NONBLOCK);
    int result = connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name);
    CHECK(result == 0 || errno == EINPROGRESS);
    add(epfd, fd, EPOLLIN | EPOLLOUT | EPOLLET, 3);
    CHECK(once(epfd, 5000) == EPOLLOUT);
    send_command(fd, "sendhold 5");
    CHECK(once(epfd, 5000) & EPOLLIN);
}

static void epoll_before_connect(void)
{
    int epfd = epoll(), fd = stream_socket(SOCK_NONBLOCK);
    add(epfd, fd, EPOLLIN | EPOLLOUT, 3);
    CHECK(once(epfd, 0) == (EPOLLOUT | EPOLLHUP));
    int result = connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name);
    CHECK(result == 0 || errno == EINPROGRESS);
    CHECK(once(epfd, 5000) == EPOLLOUT);
}

static void epoll_mixed(void)
{
    struct epoll_event events[8];
    int pipes[2], epfd = epoll(), fd = peer("sendhold 1"), idle = peer("echo");
    CHECK(pipe(pipes) == 0);
    add(epfd, fd, EPOLLIN, 1);
    add(epfd, pipes[0], EPOLLIN, 2);
    add(epfd, idle, EPOLLIN, 3);
    CHECK(wait_for(fd, POLLIN, 5000) == POLLIN);
    CHECK(write(pipes[1], "x", 1) == 1);
    /* Both come, in one call or in a few. */
    unsigned seen = 0;
    for (int i = 0; i < 100 && seen != 6; i++) {
        int count = epoll_wait(epfd, events, 8, 1000);
        for (int j = 0; j < count; j++)
            seen |= 1u << events[j].data.u64;
    }
    CHECK(seen == 6);
}

static void epoll_wakes_for_kernel(void)
{
    int pipes[2], epfd = epoll(), fd = peer("echo");
    pthread_t thread;
    CHECK(pipe(pipes) == 0);
    add(epfd, fd, EPOLLIN, 1);
    add(epfd, pipes[0], EPOLLIN, 2);
    CHECK(pthread_create(&thread, NULL, write_later, &pipes[1]) == 0);
    CHECK(once(epfd, 5000) == EPOLLIN);
    pthread_join(thread, NULL);
}

static void epoll_nested(void)
{
    int outer = epoll(), inner = epoll(), fd = peer("delay 200 1");
    add(inner, fd, EPOLLIN, 1);
    add(outer, inner, EPOLLIN, 2);
    CHECK(once(outer, 0) == 0);
    CHECK(wait_for(inner, POLLIN, 0) == 0);
    CHECK(once(outer, 5000) == EPOLLIN);
    CHECK(wait_for(inner, POLLIN, 5000) == POLLIN);
    CHECK(once(inner, 0) == EPOLLIN);
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
    CHECK(once(outer, 0) == 0);
    CHECK(wait_for(inner, POLLIN, 0) == 0);
}

static void epoll_close(void)
{
    int epfd = epoll(), fd = peer("sendhold 1");
    add(epfd, fd, EPOLLIN, 1);
    CHECK(once(epfd, 5000) == EPOLLIN);
    close(fd);
    CHECK(once(epfd, 50) == 0);
    /* The number may come back and be added anew. */
    int again = peer("sendhold 1");
    add(epfd, again, EPOLLIN, 2);
    CHECK(once(epfd, 5000) == EPOLLIN);
}

static void epoll_timeout(void)
{
    int epfd = epoll(), fd = peer("echo");
    add(epfd, fd, EPOLLIN, 1);
    double start = now_s();
    CHECK(once(epfd, 150) == 0);
    CHECK(now_s() - start >= 0.149 && now_s() - start < 2);
    struct epoll_event event;
    struct timespec limit = {0, 50000000};
    start = now_s();
    CHECK(epoll_pwait2(epfd, &event, 1, &limit, NULL) == 0);
    CHECK(now_s() - start >= 0.049 && now_s() - start < 2);
}

static void epoll_interrupted(void)
{
    int epfd = epoll(), fd = peer("echo");
    struct epoll_event event;
    add(epfd, fd, EPOLLIN, 1);
    on_signal(SIGUSR1, SA_RESTART);
    alarm_ms(100);
    FAILS(epoll_wait(epfd, &event, 1, 5000), EINTR);
}

static void epoll_mask(void)
{
    sigset_t block, none;
    struct epoll_event event;
    int epfd = epoll(), fd = peer("echo");
    add(epfd, fd, EPOLLIN, 1);
    on_signal(SIGUSR1, 0);
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    CHECK(epoll_wait(epfd, &event, 1, 50) == 0 && signals_seen == 0);
    FAILS(epoll_pwait(epfd, &event, 1, 5000, &none), EINTR);
    CHECK(signals_seen == 1);
}

struct adding {
    int epfd, fd;
};

static void *add_later(void *argument)
{
    struct adding *adding = argument;
    usleep(200000);
    add(adding->epfd, adding->fd, EPOLLIN, 5);
    return NULL;
}

/* A thread inside epoll_wait learns of a socket that another adds. */
static void epoll_added_while_waiting(void)
{
    struct adding adding = {epoll(), peer("delay 600 1")};
    pthread_t thread;
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    add(adding.epfd, pipes[0], EPOLLIN, 4);
    CHECK(pthread_create(&thread, NULL, add_later, &adding) == 0);
    struct epoll_event event;
    CHECK(epoll_wait(adding.epfd, &event, 1, 8000) == 1 && event.data.u64 == 5);
    pthread_join(thread, NULL);
}

static void *wait_one(void *argument)
{
    struct epoll_event event;
    return (void *)(intptr_t)(epoll_wait(*(int *)argument, &event, 1, 8000) == 1);
}

static void epoll_many_threads(void)
{
    int epfd = epoll(), fds[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = peer("delay 400 1");
        add(epfd, fds[i], EPOLLIN | EPOLLET, i);
    }
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_one, &epfd) == 0);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        CHECK(result);
    }
}

const struct test ready_cases[] = {
    {"poll_events", poll_events},
    {"poll_end", poll_end},
    {"poll_reset", poll_reset},
    {"poll_fresh", poll_fresh},
    {"poll_invalid", poll_invalid},
    {"poll_mixed", poll_mixed},
    {"poll_wakes_for_kernel", poll_wakes_for_kernel},
    {"poll_interrupted", poll_interrupted},
    {"ppoll_mask", ppoll_mask},
    {"select", select_},
    {"pselect", pselect_},
    {"epoll_level", epoll_level},
    {"epoll_edge", epoll_edge},
    {"epoll_edge_output", epoll_edge_output},
    {"epoll_oneshot", epoll_oneshot},
    {"epoll_errors", epoll_errors},
    {"epoll_hang_up", epoll_hang_up},
    {"epoll_listener", epoll_listener},
    {"epoll_connect", epoll_connect},
    {"epoll_before_connect", epoll_before_connect},
    {"epoll_mixed", epoll_mixed},
    {"epoll_wakes_for_kernel", epoll_wakes_for_kernel},
    {"epoll_nested", epoll_nested},
    {"epoll_close", epoll_close},
    {"epoll_timeout", epoll_timeout},
    {"epoll_interrupted", epoll_interrupted},
    {"epoll_mask", epoll_mask},
    {"epoll_added_while_waiting", epoll_added_while_waiting},
    {"epoll_many_threads", epoll_many_threads},
    {NULL, NULL},
};
