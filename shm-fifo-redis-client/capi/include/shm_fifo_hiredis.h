/*
 * hiredis over shared memory.
 *
 * Connect as ever, authenticate if need be, then:
 *
 *     char reason[SHM_FIFO_REDIS_REASON_BYTES];
 *     if (redisShmInitiate(c, reason, sizeof(reason)) != REDIS_OK)
 *         ...                             the connection was lost: c->errstr
 *     if (!redisIsOnShm(c))
 *         ...                             it works as before, on its socket: reason
 *
 * Everything else is as before: redisCommand, pipelines, redisGetReply, RESP3
 * pushes, timeouts, redisFree. After redisReconnect the context is on its new
 * socket; call redisShmInitiate again. It may be moved, asked about and freed by
 * different files and libraries of one program.
 *
 * For a redisAsyncContext call redisShmInitiateAsync, which waits for nothing: in its
 * connect callback, or in that of the last reply of the login. Any event loop will do;
 * the socket stays the one to watch.
 *
 * Limits: do not wait for c->fd of a blocking context by yourself (poll, select); a
 * non-blocking context without a redisAsyncContext stays on its socket, and so does
 * one over TLS. The descriptor that redisFreeKeepFd returns for a context in shared
 * memory is no connection to the server: whatever is sent on it is answered by one
 * error that says so, and then by the end.
 *
 * Link with -lshm_fifo_redis. Here is only what needs the layout of a context, which your
 * compiler knows. Made of capi/src/context.h.in: do not edit. Licence: MIT OR Apache-2.0.
 */
#ifndef SHM_FIFO_HIREDIS_H
#define SHM_FIFO_HIREDIS_H

#include <stddef.h>
#include <stdio.h>
#include <hiredis/hiredis.h>
#include <hiredis/async.h>
#include "shm_fifo_redis_context.h"

#if HIREDIS_MAJOR < 1
#error "shm_fifo_hiredis.h needs hiredis 1.0 or newer"
#else

