/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The data path.  A page's bit is set only after its content is in the overlay, so a reader that sees
 * no bit reads the base as it was before.  What was never set is never read from the overlay, whatever
 * an interrupted run left there.
 */
#include "cow.h"

#include <string.h>

#define PAGE DRAFTER_PAGE_SIZE

static const uint8_t zeros[16 * PAGE];

/* A range cut at page borders: part of a page, whole pages, part of a page. */
struct pages {
    uint64_t head; /* bytes before the first whole page */
    uint64_t first, end; /* whole pages */
    uint64_t tail; /* bytes after them */
};

static struct pages cut(const struct cow *cow, uint64_t length, uint64_t offset)
{
    uint64_t stop = offset + length;
    struct pages cut = {.first = (offset + PAGE - 1) / PAGE, .end = stop / PAGE};

    if (stop == cow->geometry.device_size) /* the last page is whole, however short */
        cut.end = cow->geometry.pages;
    if (cut.first >= cut.end) {
        uint64_t border = cut.first * PAGE < stop ? cut.first * PAGE : stop;

        cut.end = cut.first;
        cut.head = border - offset;
        cut.tail = stop - border;
        return cut;
    }
    cut.head = cut.first * PAGE - offset;
    cut.tail = cut.end * PAGE < stop ? stop - cut.end * PAGE : 0;
    return cut;
}

static int cow_bounds(const struct cow *cow, uint64_t length, uint64_t offset)
{
    uint64_t size = cow->geometry.device_size;

    return offset > size || length > size - offset ? -EINVAL : 0;
}

uint64_t cow_size(void *instance)
{
    struct cow *cow = instance;

    return cow->geometry.device_size;
}

/* Behind a base that is shorter than the device are zeros. */
static int base_read(struct cow *cow, void *buffer, size_t length, uint64_t offset)
{
    uint64_t size = cow->geometry.base_size;
    size_t inside = offset >= size ? 0 : size - offset < length ? (size_t)(size - offset) : length;

    memset((uint8_t *)buffer + inside, 0, length - inside);
    return inside ? cow->base->pread(cow->base_instance, buffer, inside, offset) : 0;
}

static size_t page_length(const struct cow *cow, uint64_t page)
{
    uint64_t left = cow->geometry.device_size - page * PAGE;

    return left < PAGE ? (size_t)left : PAGE;
}

/*
 * Reads a whole page until what was read and what is known of it belong together: it may be written meanwhile.
 * -EBADMSG when it is not what was written.
 */
static int read_verified(struct cow *cow, uint64_t page, uint8_t out[PAGE])
{
    size_t length = page_length(cow, page);

    for (unsigned i = 0; i < 16; i++) {
        uint32_t before = cow_sums_get(&cow->sums, page);
        int r = cow->io->pread(cow->overlay, out, length, page * PAGE);

        if (r < 0 || !before || cow_sum(out, length) == before)
            return r;
    }
    return -EBADMSG;
}

/* Part of a page. */
static int read_part(struct cow *cow, void *buffer, size_t length, uint64_t offset)
{
    uint8_t page[PAGE];
    int r = read_verified(cow, offset / PAGE, page);

    if (r == 0)
        memcpy(buffer, page + offset % PAGE, length);
    return r;
}

static int verify(struct cow *cow, uint64_t page, uint8_t *data, size_t length)
{
    uint32_t known = cow_sums_get(&cow->sums, page);

    if (!known || cow_sum(data, length) == known)
        return 0;
    return read_part(cow, data, length, page * PAGE);
}

static int overlay_read(struct cow *cow, uint8_t *buffer, size_t length, uint64_t offset)
{
    struct pages range = cut(cow, length, offset);
    uint64_t tail_at = length - range.tail;
    int r = 0;

    if (!cow->sums.words)
        return cow->io->pread(cow->overlay, buffer, length, offset);
    if (range.head)
        r = read_part(cow, buffer, range.head, offset);
    if (r == 0 && range.tail)
        r = read_part(cow, buffer + tail_at, range.tail, offset + tail_at);
    if (r == 0 && range.first < range.end)
        r = cow->io->pread(cow->overlay, buffer + range.head, tail_at - range.head, range.first * PAGE);
    for (uint64_t page = range.first; r == 0 && page < range.end; page++)
        r = verify(cow, page, buffer + (page * PAGE - offset), page_length(cow, page));
    return r;
}

