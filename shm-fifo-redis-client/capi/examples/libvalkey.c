/*
 * libvalkey over shared memory. Compile with
 *
 *     cc libvalkey.c $(pkg-config --cflags --libs libvalkey shm_fifo_redis)
 *
 * and run it with the path of the server's unix socket.
 */
#include "shm_fifo_libvalkey.h"

int main(int count, char **arguments) {
    const char *path = count > 1 ? arguments[1] : "/tmp/redis.sock";
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    valkeyReply *reply;

    valkeyContext *c = valkeyConnectUnix(path);
    if (c == NULL || c->err || valkeyShmInitiate(c, reason, sizeof(reason)) != VALKEY_OK) {
        fprintf(stderr, "%s: %s\n", path, c ? c->errstr : "out of memory");
        return 1;
    }
    if (!valkeyIsOnShm(c))
        fprintf(stderr, "still on a socket: %s\n", reason);

    freeReplyObject(valkeyCommand(c, "SET greeting hello"));
    reply = valkeyCommand(c, "GET greeting");
    if (reply != NULL && reply->str != NULL)
        printf("%s, by %s\n", reply->str, valkeyIsOnShm(c) ? "shared memory" : "socket");
    freeReplyObject(reply);
    valkeyFree(c);
    return 0;
}
