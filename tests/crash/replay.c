/* SPDX-License-Identifier: BSD-2-Clause */
/* See replay.h. */
#include "replay.h"

#include <stdlib.h>

#define PENDING_MAX 512

enum fate { DROPPED, KEPT, TORN };

struct replay {
    const struct disk *disk;
    struct disk_image durable;
    size_t pending[PENDING_MAX]; /* operations, oldest first */
    size_t count;
    uint64_t random;
    replay_visit visit;
    void *opaque;
    size_t visited, executed;
    bool stopped;
};

uint64_t replay_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

struct tear {
    uint64_t *random;
    bool prefix;
    size_t units;
};

static bool tear_keep(void *opaque, size_t index)
{
    struct tear *tear = opaque;

    return tear->prefix ? index < tear->units : replay_random(tear->random) & 1;
}

static void apply(struct replay *replay, struct disk_image *image, const struct disk_op *op,
                  enum fate fate)
{
    bool fragile = op->kind == DISK_WRITE && replay->disk->fragile_file[op->file];
    struct tear tear = {.random = &replay->random, .prefix = fragile};

    if (fate == DROPPED)
        return;
    if (fate == KEPT) {
        image_apply(image, op, 0, NULL, NULL);
        return;
    }
    if (fragile)
        tear.units = replay_random(&replay->random) % (op->length / 64 + 1);
    image_apply(image, op, fragile ? 64 : 512, tear_keep, &tear);
}

static void visit_state(struct replay *replay, const enum fate *fates)
{
    struct disk_image image;

    if (replay->stopped)
        return;
    image_fork(&image, &replay->durable);
    for (size_t i = 0; i < replay->count; i++)
        apply(replay, &image, &replay->disk->ops[replay->pending[i]], fates[i]);
    replay->visited++;
    if (!replay->visit(replay->opaque, &image, replay->executed))
        replay->stopped = true;
    image_release(&image);
}

static void visit_all_subsets(struct replay *replay)
{
    enum fate fates[REPLAY_EXHAUSTIVE];

    for (unsigned mask = 0; mask < 1u << replay->count; mask++) {
        for (size_t i = 0; i < replay->count; i++)
            fates[i] = mask >> i & 1 ? KEPT : DROPPED;
        visit_state(replay, fates);
        for (size_t i = 0; i < replay->count; i++) {
            enum fate whole = fates[i];

            if (whole != KEPT)
                continue;
            fates[i] = TORN;
            visit_state(replay, fates);
            fates[i] = whole;
        }
    }
}

static void visit_samples(struct replay *replay)
{
    enum fate fates[PENDING_MAX];

    for (unsigned round = 0; round < REPLAY_SAMPLES; round++) {
        for (size_t i = 0; i < replay->count; i++) {
            unsigned die = (unsigned)(replay_random(&replay->random) % 9);

            fates[i] = round == 0 ? DROPPED : round == 1 ? KEPT : die < 4 ? DROPPED
                       : die < 8  ? KEPT    : TORN;
        }
        /* All but one, and only one: where most mistakes show. */
        if (round >= 2 && round < 12) {
            size_t one = replay_random(&replay->random) % replay->count;

            for (size_t i = 0; i < replay->count; i++)
                fates[i] = (i == one) == (round % 2 == 0) ? KEPT : DROPPED;
        }
        visit_state(replay, fates);
    }
}

static bool synced_by(const struct disk_op *op, const struct disk_op *sync)
{
    if (sync->kind == DISK_SYNC_NAMES)
        return op->kind == DISK_NAME;
    return op->kind != DISK_NAME && op->file == sync->file;
}

/* Moves what the sync covers to the durable content. */
static void settle(struct replay *replay, const struct disk_op *sync)
{
    size_t left = 0;

    for (size_t i = 0; i < replay->count; i++) {
        const struct disk_op *op = &replay->disk->ops[replay->pending[i]];

        if (synced_by(op, sync))
            image_apply(&replay->durable, op, 0, NULL, NULL);
        else
            replay->pending[left++] = replay->pending[i];
    }
    replay->count = left;
}

size_t replay(const struct disk *disk, uint64_t seed, replay_visit visit, void *opaque)
{
    struct replay state = {.disk = disk, .random = seed, .visit = visit, .opaque = opaque};

    image_fork(&state.durable, &disk->start);
    for (state.executed = 0; state.executed <= disk->count && !state.stopped; state.executed++) {
        const struct disk_op *op;

        if (state.count <= REPLAY_EXHAUSTIVE)
            visit_all_subsets(&state);
        else
            visit_samples(&state);
        if (state.executed == disk->count)
            break;
        op = &disk->ops[state.executed];
        if (op->kind == DISK_SYNC || op->kind == DISK_SYNC_NAMES)
            settle(&state, op);
        else if (state.count < PENDING_MAX)
            state.pending[state.count++] = state.executed;
        else
            abort();
    }
    image_release(&state.durable);
    return state.visited;
}
