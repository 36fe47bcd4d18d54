/* The program that redis-shm conformance runs to look at this interface: docs/conformance.md. */
#include "names.h"
#include "check.h"

static redisContext *connect_to(const char *place) {
    const char *port = strrchr(place, ':');
    redisContext *c =
        *place == '/' ? redisConnectUnix(place) : redisConnect("127.0.0.1", atoi(port + 1));
    CHECK(c != NULL && c->err == 0);
    return c;
}

/* The server may push then. hiredis 1.0.0 takes a push behind a reply for the next one, whatever
 * carries it. */
static void speak_resp3(redisContext *c) {
#if defined(LIBVALKEY) || HIREDIS_MAJOR > 1 || HIREDIS_MINOR > 0 || HIREDIS_PATCH > 0
    redisReply *reply = redisCommand(c, "HELLO 3");
    CHECK(reply != NULL);
    freeReplyObject(reply);
#else
    (void)c;
#endif
}

int main(void) {
    const char *place = getenv("SHM_FIFO_CONFORMANCE");
    redisContext *c;
    redisReply *next, *echo;
    CHECK(place != NULL);
    watch();
    c = connect_to(place);
    speak_resp3(c);
    CHECK(redisShmInitiate(c, NULL, 0) == REDIS_OK);
    for (;;) {
        next = redisCommand(c, "GET next");
        CHECK(next != NULL);
        if (next->str == NULL)
            break;
        echo = redisCommand(c, "ECHO %b", next->str, next->len);
        CHECK(echo != NULL && echo->len == next->len);
        CHECK(memcmp(echo->str, next->str, next->len) == 0);
        freeReplyObject(echo);
        freeReplyObject(next);
    }
    freeReplyObject(next);
    redisFree(c);
    return 0;
}
