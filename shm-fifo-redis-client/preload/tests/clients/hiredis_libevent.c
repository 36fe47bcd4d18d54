/* hiredis' asynchronous connections on libevent.
 *
 * Usage: hiredis_libevent ENDPOINT
 */
#define _GNU_SOURCE
#include <event2/event.h>
#include <fcntl.h>
#include <hiredis/adapters/libevent.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE_BYTES (3 << 20)

static const char *endpoint;
static struct event_base *base;

struct client {
    redisAsyncContext *context;
    int replies, ended;
    long long number;
    char *text; /* the last string in the last reply */
    size_t length;
    char received[100]; /* messages */
};

static void take(struct client *client, const redisReply *reply) {
    if (reply->type == REDIS_REPLY_ARRAY) {
        for (size_t at = 0; at < reply->elements; at++) take(client, reply->element[at]);
    } else if (reply->type == REDIS_REPLY_INTEGER) {
        client->number = reply->integer;
    } else if (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) {
        free(client->text);
        client->text = malloc(reply->len + 1);
        memcpy(client->text, reply->str, reply->len + 1);
        client->length = reply->len;
    } else if (reply->type == REDIS_REPLY_ERROR) {
        printf("error %s\n", reply->str);
        exit(1);
    }
}

static void on_reply(redisAsyncContext *context, void *reply, void *unused) {
    struct client *client = context->data;
    (void)unused;
    if (reply != NULL) {
        take(client, reply);
        client->replies++;
    }
}

static void on_message(redisAsyncContext *context, void *reply, void *unused) {
    struct client *client = context->data;
    const redisReply *message = reply;
    (void)unused;
    if (message == NULL) return;
    if (strcmp(message->element[0]->str, "message") == 0) strcat(client->received, message->element[2]->str);
    client->replies++;
}

static void on_end(const redisAsyncContext *context, int status) {
    struct client *client = context->data;
    (void)status;
    client->ended = 1;
}

static void on_connection(const redisAsyncContext *context, int status) {
    if (status != REDIS_OK) on_end(context, status);
}

static void turn(void) { event_base_loop(base, EVLOOP_ONCE); }

/* As long as the server is being restarted. */
static void connect_again(struct client *client) {
    do {
        redisAsyncContext *context = endpoint[0] == '/' ? redisAsyncConnectUnix(endpoint)
                                                        : redisAsyncConnect("127.0.0.1", atoi(endpoint));
        client->context = context;
        client->ended = client->replies = 0;
        if (context->err) {
            redisAsyncFree(context);
            client->ended = 1;
            usleep(20000);
            continue;
        }
        context->data = client;
        redisLibeventAttach(context, base);
        redisAsyncSetConnectCallback(context, on_connection);
        redisAsyncSetDisconnectCallback(context, on_end);
        if (redisAsyncCommand(context, on_reply, NULL, "PING") != REDIS_OK) exit(1);
        while (!client->ended && client->replies == 0) turn();
    } while (client->ended);
}

static void disconnect(struct client *client) {
    redisAsyncDisconnect(client->context);
    while (!client->ended) turn();
}

/* Sends the command and waits for its reply; 0 if the connection has ended. */
static int command(struct client *client, const char *format, ...) {
    va_list arguments;
    client->replies = 0;
    va_start(arguments, format);
    redisvAsyncCommand(client->context, on_reply, NULL, format, arguments);
    va_end(arguments);
    while (client->replies == 0 && !client->ended) turn();
    return !client->ended;
}

/* The test does what it is asked, and answers. */
static const char *ask(struct client *client, const char *what) {
    command(client, "CLIENT ID");
    long long id = client->number;
    char asked[100];
    snprintf(asked, sizeof(asked), "%s %lld %d", what, id, getpid());
    command(client, "RPUSH asked %s", asked);
    while (!command(client, "BLPOP answer:%lld 0", id)) connect_again(client);
    return client->text;
}

static long long commands(struct client *client, int count) {
    long long total = 0;
    for (int number = 0; number < count; number++) {
        command(client, "SET key %d", number);
        command(client, "GET key");
        if (atoi(client->text) != number) exit(1);
        command(client, "INCR counter");
        total += client->number;
    }
    return total;
}

static long long pipeline(struct client *client) {
    client->replies = 0;
    for (int number = 0; number < 1000; number++)
        redisAsyncCommand(client->context, on_reply, NULL, "INCRBY sum %d", number);
    while (client->replies < 1000) turn();
    return client->number;
}

static const char *large(struct client *client) {
    char *value = malloc(LARGE_BYTES);
    for (int at = 0; at < LARGE_BYTES; at++) value[at] = (char)at;
    command(client, "SET large %b", value, (size_t)LARGE_BYTES);
    command(client, "GET large");
    int equal = client->length == LARGE_BYTES && memcmp(client->text, value, LARGE_BYTES) == 0;
    free(value);
    return equal ? "equal" : "another one";
}

/* Subscribes on a connection that was used before. */
static const char *messages(struct client *client) {
    static struct client other;
    connect_again(&other);
    commands(&other, 20);
    ask(&other, "check");
    other.replies = 0;
    redisAsyncCommand(other.context, on_message, NULL, "SUBSCRIBE channel");
    while (other.replies < 1) turn();
    for (int number = 0; number < 10; number++) command(client, "PUBLISH channel %d", number);
    while (other.replies < 11) turn();
    disconnect(&other);
    return other.received;
}

/* What is written to a file goes there, also if its number was a connection's. */
static long long files(struct client *client) {
    for (int number = 0; number < 20; number++) {
        for (int ping = 0; ping < 20; ping++) command(client, "PING");
        disconnect(client);
        char text[50], read_back[50] = "";
        snprintf(text, sizeof(text), "RPUSH leak %d\r\n", number);
        int file = open("file.txt", O_RDWR | O_CREAT | O_TRUNC, 0600);
        ssize_t written = write(file, text, strlen(text));
        if (written < 0 || pread(file, read_back, sizeof(read_back) - 1, 0) != written) exit(1);
        close(file);
        if (strcmp(text, read_back) != 0) exit(1);
        connect_again(client);
    }
    command(client, "EXISTS leak");
    return client->number;
}

static void on_terminate(evutil_socket_t signal, short what, void *unused) {
    (void)signal, (void)what, (void)unused;
    printf("stopped\n");
    exit(0);
}

int main(int count, char **arguments) {
    static struct client client;
    endpoint = arguments[count - 1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    connect_again(&client);
    printf("commands %lld\n", commands(&client, 100));
    printf("pipeline %lld\n", pipeline(&client));
    printf("large %s\n", large(&client));
    printf("asked %s\n", ask(&client, "check"));
    printf("messages %s\n", messages(&client));
    const char *events[] = {"kill", "restart"};
    for (int at = 0; at < 2; at++) {
        printf("%s %s", events[at], ask(&client, events[at]));
        printf(" %lld", commands(&client, 50));
        printf(" %s\n", ask(&client, "check"));
    }
    printf("file %lld\n", files(&client));
    event_add(evsignal_new(base, SIGTERM, on_terminate, NULL), NULL);
    ask(&client, "terminate");
}
