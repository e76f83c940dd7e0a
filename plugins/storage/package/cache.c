/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache.h"

#include "util/cleanup.h"

#include <string.h>

#define CODECS 8 /* frames that are decompressed at the same time */
#define NOTHING UINT32_MAX

struct slot {
    pthread_mutex_t lock;
    uint32_t index; /* under `lock`, as is the content of `frame` */
    uint8_t *frame;
};

struct cache {
    const struct pack_reader *reader;
    const struct pack_table *table;
    struct slot *slots;
    uint32_t slot_count;

    pthread_mutex_t lock; /* after a slot's */
    pthread_cond_t returned;
    struct pack_codec *codecs[CODECS]; /* under `lock`: those that nobody uses */
    unsigned codec_count;
};

static int make_slots(struct cache *cache, uint64_t size)
{
    uint32_t frame = cache->reader->manifest.frame_size;
    uint64_t count = size / frame;

    count = count > cache->table->count ? cache->table->count : count;
    count = count ? count : 1;
    cache->slots = calloc(count, sizeof(*cache->slots));
    if (!cache->slots)
        return -ENOMEM;
    for (; cache->slot_count < count; cache->slot_count++) {
        struct slot *slot = &cache->slots[cache->slot_count];

        slot->index = NOTHING;
        slot->frame = malloc(frame);
        if (!slot->frame)
            return -ENOMEM;
        pthread_mutex_init(&slot->lock, NULL);
    }
    return 0;
}

int cache_new(const struct pack_reader *reader, const struct pack_table *table, uint64_t size,
              struct cache **ret_cache)
{
    struct cache *cache = calloc(1, sizeof(*cache));
    int rc;

    if (!cache)
        return -ENOMEM;
    cache->reader = reader;
    cache->table = table;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->returned, NULL);
    rc = make_slots(cache, size);
    while (!rc && cache->codec_count < CODECS) {
        cache->codecs[cache->codec_count] = pack_codec_new(reader->manifest.frame_size);
        if (!cache->codecs[cache->codec_count])
            rc = -ENOMEM;
        else
            cache->codec_count++;
    }
    if (rc) {
        cache_free(cache);
        return rc;
    }
    *ret_cache = cache;
    return 0;
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    for (uint32_t i = 0; i < cache->slot_count; i++) {
        pthread_mutex_destroy(&cache->slots[i].lock);
        free(cache->slots[i].frame);
    }
    for (unsigned i = 0; i < cache->codec_count; i++)
        pack_codec_free(cache->codecs[i]);
    pthread_cond_destroy(&cache->returned);
    pthread_mutex_destroy(&cache->lock);
    free(cache->slots);
    free(cache);
}

static int decompress(struct cache *cache, uint32_t index, void *buffer)
{
    struct pack_codec *codec;
    int rc;

    pthread_mutex_lock(&cache->lock);
    while (!cache->codec_count)
        pthread_cond_wait(&cache->returned, &cache->lock);
    codec = cache->codecs[--cache->codec_count];
    pthread_mutex_unlock(&cache->lock);
    rc = pack_frame_read(cache->reader, cache->table, index, codec, buffer);
    pthread_mutex_lock(&cache->lock);
    cache->codecs[cache->codec_count++] = codec;
    pthread_cond_signal(&cache->returned);
    pthread_mutex_unlock(&cache->lock);
    return rc;
}

int cache_read(struct cache *cache, uint32_t index, void *buffer, size_t length, size_t offset)
{
    struct slot *slot = &cache->slots[index % cache->slot_count];
    int rc = 0;

    lock_scope(&slot->lock);
    if (slot->index != index && length == pack_table_frame(cache->table, index).size)
        return decompress(cache, index, buffer);
    if (slot->index != index) {
        slot->index = NOTHING;
        rc = decompress(cache, index, slot->frame);
    }
    if (rc)
        return rc;
    slot->index = index;
    memcpy(buffer, slot->frame + offset, length);
    return 0;
}
