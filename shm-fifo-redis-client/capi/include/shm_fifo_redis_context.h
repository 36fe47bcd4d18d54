/*
 * What shm_fifo_hiredis.h and shm_fifo_libvalkey.h stand on; not for programs.
 *
 * Made by cbindgen of capi/src/context.rs: do not edit. Licence: MIT OR Apache-2.0.
 */

#ifndef SHM_FIFO_REDIS_CONTEXT_H
#define SHM_FIFO_REDIS_CONTEXT_H

#include <sys/time.h>
#include "shm_fifo_redis.h"

/*
 Where a context of hiredis or libvalkey has what the library needs of it. For
 `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`, which fill it.
 */
typedef struct {
  /*
   Its `funcs`.
   */
  const void **funcs;
  /*
   Its `privctx`.
   */
  void **privctx;
  /*
   Its `fd`.
   */
  const int *fd;
  /*
   Its `err`.
   */
  int *err;
  /*
   Its `errstr`.
   */
  char *errstr;
  /*
   How long that is.
   */
  size_t errstr_bytes;
  /*
   Its `obuf`.
   */
  char *const *obuf;
  /*
   Its `command_timeout`.
   */
  struct timeval *const *command_timeout;
  /*
   Its `reader`.
   */
  void *reader;
  /*
   `redisReaderFeed`.
   */
  int (*reader_feed)(void*, const char*, size_t);
  /*
   `REDIS_ERR_IO`.
   */
  int err_io;
  /*
   `REDIS_ERR_EOF`.
   */
  int err_eof;
  /*
   Whether `redisSetTimeout` tells the socket only, as in hiredis 1.0.
   */
  int timeout_is_on_socket;
  /*
   Whether its calls wait.
   */
  int is_blocking;
  /*
   Whether its functions are ours.
   */
  int is_ours;
  /*
   Whether its functions are those that a new context has.
   */
  int is_usual;
  /*
   Whether replies or messages are to come, or are here and not taken.
   */
  int is_busy;
} shm_fifo_redis_parts;

/*
 The same of an asynchronous context.
 */
typedef struct {
  /*
   Its own `async_read`.
   */
  void (*async_read)(void*);
  /*
   `redisBufferWrite`.
   */
  int (*buffer_write)(void*, int*);
  /*
   Its `ev.data`.
   */
  void *const *data;
  /*
   Its `ev.addWrite`.
   */
  void (**add_write)(void*);
  /*
   Its `ev.delWrite`.
   */
  void (**del_write)(void*);
} shm_fifo_redis_events;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 For `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`: moves a blocking context, within
 its command timeout. `funcs` are its functions, with those of this library in their
 places.

 The reason is that of `shm_fifo_redis_move`. If the connection was lost, the context
 has failed.

 # Safety
 `parts` are those of a live context; `funcs` has `funcs_bytes` bytes, and `reason`
 room for `reason_bytes`.
 */
void shm_fifo_redis_context_move(const shm_fifo_redis_parts *parts,
                                 const void *funcs,
                                 size_t funcs_bytes,
                                 char *reason,
                                 size_t reason_bytes);

/*
 For `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`: begins to move an asynchronous
 context, which goes on whenever its event loop comes. The next command that the
 context writes out stands for the move, and gets its outcome as reply: a status, or an
 error that says why the context stays on its socket.

 Returns whether it has begun. If not, the reason says why.

 # Safety
 As for `shm_fifo_redis_context_move`; `events` are those of the same context.
 */
int shm_fifo_redis_context_begin(const shm_fifo_redis_parts *parts,
                                 const shm_fifo_redis_events *events,
                                 const void *funcs,
                                 size_t funcs_bytes,
                                 char *reason,
                                 size_t reason_bytes);

/*
 For `shm_fifo_hiredis.h` and `shm_fifo_libvalkey.h`: what carries a context with this
 `privctx`, whose `free_privctx` is `shm_fifo_redis_context_free`. It stays the
 context's. NULL as long as that is a socket.

 # Safety
 It is that of a live context.
 */
shm_fifo_redis *shm_fifo_redis_context_connection(void *privctx);

/*
 The `free_privctx` of a moved context: ends its connection and gives it back the
 functions that it had.

 # Safety
 `privctx` is NULL or that of a live context, which may be about to be freed.
 */
void shm_fifo_redis_context_free(void *privctx);

/*
 The `read` of a moved context.

 # Safety
 The functions of `context` are ours; `target` has that much room.
 */
ssize_t shm_fifo_redis_context_read(void *context, char *target, size_t room);

/*
 The `write` of a moved context.

 # Safety
 The functions of `context` are ours.
 */
ssize_t shm_fifo_redis_context_write(void *context);

/*
 The `async_read` and the `async_write` of a moved context: its socket is ready for
 something. Goes on in both directions.

 # Safety
 The functions of `context` are ours. It may be freed.
 */
void shm_fifo_redis_context_event(void *context);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHM_FIFO_REDIS_CONTEXT_H */
