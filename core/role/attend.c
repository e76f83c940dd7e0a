/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/attend.h"

#include "util/cleanup.h"
#include "util/json.h"
#include "util/log.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

void attend_describe(const struct node *node, const char *state, json_t *answer)
{
    json_object_set_new(answer, "name", json_string(node->options.name));
    json_object_set_new(answer, "role", json_string(node->options.role));
    json_object_set_new(answer, "state", json_string(state));
    json_object_set_new(answer, "pid", json_integer(getpid()));
}

/* Whoever started us need not know our configuration to ask us. */
static void tell_where(const struct node_options *node)
{
    cleanup_free char *directory = realpath(node->run_directory, NULL);
    cleanup_json json_t *fields = json_pack("{s:s, s:s*}", "vm", node->name, "directory", directory);
    cleanup_free char *text = fields ? json_text(fields, JSON_COMPACT) : NULL;

    if (directory && text)
        log_event("control", "%.*s", (int)strlen(text) - 2, text + 1); /* without braces */
}

struct control *attend_start(const struct node *node, const struct control_ops *ops)
{
    struct drafter_error error = {0};
    struct control *control;

    if (control_start(node->options.run_directory, node->options.name, ops, &control, &error)) {
        log_warning(node->options.role, "it cannot be controlled: %s", error.message);
        return NULL;
    }
    tell_where(&node->options);
    return control;
}

static int request(void *opaque, const struct control_asker *asker, const char *command, const json_t *words,
                   json_t *answer, struct drafter_error *err)
{
    const struct attendant *attendant = opaque;
    const char *role = attendant->node->options.role;

    (void)asker;
    (void)words;
    if (!strcmp(command, "stop"))
        return kill(getpid(), SIGTERM) ? drafter_error_errno(err, errno, "%s", role) : 0;
    if (strcmp(command, "status") != 0)
        return drafter_error_set(err, EINVAL, "a %s has no VM: it knows status and stop, not \"%.64s\"", role, command);
    attend_describe(attendant->node, "running", answer);
    attendant->status(attendant->opaque, answer);
    return 0;
}

void attendant_start(struct attendant *attendant)
{
    const struct control_ops ops = {.request = request, .opaque = attendant};

    attendant->control = attend_start(attendant->node, &ops);
}

void attendant_stop(struct attendant *attendant)
{
    control_stop(attendant->control);
    attendant->control = NULL;
}
