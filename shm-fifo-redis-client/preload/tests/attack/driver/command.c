#include "raw.h"

#include "command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kind_names[] = {"ID", "PING", "INCR", "ECHO", "SET", "GETRANGE",
                                  "PIECES", "LATE", "WITHHOLD", "PUSHED", "QUIT", "HALFQUIT"};

static void reserve(struct bytes *bytes, size_t more) {
    if (bytes->length + more <= bytes->capacity) return;
    bytes->capacity = (bytes->length + more) * 2 + 256;
    bytes->data = realloc(bytes->data, bytes->capacity);
}

void append_bytes(struct bytes *to, const void *data, size_t length) {
    reserve(to, length);
    if (length) memcpy(to->data + to->length, data, length);
    to->length += length;
}

void drop_front(struct bytes *from, size_t length) {
    from->length -= length;
    if (from->length) memmove(from->data, from->data + length, from->length);
}

static void append_text(struct bytes *to, const char *format, ...) {
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append_bytes(to, text, length);
}

static void append_pattern(struct bytes *to, size_t length) {
    reserve(to, length);
    for (size_t at = 0; at < length; at++) to->data[to->length + at] = 'a' + (at + at / 251) % 26;
    to->length += length;
}

static void append_bulk(struct bytes *to, const char *head, size_t size) {
    append_text(to, "$%zu\r\n%s", strlen(head) + size, head);
    append_pattern(to, size);
    append_text(to, "\r\n");
}

static void append_words(struct bytes *to, int count, ...) {
    va_list words;
    va_start(words, count);
    while (count-- > 0) {
        const char *word = va_arg(words, const char *);
        append_text(to, "$%zu\r\n%s\r\n", strlen(word), word);
    }
    va_end(words);
}

void pushed_message(size_t size, struct bytes *message) {
    append_text(message, ">2\r\n$4\r\nPUSH\r\n");
    append_bulk(message, "", size);
}

void generate(struct generator *generator, enum kind kind, size_t size, size_t extra,
              struct bytes *request, struct bytes *reply) {
    char first[32], second[32], head[64];
    snprintf(first, sizeof first, "%zu", size);
    snprintf(second, sizeof second, "%zu", extra);
    switch (kind) {
    case ID:
        snprintf(first, sizeof first, "%llu", (unsigned long long)generator->id);
        append_text(request, "*2\r\n");
        append_words(request, 2, "ID", first);
        append_text(reply, "+OK\r\n");
        break;
    case PING:
        append_text(request, "*1\r\n");
        append_words(request, 1, "PING");
        append_text(reply, "+PONG\r\n");
        break;
    case INCR:
        snprintf(first, sizeof first, "c%llu", (unsigned long long)generator->id);
        append_text(request, "*2\r\n");
        append_words(request, 2, "INCR", first);
        append_text(reply, ":%llu\r\n", (unsigned long long)++generator->increments);
        break;
    case ECHO:
    case SET:
        snprintf(head, sizeof head, "%llu:%llu:", (unsigned long long)generator->id,
                 (unsigned long long)generator->requests);
        if (kind == ECHO) {
            append_text(request, "*2\r\n");
            append_words(request, 1, "ECHO");
        } else {
            snprintf(first, sizeof first, "v%llu", (unsigned long long)generator->id);
            append_text(request, "*3\r\n");
            append_words(request, 2, "SET", first);
        }
        append_bulk(request, head, size);
        if (kind == ECHO) append_bulk(reply, head, size);
        else append_text(reply, "+OK\r\n");
        break;
    case GETRANGE:
        append_text(request, "*4\r\n");
        snprintf(first, sizeof first, "%zu", size ? size - 1 : 0);
        append_words(request, 4, "GETRANGE", "pattern", "0", first);
        append_bulk(reply, "", size ? size : 1);
        break;
    case PIECES:
        append_text(request, "*3\r\n");
        append_words(request, 3, "PIECES", first, second);
        append_bulk(reply, "", size);
        break;
    case LATE:
        append_text(request, "*2\r\n");
        append_words(request, 2, "LATE", first);
        append_text(reply, "+LATE\r\n");
        break;
    case PUSHED:
        append_text(request, "*2\r\n");
        append_words(request, 2, "PUSHED", first);
        pushed_message(size, reply);
        append_text(reply, "+PUSHED\r\n");
        break;
    case WITHHOLD:
        append_text(request, "*1\r\n");
        append_words(request, 1, "WITHHOLD");
        append_text(reply, "+WITHHELD\r\n");
        break;
    case QUIT:
    case HALFQUIT:
        append_text(request, "*1\r\n");
        append_words(request, 1, kind_names[kind]);
        append_text(reply, "+OK\r\n");
        break;
    }
    generator->requests++;
}
