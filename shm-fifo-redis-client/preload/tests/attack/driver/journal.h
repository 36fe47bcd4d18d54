/* What the driver does, step by step, in a file that is mapped: it outlives the driver. Its
 * layout is that of `journal.rs`. */
#pragma once
#include <stdint.h>

enum { MAX_CONNECTIONS = 1 << 16, TEXT_BYTES = 8 << 20 };

struct journal {
    uint64_t steps, finished, calls, text_used, unused[4];
    struct {
        uint64_t requests;     /* whole ones, by the success of the calls that wrote them */
        uint64_t seen_waiting; /* a hooked call has waited for it, or may have */
        uint64_t may_be_lost;  /* the server ends it, or ended it, with requests unread */
        uint64_t unused;
    } connections[MAX_CONNECTIONS];
    char text[TEXT_BYTES];
};

extern struct journal *journal;

void journal_open(const char *path);

/* A line of its own. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line that is the same on a socket and in shared memory. */
void compare(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Something happened that does not happen on a socket. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition, ...) \
    do {                      \
        if (!(condition)) fail(__VA_ARGS__); \
    } while (0)

/* A call of the C library is about to be made. */
static inline void count_call(void) { __atomic_fetch_add(&journal->calls, 1, __ATOMIC_RELAXED); }
#define CALL(expression) (count_call(), (expression))
