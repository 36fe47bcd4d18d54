/* A blocking context over shared memory: blocking SOCKET PORT, on a server of the
 * test's own that has the module. */
#include "names.h"
#include "check.h"

#include <errno.h>

static const char *socket_path;
static int port;

static redisContext *connect_unix(void) {
    redisContext *c = redisConnectUnix(socket_path);
    CHECK(c != NULL && c->err == 0);
    return c;
}

static void move(redisContext *c) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK_TEXT(reason, "");
    CHECK(redisIsOnShm(c));
}

static redisContext *connect_shm(void) {
    redisContext *c = connect_unix();
    move(c);
    return c;
}

/* Sends a command and checks that it is answered by this text. */
static void expect(redisContext *c, const char *command, const char *text) {
    redisReply *reply = redisCommand(c, command);
    CHECK(reply != NULL);
    CHECK_TEXT(reply->str, text);
    freeReplyObject(reply);
}

static long long integer(redisContext *c, const char *command) {
    redisReply *reply = redisCommand(c, command);
    long long value;
    CHECK(reply != NULL && reply->type == REDIS_REPLY_INTEGER);
    value = reply->integer;
    freeReplyObject(reply);
    return value;
}

static long long sessions(redisContext *c) {
    redisReply *reply = redisCommand(c, "INFO shm");
    const char *line;
    long long value;
    CHECK(reply != NULL);
    line = strstr(reply->str, "shm_sessions:");
    CHECK(line != NULL);
    value = atoll(line + strlen("shm_sessions:"));
    freeReplyObject(reply);
    return value;
}

static void commands_are_answered(redisContext *c) {
    redisReply *reply;
    expect(c, "SET key value", "OK");
    expect(c, "GET key", "value");
    reply = redisCommand(c, "NONSENSE");
    CHECK(reply != NULL && reply->type == REDIS_REPLY_ERROR && c->err == 0);
    freeReplyObject(reply);
    expect(c, "PING", "PONG");
    /* Already there: nothing to do. */
    CHECK(redisShmInitiate(c, NULL, 0) == REDIS_OK && redisIsOnShm(c));
}

static void each_way_to_wait_serves_and_no_other_is_taken(redisContext *c) {
    shm_fifo_redis *connection = redisShmConnection(c);
    int mode;
    for (mode = SHM_FIFO_REDIS_SPIN; mode >= SHM_FIFO_REDIS_ADAPTIVE; mode--) {
        CHECK(shm_fifo_redis_set_wait(connection, mode, 50) == 0);
        expect(c, "PING", "PONG");
    }
    CHECK(shm_fifo_redis_set_wait(connection, SHM_FIFO_REDIS_SPIN + 1, 50) == -EINVAL);
    CHECK(shm_fifo_redis_set_wait(connection, -1, 50) == -EINVAL);
    expect(c, "PING", "PONG");
}

static void values_larger_than_the_ring_pass(redisContext *c) {
    size_t length = 3 << 20;
    char *value = pattern(length);
    redisReply *reply = redisCommand(c, "SET big %b", value, length);
    CHECK(reply != NULL && reply->type == REDIS_REPLY_STATUS);
    freeReplyObject(reply);
    reply = redisCommand(c, "GET big");
    CHECK(reply != NULL && (size_t)reply->len == length);
    CHECK(memcmp(reply->str, value, length) == 0);
    freeReplyObject(reply);
    free(value);
}

static void pipelines_keep_their_order(redisContext *c) {
    redisReply *reply;
    int i;
    for (i = 0; i < 20000; i++)
        CHECK(redisAppendCommand(c, "ECHO %d", i) == REDIS_OK);
    for (i = 0; i < 20000; i++) {
        CHECK(redisGetReply(c, (void **)&reply) == REDIS_OK);
        CHECK(atoi(reply->str) == i);
        freeReplyObject(reply);
    }
}

static void a_timeout_is_the_library_s_own(void) {
    struct timeval timeout = {0, 30000};
    redisContext *c = connect_shm();
    redisContext *plain = connect_unix();
    CHECK(redisSetTimeout(c, timeout) == REDIS_OK);
    CHECK(redisSetTimeout(plain, timeout) == REDIS_OK);
    CHECK(redisCommand(c, "BLPOP nothing 0") == NULL);
    CHECK(redisCommand(plain, "BLPOP nothing 0") == NULL);
    CHECK(c->err == plain->err);
    CHECK_TEXT(c->errstr, plain->errstr);
    redisFree(c);
    redisFree(plain);
}

