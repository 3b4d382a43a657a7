// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * posix_probe: does a TCP socket behave as Linux's does?
 *
 *   posix_probe [self [CASE...]]                 on 127.0.0.1, with a peer of its own
 *   posix_probe peer ADDRESS PORT                serve as the peer (on Linux)
 *   posix_probe run PEER PORT OWN [CASE...]      run the cases against that peer
 *   posix_probe list                             names of the cases
 *
 * Each case runs in a process of its own. Output: "PASS name" or "FAIL name", then a summary;
 * the exit status is 0 when all passed.
 */
#include "probe.h"

struct sockaddr_in peer_name, own_name;
static const struct test *const groups[] = {stream_cases, option_cases, ready_cases, process_cases};
#define GROUPS (sizeof groups / sizeof *groups)

/* 1: passed, 0: failed. */
static int run_case(const struct test *test)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(CASE_SECONDS);
        test->run();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    int passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (WIFSIGNALED(status))
        printf("# %s: ended by signal %d%s\n", test->name, WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? " (hung)" : "");
    printf("%s %s\n", passed ? "PASS" : "FAIL", test->name);
    return passed;
}

static int wanted(const char *name, char **names, int count)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(name, names[i]))
            return 1;
    return count == 0;
}

static int run_all(char **names, int count)
{
    int passed = 0, failed = 0;
    for (size_t group = 0; group < GROUPS; group++)
        for (const struct test *test = groups[group]; test->name; test++)
            if (wanted(test->name, names, count))
                run_case(test) ? passed++ : failed++;
    printf("posix_probe: %d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}

static struct sockaddr_in parse(const char *address, int port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1) {
        fprintf(stderr, "posix_probe: `%s` is no IPv4 address\n", address);
        exit(2);
    }
    return name;
}

static int peer_listen(struct sockaddr_in *name)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    socklen_t length = sizeof *name;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)name, length) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)name, &length)) {
        perror("posix_probe: the peer's listening socket");
        exit(2);
    }
    return fd;
}

int main(int count, char **arguments)
{
    signal(SIGPIPE, SIG_IGN);
    if (count == 4 && !strcmp(arguments[1], "peer")) {
        struct sockaddr_in name = parse(arguments[2], atoi(arguments[3]));
        int fd = peer_listen(&name);
        printf("peer ready\n");
        fflush(stdout);
        peer_serve(fd);
    }
    if (count == 2 && !strcmp(arguments[1], "list")) {
        for (size_t group = 0; group < GROUPS; group++)
            for (const struct test *test = groups[group]; test->name; test++)
                printf("%s\n", test->name);
        return 0;
    }
    if (count >= 5 && !strcmp(arguments[1], "run")) {
        peer_name = parse(arguments[2], atoi(arguments[3]));
        own_name = parse(arguments[4], 0);
        return run_all(arguments + 5, count - 5);
    }
    if (count != 1 && strcmp(arguments[1], "self")) {
        fprintf(stderr, "usage: posix_probe [self [CASE...] | list | peer ADDRESS PORT | run PEER PORT OWN [CASE...]]\n");
        return 2;
    }
    peer_name = own_name = parse("127.0.0.1", 0);
    int fd = peer_listen(&peer_name);
    pid_t server = fork();
    if (server == 0)
        peer_serve(fd);
    close(fd);
    int failed = count > 2 ? run_all(arguments + 2, count - 2) : run_all(NULL, 0);
    kill(server, SIGKILL);
    return failed;
}
