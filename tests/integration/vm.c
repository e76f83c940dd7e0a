/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm.h"

#include "lab.h"
#include "util/cleanup.h"

#include <string.h>
#include <time.h>

#define STEPS_MAX 8192
#define STEP_PAGES_MAX 32 /* of larger operations only the beginning: the devices here are small */

/* What a real guest did, in pages of this one. */
struct step {
    uint64_t time_ns, first, count;
    enum binlog_kind kind;
    bool disk;
};

struct lab_vm {
    uint32_t version[LAB_PAGES]; /* by the guest's thread, or by the test while it is paused */
    struct block_device *blocks;
    uint64_t random;
    uint64_t writes;         /* atomic */
    unsigned writes_per_ms;  /* atomic */
    bool run;                /* atomic */
    bool running;
    pthread_t thread;
    struct step *steps; /* of a workload, or NULL: by chance */
    unsigned step_count, step;
};

/* Some pages are zero, some repeat, most are neither; two versions differ in a few words. */
static void content(uint64_t *page, uint64_t number, uint32_t version)
{
    uint64_t value = number * UINT64_C(0x9e3779b97f4a7c15);

    memset(page, 0, 4096);
    if (!version && number % 3 == 0)
        return;
    for (unsigned i = 0; i < 512; i++)
        page[i] = value ^= value << 13, value ^= value >> 7, value ^= value << 17;
    page[7] = version;
    page[500] = version * UINT64_C(0x2545f4914f6cdd1d);
}

/* Pages are numbered over memory and disk. */
static struct block_device *locate(struct block_device *blocks, uint64_t number, uint64_t *ret_offset)
{
    uint64_t memory_pages = LAB_MEMORY_SIZE / 4096;

    *ret_offset = (number < memory_pages ? number : number - memory_pages) * 4096;
    return &blocks[number < memory_pages ? LAB_MEMORY : LAB_DISK];
}

static size_t page_length(const struct block_device *block, uint64_t offset)
{
    return block->size - offset < 4096 ? (size_t)(block->size - offset) : 4096;
}

static void write_page(struct lab_vm *vm, uint64_t number)
{
    uint64_t page[512], offset;
    struct block_device *block = locate(vm->blocks, number, &offset);

    content(page, number, vm->version[number]);
    ck_assert_int_eq(block_device_write(block, page, page_length(block, offset), offset), 0);
}

static void check_page(struct lab_vm *vm, uint64_t number)
{
    uint64_t expected[512], found[512], offset;
    struct block_device *block = locate(vm->blocks, number, &offset);
    size_t length = page_length(block, offset);
    int rc = block_device_read(block, found, length, offset);

    ck_assert_msg(rc == 0, "page %llu: cannot read it: %s", (unsigned long long)number,
                  strerror(-rc));
    content(expected, number, vm->version[number]);
    ck_assert_msg(!memcmp(expected, found, length),
                  "page %llu: version %u expected, it looks like version %llu",
                  (unsigned long long)number, vm->version[number],
                  length > 64 ? (unsigned long long)found[7] : 0ULL);
}

/* All pages of a device, from page `first` on; many at once, for a storage may take its time with each. */
static void fill(struct block_device *block, uint64_t first)
{
    uint64_t pages[16][512];

    for (uint64_t offset = 0; offset < block->size; offset += sizeof(pages)) {
        uint64_t left = block->size - offset;

        for (unsigned i = 0; i < 16; i++)
            content(pages[i], first + offset / 4096 + i, 0);
        ck_assert_int_eq(block_device_write(block, pages, left < sizeof(pages) ? left : sizeof(pages), offset), 0);
    }
}

struct lab_vm *lab_vm_new(struct block_device *blocks)
{
    struct lab_vm *vm = calloc(1, sizeof(*vm));

    ck_assert_ptr_nonnull(vm);
    vm->blocks = blocks;
    vm->random = 42;
    vm->writes_per_ms = 100;
    fill(&blocks[LAB_MEMORY], 0);
    fill(&blocks[LAB_DISK], LAB_MEMORY_SIZE / 4096);
    return vm;
}

void lab_vm_free(struct lab_vm *vm)
{
    if (vm)
        lab_vm_pause(vm);
    if (vm)
        free(vm->steps);
    free(vm);
}

static uint64_t next_random(struct lab_vm *vm)
{
    vm->random ^= vm->random << 13;
    vm->random ^= vm->random >> 7;
    vm->random ^= vm->random << 17;
    return vm->random;
}

/* A hot tenth of the pages takes nine of ten writes. */
static uint64_t choose(struct lab_vm *vm)
{
    uint64_t random = next_random(vm);

    return random % 10 ? random / 10 % (LAB_PAGES / 10) : random / 10 % LAB_PAGES;
}

static void change_page(struct lab_vm *vm, uint64_t number)
{
    vm->version[number]++;
    write_page(vm, number);
    __atomic_fetch_add(&vm->writes, 1, __ATOMIC_RELAXED);
}

/* How many pages it was, here as below. */
static uint64_t act_by_chance(struct lab_vm *vm)
{
    uint64_t number = choose(vm);

    if (next_random(vm) % 4 == 0)
        check_page(vm, number);
    change_page(vm, number);
    return 1;
}

