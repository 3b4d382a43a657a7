/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An echo server on the low-level API, without a copy of its own on the way in.
 *
 *   cc -I libtas libtas/examples/echo.c -L target/release -ltas -o echo
 *   LD_LIBRARY_PATH=target/release ./echo 7
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tas.h"

enum { LISTENER = 0, CONNECTIONS_MAX = 4096, BATCH = 64, PIECES = 16 };

/* Connections by token; 0 is the listener. A token in use is never given to another. */
static tas_socket *sockets[CONNECTIONS_MAX];

static void fail(const char *what)
{
  fprintf(stderr, "echo: %s: %s\n", what, tas_error_text());
  exit(1);
}

static void accept_all(tas_context *context)
{
  static uint64_t next = LISTENER;
  int tries;

  for (tries = 0; tries < CONNECTIONS_MAX; tries++) {
    next = next % (CONNECTIONS_MAX - 1) + 1;
    if (sockets[next] != NULL)
      continue;
    if (tas_accept(sockets[LISTENER], context, next, &sockets[next]) < 0) {
      sockets[next] = NULL;
      return;
    }
  }
}

static void end(uint64_t token)
{
  tas_close(sockets[token]);
  sockets[token] = NULL;
}

/* Sends back what can be read, as far as there is room; TAS_WRITABLE brings us back for the rest. */
static void echo(uint64_t token)
{
  tas_piece pieces[PIECES];
  /* Asked before reading: bytes may arrive together with the end. */
  int finished = tas_peer_finished(sockets[token]);
  int count, index;

  while ((count = tas_rx(sockets[token], pieces, PIECES)) > 0) {
    for (index = 0; index < count; index++) {
      ptrdiff_t sent = tas_write(sockets[token], pieces[index].data, pieces[index].bytes);
      if (sent == -EAGAIN)
        return;
      if (sent < 0) {
        end(token);
        return;
      }
      tas_rx_done(sockets[token], (size_t)sent);
      if ((size_t)sent < pieces[index].bytes)
        return;
    }
  }
  if (finished)
    end(token);
}

int main(int argc, char **argv)
{
  tas_app *app;
  tas_context *context;
  tas_event events[BATCH];
  int count, index;
  unsigned port = argc > 1 ? (unsigned)atoi(argv[1]) : 7;

  if (tas_init(NULL, &app) < 0)
    fail("cannot attach");
  if (tas_context_create(app, &context) < 0)
    fail("cannot make a context");
  if (tas_listen(context, 0, (uint16_t)port, 128, LISTENER, &sockets[LISTENER]) < 0)
    fail("cannot listen");
  printf("echo: listening on port %u\n", port);
  fflush(stdout);

  for (;;) {
    count = tas_context_poll(context, events, BATCH);
    for (index = 0; index < count; index++) {
      uint64_t token = events[index].token;
      if (token == LISTENER)
        accept_all(context);
      else if (sockets[token] == NULL)
        continue;
      else if (events[index].flags & TAS_FAILED)
        end(token);
      else if (events[index].flags & (TAS_READABLE | TAS_WRITABLE | TAS_END_OF_STREAM))
        echo(token);
    }
    if (count == 0)
      tas_context_wait(context, -1);
  }
}
