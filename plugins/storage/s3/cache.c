/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache.h"

#include "util/cleanup.h"
#include <string.h>

#define BUCKETS 4096
#define STREAMS 8 /* sequential readers that are told apart */

/*
 * `content` is guarded by the block's own mutex once it is loaded; everything else by the cache's lock.
 * A block that is pinned, written or being sent is never evicted.
 */
struct block {
    struct cache *cache;
    struct block *chain;          /* of its hash bucket */
    struct block *older, *newer;  /* by last use */
    uint64_t number;
    unsigned pins;
    bool loading, dirty, sending;
    int failed; /* of the load; the last who waited for it removes the block */
    pthread_mutex_t mutex;
    struct pool_job job; /* while sending */
    uint8_t content[];
};

struct cache {
    struct cache_source source;
    struct pool *pool;
    uint32_t block_size;
    unsigned room, readahead; /* blocks */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a block was loaded, sent or unpinned */
    struct block *buckets[BUCKETS];
    struct block *oldest, *newest;
    unsigned count, dirty, sending, ahead;
    uint64_t expected[STREAMS]; /* the blocks that sequential readers want next */
    unsigned stream;            /* whose place the next one takes */
    int error;         /* of a send, until cache_clean reports it */
    int last_error;    /* likewise, but stays */
    uint64_t failures; /* sends that failed */
};

struct cache *cache_new(const struct cache_source *source, struct pool *pool, uint32_t block_size,
                        uint64_t room, unsigned readahead)
{
    struct cache *cache = calloc(1, sizeof *cache);
    uint64_t blocks = room / block_size;

    if (!cache)
        return NULL;
    cache->source = *source;
    cache->pool = pool;
    cache->block_size = block_size;
    cache->room = blocks < 8 ? 8 : blocks > UINT32_MAX / 2 ? UINT32_MAX / 2 : (unsigned)blocks;
    cache->readahead = readahead < cache->room / 4 ? readahead : cache->room / 4;
    for (unsigned i = 0; i < STREAMS; i++)
        cache->expected[i] = UINT64_MAX;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->changed, NULL);
    return cache;
}

void cache_resize(struct cache *cache, uint64_t size)
{
    cache->source.size = size;
}

static size_t length_of(const struct cache *cache, uint64_t number)
{
    uint64_t left = cache->source.size - number * cache->block_size;

    return left < cache->block_size ? (size_t)left : cache->block_size;
}

/* ---- lists, under the lock -------------------------------------------------------------------- */

static struct block **slot_of(struct cache *cache, uint64_t number)
{
    struct block **slot = &cache->buckets[number * UINT64_C(0x9e3779b97f4a7c15) >> 52];

    while (*slot && (*slot)->number != number)
        slot = &(*slot)->chain;
    return slot;
}

static void unlink_use(struct cache *cache, struct block *block)
{
    *(block->older ? &block->older->newer : &cache->oldest) = block->newer;
    *(block->newer ? &block->newer->older : &cache->newest) = block->older;
}

static void link_use(struct cache *cache, struct block *block)
{
    block->older = cache->newest;
    block->newer = NULL;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = block;
    cache->newest = block;
}

static void remove_block(struct cache *cache, struct block *block)
{
    *slot_of(cache, block->number) = block->chain;
    unlink_use(cache, block);
    cache->count--;
    pthread_mutex_destroy(&block->mutex);
    free(block);
}

static void unpin(struct cache *cache, struct block *block)
{
    if (--block->pins > 0)
        return;
    if (block->failed)
        remove_block(cache, block);
    pthread_cond_broadcast(&cache->changed);
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    while (cache->oldest)
        remove_block(cache, cache->oldest);
    pthread_mutex_destroy(&cache->lock);
    pthread_cond_destroy(&cache->changed);
    free(cache);
}

/* ---- sending ---------------------------------------------------------------------------------- */

static int send_content(struct cache *cache, struct block *block)
{
    const struct cache_source *source = &cache->source;
    void *upload;
    int rc;

    pthread_mutex_lock(&block->mutex);
    rc = source->begin(source->host, block->number, block->content, length_of(cache, block->number),
                       &upload);
    pthread_mutex_unlock(&block->mutex);
    return rc ? rc : source->finish(source->host, upload);
}

static void send_block(struct pool_job *job)
{
    struct block *block = (struct block *)((char *)job - offsetof(struct block, job));
    struct cache *cache = block->cache;
    int rc = send_content(cache, block);

    lock_scope(&cache->lock);
    block->sending = false;
    cache->sending--;
    if (rc && !block->dirty) { /* it is still to be sent */
        block->dirty = true;
        cache->dirty++;
    }
    if (rc && !cache->error)
        cache->error = rc;
    if (rc) {
        cache->last_error = rc;
        cache->failures++;
    }
    unpin(cache, block);
    pthread_cond_broadcast(&cache->changed);
}

