/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Power cuts under the cow plugin.  The plugin's own code runs on a simulated disk; from every state
 * that a cut may leave it is opened again and must hold what model.h promises.  From some of the
 * recovered states it goes on writing and is cut again.
 *
 * Built once as it is, where nothing may be found, and once for each mistake that cow-commit.c can be
 * built with (COW_PLANT), where something must be found.
 *
 *     crash-cow [RUNS [FIRST-SEED]]
 */
#include "cow.h"
#include "model.h"
#include "replay.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE DRAFTER_PAGE_SIZE
#define DEVICE_SIZE (UINT64_C(9300) * PAGE + 1536) /* three map sectors, the last page short */
#define BASE_SIZE (UINT64_C(9290) * PAGE + 1024)   /* shorter than the device */

/* At the borders of words, map sectors, regions, base and device. */
static const uint64_t pool[MODEL_POOL] = {0,    1,    2,    63,   64,   255,  256,  3838, 3839, 3840,
                                          3841, 5000, 7678, 7679, 7680, 7681, 9289, 9290, 9291, 9300};

struct run {
    struct disk disk;
    struct model model;
    struct cow *cow;
    uint64_t random;
    unsigned depth;
    size_t created; /* operations until open returned */
    bool busy;      /* inside a write made from during_sync */
    size_t states, violations;
    uint64_t seed;
};

/* ---- the base: a pattern that nothing can change */

static uint64_t base_size(void *instance)
{
    (void)instance;
    return BASE_SIZE;
}

static int base_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{

    (void)instance;
    if (offset % 512 || offset + length > BASE_SIZE)
        return -EINVAL;
    for (size_t at = 0; at < length; at += 512) {
        uint8_t sector[512];
        uint64_t here = offset + at;

        model_fill(BASE_SIZE, here / PAGE, (unsigned)(here % PAGE / 512), 0, false, sector);
        memcpy((uint8_t *)buffer + at, sector, length - at < 512 ? length - at : 512);
    }
    return 0;
}

static int base_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    (void)instance, (void)size, (void)flags, (void)err;
    return 0;
}

static const struct drafter_storage_ops base_ops = {
    .open = base_open, .size = base_size, .pread = base_pread};

const struct drafter_storage_ops *drafter_next_storage(void *next, void **ret_instance)
{
    *ret_instance = next;
    return &base_ops;
}

static const struct cow_config config = {.overlay = "overlay", .state = "state"};

static struct cow *open_cow(struct disk *disk, struct drafter_error *err)
{
    struct drafter_context context = {.struct_size = sizeof context, .id = "crash", .next = disk};
    struct cow *cow;

    if (cow_new(&context, &config, &disk_io, disk, &cow, err) < 0)
        return NULL;
    if (cow_open(cow, DEVICE_SIZE, DRAFTER_STORAGE_CREATE, err) == 0)
        return cow;
    cow_free(cow);
    return NULL;
}

/* ---- what is done to the device */

static void must(int r, const char *what)
{
    if (r == 0)
        return;
    fprintf(stderr, "%s: error %d\n", what, -r);
    abort();
}

/* Rewriting a page of a cold sector waits for the flush that runs: nobody does that in the midst of it. */
static bool would_wait(const struct run *run, uint64_t page)
{
    enum cow_heat heat = (enum cow_heat)run->cow->sums.heat[page / COW_SECTOR_PAGES];

    return cow_map_test(&run->cow->map, page) && heat != COW_WARM && heat != COW_COOLING;
}

