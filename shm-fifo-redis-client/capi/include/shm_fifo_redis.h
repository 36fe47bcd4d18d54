/*
 * Redis over shared memory: a connected socket goes on in shared memory.
 *
 * Link with -lshm_fifo_redis (pkg-config shm_fifo_redis). For hiredis and libvalkey
 * use shm_fifo_hiredis.h and shm_fifo_libvalkey.h instead, which stand on this.
 *
 * Made by cbindgen of capi/src/connection.rs: do not edit. Licence: MIT OR Apache-2.0.
 */

#ifndef SHM_FIFO_REDIS_H
#define SHM_FIFO_REDIS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 Room enough for any reason, its final zero included.
 */
#define SHM_FIFO_REDIS_REASON_BYTES 512

/*
 For timeouts: as long as it takes.
 */
#define SHM_FIFO_REDIS_FOREVER -1

/*
 For timeouts: not at all.
 */
#define SHM_FIFO_REDIS_NOW 0

/*
 Interest in something to read.
 */
#define SHM_FIFO_REDIS_READABLE 1

/*
 Interest in space to write.
 */
#define SHM_FIFO_REDIS_WRITABLE 2

/*
 How an attempt to move a connection ended.
 */
typedef enum {
  /*
   It is in shared memory.
   */
  SHM_FIFO_REDIS_MOVED = 0,
  /*
   It stays on its socket, which works as before; the reason says why.
   */
  SHM_FIFO_REDIS_STAYED = 1,
  /*
   It was lost; the reason says how. The socket is to be closed.
   */
  SHM_FIFO_REDIS_LOST = 2,
} shm_fifo_redis_outcome;

/*
 How a connection waits for replies.
 */
typedef enum {
  /*
   Spins while that pays, then sleeps: the default.
   */
  SHM_FIFO_REDIS_ADAPTIVE = 0,
  /*
   Always sleeps.
   */
  SHM_FIFO_REDIS_PARK = 1,
  /*
   Always spins first.
   */
  SHM_FIFO_REDIS_SPIN = 2,
} shm_fifo_redis_wait_mode;

/*
 A connection in shared memory. To be used by one thread at a time. NULL is none: to
 read from it or write to it is `-EINVAL`, and nothing else happens.
 */
typedef struct shm_fifo_redis shm_fifo_redis;

/*
 Takes bytes that arrived while the connection moved and belong to its reader.
 */
typedef void (*shm_fifo_redis_keep)(void *context, const char *bytes, size_t count);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Asks the server behind `socket` to go on with this connection in shared memory.

 The socket is a connected unix or TCP socket, authenticated where that is
 needed, with no reply outstanding. It stays the caller's: it is to be closed by
 the caller, after `shm_fifo_redis_free`, and must not be read, written or closed
 before. Waits at most `timeout_us` microseconds.

 `keep`, which may be NULL, is called with bytes that came meanwhile and belong to
 the reader (RESP3 pushes), whatever the outcome, before this function returns.
 `reason`, which may be NULL, has room for `reason_bytes` bytes and gets a text
 that ends with a zero, empty if the connection moved.

 `*connection` is set only if it moved; then it must be freed.

 # Safety
 `socket` is open; `connection` can be written; `reason` has that much room.
 */
shm_fifo_redis_outcome shm_fifo_redis_move(int socket,
                                           int64_t timeout_us,
                                           shm_fifo_redis_keep keep,
                                           void *keep_context,
                                           shm_fifo_redis **connection,
                                           char *reason,
                                           size_t reason_bytes);

/*
 Reads at most `room` bytes, waiting for the first at most `timeout_us`
 microseconds (`SHM_FIFO_REDIS_FOREVER`, `SHM_FIFO_REDIS_NOW`).

 Returns how many; 0 at the end of the connection; `-EAGAIN` if nothing came in
 time; another `-errno` if the connection failed.

 # Safety
 `connection` is a live one; `target` has that much room.
 */
ssize_t shm_fifo_redis_read(shm_fifo_redis *connection,
                            char *target,
                            size_t room,
                            int64_t timeout_us);

/*
 Writes at most `count` bytes, waiting for space at most `timeout_us`
 microseconds.

 Returns how many; `-EAGAIN` if there was no space in time; another `-errno` if
 the connection has ended or failed.

 # Safety
 `connection` is a live one; `source` has that many bytes.
 */
ssize_t shm_fifo_redis_write(shm_fifo_redis *connection,
                             const char *source,
                             size_t count,
                             int64_t timeout_us);

/*
 For event loops that watch the socket for reading: takes pending doorbells off
 it, and announces to the server that nobody sleeps. To be called first when the
 socket is readable; then read or write until `-EAGAIN`, then
 `shm_fifo_redis_park`.

 # Safety
 `connection` is a live one.
 */
void shm_fifo_redis_listen(shm_fifo_redis *connection);

/*
 For event loops: announces to the server that this side sleeps until what
 `interest` names (`SHM_FIFO_REDIS_READABLE`, `SHM_FIFO_REDIS_WRITABLE`, or both)
 is there; then the socket becomes readable.

 Returns 1 if it may sleep, 0 if it is there already and nothing was announced.

 # Safety
 `connection` is a live one.
 */
int shm_fifo_redis_park(shm_fifo_redis *connection, int interest);

/*
 Chooses how blocking calls wait: `mode`, a `shm_fifo_redis_wait_mode`, and for how
 many microseconds one wait spins at most.

 Returns 0, or `-EINVAL` if there is no such mode and nothing has changed.

 # Safety
 `connection` is a live one.
 */
int shm_fifo_redis_set_wait(shm_fifo_redis *connection, int mode, uint32_t spin_us);

/*
 Ends a connection and frees it. NULL is none. The socket is not closed, but of
 no use any more.

 # Safety
 `connection` is NULL or a live one, and not used again.
 */
void shm_fifo_redis_free(shm_fifo_redis *connection);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHM_FIFO_REDIS_H */
