/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flush: what was written before it survives a crash after it.
 *
 *   1. copy the changed map sectors        bits whose data was written before this point
 *   2. sync the overlay                    now that data is durable
 *   3. write the copies to the other slot
 *   4. sync the state file                 now the bits are
 *
 * A bit never gets ahead of its data, at any point and with writes going on.  Who calls while a commit
 * runs waits for the next one, which serves all who wait.  After a failed sync the kernel may have
 * dropped the pages, so every later flush fails as well.
 */
#include "cow.h"

#include <string.h>

/*
 * Mistakes for the crash tests: 1 writes the map before the data, 2 copies the map after the data was
 * synced, 3 overwrites the newest copy of a sector, 4 leaves out the sync of the state file, 5 that of the
 * mark for rewritten pages (cow-heat.c), 6 lets checksums count before they are durable (there, too).
 */

int cow_commit_sector(struct cow *cow, uint32_t sector, bool warm)
{
    struct cow_copy *copy = &cow->map.copies[sector];
    struct cow_copy next = {.sequence = copy->sequence + 1,
                            .slot = COW_PLANT == 3 ? copy->slot : !copy->slot};
    struct cow_sector content = {.sequence = next.sequence, .warm = warm};
    uint8_t buffer[COW_SECTOR];
    int r;

    memcpy(content.words, &cow->map.staged[(size_t)sector * COW_SECTOR_WORDS], sizeof content.words);
    cow_sector_encode(&cow->geometry, sector, &content, buffer);
    r = cow->io->pwrite(cow->state, buffer, sizeof buffer,
                        cow_geometry_slot(&cow->geometry, sector, next.slot));
    if (r == 0)
        *copy = next;
    return r;
}

/* Calls `visit` for each sector that is staged, until one fails. */
static int each_staged(struct cow *cow, int (*visit)(struct cow *cow, uint32_t sector))
{
    int r = 0;

    for (uint32_t mark = 0; r == 0 && mark * 64 < cow->map.sectors; mark++)
        for (uint64_t marks = cow->map.staging[mark]; r == 0 && marks; marks &= marks - 1)
            r = visit(cow, mark * 64 + (unsigned)__builtin_ctzll(marks));
    return r;
}

static int write_staged(struct cow *cow, uint32_t sector)
{
    cow->wrote_map = true;
    return cow_commit_sector(cow, sector, cow_heat_mark(cow, sector));
}

static int note_committed(struct cow *cow, uint32_t sector)
{
    cow_heat_committed(cow, sector);
    return 0;
}

static int commit_map(struct cow *cow)
{
    int r = each_staged(cow, write_staged);

    if (r == 0)
        r = cow_heat_flushed(cow);
    if (r == 0 && cow->wrote_map && COW_PLANT != 4)
        r = cow->io->sync(cow->state);
    cow->wrote_map = false;
    return r == 0 ? each_staged(cow, note_committed) : r;
}

static int commit_run(struct cow *cow)
{
    int r = 0;

    if (COW_PLANT != 2)
        cow_map_stage(&cow->map);
    if (COW_PLANT == 1)
        r = commit_map(cow);
    if (r == 0)
        r = cow->io->sync(cow->overlay);
    if (COW_PLANT == 2)
        cow_map_stage(&cow->map);
    if (r == 0 && COW_PLANT != 1)
        r = commit_map(cow);
    return r;
}

int cow_commit_exclusive(struct cow *cow, int (*act)(struct cow *cow, uint32_t sector), uint32_t sector)
{
    struct cow_commit *commit = &cow->commit;
    int r;

    pthread_mutex_lock(&commit->lock);
    while (commit->running)
        pthread_cond_wait(&commit->done, &commit->lock);
    r = commit->failed; /* what is on disk then, nobody knows */
    commit->running = r == 0;
    pthread_mutex_unlock(&commit->lock);
    if (r < 0)
        return r;
    r = act(cow, sector);
    pthread_mutex_lock(&commit->lock);
    if (r < 0)
        commit->failed = r; /* part of it may be on disk */
    commit->running = false;
    pthread_cond_broadcast(&commit->done);
    pthread_mutex_unlock(&commit->lock);
    return r;
}

/* Runs one commit with the lock released. */
static void commit_lead(struct cow *cow)
{
    struct cow_commit *commit = &cow->commit;
    int r;

    commit->running = true;
    commit->started++;
    pthread_mutex_unlock(&commit->lock);
    r = commit_run(cow);
    pthread_mutex_lock(&commit->lock);
    if (r < 0 && commit->failed == 0)
        commit->failed = r;
    commit->running = false;
    commit->finished = commit->started;
    pthread_cond_broadcast(&commit->done);
}

int cow_flush(void *instance)
{
    struct cow *cow = instance;
    struct cow_commit *commit = &cow->commit;
    uint64_t wanted;
    int r;

    if (cow->readonly)
        return 0;
    pthread_mutex_lock(&commit->lock);
    wanted = commit->started + 1; /* the one that runs may have copied the map already */
    while (commit->failed == 0 && commit->finished < wanted) {
        if (commit->running)
            pthread_cond_wait(&commit->done, &commit->lock);
        else
            commit_lead(cow);
    }
    r = commit->failed;
    pthread_mutex_unlock(&commit->lock);
    return r;
}
