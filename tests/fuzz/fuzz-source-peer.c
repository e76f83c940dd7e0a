/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A destination of any kind against a real source (peer.h).  First byte: bit 0 no VM but a
 * registry, 1 an own ACCEPT, 2 come back after the link broke.  However it ends, the VM runs here
 * or was handed over for good by the ledger, never neither nor both.
 */
#include "peer.h"

#include "migrate/source.h"
#include "util/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char directory[64], path[96];

struct fuzz {
    struct peer *peer;
    struct instance *storage[PEER_DEVICES];
    struct block_device blocks[PEER_DEVICES];
    struct ledger ledger;
    struct source_vm vm;
    struct source *source;
    bool running, relinks;
    _Atomic bool over;
};

static int before_suspend(void *opaque, struct drafter_error *err)
{
    const struct fuzz *fuzz = opaque;

    (void)err;
    assert(fuzz->running);
    return 0;
}

static int pause_vm(void *opaque, struct drafter_error *err)
{
    struct fuzz *fuzz = opaque;

    (void)err;
    fuzz->running = false;
    return 0;
}

static int save(void *opaque, struct drafter_error *err)
{
    const struct fuzz *fuzz = opaque;

    (void)err;
    assert(!fuzz->running);
    return 0;
}

static int resume(void *opaque, struct drafter_error *err)
{
    struct fuzz *fuzz = opaque;

    (void)err;
    assert(fuzz->ledger.record.state == LEDGER_OWNED);
    fuzz->running = true;
    return 0;
}

static void heard(void *opaque, unsigned type)
{
    const struct fuzz *fuzz = opaque;

    if (type == WIRE_COMMIT && fuzz->ledger.fd >= 0)
        assert(fuzz->ledger.record.state == LEDGER_RELINQUISHED && !fuzz->running);
}

static void clean_up(void)
{
    unlink(path);
    rmdir(directory);
}

static void set_up(void)
{
    log_setup(LOG_FORMAT_HUMAN, DRAFTER_LOG_ERROR);
    snprintf(directory, sizeof(directory), "%s/drafter-fuzz.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/vm.ledger", directory);
    atexit(clean_up);
}

static void make_devices(struct fuzz *fuzz)
{
    static const char *const names[] = {"state", "memory"};
    static const uint64_t sizes[] = {16 << 10, (256 << 10) + 512};

    for (unsigned i = 0; i < PEER_DEVICES; i++) {
        fuzz->storage[i] = peer_storage(sizes[i]);
        assert(!block_device_init(&fuzz->blocks[i], names[i], fuzz->storage[i], 16384, NULL));
        block_map_mark_dirty(&fuzz->blocks[i].map, i, 2);
    }
}

static void make_source(struct fuzz *fuzz, bool live)
{
    struct source_options *options = calloc(1, sizeof(*options));
    struct drafter_error err = {0};

    fuzz->vm = (struct source_vm){.opaque = fuzz,
                                  .before_suspend = before_suspend,
                                  .pause = pause_vm,
                                  .save = save,
                                  .resume = resume};
    for (unsigned i = 0; i < PEER_DEVICES; i++)
        options->devices[options->device_count++] =
            (struct source_device_options){.block = &fuzz->blocks[i], .early = i == 0};
    fuzz->ledger.fd = -1;
    if (live) {
        unlink(path);
        assert(!ledger_open(directory, "vm", &fuzz->ledger, &err));
        assert(!ledger_write(&fuzz->ledger, LEDGER_OWNED, PEER_EPOCH, "", NULL, &err));
        options->vm = &fuzz->vm;
        options->ledger = &fuzz->ledger;
    }
    options->offer.epoch = PEER_EPOCH;
    options->converge =
        (struct converge){.downtime_limit_ns = 1000000, .max_passes = 3, .postcopy = true};
    memcpy(options->offer.vm, "vm", 3);
    fuzz->running = live;
    assert(!source_new(options, peer_stream(fuzz->peer, 0, 0), &fuzz->source, &err));
    free(options);
}

static void attach(struct fuzz *fuzz, unsigned link)
{
    for (unsigned i = 1; i < PEER_STREAMS - 1; i++)
        source_attach(fuzz->source, i, peer_stream(fuzz->peer, link, i));
}

static void pause_ms(unsigned ms)
{
    const struct timespec pause = {0, ms * 1000000l};

    nanosleep(&pause, NULL);
}

/* What a server and an operator do meanwhile: let the peer come back once; then want an end. */
static void *attend(void *opaque)
{
    struct fuzz *fuzz = opaque;
    struct stream *control;

    while (!fuzz->over && !peer_finished(fuzz->peer, 0, 20))
        ;
    pause_ms(2);
    if (fuzz->relinks && !fuzz->over) {
        control = peer_stream(fuzz->peer, 1, 0);
        if (!source_relink(fuzz->source, control))
            stream_free(control);
        for (unsigned i = 0; i < 20 && !fuzz->over && !peer_heard(fuzz->peer, WIRE_RESUME); i++)
            pause_ms(1);
        if (peer_heard(fuzz->peer, WIRE_RESUME))
            attach(fuzz, 1);
        for (unsigned i = 0; i < 20 && !fuzz->over && !peer_finished(fuzz->peer, 1, 10); i++)
            ;
    }
    while (!fuzz->over) {
        source_cancel(fuzz->source, "the input is over");
        pause_ms(5);
    }
    return NULL;
}

static void check(const struct fuzz *fuzz, enum source_outcome outcome)
{
    const struct ledger_record *record = &fuzz->ledger.record;

    if (fuzz->ledger.fd < 0)
        return;
    assert(fuzz->running == (outcome == SOURCE_OUTCOME_KEPT));
    assert(record->state == (fuzz->running ? LEDGER_OWNED : LEDGER_RELINQUISHED));
    assert(record->epoch >= PEER_EPOCH && record->epoch <= PEER_EPOCH + 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *fuzz = calloc(1, sizeof(*fuzz));
    struct drafter_error err = {0};
    enum source_outcome outcome;
    pthread_t attendant;

    if (!*directory)
        set_up();
    if (!size || size > 4096) {
        free(fuzz);
        return 0;
    }
    fuzz->peer = peer_new(data + 1, size - 1, 0);
    fuzz->relinks = data[0] & 4;
    if (!(data[0] & 2))
        peer_say_first(fuzz->peer, 0, WIRE_ACCEPT, 0, "{\"bulk_streams\":1}", true);
    peer_on_frame(fuzz->peer, heard, fuzz);
    make_devices(fuzz);
    make_source(fuzz, !(data[0] & 1));
    peer_set_seed(fuzz->peer, session_seed(source_token(fuzz->source)));
    attach(fuzz, 0);
    assert(!pthread_create(&attendant, NULL, attend, fuzz));
    outcome = source_run(fuzz->source, &err);
    fuzz->over = true;
    pthread_join(attendant, NULL);
    check(fuzz, outcome);
    source_free(fuzz->source);
    for (unsigned i = 0; i < PEER_DEVICES; i++) {
        block_device_release(&fuzz->blocks[i]);
        peer_storage_free(fuzz->storage[i]);
    }
    ledger_close(&fuzz->ledger);
    peer_free(fuzz->peer);
    free(fuzz);
    return 0;
}
