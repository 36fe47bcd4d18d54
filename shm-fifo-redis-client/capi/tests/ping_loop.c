/* How long a PING takes: ping_loop SOCKET COUNT shm|unix, as a line of JSON. */
#include "names.h"
#include "check.h"
#include <time.h>

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int by_size(const void *left, const void *right) {
    long long difference = *(const long long *)left - *(const long long *)right;
    return (difference > 0) - (difference < 0);
}

int main(int count, char **arguments) {
    redisContext *c;
    long long *times;
    int i, requests;
    CHECK(count == 4);
    requests = atoi(arguments[2]);
    CHECK(requests > 0);
    times = malloc((size_t)requests * sizeof(*times));
    c = redisConnectUnix(arguments[1]);
    CHECK(times != NULL && c != NULL && c->err == 0);
    if (strcmp(arguments[3], "shm") == 0)
        CHECK(redisShmInitiate(c, NULL, 0) == REDIS_OK && redisIsOnShm(c));
    for (i = 0; i < requests; i++) {
        long long start = now_ns();
        redisReply *reply = redisCommand(c, "PING");
        CHECK(reply != NULL);
        freeReplyObject(reply);
        times[i] = now_ns() - start;
    }
    qsort(times, (size_t)requests, sizeof(*times), by_size);
    printf("{\"client\":\"%s\",\"transport\":\"%s\",\"requests\":%d,\"p50_ns\":%lld,"
           "\"p99_ns\":%lld}\n",
           LIBRARY, redisIsOnShm(c) ? "shm" : "unix", requests, times[requests / 2],
           times[(long long)requests * 99 / 100]);
    redisFree(c);
    free(times);
    return 0;
}
