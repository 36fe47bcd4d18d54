/*
 * libvalkey over shared memory.
 *
 * After connecting (and authenticating, where that is needed), and while no reply
 * is outstanding:
 *
 *     char reason[SHM_FIFO_REDIS_REASON_BYTES];
 *     if (valkeyShmInitiate(c, reason, sizeof(reason)) != VALKEY_OK)
 *         ... the connection was lost: c->err, c->errstr
 *     if (!valkeyIsOnShm(c))
 *         ... it stays on its socket and works as ever: reason says why
 *
 * Everything else is as before: valkeyCommand, pipelines, valkeyGetReply, RESP3
 * pushes, timeouts, valkeyFree. After valkeyReconnect the context is on its new
 * socket; call valkeyShmInitiate again.
 *
 * For a valkeyAsyncContext call valkeyShmInitiateAsync in its connect callback, or in
 * the callback of AUTH. The event loop goes on watching the same socket.
 *
 * Limits: do not wait for c->fd of a blocking context by yourself (poll, select); a
 * non-blocking context without a valkeyAsyncContext stays on its socket, and so does
 * one over TLS.
 *
 * This header wants libvalkey. It is header-only, so that your compiler
 * knows the layout of your library. Link with -lshm_fifo_redis.
 * Licence: MIT OR Apache-2.0.
 */
#ifndef SHM_FIFO_LIBVALKEY_H
#define SHM_FIFO_LIBVALKEY_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <valkey/valkey.h>
#include <valkey/async.h>
#include "shm_fifo_redis.h"

#if LIBVALKEY_VERSION_MAJOR < 0
#error "shm_fifo_libvalkey.h needs libvalkey"
#else

#ifdef __cplusplus
extern "C" {
#endif

/* What a context in shared memory has as its privctx. */
typedef struct valkeyShmState {
    shm_fifo_redis *connection;
    /* The asynchronous context, while its event is being handled. */
    valkeyAsyncContext *active;
} valkeyShmState;

/* A context's functions with ours in their places. They outlive all contexts:
 * valkeyReconnect keeps them when the state is gone. */
typedef struct valkeyShmFuncs {
    valkeyContextFuncs funcs;
    const valkeyContextFuncs *original;
    int ready; /* 0, 1 while it is written, 2 */
} valkeyShmFuncs;

/* There is one for each kind of socket. */
static inline valkeyShmFuncs *valkeyShmFuncsOf(const valkeyContext *c) {
    static valkeyShmFuncs tables[2];
    return &tables[c->connection_type == VALKEY_CONN_UNIX];
}

/* Whether the context is in shared memory. */
static inline int valkeyIsOnShm(const valkeyContext *c) {
    return c->privctx != NULL && c->funcs == &valkeyShmFuncsOf(c)->funcs;
}

static inline void valkeyShmSetError(valkeyContext *c, int type, const char *text) {
    c->err = type;
    snprintf(c->errstr, sizeof(c->errstr), "%s", text);
}

/* How long a call may wait, as the context says. */
static inline int64_t valkeyShmTimeout(const valkeyContext *c) {
    const struct timeval *timeout = c->command_timeout;
#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR == 1 && HIREDIS_MINOR < 1
    /* valkeySetTimeout of 1.0 tells the socket only. */
    struct timeval socket_timeout = {0, 0};
    socklen_t length = sizeof(socket_timeout);
    if (c->flags & VALKEY_BLOCK)
        getsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &socket_timeout, &length);
    timeout = &socket_timeout;
#endif
    if (!(c->flags & VALKEY_BLOCK))
        return SHM_FIFO_REDIS_NOW;
    if (timeout == NULL || (timeout->tv_sec == 0 && timeout->tv_usec == 0))
        return SHM_FIFO_REDIS_FOREVER;
    return (int64_t)timeout->tv_sec * 1000000 + timeout->tv_usec;
}

/* What libvalkey wants to hear of a count or a negative errno. */
static inline ssize_t valkeyShmResult(valkeyContext *c, ssize_t count) {
    if (count >= 0)
        return count;
    if (count == -EAGAIN && !(c->flags & VALKEY_BLOCK))
        return 0;
    valkeyShmSetError(c, VALKEY_ERR_IO, strerror((int)-count));
    return -1;
}

/* The length of an sds string, which it has in front of it. libvalkey does not
 * install its header for that. */