int cow_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct cow *cow = instance;
    int r = cow_bounds(cow, length, offset);

    while (r == 0 && length > 0) {
        uint64_t page_end = (offset + length + PAGE - 1) / PAGE, end;
        bool own = cow_map_run(&cow->map, offset / PAGE, page_end, &end);
        size_t n = end * PAGE - offset < length ? (size_t)(end * PAGE - offset) : length;

        r = own ? overlay_read(cow, buffer, n, offset) : base_read(cow, buffer, n, offset);
        buffer = (uint8_t *)buffer + n;
        length -= n;
        offset += n;
    }
    return r;
}

static pthread_rwlock_t *region_lock(struct cow *cow, uint64_t page)
{
    return &cow->merge[page / COW_REGION_PAGES % COW_STRIPES];
}

/*
 * Pages of one map sector are about to be written; `own`: the map has some of them.  Their checksums must not
 * count from here on, in memory first.
 */
static int begin_pages(struct cow *cow, uint64_t first, uint64_t end, bool own)
{
    uint32_t sector = (uint32_t)(first / COW_SECTOR_PAGES);

    if (!cow->sums.words)
        return 0;
    for (uint64_t page = first; page < end; page++)
        cow_sums_begin(&cow->sums, page);
    if (own)
        return cow_heat_rewrite(cow, sector);
    cow_heat_first(cow, sector);
    return 0;
}

/* They were written, from `data` (NULL: zeros), or `r` says why not. */
static void end_pages(struct cow *cow, uint64_t first, uint64_t end, const uint8_t *data, int r)
{
    if (!cow->sums.words)
        return;
    for (uint64_t page = first; page < end; page++) {
        size_t length = page_length(cow, page);
        uint32_t sum = 0;

        if (r == 0 && data)
            sum = cow_sum(data + (page - first) * PAGE, length);
        else if (r == 0)
            sum = length == PAGE ? cow->zero_sum : cow_sum(zeros, length);
        cow_sums_end(&cow->sums, page, sum);
    }
}

/* Part of a page that the overlay has: what the page is afterwards is known if it was whole before. */
static int rewrite_part(struct cow *cow, const void *data, size_t length, uint64_t offset)
{
    uint64_t page = offset / PAGE;
    size_t whole = page_length(cow, page);
    uint8_t merged[PAGE];
    uint32_t known, sum = 0;
    int r;

    if (!cow->sums.words)
        return cow->io->pwrite(cow->overlay, data, length, offset);
    known = cow_sums_begin(&cow->sums, page);
    r = cow_heat_rewrite(cow, (uint32_t)(page / COW_SECTOR_PAGES));
    if (r == 0 && known)
        r = cow->io->pread(cow->overlay, merged, whole, page * PAGE);
    if (r == 0 && known && cow_sum(merged, whole) != known && cow_sums_alone(&cow->sums, page)) {
        cow_sums_end(&cow->sums, page, known);
        return -EBADMSG;
    }
    if (r == 0)
        r = cow->io->pwrite(cow->overlay, data, length, offset);
    if (r == 0 && known) {
        memcpy(merged + offset % PAGE, data, length);
        sum = cow_sum(merged, whole);
    }
    cow_sums_end(&cow->sums, page, sum);
    return r;
}

/* Writes part of a page (NULL: zeros).  Its first content is the base's with that part replaced. */
static int write_part(struct cow *cow, const void *data, size_t length, uint64_t offset)
{
    uint64_t page = offset / PAGE;
    uint8_t merged[PAGE];
    pthread_rwlock_t *lock;
    int r;

    if (!data)
        data = zeros;
    if (cow_map_test(&cow->map, page))
        return rewrite_part(cow, data, length, offset);
    lock = region_lock(cow, page);
    pthread_rwlock_wrlock(lock);
    if (cow_map_test(&cow->map, page)) {
        pthread_rwlock_unlock(lock);
        return rewrite_part(cow, data, length, offset);
    }
    atomic_fetch_add_explicit(&cow->base_copies, 1, memory_order_relaxed);
    r = base_read(cow, merged, PAGE, page * PAGE);
    if (r == 0) {
        memcpy(merged + offset % PAGE, data, length);
        r = begin_pages(cow, page, page + 1, false);
        if (r == 0)
            r = cow->io->pwrite(cow->overlay, merged, PAGE, page * PAGE);
        if (r == 0)
            cow_map_set(&cow->map, page, page + 1);
        end_pages(cow, page, page + 1, merged, r);
    }
    pthread_rwlock_unlock(lock);
    return r;
}

