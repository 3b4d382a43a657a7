// SPDX-License-Identifier: MIT OR Apache-2.0
/* What the cases share: checks, addresses, connections to the peer. */
#ifndef PROBE_H
#define PROBE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Seconds after which a case counts as hung. */
#define CASE_SECONDS 20

/* Ends the case as failed, naming line and errno. */
#define CHECK(condition)                                                                      \
    do {                                                                                      \
        int saved_errno = errno;                                                              \
        if (!(condition)) {                                                                   \
            printf("# %s:%d: %s (errno %d %s)\n", __FILE__, __LINE__, #condition, saved_errno, \
                   strerror(saved_errno));                                                    \
            explain();                                                                        \
            fflush(stdout);                                                                   \
            _exit(1);                                                                         \
        }                                                                                     \
    } while (0)
/* The call fails with this errno. */
#define FAILS(call, number) CHECK((errno = 0, (call)) == -1 && errno == (number))

struct test {
    const char *name;
    void (*run)(void);
};

/* The peer's endpoint, and the address of the machine under test. */
extern struct sockaddr_in peer_name;
extern struct sockaddr_in own_name;

void peer_serve(int listener);

/* A connected socket on which the peer carries out `command`. */
int peer(const char *command);
/* The same without blocking for the connection; `flags` go to socket(). */
int stream_socket(int flags);
void send_command(int fd, const char *command);
/* A listening socket on our address; its port goes to `port`. */
int listener(int *port, int backlog);
/* Asks the peer to connect to us at `port` and to carry out `command` there. The descriptor
 * returned is the control connection; a line comes when the connection was made or refused. */
int dial(int port, const char *command);
/* What the peer saw on the connection it watches under `key`: bytes, then errno at the end. */
void watched(int key, long *bytes, int *error);
/* Prints what watched() saw last, when a check fails. */
void explain(void);

void write_all(int fd, const void *data, size_t bytes);
/* Reads until `bytes` are there or the stream ends. */
size_t read_all(int fd, void *data, size_t bytes);
/* The peer's byte at `position` of what it sends. */
unsigned char pattern(size_t position);
int wait_for(int fd, short events, int timeout_ms);
double now_s(void);
void on_signal(int number, int flags);
extern volatile sig_atomic_t signals_seen;
void nonblocking(int fd, int on);
/* Sends SIGUSR1 to this thread after `ms`. */
void alarm_ms(int ms);

extern const struct test stream_cases[], option_cases[], ready_cases[], process_cases[];

#endif
