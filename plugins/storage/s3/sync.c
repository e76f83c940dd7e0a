/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A layer over a local storage, which stays the truth, with a copy in a bucket that follows it.
 *
 * Writes set a bit per page, after they reached the storage below.  A thread takes bits back, reads the
 * block and sends it; so what is written while a block is read makes it dirty again, and the copy
 * catches up.  Unless only-dirty is set, the thread also goes through the whole device once and sends
 * what the bucket does not have: an index by hash makes that cheap, and a copy that was cut off goes on
 * where it was.
 *
 * An arriving device offers what the bucket has of it: digest() names blocks by
 * their hash, and a block that turns out to be the right one is fetched when it is first read.  The copy
 * is not taken over from the source before settled().
 */
#include "s3.h"

#include "util/bitmap.h"
#include "util/cleanup.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define COMMIT_PERIOD_NS UINT64_C(1000000000)
#define RETRY_NS UINT64_C(5000000000)
#define STRIPES 64
#define UNIT 4096u /* what arrives and what is read of a block that cannot be brought */

struct sync {
    struct s3 *s3;
    uint64_t pages, blocks;
    unsigned per_block; /* pages */
    uint64_t *dirty;    /* atomic words, a bit per page */
    uint64_t *since;    /* atomic, per block: when the first of its pages became dirty, 0: none is */
    uint64_t *offered;  /* atomic words, a bit per block: its content is in the bucket, not below */
    _Atomic uint64_t offered_count, taken; /* taken: of the offers, those that were brought */
    uint64_t *unknown; /* atomic words, a bit per UNIT: what was offered and could not be brought */
    atomic_bool any_unknown;
    bool arriving; /* constant once it is open */
    pthread_mutex_t fetch[STRIPES]; /* by block: who brings an offered one */

    /* Of the thread. */
    uint64_t cursor; /* block where the next round begins to look */
    uint64_t scanned; /* blocks of the first copy that were queued */
    uint64_t committed_at, failed_at;
    bool unsaved; /* sent and not committed */

    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    unsigned sending; /* the rest under `lock` */
    int error;
    bool started, ending, lost; /* lost: another writer has the copy */
    _Atomic bool idle;          /* nothing is dirty: the next write wakes the thread */
    pthread_t thread;
};

struct sending {
    struct pool_job job;
    struct sync *sync;
    uint64_t block;
    bool changed;
};

/* ---- what is dirty ---------------------------------------------------------------------------- */

