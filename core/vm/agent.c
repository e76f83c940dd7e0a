/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/agent.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <jansson.h>
#include <poll.h>
#include <string.h>

#define MESSAGE_MAX (1u << 16)
/* A guest that floods its channel is not read for ever. */
#define NOISE_MAX (1u << 22)

static int wait_readable(int fd, uint64_t deadline)
{
    for (;;) {
        uint64_t now = drafter_now_ns();
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        int rc;

        if (now >= deadline)
            return -ETIMEDOUT;
        rc = poll(&poller, 1, (int)((deadline - now) / 1000000 + 1));
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return -errno;
    }
}

/* Is this line the answer to our call?  1 yes, 0 no, negative: it says that the hook failed. */
static int judge(const char *line, size_t length, const char *call, struct drafter_error *err)
{
    json_t *message = json_loadb(line, length, 0, NULL);
    const json_t *response = json_object_get(message, "response");
    const char *id = json_string_value(json_object_get(response, "call"));
    const char *failure = json_string_value(json_object_get(response, "err"));
    int rc = id && !strcmp(id, call);

    if (rc && failure && *failure)
        rc = drafter_error_set(err, EREMOTEIO, "the guest's agent says: %.200s", failure);
    json_decref(message);
    return rc;
}

struct reader {
    char buffer[MESSAGE_MAX];
    size_t used, total;
};

/* Judges each whole line and keeps the rest. */
static int consume(struct reader *reader, const char *call, struct drafter_error *err)
{
    char *begin = reader->buffer, *end;
    int rc = 0;

    while (!rc && (end = memchr(begin, '\n', reader->used - (size_t)(begin - reader->buffer)))) {
        rc = judge(begin, (size_t)(end - begin), call, err);
        begin = end + 1;
    }
    reader->used -= (size_t)(begin - reader->buffer);
    memmove(reader->buffer, begin, reader->used);
    if (reader->used == sizeof(reader->buffer))
        reader->used = 0; /* a line without end is noise */
    return rc;
}

static int await_answer(int fd, struct reader *reader, const char *call, uint64_t deadline,
                        struct drafter_error *err)
{
    int rc = 0;

    while (!rc) {
        ssize_t n;

        rc = wait_readable(fd, deadline);
        if (rc)
            return drafter_error_set(err, -rc, "the guest's agent does not answer");
        n = read(fd, reader->buffer + reader->used, sizeof(reader->buffer) - reader->used);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return drafter_error_set(err, ECONNRESET, "the channel to the guest's agent closed");
        reader->used += (size_t)n;
        reader->total += (size_t)n;
        if (reader->total > NOISE_MAX)
            return drafter_error_set(err, EPROTO, "the guest floods its agent channel");
        rc = consume(reader, call, err);
    }
    return rc < 0 ? rc : 0;
}

int agent_call(int fd, const char *function, const char *argument, unsigned timeout_ms,
               struct drafter_error *err)
{
    uint64_t now = drafter_now_ns(), deadline = now + (uint64_t)timeout_ms * 1000000;
    cleanup_free struct reader *reader = calloc(1, sizeof(*reader));
    cleanup_free char *request = NULL;
    char call[32];
    int rc;

    snprintf(call, sizeof(call), "%llx", (unsigned long long)now);
    /* The newline ahead ends whatever half line an earlier host left. */
    if (!reader || asprintf(&request,
                            "\n{\"request\":{\"call\":\"%s\",\"function\":\"%s\",\"args\":[%s]}}\n",
                            call, function, argument ? argument : "") < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = io_write_full(fd, request, strlen(request));
    if (rc)
        return drafter_error_errno(err, -rc, "cannot write to the guest's agent");
    rc = await_answer(fd, reader, call, deadline, err);
    return rc ? drafter_error_wrap(err, "%s", function) : 0;
}

int liveness_wait(int fd, unsigned timeout_ms, struct drafter_error *err)
{
    char byte;
    int rc = wait_readable(fd, drafter_now_ns() + (uint64_t)timeout_ms * 1000000);

    if (rc)
        return drafter_error_set(err, -rc, "the guest did not say that it is alive within %u s",
                                 timeout_ms / 1000);
    if (read(fd, &byte, 1) != 1)
        return drafter_error_set(err, ECONNRESET, "the guest's liveness channel closed");
    return 0;
}
