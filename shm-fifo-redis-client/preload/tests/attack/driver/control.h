/* The harness's own way to the server, past all hooks. */
#pragma once
#include <stdint.h>

enum operation {
    SYNC = 1,       /* until so many bytes and requests have come, and all is answered */
    HOLD,           /* reads nothing more */
    RELEASE,        /* reads on */
    PUSH,           /* sends a message of so many bytes that nobody asked for */
    CLOSE,
    END_SENDING,
    RELEASE_REPLY,  /* what WITHHOLD withheld */
    WAIT_FOR_END,   /* until the server has seen the end of it */
    LATER = 0x100,  /* after so many microseconds; the answer comes at once */
    AT_ONCE = 0x200, /* nothing is waited for; IN_VAIN if it would have to be */
};

enum {
    IS_CLOSED = 1,
    HAS_MOVED = 2,
    IS_STUCK = 4, /* there are bytes that the server had no room for */
    MAY_DIE = 8,
    MAY_PUSH = 16, /* with a step of the move that is to come yet */
    REFUSES_START = 32,
    IN_VAIN = 64,
    HAS_FAULT = 128,
    PUSHES = 256, /* with some step of the move */
};

struct answer {
    uint64_t flags, requests, bytes_in, bytes_out, script_bytes_out, unused[3];
};

void control_open(const char *path);
struct answer control(enum operation operation, uint64_t id, uint64_t a, uint64_t b);
