/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices without a VM: a mounter shows them and hands them on, a terminator puts them into files.
 *
 * The files of a backup have names that end in .part until all of it is in them and durable.  That is recorded (OWNED
 * and `whole`); then all get their own names, and only after that the source is told that it may let go, which makes it
 * SAVED.  So what has its own name is whole, and whoever finds the first record has only to go on from there.
 */
#include "role/peer.h"

#include "role/ownership.h"
#include "util/cleanup.h"
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
    if (!peer->backed_up && !peer->options.overwrite && !stat(output, &status) && status.st_size > 0)
        return drafter_error_set(err, EEXIST, "%s: it exists; move it away, or set overwrite = yes",
                                 output);
    peer->finals[index] = strdup(output);
    if (!peer->finals[index] || asprintf(&partial, "%s" PART, output) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    peer->partial[index] = partial;
    device->options.base = partial;
    if (!peer->backed_up && unlink(partial) && errno != ENOENT) /* of a terminator that was killed */
        return drafter_error_errno(err, errno, "%s", partial);
    return 0;
}

int peer_begin_backup(struct peer *peer, struct drafter_error *err)
{
    const struct node_options *node = &peer->node->options;
    struct ledger_record record;
    bool busy;
    int rc;

    if (!peer->options.connect)
        return drafter_error_set(err, EINVAL, "a terminator needs connect, the address of the VM");
    rc = ledger_peek(node->state_directory, node->name, &record, &busy, err);
    peer->backed_up = !rc && !busy && record.state == LEDGER_OWNED && record.whole;
    for (unsigned i = 0; !rc && i < peer->devices.count; i++)
        rc = begin_file(peer, i, err);
    peer->options.overwrite = true; /* of what was checked above */
    return rc;
}

/* Those that have theirs already are of a process that was killed meanwhile. */
static int name_file(struct peer *peer, unsigned index, struct drafter_error *err)
{
    const char *final = peer->finals[index], *partial = peer->partial[index];
    int rc;

    if (rename(partial, final) && (errno != ENOENT || access(final, F_OK)))
        return drafter_error_errno(err, errno, "%s: cannot give %s its name", partial, final);
    rc = io_sync_parent(final);
    if (rc)
        return drafter_error_errno(err, -rc, "%s: its directory", final);
    log_event("saved", "\"vm\":\"%s\",\"device\":\"%s\",\"path\":\"%s\"", peer->node->options.name,
              peer->devices.list[index].name, final);
    free(steal(&peer->finals[index]));
    return 0;
}

static int name_files(struct peer *peer, struct drafter_error *err)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < peer->devices.count; i++)
        if (peer->finals[i])
            rc = name_file(peer, i, err);
    return rc;
}

int peer_finish_backup(struct peer *peer, uint64_t epoch, const char *from, const uint8_t session[16],
                       struct drafter_error *err)
{
    int rc = vm_write_back(&peer->vm, err);

    if (!rc)
        rc = ledger_write_whole(&peer->ledger, LEDGER_OWNED, epoch, from, session, err);
    return rc ? rc : name_files(peer, err);
}

int peer_end_backup(struct peer *peer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;

    return ledger_write(&peer->ledger, LEDGER_SAVED, record->epoch, record->peer, NULL, err);
}

int peer_settle_backup(struct peer *peer, const struct destination_options *options,
                       struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;
    struct drafter_error unheard = {0};
    int rc = peer_open_ledger(peer, err);

    if (!rc && (record->state != LEDGER_OWNED || !record->whole))
        rc = drafter_error_set(err, EBUSY, "%s: another drafter changed it", peer->ledger.path);
    if (!rc)
        rc = name_files(peer, err);
    if (rc)
        return rc;
    log_info("peer", "VM %s was here already, whole: the source is told so", record->vm);
    rc = destination_confirm(options, record, &unheard);
    if (rc == -EPERM) {
        *err = unheard;
        return rc;
    }
    if (rc && rc != -ESTALE)
        log_warning("peer", "VM %s is saved, but its source could not be told and may wait: %s", record->vm,
                    unheard.message);
    return peer_end_backup(peer, err);
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