static void mark(struct sync *sync, uint64_t length, uint64_t offset)
{
    uint64_t page_size = sync->s3->config->page_size, none;

    if (length == 0)
        return;
    for (uint64_t page = offset / page_size; page <= (offset + length - 1) / page_size; page++) {
        bitmap_set_atomic(sync->dirty, page);
        none = 0;
        __atomic_compare_exchange_n(&sync->since[page / sync->per_block], &none, drafter_now_ns(), false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    if (atomic_load(&sync->idle)) {
        lock_scope(&sync->lock);
        atomic_store(&sync->idle, false);
        pthread_cond_signal(&sync->wake);
    }
}

static uint64_t first_page(const struct sync *sync, uint64_t block)
{
    return block * sync->per_block;
}

static uint64_t end_page(const struct sync *sync, uint64_t block)
{
    uint64_t end = (block + 1) * sync->per_block;

    return end < sync->pages ? end : sync->pages;
}

static unsigned count_dirty(const struct sync *sync, uint64_t block)
{
    unsigned count = 0;

    for (uint64_t page = first_page(sync, block); page < end_page(sync, block); page++)
        count += bitmap_test_atomic(sync->dirty, page);
    return count;
}

static void take_bits(struct sync *sync, uint64_t block)
{
    __atomic_store_n(&sync->since[block], 0, __ATOMIC_RELEASE);
    for (uint64_t page = first_page(sync, block); page < end_page(sync, block); page++)
        bitmap_take_atomic(sync->dirty, page);
}

static bool due(const struct sync *sync, uint64_t block, uint64_t now, bool all)
{
    const struct s3_config *config = sync->s3->config;
    uint64_t since = __atomic_load_n(&sync->since[block], __ATOMIC_ACQUIRE);

    return since != 0 && (all || now - since >= config->max_age ||
                          count_dirty(sync, block) >= config->min_changed);
}

/* ---- sending ---------------------------------------------------------------------------------- */

static int send_content(struct sync *sync, struct sending *sending, void *content)
{
    struct s3 *s3 = sync->s3;
    struct volume_upload upload;
    int rc = s3->next->pread(s3->next_instance, content, volume_length(&s3->volume, sending->block),
                             sending->block * s3->volume.block_size);

    if (!rc)
        rc = volume_prepare(&s3->volume, sending->block, content, &upload);
    if (rc)
        return rc;
    sending->changed = !upload.same;
    return volume_send(&s3->volume, &upload);
}

static int try_send(struct sync *sync, struct sending *sending)
{
    cleanup_free void *content = NULL;
    int rc;

    pthread_mutex_lock(&sync->lock);
    rc = sync->error;
    pthread_mutex_unlock(&sync->lock);
    if (rc) /* of this round; each of the others would wait for its own timeout */
        return rc;
    content = malloc(sync->s3->volume.block_size);
    return content ? send_content(sync, sending, content) : -ENOMEM;
}

static void send_block(struct pool_job *job)
{
    struct sending *sending = (struct sending *)job;
    struct sync *sync = sending->sync;
    int rc = try_send(sync, sending);

    if (rc)
        mark(sync, 1, sending->block * sync->s3->volume.block_size);
    lock_scope(&sync->lock);
    if (rc && !sync->error)
        sync->error = rc;
    sync->unsaved |= sending->changed;
    if (--sync->sending == 0)
        pthread_cond_signal(&sync->done);
    free(sending);
}

static bool queue_block(struct sync *sync, uint64_t block)
{
    struct sending *sending = calloc(1, sizeof *sending);

    if (!sending)
        return false;
    take_bits(sync, block);
    sending->job.run = send_block;
    sending->sync = sync;
    sending->block = block;
    pthread_mutex_lock(&sync->lock);
    sync->sending++;
    pthread_mutex_unlock(&sync->lock);
    pool_queue(sync->s3->pool, &sending->job);
    return true;
}

static int wait_sent(struct sync *sync)
{
    int rc;

    lock_scope(&sync->lock);
    while (sync->sending > 0)
        pthread_cond_wait(&sync->done, &sync->lock);
    rc = sync->error;
    sync->error = 0;
    return rc;
}

/* Sends one round of blocks; *ret_count says how many, so that the caller knows whether there is more. */
static int send_round(struct sync *sync, bool all, uint64_t *ret_count)
{
    const struct s3_config *config = sync->s3->config;
    uint64_t now = drafter_now_ns(), count = 0;
    int rc;

    for (uint64_t i = 0; i < sync->blocks && count < config->limit; i++) {
        uint64_t block = (sync->cursor + i) % sync->blocks;

        if (due(sync, block, now, all) && queue_block(sync, block)) {
            count++;
            sync->cursor = block + 1;
        }
    }
    /* A block that was dirty is not sent twice at a time: the older of the two might be noted last. */
    rc = wait_sent(sync);
    for (; !rc && sync->scanned < sync->blocks && count < config->limit; count++, sync->scanned++)
        if (!queue_block(sync, sync->scanned))
            break;
    *ret_count = count;
    return rc ? rc : wait_sent(sync);
}

static int commit(struct sync *sync)
{
    struct drafter_error err = {0};
    int rc = volume_commit(&sync->s3->volume, &err);

    sync->committed_at = drafter_now_ns();
    if (rc == 0)
        sync->unsaved = false;
    if (rc == -ESTALE) {
        drafter_log(DRAFTER_LOG_WARNING, "s3", "%s; the copy is no longer kept here", err.message);
        pthread_mutex_lock(&sync->lock);
        sync->lost = true;
        pthread_mutex_unlock(&sync->lock);
    }
    return rc;
}

/* Says once in a while that the copy falls behind; what could not be sent is still dirty. */
static void note_failure(struct sync *sync, int rc)
{
    uint64_t now = drafter_now_ns();

    if (rc == 0 || rc == -ESTALE || (sync->failed_at && now - sync->failed_at < 12 * RETRY_NS))
        return;
    sync->failed_at = now;
    drafter_log(DRAFTER_LOG_WARNING, "s3", "%s: the copy in the bucket falls behind (error %d); trying again",
                sync->s3->volume.prefix, -rc);
}

static bool nothing_dirty(const struct sync *sync)
{
    for (uint64_t block = 0; block < sync->blocks; block++)
        if (__atomic_load_n(&sync->since[block], __ATOMIC_SEQ_CST))
            return false;
    return true;
}

/* Sleeps until something is written, if nothing is dirty.  The order makes sure that no write is missed. */
static void rest_idle(struct sync *sync)
{
    atomic_store(&sync->idle, true);
    if (nothing_dirty(sync)) {
        lock_scope(&sync->lock);
        while (atomic_load(&sync->idle) && !sync->ending)
            pthread_cond_wait(&sync->wake, &sync->lock);
    }
    atomic_store(&sync->idle, false);
}

/* False when it is time to end. */
static bool rest(struct sync *sync, uint64_t ns)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)((ns + (uint64_t)at.tv_nsec) / 1000000000);
    at.tv_nsec = (long)((ns + (uint64_t)at.tv_nsec) % 1000000000);
    lock_scope(&sync->lock);
    while (!sync->ending && pthread_cond_timedwait(&sync->wake, &sync->lock, &at) != ETIMEDOUT)
        ;
    return !sync->ending && !sync->lost;
}

