/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The agent's messages: JSON objects as panrpc writes them, one per line.
 *
 *     {"request":{"call":"ID","function":"BeforeSuspend","args":[]},"response":null}
 *     {"request":null,"response":{"call":"ID","value":null,"err":""}}
 *
 * No allocation, and nothing here trusts the other end: sizes and nesting are bounded, and whatever
 * is not a message is skipped up to the next line.
 */
#ifndef GUEST_AGENT_MESSAGE_H
#define GUEST_AGENT_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_SIZE_MAX 65536
#define MESSAGE_DEPTH_MAX 16

/* A piece of the parsed text; a string's piece is what stands between its quotes, still escaped. */
struct message_span {
    const char *text;
    size_t length;
};

enum message_kind { MESSAGE_OTHER, MESSAGE_REQUEST, MESSAGE_RESPONSE };

struct message {
    enum message_kind kind;
    struct message_span call, function, err;
    struct message_span arg;   /* the first argument as JSON; length 0: none */
    struct message_span value; /* as JSON */
    struct message_span now;   /* of a request, as JSON: the host's time, ns since 1970 */
    struct message_span seed;  /* of a request: hexadecimal */
    size_t arg_count;
};

/*
 * Parses one message. The spans point into text, which the caller keeps.
 * Returns 0, or -EBADMSG when text is no JSON object or lacks a required member, or -E2BIG when it
 * is too large or too deeply nested. An object with neither request nor response is MESSAGE_OTHER.
 */
int message_parse(const char *text, size_t length, struct message *ret_message);

/* Whether a span is exactly this text (names are ASCII, which no encoder escapes). */
bool message_span_is(struct message_span span, const char *text);

/* Reads a whole JSON integer; false when the span is anything else or does not fit. */
bool message_span_int64(struct message_span span, int64_t *ret_number);

/* Cuts a byte stream into messages. Zero-initialise; to start over after a reconnect, zero it
 * again. */
struct message_reader {
    size_t length;
    size_t depth;
    bool in_string, escaped, skipping;
    char buffer[MESSAGE_SIZE_MAX];
};

/*
 * Takes bytes up to the end of the next complete object and says in ret_used how many; call it
 * again for the rest. Returns true when reader->buffer holds reader->length bytes of a complete
 * object.
 */
bool message_reader_feed(struct message_reader *reader, const char *bytes, size_t length,
                         size_t *ret_used);

/*
 * Writes {"request":null,"response":{...}} and a newline. call is echoed as it came (still
 * escaped); value is JSON; err is plain text and gets quoted and, if need be, cut. Returns the
 * length, 0 if out is too small.
 */
size_t message_response(char *out, size_t size, struct message_span call, const char *value,
                        const char *err);

#endif
