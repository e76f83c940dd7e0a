/* SPDX-License-Identifier: BSD-2-Clause */
/* See model.h. */
#include "model.h"

#include <assert.h>
#include <string.h>

void model_init(struct model *model, uint64_t device_size, uint64_t base_size,
                const uint64_t numbers[MODEL_POOL])
{
    memset(model, 0, sizeof *model);
    model->device_size = device_size;
    model->base_size = base_size;
    model->next_id = 1;
    for (unsigned p = 0; p < MODEL_POOL; p++) {
        struct model_page *page = &model->pages[p];
        uint64_t left = device_size - numbers[p] * 4096;

        page->number = numbers[p];
        page->sectors = left < 4096 ? (unsigned)(left / 512) : MODEL_SECTORS;
        for (unsigned s = 0; s < MODEL_SECTORS; s++)
            page->count[s] = 1; /* version 0, the base's */
    }
}

void model_fill(uint64_t base_size, uint64_t page, unsigned sector, uint32_t id, bool zero,
                uint8_t out[512])
{
    uint64_t word = page * 0x9E3779B97F4A7C15u + sector * 0xBF58476D1CE4E5B9u + id + 1;

    if (zero || (id == 0 && page * 4096 + sector * 512 >= base_size)) {
        memset(out, 0, 512);
        return;
    }
    for (unsigned i = 0; i < 64; i++) {
        word = (word ^ word >> 29) * 0x94D049BB133111EBu + i;
        memcpy(out + 8 * i, &word, 8);
    }
}

void model_write(struct model *model, struct model_page *page, unsigned first, unsigned count,
                 bool zero, size_t log, uint8_t *out)
{
    struct model_version version = {
        .id = model->next_id++, .zero = zero, .log = log, .time = ++model->time};

    if (page->first_time == 0)
        page->first_time = version.time;
    for (unsigned s = first; s < first + count; s++) {
        assert(page->count[s] < MODEL_VERSIONS);
        page->versions[s][page->count[s]++] = version;
        if (out)
            model_fill(model->base_size, page->number, s, version.id, zero, out + (size_t)(s - first) * 512);
    }
}

struct model_flush *model_flush_begin(struct model *model, size_t log)
{
    struct model_flush *flush = &model->flushes[model->flush_count++];

    assert(model->flush_count <= MODEL_FLUSHES);
    *flush = (struct model_flush){.time = ++model->time, .log = log, .log_end = SIZE_MAX};
    return flush;
}

void model_flush_end(struct model_flush *flush, size_t log)
{
    flush->log_end = log;
}

/* The last version of a sector from before `time`. */
static unsigned version_at(const struct model_page *page, unsigned sector, uint64_t time)
{
    unsigned v = page->count[sector] - 1;

    while (v > 0 && page->versions[sector][v].time >= time)
        v--;
    return v;
}

static bool sector_allowed(const struct model *model, const struct model_page *page, unsigned sector,
                           uint64_t since, size_t executed, const uint8_t *content)
{
    unsigned oldest = version_at(page, sector, since);

    for (unsigned v = oldest; v < page->count[sector]; v++) {
        const struct model_version *version = &page->versions[sector][v];
        uint8_t expected[512];

        if (v > oldest && version->log >= executed)
            return false; /* not begun yet */
        model_fill(model->base_size, page->number, sector, version->id, version->zero, expected);
        if (memcmp(expected, content, 512) == 0)
            return true;
    }
    return false;
}

static bool page_allowed(const struct model *model, const struct model_page *page, uint64_t since,
                         size_t executed, const uint8_t *content)
{
    for (unsigned s = 0; s < page->sectors; s++) {
        if (!sector_allowed(model, page, s, since, executed, content + (size_t)s * 512))
            return false;
    }
    return true;
}

static bool page_is_base(const struct model *model, const struct model_page *page,
                         const uint8_t *content)
{
    for (unsigned s = 0; s < page->sectors; s++) {
        uint8_t expected[512];

        model_fill(model->base_size, page->number, s, 0, false, expected);
        if (memcmp(expected, content + (size_t)s * 512, 512) != 0)
            return false;
    }
    return true;
}

bool model_allows(const struct model *model, const struct model_page *page, size_t executed,
                  const uint8_t *content)
{
    uint64_t acknowledged = 0, under_way = 0;

    for (unsigned f = 0; f < model->flush_count; f++) {
        const struct model_flush *flush = &model->flushes[f];

        if (flush->log_end <= executed)
            acknowledged = flush->time;
        else if (flush->log < executed)
            under_way = flush->time;
    }
    if (page->own || (page->first_time != 0 && page->first_time < acknowledged))
        return page_allowed(model, page, acknowledged, executed, content);
    if (page_is_base(model, page, content))
        return true;
    return under_way && page->first_time != 0 && page->first_time < under_way &&
           page_allowed(model, page, under_way, executed, content);
}

/* Which version of a sector this is; the newest where content is the same. */
static int version_find(const struct model *model, const struct model_page *page, unsigned sector,
                        const uint8_t *content)
{
    for (unsigned v = page->count[sector]; v-- > 0;) {
        const struct model_version *version = &page->versions[sector][v];
        uint8_t expected[512];

        model_fill(model->base_size, page->number, sector, version->id, version->zero, expected);
        if (memcmp(expected, content, 512) == 0)
            return (int)v;
    }
    return -1;
}

bool model_adopt(struct model *model, struct model_page *page, const uint8_t *content, bool own)
{
    for (unsigned s = 0; s < page->sectors; s++) {
        int v = version_find(model, page, s, content + (size_t)s * 512);

        if (v < 0)
            return false;
        page->versions[s][0] = page->versions[s][v];
        page->versions[s][0].log = 0;
        page->versions[s][0].time = 0;
        page->count[s] = 1;
    }
    page->own = own;
    page->first_time = 0;
    model->flush_count = 0;
    return true;
}
