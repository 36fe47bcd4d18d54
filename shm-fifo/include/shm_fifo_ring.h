/*
 * shm-fifo: one FIFO of bytes in memory that a producer and a consumer share.
 *
 * The two may be threads, or processes that do not trust each other: whatever the
 * other end writes into the shared memory, these functions answer with bytes or with
 * -EPROTO. They never wait, enter no operating system and allocate nothing.
 * shm_fifo.h makes a connection of two processes of it.
 *
 * Header only, for C11 and C++11 or later, GCC or Clang, on 64-bit machines. It knows no
 * more than docs/layout.md; the edges E1 to E5 are those of docs/memory-ordering.md.
 *
 * Functions that return ssize_t or int return less than 0, a negative errno, where they
 * fail. Names with `_detail_`, and the members of all structs, are not for users.
 *
 * Licence: MIT OR Apache-2.0.
 */
#ifndef SHM_FIFO_RING_H
#define SHM_FIFO_RING_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#ifndef __GNUC__
#error "shm_fifo_ring.h needs the __atomic builtins of GCC or Clang"
#endif
#if UINTPTR_MAX != UINT64_MAX || __GCC_ATOMIC_LLONG_LOCK_FREE != 2
#error "shm-fifo's layout is defined for 64-bit machines with 64-bit atomics only"
#endif

enum {
    /* The longest message that travels in the cache line of the producer's position. */
    SHM_FIFO_INLINE_BYTES = 48,
    /* How large a ring may be: a power of two from one to the other. */
    SHM_FIFO_RING_BYTES_MIN = 4096,
    SHM_FIFO_RING_BYTES_MAX = 1 << 30
};

/*
 * The words that both ends share; 512 bytes, to be aligned to 128. A zeroed one is an
 * empty FIFO.
 */
typedef struct shm_fifo_header {
    uint64_t inline_key;
    uint64_t inline_words[SHM_FIFO_INLINE_BYTES / 8];
    uint64_t tail;
    uint32_t producer_closed;
    uint32_t producer_leaves;
    uint32_t reserved_for_producer[14];
    uint64_t head;
    uint32_t consumer_closed;
    uint32_t reserved_for_consumer[29];
    uint32_t consumer_parked;
    uint32_t consumer_cpu;
    uint32_t reserved_for_waiting_consumer[30];
    uint32_t producer_parked;
    uint32_t producer_cpu;
    uint32_t reserved_for_waiting_producer[30];
} shm_fifo_header;

static_assert(sizeof(shm_fifo_header) == 512, "as docs/layout.md says");
static_assert(offsetof(shm_fifo_header, tail) == 56, "as docs/layout.md says");
static_assert(offsetof(shm_fifo_header, producer_closed) == 64, "as docs/layout.md says");
static_assert(offsetof(shm_fifo_header, head) == 128, "as docs/layout.md says");
static_assert(offsetof(shm_fifo_header, consumer_closed) == 136, "as docs/layout.md says");
static_assert(offsetof(shm_fifo_header, consumer_parked) == 256, "as docs/layout.md says");
static_assert(offsetof(shm_fifo_header, producer_parked) == 384, "as docs/layout.md says");

/* The writing end. One thread at a time uses it. */
typedef struct shm_fifo_producer {
    shm_fifo_header *header;
    unsigned char *ring;
    uint64_t ring_bytes;
    uint64_t tail;      /* This side's position: never read back from the header. */
    uint64_t seen_head; /* The peer's, when it was last looked at. */
} shm_fifo_producer;

/* The reading end. One thread at a time uses it. */
typedef struct shm_fifo_consumer {
    shm_fifo_header *header;
    const unsigned char *ring;
    uint64_t ring_bytes;
    uint64_t head;         /* This side's position: never read back from the header. */
    uint64_t seen_tail;    /* The peer's, when it was last looked at. */
    uint64_t head_at_look; /* This side's, when it last looked for a producer that sleeps. */
} shm_fifo_consumer;

static inline bool shm_fifo_detail_is_ring_size(uint64_t bytes) {
    return bytes >= SHM_FIFO_RING_BYTES_MIN && bytes <= SHM_FIFO_RING_BYTES_MAX &&
           (bytes & (bytes - 1)) == 0;
}

static inline uint64_t shm_fifo_detail_least(uint64_t one, uint64_t other) {
    return one < other ? one : other;
}

/* How many of `length` bytes at `index` lie before the ring's end. */
static inline uint64_t shm_fifo_detail_to_end(uint64_t ring_bytes, uint64_t index, uint64_t length) {
    return shm_fifo_detail_least(length, ring_bytes - index);
}

