/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hand-over data: a file of at most WIRE_CUSTOM_MAX bytes that goes along with the VM.  It is the VM's: it is read just
 * before the VM is suspended, is here before the VM is, and goes on with it to the next host.  Its name is this node's.
 *
 * What comes has a name beside that until the guest is about to run: an arrival that fails, or whose drafter dies,
 * changes nothing, and a drafter that goes on with it finds what the dead one had heard.  An empty file beside says
 * that nothing came, and that what is there is not this VM's.
 */
#include "role/peer.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <fcntl.h>
#include <string.h>

#define FILE_MODE 0600 /* whatever it is, it was not meant for others */

/* The caller frees it; NULL: out of memory. */
char *peer_custom_path(const struct peer *peer)
{
    const struct node_options *node = &peer->node->options;
    char *path;

    if (peer->options.handover_data)
        return strdup(peer->options.handover_data);
    return asprintf(&path, "%s/%s.handover", node->state_directory, node->name) < 0 ? NULL : path;
}

int peer_custom_read(void *opaque, void *buffer, size_t size, size_t *ret_length,
                     struct drafter_error *err)
{
    cleanup_free char *path = peer_custom_path(opaque);
    cleanup_free char *data = NULL;
    size_t length;

    *ret_length = 0;
    if (!path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (access(path, F_OK) && errno == ENOENT)
        return 0;
    if (io_read_file(path, size, &data, &length, err))
        return drafter_error_wrap(err, "hand-over data, of at most %zu bytes", size);
    memcpy(buffer, data, length);
    *ret_length = length;
    return 0;
}

static void remove_file(const char *path)
{
    if (unlink(path) && errno != ENOENT)
        log_warning("peer", "%s: %s", path, strerror(errno));
}

/* Both names, which the caller frees; false: out of memory. */
static bool name_both(const struct peer *peer, char **ret_path, char **ret_beside)
{
    *ret_path = peer_custom_path(peer);
    if (*ret_path && asprintf(ret_beside, "%s.arriving", *ret_path) < 0)
        *ret_beside = NULL;
    return *ret_path && *ret_beside;
}

void peer_custom_discard(const struct peer *peer)
{
    cleanup_free char *path = NULL, *beside = NULL;

    if (!name_both(peer, &path, &beside))
        return;
    remove_file(beside);
    if (peer->custom_taken)
        remove_file(path);
}

/* It need not outlive the host, as the VM does not, but this process. */
static int write_beside(const char *path, const void *data, size_t length)
{
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);

    return fd < 0 ? -errno : io_write_full(fd, data, length);
}

int peer_custom_write(void *opaque, const void *data, size_t length, struct drafter_error *err)
{
    cleanup_free char *path = NULL, *beside = NULL;
    int rc;

    if (!name_both(opaque, &path, &beside))
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (!length && access(path, F_OK) && errno == ENOENT) { /* the rule, and it costs nothing */
        remove_file(beside);
        return 0;
    }
    rc = write_beside(beside, data, length);
    return rc ? drafter_error_errno(err, -rc, "hand-over data: %s", beside) : 0;
}

int peer_custom_take(struct peer *peer, struct drafter_error *err)
{
    cleanup_free char *path = NULL, *beside = NULL, *data = NULL;
    size_t length;
    int rc = 0;

    if (!name_both(peer, &path, &beside))
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (access(beside, F_OK) && errno == ENOENT) /* or a drafter that died has put it in its place */
        return 0;
    rc = io_read_file(beside, WIRE_CUSTOM_MAX, &data, &length, err);
    if (!rc && !length)
        remove_file(path);
    if (!rc && length) {
        peer->custom_taken = true;
        rc = io_replace_file(path, data, length, FILE_MODE, err);
    }
    if (rc)
        return drafter_error_wrap(err, "hand-over data");
    remove_file(beside);
    if (length)
        log_event("handover-data", "\"vm\":\"%s\",\"bytes\":%zu", peer->node->options.name, length);
    return 0;
}
