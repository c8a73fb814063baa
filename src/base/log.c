/*
 * One line to stderr, written by a single write so that lines of several threads never mix. The
 * terminal may be in raw mode while a guest runs, hence the carriage return.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static void emit(const char *level, const char *fmt, va_list ap)
{
    char line[1024];
    int n = snprintf(line, sizeof(line), "ringer: %s", level);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 2, fmt, ap);
    size_t len = (size_t)n + (size_t)MAX(m, 0);
    len = MIN(len, sizeof(line) - 3);
    if (isatty(STDERR_FILENO))
        line[len++] = '\r';
    line[len++] = '\n';
    ssize_t done = write(STDERR_FILENO, line, len);
    (void)done; /* there is nowhere left to report to */
}

void log_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit("", fmt, ap);
    va_end(ap);
}

void log_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit("warning: ", fmt, ap);
    va_end(ap);
}

void log_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit("", fmt, ap);
    va_end(ap);
}
