/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A record is put together in a buffer on the stack and leaves with one write(2), so that records of
 * threads and processes that share a log never mix, and logging neither locks nor allocates.
 *
 * Text may come from a peer or a guest: control characters and invalid UTF-8 never reach a terminal or
 * a log as they are.  A text too long for the record is cut at a character.
 */
#include "util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    RECORD_MAX = 8192,            /* one record with all escapes */
    TEXT_MAX = 4096,              /* one message before escaping */
    TEXT_END = RECORD_MAX - 16,   /* room for dots, closing quote and brace, newline */
    SUBJECT_END = 512,            /* the subject ends here at the latest */
};

/* Written by log_setup() before other threads exist, read only afterwards. */
static struct {
    bool json, colour;
    enum drafter_log_level level;
} setup = {.level = DRAFTER_LOG_INFO};

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const char *const level_colours[] = {"\033[31m", "\033[33m", "\033[36m", "\033[2m"};

struct record {
    size_t length;
    char text[RECORD_MAX];
};

/* Appends bytes, all or nothing, up to `end` in the record. */
static bool put(struct record *record, const char *bytes, size_t length, size_t end)
{
    if (record->length > end || length > end - record->length)
        return false;
    memcpy(record->text + record->length, bytes, length);
    record->length += length;
    return true;
}

static void put_string(struct record *record, const char *string)
{
    put(record, string, strlen(string), RECORD_MAX);
}

/* Length of the printable UTF-8 character at `s`, 0 when there is none. */
static size_t character(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    if (s[0] >= 0xc2 && s[0] <= 0xdf && (s[1] & 0xc0) == 0x80)
        return s[0] == 0xc2 && s[1] < 0xa0 ? 0 : 2; /* U+0080 to U+009F are controls */
    if ((s[0] & 0xf0) == 0xe0 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80) {
        unsigned code = (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);

        return code < 0x800 || (code >= 0xd800 && code <= 0xdfff) ? 0 : 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 &&
        (s[3] & 0xc0) == 0x80) {
        unsigned high = (s[0] & 7u) << 2 | (s[1] & 0x3fu) >> 4;

        return high < 1 || high > 0x10 ? 0 : 4;
    }
    return 0;
}

/* What stands in the record for the character at `s`; returns how many bytes of `s` it covers. */
static size_t escape(const unsigned char *s, bool json, char out[8], size_t *ret_length)
{
    size_t bytes = character(s);

    if (json && (*s == '"' || *s == '\\')) {
        *ret_length = (size_t)snprintf(out, 8, "\\%c", *s);
    } else if (bytes) {
        memcpy(out, s, bytes);
        *ret_length = bytes;
        return bytes;
    } else if (*s == '\n' || *s == '\t') {
        *ret_length = (size_t)snprintf(out, 8, *s == '\n' ? "\\n" : "\\t");
    } else if (json) {
        *ret_length = (size_t)snprintf(out, 8, "\\u%04x", *s < 0x80 ? *s : 0xfffdu);
    } else {
        *ret_length = (size_t)snprintf(out, 8, "\\x%02x", *s);
    }
    return 1;
}

/* Appends `text` escaped; what goes beyond `end` becomes three dots there. */
static void put_text(struct record *record, const char *text, size_t end)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s) {
        char out[8];
        size_t length, bytes = escape(s, setup.json, out, &length);

        if (!put(record, out, length, end)) {
            put_string(record, "...");
            return;
        }
        s += bytes;
    }
}

/* Local time of day for people, UTC with date for programs. */
static void put_time(struct record *record)
{
    struct timespec now;
    struct tm parts;
    char text[64];
    size_t length;

    clock_gettime(CLOCK_REALTIME, &now);
    if (setup.json)
        gmtime_r(&now.tv_sec, &parts);
    else
        localtime_r(&now.tv_sec, &parts);
    length = strftime(text, sizeof(text), setup.json ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &parts);
    snprintf(text + length, sizeof(text) - length, setup.json ? ".%06ldZ" : ".%03ld",
             now.tv_nsec / (setup.json ? 1000 : 1000000));
    put_string(record, text);
}

static void put_head(struct record *record, enum drafter_log_level level)
{
    if (setup.json) {
        put_string(record, "{\"time\":\"");
        put_time(record);
        put_string(record, "\",\"level\":\"");
        put_string(record, level_names[level]);
        put_string(record, "\",");
        return;
    }
    put_time(record);
    put_string(record, " ");
    if (setup.colour)
        put_string(record, level_colours[level]);
    put_string(record, level_names[level]);
    put_string(record, setup.colour ? "\033[0m " : " ");
}

/* A log that cannot be written is no reason to stop a VM: failures are ignored. */
static void send_record(struct record *record)
{
    ssize_t written;

    put(record, "\n", 1, RECORD_MAX);
    do
        written = write(STDERR_FILENO, record->text, record->length);
    while (written < 0 && errno == EINTR);
}

void log_setup(enum log_format format, enum drafter_log_level level)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    bool terminal = isatty(STDERR_FILENO);

    setup.level = level;
    setup.json = format == LOG_FORMAT_JSON || (format == LOG_FORMAT_AUTO && !terminal);
    setup.colour = !setup.json && terminal && !(no_color && *no_color) &&
                   !(term && strcmp(term, "dumb") == 0);
}

void drafter_log(enum drafter_log_level level, const char *subject, const char *format, ...)
{
    int saved_errno = errno;
    struct record record;
    char message[TEXT_MAX];
    va_list arguments;

    if (level < DRAFTER_LOG_ERROR || level > DRAFTER_LOG_DEBUG || level > setup.level)
        return;
    va_start(arguments, format);
    if (vsnprintf(message, sizeof(message), format, arguments) < 0)
        message[0] = '\0';
    va_end(arguments);
    record.length = 0;
    put_head(&record, level);
    if (setup.json)
        put_string(&record, "\"subject\":\"");
    put_text(&record, subject ? subject : "", SUBJECT_END);
    put_string(&record, setup.json ? "\",\"message\":\"" : ": ");
    put_text(&record, message, TEXT_END);
    if (setup.json)
        put_string(&record, "\"}");
    send_record(&record);
    errno = saved_errno;
}

/*
 * Who reads JSON may wait for an event, so these are written at every level; people see them as
 * information.  `fields` are JSON already.
 */
void log_event(const char *name, const char *format, ...)
{
    int saved_errno = errno;
    struct record record;
    char fields[TEXT_MAX];
    va_list arguments;
    int length;

    if (!setup.json && setup.level < DRAFTER_LOG_INFO)
        return;
    va_start(arguments, format);
    length = vsnprintf(fields, sizeof(fields), format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof(fields))
        fields[0] = '\0'; /* half an object would not parse */
    record.length = 0;
    put_head(&record, DRAFTER_LOG_INFO);
    put_string(&record, setup.json ? "\"event\":\"" : "");
    put_text(&record, name, SUBJECT_END);
    put_string(&record, setup.json ? "\"" : ": ");
    if (setup.json && fields[0])
        put_string(&record, ",");
    put_string(&record, fields);
    put_string(&record, setup.json ? "}" : "");
    send_record(&record);
    errno = saved_errno;
}