static int take_over(struct sync *sync)
{
    struct s3 *s3 = sync->s3;
    struct drafter_error err = {0};
    int rc;

    for (int attempt = 0;; attempt++) {
        rc = s3_open_volume(s3, s3->size, true, true, &err);
        if (rc != -ESTALE || attempt == 3) /* the last commit of the one before may come between */
            break;
    }
    if (rc)
        drafter_log(DRAFTER_LOG_WARNING, "s3", "%s", err.message);
    return rc;
}

/* An orderly end: everything, while there is time; the deadline is set. */
static void drain(struct sync *sync)
{
    uint64_t count = 1;
    int rc = 0;

    while (!rc && count > 0)
        rc = send_round(sync, true, &count);
    if (sync->unsaved) {
        int committed = commit(sync);

        rc = rc ? rc : committed;
    }
    if (rc)
        drafter_log(DRAFTER_LOG_WARNING, "s3", "%s: the copy in the bucket is not complete",
                    sync->s3->volume.prefix);
}

static void *keep_copy(void *opaque)
{
    struct sync *sync = opaque;
    const struct s3_config *config = sync->s3->config;
    bool going = true;
    int rc;

    while ((rc = take_over(sync)) && rc != -EINVAL && (going = rest(sync, RETRY_NS)))
        ;
    if (rc)
        return NULL;
    s3_sweep(sync->s3);
    while (going) {
        uint64_t count;

        rc = send_round(sync, false, &count);
        if (!rc && sync->unsaved &&
            (count == 0 || drafter_now_ns() - sync->committed_at >= COMMIT_PERIOD_NS))
            rc = commit(sync);
        note_failure(sync, rc);
        if (!rc && count == 0 && !sync->unsaved)
            rest_idle(sync);
        going = rest(sync, rc ? RETRY_NS : count == config->limit ? 0 : config->check_period);
    }
    if (!sync->lost)
        drain(sync);
    return NULL;
}

