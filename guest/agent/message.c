/* SPDX-License-Identifier: BSD-2-Clause */
#include "message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct scanner {
    const char *at, *end;
    int error;
};

static int fail(struct scanner *s, int error)
{
    if (!s->error)
        s->error = error;
    s->at = s->end;
    return s->error;
}

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r' || *s->at == '\n'))
        s->at++;
}

static bool take(struct scanner *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static void scan_escape(struct scanner *s)
{
    if (s->at == s->end) {
        fail(s, -EBADMSG);
        return;
    }
    char c = *s->at++;

    if (c != 'u') {
        if (!memchr("\"\\/bfnrt", c, 8))
            fail(s, -EBADMSG);
        return;
    }
    for (int i = 0; i < 4; i++, s->at++)
        if (s->at == s->end || !is_hex(*s->at)) {
            fail(s, -EBADMSG);
            return;
        }
}

static struct message_span scan_string(struct scanner *s)
{
    struct message_span span = {0};

    if (!take(s, '"')) {
        fail(s, -EBADMSG);
        return span;
    }
    span.text = s->at;
    while (s->at < s->end && *s->at != '"') {
        char c = *s->at++;

        if (c == '\\')
            scan_escape(s);
        else if ((unsigned char)c < 0x20)
            fail(s, -EBADMSG);
    }
    if (s->error || s->at == s->end) {
        fail(s, -EBADMSG);
        return (struct message_span){0};
    }
    span.length = (size_t)(s->at++ - span.text);
    return span;
}

static void scan_digits(struct scanner *s)
{
    const char *start = s->at;

    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    if (s->at == start)
        fail(s, -EBADMSG);
}

static void scan_number(struct scanner *s)
{
    if (s->at < s->end && *s->at == '-')
        s->at++;
    if (s->at < s->end && *s->at == '0')
        s->at++;
    else
        scan_digits(s);
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        scan_digits(s);
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        scan_digits(s);
    }
}

static void scan_word(struct scanner *s, const char *word)
{
    size_t length = strlen(word);

    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        fail(s, -EBADMSG);
    else
        s->at += length;
}

static struct message_span scan_value(struct scanner *s, int depth);

/* Calls nothing back: members that matter are few, so the callers walk objects and arrays
 * themselves. */
static void scan_container(struct scanner *s, int depth, char close)
{
    s->at++;
    if (depth >= MESSAGE_DEPTH_MAX) {
        fail(s, -E2BIG);
        return;
    }
    if (take(s, close))
        return;
    do {
        if (close == '}') {
            scan_string(s);
            if (!take(s, ':'))
                fail(s, -EBADMSG);
        }
        scan_value(s, depth + 1);
    } while (take(s, ','));
    if (!take(s, close))
        fail(s, -EBADMSG);
}

/* Any value; depth is how many containers it is in. */
static struct message_span scan_value(struct scanner *s, int depth)
{
    skip_space(s);
    if (s->at == s->end) {
        fail(s, -EBADMSG);
        return (struct message_span){0};
    }
    const char *start = s->at;

    switch (*start) {
    case '{':
        scan_container(s, depth, '}');
        break;
    case '[':
        scan_container(s, depth, ']');
        break;
    case '"':
        scan_string(s);
        break;
    case 't':
        scan_word(s, "true");
        break;
    case 'f':
        scan_word(s, "false");
        break;
    case 'n':
        scan_word(s, "null");
        break;
    default:
        scan_number(s);
    }
    if (s->error)
        return (struct message_span){0};
    return (struct message_span){start, (size_t)(s->at - start)};
}

bool message_span_is(struct message_span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.text, text, span.length) == 0;
}

bool message_span_int64(struct message_span span, int64_t *ret_number)
{
    bool negative = span.length && span.text[0] == '-';
    int64_t number = 0;

    if (span.length == (size_t)negative)
        return false;
    for (size_t i = negative; i < span.length; i++) {
        int digit = span.text[i] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, negative ? -digit : digit, &number))
            return false;
    }
    *ret_number = number;
    return true;
}

static void parse_args(struct message_span array, struct message *message)
{
    struct scanner s = {.at = array.text, .end = array.text + array.length};

    message->arg_count = 0;
    if (!take(&s, '[') || take(&s, ']'))
        return;
    do {
        struct message_span arg = scan_value(&s, 0);

        if (!message->arg_count++)
            message->arg = arg;
    } while (take(&s, ','));
}

/* The string member of a body; anything but a string counts as absent. */
static struct message_span string_of(struct message_span value)
{
    if (value.length < 2 || value.text[0] != '"')
        return (struct message_span){0};
    return (struct message_span){value.text + 1, value.length - 2};
}

/* body is known to be valid JSON. */
static int parse_body(struct message_span body, struct message *message)
{
    struct scanner s = {.at = body.text, .end = body.text + body.length};

    if (!take(&s, '{'))
        return -EBADMSG;
    while (!take(&s, '}')) {
        struct message_span name = scan_string(&s);

        take(&s, ':');
        struct message_span value = scan_value(&s, 0);

        if (s.error)
            return s.error;
        if (message_span_is(name, "call"))
            message->call = string_of(value);
        else if (message_span_is(name, "function"))
            message->function = string_of(value);
        else if (message_span_is(name, "err"))
            message->err = string_of(value);
        else if (message_span_is(name, "value"))
            message->value = value;
        else if (message_span_is(name, "now"))
            message->now = value;
        else if (message_span_is(name, "seed"))
            message->seed = string_of(value);
        else if (message_span_is(name, "args"))
            parse_args(value, message);
        take(&s, ',');
    }
    if (!message->call.text || (message->kind == MESSAGE_REQUEST && !message->function.text))
        return -EBADMSG;
    return 0;
}