/* Parts at both ends of a range; they lie in different pages or are empty. */
static int write_ends(struct cow *cow, const uint8_t *data, uint64_t length, uint64_t offset,
                      const struct pages *cut)
{
    uint64_t tail_at = length - cut->tail;
    int r = 0;

    if (cut->head)
        r = write_part(cow, data, cut->head, offset);
    if (r == 0 && cut->tail)
        r = write_part(cow, data ? data + tail_at : NULL, cut->tail, offset + tail_at);
    return r;
}

/* Whether the map has any of the pages. */
static bool any_own(const struct cow *cow, uint64_t first, uint64_t end)
{
    uint64_t run;

    return cow_map_run(&cow->map, first, end, &run) || run < end;
}

/* Whole pages of one region. */
static int write_whole(struct cow *cow, const void *data, size_t length, uint64_t first, uint64_t end)
{
    pthread_rwlock_t *lock = region_lock(cow, first);
    uint64_t run;
    bool own = cow_map_run(&cow->map, first, end, &run) && run == end;
    int r;

    if (!own)
        pthread_rwlock_rdlock(lock);
    r = begin_pages(cow, first, end, own || any_own(cow, first, end));
    if (r == 0)
        r = cow->io->pwrite(cow->overlay, data, length, first * PAGE);
    if (r == 0 && !own)
        cow_map_set(&cow->map, first, end);
    end_pages(cow, first, end, data, r);
    if (!own)
        pthread_rwlock_unlock(lock);
    return r;
}

static int cow_writable(const struct cow *cow, uint64_t length, uint64_t offset)
{
    return cow->readonly ? -EROFS : cow_bounds(cow, length, offset);
}

int cow_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    struct cow *cow = instance;
    int r = cow_writable(cow, length, offset);
    struct pages range;
    const uint8_t *data;
    size_t left;

    if (r < 0 || length == 0)
        return r;
    range = cut(cow, length, offset);
    r = write_ends(cow, buffer, length, offset, &range);
    data = (const uint8_t *)buffer + range.head;
    left = length - range.head - range.tail;
    for (uint64_t page = range.first; r == 0 && page < range.end;) {
        uint64_t region_end = (page / COW_REGION_PAGES + 1) * COW_REGION_PAGES;
        uint64_t end = region_end < range.end ? region_end : range.end;
        size_t n = (end - page) * PAGE < left ? (size_t)((end - page) * PAGE) : left;

        r = write_whole(cow, data, n, page, end);
        data += n;
        left -= n;
        page = end;
    }
    return r;
}

static int overlay_zero(struct cow *cow, uint64_t length, uint64_t offset)
{
    int r = cow->io->punch(cow->overlay, length, offset);

    if (r != -EOPNOTSUPP)
        return r;
    for (r = 0; r == 0 && length > 0;) {
        size_t n = length < sizeof zeros ? (size_t)length : sizeof zeros;

        r = cow->io->pwrite(cow->overlay, zeros, n, offset);
        offset += n;
        length -= n;
    }
    return r;
}

/* Pages of one map sector: at most COW_STRIPES regions, so that each stripe is locked once, in order. */
static int zero_pages(struct cow *cow, uint64_t first, uint64_t end)
{
    uint64_t region = first / COW_REGION_PAGES, last = (end - 1) / COW_REGION_PAGES;
    bool locked[COW_STRIPES] = {false};
    int r;

    for (; region <= last; region++)
        locked[region % COW_STRIPES] = true;
    for (unsigned i = 0; i < COW_STRIPES; i++)
        if (locked[i])
            pthread_rwlock_rdlock(&cow->merge[i]);
    r = begin_pages(cow, first, end, any_own(cow, first, end));
    if (r == 0)
        r = overlay_zero(cow, (end - first) * PAGE, first * PAGE);
    if (r == 0)
        cow_map_set(&cow->map, first, end);
    end_pages(cow, first, end, NULL, r);
    for (unsigned i = COW_STRIPES; i > 0; i--)
        if (locked[i - 1])
            pthread_rwlock_unlock(&cow->merge[i - 1]);
    return r;
}

