/*
 * hiredis over shared memory. Compile with
 *
 *     cc hiredis.c $(pkg-config --cflags --libs hiredis shm_fifo_redis)
 *
 * and run it with the path of the server's unix socket.
 */
#include "shm_fifo_hiredis.h"

int main(int count, char **arguments) {
    const char *path = count > 1 ? arguments[1] : "/tmp/redis.sock";
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    redisReply *reply;

    redisContext *c = redisConnectUnix(path);
    if (c == NULL || c->err || redisShmInitiate(c, reason, sizeof(reason)) != REDIS_OK) {
        fprintf(stderr, "%s: %s\n", path, c ? c->errstr : "out of memory");
        return 1;
    }
    if (!redisIsOnShm(c))
        fprintf(stderr, "still on a socket: %s\n", reason);

    freeReplyObject(redisCommand(c, "SET greeting hello"));
    reply = redisCommand(c, "GET greeting");
    if (reply != NULL && reply->str != NULL)
        printf("%s, by %s\n", reply->str, redisIsOnShm(c) ? "shared memory" : "socket");
    freeReplyObject(reply);
    redisFree(c);
    return 0;
}
