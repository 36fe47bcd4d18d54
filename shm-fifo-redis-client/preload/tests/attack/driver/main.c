/* Makes random calls on connections to a server, and knows what a socket must answer.
 *
 * driver --journal FILE --control PATH --unix PATH --port PORT [--tcp | --both] [--plain]
 *        --seed N --steps N [--without STEPS] */
#include "raw.h"

#include "control.h"
#include "object.h"
#include "steps.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void new_object_step(struct random *random) { new_object(random); }

static void use_object_step(struct random *random) {
    struct object *object = any_object(random);
    if (object) use_object(object, random);
}

static void new_instance_step(struct random *random) {
    new_instance(random, once_in(random, 8) ? UNSEEN : HOOKED);
}

static void control_step(struct random *random) {
    struct instance *instance = any_instance(random);
    if (instance) control_watches(instance, random);
}

static void look_step(struct random *random) {
    struct instance *instance = any_instance(random);
    struct connection *c = any_connection(random);
    if (once_in(random, 2) && c) sync_with_server(c);
    if (instance) look(instance, random);
}

static void sync_step(struct random *random) {
    struct connection *c = any_connection(random);
    if (c) sync_with_server(c);
}

static const struct { const char *name; unsigned weight; void (*run)(struct random *); } steps[] = {
    {"connect", 6, open_connection},
    {"close", 4, close_connection},
    {"duplicate", 3, duplicate},
    {"send", 40, send_something},
    {"receive", 40, receive_something},
    {"sync", 4, sync_step},
    {"poll", 20, poll_some},
    {"instance", 2, new_instance_step},
    {"control", 16, control_step},
    {"look", 24, look_step},
    {"object", 2, new_object_step},
    {"use object", 5, use_object_step},
    {"sleep", 8, sleep_for_something},
    {"sleep in vain", 1, sleep_in_vain},
    {"fill", 2, fill_and_drain},
    {"number", 2, use_number_again},
    {"end", 2, end_by_server},
    {"shut down", 2, shut_down},
    {"mode", 6, change_mode},
    {"odd call", 3, odd_call},
    {"interrupt", 1, interrupted_wait},
    {"threads", 1, several_threads},
    {"fork", 1, fork_something},
    {"pass on", 1, pass_on},
};
enum { STEPS = sizeof steps / sizeof *steps };

static void one_step(uint64_t seed, uint64_t number) {
    struct random random = random_of(seed, number);
    unsigned total = 0;
    for (int i = 0; i < STEPS; i++) total += steps[i].weight;
    unsigned choice = below(&random, total);
    int i = 0;
    while (choice >= steps[i].weight) choice -= steps[i++].weight;
    say("%s", steps[i].name);
    steps[i].run(&random);
}

/* Steps that are left out: a text of numbers and ranges, `3,7-12`. */
static int is_left_out(const char *list, uint64_t number) {
    while (list && *list) {
        char *end;
        uint64_t first = strtoull(list, &end, 10), last = first;
        if (*end == '-') last = strtoull(end + 1, &end, 10);
        if (first <= number && number <= last) return 1;
        list = *end ? end + 1 : end;
    }
    return 0;
}

/* The last words on each connection, and an end of any kind: what was sent is executed. */
static void end(struct random *random) {
    for (int i = 0; i < MAX_LIVE; i++) {
        struct connection *c = &connections[i];
        if (!c->is_live) continue;
        /* What the program leaves unread breaks a TCP connection. */
        if (c->is_tcp) journal->connections[c->generator.id].may_be_lost = 1;
        if (c->rest.length || c->ends_by || c->server_end != NOT_ENDED || c->shut_writing || c->shut_reading)
            continue;
        if ((c->may_die || c->refuses_start) && !is_plain) journal->connections[c->generator.id].may_be_lost = 1;
        add_request(c, INCR, 0, 0);
        add_request(c, ECHO, length_up_to(random, 200), 0);
        write_rest(c, c->rest.length, random);
    }
    set_timer(0);
    journal->finished = 1;
    unsigned how = below(random, 6);
    say("the end, in manner %u", how);
    switch (how) {
    case 0: exit(0);
    case 1: _exit(0);
    case 2: execl("/bin/true", "true", (char *)NULL); break;
    case 3: kill(getpid(), SIGTERM); break;
    case 4: kill(getpid(), SIGKILL); break;
    default: quick_exit(0);
    }
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"journal", 1, NULL, 'j'}, {"control", 1, NULL, 'c'}, {"unix", 1, NULL, 'u'}, {"port", 1, NULL, 'p'},
        {"tcp", 0, NULL, 't'}, {"both", 0, NULL, 'b'}, {"plain", 0, NULL, 'P'}, {"seed", 1, NULL, 's'}, {"steps", 1, NULL, 'n'},
        {"without", 1, NULL, 'w'}, {NULL, 0, NULL, 0}};
    const char *without = NULL, *control_path = "";
    uint64_t seed = 0, count = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
        case 'j': journal_open(optarg); break;
        case 'c': control_path = optarg; break;
        case 'u': unix_path = optarg; break;
        case 'p': tcp_port = atoi(optarg); break;
        case 't': endpoint_is_tcp = 1; break;
        case 'b': both_are_endpoints = 1; break;
        case 'P': is_plain = 1; break;
        case 's': seed = strtoull(optarg, NULL, 10); break;
        case 'n': count = strtoull(optarg, NULL, 10); break;
        case 'w': without = optarg; break;
        default: return 2;
    }
    if (!journal || !unix_path) return 2;
    control_open(control_path);
    struct random random = random_of(seed, 0);
    prepare_signals(&random);
    for (uint64_t number = 1; number <= count; number++) {
        if (is_left_out(without, number)) continue;
        journal->steps = number;
        one_step(seed, number);
    }
    journal->steps = count + 1;
    end(&random);
    return 1;
}