/* Under the lock.  Not dirty from here on: what is written meanwhile makes it so again. */
static void queue_send(struct cache *cache, struct block *block)
{
    block->dirty = false;
    cache->dirty--;
    block->sending = true;
    cache->sending++;
    block->pins++;
    block->job.run = send_block;
    pool_queue(cache->pool, &block->job);
}

static void queue_all(struct cache *cache)
{
    for (struct block *block = cache->oldest; block; block = block->newer)
        if (block->dirty && !block->sending)
            queue_send(cache, block);
}

int cache_clean(struct cache *cache)
{
    uint64_t failures;
    int rc = 0;

    lock_scope(&cache->lock);
    failures = cache->failures;
    /* The second round sends what was written, before this call, while it was on its way already. */
    for (int round = 0; round < 2; round++) {
        queue_all(cache);
        while (cache->sending > 0)
            pthread_cond_wait(&cache->changed, &cache->lock);
        if (!rc)
            rc = cache->error;
        cache->error = 0;
    }
    /* Another call may have taken the error of a block that both wait for. */
    return rc || cache->failures == failures ? rc : cache->last_error;
}

/* ---- finding room, under the lock ------------------------------------------------------------- */

static bool evict(struct cache *cache)
{
    for (struct block *block = cache->oldest; block; block = block->newer) {
        if (block->pins || block->dirty)
            continue;
        remove_block(cache, block);
        return true;
    }
    return false;
}

static bool send_oldest(struct cache *cache)
{
    for (struct block *block = cache->oldest; block; block = block->newer) {
        if (!block->dirty || block->sending)
            continue;
        queue_send(cache, block);
        return true;
    }
    return false;
}

/* Waits for room; a write that cannot be sent makes later ones fail rather than fill the memory. */
static int make_room(struct cache *cache)
{
    while (cache->count >= cache->room && !evict(cache)) {
        if (cache->error)
            return cache->error;
        send_oldest(cache);
        pthread_cond_wait(&cache->changed, &cache->lock);
    }
    return 0;
}

/* ---- blocks ----------------------------------------------------------------------------------- */

static int new_block(struct cache *cache, uint64_t number, struct block **ret_block)
{
    struct block *block = malloc(sizeof *block + cache->block_size);

    if (!block)
        return -ENOMEM;
    memset(block, 0, sizeof *block);
    block->cache = cache;
    block->number = number;
    block->pins = 1;
    block->loading = true;
    pthread_mutex_init(&block->mutex, NULL);
    block->chain = *slot_of(cache, number);
    *slot_of(cache, number) = block;
    link_use(cache, block);
    cache->count++;
    *ret_block = block;
    return 0;
}

static int wait_loaded(struct cache *cache, struct block *block)
{
    int rc;

    block->pins++;
    unlink_use(cache, block);
    link_use(cache, block);
    while (block->loading)
        pthread_cond_wait(&cache->changed, &cache->lock);
    rc = block->failed;
    if (rc)
        unpin(cache, block);
    return rc;
}

/* What a write does to a block; nothing where it is NULL. */
struct change {
    const void *bytes; /* NULL: zeros */
    size_t length, at;
};

static void apply(const struct change *change, struct block *block)
{
    if (change->bytes)
        memcpy(block->content + change->at, change->bytes, change->length);
    else
        memset(block->content + change->at, 0, change->length);
}

/*
 * Brings a block that nobody has into the cache: what it was, or what it becomes when all of it is
 * overwritten.  Drops the lock meanwhile.
 */
static int load(struct cache *cache, struct block *block, const struct change *change)
{
    size_t length = length_of(cache, block->number);
    int rc = 0;

    pthread_mutex_unlock(&cache->lock);
    if (change && change->length == length)
        apply(change, block);
    else
        rc = cache->source.load(cache->source.host, block->number, block->content, length);
    pthread_mutex_lock(&cache->lock);
    block->loading = false;
    block->failed = rc;
    pthread_cond_broadcast(&cache->changed);
    if (rc)
        unpin(cache, block);
    return rc;
}

/* A pinned block that is loaded. */
static int pin(struct cache *cache, uint64_t number, const struct change *change,
               struct block **ret_block)
{
    struct block *block;
    int rc = 0;

