/* How an asynchronous context moves to shared memory, or does not, in a loop that never
 * waits for it: moving SOCKET PORT PID. With -DLIBEVENT in libevent's loop. */
#include "scene.h"

#define COMMANDS 1000

static void on_echo(redisAsyncContext *ac, void *answer, void *number) {
    Scene *scene = ac->data;
    redisReply *reply = answer;
    CHECK(reply != NULL && scene->told != UNTOLD);
    CHECK(atol(reply->str) == (long)(size_t)number);
    CHECK(scene->answered == (int)(size_t)number);
    if (++scene->answered == COMMANDS)
        redisAsyncDisconnect(ac);
}

static void ask(redisAsyncContext *ac, Scene *scene) {
    size_t number;
    (void)scene;
    for (number = 0; number < COMMANDS; number++)
        CHECK(redisAsyncCommand(ac, on_echo, (void *)number, "ECHO %lu", (unsigned long)number) ==
              REDIS_OK);
}

/* A server that is stopped, and goes on when the loop serves something else: a pipe that
 * is written to once the context has begun to move. */
static int pipe_ends[2];

static void ring(void) { CHECK(write(pipe_ends[1], "", 1) == 1); }

static void stop_server(void) {
    char path[64], state = '?';
    CHECK(kill(server, SIGSTOP) == 0);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)server);
    while (state != 'T') { /* ended by the watchdog */
        FILE *file = fopen(path, "r");
        CHECK(file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
        fclose(file);
    }
}

static void let_server_go_on(redisAsyncContext *ac, int fd) {
    Scene *scene = ac->data;
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
    CHECK(scene->told == UNTOLD && scene->answered == 0);
    CHECK(kill(server, SIGCONT) == 0);
}

static void let_server_go_on_and_free(redisAsyncContext *ac, int fd) {
    let_server_go_on(ac, fd);
    redisAsyncFree(ac);
}

static void let_server_go_on_and_disconnect(redisAsyncContext *ac, int fd) {
    let_server_go_on(ac, fd);
    redisAsyncDisconnect(ac);
    CHECK(redisAsyncCommand(ac, on_echo, NULL, "PING") != REDIS_OK);
}

static Other on_pipe(void (*event)(redisAsyncContext *ac, int fd)) {
    Other other;
    other.fd = pipe_ends[0];
    other.event = event;
    return other;
}

static void ask_and_ring(redisAsyncContext *ac, Scene *scene) {
    ask(ac, scene);
    ring();
}

static void a_stopped_server_does_not_stop_the_loop(redisAsyncContext *(*connect)(void)) {
    Scene scene = scene_of(ask_and_ring, MOVED);
    scene.other = on_pipe(let_server_go_on);
    stop_server();
    act_over(connect(), &scene);
    CHECK(scene.answered == COMMANDS && scene.disconnected == 1);
}

/* It gets the first command then, and is stopped again before it gets the second. */
static void stop_again(void) {
    before_read = NULL;
    stop_server();
    ring();
}

static void let_server_answer_once(redisAsyncContext *ac, int fd) {
    Scene *scene = ac->data;
    let_server_go_on(ac, fd);
    scene->other_events++;
    if (scene->other_events == 1)
        before_read = stop_again;
}

static void nor_does_one_that_stops_between_its_answers(redisAsyncContext *(*connect)(void)) {
    Scene scene = scene_of(ask_and_ring, MOVED);
    scene.other = on_pipe(let_server_answer_once);
    stop_server();
    act_over(connect(), &scene);
    CHECK(scene.other_events == 2 && scene.answered == COMMANDS && scene.disconnected == 1);
}

static void on_nothing(redisAsyncContext *ac, void *reply, void *unused) {
    Scene *scene = ac->data;
    (void)unused;
    CHECK(reply == NULL && scene->told == LOST);
    scene->answered++;
}

static void ask_for_nothing(redisAsyncContext *ac, Scene *scene) {
    (void)scene;
    CHECK(redisAsyncCommand(ac, on_nothing, NULL, "PING") == REDIS_OK);
}

static void ask_for_nothing_and_ring(redisAsyncContext *ac, Scene *scene) {
    ask_for_nothing(ac, scene);
    ring();
}

static void freed_while_it_moves_it_is_gone(void) {
    int before = open_descriptors();
    Scene scene = scene_of(ask_for_nothing_and_ring, LOST);
    scene.other = on_pipe(let_server_go_on_and_free);
    stop_server();
    act(&scene);
    CHECK(scene.answered == 1 && scene.disconnected == 1);
    CHECK(open_descriptors() == before);
}

static void disconnected_while_it_moves_it_answers_what_was_asked(void) {
    Scene scene = scene_of(ask_and_ring, MOVED);
    scene.other = on_pipe(let_server_go_on_and_disconnect);
    stop_server();
    act(&scene);
    CHECK(scene.answered == COMMANDS && scene.disconnected == 1);
}