static int zero_whole(struct cow *cow, uint64_t first, uint64_t end)
{
    int r = 0;

    while (r == 0 && first < end) {
        uint64_t stop = (first / COW_SECTOR_PAGES + 1) * COW_SECTOR_PAGES;

        if (stop > end)
            stop = end;
        r = zero_pages(cow, first, stop);
        first = stop;
    }
    return r;
}

int cow_zero(void *instance, uint64_t length, uint64_t offset)
{
    struct cow *cow = instance;
    int r = cow_writable(cow, length, offset);
    struct pages range;

    if (r < 0 || length == 0)
        return r;
    range = cut(cow, length, offset);
    r = write_ends(cow, NULL, length, offset, &range);
    if (r == 0 && range.first < range.end)
        r = zero_whole(cow, range.first, range.end);
    return r;
}

/* Gives the space of whole pages back.  They become zeros of this layer, not the base's again. */
int cow_trim(void *instance, uint64_t length, uint64_t offset)
{
    struct cow *cow = instance;
    int r = cow_writable(cow, length, offset);
    struct pages range;

    if (r < 0 || length == 0)
        return r;
    range = cut(cow, length, offset);
    return range.first < range.end ? zero_whole(cow, range.first, range.end) : 0;
}

static uint64_t run_bytes(uint64_t end_page, uint64_t offset, uint64_t length)
{
    uint64_t bytes = end_page * PAGE - offset;

    return bytes < length ? bytes : length;
}

static int overlay_extent(struct cow *cow, uint64_t offset, uint64_t length,
                          enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    enum drafter_extent_kind kind = DRAFTER_EXTENT_DATA;
    uint64_t data, hole = offset + length;
    int r = cow->io->seek(cow->overlay, offset, true, &data);

    if (r == 0 && data > offset) {
        kind = DRAFTER_EXTENT_ZERO;
        hole = data;
    } else if (r == 0) {
        r = cow->io->seek(cow->overlay, offset, false, &hole);
    }
    if (r < 0 && r != -EOPNOTSUPP)
        return r;
    if (r < 0 || hole <= offset || hole > offset + length)
        hole = offset + length;
    *ret_kind = kind;
    *ret_length = hole - offset;
    return 0;
}

int cow_extent(void *instance, uint64_t offset, uint64_t length, enum drafter_extent_kind *ret_kind,
               uint64_t *ret_length)
{
    struct cow *cow = instance;
    uint64_t end, base = cow->geometry.base_size;
    bool own;

    if (length == 0 || cow_bounds(cow, length, offset) < 0)
        return -EINVAL;
    own = cow_map_run(&cow->map, offset / PAGE, (offset + length + PAGE - 1) / PAGE, &end);
    length = run_bytes(end, offset, length);
    if (own)
        return overlay_extent(cow, offset, length, ret_kind, ret_length);
    if (offset < base && length > base - offset)
        length = base - offset;
    if (offset < base && cow->base->extent)
        return cow->base->extent(cow->base_instance, offset, length, ret_kind, ret_length);
    *ret_kind = offset < base ? DRAFTER_EXTENT_DATA : DRAFTER_EXTENT_ZERO;
    *ret_length = length;
    return 0;
}

int cow_layer(void *instance, uint64_t offset, uint64_t length, bool *ret_own, uint64_t *ret_length)
{
    struct cow *cow = instance;
    uint64_t end, base = cow->geometry.base_size;
    bool own;
    int r;

    if (length == 0 || cow_bounds(cow, length, offset) < 0)
        return -EINVAL;
    own = cow_map_run(&cow->map, offset / PAGE, (offset + length + PAGE - 1) / PAGE, &end);
    length = run_bytes(end, offset, length);
    /* A layer below is still above the base that everybody has. */
    if (!own && cow->base->layer && offset < base) {
        if (length > base - offset)
            length = base - offset;
        r = cow->base->layer(cow->base_instance, offset, length, ret_own, ret_length);
        if (r != -ENOTSUP)
            return r;
    }
    *ret_own = own;
    *ret_length = length;
    return 0;
}
