/* SPDX-License-Identifier: BSD-2-Clause */
/* What is asked of a node: the words of `drafter ctl` as requests, and moves. */
#include "control/control.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <string.h>

static int refuse_argument(const char *command, const char *argument, struct drafter_error *err)
{
    return drafter_error_set(err, EINVAL, "%.64s takes no argument \"%.64s\"", command, argument);
}

/* The node may be in another directory. */
static int add_directory(json_t *request, const char *path, struct drafter_error *err)
{
    cleanup_free char *directory = path ? realpath(path, NULL) : NULL;

    if (!path)
        return drafter_error_set(err, EINVAL, "snapshot takes the directory to write into");
    if (!directory)
        return drafter_error_errno(err, errno, "%s", path);
    if (json_object_set_new(request, "directory", json_string(directory)))
        return drafter_error_set(err, EINVAL, "%s: a name that JSON cannot hold", directory);
    return 0;
}

static int add_argument(json_t *request, const char *command, const char *argument,
                        struct drafter_error *err)
{
    bool migratable = !strcmp(command, "migratable");

    if (!strcmp(command, "snapshot"))
        return add_directory(request, argument, err);
    if (!argument)
        return 0;
    if (!migratable)
        return refuse_argument(command, argument, err);
    if (!strcmp(argument, "--off"))
        return json_object_set_new(request, "off", json_true());
    if (json_object_set_new(request, "address", json_string(argument)))
        return drafter_error_set(err, EINVAL, "\"%.64s\" is no address", argument);
    return 0;
}

int control_request(const char *command, const char *argument, json_t **ret_request,
                    struct drafter_error *err)
{
    cleanup_json json_t *request = json_pack("{s:s}", "command", command);
    int rc = request ? add_argument(request, command, argument, err)
                     : drafter_error_set(err, EINVAL, "a command that JSON cannot hold");

    if (!rc)
        *ret_request = json_incref(request);
    return rc;
}

int control_migrate(const char *run_directory, const char *name, const char *address,
                    unsigned timeout_ms, int *ret_fd, json_t **ret_opened, struct drafter_error *err)
{
    cleanup_json json_t *wait = NULL, *open = NULL, *opened = NULL;
    cleanup_close int fd = -1;
    int rc = address && *address == '-' ? refuse_argument("migrate", address, err)
                                        : control_request("wait", NULL, &wait, err);

    /* It waits before the door opens, so that no end is missed. */
    if (!rc)
        rc = control_request("migratable", address, &open, err);
    if (!rc)
        rc = control_begin(run_directory, name, wait, &fd, err);
    if (!rc)
        rc = control_ask(run_directory, name, open, timeout_ms, &opened, err);
    if (rc)
        return rc;
    *ret_fd = steal_fd(&fd);
    *ret_opened = json_incref(opened);
    return 0;
}

int control_outcome(const json_t *answer, const char *name, struct drafter_error *err)
{
    const char *outcome = json_string_value(json_object_get(answer, "outcome"));
    const char *reason = json_string_value(json_object_get(answer, "reason"));

    if (outcome && !strcmp(outcome, "moved"))
        return 0;
    if (outcome && !strcmp(outcome, "lost"))
        return drafter_error_set(err, EINPROGRESS, "handed over, but not all of it: %s",
                                 reason ? reason : "");
    return drafter_error_set(err, ECANCELED, "VM %s stayed here%s%s", name, reason ? ": " : "",
                             reason ? reason : "");
}
