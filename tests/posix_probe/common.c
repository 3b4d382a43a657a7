// SPDX-License-Identifier: MIT OR Apache-2.0
#include "probe.h"

volatile sig_atomic_t signals_seen;
static char last_watched[64];

int stream_socket(int flags)
{
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    CHECK(fd >= 0);
    return fd;
}

void send_command(int fd, const char *command)
{
    char line[300];
    int length = snprintf(line, sizeof line, "%s\n", command);
    write_all(fd, line, length);
}

int peer(const char *command)
{
    int fd = stream_socket(0);
    CHECK(connect(fd, (struct sockaddr *)&peer_name, sizeof peer_name) == 0);
    send_command(fd, command);
    return fd;
}

int listener(int *port, int backlog)
{
    int fd = stream_socket(0), on = 1;
    struct sockaddr_in name = own_name;
    socklen_t length = sizeof name;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(listen(fd, backlog) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    *port = ntohs(name.sin_port);
    return fd;
}

int dial(int port, const char *command)
{
    char address[32], line[256];
    inet_ntop(AF_INET, &own_name.sin_addr, address, sizeof address);
    snprintf(line, sizeof line, "dial %s %d %s", address, port, command);
    return peer(line);
}

void watched(int key, long *bytes, int *error)
{
    char command[32], line[64] = "";
    snprintf(command, sizeof command, "result %d", key);
    int fd = peer(command);
    read_all(fd, line, sizeof line - 1);
    CHECK(sscanf(line, "%ld %d", bytes, error) == 2);
    snprintf(last_watched, sizeof last_watched, "%.60s", line);
    close(fd);
}

void explain(void)
{
    if (last_watched[0])
        printf("# the peer saw (bytes, errno; -1 = no end): %s", last_watched);
}

void write_all(int fd, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t part = write(fd, (const char *)data + done, bytes - done);
        CHECK(part > 0);
        done += part;
    }
}

size_t read_all(int fd, void *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t part = read(fd, (char *)data + done, bytes - done);
        CHECK(part >= 0);
        if (part == 0)
            break;
        done += part;
    }
    return done;
}

unsigned char pattern(size_t position)
{
    return (unsigned char)(position * 31 + (position >> 8) * 7 + (position >> 16));
}

int wait_for(int fd, short events, int timeout_ms)
{
    struct pollfd entry = {.fd = fd, .events = events};
    int ready = poll(&entry, 1, timeout_ms);
    CHECK(ready >= 0);
    return ready ? entry.revents : 0;
}

double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void count_signal(int number)
{
    (void)number;
    signals_seen++;
}

void on_signal(int number, int flags)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};
    CHECK(sigaction(number, &action, NULL) == 0);
}

void nonblocking(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);
    CHECK(flags >= 0);
    CHECK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

struct later {
    pthread_t thread;
    int ms;
};

static void *signal_later(void *argument)
{
    struct later *later = argument;
    usleep(later->ms * 1000);
    pthread_kill(later->thread, SIGUSR1);
    free(later);
    return NULL;
}

void alarm_ms(int ms)
{
    struct later *later = malloc(sizeof *later);
    pthread_t thread;
    *later = (struct later){pthread_self(), ms};
    CHECK(pthread_create(&thread, NULL, signal_later, later) == 0);
    pthread_detach(thread);
}
