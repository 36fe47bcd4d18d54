/* What the test programs in C share. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                           \
    do {                                                                           \
        if (!(condition)) {                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);        \
            exit(200);                                                             \
        }                                                                          \
    } while (0)

/* The byte that tests send at `position`: `pattern` of src/testing/pattern.rs. */
static inline unsigned char pattern_at(uint64_t position) {
    return (unsigned char)((position % 4093 * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

/* xorshift64*, as in src/testing/random.rs. */
static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

/* A length of 1 or more: small, or around the longest inline message, a quarter or all of the ring. */
static inline size_t next_length(uint64_t *state, size_t ring_bytes) {
    const size_t around[] = {4, 48, ring_bytes / 4, ring_bytes, 2 * ring_bytes};
    size_t middle = around[next_random(state) % 5];
    return middle - 2 + (size_t)(next_random(state) % 5);
}

#endif
