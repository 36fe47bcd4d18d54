/* What the driver knows of its connections: what a socket must say of them, and may. */
#pragma once
#include "command.h"
#include "journal.h"
#include "random.h"

#include <stdint.h>

enum { MAX_LIVE = 8, MAX_NAMES = 6, MAX_OBJECTS = 8, MAX_INSTANCES = 6, MAX_WATCHES = 48 };

/* How the program waits. */
enum style {
    HOOKED,
    UNSEEN, /* by system calls that it makes itself: such a connection is left alone */
};

enum server_end { NOT_ENDED, ENDED_SENDING, CLOSED };

/* Where in the replies reading has come to. */
struct cursor {
    size_t at;        /* in `replies` */
    size_t value;     /* in `lengths` */
    size_t in_value;  /* bytes of it that were read */
    unsigned script;  /* bytes of a script's push that were read */
    int perhaps;      /* a `>` was read, of the one or the other */
};

struct connection {
    int is_live, is_tcp, is_endpoint, nonblocking;
    enum style style;
    /* All file descriptors that it has. */
    int fds[MAX_NAMES], names;

    /* What is written. */
    struct generator generator;
    struct bytes rest;        /* of what was begun to be written */
    struct bytes request_ends; /* as offsets in what is written, of what is not yet */
    struct bytes reply_lengths; /* of the same requests */
    uint64_t written, requests;
    uint64_t consumed;        /* bytes that the server had read when it was last asked */
    int ends_by;              /* the last request: QUIT or HALFQUIT */
    int is_held, is_full;     /* the server does not read; the last write found no space */

    /* What is read. */
    struct bytes replies, lengths;
    struct cursor cursor;
    uint64_t taken, taken_of_scripts;
    uint64_t expected;        /* bytes that answer what is written, and were pushed */
    uint64_t arrived;         /* bytes that are there, or were */
    int is_synced, is_stuck;  /* nothing more comes; or only when something is read */
    int withholds;
    uint64_t withheld_bytes, withheld_requests; /* what comes and is executed before */

    int may_die, may_push, pushes, refuses_start;
    enum server_end server_end;
    int shut_reading, shut_writing;
    int receive_timeout_ms;
};

extern struct connection connections[MAX_LIVE];
extern const char *unix_path;
extern int tcp_port, endpoint_is_tcp, both_are_endpoints, is_plain;

/* Bits of poll and epoll that are certainly there, and that may be. */
struct ready { unsigned must, may; };

struct ready readiness(const struct connection *c);

/* How many bytes can certainly be read, could be, and will come without our doing. */
uint64_t surely_unread(const struct connection *c);
uint64_t perhaps_unread(const struct connection *c);
uint64_t coming(const struct connection *c);
/* The server may have ended it, or has. */
int perhaps_ended(const struct connection *c);
/* Nothing comes, nor does the end, before something is done. */
int is_certain(const struct connection *c);

struct connection *any_connection(struct random *random);
int any_name(const struct connection *c, struct random *random);
/* The library has evidence now, or may have. */
void seen_waiting(const struct connection *c);

void add_request(struct connection *c, enum kind kind, size_t size, size_t extra);
void add_push(struct connection *c, size_t size);
/* `count` bytes of `rest` were taken by a call. */
void was_written(struct connection *c, size_t count);
/* These bytes were read, or peeked at. */
void was_read(struct connection *c, const char *data, size_t count, int peeked);

/* Waits, without any hooked call, until the server has got all and answered all. */
void sync_with_server(struct connection *c);
