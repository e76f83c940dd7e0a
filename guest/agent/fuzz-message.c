/* SPDX-License-Identifier: BSD-2-Clause */
/* clang -fsanitize=fuzzer,address,undefined -o fuzz-message fuzz-message.c message.c */
#include "message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An answer to whatever was understood must itself be understood, with the same call. */
static void answer(const struct message *message)
{
    static char out[MESSAGE_SIZE_MAX + 2048];
    struct message parsed;
    size_t n = message_response(out, sizeof(out), message->call, "null", "a \"b\"\n\x80");
    int64_t number;

    message_span_int64(message->arg, &number);
    if (!n || n > MESSAGE_SIZE_MAX)
        return;
    if (message_parse(out, n, &parsed) != 0 || parsed.kind != MESSAGE_RESPONSE ||
        parsed.call.length != message->call.length ||
        memcmp(parsed.call.text, message->call.text, parsed.call.length) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct message_reader reader;
    const char *text = (const char *)data;
    struct message message;

    if (message_parse(text, size, &message) == 0 && message.kind != MESSAGE_OTHER)
        answer(&message);
    memset(&reader, 0, offsetof(struct message_reader, buffer));
    while (size) {
        size_t used;

        if (message_reader_feed(&reader, text, size, &used))
            if (message_parse(reader.buffer, reader.length, &message) == 0 &&
                message.kind != MESSAGE_OTHER)
                answer(&message);
        if (!used || used > size)
            abort();
        text += used;
        size -= used;
    }
    return 0;
}
