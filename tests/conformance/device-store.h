/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A backend in memory that counts, fails and blocks on demand.  All fields but `bytes` and `size`
 * are protected by `lock`.
 */
#ifndef DEVICE_STORE_H
#define DEVICE_STORE_H

#include <drafter/device.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct store {
    char *bytes;
    uint64_t size;
    pthread_mutex_t lock;
    pthread_cond_t change;
    unsigned reads, writes, flushes, trims;
    uint64_t trim_offset, trim_length;
    bool trim_keeps; /* a trim is no more than a hint */
    unsigned blocked;                  /* reads that wait for the gate */
    uint64_t gate_offset, gate_length; /* reads of this range wait; length 0: open */
    int read_error, write_error, flush_error;
};

static inline int store_read(void *opaque, void *buffer, size_t length, uint64_t offset)
{
    struct store *store = opaque;
    int result;

    pthread_mutex_lock(&store->lock);
    store->reads++;
    store->blocked++;
    pthread_cond_broadcast(&store->change);
    while (store->gate_length && offset < store->gate_offset + store->gate_length &&
           offset + length > store->gate_offset)
        pthread_cond_wait(&store->change, &store->lock);
    store->blocked--;
    result = -store->read_error;
    if (result == 0)
        memcpy(buffer, store->bytes + offset, length);
    pthread_mutex_unlock(&store->lock);
    return result;
}

static inline int store_write(void *opaque, const void *buffer, size_t length, uint64_t offset)
{
    struct store *store = opaque;
    int result;

    pthread_mutex_lock(&store->lock);
    store->writes++;
    result = -store->write_error;
    if (length > store->size || offset > store->size - length)
        result = -ERANGE;
    if (result == 0)
        memcpy(store->bytes + offset, buffer, length);
    pthread_mutex_unlock(&store->lock);
    return result;
}

static inline int store_flush(void *opaque)
{
    struct store *store = opaque;
    int result;

    pthread_mutex_lock(&store->lock);
    store->flushes++;
    result = -store->flush_error;
    pthread_mutex_unlock(&store->lock);
    return result;
}

static inline int store_trim(void *opaque, uint64_t length, uint64_t offset)
{
    struct store *store = opaque;

    pthread_mutex_lock(&store->lock);
    store->trims++;
    store->trim_offset = offset;
    store->trim_length = length;
    if (!store->trim_keeps)
        memset(store->bytes + offset, 0, length);
    pthread_mutex_unlock(&store->lock);
    return 0;
}

static inline bool store_is_zero(const struct store *store, uint64_t offset, uint64_t length)
{
    for (uint64_t i = offset; i < offset + length; i++)
        if (store->bytes[i])
            return false;
    return true;
}

/* Every byte tells its page and place. */
static inline char store_pattern(uint64_t offset)
{
    return (char)(offset / DRAFTER_PAGE_SIZE * 31 + offset % 251);
}

static inline void store_init(struct store *store, uint64_t size)
{
    *store = (struct store){.size = size, .bytes = malloc(size)};
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->change, NULL);
    for (uint64_t i = 0; i < size; i++)
        store->bytes[i] = store_pattern(i);
}

static inline void store_release(struct store *store)
{
    free(store->bytes);
    pthread_cond_destroy(&store->change);
    pthread_mutex_destroy(&store->lock);
}

/* Makes reads of the range wait; length 0 lets all go on. */
static inline void store_gate(struct store *store, uint64_t offset, uint64_t length)
{
    pthread_mutex_lock(&store->lock);
    store->gate_offset = offset;
    store->gate_length = length;
    pthread_cond_broadcast(&store->change);
    pthread_mutex_unlock(&store->lock);
}

static inline void store_await_blocked(struct store *store, unsigned count)
{
    pthread_mutex_lock(&store->lock);
    while (store->blocked < count)
        pthread_cond_wait(&store->change, &store->lock);
    pthread_mutex_unlock(&store->lock);
}

static inline struct drafter_device_spec store_spec(struct store *store, const char *name,
                                                    unsigned flags)
{
    return (struct drafter_device_spec){
        .struct_size = sizeof(struct drafter_device_spec),
        .name = name,
        .size = store->size,
        .flags = flags,
        .backend = {.struct_size = sizeof(struct drafter_device_backend),
                    .opaque = store,
                    .read = store_read,
                    .write = store_write,
                    .flush = store_flush,
                    .trim = store_trim},
    };
}

#endif
