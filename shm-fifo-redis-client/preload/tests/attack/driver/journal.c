#include "raw.h"

#include "journal.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct journal *journal;
/* The lines of `compare` within a step. */
static unsigned line_of_step, step_of_line;

void journal_open(const char *path) {
    long fd = raw(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    journal = (struct journal *)raw(SYS_mmap, 0, sizeof *journal, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    raw(SYS_close, fd);
}

/* The text is a ring; lines of several threads do not mix. */
static void append(const char *line, size_t length) {
    uint64_t at = __atomic_fetch_add(&journal->text_used, length, __ATOMIC_RELAXED) % TEXT_BYTES;
    size_t first = length < TEXT_BYTES - at ? length : TEXT_BYTES - at;
    memcpy(journal->text + at, line, first);
    memcpy(journal->text, line + first, length - first);
}

static void say_list(const char *mark, const char *format, va_list arguments) {
    char line[512];
    int length = snprintf(line, sizeof line, "%s%llu: ", mark, (unsigned long long)journal->steps);
    length += vsnprintf(line + length, sizeof line - length, format, arguments);
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    append(line, length);
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_list("  ", format, arguments);
    va_end(arguments);
}

void compare(const char *format, ...) {
    char mark[32];
    if (step_of_line != journal->steps) line_of_step = 0;
    step_of_line = journal->steps;
    snprintf(mark, sizeof mark, "=%u.", line_of_step++);
    va_list arguments;
    va_start(arguments, format);
    say_list(mark, format, arguments);
    va_end(arguments);
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_list("FAIL ", format, arguments);
    va_end(arguments);
    raw(SYS_exit_group, 1);
    __builtin_unreachable();
}
