/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The low-level API of TAS for C: contexts, events, zero-copy buffers. Link with -ltas.
 *
 * Generated from libtas/src/capi.rs; do not edit. Functions return 0 (or a count) on success and
 * -errno on failure; tas_error_text() then says what happened, why, and what to type. All functions may be
 * called from any thread. A pointer argument must be what another function returned and not yet
 * ended, or memory of the stated size.
 */

#ifndef TAS_H
#define TAS_H

#include <stddef.h>
#include <stdint.h>

// New bytes can be read.
#define TAS_READABLE 1

// The peer sent FIN: end of stream after what is readable.
#define TAS_END_OF_STREAM 2

// A write came up short earlier; now there is room.
#define TAS_WRITABLE 4

// All data and our FIN were acknowledged.
#define TAS_FINISHED 8

// tas_connect() succeeded: call tas_connected() before reading or writing.
#define TAS_CONNECTED 16

// tas_connect() failed, or the connection was reset or timed out; tas_event.error says why.
#define TAS_FAILED 32

// A listener has connections: call tas_accept() until -EAGAIN.
#define TAS_ACCEPTABLE 64

// A process attached to an instance of TAS.
typedef struct tas_app tas_app;

// Rings to the fast path: one per thread, as a rule. Any thread may use any of them.
typedef struct tas_context tas_context;

// A listener, a connection being opened, or a connection.
typedef struct tas_socket tas_socket;

// Something happened to a socket.
typedef struct tas_event {
  // The number given when the socket was made.
  uint64_t token;
  // Some of TAS_READABLE, TAS_END_OF_STREAM, ...
  uint16_t flags;
  // errno if TAS_FAILED, else zero.
  int32_t error;
} tas_event;

// A piece of memory.
typedef struct tas_piece {
  // First byte.
  void *data;
  // Length in bytes.
  size_t bytes;
} tas_piece;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What went wrong in the last call of this thread that returned an error, in words. Valid until the
// next error.
const char *tas_error_text(void);

// Attaches to an instance, by name; NULL means TAS_INSTANCE or "tas0". TAS_BACKEND chooses between
// kernel and daemon. Returns 0 or -errno.
int tas_init(const char *instance, struct tas_app **app);

// Lets go of an application. Its memory goes with its last context and socket.
void tas_exit(struct tas_app *app);

// Makes a context. Returns 0 or -errno.
int tas_context_create(const struct tas_app *app, struct tas_context **context);

// Lets go of a context. It lives on while it has connections.
void tas_context_destroy(struct tas_context *context);

// Takes up to `count` events, without blocking. Returns how many.
int tas_context_poll(const struct tas_context *context, struct tas_event *events, int count);

// Sleeps until there is something to poll, at most `timeout_ms` (negative: without limit). Returns 0
// or -EINTR.
int tas_context_wait(const struct tas_context *context,
                     int timeout_ms);

// Descriptor to sleep on with poll(2) or epoll(7), between tas_context_prepare_wait() and
// tas_context_finish_wait(). Do not read or close it.
int tas_context_fd(const struct tas_context *context);

// Asks for a wake-up. Returns 1: sleep on tas_context_fd(), then call tas_context_finish_wait(); or 0:
// there is something to poll.
int tas_context_prepare_wait(const struct tas_context *context);

// Ends a sleep begun by tas_context_prepare_wait().
int tas_context_finish_wait(const struct tas_context *context);

// Listens at an IPv4 address (host byte order, 0 for any) and port (0 for a free one). Events name it
// by `token`. Returns 0 or -errno.
int tas_listen(const struct tas_context *context,
               uint32_t address,
               uint16_t port,
               uint32_t backlog,
               uint64_t token,
               struct tas_socket **socket);

// As tas_listen() at an IPv6 address: 16 bytes in network order, all zero for any, which takes IPv4
// connections too (their addresses are of the form ::ffff:a.b.c.d).
int tas_listen6(const struct tas_context *context,
                const uint8_t *address,
                uint16_t port,
                uint32_t backlog,
                uint64_t token,
                struct tas_socket **socket);