/* ---- the arrival ------------------------------------------------------------------------------ */

/* What the bucket has is an offer: it counts when the source says that it is the same. */
static void load_offer(struct s3 *s3)
{
    struct sync *sync = s3->sync;
    struct drafter_error err = {0};
    int rc = volume_load(&s3->volume, &err);

    if (rc || s3->volume.size != s3->size || s3->volume.block_size != s3->config->block_size) {
        if (rc != -ENOENT)
            drafter_log(DRAFTER_LOG_WARNING, "s3", "nothing is taken from the bucket: %s",
                        rc ? err.message : "the device there has another size or block size");
        return;
    }
    for (uint64_t block = 0; block < s3->volume.blocks; block++) {
        struct volume_entry entry;

        if (volume_find(&s3->volume, block, &entry))
            return; /* said in the log; a server that is away is not waited for once a block */
        if (!entry.serial)
            continue;
        bitmap_set(sync->offered, block);
        atomic_fetch_add(&sync->offered_count, 1);
    }
}

static void refuse_offer(struct sync *sync, uint64_t block)
{
    if (bitmap_take_atomic(sync->offered, block))
        atomic_fetch_sub(&sync->offered_count, 1);
}

/* Brings an offered block to the storage below. */
static int accept_offer(struct sync *sync, uint64_t block)
{
    struct s3 *s3 = sync->s3;
    cleanup_free void *content = NULL;
    int rc;

    lock_scope(&sync->fetch[block % STRIPES]);
    if (!bitmap_test_atomic(sync->offered, block))
        return 0;
    content = malloc(s3->volume.block_size);
    rc = content ? volume_get(&s3->volume, block, content) : -ENOMEM;
    if (!rc)
        rc = s3->next->pwrite(s3->next_instance, content, volume_length(&s3->volume, block),
                              block * s3->volume.block_size);
    if (rc)
        return -EIO;
    atomic_fetch_add(&sync->taken, 1);
    refuse_offer(sync, block);
    return 0;
}

/* The whole units of a range: all that an arrival writes. */
static void found(struct sync *sync, uint64_t length, uint64_t offset)
{
    uint64_t end = offset + length;

    if (!atomic_load(&sync->any_unknown))
        return;
    for (uint64_t unit = (offset + UNIT - 1) / UNIT; unit * UNIT < end; unit++)
        if ((unit + 1) * UNIT <= end || end == sync->s3->size)
            bitmap_take_atomic(sync->unknown, unit);
}

static bool is_unknown(const struct sync *sync, uint64_t length, uint64_t offset)
{
    if (!atomic_load(&sync->any_unknown) || length == 0)
        return false;
    for (uint64_t unit = offset / UNIT; unit <= (offset + length - 1) / UNIT; unit++)
        if (bitmap_test_atomic(sync->unknown, unit))
            return true;
    return false;
}

/* A part of it is stored all the same; the rest cannot be read before it is stored, too. */
static void give_up_offer(struct sync *sync, uint64_t block)
{
    uint64_t first = block * sync->s3->volume.block_size;
    uint64_t end = first + volume_length(&sync->s3->volume, block);

    lock_scope(&sync->fetch[block % STRIPES]);
    if (!bitmap_test_atomic(sync->offered, block))
        return;
    for (uint64_t unit = first / UNIT; unit * UNIT < end; unit++)
        bitmap_set_atomic(sync->unknown, unit);
    atomic_store(&sync->any_unknown, true);
    refuse_offer(sync, block);
}

/*
 * Makes a range usable: blocks that are only in the bucket are brought, or, if all of a block is going to
 * be overwritten, forgotten.
 */