    for (;;) {
        block = *slot_of(cache, number);
        if (block) {
            rc = wait_loaded(cache, block);
            break;
        }
        if (cache->count >= cache->room) {
            rc = make_room(cache); /* which may have let somebody else bring it */
            if (rc)
                break;
            continue;
        }
        rc = new_block(cache, number, &block);
        if (!rc)
            rc = load(cache, block, change);
        break;
    }
    if (!rc)
        *ret_block = block;
    return rc;
}

/* ---- reading ahead ---------------------------------------------------------------------------- */

struct ahead {
    struct pool_job job;
    struct cache *cache;
    uint64_t number;
};

static void read_ahead(struct pool_job *job)
{
    struct ahead *ahead = (struct ahead *)job;
    struct cache *cache = ahead->cache;
    struct block *block;

    lock_scope(&cache->lock);
    /* Nothing that is in use has to go for it, and no thread of the pool waits for others of it. */
    if (!*slot_of(cache, ahead->number) && (cache->count < cache->room || evict(cache)) &&
        new_block(cache, ahead->number, &block) == 0 && load(cache, block, NULL) == 0)
        unpin(cache, block);
    cache->ahead--;
    free(ahead);
}

/* Is it where a reader goes on?  Not news: it is where one was. */
static bool is_sequential(struct cache *cache, uint64_t number)
{
    for (unsigned i = 0; i < STREAMS; i++) {
        if (cache->expected[i] == number + 1)
            return false;
        if (cache->expected[i] == number) {
            cache->expected[i]++;
            return true;
        }
    }
    cache->expected[cache->stream++ % STREAMS] = number + 1;
    return false;
}

/* Under the lock. */
static void plan_ahead(struct cache *cache, uint64_t number)
{
    uint64_t blocks = (cache->source.size + cache->block_size - 1) / cache->block_size;
    bool sequential = is_sequential(cache, number);

    for (uint64_t next = number + 1;
         sequential && next <= number + cache->readahead && next < blocks; next++) {
        struct ahead *ahead;

        if (cache->ahead >= cache->readahead || *slot_of(cache, next))
            continue;
        ahead = malloc(sizeof *ahead);
        if (!ahead)
            return;
        *ahead = (struct ahead){.job.run = read_ahead, .cache = cache, .number = next};
        cache->ahead++;
        pool_queue(cache->pool, &ahead->job);
    }
}

/* ---- requests --------------------------------------------------------------------------------- */

static int read_block(struct cache *cache, uint64_t number, void *buffer, size_t length, size_t at)
{
    struct block *block;
    int rc;

    lock_scope(&cache->lock);
    plan_ahead(cache, number);
    rc = pin(cache, number, NULL, &block);
    if (rc)
        return rc;
    pthread_mutex_unlock(&cache->lock);
    pthread_mutex_lock(&block->mutex);
    memcpy(buffer, block->content + at, length);
    pthread_mutex_unlock(&block->mutex);
    pthread_mutex_lock(&cache->lock);
    unpin(cache, block);
    return 0;
}

int cache_read(struct cache *cache, void *buffer, size_t length, uint64_t offset)
{
    int rc = 0;

    while (!rc && length > 0) {
        size_t at = offset % cache->block_size;
        size_t n = cache->block_size - at < length ? cache->block_size - at : length;

        rc = read_block(cache, offset / cache->block_size, buffer, n, at);
        buffer = (char *)buffer + n;
        offset += n;
        length -= n;
    }
    return rc;
}

static int write_block(struct cache *cache, uint64_t number, const struct change *change)
{
    struct block *block;
    int rc;

    lock_scope(&cache->lock);
    rc = pin(cache, number, change, &block);
    if (rc)
        return rc;
    pthread_mutex_unlock(&cache->lock);
    pthread_mutex_lock(&block->mutex);
    apply(change, block);
    pthread_mutex_unlock(&block->mutex);
    pthread_mutex_lock(&cache->lock);
    cache->dirty += !block->dirty;
    block->dirty = true;
    if (cache->dirty > cache->room / 2)
        send_oldest(cache);
    unpin(cache, block);
    return 0;
}

int cache_write(struct cache *cache, const void *buffer, size_t length, uint64_t offset)
{
    int rc = 0;

    while (!rc && length > 0) {
        size_t at = offset % cache->block_size;
        size_t n = cache->block_size - at < length ? cache->block_size - at : length;

        rc = write_block(cache, offset / cache->block_size, &(struct change){buffer, n, at});
        buffer = buffer ? (const char *)buffer + n : NULL;
        offset += n;
        length -= n;
    }
    return rc;
}

bool cache_has(struct cache *cache, uint64_t block)
{
    lock_scope(&cache->lock);
    return *slot_of(cache, block) != NULL;
}
