/* SPDX-License-Identifier: BSD-2-Clause */
/* The operator's end of the control socket. */
#include "control/internal.h"

#include "util/cleanup.h"
#include "util/json.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int dial(const char *run_directory, const char *name, unsigned timeout_ms, int *ret_fd,
                struct drafter_error *err)
{
    const struct timeval patience = {.tv_sec = timeout_ms / 1000,
                                     .tv_usec = timeout_ms % 1000 * 1000};
    struct sockaddr_un address;
    cleanup_close int directory = -1, fd = -1;
    int rc = control_address(run_directory, name, &address, &directory, err);

    if (rc)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return drafter_error_errno(err, errno, "socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            return drafter_error_set(err, ENOENT, "no drafter runs %s (%s/%s%s)", name,
                                     run_directory, name, CONTROL_SUFFIX);
        return drafter_error_errno(err, errno, "%s/%s%s", run_directory, name, CONTROL_SUFFIX);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int understand(const char *line, const char *name, json_t **ret_answer,
                      struct drafter_error *err)
{
    cleanup_json json_t *answer = json_loads(line, 0, NULL);
    const char *error = json_string_value(json_object_get(answer, "error"));
    int code = (int)json_integer_value(json_object_get(answer, "code"));

    if (!json_is_object(answer))
        return drafter_error_set(err, EPROTO, "%s: its answer is no JSON object", name);
    if (!json_is_true(json_object_get(answer, "ok")))
        return drafter_error_set(err, code > 0 ? code : EIO, "%s", error ? error : "it failed");
    *ret_answer = json_incref(answer);
    return 0;
}

static int begin(const char *run_directory, const char *name, json_t *request, unsigned timeout_ms,
                 int *ret_fd, struct drafter_error *err)
{
    cleanup_close int fd = -1;
    int rc = dial(run_directory, name, timeout_ms, &fd, err);

    if (rc)
        return rc;
    rc = control_write_line(fd, request);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot ask %s", name);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int control_begin(const char *run_directory, const char *name, json_t *request, int *ret_fd,
                  struct drafter_error *err)
{
    return begin(run_directory, name, request, 0, ret_fd, err);
}

int control_finish(int fd, const char *name, json_t **ret_answer, struct drafter_error *err)
{
    cleanup_free char *line = malloc(CONTROL_LINE_MAX);
    ssize_t length = line ? control_read_line(fd, line, CONTROL_LINE_MAX) : -ENOMEM;

    if (length <= 0)
        return drafter_error_errno(err, length ? (int)-length : ECONNRESET, "%s gave no answer", name);
    return understand(line, name, ret_answer, err);
}

int control_ask(const char *run_directory, const char *name, json_t *request, unsigned timeout_ms,
                json_t **ret_answer, struct drafter_error *err)
{
    cleanup_close int fd = -1;
    int rc = begin(run_directory, name, request, timeout_ms, &fd, err);

    return rc ? rc : control_finish(fd, name, ret_answer, err);
}

static int is_socket(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name), suffix = strlen(CONTROL_SUFFIX);

    return length > suffix && !strcmp(entry->d_name + length - suffix, CONTROL_SUFFIX);
}

int control_list(const char *run_directory, json_t **ret_names, struct drafter_error *err)
{
    struct dirent **entries;
    int count = scandir(run_directory, &entries, is_socket, alphasort);
    json_t *names;

    if (count < 0 && errno != ENOENT)
        return drafter_error_errno(err, errno, "%s", run_directory);
    names = json_array();
    for (int i = 0; i < count; i++) {
        size_t length = strlen(entries[i]->d_name) - strlen(CONTROL_SUFFIX);

        json_array_append_new(names, json_stringn(entries[i]->d_name, length));
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    *ret_names = names;
    return 0;
}
