// SPDX-License-Identifier: MIT OR Apache-2.0
/* Descriptors, threads, signals, children. */
#include "probe.h"
#include <spawn.h>

extern char **environ;

static void exchange(int fd)
{
    char buffer[8] = "";
    write_all(fd, "ping", 4);
    CHECK(read_all(fd, buffer, 4) == 4 && !memcmp(buffer, "ping", 4));
}

static void dup_shares(void)
{
    int fd = peer("echo"), copy = dup(fd);
    CHECK(copy >= 0 && copy != fd);
    exchange(copy);
    nonblocking(copy, 1);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    nonblocking(fd, 0);
    CHECK(close(fd) == 0);
    exchange(copy);
    CHECK(close(copy) == 0);
}

static void dup_keeps_open(void)
{
    long bytes;
    int error, fd = peer("watch 110"), copy = dup(fd);
    close(fd);
    usleep(100000);
    write_all(copy, "late", 4);
    close(copy);
    watched(110, &bytes, &error);
    CHECK(bytes == 4 && error == 0);
}

static void dup_over(void)
{
    int fd = peer("echo"), other = peer("echo"), pipes[2];
    CHECK(pipe(pipes) == 0);
    CHECK(dup2(fd, other) == other);
    exchange(other);
    CHECK(dup2(fd, pipes[0]) == pipes[0]);
    exchange(pipes[0]);
    CHECK(dup2(pipes[1], fd) == fd);
    FAILS(recv(fd, pipes, 1, 0), ENOTSOCK);
    exchange(other);
    CHECK(dup2(other, other) == other);
    exchange(other);
    FAILS(dup2(9999, other), EBADF);
    exchange(other);
    CHECK(dup3(other, 77, O_CLOEXEC) == 77 && fcntl(77, F_GETFD) & FD_CLOEXEC);
    exchange(77);
    FAILS(dup3(other, other, 0), EINVAL);
}

static void dup_fcntl(void)
{
    int fd = peer("echo");
    int high = fcntl(fd, F_DUPFD, 200), closing = fcntl(fd, F_DUPFD_CLOEXEC, 300);
    CHECK(high >= 200 && closing >= 300);
    CHECK(!(fcntl(high, F_GETFD) & FD_CLOEXEC) && fcntl(closing, F_GETFD) & FD_CLOEXEC);
    exchange(high);
    close(fd);
    exchange(closing);
}

static void high_numbers(void)
{
    int fd = peer("echo");
    int high = fcntl(fd, F_DUPFD, 1010);
    CHECK(high >= 1010 || errno == EINVAL);
    if (high >= 0)
        exchange(high);
}

static void close_range_(void)
{
    long bytes;
    int error, fd = peer("watch 111"), keep = peer("echo");
    write_all(fd, "abc", 3);
    CHECK(close_range(fd, fd, 0) == 0);
    FAILS(recv(fd, &bytes, 1, 0), EBADF);
    watched(111, &bytes, &error);
    CHECK(bytes == 3 && error == 0);
    exchange(keep);
}

static void other_kinds(void)
{
    int pair[2], udp = socket(AF_INET, SOCK_DGRAM, 0);
    char buffer[8];
    peer("echo");
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    write_all(pair[0], "abc", 3);
    CHECK(recv(pair[1], buffer, sizeof buffer, 0) == 3);
    CHECK(udp >= 0 && wait_for(udp, POLLOUT, 0) == POLLOUT);
    CHECK(close(udp) == 0);
}

static void *read_one(void *argument)
{
    char byte;
    int fd = *(int *)argument;
    return (void *)(intptr_t)(recv(fd, &byte, 1, 0) == 1);
}

static void reader_and_writer_threads(void)
{
    int fd = peer("echo");
    pthread_t reader;
    void *result;
    CHECK(pthread_create(&reader, NULL, read_one, &fd) == 0);
    usleep(100000);
    write_all(fd, "x", 1);
    pthread_join(reader, &result);
    CHECK(result);
}

static void many_blocked_threads(void)
{
    enum { THREADS = 12 };
    int fds[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        char command[32];
        snprintf(command, sizeof command, "delay %d 1", 100 + 37 * (THREADS - i));
        fds[i] = peer(command);
        CHECK(pthread_create(&threads[i], NULL, read_one, &fds[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        CHECK(result);
    }
}

static void *accept_one(void *argument)
{
    int fd = accept(*(int *)argument, NULL, NULL);
    if (fd < 0)
        return NULL;
    exchange(fd);
    return argument;
}

static void accept_on_other_threads(void)
{
    int port, fd = listener(&port, 10);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, accept_one, &fd) == 0);
    usleep(100000);
    for (int i = 0; i < 4; i++)
        dial(port, "echo");
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        CHECK(result);
    }
}

static void *send_and_leave(void *argument)
{
    static char data[300000];
    int fd = *(int *)argument;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)pattern(i);
    write_all(fd, data, sizeof data);
    close(fd);
    return NULL;
}

static void thread_exits_after_send(void)
{
    long bytes;
    int error, fd = peer("watch 112");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, send_and_leave, &fd) == 0);
    pthread_join(thread, NULL);
    watched(112, &bytes, &error);
    CHECK(bytes == 300000 && error == 0);
}

