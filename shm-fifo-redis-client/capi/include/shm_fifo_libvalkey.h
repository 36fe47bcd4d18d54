/*
 * libvalkey over shared memory.
 *
 * Connect as ever, authenticate if need be, then:
 *
 *     char reason[SHM_FIFO_REDIS_REASON_BYTES];
 *     if (valkeyShmInitiate(c, reason, sizeof(reason)) != VALKEY_OK)
 *         ...                             the connection was lost: c->errstr
 *     if (!valkeyIsOnShm(c))
 *         ...                             it works as before, on its socket: reason
 *
 * Everything else is as before: valkeyCommand, pipelines, valkeyGetReply, RESP3
 * pushes, timeouts, valkeyFree. After valkeyReconnect the context is on its new
 * socket; call valkeyShmInitiate again. It may be moved, asked about and freed by
 * different files and libraries of one program.
 *
 * For a valkeyAsyncContext call valkeyShmInitiateAsync, which waits for nothing: in its
 * connect callback, or in that of the last reply of the login. Any event loop will do;
 * the socket stays the one to watch.
 *
 * Limits: do not wait for c->fd of a blocking context by yourself (poll, select); a
 * non-blocking context without a valkeyAsyncContext stays on its socket, and so does
 * one over TLS. The descriptor that valkeyFreeKeepFd returns for a context in shared
 * memory is no connection to the server: whatever is sent on it is answered by one
 * error that says so, and then by the end.
 *
 * Link with -lshm_fifo_redis. Here is only what needs the layout of a context, which your
 * compiler knows. Made of capi/src/context.h.in: do not edit. Licence: MIT OR Apache-2.0.
 */
#ifndef SHM_FIFO_LIBVALKEY_H
#define SHM_FIFO_LIBVALKEY_H

#include <stddef.h>
#include <stdio.h>
#include <valkey/valkey.h>
#include <valkey/async.h>
#include "shm_fifo_redis_context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The library takes a context for a pointer to its functions. */
typedef char valkeyShmFuncsAreFirst
    [offsetof(valkeyContext, funcs) == 0 && offsetof(valkeyAsyncContext, c) == 0 ? 1 : -1];

/* The connection of a context in shared memory, for shm_fifo_redis_set_wait; NULL if it
 * is on its socket. */
static inline shm_fifo_redis *valkeyShmConnection(const valkeyContext *c) {
    if (c->funcs == NULL || c->funcs->free_privctx != shm_fifo_redis_context_free)
        return NULL;
    return shm_fifo_redis_context_connection(c->privctx);
}

/* Whether the context is in shared memory. */
static inline int valkeyIsOnShm(const valkeyContext *c) { return valkeyShmConnection(c) != NULL; }

/* The context's functions, with the library's in their places. */
static inline valkeyContextFuncs valkeyShmFuncs(const valkeyContext *c) {
    valkeyContextFuncs funcs = *c->funcs;
    funcs.free_privctx = shm_fifo_redis_context_free;
    funcs.async_read = (void (*)(valkeyAsyncContext *))shm_fifo_redis_context_event;
    funcs.async_write = (void (*)(valkeyAsyncContext *))shm_fifo_redis_context_event;
    funcs.read = (ssize_t (*)(valkeyContext *, char *, size_t))shm_fifo_redis_context_read;
    funcs.write = (ssize_t (*)(valkeyContext *))shm_fifo_redis_context_write;
#if LIBVALKEY_VERSION_MAJOR > 0 || LIBVALKEY_VERSION_MINOR >= 3
    funcs.read_zc = NULL;
    funcs.read_zc_done = NULL;
#endif
    return funcs;
}

/* Whether the context's functions are those of a new one, not a program's own. */
static inline int valkeyShmIsUsual(const valkeyContext *c) {
    valkeyContext *usual = valkeyConnectFd(VALKEY_INVALID_FD);
    int same = usual != NULL && usual->funcs != NULL && usual->funcs->read == c->funcs->read &&
               usual->funcs->write == c->funcs->write &&
               usual->funcs->async_read == c->funcs->async_read &&
               usual->funcs->async_write == c->funcs->async_write;
    valkeyFree(usual);
    return same;
}

/* Where the context has what the library needs of it. */
static inline shm_fifo_redis_parts valkeyShmParts(valkeyContext *c) {
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
    parts.reader_feed = (int (*)(void *, const char *, size_t))valkeyReaderFeed;
    parts.err_io = VALKEY_ERR_IO;
    parts.err_eof = VALKEY_ERR_EOF;
    parts.timeout_is_on_socket = 0;
    parts.is_blocking = (c->flags & VALKEY_BLOCK) != 0;
    parts.is_ours = c->funcs->free_privctx == shm_fifo_redis_context_free;
    parts.is_usual = valkeyShmIsUsual(c);
    parts.is_busy = c->reader->pos < c->reader->len;
    return parts;
}

static inline void valkeyShmTell(const char *text, char *reason, size_t reason_bytes) {
    if (reason != NULL && reason_bytes > 0)
        snprintf(reason, reason_bytes, "%s", text);
}

/*
 * Moves a blocking context to shared memory if that is possible, within its command
 * timeout if it has one.
 *
 * Returns VALKEY_OK if it can be used, wherever it is now: valkeyIsOnShm tells. Then
 * `reason`, which may be NULL, says why it stayed on its socket, or is empty. Returns
 * VALKEY_ERR if the connection was lost; c->err and c->errstr say how.
 */
static inline int valkeyShmInitiate(valkeyContext *c, char *reason, size_t reason_bytes) {
    if (!c->err) {
        shm_fifo_redis_parts parts = valkeyShmParts(c);
        valkeyContextFuncs funcs = valkeyShmFuncs(c);
        shm_fifo_redis_context_move(&parts, &funcs, sizeof(funcs), reason, reason_bytes);
    } else {
        valkeyShmTell(c->errstr, reason, reason_bytes);
    }
    return c->err ? VALKEY_ERR : VALKEY_OK;
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
 * Returns VALKEY_OK if it has begun. After VALKEY_ERR the context stays as it was, the
 * callback is not called, and `reason`, which may be NULL, says why.
 */
static inline int valkeyShmInitiateAsync(valkeyAsyncContext *ac, valkeyCallbackFn *callback,
                                        void *privdata, char *reason, size_t reason_bytes) {
    valkeyContext *c = &ac->c;
    const char *obstacle = c->errstr;
    if (!c->err) {
        shm_fifo_redis_parts parts = valkeyShmParts(c);
        valkeyContextFuncs funcs = valkeyShmFuncs(c);
        shm_fifo_redis_events events;
        events.async_read = (void (*)(void *))c->funcs->async_read;
        events.buffer_write = (int (*)(void *, int *))valkeyBufferWrite;
        events.data = &ac->ev.data;
        events.add_write = &ac->ev.addWrite;
        events.del_write = &ac->ev.delWrite;
        parts.is_busy |= ac->replies.head != NULL || (c->flags & VALKEY_SUBSCRIBED) != 0;
        if (!shm_fifo_redis_context_begin(&parts, &events, &funcs, sizeof(funcs), reason,
                                          reason_bytes))
            return VALKEY_ERR;
        /* The library takes this command, and sends its own. */
        if (valkeyAsyncCommand(ac, callback, privdata, "SHM.OPEN") == VALKEY_OK)
            return valkeyBufferWrite(c, NULL);
        shm_fifo_redis_context_free(c->privctx);
        obstacle = "the context is about to be closed";
    }
    valkeyShmTell(obstacle, reason, reason_bytes);
    return VALKEY_ERR;
}

#ifdef __cplusplus
}
#endif

#endif