/* Time is the context's own, as for any command. */
static void ask_in_haste(redisAsyncContext *ac, Scene *scene) {
    struct timeval timeout = {0, 30000};
    CHECK(redisAsyncSetTimeout(ac, timeout) == REDIS_OK);
    ask_for_nothing(ac, scene);
}

static void a_stopped_server_is_given_up_after_the_timeout(void) {
    Scene scene = scene_of(ask_in_haste, LOST);
    stop_server();
    act(&scene);
    CHECK(kill(server, SIGCONT) == 0);
    CHECK(scene.answered == 1 && scene.disconnected == 2);
    CHECK_TEXT(scene.error, "Timeout");
}

/* Also begun later, and again. */
static void on_login(redisAsyncContext *ac, void *reply, void *unused) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    (void)unused;
    CHECK(reply != NULL);
    begin_to_move(ac, ac->data);
    CHECK(redisShmInitiateAsync(ac, NULL, NULL, reason, sizeof(reason)) == REDIS_ERR);
    CHECK(strstr(reason, "on its way") != NULL);
}

static void log_in(CONNECTED redisAsyncContext *connected, int status) {
    redisAsyncContext *ac = (redisAsyncContext *)connected;
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    CHECK(status == REDIS_OK);
    CHECK(redisAsyncCommand(ac, on_login, NULL, "CLIENT SETNAME somebody") == REDIS_OK);
    CHECK(redisShmInitiateAsync(ac, NULL, NULL, reason, sizeof(reason)) == REDIS_ERR);
    CHECK(strstr(reason, "outstanding") != NULL);
}

static void it_moves_after_its_login_and_not_before_or_twice(void) {
    Scene scene = scene_of(ask, MOVED);
    on_connect = log_in;
    act(&scene);
    on_connect = on_connected;
    CHECK(scene.answered == COMMANDS && scene.disconnected == 1);
}

static void on_goodbye(redisAsyncContext *ac, void *reply, void *unused) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    Scene *scene = ac->data;
    (void)unused;
    CHECK(reply != NULL);
    redisAsyncDisconnect(ac);
    CHECK(redisShmInitiateAsync(ac, NULL, NULL, reason, sizeof(reason)) == REDIS_ERR);
    CHECK(strstr(reason, "about to be closed") != NULL);
    scene->answered++;
}

static void say_goodbye(CONNECTED redisAsyncContext *connected, int status) {
    redisAsyncContext *ac = (redisAsyncContext *)connected;
    CHECK(status == REDIS_OK);
    CHECK(redisAsyncCommand(ac, on_goodbye, NULL, "PING") == REDIS_OK);
}

static void nor_when_it_is_closed(void) {
    Scene scene = scene_of(NULL, UNTOLD);
    on_connect = say_goodbye;
    act(&scene);
    on_connect = on_connected;
    CHECK(scene.answered == 1 && scene.disconnected == 1);
}

/* Messages may come at any time, and in RESP2 they look like replies. */
static void on_subscribed(redisAsyncContext *ac, void *reply, void *unused) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    Scene *scene = ac->data;
    (void)unused;
    if (reply == NULL)
        return;
    CHECK(redisShmInitiateAsync(ac, NULL, NULL, reason, sizeof(reason)) == REDIS_ERR);
    CHECK(strstr(reason, "messages are outstanding") != NULL);
    scene->answered++;
    redisAsyncDisconnect(ac);
}

static void subscribe(CONNECTED redisAsyncContext *connected, int status) {
    redisAsyncContext *ac = (redisAsyncContext *)connected;
    CHECK(status == REDIS_OK);
    CHECK(redisAsyncCommand(ac, on_subscribed, NULL, "SUBSCRIBE news") == REDIS_OK);
}

static void nor_while_it_is_subscribed(void) {
    Scene scene = scene_of(NULL, UNTOLD);
    on_connect = subscribe;
    act(&scene);
    on_connect = on_connected;
    CHECK(scene.answered == 1);
}

static void what_is_not_connected_does_not_begin(void) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    /* Nobody listens there. */
    redisAsyncContext *ac = redisAsyncConnect("127.0.0.1", 1);
    CHECK(ac != NULL);
    CHECK(redisShmInitiateAsync(ac, NULL, NULL, reason, sizeof(reason)) == REDIS_ERR);
    CHECK(strlen(reason) > 0);
    redisAsyncFree(ac);
}

static void configure(const char *command) {
    redisContext *other = redisConnectUnix(socket_path);
    redisReply *reply = redisCommand(other, command);
    CHECK(reply != NULL && strcmp(reply->str, "OK") == 0);
    freeReplyObject(reply);
    redisFree(other);
}

static void refused_it_goes_on_over_its_socket(redisAsyncContext *(*connect)(void)) {
    Scene scene = scene_of(ask, STAYED);
    configure("CONFIG SET shm.max-sessions 0");
    act_over(connect(), &scene);
    CHECK(scene.answered == COMMANDS && scene.disconnected == 1);
    CHECK(strstr(scene.reason, "max-sessions") != NULL);
    configure("CONFIG SET shm.max-sessions 10000");
}

