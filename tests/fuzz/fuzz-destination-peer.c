/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A source of any kind against a real destination (peer.h).  First byte: bit 0 no post-copy, 1 an
 * own OFFER, 2 devices that hold something already, 3 a copy of a package, 4 loading fails, 5
 * resuming fails, 6 cancelled early.  The guest runs here only when the ledger says that it is
 * ours; then it is never discarded, and never refused.
 */
#include "peer.h"

#include "migrate/destination.h"
#include "util/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE_MAX_ACCEPTED (UINT64_C(1) << 20)
#define OFFER                                                                                      \
    "{\"protocol\":2,\"token\":\"0102030405060708090a0b0c0d0e0f10\",\"vm\":\"vm\",\"software\":"   \
    "\"x\","                                                                                       \
    "\"live\":%s,\"epoch\":5,\"devices\":[{\"name\":\"state\",\"size\":16384,\"block_size\":"      \
    "16384},"                                                                                      \
    "{\"name\":\"memory\",\"size\":262656,\"block_size\":16384}]}"

static const uint8_t token[WIRE_TOKEN_SIZE] = {1, 2,  3,  4,  5,  6,  7,  8,
                                               9, 10, 11, 12, 13, 14, 15, 16};

struct fuzz {
    uint8_t flags;
    struct peer *peer;
    struct instance *storage[PEER_DEVICES];
    struct block_device blocks[PEER_DEVICES];
    unsigned count;
    enum ledger_state ledger;
    bool prepared, running, discarded;
    struct destination *destination;
    _Atomic bool over;
};

static int prepare(void *opaque, const struct offer *offer, struct destination_device *ret_devices,
                   struct drafter_error *err)
{
    struct fuzz *fuzz = opaque;

    if (offer->device_count > PEER_DEVICES || offer->total_size > SIZE_MAX_ACCEPTED)
        return drafter_error_set(err, EFBIG, "too much");
    for (unsigned i = 0; i < offer->device_count; i++) {
        struct block_device *block = &fuzz->blocks[i];

        fuzz->storage[i] = peer_storage(offer->devices[i].size);
        assert(!block_device_init(block, offer->devices[i].name, fuzz->storage[i],
                                  offer->devices[i].block_size, err));
        ret_devices[i] = (struct destination_device){.block = block, .reuse = fuzz->flags & 4};
        fuzz->count++;
    }
    fuzz->prepared = true;
    return 0;
}

static int start(void *opaque, struct drafter_error *err)
{
    (void)opaque;
    (void)err;
    return 0;
}

static int custom(void *opaque, const void *data, size_t length, struct drafter_error *err)
{
    (void)opaque;
    (void)err;
    assert(length <= WIRE_CUSTOM_MAX && (!length || memchr(data, 0, length) || data));
    return 0;
}

static int journal(void *opaque, enum ledger_state state, uint64_t epoch, const char *peer,
                   const uint8_t session[16], struct drafter_error *err)
{
    struct fuzz *fuzz = opaque;

    (void)epoch;
    (void)peer;
    (void)err;
    assert(session);
    assert(state != LEDGER_REFUSED || !fuzz->running);
    fuzz->ledger = state;
    return 0;
}

static bool is_ours(const struct fuzz *fuzz)
{
    return fuzz->ledger == LEDGER_OWNED || fuzz->ledger == LEDGER_INCOMPLETE;
}

/* Writes as a VMM would: into pages that are here and pages that are not. */
static int load(void *opaque, struct drafter_error *err)
{
    struct fuzz *fuzz = opaque;
    char page[4096] = "loaded";

    assert(is_ours(fuzz));
    if (fuzz->flags & 16)
        return drafter_error_set(err, EIO, "loading fails");
    block_device_write(
        &fuzz->blocks[0], page,
        sizeof(page) < fuzz->blocks[0].size ? sizeof(page) : (size_t)fuzz->blocks[0].size, 0);
    return 0;
}

static int resume(void *opaque, struct drafter_error *err)
{
    struct fuzz *fuzz = opaque;

    assert(is_ours(fuzz));
    if (fuzz->flags & 32)
        return drafter_error_set(err, EIO, "resuming fails");
    fuzz->running = true;
    return 0;
}

static void stop(void *opaque)
{
    (void)opaque;
}

static void discard(void *opaque)
{
    struct fuzz *fuzz = opaque;

    assert(!fuzz->running && !fuzz->discarded);
    fuzz->discarded = true;
}

/* An operator who wants an end once the input is over. */
static void *attend(void *opaque)
{
    static const struct timespec pause = {0, 10000000};
    struct fuzz *fuzz = opaque;
    unsigned waits = 0;

    while (!fuzz->over && !peer_finished(fuzz->peer, 0, 20))
        if (fuzz->flags & 64 && waits++ == 3)
            destination_cancel(fuzz->destination, "cancelled");
    for (unsigned i = 0; i < 20 && !fuzz->over; i++)
        peer_finished(fuzz->peer, 1, 10);
    while (!fuzz->over) {
        destination_cancel(fuzz->destination, "the input is over");
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void make(struct fuzz *fuzz)
{
    const struct destination_options options = {
        .transport = peer_transport(fuzz->peer),
        .address = "fuzz",
        .vm_name = "",
        .role = "test",
        .bulk_streams = 2,
        .connect_timeout_ms = 100,
        .relink_timeout_ms = 100,
        .wait_for_all = fuzz->flags & 1,
        .vm = {.opaque = fuzz,
               .prepare = prepare,
               .start = start,
               .journal = journal,
               .custom = custom,
               .load = load,
               .resume = resume,
               .stop = stop,
               .discard = discard},
    };
    struct drafter_error err = {0};
    char offer[512];

    snprintf(offer, sizeof(offer), OFFER, fuzz->flags & 8 ? "false" : "true");
    if (!(fuzz->flags & 2))
        peer_say_first(fuzz->peer, 0, WIRE_OFFER, 0, offer, false);
    peer_say_first(fuzz->peer, 1, WIRE_RESUME, 0, "{\"committed\":true,\"epoch\":6}", false);
    assert(!destination_new(&options, &fuzz->destination, &err));
}

static void check(const struct fuzz *fuzz, enum destination_outcome outcome)
{
    if (outcome == DESTINATION_OUTCOME_NOTHING)
        assert(!fuzz->running && fuzz->discarded == fuzz->prepared);
    else
        assert(fuzz->running && !fuzz->discarded && is_ours(fuzz));
    if (outcome == DESTINATION_OUTCOME_COMPLETE)
        assert(fuzz->ledger == LEDGER_OWNED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *fuzz = calloc(1, sizeof(*fuzz));
    struct drafter_error err = {0};
    enum destination_outcome outcome;
    pthread_t attendant;

    log_setup(LOG_FORMAT_HUMAN, DRAFTER_LOG_ERROR);
    if (!size || size > 4096) {
        free(fuzz);
        return 0;
    }
    fuzz->flags = data[0];
    fuzz->peer = peer_new(data + 1, size - 1, session_seed(token));
    make(fuzz);
    assert(!pthread_create(&attendant, NULL, attend, fuzz));
    outcome = destination_run(fuzz->destination, &err);
    fuzz->over = true;
    pthread_join(attendant, NULL);
    check(fuzz, outcome);
    destination_free(fuzz->destination);
    for (unsigned i = 0; i < fuzz->count; i++) {
        block_device_release(&fuzz->blocks[i]);
        peer_storage_free(fuzz->storage[i]);
    }
    peer_free(fuzz->peer);
    free(fuzz);
    return 0;
}
