/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a device may hold after a crash, sector by sector, given what was written and flushed.
 *
 *   - A page that was in the layer at the last acknowledged flush: each sector holds the version of
 *     that flush or a later one.
 *   - Any other page: all of it the base's; or, when a flush was under way, each sector the version
 *     from before that flush or a later one.  Never a mixture with the base, never anything else.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_POOL 20
#define MODEL_SECTORS 8
#define MODEL_VERSIONS 128
#define MODEL_FLUSHES 128

struct model_version {
    uint32_t id;   /* 0: the base's */
    bool zero;     /* zeros instead of the pattern of `id` */
    size_t log;    /* operations recorded when the call began */
    uint64_t time; /* order of calls */
};

struct model_flush {
    uint64_t time;
    size_t log, log_end;
};

struct model_page {
    uint64_t number;
    unsigned sectors;       /* fewer in a short last page */
    bool own;               /* in the layer when the record began */
    struct model_version versions[MODEL_SECTORS][MODEL_VERSIONS];
    unsigned count[MODEL_SECTORS];
    uint64_t first_time; /* of the first write; 0: none */
};

struct model {
    uint64_t device_size, base_size;
    struct model_page pages[MODEL_POOL];
    struct model_flush flushes[MODEL_FLUSHES];
    unsigned flush_count;
    uint64_t time;
    uint32_t next_id;
};

void model_init(struct model *model, uint64_t device_size, uint64_t base_size,
                const uint64_t numbers[MODEL_POOL]);

/* Notes a write of `count` sectors of a page; fills `out` with what to write unless it is NULL. */
void model_write(struct model *model, struct model_page *page, unsigned first, unsigned count,
                 bool zero, size_t log, uint8_t *out);

/* The content of a version. */
void model_fill(uint64_t base_size, uint64_t page, unsigned sector, uint32_t id, bool zero,
                uint8_t out[512]);

struct model_flush *model_flush_begin(struct model *model, size_t log);
void model_flush_end(struct model_flush *flush, size_t log);

/* Whether `content` is what the page may hold after a crash with `executed` operations begun. */
bool model_allows(const struct model *model, const struct model_page *page, size_t executed,
                  const uint8_t *content);

/* Makes what a recovered device holds the beginning of a new record; false: no known version. */
bool model_adopt(struct model *model, struct model_page *page, const uint8_t *content, bool own);

#endif