int message_parse(const char *text, size_t length, struct message *ret_message)
{
    struct scanner s = {.at = text, .end = text + length};
    struct message_span request = {0}, response = {0};

    if (length > MESSAGE_SIZE_MAX)
        return -E2BIG;
    /* First all of it, as strictly as JSON is: what follows may then rely on its form. */
    skip_space(&s);
    const char *start = s.at;

    if (s.at == s.end || *s.at != '{')
        return -EBADMSG;
    scan_value(&s, 0);
    skip_space(&s);
    if (s.error || s.at != s.end)
        return s.error ? s.error : -EBADMSG;

    s = (struct scanner){.at = start + 1, .end = text + length};
    while (!take(&s, '}')) {
        struct message_span name = scan_string(&s);

        take(&s, ':');
        struct message_span value = scan_value(&s, 1);

        if (s.error)
            return s.error;
        if (message_span_is(name, "request"))
            request = value;
        else if (message_span_is(name, "response"))
            response = value;
        take(&s, ',');
    }
    struct message message = {.kind = MESSAGE_OTHER};
    bool is_request = request.length && !message_span_is(request, "null");
    bool is_response = response.length && !message_span_is(response, "null");
    int error = 0;

    if (is_request || is_response) {
        message.kind = is_request ? MESSAGE_REQUEST : MESSAGE_RESPONSE;
        error = parse_body(is_request ? request : response, &message);
    }
    if (!error)
        *ret_message = message;
    return error;
}

static void reader_reset(struct message_reader *reader, bool skipping)
{
    reader->length = reader->depth = 0;
    reader->in_string = reader->escaped = false;
    reader->skipping = skipping;
}

/* Follows strings and nesting; returns true on the brace that closes the object. */
static bool reader_track(struct message_reader *reader, char c)
{
    if (reader->in_string) {
        if (reader->escaped)
            reader->escaped = false;
        else if (c == '\\')
            reader->escaped = true;
        else if (c == '"')
            reader->in_string = false;
        return false;
    }
    if (c == '"')
        reader->in_string = true;
    else if (c == '{' || c == '[')
        reader->depth++;
    else if (c == '}' || c == ']')
        return --reader->depth == 0;
    return false;
}

bool message_reader_feed(struct message_reader *reader, const char *bytes, size_t length,
                         size_t *ret_used)
{
    size_t used = 0;
    bool complete = false;

    /* depth 0 with bytes in the buffer: the object that the last call returned */
    if (!reader->depth && !reader->skipping)
        reader_reset(reader, false);
    while (used < length && !complete) {
        char c = bytes[used++];

        /* No encoder breaks lines in an object: a newline is where a cut or foreign text ends. */
        if (c == '\n') {
            reader_reset(reader, false);
            continue;
        }
        if (reader->skipping || (!reader->depth && (c == ' ' || c == '\t' || c == '\r')))
            continue;
        if ((!reader->depth && c != '{') || reader->length == sizeof(reader->buffer)) {
            reader_reset(reader, true);
            continue;
        }
        reader->buffer[reader->length++] = c;
        complete = reader_track(reader, c);
    }
    *ret_used = used;
    return complete;
}

/* Length of the well-formed UTF-8 sequence at text, 0 if there is none. */
static size_t utf8_length(const char *text)
{
    const unsigned char *u = (const unsigned char *)text;
    size_t n = u[0] < 0x80                   ? 1
               : u[0] >= 0xc2 && u[0] < 0xe0 ? 2
               : (u[0] & 0xf0) == 0xe0       ? 3
               : u[0] >= 0xf0 && u[0] < 0xf5 ? 4
                                             : 0;

    for (size_t i = 1; i < n; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
        (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return n;
}

/* Escapes as much of text as fits into size - 1 bytes, and ends it with NUL. */
static void quote(char *out, size_t size, const char *text)
{
    size_t at = 0;

    while (*text) {
        char piece[8];
        size_t n = utf8_length(text), step = n ? n : 1;

        if (!n)
            snprintf(piece, sizeof(piece), "\\ufffd");
        else if (*text == '"' || *text == '\\')
            snprintf(piece, sizeof(piece), "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            snprintf(piece, sizeof(piece), "\\u%04x", (unsigned)*text);
        else
            snprintf(piece, sizeof(piece), "%.*s", (int)n, text);
        size_t length = strlen(piece);

        if (at + length >= size)
            break;
        memcpy(out + at, piece, length);
        at += length;
        text += step;
    }
    out[at] = '\0';
}

size_t message_response(char *out, size_t size, struct message_span call, const char *value,
                        const char *err)
{
    char quoted[1024];

    quote(quoted, sizeof(quoted), err);
    int n = snprintf(
        out, size,
        "{\"request\":null,\"response\":{\"call\":\"%.*s\",\"value\":%s,\"err\":\"%s\"}}\n",
        (int)call.length, call.text ? call.text : "", value, quoted);

    return n < 0 || (size_t)n >= size ? 0 : (size_t)n;
}