#ifdef __cplusplus
extern "C" {
#endif

/* The library takes a context for a pointer to its functions. */
typedef char redisShmFuncsAreFirst
    [offsetof(redisContext, funcs) == 0 && offsetof(redisAsyncContext, c) == 0 ? 1 : -1];

/* The connection of a context in shared memory, for shm_fifo_redis_set_wait; NULL if it
 * is on its socket. */
static inline shm_fifo_redis *redisShmConnection(const redisContext *c) {
    if (c->funcs == NULL || c->funcs->free_privctx != shm_fifo_redis_context_free)
        return NULL;
    return shm_fifo_redis_context_connection(c->privctx);
}

/* Whether the context is in shared memory. */
static inline int redisIsOnShm(const redisContext *c) { return redisShmConnection(c) != NULL; }

/* The context's functions, with the library's in their places. */
static inline redisContextFuncs redisShmFuncs(const redisContext *c) {
    redisContextFuncs funcs = *c->funcs;
    funcs.free_privctx = shm_fifo_redis_context_free;
    funcs.async_read = (void (*)(redisAsyncContext *))shm_fifo_redis_context_event;
    funcs.async_write = (void (*)(redisAsyncContext *))shm_fifo_redis_context_event;
    funcs.read = (ssize_t (*)(redisContext *, char *, size_t))shm_fifo_redis_context_read;
    funcs.write = (ssize_t (*)(redisContext *))shm_fifo_redis_context_write;
    return funcs;
}

/* Whether the context's functions are those of a new one, not a program's own. */
static inline int redisShmIsUsual(const redisContext *c) {
    redisContext *usual = redisConnectFd(REDIS_INVALID_FD);
    int same = usual != NULL && usual->funcs != NULL && usual->funcs->read == c->funcs->read &&
               usual->funcs->write == c->funcs->write &&
               usual->funcs->async_read == c->funcs->async_read &&
               usual->funcs->async_write == c->funcs->async_write;
    redisFree(usual);
    return same;
}

/* Where the context has what the library needs of it. */
static inline shm_fifo_redis_parts redisShmParts(redisContext *c) {
    shm_fifo_redis_parts parts;
    parts.funcs = (const void **)&c->funcs;
    parts.privctx = &c->privctx;
    parts.fd = &c->fd;
    parts.err = &c->err;
    parts.errstr = c->errstr;
    parts.errstr_bytes = sizeof(c->errstr);
    parts.obuf = &c->obuf;
    parts.command_timeout = &c->command_timeout;
    parts.reader = c->reader;
    parts.reader_feed = (int (*)(void *, const char *, size_t))redisReaderFeed;
    parts.err_io = REDIS_ERR_IO;
    parts.err_eof = REDIS_ERR_EOF;
    parts.timeout_is_on_socket = HIREDIS_MAJOR == 1 && HIREDIS_MINOR == 0;
    parts.is_blocking = (c->flags & REDIS_BLOCK) != 0;
    parts.is_ours = c->funcs->free_privctx == shm_fifo_redis_context_free;
    parts.is_usual = redisShmIsUsual(c);
    parts.is_busy = c->reader->pos < c->reader->len;
    return parts;
}

static inline void redisShmTell(const char *text, char *reason, size_t reason_bytes) {
    if (reason != NULL && reason_bytes > 0)
        snprintf(reason, reason_bytes, "%s", text);
}

/*
 * Moves a blocking context to shared memory if that is possible, within its command
 * timeout if it has one.
 *
 * Returns REDIS_OK if it can be used, wherever it is now: redisIsOnShm tells. Then
 * `reason`, which may be NULL, says why it stayed on its socket, or is empty. Returns
 * REDIS_ERR if the connection was lost; c->err and c->errstr say how.
 */
static inline int redisShmInitiate(redisContext *c, char *reason, size_t reason_bytes) {
    if (!c->err) {
        shm_fifo_redis_parts parts = redisShmParts(c);
        redisContextFuncs funcs = redisShmFuncs(c);
        shm_fifo_redis_context_move(&parts, &funcs, sizeof(funcs), reason, reason_bytes);
    } else {
        redisShmTell(c->errstr, reason, reason_bytes);
    }
    return c->err ? REDIS_ERR : REDIS_OK;
}

/*
 * Begins to move an asynchronous context to shared memory, and waits for nothing: it is
 * a command like others, with a callback (or NULL) that gets the outcome as its reply.
 * That is a status if the context has moved, an error that says why it stays on its
 * socket, or NULL if the connection was lost, timed out or freed meanwhile.
 *
 * Commands may follow at once; they are sent in their order, wherever the context is by
 * then. No earlier one may be outstanding: call it in the connect callback, or in that
 * of the last reply of the login.
 *
 * Returns REDIS_OK if it has begun. After REDIS_ERR the context stays as it was, the
 * callback is not called, and `reason`, which may be NULL, says why.
 */
static inline int redisShmInitiateAsync(redisAsyncContext *ac, redisCallbackFn *callback,
                                        void *privdata, char *reason, size_t reason_bytes) {
    redisContext *c = &ac->c;
    const char *obstacle = c->errstr;
    if (!c->err) {
        shm_fifo_redis_parts parts = redisShmParts(c);
        redisContextFuncs funcs = redisShmFuncs(c);
        shm_fifo_redis_events events;
        events.async_read = (void (*)(void *))c->funcs->async_read;
        events.buffer_write = (int (*)(void *, int *))redisBufferWrite;
        events.data = &ac->ev.data;
        events.add_write = &ac->ev.addWrite;
        events.del_write = &ac->ev.delWrite;
        parts.is_busy |= ac->replies.head != NULL || (c->flags & REDIS_SUBSCRIBED) != 0;
        if (!shm_fifo_redis_context_begin(&parts, &events, &funcs, sizeof(funcs), reason,
                                          reason_bytes))
            return REDIS_ERR;
        /* The library takes this command, and sends its own. */
        if (redisAsyncCommand(ac, callback, privdata, "SHM.OPEN") == REDIS_OK)
            return redisBufferWrite(c, NULL);
        shm_fifo_redis_context_free(c->privctx);
        obstacle = "the context is about to be closed";
    }
    redisShmTell(obstacle, reason, reason_bytes);
    return REDIS_ERR;
}

#ifdef __cplusplus
}
#endif

#endif
#endif
