/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thread that reads a node's log and sees its end.  The end is that of the process, which its pidfd tells: the
 * pipe may live on in processes that it leaves behind.  What the process wrote is in the pipe then, so it is
 * read first.
 */
#include "embed/internal.h"

#include "util/cleanup.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* What others may have put into the pipe when the process has ended: not endless. */
#define REST_MAX (1u << 20)

struct reader {
    struct drafter_node *node;
    uint64_t lines;
    size_t used;
    char line[DRAFTER_EVENT_MAX];
    struct drafter_event event;
};

/* The slot of a name: its own, a free one, or, where the names are without end, the oldest. */
static struct record *slot_for(struct drafter_node *node, const char *name)
{
    struct record *best = &node->records[0];

    for (struct record *record = node->records; record < node->records + RECORDS_MAX; record++) {
        if (!record->event || !strcmp(record->name, name))
            return record;
        if (record->event->number < best->event->number)
            best = record;
    }
    return best;
}

static void remember(struct drafter_node *node, const struct drafter_event *event)
{
    struct record *record = slot_for(node, event->name);

    if (!record->event)
        record->event = malloc(sizeof(*record->event));
    if (!record->event)
        return;
    memcpy(record->name, event->name, sizeof(record->name));
    *record->event = *event;
    pthread_cond_broadcast(&node->changed);
}

/* An error stays until the next one; other text explains an end only where no error does. */
static void note_error(struct drafter_node *node, const struct drafter_event *event,
                       const char *message)
{
    bool error = event->json && event->level == DRAFTER_LOG_ERROR;

    if (!error && (event->json || node->said_error))
        return;
    node->said_error = error;
    memcpy(node->last_error, message, strlen(message) + 1);
}

static void end_line(struct reader *reader)
{
    struct drafter_node *node = reader->node;
    struct drafter_event *event = &reader->event;
    char message[DRAFTER_ERROR_MAX];

    reader->line[reader->used] = '\0';
    reader->used = 0;
    event_read(reader->line, event, message);
    event->number = ++reader->lines;
    pthread_mutex_lock(&node->lock);
    if (*event->name)
        remember(node, event);
    note_error(node, event, message);
    pthread_mutex_unlock(&node->lock);
    if (node->options.event)
        node->options.event(node->options.opaque, event);
}

static void take(struct reader *reader, const char *bytes, size_t length)
{
    for (const char *end = bytes + length; bytes < end; bytes++) {
        if (*bytes == '\n')
            end_line(reader);
        else if (reader->used < sizeof(reader->line) - 1)
            reader->line[reader->used++] = *bytes ? *bytes : '?';
    }
}

/* One read: false when there is nothing more for now, or for ever (*ret_open is false then). */
static bool read_some(struct reader *reader, size_t *ret_length, bool *ret_open)
{
    char bytes[16384];
    ssize_t got = read(reader->node->log, bytes, sizeof(bytes));

    if (got < 0 && errno == EINTR)
        return true;
    if (got <= 0) {
        *ret_open = got < 0 && errno == EAGAIN;
        return false;
    }
    *ret_length += (size_t)got;
    take(reader, bytes, (size_t)got);
    return true;
}

static void read_rest(struct reader *reader)
{
    size_t length = 0;
    bool open;

    while (length < REST_MAX && read_some(reader, &length, &open))
        ;
    if (reader->used)
        end_line(reader);
}

/*
 * -1 when somebody else in this program took the status (SIGCHLD ignored, or wait(2) for any child); by the pidfd,
 * since the number may be another child's by then.
 */
static int reap(const struct drafter_node *node)
{
    siginfo_t info;
    int rc;

    do
        rc = waitid(P_PIDFD, (id_t)node->pidfd, &info, WEXITED);
    while (rc && errno == EINTR);
    if (rc)
        return -1;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static void end(struct drafter_node *node)
{
    int exit_status = reap(node);

    pthread_mutex_lock(&node->lock);
    node->exit_status = exit_status;
    node->ended = true;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    if (node->options.ended)
        node->options.ended(node->options.opaque, exit_status);
}

static void watch(struct reader *reader)
{
    struct drafter_node *node = reader->node;
    struct pollfd waits[] = {{.fd = node->pidfd, .events = POLLIN},
                             {.fd = node->over, .events = POLLIN},
                             {.fd = node->log, .events = POLLIN}};
    size_t length = 0;
    bool open = true;

    while (node->pidfd >= 0) {
        if (poll(waits, 3, -1) < 0)
            continue;
        if (waits[0].revents)
            break;
        if (waits[1].revents)
            return;
        if (waits[2].revents)
            read_some(reader, &length, &open);
        if (!open)
            waits[2].fd = -1;
    }
    read_rest(reader);
    end(node);
}

void *watch_new(struct drafter_node *node)
{
    struct reader *reader = calloc(1, sizeof(*reader));

    if (reader)
        reader->node = node;
    return reader;
}

void *watch_main(void *opaque)
{
    cleanup_free struct reader *reader = opaque;
    struct drafter_node *node = reader->node;

    pthread_mutex_lock(&node->lock);
    node->watcher_tid = gettid();
    pthread_mutex_unlock(&node->lock);
    watch(reader);
    return NULL;
}
