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

/*
 * For the crash tests, which must find each of these mistakes: 1 writes the map before the data,
 * 2 copies the map after the data was synced, 3 overwrites the newest copy of a sector, 4 leaves out
 * the sync of the state file.
 */
#ifndef COW_PLANT
#define COW_PLANT 0
#endif

static int commit_sector(struct cow *cow, uint32_t sector)
{
    struct cow_copy *copy = &cow->map.copies[sector];
    struct cow_copy next = {copy->sequence + 1, COW_PLANT == 3 ? copy->slot : !copy->slot};
    uint8_t buffer[COW_SECTOR];
    int r;

    cow_sector_encode(&cow->geometry, sector, next.sequence,
                      &cow->map.staged[(size_t)sector * COW_SECTOR_WORDS], buffer);
    r = cow->io->pwrite(cow->state, buffer, sizeof buffer,
                        cow_geometry_slot(&cow->geometry, sector, next.slot));
    if (r == 0)
        *copy = next;
    return r;
}

static int commit_map(struct cow *cow)
{
    bool written = false;
    int r = 0;

    for (uint32_t mark = 0; r == 0 && mark * 64 < cow->map.sectors; mark++) {
        for (uint64_t marks = cow->map.staging[mark]; r == 0 && marks; marks &= marks - 1) {
            r = commit_sector(cow, mark * 64 + (unsigned)__builtin_ctzll(marks));
            written = true;
        }
    }
    if (r == 0 && written && COW_PLANT != 4)
        r = cow->io->sync(cow->state);
    return r;
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