static uint64_t act_by_workload(struct lab_vm *vm)
{
    const struct step *step = &vm->steps[vm->step];
    uint64_t memory = LAB_MEMORY_SIZE / 4096, base = step->disk ? memory : 0;
    uint64_t pages = step->disk ? LAB_PAGES - memory : memory;

    vm->step = (vm->step + 1) % vm->step_count;
    if (step->kind == BINLOG_FLUSH)
        ck_assert_int_eq(block_device_flush(&vm->blocks[step->disk ? LAB_DISK : LAB_MEMORY]), 0);
    for (uint64_t i = 0; i < step->count; i++) {
        uint64_t number = base + (step->first + i) % pages;

        if (step->kind == BINLOG_READ)
            check_page(vm, number);
        else
            change_page(vm, number);
    }
    return step->count + 1;
}

static void *guest_main(void *opaque)
{
    static const struct timespec millisecond = {0, 1000000};
    struct lab_vm *vm = opaque;

    while (__atomic_load_n(&vm->run, __ATOMIC_ACQUIRE)) {
        unsigned burst = __atomic_load_n(&vm->writes_per_ms, __ATOMIC_RELAXED);

        for (uint64_t i = 0; i < burst && __atomic_load_n(&vm->run, __ATOMIC_ACQUIRE);)
            i += vm->steps ? act_by_workload(vm) : act_by_chance(vm);
        nanosleep(&millisecond, NULL);
    }
    return NULL;
}

static void read_steps(struct lab_vm *vm, const char *path, bool disk)
{
    cleanup_free char *data = malloc(BINLOG_DATA_MAX);
    struct drafter_error err = {0};
    struct binlog_reader reader;
    struct binlog_record record;
    int rc;

    ck_assert_msg(!binlog_open(path, &reader, &err), "%s", err.message);
    while ((rc = binlog_next(&reader, &record, data, &err)) == 1) {
        ck_assert_uint_lt(vm->step_count, STEPS_MAX);
        vm->steps[vm->step_count++] =
            (struct step){.time_ns = reader.started_ns + record.time_ns,
                          .first = record.offset / 4096,
                          .count = (record.length + 4095) / 4096,
                          .kind = record.kind,
                          .disk = disk};
    }
    ck_assert_msg(rc == 0 && reader.complete, "%s", err.message);
    binlog_reader_close(&reader);
}

static int compare_steps(const void *a, const void *b)
{
    const struct step *one = a, *other = b;

    return (one->time_ns > other->time_ns) - (one->time_ns < other->time_ns);
}

void lab_vm_set_workload(struct lab_vm *vm, const char *memory, const char *disk)
{
    struct block_device *blocks = vm->blocks;

    lab_vm_pause(vm);
    vm->steps = calloc(STEPS_MAX, sizeof(*vm->steps));
    ck_assert_ptr_nonnull(vm->steps);
    read_steps(vm, memory, false);
    read_steps(vm, disk, true);
    ck_assert_uint_gt(vm->step_count, 100);
    for (unsigned i = 0; i < vm->step_count; i++)
        if (vm->steps[i].count > STEP_PAGES_MAX)
            vm->steps[i].count = STEP_PAGES_MAX;
    qsort(vm->steps, vm->step_count, sizeof(*vm->steps), compare_steps);
    lab_vm_resume(vm, blocks);
}

void lab_vm_resume(struct lab_vm *vm, struct block_device *blocks)
{
    ck_assert(!vm->running);
    vm->blocks = blocks;
    __atomic_store_n(&vm->run, true, __ATOMIC_RELEASE);
    ck_assert_int_eq(pthread_create(&vm->thread, NULL, guest_main, vm), 0);
    vm->running = true;
}

void lab_vm_pause(struct lab_vm *vm)
{
    __atomic_store_n(&vm->run, false, __ATOMIC_RELEASE);
    if (vm->running)
        pthread_join(vm->thread, NULL);
    vm->running = false;
}

/* Between two lives of the guest's thread: nobody else writes then. */
void lab_vm_burst(struct lab_vm *vm, unsigned pages)
{
    struct block_device *blocks = vm->blocks;

    lab_vm_pause(vm);
    for (unsigned i = 0; i < pages; i++) {
        uint64_t number = next_random(vm) % LAB_PAGES;

        vm->version[number]++;
        write_page(vm, number);
    }
    lab_vm_resume(vm, blocks);
}

void lab_vm_set_rate(struct lab_vm *vm, unsigned writes_per_ms)
{
    __atomic_store_n(&vm->writes_per_ms, writes_per_ms, __ATOMIC_RELAXED);
}

int lab_vm_save(struct lab_vm *vm, struct block_device *state)
{
    uint64_t blob[2] = {vm->writes, ~vm->writes};

    return block_device_write(state, blob, sizeof(blob), 0);
}

int lab_vm_load(struct lab_vm *vm, struct block_device *state)
{
    uint64_t blob[2];
    int rc = block_device_read(state, blob, sizeof(blob), 0);

    if (rc)
        return rc;
    ck_assert_uint_eq(blob[0], vm->writes);
    ck_assert_uint_eq(blob[1], ~vm->writes);
    return 0;
}

void lab_vm_verify(struct lab_vm *vm, struct block_device *blocks)
{
    ck_assert(!vm->running);
    vm->blocks = blocks;
    for (uint64_t number = 0; number < LAB_PAGES; number++)
        check_page(vm, number);
}

bool lab_vm_progresses(struct lab_vm *vm)
{
    static const struct timespec moment = {0, 20000000};
    uint64_t before = __atomic_load_n(&vm->writes, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < 100; i++) {
        nanosleep(&moment, NULL);
        if (__atomic_load_n(&vm->writes, __ATOMIC_RELAXED) > before)
            return true;
    }
    return false;
}