static void do_write(struct run *run)
{
    uint8_t buffer[3 * PAGE];
    unsigned p = (unsigned)(replay_random(&run->random) % MODEL_POOL);
    struct model_page *page = &run->model.pages[p];
    unsigned kind = (unsigned)(replay_random(&run->random) % 8);
    unsigned first = 0, count = page->sectors;
    size_t log = run->disk.count;
    uint64_t offset;

    if (run->busy && would_wait(run, page->number))
        return;
    if (kind < 3) {
        first = (unsigned)(replay_random(&run->random) % page->sectors);
        count = 1 + (unsigned)(replay_random(&run->random) % (page->sectors - first));
    }
    offset = page->number * PAGE + (uint64_t)first * 512;
    model_write(&run->model, page, first, count, kind >= 6, log, buffer);
    if (kind == 7 && count == page->sectors)
        must(cow_trim(run->cow, (uint64_t)count * 512, offset), "trim");
    else if (kind >= 6)
        must(cow_zero(run->cow, (uint64_t)count * 512, offset), "zero");
    else
        must(cow_pwrite(run->cow, buffer, (size_t)count * 512, offset), "write");
}

/* Three pages at once where the pool has neighbours. */
static void do_long_write(struct run *run)
{
    static const unsigned starts[] = {0, 7, 8, 12, 13, 16};
    uint8_t buffer[3 * PAGE];
    unsigned p = starts[replay_random(&run->random) % 6];
    size_t log = run->disk.count;

    for (unsigned i = 0; i < 3; i++)
        model_write(&run->model, &run->model.pages[p + i], 0, MODEL_SECTORS, false, log,
                    buffer + i * PAGE);
    must(cow_pwrite(run->cow, buffer, sizeof buffer, pool[p] * PAGE), "write");
}

/* Somebody else writes while a flush is on its way. */
static void during_sync(void *opaque, int file, bool after)
{
    struct run *run = opaque;

    (void)after;
    (void)file;
    if (run->busy || !run->cow || replay_random(&run->random) % 3 != 0)
        return;
    run->busy = true;
    do_write(run);
    run->busy = false;
}

static void work(struct run *run, unsigned steps)
{
    run->disk.during_sync = during_sync;
    run->disk.opaque = run;
    for (unsigned i = 0; i < steps; i++) {
        unsigned die = (unsigned)(replay_random(&run->random) % 10);

        if (die < 3) {
            struct model_flush *flush = model_flush_begin(&run->model, run->disk.count);

            must(cow_flush(run->cow), "flush");
            model_flush_end(flush, run->disk.count);
        } else if (die == 3) {
            do_long_write(run);
        } else {
            do_write(run);
        }
    }
    run->disk.during_sync = NULL;
}

/* ---- what is found afterwards */

static void violation(struct run *run, size_t executed, const char *what, uint64_t page)
{
    run->violations++;
    if (run->violations <= (COW_PLANT ? 1 : 10))
        fprintf(stderr, "seed %" PRIu64 " depth %u, cut after %zu of %zu operations: %s (page %" PRIu64
                        ")\n",
                run->seed, run->depth, executed, run->disk.count, what, page);
}

static bool is_pool_page(uint64_t number)
{
    for (unsigned p = 0; p < MODEL_POOL; p++) {
        if (pool[p] == number)
            return true;
    }
    return false;
}

static void check_strangers(struct run *run, struct cow *cow, size_t executed)
{
    uint64_t end;

    for (uint64_t page = 0; page < cow->geometry.pages; page = end) {
        if (!cow_map_run(&cow->map, page, cow->geometry.pages, &end))
            continue;
        for (uint64_t own = page; own < end; own++) {
            if (!is_pool_page(own))
                violation(run, executed, "a page that was never written is in the layer", own);
        }
    }
}

static void check_pages(struct run *run, struct cow *cow, size_t executed)
{
    for (unsigned p = 0; p < MODEL_POOL; p++) {
        const struct model_page *page = &run->model.pages[p];
        uint8_t content[PAGE];

        if (cow_pread(cow, content, (size_t)page->sectors * 512, page->number * PAGE) < 0)
            violation(run, executed, "cannot be read", page->number);
        else if (!model_allows(&run->model, page, executed, content))
            violation(run, executed, "content that nobody was promised", page->number);
    }
}

static void count_defect(void *opaque, const char *line)
{
    size_t *defects = opaque;

    if (strncmp(line, "note:", 5) != 0)
        ++*defects;
}