static void the_end_of_the_server_is_the_library_s_own(redisContext *other) {
    redisContext *c = connect_shm();
    redisContext *plain = connect_unix();
    char command[64];
    snprintf(command, sizeof(command), "CLIENT KILL ID %lld", integer(c, "CLIENT ID"));
    CHECK(integer(other, command) == 1);
    snprintf(command, sizeof(command), "CLIENT KILL ID %lld", integer(plain, "CLIENT ID"));
    CHECK(integer(other, command) == 1);
    CHECK(redisCommand(plain, "PING") == NULL);
    /* Shared memory notices the end when it reads; a socket, in writing too. */
    CHECK(redisCommand(c, "PING") == NULL);
    CHECK(c->err == REDIS_ERR_EOF || c->err == REDIS_ERR_IO);
    CHECK(strlen(c->errstr) > 0);
    CHECK(redisCommand(c, "PING") == NULL);
    redisFree(c);
    redisFree(plain);
}

static void after_reconnecting_it_is_on_its_socket_and_can_move_again(void) {
    redisContext *c = connect_shm();
    long long id = integer(c, "CLIENT ID");
    CHECK(redisReconnect(c) == REDIS_OK);
    CHECK(!redisIsOnShm(c));
    CHECK(integer(c, "CLIENT ID") != id);
    pipelines_keep_their_order(c);
    move(c);
    commands_are_answered(c);
    each_way_to_wait_serves_and_no_other_is_taken(c);
    pipelines_keep_their_order(c);
    redisFree(c);
}

static void what_cannot_move_stays_and_says_why(redisContext *other) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    redisContext *c = connect_unix();
    redisReply *reply;
    expect(other, "CONFIG SET shm.max-sessions 0", "OK");
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK(!redisIsOnShm(c));
    CHECK(strstr(reason, "max-sessions") != NULL);
    expect(c, "PING", "PONG");
    expect(other, "CONFIG SET shm.max-sessions 10000", "OK");
    CHECK(redisAppendCommand(c, "PING") == REDIS_OK);
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK(!redisIsOnShm(c) && strstr(reason, "outstanding") != NULL);
    CHECK(redisGetReply(c, (void **)&reply) == REDIS_OK);
    freeReplyObject(reply);
    move(c);
    redisFree(c);
    c = redisConnectNonBlock("127.0.0.1", port);
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK(!redisIsOnShm(c) && strstr(reason, "non-blocking") != NULL);
    redisFree(c);
    c = redisConnect("127.0.0.1", 1); /* nobody listens there */
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_ERR && c->err != 0);
    CHECK_TEXT(reason, c->errstr);
    CHECK(!redisIsOnShm(c) && redisShmConnection(c) == NULL);
    redisFree(c);
}

/* A program that counts what it reads. */
static const redisContextFuncs *uncounted;
static int reads;

static ssize_t count_and_read(redisContext *c, char *target, size_t room) {
    reads++;
    return uncounted->read(c, target, room);
}

static void functions_of_the_program_s_own_stay(void) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    redisContext *c = connect_unix();
    redisContextFuncs funcs = *c->funcs;
    uncounted = c->funcs;
    funcs.read = count_and_read;
    c->funcs = &funcs;
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK(!redisIsOnShm(c) && strstr(reason, "functions of its own") != NULL);
    expect(c, "PING", "PONG");
    CHECK(reads > 0);
    redisFree(c);
}