// Takes a connection. Its events go to `context` and name it by `token`. Returns 0, -EAGAIN if there
// is none, or -errno.
int tas_accept(const struct tas_socket *listener,
               const struct tas_context *context,
               uint64_t token,
               struct tas_socket **socket);

// Begins to connect to an IPv4 address (host byte order) and port. TAS_CONNECTED or TAS_FAILED
// follows. Returns 0 or -errno.
int tas_connect(const struct tas_context *context,
                uint32_t address,
                uint16_t port,
                uint64_t token,
                struct tas_socket **socket);

// As tas_connect() to an IPv6 address: 16 bytes in network order.
int tas_connect6(const struct tas_context *context,
                 const uint8_t *address,
                 uint16_t port,
                 uint64_t token,
                 struct tas_socket **socket);

// After TAS_CONNECTED: makes the connection usable. Returns 0 or -errno.
int tas_connected(const struct tas_socket *socket);

// Local (peer == 0) or the peer's (peer != 0) IPv4 address (0 if it is IPv6) and port, in host byte order.
// Returns 0 or -errno.
int tas_name(const struct tas_socket *socket,
             int peer,
             uint32_t *address,
             uint16_t *port);

// As tas_name() for either family: 16 bytes in network order, an IPv4 address as ::ffff:a.b.c.d. Returns 0
// or -errno.
int tas_name6(const struct tas_socket *socket,
              int peer,
              uint8_t *address,
              uint16_t *port);

// Bytes that can be read now, or -errno.
ptrdiff_t tas_readable_bytes(const struct tas_socket *socket);

// 1 if the peer sent FIN: nothing comes after what is readable then. 0 if not, or -errno.
int tas_peer_finished(const struct tas_socket *socket);

// Copies out up to `bytes` and consumes them. Returns how many, 0 at the end of the stream, -EAGAIN if
// there is nothing yet, or -errno of a failed connection.
ptrdiff_t tas_read(const struct tas_socket *socket,
                   void *into,
                   size_t bytes);

// Says where the readable bytes are, in up to `count` pieces, without copying. They stay there until
// tas_rx_done(); one thread at a time reads a socket. Returns the number of pieces, or -errno.
int tas_rx(const struct tas_socket *socket,
           struct tas_piece *pieces,
           int count);

// Gives back the first `bytes` of what tas_rx() showed. Returns 0 or -errno.
int tas_rx_done(const struct tas_socket *socket, size_t bytes);

// Bytes that can be written now, or -errno.
ptrdiff_t tas_writable_bytes(const struct tas_socket *socket);

// Sends up to `bytes`, without a further call. Returns how many were taken; if fewer than asked for,
// TAS_WRITABLE follows. -EAGAIN if none, -EPIPE after tas_finish(), or -errno of a failed connection.
ptrdiff_t tas_write(const struct tas_socket *socket,
                    const void *from,
                    size_t bytes);

// Reserves memory to write up to `bytes` in place, in up to `count` pieces. The caller then calls
// tas_tx_send(), and writes nothing else to the socket before. Returns the number of pieces, or
// errors as tas_write().
int tas_tx_alloc(const struct tas_socket *socket,
                 size_t bytes,
                 struct tas_piece *pieces,
                 int count);

// Sends the first `bytes` of what tas_tx_alloc() reserved and gives up the rest. Returns how many
// were sent, or -errno.
ptrdiff_t tas_tx_send(const struct tas_socket *socket, size_t bytes);

// Sends FIN after what was written. Returns 0 or -errno.
int tas_finish(const struct tas_socket *socket);

// Delivers a connection's events to another context from now on. Returns 0 or -errno.
int tas_move(const struct tas_socket *socket, const struct tas_context *context);

// Closes a socket of any kind. What was written is still delivered, unless bytes were left unread:
// then, as with Linux, the peer sees a reset.
void tas_close(struct tas_socket *socket);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TAS_H */