static void check_fsck(struct run *run, struct disk *disk, size_t executed)
{
    struct drafter_context context = {.struct_size = sizeof context, .id = "crash", .next = disk};
    size_t defects = 0;
    struct cow *cow;

    must(cow_new(&context, &config, &disk_io, disk, &cow, NULL), "new");
    if (cow_check(cow, count_defect, &defects, NULL) != 0 || defects != 0)
        violation(run, executed, "fsck finds defects", 0);
    cow_free(cow);
}

static void go_on(struct run *run, struct disk *disk, struct cow *cow);

static bool visit(void *opaque, struct disk_image *image, size_t executed)
{
    struct run *run = opaque;
    struct drafter_error err = {0};
    struct disk disk;
    struct cow *cow;

    run->states++;
    disk_fork(&disk, &run->disk, image);
    if (executed >= run->created)
        check_fsck(run, &disk, executed);
    cow = open_cow(&disk, &err);
    if (!cow) {
        violation(run, executed, err.message, 0);
    } else {
        check_pages(run, cow, executed);
        check_strangers(run, cow, executed);
        if (run->depth < 2 && run->violations == 0 && run->states % 61 == 0)
            go_on(run, &disk, cow);
        cow_free(cow);
    }
    disk_release(&disk);
    return run->violations < 10;
}

/* The recovered device is used further, and cut again. */
static void go_on(struct run *run, struct disk *disk, struct cow *cow)
{
    struct run *next = calloc(1, sizeof *next);

    if (!next)
        abort();
    next->disk = *disk; /* lent; its handles still name the owner, so it works through `disk` */
    next->model = run->model;
    next->random = run->random ^ run->states;
    next->depth = run->depth + 1;
    next->seed = run->seed;
    for (unsigned p = 0; p < MODEL_POOL; p++) {
        struct model_page *page = &next->model.pages[p];
        uint8_t content[PAGE];

        must(cow_pread(cow, content, (size_t)page->sectors * 512, page->number * PAGE), "read");
        if (!model_adopt(&next->model, page, content, cow_map_test(&cow->map, page->number)))
            violation(run, 0, "unknown content", page->number);
    }
    for (int i = 0; i < DISK_FILES; i++)
        disk->handles[i].disk = &next->disk;
    cow->io_host = &next->disk;
    disk_record(&next->disk);
    next->cow = cow;
    work(next, 8);
    next->cow = NULL;
    run->states += replay(&next->disk, next->random | 1, visit, next);
    run->violations += next->violations;
    *disk = next->disk;
    free(next);
}

static void run_seed(struct run *run, uint64_t seed)
{
    struct drafter_error err = {0};

    memset(run, 0, sizeof *run);
    run->seed = seed;
    run->random = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
    disk_init(&run->disk);
    run->disk.paths[0] = "overlay";
    run->disk.paths[1] = "state";
    run->disk.paths[2] = "state.new";
    run->disk.fragile[1] = run->disk.fragile[2] = true;
    model_init(&run->model, DEVICE_SIZE, BASE_SIZE, pool);
    disk_record(&run->disk);
    run->cow = open_cow(&run->disk, &err);
    if (!run->cow) {
        fprintf(stderr, "open: %s\n", err.message);
        abort();
    }
    run->created = run->disk.count;
    work(run, 40);
    cow_free(run->cow);
    run->cow = NULL;
    replay(&run->disk, seed | 1, visit, run);
    disk_release(&run->disk);
}

int main(int argc, char **argv)
{
    unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 2;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct run *run = malloc(sizeof *run);
    size_t states = 0, violations = 0;

    if (!run)
        return 99;
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    for (unsigned long i = 0; i < runs; i++) {
        run_seed(run, first + i);
        states += run->states;
        violations += run->violations;
        if (COW_PLANT && violations)
            break;
    }
    free(run);
    printf("crash-cow: plant %d, %zu states, %zu violations\n", COW_PLANT, states, violations);
    if (COW_PLANT)
        return violations > 0 ? 0 : 1;
    return violations > 0 || states == 0;
}
