/* One such part: compiled more than once, each time with another name, as UNIT. */
#include "unit.h"

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

static int move(redisContext *c, char *reason, size_t reason_bytes) {
    return redisShmInitiate(c, reason, reason_bytes);
}

static int is_on_shm(const redisContext *c) { return redisIsOnShm(c); }

static void free_it(redisContext *c) { redisFree(c); }

const Unit UNIT = {TEXT(UNIT), move, is_on_shm, free_it};