static void exit_flushes(void)
{
    long bytes;
    int error;
    pid_t child = fork();
    if (child == 0) {
        char *data = calloc(1, 100000);
        int fd = peer("watch 113");
        write_all(fd, data, 100000);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    watched(113, &bytes, &error);
    CHECK(bytes == 100000 && error == 0);
}

static void killed_process_ends_connections(void)
{
    long bytes;
    int error, ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = peer("watch 114");
        write_all(fd, "abc", 3);
        usleep(200000);
        write_all(ready[1], "x", 1);
        pause();
        close(fd);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    watched(114, &bytes, &error);
    CHECK(bytes == 3 && error == 0);
}

static void fork_leaves_the_parent_alone(void)
{
    int fd = peer("echo");
    exchange(fd);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(status == 0);
    exchange(fd);
    child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, &status, 0);
    exchange(fd);
}

static void fork_child_opens_its_own(void)
{
    int fd = peer("echo");
    exchange(fd);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        int own = peer("echo");
        exchange(own);
        close(own);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    exchange(fd);
}

static void *fork_often(void *argument)
{
    (void)argument;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
    return NULL;
}

static void fork_under_traffic(void)
{
    int fd = peer("echo");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fork_often, NULL) == 0);
    for (int i = 0; i < 300; i++)
        exchange(fd);
    pthread_join(thread, NULL);
    exchange(fd);
}

static void spawned_children(void)
{
    int fd = peer("echo"), status;
    char *arguments[] = {"true", NULL};
    pid_t child;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, fd);
    CHECK(posix_spawnp(&child, "true", &actions, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    exchange(fd);
    CHECK(system("true") == 0);
    exchange(fd);
    child = vfork();
    if (child == 0) {
        close(fd);
        dup2(2, fd);
        execlp("true", "true", NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    exchange(fd);
}

static void close_on_exec(void)
{
    long bytes;
    int error, fd = stream_socket(SOCK_CLOEXEC);
    CHECK(connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name) == 0);
    send_command(fd, "watch 115");
    write_all(fd, "abc", 3);
    pid_t child = fork();
    if (child == 0) {
        execlp("sleep", "sleep", "3", NULL);
        _exit(1);
    }
    usleep(300000);
    double start = now_s();
    close(fd);
    watched(115, &bytes, &error);
    CHECK(bytes == 3 && error == 0 && now_s() - start < 2);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void recv_interrupted(void)
{
    char byte;
    int fd = peer("echo");
    on_signal(SIGUSR1, 0);
    alarm_ms(100);
    FAILS(recv(fd, &byte, 1, 0), EINTR);
    CHECK(signals_seen == 1);
}

static void recv_restarts(void)
{
    char byte;
    int fd = peer("delay 500 1");
    on_signal(SIGUSR1, SA_RESTART);
    alarm_ms(100);
    CHECK(recv(fd, &byte, 1, 0) == 1);
    CHECK(signals_seen == 1);
}

static void accept_interrupted(void)
{
    int port, fd = listener(&port, 5);
    on_signal(SIGUSR1, 0);
    alarm_ms(100);
    FAILS(accept(fd, NULL, NULL), EINTR);
}

static void timed_recv_interrupted(void)
{
    /* With SO_RCVTIMEO a signal interrupts even with SA_RESTART (signal(7)). */
    struct timeval limit = {5, 0};
    char byte;
    int fd = peer("echo");
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    on_signal(SIGUSR1, SA_RESTART);
    alarm_ms(100);
    FAILS(recv(fd, &byte, 1, 0), EINTR);
}

static void send_interrupted(void)
{
    /* Partial counts survive a signal: nothing is sent twice. */
    int fd = peer("stall 600");
    char *data = calloc(1, 4000000);
    on_signal(SIGUSR1, 0);
    alarm_ms(200);
    ssize_t sent = send(fd, data, 4000000, 0);
    CHECK(sent > 0 || (sent == -1 && errno == EINTR));
}

const struct test process_cases[] = {
    {"dup_shares", dup_shares},
    {"dup_keeps_open", dup_keeps_open},
    {"dup_over", dup_over},
    {"dup_fcntl", dup_fcntl},
    {"high_numbers", high_numbers},
    {"close_range", close_range_},
    {"other_kinds", other_kinds},
    {"reader_and_writer_threads", reader_and_writer_threads},
    {"many_blocked_threads", many_blocked_threads},
    {"accept_on_other_threads", accept_on_other_threads},
    {"thread_exits_after_send", thread_exits_after_send},
    {"exit_flushes", exit_flushes},
    {"killed_process_ends_connections", killed_process_ends_connections},
    {"fork_leaves_the_parent_alone", fork_leaves_the_parent_alone},
    {"fork_child_opens_its_own", fork_child_opens_its_own},
    {"fork_under_traffic", fork_under_traffic},
    {"spawned_children", spawned_children},
    {"close_on_exec", close_on_exec},
    {"recv_interrupted", recv_interrupted},
    {"recv_restarts", recv_restarts},
    {"accept_interrupted", accept_interrupted},
    {"timed_recv_interrupted", timed_recv_interrupted},
    {"send_interrupted", send_interrupted},
    {NULL, NULL},
};