/* `inline_key` of a message of `length` bytes at `position`. */
static inline uint64_t shm_fifo_detail_key(uint64_t position, uint64_t length) {
    return position << 6 | length;
}

/*
 * After a position or a closed word was stored: whether the peer sleeps by `parked`.
 * Takes its announcement back, before the caller rings.
 */
static inline bool shm_fifo_detail_take(uint32_t *parked) {
    /* ORDERING E3: pairs with the fence in `announce`. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!__atomic_load_n(parked, __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(parked, 0, __ATOMIC_RELAXED);
    return true;
}

/* Announces a sleep; what it is for is looked for afterwards. */
static inline void shm_fifo_detail_announce(uint32_t *parked) {
    __atomic_store_n(parked, 1, __ATOMIC_RELAXED);
    /* ORDERING E3: pairs with the fence in `take`. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ------------------------------------------------------------------ producer */

/*
 * Makes `producer` the writing end of the FIFO of `header` and of `ring_bytes` bytes at
 * `ring`, a power of two of at least 4096, through which nothing has passed yet.
 *
 * Returns 0, or -EINVAL if no FIFO has such a ring.
 */
static inline int shm_fifo_producer_init(shm_fifo_producer *producer, shm_fifo_header *header,
                                         void *ring, size_t ring_bytes) {
    if (!shm_fifo_detail_is_ring_size(ring_bytes))
        return -EINVAL;
    producer->header = header;
    producer->ring = (unsigned char *)ring;
    producer->ring_bytes = ring_bytes;
    producer->tail = producer->seen_head = 0;
    return 0;
}

/*
 * How many bytes can be written now: grows at any time, and shrinks by writing alone.
 * -EPROTO if the consumer's position is impossible.
 */
static inline ssize_t shm_fifo_producer_free_bytes(shm_fifo_producer *producer) {
    /* ORDERING E2 (space free), Acquire: pairs with the Release store in `_read`. */
    uint64_t head = __atomic_load_n(&producer->header->head, __ATOMIC_ACQUIRE);
    uint64_t used = producer->tail - head;
    /* Less space than was seen before is as impossible as more than there is. */
    if (used > producer->tail - producer->seen_head)
        return -EPROTO;
    producer->seen_head = head;
    return (ssize_t)(producer->ring_bytes - used);
}

static inline void shm_fifo_detail_copy_in(const shm_fifo_producer *producer,
                                           const unsigned char *bytes, size_t length) {
    uint64_t index = producer->tail & (producer->ring_bytes - 1);
    uint64_t to_end = shm_fifo_detail_to_end(producer->ring_bytes, index, length);
    memcpy(producer->ring + index, bytes, to_end);
    memcpy(producer->ring, bytes + to_end, length - to_end);
}

/* Repeats a message of at most 48 bytes beside the position. */
static inline void shm_fifo_detail_store_inline(const shm_fifo_producer *producer,
                                                const unsigned char *bytes, size_t length) {
    shm_fifo_header *header = producer->header;
    uint64_t words[SHM_FIFO_INLINE_BYTES / 8] = {0};
    memcpy(words, bytes, length);
    __atomic_store_n(&header->inline_key, shm_fifo_detail_key(producer->tail, length),
                     __ATOMIC_RELAXED);
    /* ORDERING E5 (inline message), Release: pairs with the fence in `take_inline`. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (size_t i = 0; i < (length + 7) / 8; i++)
        __atomic_store_n(&header->inline_words[i], words[i], __ATOMIC_RELAXED);
}

/*
 * Writes as many of `length` bytes as there is space for, and publishes them. Returns how
 * many, 0 if there is no space; -EPROTO if the consumer's position is impossible.
 *
 * Afterwards `shm_fifo_producer_needs_notify` is to be asked.
 */
static inline ssize_t shm_fifo_producer_write(shm_fifo_producer *producer, const void *bytes,
                                              size_t length) {
    uint64_t space = producer->ring_bytes - (producer->tail - producer->seen_head);
    if (space < length) {
        ssize_t now = shm_fifo_producer_free_bytes(producer);
        if (now < 0)
            return now;
        space = (uint64_t)now;
    }
    length = shm_fifo_detail_least(length, space);
    if (length == 0)
        return 0;
    shm_fifo_detail_copy_in(producer, (const unsigned char *)bytes, length);
    if (length <= SHM_FIFO_INLINE_BYTES)
        shm_fifo_detail_store_inline(producer, (const unsigned char *)bytes, length);
    producer->tail += length;
    /* ORDERING E1 (data ready), Release: pairs with the load in `_available_bytes`. */
    __atomic_store_n(&producer->header->tail, producer->tail, __ATOMIC_RELEASE);
    return (ssize_t)length;
}

/*
 * After writing or closing: whether the consumer sleeps, and its doorbell is to be rung.
 * Says so once for each sleep.
 */
static inline bool shm_fifo_producer_needs_notify(shm_fifo_producer *producer) {
    return shm_fifo_detail_take(&producer->header->consumer_parked);
}

/* Ends the stream, behind what was written. */
static inline void shm_fifo_producer_close(shm_fifo_producer *producer) {
    /* ORDERING E4 (close), Release: pairs with `shm_fifo_consumer_peer_closed`. */
    __atomic_store_n(&producer->header->producer_closed, 1, __ATOMIC_RELEASE);
}

/* Whether the consumer has ended: nobody reads what is written. */
static inline bool shm_fifo_producer_peer_closed(const shm_fifo_producer *producer) {
    /* ORDERING E4 (close), Acquire: pairs with `shm_fifo_consumer_close`. */
    return __atomic_load_n(&producer->header->consumer_closed, __ATOMIC_ACQUIRE) != 0;
}

/* Whether there is space worth waking for, or an end or an impossible position to notice. */
static inline bool shm_fifo_detail_has_space(const shm_fifo_producer *producer) {
    /* ORDERING E2, Acquire: as in `_free_bytes`, which validates what is a hint here. */
    uint64_t used = producer->tail - __atomic_load_n(&producer->header->head, __ATOMIC_ACQUIRE);
    return used <= producer->ring_bytes / 4 * 3 || used > producer->ring_bytes ||
           shm_fifo_producer_peer_closed(producer);
}

/* Takes the announcement of a sleep back. */
static inline void shm_fifo_producer_unpark(shm_fifo_producer *producer) {
    __atomic_store_n(&producer->header->producer_parked, 0, __ATOMIC_RELAXED);
}

/*
 * Announces that this side sleeps until its doorbell rings for space, a quarter of the
 * ring, or the consumer's end. Returns whether it may: false, with nothing announced, if
 * either is there. Who wakes calls `shm_fifo_producer_unpark`.
 */
static inline bool shm_fifo_producer_park(shm_fifo_producer *producer) {
    shm_fifo_detail_announce(&producer->header->producer_parked);
    if (!shm_fifo_detail_has_space(producer))
        return true;
    shm_fifo_producer_unpark(producer);
    return false;
}

/* ------------------------------------------------------------------ consumer */

/* As `shm_fifo_producer_init`, of the reading end. */
static inline int shm_fifo_consumer_init(shm_fifo_consumer *consumer, shm_fifo_header *header,
                                         const void *ring, size_t ring_bytes) {
    if (!shm_fifo_detail_is_ring_size(ring_bytes))
        return -EINVAL;
    consumer->header = header;
    consumer->ring = (const unsigned char *)ring;
    consumer->ring_bytes = ring_bytes;
    consumer->head = consumer->seen_tail = consumer->head_at_look = 0;
    return 0;
}

/*
 * How many bytes can be read now: grows at any time, and shrinks by reading alone.
 * -EPROTO if the producer's position is impossible.
 */
static inline ssize_t shm_fifo_consumer_available_bytes(shm_fifo_consumer *consumer) {
    /* ORDERING E1 (data ready), Acquire: pairs with the Release store in `_write`. */
    uint64_t tail = __atomic_load_n(&consumer->header->tail, __ATOMIC_ACQUIRE);
    uint64_t available = tail - consumer->head;
    /* Less than was seen before is as impossible as more than the ring holds. */
    if (available > consumer->ring_bytes || available < consumer->seen_tail - consumer->head)
        return -EPROTO;
    consumer->seen_tail = tail;
    return (ssize_t)available;
}

static inline void shm_fifo_detail_copy_out(const shm_fifo_consumer *consumer,
                                            unsigned char *bytes, size_t length) {
    uint64_t index = consumer->head & (consumer->ring_bytes - 1);
    uint64_t to_end = shm_fifo_detail_to_end(consumer->ring_bytes, index, length);
    memcpy(bytes, consumer->ring + index, to_end);
    memcpy(bytes + to_end, consumer->ring, length - to_end);
    /* The peer may change the ring: the compiler is not to read there what it has here. */
    __asm__ __volatile__("" : : : "memory");
}

/* Takes the inline message, if it is the one of `length` bytes at the head. */
static inline bool shm_fifo_detail_take_inline(const shm_fifo_consumer *consumer,
                                               unsigned char *bytes, uint64_t length) {
    const shm_fifo_header *header = consumer->header;
    uint64_t words[SHM_FIFO_INLINE_BYTES / 8];
    if (length == 0 || length > SHM_FIFO_INLINE_BYTES)
        return false;
    for (size_t i = 0; i < SHM_FIFO_INLINE_BYTES / 8; i++)
        words[i] = __atomic_load_n(&header->inline_words[i], __ATOMIC_RELAXED);
    /* ORDERING E5 (inline message), Acquire: pairs with the fence in `store_inline`. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    uint64_t key = __atomic_load_n(&header->inline_key, __ATOMIC_RELAXED);
    if (key != shm_fifo_detail_key(consumer->head, length))
        return false;
    memcpy(bytes, words, length);
    return true;
}

/*
 * Reads at most `room` bytes. Returns how many, 0 if there are none; -EPROTO if the
 * producer's position is impossible.
 *
 * Afterwards `shm_fifo_consumer_needs_notify` is to be asked.
 */
static inline ssize_t shm_fifo_consumer_read(shm_fifo_consumer *consumer, void *bytes, size_t room) {
    unsigned char *target = (unsigned char *)bytes;
    uint64_t available = consumer->seen_tail - consumer->head;
    bool is_copied = false;
    if (available < room) {
        ssize_t now = shm_fifo_consumer_available_bytes(consumer);
        if (now < 0)
            return now;
        available = (uint64_t)now;
        is_copied = available <= room && shm_fifo_detail_take_inline(consumer, target, available);
    }
    uint64_t length = shm_fifo_detail_least(available, room);
    if (length == 0)
        return 0;
    if (!is_copied)
        shm_fifo_detail_copy_out(consumer, target, length);
    consumer->head += length;
    /* ORDERING E2 (space free), Release: pairs with the load in `_free_bytes`. */
    __atomic_store_n(&consumer->header->head, consumer->head, __ATOMIC_RELEASE);
    return (ssize_t)length;
}

/*
 * Whether the producer sleeps for space, and its doorbell is to be rung: to be asked before
 * sleeping, before anything else that takes long, and after closing.
 */
static inline bool shm_fifo_consumer_needs_notify_now(shm_fifo_consumer *consumer) {
    consumer->head_at_look = consumer->head;
    return shm_fifo_detail_take(&consumer->header->producer_parked);
}

/* The same after each read: it looks once for each half ring, which is enough. */
static inline bool shm_fifo_consumer_needs_notify(shm_fifo_consumer *consumer) {
    return consumer->head - consumer->head_at_look >= consumer->ring_bytes / 2 &&
           shm_fifo_consumer_needs_notify_now(consumer);
}

/* Tells the producer that nobody reads any more. */
static inline void shm_fifo_consumer_close(shm_fifo_consumer *consumer) {
    /* ORDERING E4 (close), Release: pairs with `shm_fifo_producer_peer_closed`. */
    __atomic_store_n(&consumer->header->consumer_closed, 1, __ATOMIC_RELEASE);
}

/*
 * Whether the producer has ended. What it wrote before is there: if a read *after* this
 * finds nothing, the stream is at its end.
 */
static inline bool shm_fifo_consumer_peer_closed(const shm_fifo_consumer *consumer) {
    /* ORDERING E4 (close), Acquire: pairs with `shm_fifo_producer_close`. */
    return __atomic_load_n(&consumer->header->producer_closed, __ATOMIC_ACQUIRE) != 0;
}

/* Whether there is something to read, or an end to notice. */
static inline bool shm_fifo_detail_has_data(const shm_fifo_consumer *consumer) {
    /* ORDERING E1, Acquire: as in `_available_bytes`, which validates what is a hint here. */
    return __atomic_load_n(&consumer->header->tail, __ATOMIC_ACQUIRE) != consumer->head ||
           shm_fifo_consumer_peer_closed(consumer);
}

/* Takes the announcement of a sleep back. */
static inline void shm_fifo_consumer_unpark(shm_fifo_consumer *consumer) {
    __atomic_store_n(&consumer->header->consumer_parked, 0, __ATOMIC_RELAXED);
}

/*
 * Announces that this side sleeps until its doorbell rings for something to read, or the
 * producer's end. Returns whether it may: false, with nothing announced, if either is
 * there. Who wakes calls `shm_fifo_consumer_unpark`.
 *
 * `shm_fifo_consumer_needs_notify_now` is to be asked before: two ends must not sleep
 * for each other.
 */
static inline bool shm_fifo_consumer_park(shm_fifo_consumer *consumer) {
    shm_fifo_detail_announce(&consumer->header->consumer_parked);
    if (!shm_fifo_detail_has_data(consumer))
        return true;
    shm_fifo_consumer_unpark(consumer);
    return false;
}

#endif /* SHM_FIFO_RING_H */
