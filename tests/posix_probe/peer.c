// SPDX-License-Identifier: MIT OR Apache-2.0
/* The peer: a Linux program that does on each connection what the first line asks for. */
#include "probe.h"
#include <sys/mman.h>

#define KEYS 4096
#define CHUNK 65536

/* What was seen on watched connections; shared by the forked servers. */
static struct watched_entry {
    volatile long bytes;
    volatile int error;
    volatile int done;
} *watched_table;

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void drain(int fd)
{
    char buffer[CHUNK];
    while (read(fd, buffer, sizeof buffer) > 0)
        ;
}

static void send_pattern(int fd, size_t bytes)
{
    static unsigned char buffer[CHUNK];
    for (size_t sent = 0; sent < bytes;) {
        size_t part = bytes - sent < CHUNK ? bytes - sent : CHUNK;
        for (size_t i = 0; i < part; i++)
            buffer[i] = pattern(sent + i);
        ssize_t done = send(fd, buffer, part, MSG_NOSIGNAL);
        if (done <= 0)
            return;
        sent += done;
    }
}

static void echo(int fd)
{
    char buffer[CHUNK];
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t sent = 0; sent < got;) {
            ssize_t done = send(fd, buffer + sent, got - sent, MSG_NOSIGNAL);
            if (done <= 0)
                return;
            sent += done;
        }
}

static void reset(int fd)
{
    struct linger hard = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static void watch(int fd, long key)
{
    char buffer[CHUNK];
    ssize_t got;
    long bytes = 0;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        bytes += got;
    struct watched_entry *entry = &watched_table[key % KEYS];
    entry->bytes = bytes;
    entry->error = got < 0 ? errno : 0;
    entry->done = 1;
}

static void result(int fd, long key)
{
    struct watched_entry *entry = &watched_table[key % KEYS];
    for (int i = 0; i < 1000 && !entry->done; i++)
        sleep_ms(10);
    char line[64];
    int length = snprintf(line, sizeof line, "%ld %d\n", entry->bytes, entry->done ? entry->error : -1);
    entry->done = 0;
    send(fd, line, length, MSG_NOSIGNAL);
}

static void carry_out(int fd, const char *line);

static void call_back(int fd, const char *line)
{
    char address[64], command[256];
    int port = 0;
    if (sscanf(line, "dial %63s %d %255[^\n]", address, &port, command) != 3)
        return;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &name.sin_addr);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    int failed = connect(other, (struct sockaddr *)&name, sizeof name) < 0 ? errno : 0;
    char reply[32];
    int length = snprintf(reply, sizeof reply, "%d\n", failed);
    send(fd, reply, length, MSG_NOSIGNAL);
    if (!failed)
        carry_out(other, command);
    close(other);
}

static void carry_out(int fd, const char *line)
{
    long a = 0, b = 0;
    if (!strncmp(line, "echo", 4))
        echo(fd);
    else if (sscanf(line, "sendhold %ld", &a) == 1)
        send_pattern(fd, a), drain(fd);
    else if (sscanf(line, "send %ld", &a) == 1)
        send_pattern(fd, a);
    else if (sscanf(line, "delay %ld %ld", &a, &b) == 2)
        sleep_ms(a), send_pattern(fd, b), drain(fd);
    else if (sscanf(line, "drip %ld %ld", &a, &b) == 2) {
        /* `b` bytes, one at a time, `a` ms apart. */
        for (long i = 0; i < b; i++) {
            unsigned char byte = pattern(i);
            send(fd, &byte, 1, MSG_NOSIGNAL);
            sleep_ms(a);
        }
        drain(fd);
    } else if (sscanf(line, "finish %ld", &a) == 1)
        sleep_ms(a);
    else if (sscanf(line, "half %ld", &a) == 1)
        sleep_ms(a), shutdown(fd, SHUT_WR), drain(fd);
    else if (sscanf(line, "reset %ld", &a) == 1)
        sleep_ms(a), reset(fd);
    else if (sscanf(line, "sendreset %ld", &a) == 1)
        send_pattern(fd, a), sleep_ms(300), reset(fd);
    else if (sscanf(line, "stall %ld", &a) == 1)
        sleep_ms(a), drain(fd);
    else if (sscanf(line, "watch %ld", &a) == 1)
        watch(fd, a);
    else if (sscanf(line, "result %ld", &a) == 1)
        result(fd, a);
    else if (!strncmp(line, "dial", 4))
        call_back(fd, line);
}

static void serve_one(int fd)
{
    char line[256];
    size_t used = 0;
    /* The command ends with a newline; what follows belongs to the command. */
    while (used < sizeof line - 1 && read(fd, line + used, 1) == 1 && line[used] != '\n')
        used++;
    line[used] = 0;
    carry_out(fd, line);
    close(fd);
    _exit(0);
}

void peer_serve(int listening)
{
    watched_table = mmap(NULL, KEYS * sizeof *watched_table, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listening, NULL, NULL);
        if (fd < 0)
            continue;
        if (fork() == 0) {
            close(listening);
            signal(SIGCHLD, SIG_DFL);
            serve_one(fd);
        }
        close(fd);
    }
}