static int settle_range(struct sync *sync, uint64_t length, uint64_t offset, bool overwrite)
{
    uint64_t size, end = offset + length;
    int rc = 0;

    if (atomic_load(&sync->offered_count) == 0 || length == 0)
        return 0;
    size = sync->s3->volume.block_size; /* constant while there are offers */
    for (uint64_t block = offset / size; !rc && block * size < end; block++) {
        bool whole = block * size >= offset &&
                     block * size + volume_length(&sync->s3->volume, block) <= end;

        if (!bitmap_test_atomic(sync->offered, block))
            continue;
        if (!overwrite || !whole) {
            rc = accept_offer(sync, block);
            if (rc && overwrite) {
                give_up_offer(sync, block);
                rc = 0;
            }
        } else {
            lock_scope(&sync->fetch[block % STRIPES]);
            refuse_offer(sync, block);
        }
    }
    return rc;
}

int s3_layer_digest(struct s3 *s3, uint64_t offset, uint64_t length, uint8_t hash[CODEC_HASH])
{
    struct volume *volume = &s3->volume;
    struct volume_entry entry;
    int rc;

    if (atomic_load(&s3->sync->offered_count) == 0 || offset % volume->block_size ||
        length != volume_length(volume, offset / volume->block_size) ||
        !bitmap_test_atomic(s3->sync->offered, offset / volume->block_size))
        return -ENOENT;
    rc = volume_find(volume, offset / volume->block_size, &entry);
    if (!rc)
        memcpy(hash, entry.hash, CODEC_HASH);
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------- */

static void free_sync(struct sync *sync)
{
    if (!sync)
        return;
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&sync->fetch[i]);
    pthread_mutex_destroy(&sync->lock);
    pthread_cond_destroy(&sync->wake);
    pthread_cond_destroy(&sync->done);
    free(sync->dirty);
    free(sync->since);
    free(sync->offered);
    free(sync->unknown);
    free(sync);
}

static struct sync *new_sync(struct s3 *s3)
{
    const struct s3_config *config = s3->config;
    struct sync *sync = calloc(1, sizeof *sync);
    pthread_condattr_t monotonic;

