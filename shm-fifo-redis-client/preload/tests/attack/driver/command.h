/* The requests of one connection, and the replies to them. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum kind {
    ID, PING, INCR, ECHO, SET, GETRANGE,
    /* Of the harness's own server only. */
    PIECES, LATE, WITHHOLD, PUSHED, QUIT, HALFQUIT,
};

struct bytes {
    char *data;
    size_t length, capacity;
};

/* What is known of a connection's requests so far: replies depend on it. */
struct generator {
    uint64_t id, requests, increments;
};

void append_bytes(struct bytes *to, const void *data, size_t length);
void drop_front(struct bytes *from, size_t length);

/* Appends a request, and the reply that it will get. */
void generate(struct generator *generator, enum kind kind, size_t size, size_t extra,
              struct bytes *request, struct bytes *reply);

/* The message that PUSH makes the server send. */
void pushed_message(size_t size, struct bytes *message);

extern const char *const kind_names[];
