/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices without a VM: a mounter shows them and hands them on, a terminator puts them into files.
 *
 * The files of a backup have names that end in .part until all of it is in them and durable; then all get their own,
 * and only after that the source is told that it may let go.  So what has its own name is whole.
 */
#include "role/peer.h"

#include "role/ownership.h"
#include "util/io.h"
#include "util/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART ".part"

static int begin_file(struct peer *peer, unsigned index, struct drafter_error *err)
{
    struct node_device *device = &peer->devices.list[index];
    const char *output = device->options.output;
    struct stat status;
    char *partial;

    if (!output || device->options.storage || device->options.overlay)
        return drafter_error_set(err, EINVAL, "%s: device %s needs an output, and nothing but that",
                                 config_where(device->section, NULL), device->name);
    if (!peer->options.overwrite && !stat(output, &status) && status.st_size > 0)
        return drafter_error_set(err, EEXIST, "%s: it exists; move it away, or set overwrite = yes",
                                 output);
    peer->finals[index] = strdup(output);
    if (!peer->finals[index] || asprintf(&partial, "%s" PART, output) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    peer->partial[index] = partial;
    device->options.base = partial;
    if (unlink(partial) && errno != ENOENT) /* of a terminator that was killed */
        return drafter_error_errno(err, errno, "%s", partial);
    return 0;
}

int peer_begin_backup(struct peer *peer, struct drafter_error *err)
{
    int rc = 0;

    if (!peer->options.connect)
        return drafter_error_set(err, EINVAL, "a terminator needs connect, the address of the VM");
    for (unsigned i = 0; !rc && i < peer->devices.count; i++)
        rc = begin_file(peer, i, err);
    peer->options.overwrite = true; /* of what was checked above */
    return rc;
}

int peer_finish_backup(struct peer *peer, struct drafter_error *err)
{
    int rc = vm_write_back(&peer->vm, err);

    for (unsigned i = 0; !rc && i < peer->devices.count; i++) {
        if (!peer->finals[i])
            continue;
        if (rename(peer->partial[i], peer->finals[i]))
            return drafter_error_errno(err, errno, "%s: cannot give it its name", peer->finals[i]);
        rc = io_sync_parent(peer->finals[i]);
        if (rc)
            return drafter_error_errno(err, -rc, "%s: its directory", peer->finals[i]);
        log_event("saved", "\"vm\":\"%s\",\"device\":\"%s\",\"path\":\"%s\"", peer->node->options.name,
                  peer->devices.list[i].name, peer->finals[i]);
        free(peer->finals[i]);
        peer->finals[i] = NULL;
    }
    return rc;
}

void peer_release_backup(struct peer *peer)
{
    for (unsigned i = 0; i < DEVICES_MAX; i++) {
        free(peer->finals[i]);
        free(peer->partial[i]);
        peer->finals[i] = peer->partial[i] = NULL;
    }
}

void peer_tell_mounts(struct peer *peer)
{
    for (unsigned i = 0; i < peer->arranged_count; i++) {
        const struct block_device *device = peer->arranged[i];

        if (!device->exposure)
            continue;
        log_event("mounted", "\"vm\":\"%s\",\"device\":\"%s\",\"path\":\"%s\"",
                  peer->node->options.name, device->name, device->exposure->path);
        printf("%s %s\n", device->name, device->exposure->path);
    }
    fflush(stdout);
}

int peer_mount_local(struct peer *peer, struct drafter_error *err)
{
    struct drafter_error unknown = {0};
    int rc = peer_open_ledger(peer, err);

    if (!rc)
        rc = ownership_check_start(&peer->ledger.record, peer->ledger.path, err);
    if (!rc)
        rc = peer_open_local(peer, err);
    if (!rc)
        rc = vm_expose(&peer->vm, err);
    if (!rc)
        rc = peer_claim(peer, err);
    if (!rc)
        rc = vm_resume(&peer->vm, err);
    if (rc)
        return rc;
    peer->copies = true;
    if (!vm_read_config(&peer->vm, &unknown)) /* else these are devices of no VM */
        peer->facts = peer->vm.package.facts;
    peer_tell_mounts(peer);
    return 0;
}