static inline size_t valkeyShmLength(const char *string) {
    unsigned char flags = (unsigned char)string[-1];
    uint8_t length8;
    uint16_t length16;
    uint32_t length32;
    uint64_t length64;
    switch (flags & 7) {
    case 0:
        return flags >> 3;
    case 1:
        memcpy(&length8, string - 3, sizeof(length8));
        return length8;
    case 2:
        memcpy(&length16, string - 5, sizeof(length16));
        return length16;
    case 3:
        memcpy(&length32, string - 9, sizeof(length32));
        return length32;
    default:
        memcpy(&length64, string - 17, sizeof(length64));
        return (size_t)length64;
    }
}

static ssize_t valkeyShmRead(valkeyContext *c, char *target, size_t room) {
    valkeyShmState *state = (valkeyShmState *)c->privctx;
    ssize_t count;
    if (state == NULL) /* reconnected */
        return valkeyShmFuncsOf(c)->original->read(c, target, room);
    count = shm_fifo_redis_read(state->connection, target, room, valkeyShmTimeout(c));
    if (state->active != NULL) {
        /* The event loop comes back for the rest by itself, as nobody will ring for
         * it; otherwise the server rings when there is more. */
        if (!shm_fifo_redis_park(state->connection, SHM_FIFO_REDIS_READABLE) &&
            state->active->ev.addWrite)
            state->active->ev.addWrite(state->active->ev.data);
        state->active = NULL;
    }
    if (count == 0) {
        valkeyShmSetError(c, VALKEY_ERR_EOF, "Server closed the connection");
        return -1;
    }
    return valkeyShmResult(c, count);
}

static ssize_t valkeyShmWrite(valkeyContext *c) {
    valkeyShmState *state = (valkeyShmState *)c->privctx;
    size_t length;
    if (state == NULL) /* reconnected */
        return valkeyShmFuncsOf(c)->original->write(c);
    length = valkeyShmLength(c->obuf);
    if (length == 0)
        return 0;
    return valkeyShmResult(
        c, shm_fifo_redis_write(state->connection, c->obuf, length, valkeyShmTimeout(c)));
}

static void valkeyShmFree(void *privctx) {
    valkeyShmState *state = (valkeyShmState *)privctx;
    if (state == NULL)
        return;
    shm_fifo_redis_free(state->connection);
    free(state);
}

/* The event loop says that the socket is ready for something: goes on in both
 * directions. A socket is always ready to be written, so while the ring is full
 * that is not waited for, but a doorbell, which is something to read. */
static void valkeyShmOnEvent(valkeyAsyncContext *ac) {
    valkeyContext *c = &ac->c;
    valkeyShmState *state = (valkeyShmState *)c->privctx;
    int done = 0;
    shm_fifo_redis_listen(state->connection);
    /* An error stays in c->err and ends the context below. */
    valkeyBufferWrite(c, &done);
    if (c->err == 0) {
        if (done || shm_fifo_redis_park(state->connection, SHM_FIFO_REDIS_WRITABLE)) {
            if (ac->ev.delWrite)
                ac->ev.delWrite(ac->ev.data);
        } else if (ac->ev.addWrite) {
            ac->ev.addWrite(ac->ev.data);
        }
    }
    state->active = ac;
    /* Last, because it may free the context. */
    valkeyShmFuncsOf(c)->original->async_read(ac);
}

/* libvalkey' own, for contexts that are on their sockets. */
static void valkeyShmAsyncRead(valkeyAsyncContext *ac) {
    if (ac->c.privctx == NULL)
        valkeyShmFuncsOf(&ac->c)->original->async_read(ac);
    else
        valkeyShmOnEvent(ac);
}

static void valkeyShmAsyncWrite(valkeyAsyncContext *ac) {
    if (ac->c.privctx == NULL)
        valkeyShmFuncsOf(&ac->c)->original->async_write(ac);
    else
        valkeyShmOnEvent(ac);
}

/* The functions for this context, or NULL if its own are not libvalkey' usual ones. */
static inline valkeyShmFuncs *valkeyShmPrepare(const valkeyContext *c) {
    valkeyShmFuncs *table = valkeyShmFuncsOf(c);
    int untouched = 0;
    if (__atomic_compare_exchange_n(&table->ready, &untouched, 1, 0, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE)) {
        table->original = c->funcs;
        table->funcs = *c->funcs;
        table->funcs.free_privctx = valkeyShmFree;
        table->funcs.async_read = valkeyShmAsyncRead;
        table->funcs.async_write = valkeyShmAsyncWrite;
        table->funcs.read = valkeyShmRead;
        table->funcs.write = valkeyShmWrite;
#ifdef LIBVALKEY_VERSION_MAJOR
#if LIBVALKEY_VERSION_MAJOR > 0 || LIBVALKEY_VERSION_MINOR >= 3
        table->funcs.read_zc = NULL;
        table->funcs.read_zc_done = NULL;
#endif
#endif
        __atomic_store_n(&table->ready, 2, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&table->ready, __ATOMIC_ACQUIRE) != 2)
        ; /* another thread is at the lines above */
    return c->funcs == table->original || c->funcs == &table->funcs ? table : NULL;
}