    if (!sync)
        return NULL;
    sync->s3 = s3;
    sync->per_block = (unsigned)(config->block_size / config->page_size);
    sync->pages = (s3->size + config->page_size - 1) / config->page_size;
    sync->blocks = (s3->size + config->block_size - 1) / config->block_size;
    sync->dirty = calloc(bitmap_words(sync->pages) + 1, sizeof *sync->dirty);
    sync->since = calloc(sync->blocks + 1, sizeof *sync->since);
    sync->offered = calloc(bitmap_words(sync->blocks) + 1, sizeof *sync->offered);
    sync->unknown = calloc(bitmap_words(s3->size / UNIT + 1), sizeof *sync->unknown);
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_init(&sync->fetch[i], NULL);
    pthread_mutex_init(&sync->lock, NULL);
    pthread_cond_init(&sync->done, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sync->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sync->scanned = config->only_dirty ? sync->blocks : 0;
    if (sync->dirty && sync->since && sync->offered && sync->unknown)
        return sync;
    free_sync(sync);
    return NULL;
}

/* Nobody is inside the volume for one any more when it returns: the thread may load it anew. */
static void withdraw_offers(struct sync *sync)
{
    for (unsigned stripe = 0; stripe < STRIPES; stripe++) {
        lock_scope(&sync->fetch[stripe]);
        for (uint64_t block = stripe; block < sync->blocks; block += STRIPES)
            bitmap_take_atomic(sync->offered, block);
    }
    atomic_store(&sync->offered_count, 0);
}

void s3_layer_settled(struct s3 *s3)
{
    struct sync *sync = s3->sync;

    if (!sync || s3->readonly || sync->started)
        return;
    withdraw_offers(sync);
    if (sync->arriving)
        drafter_log(DRAFTER_LOG_INFO, "s3", "%s: %llu of %llu blocks came from the bucket",
                    s3->volume.prefix, (unsigned long long)atomic_load(&sync->taken),
                    (unsigned long long)sync->blocks);
    atomic_store(&sync->any_unknown, false);
    sync->started = pthread_create(&sync->thread, NULL, keep_copy, sync) == 0;
    if (!sync->started)
        drafter_log(DRAFTER_LOG_WARNING, "s3", "%s: no thread for the copy in the bucket",
                    s3->volume.prefix);
}

static int layer_open(struct s3 *s3, uint64_t size, unsigned flags, struct drafter_error *err)
{
    int rc = s3->next->open(s3->next_instance, size, flags, err);

    if (rc)
        return rc;
    s3->size = s3->next->size(s3->next_instance);
    s3->sync = new_sync(s3);
    if (!s3->sync)
        return drafter_error_set(err, ENOMEM, "s3: no memory to follow %" PRIu64 " bytes", s3->size);
    if (s3->readonly)
        return 0;
    if (flags & DRAFTER_STORAGE_GOES_ON) /* what was offered and taken is below, what has changed since, too */
        return 0;
    s3->sync->arriving = flags & DRAFTER_STORAGE_ARRIVING;
    if (s3->sync->arriving)
        load_offer(s3);
    else
        s3_layer_settled(s3);
    return 0;
}

static void layer_close(struct s3 *s3)
{
    struct sync *sync = s3->sync;

    if (sync && sync->started) {
        http_set_deadline(s3->http, drafter_now_ns() + s3->config->drain);
        pthread_mutex_lock(&sync->lock);
        sync->ending = true;
        pthread_cond_signal(&sync->wake);
        pthread_mutex_unlock(&sync->lock);
        pthread_join(sync->thread, NULL);
    }
    free_sync(sync);
    s3->sync = NULL;
}

/* ---- data ------------------------------------------------------------------------------------- */

static int layer_read(struct s3 *s3, void *buffer, size_t length, uint64_t offset)
{
    int rc = settle_range(s3->sync, length, offset, false);

    if (!rc && is_unknown(s3->sync, length, offset))
        rc = -EIO;
    return rc ? rc : s3->next->pread(s3->next_instance, buffer, length, offset);
}

static int layer_write(struct s3 *s3, const void *buffer, size_t length, uint64_t offset)
{
    int rc = settle_range(s3->sync, length, offset, true);

    if (!rc)
        rc = s3->next->pwrite(s3->next_instance, buffer, length, offset);
    if (!rc)
        found(s3->sync, length, offset);
    mark(s3->sync, length, offset); /* a write that failed may have changed something */
    return rc;
}

static int layer_flush(struct s3 *s3)
{
    return s3->next->flush(s3->next_instance);
}

static int layer_zero(struct s3 *s3, uint64_t length, uint64_t offset)
{
    int rc = settle_range(s3->sync, length, offset, true);

    if (!rc)
        rc = s3->next->zero(s3->next_instance, length, offset);
    if (!rc)
        found(s3->sync, length, offset);
    mark(s3->sync, length, offset);
    return rc;
}

static int layer_trim(struct s3 *s3, uint64_t length, uint64_t offset)
{
    int rc = settle_range(s3->sync, length, offset, true);

    if (!rc)
        rc = s3->next->trim(s3->next_instance, length, offset);
    if (!rc)
        found(s3->sync, length, offset);
    mark(s3->sync, length, offset);
    return rc;
}

static int layer_extent(struct s3 *s3, uint64_t offset, uint64_t length,
                        enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    if (atomic_load(&s3->sync->offered_count) == 0)
        return s3->next->extent(s3->next_instance, offset, length, ret_kind, ret_length);
    *ret_kind = DRAFTER_EXTENT_DATA;
    *ret_length = length;
    return 0;
}

const struct s3_form s3_layer = {
    .open = layer_open,
    .pread = layer_read,
    .pwrite = layer_write,
    .flush = layer_flush,
    .zero = layer_zero,
    .trim = layer_trim,
    .extent = layer_extent,
    .close = layer_close,
};