/* A server of another kind: it accepts one connection, says this and maybe hangs up. It
 * says so many pushes, with the last of which the context has had all. */
static struct {
    const char *words;
    int hangs_up, pushes;
    int listening, connected;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
} stranger;

static void on_stranger_called(redisAsyncContext *ac, int fd) {
    size_t length = strlen(stranger.words);
    (void)ac;
    if (stranger.connected >= 0)
        return;
    stranger.connected = accept(fd, NULL, NULL);
    CHECK(stranger.connected >= 0);
    CHECK(write(stranger.connected, stranger.words, length) == (ssize_t)length);
    if (stranger.hangs_up)
        shutdown(stranger.connected, SHUT_RDWR);
}

static void on_push(redisAsyncContext *ac, void *reply) {
    Scene *scene = ac->data;
    CHECK(((redisReply *)reply)->elements == 2);
    if (++scene->answered == stranger.pushes)
        redisAsyncDisconnect(ac);
}

static void act_with_a_stranger(Scene *scene, const char *words, int hangs_up, int pushes) {
    struct sockaddr_un address;
    redisAsyncContext *ac;
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    snprintf(stranger.path, sizeof(stranger.path), "%s.stranger", socket_path);
    memcpy(address.sun_path, stranger.path, sizeof(stranger.path));
    stranger.words = words;
    stranger.hangs_up = hangs_up;
    stranger.pushes = pushes;
    stranger.connected = -1;
    unlink(stranger.path);
    stranger.listening = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(stranger.listening, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(stranger.listening, 1) == 0);
    scene->other.fd = stranger.listening;
    scene->other.event = on_stranger_called;
    ac = redisAsyncConnectUnix(stranger.path);
    redisAsyncSetPushCallback(ac, on_push);
    act_over(ac, scene);
    close(stranger.connected);
    close(stranger.listening);
    unlink(stranger.path);
}

static void do_nothing(redisAsyncContext *ac, Scene *scene) {
    (void)ac;
    (void)scene;
}

static void what_comes_meanwhile_is_the_program_s(void) {
    Scene scene = scene_of(do_nothing, STAYED);
    act_with_a_stranger(&scene,
                        ">2\r\n+a\r\n+b\r\n-ERR unknown command 'SHM.OPEN'\r\n"
                        ">2\r\n+c\r\n+d\r\n",
                        0, 2);
    CHECK(scene.answered == 2 && scene.disconnected == 1);
    CHECK(strstr(scene.reason, "does not have the shm module") != NULL);
}

static void an_offer_without_a_descriptor_is_none(void) {
    Scene scene = scene_of(do_nothing, STAYED);
    act_with_a_stranger(&scene, "+OK\r\n>2\r\n+a\r\n+b\r\n", 0, 1);
    CHECK(scene.answered == 1 && scene.disconnected == 1);
    CHECK(strstr(scene.reason, "descriptor") != NULL);
}

static void what_is_no_answer_ends_it(const char *words, int hangs_up, const char *error) {
    Scene scene = scene_of(ask_for_nothing, LOST);
    act_with_a_stranger(&scene, words, hangs_up, 0);
    CHECK(scene.answered == 1 && scene.disconnected == 2);
    /* Whether it is read or written first decides. */
    CHECK(strstr(scene.error, error) != NULL || strstr(scene.error, "Broken pipe") != NULL);
}

static redisAsyncContext *connect_unix(void) { return redisAsyncConnectUnix(socket_path); }
static redisAsyncContext *connect_tcp(void) { return redisAsyncConnect("127.0.0.1", port); }

int main(int count, char **arguments) {
    int before;
    take_arguments(count, arguments);
    CHECK(pipe(pipe_ends) == 0);
    before = open_descriptors();
    a_stopped_server_does_not_stop_the_loop(connect_unix);
    a_stopped_server_does_not_stop_the_loop(connect_tcp);
    nor_does_one_that_stops_between_its_answers(connect_unix);
    nor_does_one_that_stops_between_its_answers(connect_tcp);
    freed_while_it_moves_it_is_gone();
    disconnected_while_it_moves_it_answers_what_was_asked();
    a_stopped_server_is_given_up_after_the_timeout();
    it_moves_after_its_login_and_not_before_or_twice();
    nor_when_it_is_closed();
    nor_while_it_is_subscribed();
    what_is_not_connected_does_not_begin();
    refused_it_goes_on_over_its_socket(connect_unix);
    refused_it_goes_on_over_its_socket(connect_tcp);
    what_comes_meanwhile_is_the_program_s();
    an_offer_without_a_descriptor_is_none();
    what_is_no_answer_ends_it("", 1, "ended the connection");
    what_is_no_answer_ends_it("HTTP/1.1 400 Bad Request\r\n", 0, "reply");
    CHECK(open_descriptors() == before);
    printf("%s, moving, %s: passed\n", LIBRARY, LOOP);
    return 0;
}
