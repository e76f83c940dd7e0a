/* SPDX-License-Identifier: BSD-2-Clause */
/* Forwards that forward nothing: what must hold of them between forward_add and forward_remove. */
#include "null.h"

#include "../forward.h"

#include <stdlib.h>
#include <unistd.h>

struct null_forward {
    struct null_forward *next;
    struct drafter_network_forward forward;
    struct forward_host host;
};

static int add_one(struct null *null, const struct drafter_network_forward *forward,
                   struct drafter_error *err)
{
    struct null_forward *added;
    struct forward_host host;
    char text[FORWARD_TEXT_MAX];
    int ret = forward_parse("null", forward, &host, err);

    if (ret < 0)
        return ret;
    for (const struct null_forward *other = null->forwards; other; other = other->next)
        if (forward_meets(&host, &other->host))
            return drafter_error_set(err, EADDRINUSE, "null: %s is forwarded to slot %s by %s",
                                     forward_text(&other->forward, text), other->forward.slot,
                                     other->forward.owner);
    added = calloc(1, sizeof(*added));
    if (!added)
        return drafter_error_set(err, ENOMEM, "null: no memory");
    added->forward = *forward;
    added->host = host;
    added->next = null->forwards;
    null->forwards = added;
    return 0;
}

int null_forward_add(void *instance, const struct drafter_network_forward *forwards, size_t count,
                     struct drafter_error *err)
{
    struct null *null = instance;
    int ret;

    for (size_t i = 0; i < count; i++) {
        ret = add_one(null, &forwards[i], err);
        if (ret < 0) {
            null_forward_remove(null, forwards, i, NULL);
            return ret;
        }
    }
    return 0;
}

static void remove_one(struct null *null, const struct forward_host *host)
{
    for (struct null_forward **link = &null->forwards; *link; link = &(*link)->next) {
        struct null_forward *found = *link;

        if (forward_same(&found->host, host)) {
            *link = found->next;
            free(found);
            return;
        }
    }
}

int null_forward_remove(void *instance, const struct drafter_network_forward *forwards,
                        size_t count, struct drafter_error *err)
{
    struct drafter_error error = {0}, first = {0};
    struct forward_host host;

    for (size_t i = 0; i < count; i++) {
        if (forward_parse("null", &forwards[i], &host, &error) == 0)
            remove_one(instance, &host);
        else if (first.code == 0)
            first = error;
    }
    if (first.code == 0)
        return 0;
    if (err)
        *err = first;
    return -first.code;
}

int null_forward_list(void *instance, drafter_network_forward_fn *each, void *context,
                      struct drafter_error *err)
{
    struct null *null = instance;
    int ret = 0;

    (void)err;
    for (struct null_forward *at = null->forwards; at && ret >= 0; at = at->next)
        ret = each(context, &at->forward, getpid());
    return ret < 0 ? ret : 0;
}

void null_forward_release(struct null *null)
{
    while (null->forwards)
        remove_one(null, &null->forwards->host);
}
