/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/agent.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/json.h"
#include "util/log.h"

#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MESSAGE_MAX (1u << 16)
/* A guest that floods its channel is not read for ever. */
#define NOISE_MAX (1u << 22)
#define DEPTH_MAX 32
#define REFUSALS_MAX 64 /* calls of the guest that are answered during one of ours */

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

/* ---- messages: objects one after the other, by habit but not by rule one a line */

struct reader {
    char object[MESSAGE_MAX];
    size_t used, total;
    unsigned depth, refused;
    bool in_string, escaped, skipping;
};

/* What is begun is dropped, and what follows up to the end of the line. */
static void reader_skip(struct reader *reader, bool skipping)
{
    reader->used = 0;
    reader->depth = 0;
    reader->in_string = reader->escaped = false;
    reader->skipping = skipping;
}

/* Follows strings and nesting; true on the brace that closes the object. */
static bool reader_track(struct reader *reader, char c)
{
    if (reader->in_string) {
        reader->in_string = c != '"' || reader->escaped;
        reader->escaped = c == '\\' && !reader->escaped;
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

/* Takes one byte; true when reader->object holds an object of reader->used bytes. */
static bool reader_feed(struct reader *reader, char c)
{
    bool between = reader->depth == 0;

    if (c == '\n') { /* whoever was cut off in a message begins the next one on a new line */
        reader_skip(reader, false);
        return false;
    }
    if (reader->skipping || (between && (c == ' ' || c == '\t' || c == '\r')))
        return false;
    if ((between && c != '{') || reader->used == sizeof(reader->object) ||
        reader->depth > DEPTH_MAX) {
        reader_skip(reader, true);
        return false;
    }
    if (between)
        reader->used = 0;
    reader->object[reader->used++] = c;
    return reader_track(reader, c);
}

/* ---- the call */

/* The guest may call, too; there is nothing here that it could. */
static void refuse_request(int fd, struct reader *reader, const json_t *request)
{
    const json_t *call = json_object_get(request, "call");
    cleanup_free char *text = NULL;
    cleanup_free char *line = NULL;
    json_t *answer;

    if (!json_is_string(call) || ++reader->refused > REFUSALS_MAX)
        return;
    answer = json_pack("{s:n,s:{s:O,s:n,s:s}}", "request", "response", "call", call, "value", "err",
                       "can not call non function");
    text = json_text(answer, JSON_COMPACT);
    json_decref(answer);
    if (!text || asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    if (line) /* one that does not read its answers loses them */
        send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What our agent says of the clock that it set. */
static void report_skew(const json_t *value)
{
    const json_t *skew = json_object_get(value, "skew_ns");

    if (json_is_integer(skew))
        log_info("agent", "the guest's clock was %.3f ms behind; %s%s",
                 (double)json_integer_value(skew) / 1e6,
                 json_is_true(json_object_get(value, "clock_set")) ? "it was set"
                                                                   : "it could not be set",
                 json_is_true(json_object_get(value, "reseeded")) ? ", entropy was added" : "");
}

/* Is this object the answer to our call?  1 yes, 0 no, negative: it says that the hook failed. */
static int judge(int fd, struct reader *reader, const char *call, struct drafter_error *err)
{
    json_t *message = json_loadb(reader->object, reader->used, 0, NULL);
    const json_t *response = json_object_get(message, "response");
    const json_t *request = json_object_get(message, "request");
    const char *id = json_string_value(json_object_get(response, "call"));
    const char *failure = json_string_value(json_object_get(response, "err"));
    int rc = id && !strcmp(id, call);

    if (rc && failure && *failure)
        rc = drafter_error_set(err, EREMOTEIO, "the guest's agent says: %.200s", failure);
    else if (rc)
        report_skew(json_object_get(response, "value"));
    else if (json_is_object(request))
        refuse_request(fd, reader, request);
    json_decref(message);
    return rc;
}

static int consume(int fd, struct reader *reader, const char *bytes, size_t length, const char *call,
                   struct drafter_error *err)
{
    int rc = 0;

    for (size_t i = 0; !rc && i < length; i++)
        if (reader_feed(reader, bytes[i]))
            rc = judge(fd, reader, call, err);
    return rc;
}

static int await_answer(int fd, struct reader *reader, const char *call, uint64_t deadline,
                        struct drafter_error *err)
{
    char bytes[4096];
    int rc = 0;

    while (!rc) {
        ssize_t n;

        rc = wait_readable(fd, deadline);
        if (rc)
            return drafter_error_set(err, -rc, "the guest's agent does not answer");
        n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return drafter_error_set(err, ECONNRESET, "the channel to the guest's agent closed");
        reader->total += (size_t)n;
        if (reader->total > NOISE_MAX)
            return drafter_error_set(err, EPROTO, "the guest floods its agent channel");
        rc = consume(fd, reader, bytes, (size_t)n, call, err);
    }
    return rc < 0 ? rc : 0;
}

/* Of the time of sending: a guest that comes late must not get a clock that is late. */
static void add_members(const char *seed, char *members, size_t size)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(members, size, ",\"now\":%lld%09ld,\"seed\":\"%s\"", (long long)now.tv_sec, now.tv_nsec,
             seed);
}

int agent_call(int fd, const char *function, const char *seed, unsigned timeout_ms,
               struct drafter_error *err)
{
    uint64_t now = drafter_now_ns(), deadline = now + (uint64_t)timeout_ms * 1000000;
    cleanup_free struct reader *reader = calloc(1, sizeof(*reader));
    cleanup_free char *request = NULL;
    char call[32], members[192] = "";
    int rc;

    snprintf(call, sizeof(call), "%llx", (unsigned long long)now);
    if (seed)
        add_members(seed, members, sizeof(members));
    /* The newline ahead ends whatever half line an earlier host left. */
    if (!reader || asprintf(&request,
                            "\n{\"request\":{\"call\":\"%s\",\"function\":\"%s\",\"args\":[]%s},"
                            "\"response\":null}\n",
                            call, function, members) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = io_write_full(fd, request, strlen(request));
    if (rc)
        return drafter_error_errno(err, -rc, "cannot write to the guest's agent");
    rc = await_answer(fd, reader, call, deadline, err);
    return rc ? drafter_error_wrap(err, "%s", function) : 0;
}

/* ---- the channel */

int agent_channel(struct instance *vmm, const char *name, uint64_t deadline, int *ret_fd,
                  struct drafter_error *err)
{
    static const struct timespec moment = {.tv_nsec = 2000000};

    for (;;) {
        struct drafter_error why = {0};
        int rc = vmm_channel(vmm, name, ret_fd, &why);

        if (!rc)
            return 0;
        if (rc != -EAGAIN || drafter_now_ns() >= deadline)
            return drafter_error_set(err, rc == -EAGAIN ? ETIMEDOUT : -rc, "%s", why.message);
        nanosleep(&moment, NULL);
    }
}

/* What came from an agent that has ended since, or a restored guest's, is closed at the first word. */
static bool is_stale(int rc)
{
    return rc == -ECONNRESET || rc == -EPIPE;
}

int agent_hook(struct instance *vmm, const char *function, const char *seed, unsigned timeout_ms,
               struct drafter_error *err)
{
    static const struct timespec moment = {.tv_nsec = 10000000};
    uint64_t deadline = drafter_now_ns() + (uint64_t)timeout_ms * 1000000, now;

    for (;;) {
        struct drafter_error why = {0};
        cleanup_close int fd = -1;
        int rc = agent_channel(vmm, "agent", deadline, &fd, &why);

        now = drafter_now_ns();
        if (!rc)
            rc = agent_call(fd, function, seed,
                            deadline > now ? (unsigned)((deadline - now) / 1000000 + 1) : 1, &why);
        if (!rc)
            return 0;
        if (!is_stale(rc) || drafter_now_ns() >= deadline)
            return drafter_error_set(err, -rc, "%s", why.message);
        nanosleep(&moment, NULL);
    }
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