/* As TLS does. */
static void what_something_else_carries_stays(void) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    redisContext *c = connect_unix();
    c->privctx = reason;
    CHECK(redisShmInitiate(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK(!redisIsOnShm(c) && strstr(reason, "TLS") != NULL);
    c->privctx = NULL;
    move(c);
    redisFree(c);
}

/* It cannot be handed on, and who takes it is told so. */
static void a_descriptor_that_is_kept_says_what_it_is(redisContext *other) {
    long long before = sessions(other);
    int descriptors = open_descriptors();
    redisContext *c = connect_shm();
    int fd = redisFreeKeepFd(c);
    redisReply *reply;
    CHECK(fd >= 0);
    while (sessions(other) > before) /* ended by the watchdog */
        ;
    c = redisConnectFd(fd);
    CHECK(c != NULL && c->err == 0);
    reply = redisCommand(c, "PING");
    CHECK(reply != NULL && reply->type == REDIS_REPLY_ERROR);
    CHECK(strstr(reply->str, "shared memory") != NULL);
    freeReplyObject(reply);
    CHECK(redisCommand(c, "PING") == NULL && c->err != 0);
    redisFree(c);
    CHECK(open_descriptors() == descriptors);
}

static void messages_arrive(redisContext *other) {
    redisContext *c = connect_shm();
    redisReply *reply = redisCommand(c, "SUBSCRIBE news");
    int i;
    CHECK(reply != NULL && reply->type == REDIS_REPLY_ARRAY);
    freeReplyObject(reply);
    for (i = 0; i < 100; i++) {
        reply = redisCommand(other, "PUBLISH news %d", i);
        CHECK(reply != NULL && reply->integer == 1);
        freeReplyObject(reply);
    }
    for (i = 0; i < 100; i++) {
        CHECK(redisGetReply(c, (void **)&reply) == REDIS_OK);
        CHECK(reply->elements == 3 && atoi(reply->element[2]->str) == i);
        freeReplyObject(reply);
    }
    redisFree(c);
}

static void many_connections_leave_nothing_behind(redisContext *other, int cycles) {
    int i, before = open_descriptors();
    for (i = 0; i < cycles; i++) {
        redisContext *c = connect_shm();
        expect(c, "PING", "PONG");
        redisFree(c);
    }
    CHECK(open_descriptors() == before);
    while (sessions(other) > 0) /* ended by the watchdog */
        ;
}

/* What is no connection is an error, never a crash. */
static void none_is_refused(void) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES], byte;
    shm_fifo_redis *none = NULL;
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(shm_fifo_redis_move(-1, SHM_FIFO_REDIS_FOREVER, NULL, NULL, &none, reason,
                              sizeof(reason)) == SHM_FIFO_REDIS_STAYED);
    CHECK(none == NULL && strstr(reason, "Bad file descriptor") != NULL);
    CHECK(shm_fifo_redis_move(ends[0], SHM_FIFO_REDIS_FOREVER, NULL, NULL, NULL, reason,
                              sizeof(reason)) == SHM_FIFO_REDIS_STAYED);
    CHECK(strstr(reason, "Bad address") != NULL);
    CHECK(shm_fifo_redis_move(ends[0], SHM_FIFO_REDIS_FOREVER, NULL, NULL, &none, NULL, 0) ==
          SHM_FIFO_REDIS_STAYED);
    close(ends[0]);
    close(ends[1]);
    CHECK(shm_fifo_redis_read(NULL, &byte, 1, SHM_FIFO_REDIS_FOREVER) == -EINVAL);
    CHECK(shm_fifo_redis_write(NULL, &byte, 1, SHM_FIFO_REDIS_FOREVER) == -EINVAL);
    shm_fifo_redis_listen(NULL);
    CHECK(shm_fifo_redis_park(NULL, SHM_FIFO_REDIS_READABLE) == 1);
    CHECK(shm_fifo_redis_set_wait(NULL, SHM_FIFO_REDIS_PARK, 0) == -EINVAL);
    shm_fifo_redis_free(NULL);
}

int main(int count, char **arguments) {
    redisContext *other, *c;
    int cycles = count > 3 ? atoi(arguments[3]) : 1000;
    CHECK(count > 2);
    socket_path = arguments[1];
    port = atoi(arguments[2]);
    watch();
    if (count > 3)
        alarm(0); /* as many as somebody wants to wait for */
    none_is_refused();
    other = connect_unix();

    c = connect_shm();
    commands_are_answered(c);
    values_larger_than_the_ring_pass(c);
    pipelines_keep_their_order(c);
    redisFree(c);

    c = redisConnect("127.0.0.1", port);
    CHECK(c != NULL && c->err == 0);
    move(c);
    commands_are_answered(c);
    redisFree(c);

    a_timeout_is_the_library_s_own();
    the_end_of_the_server_is_the_library_s_own(other);
    after_reconnecting_it_is_on_its_socket_and_can_move_again();
    what_cannot_move_stays_and_says_why(other);
    functions_of_the_program_s_own_stay();
    what_something_else_carries_stays();
    a_descriptor_that_is_kept_says_what_it_is(other);
    messages_arrive(other);
    many_connections_leave_nothing_behind(other, cycles);
    redisFree(other);
    printf("%s, blocking: passed\n", LIBRARY);
    return 0;
}
