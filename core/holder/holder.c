/* SPDX-License-Identifier: BSD-2-Clause */
/* Conversations with the holder; its start and its end are in start.c. */
#include "holder/internal.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Under `lock`: sends a request and waits for its answer, which has `packet` afterwards. */
static int ask(struct holder *holder, struct holder_message *header, const void *data, const int *fds)
{
    int result = packet_send(holder->socket, header, data, fds);

    if (result == 0)
        result = packet_receive(holder->socket, holder->packet);
    if (result == 0 && holder->packet->header.op != HOLDER_ANSWER) {
        packet_close_fds(holder->packet);
        result = -EBADMSG;
    }
    return result;
}

static int name_message(struct holder_message *header, const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= sizeof(header->name))
        return -ENAMETOOLONG;
    memcpy(header->name, name, length + 1);
    return 0;
}

int holder_put(struct holder *holder, const char *name, int fd)
{
    struct holder_message header = {.op = HOLDER_PUT, .fd_count = 1};
    int result = name_message(&header, name);

    if (result < 0 || !holder_active(holder))
        return result;
    lock_scope(&holder->lock);
    return packet_send(holder->socket, &header, NULL, &fd);
}

int holder_worth(struct holder *holder, bool worth)
{
    struct holder_message header = {.op = HOLDER_WORTH, .value = worth};

    if (!holder_active(holder))
        return 0;
    lock_scope(&holder->lock);
    return packet_send(holder->socket, &header, NULL, NULL);
}

int holder_take(struct holder *holder, const char *name, int *ret_fd)
{
    int fd;

    for (unsigned i = 0; holder && i < holder->left_count; i++) {
        if (strcmp(holder->left[i].name, name) != 0)
            continue;
        fd = fcntl(holder->left[i].fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            return -errno;
        *ret_fd = fd;
        return 0;
    }
    return -ENOENT;
}

static int new_memory(struct holder *holder, const char *name, size_t size)
{
    cleanup_close int fd = memfd_create("drafter", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int result;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    result = holder_put(holder, name, fd);
    return result < 0 ? result : steal_fd(&fd);
}

int holder_memory(struct holder *holder, const char *name, size_t size, void **ret_memory,
                  bool *ret_found)
{
    cleanup_close int fd = -1;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    struct stat status;
    void *memory;
    bool found = holder_take(holder, name, &fd) == 0;

    if (size == 0)
        return -EINVAL;
    if (found && (fstat(fd, &status) < 0 || (uint64_t)status.st_size != size))
        return -EBADMSG;
    if (!found && holder_active(holder)) {
        fd = new_memory(holder, name, size);
        if (fd < 0)
            return fd;
    }
    if (fd >= 0)
        flags = MAP_SHARED;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *ret_memory = memory;
    *ret_found = found;
    return 0;
}

/* The words of a SPAWN, one after the other. */
static int join_words(const struct drafter_spawn *spawn, char **ret_data, size_t *ret_length)
{
    const char *netns = spawn->netns ? spawn->netns : "";
    size_t length = strlen(netns) + 1;
    char *data, *at;

    for (const char *const *word = spawn->argv; *word; word++)
        length += strlen(*word) + 1;
    if (length > HOLDER_DATA_MAX)
        return -E2BIG;
    data = at = malloc(length);
    if (!data)
        return -ENOMEM;
    at = stpcpy(at, netns) + 1;
    for (const char *const *word = spawn->argv; *word; word++)
        at = stpcpy(at, *word) + 1;
    *ret_data = data;
    *ret_length = length;
    return 0;
}

static int add_target(struct holder_message *header, int *fds, int fd, int target)
{
    if (fd < 0)
        return 0;
    if (header->fd_count == HOLDER_FDS_MAX || target > HOLDER_TARGET_MAX)
        return -EMFILE;
    fds[header->fd_count] = fd;
    header->targets[header->fd_count++] = target;
    return 0;
}

static int add_targets(struct holder_message *header, int *fds, const struct drafter_spawn *spawn)
{
    int result = add_target(header, fds, spawn->stdin_fd, 0);

    if (result == 0)
        result = add_target(header, fds, spawn->stdout_fd, 1);
    if (result == 0)
        result = add_target(header, fds, spawn->stderr_fd, 2);
    for (const int *fd = spawn->keep_fds; result == 0 && fd && *fd >= 0; fd++)
        result = add_target(header, fds, *fd, *fd);
    return result;
}

int holder_spawn(struct holder *holder, const struct drafter_spawn *spawn, pid_t *ret_pid,
                 int *ret_pidfd, struct drafter_error *err)
{
    struct holder_message header = {.op = HOLDER_SPAWN};
    cleanup_free char *data = NULL;
    int fds[HOLDER_FDS_MAX], result;
    size_t length = 0;

    if (!holder_active(holder))
        return -ENOTSUP;
    result = add_targets(&header, fds, spawn);
    if (result == 0)
        result = join_words(spawn, &data, &length);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot start it", spawn->argv[0]);
    header.length = (uint32_t)length;
    lock_scope(&holder->lock);
    result = ask(holder, &header, data, fds);
    if (result < 0 && holder_failed_to_start(holder))
        return -ENOTSUP;
    if (result < 0)
        return drafter_error_errno(err, -result, "the VM's holder does not answer");
    result = holder->packet->header.result;
    if (result == 0 && holder->packet->header.fd_count != 1)
        result = -EBADMSG;
    if (result < 0) {
        packet_close_fds(holder->packet);
        return drafter_error_set(err, -result, "%.*s", (int)holder->packet->header.length,
                                 holder->packet->data);
    }
    *ret_pid = holder->packet->header.pid;
    *ret_pidfd = holder->packet->fds[0];
    return 0;
}

int holder_status(struct holder *holder, pid_t pid, int *ret_status)
{
    struct holder_message header = {.op = HOLDER_STATUS, .pid = pid};
    int result;

    if (!holder_active(holder))
        return -ENOTSUP;
    lock_scope(&holder->lock);
    result = ask(holder, &header, NULL, NULL);
    if (result == 0)
        result = holder->packet->header.result;
    if (result == 0)
        *ret_status = holder->packet->header.value;
    return result;
}

/* Under `lock`. */
int holder_say_end(struct holder *holder)
{
    struct holder_message header = {.op = HOLDER_END};

    return ask(holder, &header, NULL, NULL);
}
