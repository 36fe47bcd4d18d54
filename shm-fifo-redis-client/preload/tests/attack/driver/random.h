/* splitmix64: what is random depends on the seed and the number of the step, on nothing that
 * happens. So steps can be left out, and the others stay what they are. */
#pragma once
#include <stdint.h>

struct random { uint64_t state; };

static inline uint64_t mix(uint64_t seed) {
    seed += 0x9e3779b97f4a7c15;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111eb;
    return seed ^ (seed >> 31);
}

static inline struct random random_of(uint64_t seed, uint64_t number) {
    return (struct random){mix(seed) ^ mix(number * 2 + 1)};
}

static inline uint64_t any(struct random *random) { return random->state = mix(random->state); }

/* One of 0..n-1. */
static inline unsigned below(struct random *random, unsigned n) { return any(random) % n; }

/* True once in n times. */
static inline int once_in(struct random *random, unsigned n) { return below(random, n) == 0; }

/* A length up to `most`, more often a short one. */
static inline unsigned length_up_to(struct random *random, unsigned most) {
    unsigned bits = 1;
    while (1u << bits <= most && bits < 31) bits++;
    unsigned length = below(random, 1u << (1 + below(random, bits)));
    return length > most ? most : length;
}

/* How much a choice prefers the one that was made in step `made`. The one that it prefers
 * stays that, whichever others there are: so a run can be shrunk. */
static inline uint64_t preference(uint64_t choice, uint64_t made) { return mix(choice ^ mix(made)); }
