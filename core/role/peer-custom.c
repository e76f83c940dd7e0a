/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hand-over data: a file of at most WIRE_CUSTOM_MAX bytes that goes along with the VM.  It is the VM's: it is read just
 * before the VM is suspended, is here before the VM is, and goes on with it to the next host.  Its name is this node's.
 */
#include "role/peer.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

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

void peer_custom_discard(const struct peer *peer)
{
    cleanup_free char *path = peer->custom_written ? peer_custom_path(peer) : NULL;

    if (path)
        remove_file(path);
}

int peer_custom_write(void *opaque, const void *data, size_t length, struct drafter_error *err)
{
    struct peer *peer = opaque;
    cleanup_free char *path = peer_custom_path(peer);
    int rc;

    if (!path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (!length) { /* what is there would be taken for this VM's */
        remove_file(path);
        return 0;
    }
    peer->custom_written = true;
    rc = io_replace_file(path, data, length, FILE_MODE, err);
    if (rc)
        return drafter_error_wrap(err, "hand-over data");
    log_event("handover-data", "\"vm\":\"%s\",\"bytes\":%zu", peer->node->options.name, length);
    return 0;
}
