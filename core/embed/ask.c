/* SPDX-License-Identifier: BSD-2-Clause */
/* Asking a node by its control socket, of which its event "control" tells. */
#include "embed/internal.h"

#include "control/control.h"
#include "util/cleanup.h"
#include "util/json.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>

struct address {
    uint64_t deadline;
    char directory[PATH_MAX], name[DRAFTER_NAME_MAX + 1];
};

/* For the control socket 0 is for ever. */
static unsigned patience(uint64_t deadline)
{
    unsigned left = deadline_left_ms(deadline);

    return deadline == UINT64_MAX ? 0 : left ? left : 1;
}

/* Another node may have the name of one that has ended. */
static int check_running(struct drafter_node *node, struct drafter_error *err)
{
    int rc = drafter_node_wait(node, 0, err);

    if (rc == -ETIMEDOUT || rc == -EDEADLK)
        return 0;
    return rc ? rc : drafter_error_set(err, ESHUTDOWN, "drafter has ended");
}

static int find_address(struct drafter_node *node, unsigned timeout_ms, struct address *ret_address,
                        struct drafter_error *err)
{
    cleanup_free struct drafter_event *event = malloc(sizeof(*event));
    int rc;

    ret_address->deadline = deadline_after(timeout_ms);
    if (!event)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = drafter_node_await(node, "control", 0, timeout_ms, event, err);
    if (rc)
        return drafter_error_wrap(err, "it has no control socket");
    if (drafter_json_text(event->text, "directory", ret_address->directory, sizeof(ret_address->directory)) ||
        drafter_json_text(event->text, "vm", ret_address->name, sizeof(ret_address->name)))
        return drafter_error_set(err, EPROTO, "drafter does not say where its control socket is");
    return check_running(node, err);
}

static int give(const json_t *answer, char **ret_answer, struct drafter_error *err)
{
    char *text;

    if (!ret_answer)
        return 0;
    text = json_text(answer, JSON_COMPACT);
    if (!text)
        return drafter_error_set(err, ENOMEM, "out of memory");
    *ret_answer = text;
    return 0;
}

int drafter_node_ask(struct drafter_node *node, const char *command, const char *argument,
                     unsigned timeout_ms, char **ret_answer, struct drafter_error *err)
{
    cleanup_json json_t *request = NULL, *answer = NULL;
    struct address to;
    int rc = control_request(command, argument, &request, err);

    if (!rc)
        rc = find_address(node, timeout_ms, &to, err);
    if (!rc)
        rc = control_ask(to.directory, to.name, request, patience(to.deadline), &answer, err);
    return rc ? rc : give(answer, ret_answer, err);
}

/* Until the end of a move is told, or the node is gone. */
static int await_readable(int fd, uint64_t deadline, struct drafter_error *err)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    while (poll(&wait, 1, (int)deadline_left_ms(deadline)) <= 0)
        if (!deadline_left_ms(deadline))
            return drafter_error_set(err, ETIMEDOUT, "the move has not ended in time");
    return 0;
}

int drafter_node_migrate(struct drafter_node *node, const char *address, unsigned timeout_ms,
                         struct drafter_error *err)
{
    cleanup_json json_t *opened = NULL, *answer = NULL;
    cleanup_close int fd = -1;
    struct address from;
    int rc = find_address(node, timeout_ms, &from, err);

    if (!rc)
        rc = control_migrate(from.directory, from.name, address, patience(from.deadline), &fd, &opened, err);
    if (!rc)
        rc = await_readable(fd, from.deadline, err);
    if (!rc)
        rc = control_finish(fd, from.name, &answer, err);
    return rc ? rc : control_outcome(answer, from.name, err);
}
