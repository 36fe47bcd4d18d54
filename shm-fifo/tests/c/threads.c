/*
 * Two threads with a FIFO between them on the heap, by include/shm_fifo_ring.h: each length
 * around those where something changes, with sleeps on both sides.
 */
#include "../../include/shm_fifo_ring.h"

#include "check.h"

#include <pthread.h>
#include <semaphore.h>

enum { RING_BYTES = 4096, TOTAL = 3 << 20 };

static struct {
    shm_fifo_header *header;
    unsigned char *ring;
    sem_t producers_doorbell, consumers_doorbell;
} shared;

static void *produce(void *nothing) {
    static unsigned char bytes[2 * RING_BYTES + 8];
    shm_fifo_producer producer;
    uint64_t position = 0, random = 1;
    CHECK(shm_fifo_producer_init(&producer, shared.header, shared.ring, RING_BYTES) == 0);
    while (position < TOTAL) {
        size_t length = next_length(&random, RING_BYTES);
        for (size_t i = 0; i < length; i++)
            bytes[i] = pattern_at(position + i);
        ssize_t count = shm_fifo_producer_write(&producer, bytes, length);
        CHECK(count >= 0 && (size_t)count <= length);
        position += (uint64_t)count;
        if (count > 0 && shm_fifo_producer_needs_notify(&producer))
            CHECK(sem_post(&shared.consumers_doorbell) == 0);
        if (count == 0 && shm_fifo_producer_park(&producer)) {
            CHECK(sem_wait(&shared.producers_doorbell) == 0);
            shm_fifo_producer_unpark(&producer);
        }
    }
    shm_fifo_producer_close(&producer);
    if (shm_fifo_producer_needs_notify(&producer))
        CHECK(sem_post(&shared.consumers_doorbell) == 0);
    return nothing;
}

static void consume(void) {
    static unsigned char bytes[2 * RING_BYTES + 8];
    shm_fifo_consumer consumer;
    uint64_t position = 0, random = 2;
    CHECK(shm_fifo_consumer_init(&consumer, shared.header, shared.ring, RING_BYTES) == 0);
    for (;;) {
        bool at_end = shm_fifo_consumer_peer_closed(&consumer);
        size_t room = next_length(&random, RING_BYTES);
        ssize_t count = shm_fifo_consumer_read(&consumer, bytes, room);
        CHECK(count >= 0 && (size_t)count <= room);
        for (ssize_t i = 0; i < count; i++)
            CHECK(bytes[i] == pattern_at(position++));
        if (shm_fifo_consumer_needs_notify(&consumer))
            CHECK(sem_post(&shared.producers_doorbell) == 0);
        if (count > 0)
            continue;
        if (at_end)
            break;
        if (shm_fifo_consumer_needs_notify_now(&consumer))
            CHECK(sem_post(&shared.producers_doorbell) == 0);
        if (shm_fifo_consumer_park(&consumer)) {
            CHECK(sem_wait(&shared.consumers_doorbell) == 0);
            shm_fifo_consumer_unpark(&consumer);
        }
    }
    CHECK(position >= TOTAL);
}

int main(void) {
    pthread_t producer;
    shared.header = (shm_fifo_header *)aligned_alloc(128, sizeof *shared.header);
    shared.ring = (unsigned char *)aligned_alloc(128, RING_BYTES);
    CHECK(shared.header != NULL && shared.ring != NULL);
    memset(shared.header, 0, sizeof *shared.header);
    CHECK(sem_init(&shared.producers_doorbell, 0, 0) == 0);
    CHECK(sem_init(&shared.consumers_doorbell, 0, 0) == 0);
    CHECK(pthread_create(&producer, NULL, produce, NULL) == 0);
    consume();
    CHECK(pthread_join(producer, NULL) == 0);
    free(shared.ring);
    free(shared.header);
    return 0;
}