static void valkeyShmKeep(void *context, const char *bytes, size_t count) {
    valkeyContext *c = (valkeyContext *)context;
    if (count > 0 && valkeyReaderFeed(c->reader, bytes, count) != VALKEY_OK)
        valkeyShmSetError(c, c->reader->err, c->reader->errstr);
}

/* Why a context cannot move, or NULL. */
static inline const char *valkeyShmObstacle(const valkeyContext *c) {
    if (c->err)
        return "the connection has failed";
    if (c->privctx != NULL)
        return "the connection is over TLS, which shared memory does not go through";
    if (valkeyShmLength(c->obuf) > 0 || c->reader->pos < c->reader->len)
        return "commands or replies are outstanding";
    return NULL;
}

static inline int valkeyShmMove(valkeyContext *c, int64_t timeout_us, const char *obstacle,
                               char *reason, size_t reason_bytes) {
    char text[SHM_FIFO_REDIS_REASON_BYTES] = "";
    valkeyShmFuncs *table = NULL;
    valkeyShmState *state = NULL;
    int result = VALKEY_OK;
    if (valkeyIsOnShm(c))
        goto end;
    if (obstacle == NULL)
        obstacle = valkeyShmObstacle(c);
    if (obstacle == NULL && (table = valkeyShmPrepare(c)) == NULL)
        obstacle = "the context has functions of its own";
    if (obstacle == NULL && (state = (valkeyShmState *)calloc(1, sizeof(*state))) == NULL)
        obstacle = "out of memory";
    if (obstacle != NULL) {
        snprintf(text, sizeof(text), "%s", obstacle);
        goto end;
    }
    switch (shm_fifo_redis_move((int)c->fd, timeout_us, valkeyShmKeep, c, &state->connection, text,
                                sizeof(text))) {
    case SHM_FIFO_REDIS_MOVED:
        c->funcs = &table->funcs;
        c->privctx = state;
        break;
    case SHM_FIFO_REDIS_STAYED:
        free(state);
        break;
    case SHM_FIFO_REDIS_LOST:
        free(state);
        valkeyShmSetError(c, VALKEY_ERR_IO, text);
        break;
    }
    if (c->err)
        result = VALKEY_ERR;
end:
    if (reason != NULL && reason_bytes > 0)
        snprintf(reason, reason_bytes, "%s", text);
    return result;
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
    const char *obstacle = NULL;
    if (!(c->flags & VALKEY_BLOCK))
        obstacle = "a non-blocking context moves with valkeyShmInitiateAsync only";
    return valkeyShmMove(c, valkeyShmTimeout(c), obstacle, reason, reason_bytes);
}

/*
 * The same for an asynchronous context: to be called in its connect callback or in
 * that of a reply, while no other command is outstanding. The two commands that it
 * takes are waited for, for at most `timeout_us` microseconds.
 *
 * After VALKEY_ERR call valkeyAsyncFree or valkeyAsyncDisconnect.
 */
static inline int valkeyShmInitiateAsync(valkeyAsyncContext *ac, int64_t timeout_us, char *reason,
                                        size_t reason_bytes) {
    const char *obstacle = NULL;
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    int result;
    /* Not by VALKEY_CONNECTED, which libvalkey 1.0 sets after the callback. */
    if (getpeername((int)ac->c.fd, (struct sockaddr *)&peer, &length) != 0)
        obstacle = "the context is not connected yet";
    else if (ac->replies.head != NULL)
        obstacle = "commands or replies are outstanding";
    result = valkeyShmMove(&ac->c, timeout_us, obstacle, reason, reason_bytes);
    if (result != VALKEY_OK) {
        ac->err = ac->c.err;
        ac->errstr = ac->c.errstr;
    } else if (valkeyIsOnShm(&ac->c) && ac->ev.addWrite) {
        /* Its first event announces that it sleeps. */
        ac->ev.addWrite(ac->ev.data);
    }
    return result;
}

#ifdef __cplusplus
}
#endif

#endif
#endif
