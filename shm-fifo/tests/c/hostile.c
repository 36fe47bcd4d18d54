/*
 * Both ends of a FIFO by include/shm_fifo_ring.h, while any word gets any value: each call
 * answers with no more bytes than there can be, or with -EPROTO, and touches nothing beside
 * the ring and the caller's memory.
 */
#include "../../include/shm_fifo_ring.h"

#include "check.h"

enum { RING_BYTES = 4096, GUARD_BYTES = 64, ROUNDS = 3000, STEPS = 40 };

static uint64_t seed = 7;

/* Any value: most of them near a position. */
static uint64_t any_value(uint64_t near) {
    const uint64_t values[] = {0, 1, near, near + 1, near - 1, near + RING_BYTES,
                               near + RING_BYTES + 1, near - RING_BYTES, UINT64_MAX, next_random(&seed)};
    return values[next_random(&seed) % 10];
}

static void scribble(shm_fifo_header *header, uint64_t near) {
    uint64_t *words = (uint64_t *)header;
    size_t word = (size_t)(next_random(&seed) % (sizeof *header / 8));
    const size_t told[] = {0, 1, 7, 8, 16, 17, 32, 48};
    if (next_random(&seed) % 4 != 0)
        word = told[next_random(&seed) % 8];
    __atomic_store_n(&words[word], any_value(near), __ATOMIC_RELAXED);
}

static void check_guard(const unsigned char *guard) {
    for (size_t i = 0; i < GUARD_BYTES; i++)
        CHECK(guard[i] == 0xEE);
}

static void live(shm_fifo_header *header, unsigned char *ring) {
    static unsigned char bytes[2 * RING_BYTES + 8 + GUARD_BYTES];
    shm_fifo_producer producer;
    shm_fifo_consumer consumer;
    memset(header, 0, sizeof *header);
    CHECK(shm_fifo_producer_init(&producer, header, ring, RING_BYTES) == 0);
    CHECK(shm_fifo_consumer_init(&consumer, header, ring, RING_BYTES) == 0);
    for (int step = 0; step < STEPS; step++) {
        size_t length = next_length(&seed, RING_BYTES);
        memset(bytes, 0x11, length);
        memset(bytes + length, 0xEE, GUARD_BYTES);
        uint64_t before = producer.tail;
        ssize_t written = shm_fifo_producer_write(&producer, bytes, length);
        CHECK(written == -EPROTO || (written >= 0 && (size_t)written <= length));
        CHECK(written <= RING_BYTES && producer.tail - before == (uint64_t)(written < 0 ? 0 : written));
        scribble(header, producer.tail);
        before = consumer.head;
        ssize_t taken = shm_fifo_consumer_read(&consumer, bytes, length);
        CHECK(taken == -EPROTO || (taken >= 0 && (size_t)taken <= length));
        CHECK(taken <= RING_BYTES && consumer.head - before == (uint64_t)(taken < 0 ? 0 : taken));
        check_guard(bytes + length);
        scribble(header, consumer.head);
        if (shm_fifo_producer_park(&producer))
            shm_fifo_producer_unpark(&producer);
        if (shm_fifo_consumer_park(&consumer))
            shm_fifo_consumer_unpark(&consumer);
        (void)shm_fifo_producer_needs_notify(&producer);
        (void)shm_fifo_consumer_needs_notify(&consumer);
    }
}

/* One wrong position after the other, on either side. */
static void refuse(shm_fifo_header *header, unsigned char *ring) {
    const unsigned char bytes[100] = {0};
    unsigned char target[200];
    shm_fifo_producer producer;
    shm_fifo_consumer consumer;
    memset(header, 0, sizeof *header);
    CHECK(shm_fifo_producer_init(&producer, header, ring, RING_BYTES) == 0);
    CHECK(shm_fifo_consumer_init(&consumer, header, ring, RING_BYTES) == 0);
    CHECK(shm_fifo_producer_write(&producer, bytes, 100) == 100);
    CHECK(shm_fifo_consumer_read(&consumer, target, 60) == 60);
    CHECK(shm_fifo_producer_free_bytes(&producer) == RING_BYTES - 40);
    const uint64_t tails[] = {59, 99, 61 + RING_BYTES, UINT64_MAX};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        __atomic_store_n(&header->tail, tails[i], __ATOMIC_RELAXED);
        CHECK(shm_fifo_consumer_available_bytes(&consumer) == -EPROTO);
        CHECK(shm_fifo_consumer_read(&consumer, target, 200) == -EPROTO);
    }
    const uint64_t heads[] = {59, 101, 0, UINT64_MAX};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        __atomic_store_n(&header->head, heads[i], __ATOMIC_RELAXED);
        CHECK(shm_fifo_producer_free_bytes(&producer) == -EPROTO);
        CHECK(shm_fifo_producer_write(&producer, ring, RING_BYTES) == -EPROTO);
    }
    CHECK(producer.tail == 100 && consumer.head == 60);
}

int main(void) {
    unsigned char *ring = (unsigned char *)malloc(RING_BYTES + 2 * GUARD_BYTES);
    shm_fifo_header *header = (shm_fifo_header *)aligned_alloc(128, sizeof *header);
    shm_fifo_producer producer;
    CHECK(ring != NULL && header != NULL);
    CHECK(shm_fifo_producer_init(&producer, header, ring, 0) == -EINVAL);
    CHECK(shm_fifo_producer_init(&producer, header, ring, RING_BYTES + 1) == -EINVAL);
    memset(ring, 0xEE, RING_BYTES + 2 * GUARD_BYTES);
    refuse(header, ring + GUARD_BYTES);
    for (int round = 0; round < ROUNDS; round++)
        live(header, ring + GUARD_BYTES);
    check_guard(ring);
    check_guard(ring + GUARD_BYTES + RING_BYTES);
    free(header);
    free(ring);
    return 0;
}
