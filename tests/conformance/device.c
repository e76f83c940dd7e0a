/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every device plugin must do, run through the adapters over each plugin that can work here,
 * or over the one named on the command line.  An exposed path is used as a VMM uses it.
 *
 * "served" tests need a plugin that answers each access itself, that is, not the null plugin.
 */
#include "conformance.h"
#include "device-store.h"

#include "plugin/device.h"
#include "util/bitmap.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE DRAFTER_PAGE_SIZE
#define PAGES 600
#define TEST_TIMEOUT_S 30
#define GUARD_PERIOD_MS 1000
#define GUARD_PERIODS 20 /* times CK_TIMEOUT_MULTIPLIER; a test takes well below one second */

/* Set by main before any test runs. */
static const char *plugin_name;
static const char *base;
static atomic_uint *started; /* tests so far; shared with the guard */

/* What a test begins with: one started instance and one mapped device. */
static struct store store;
static struct instance *device;
static struct exposure *exposure;
static char directory[128];

static struct instance *make_with(const char *id, const char *key, const char *value)
{
    const char *overrides[] = {key, value, NULL};
    struct drafter_error err = {0};
    struct instance *made = NULL;

    ck_assert_msg(instance_new(DRAFTER_KIND_DEVICE, NULL, plugin_name, value ? overrides : NULL, id,
                               base, NULL, &made, &err) == 0,
                  "%s", err.message);
    return made;
}

static struct instance *make_instance(const char *id, const char *threads)
{
    return make_with(id, "threads", threads);
}

static void start_at(struct instance *instance, const char *where)
{
    struct drafter_error err = {0};

    ck_assert(mkdir(where, 0700) == 0 || errno == EEXIST);
    ck_assert_msg(device_start(instance, where, &err) == 0, "%s", err.message);
}

static struct exposure *expose(struct instance *instance, struct store *backing, const char *name,
                               unsigned flags)
{
    struct drafter_device_spec spec = store_spec(backing, name, flags);
    struct drafter_error err = {0};
    struct exposure *made = NULL;

    ck_assert_msg(device_expose(instance, &spec, &made, &err) == 0, "%s", err.message);
    return made;
}

static int open_exposed(const struct exposure *exposed, int flags)
{
    int fd = open(exposed->path, flags | O_CLOEXEC);

    ck_assert_msg(fd >= 0, "%s: %s", exposed->path, strerror(errno));
    return fd;
}

static char *map_exposed(const struct exposure *exposed, uint64_t size)
{
    int fd = open_exposed(exposed, O_RDWR);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    ck_assert_msg(memory != MAP_FAILED, "%s: %s", exposed->path, strerror(errno));
    close(fd);
    return memory;
}

/*
 * Unmaps what was written through: a munmap writes dirty pages back with the address space locked, and
 * waits for threads of this process that may need that lock.  So nothing may be dirty by then.
 */
static void unmap_exposed(char *memory, uint64_t size)
{
    msync(memory, size, MS_SYNC);
    munmap(memory, size);
}

static void sync_exposed(struct exposure *exposed)
{
    struct drafter_error err = {0};

    ck_assert_msg(exposure_sync(exposed, &err) == 0, "%s", err.message);
}

/* Where the kernel does not tell which pages are dirty, asking for them writes them back. */
static bool is_told(const uint64_t *map, uint64_t page, const char *memory)
{
    return bitmap_test(map, page) ||
           memcmp(memory + page * PAGE, store.bytes + page * PAGE, PAGE) == 0;
}

static void setup(void)
{
    struct drafter_error err = {0};

    atomic_fetch_add(started, 1);
    snprintf(directory, sizeof(directory), "%s/vm", base);
    store_init(&store, PAGES * PAGE);
    device = make_instance("vm", NULL);
    device_reclaim(device, directory, &err); /* a test that failed leaves its device */
    start_at(device, directory);
    exposure = expose(device, &store, "memory", DRAFTER_DEVICE_MAPPED);
}

static void teardown(void)
{
    store_gate(&store, 0, 0);
    device_withdraw(exposure);
    device_stop(device);
    instance_free(device);
    store_release(&store);
    ck_assert_msg(rmdir(directory) == 0, "%s: %s", directory, strerror(errno));
}

/* All devices: the contract. */

/* A block device has whole sectors, and a page at least. */
static uint64_t shown_size(const char *path, uint64_t size)
{
    struct stat status;

    ck_assert_int_eq(stat(path, &status), 0);
    if (!S_ISBLK(status.st_mode))
        return size;
    return size < PAGE ? PAGE : (size + 511) / 512 * 512;
}

START_TEST(file_has_size_of_device)
{
    static const uint64_t sizes[] = {512, PAGE, 3 * PAGE + 512, 20 * PAGE + 1};
    struct exposure *exposed;
    struct store odd;
    char name[32];
    int fd;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        store_init(&odd, sizes[i]);
        snprintf(name, sizeof(name), "odd%zu", i);
        exposed = expose(device, &odd, name, i % 2 ? DRAFTER_DEVICE_MAPPED : 0);
        fd = open_exposed(exposed, O_RDONLY);
        ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)shown_size(exposed->path, sizes[i]));
        close(fd);
        device_withdraw(exposed);
        store_release(&odd);
    }
}
END_TEST

START_TEST(file_shows_backend)
{
    char buffer[3 * PAGE];
    int fd;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    fd = open_exposed(exposure, O_RDONLY);
    ck_assert_int_eq(pread(fd, buffer, sizeof(buffer), PAGE + 17), sizeof(buffer));
    ck_assert_int_eq(memcmp(buffer, store.bytes + PAGE + 17, sizeof(buffer)), 0);
    ck_assert_int_eq(pread(fd, buffer, sizeof(buffer), (off_t)store.size - 10), 10);
    close(fd);
}
END_TEST

START_TEST(mapped_writes_are_dirty_pages)
{
    static const unsigned touched[] = {0, 1, 63, 64, 65, 130, 255, 256, 300, 302, 304, 511, 599};
    uint64_t *map = bitmap_new(PAGES);
    struct drafter_error err = {0};
    char *memory;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    ck_assert_int_eq(exposure_dirty(exposure, map, PAGES, &err), 0);
    ck_assert_uint_eq(bitmap_count(map, PAGES), 0);
    for (size_t i = 0; i < sizeof(touched) / sizeof(*touched); i++)
        memory[touched[i] * PAGE + 5] ^= 0x55;
    memset(memory + 400 * PAGE, 0x77, 32 * PAGE);
    ck_assert_int_eq(exposure_dirty(exposure, map, PAGES, &err), 0);
    for (size_t i = 0; i < sizeof(touched) / sizeof(*touched); i++)
        ck_assert_msg(is_told(map, touched[i], memory), "page %u is dirty", touched[i]);
    for (unsigned page = 400; page < 432; page++)
        ck_assert_msg(is_told(map, page, memory), "page %u is dirty", page);
    if (store.writes == 0)
        ck_assert_uint_eq(bitmap_count(map, PAGES), 32 + sizeof(touched) / sizeof(*touched));
    unmap_exposed(memory, store.size);
    free(map);
}
END_TEST

START_TEST(dirty_keeps_bits_and_bounds)
{
    uint64_t map[2] = {UINT64_C(1) << 7, 0};
    struct drafter_error err = {0};
    char *memory = map_exposed(exposure, store.size);

    memset(memory, 0x33, store.size);
    ck_assert_int_eq(exposure_dirty(exposure, map, 3, &err), 0);
    ck_assert_uint_eq(map[0] & ~UINT64_C(7), 0x80);
    for (unsigned page = 0; page < 3; page++)
        ck_assert(is_told(map, page, memory));
    ck_assert_uint_eq(map[1], 0);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(sync_writes_back_without_flush)
{
    uint64_t *map = bitmap_new(PAGES);
    struct drafter_error err = {0};
    char *memory;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    memory[3 * PAGE] ^= 1;
    memset(memory + 100 * PAGE, 0x42, 300 * PAGE);
    sync_exposed(exposure);
    ck_assert_int_eq(memcmp(memory, store.bytes, store.size), 0);
    ck_assert_uint_eq(store.flushes, 0);
    ck_assert_int_eq(exposure_dirty(exposure, map, PAGES, &err), 0);
    ck_assert_uint_eq(bitmap_count(map, PAGES), 0);
    memory[7 * PAGE] ^= 1; /* a page that was clean again is noticed again */
    memory[3 * PAGE] ^= 1;
    ck_assert_int_eq(exposure_dirty(exposure, map, PAGES, &err), 0);
    ck_assert_uint_eq(map[0] & ~(UINT64_C(1) << 3 | UINT64_C(1) << 7), 0);
    ck_assert(is_told(map, 3, memory) && is_told(map, 7, memory));
    unmap_exposed(memory, store.size);
    free(map);
}
END_TEST

START_TEST(last_partial_page_is_written_back)
{
    struct exposure *exposed;
    struct store odd;
    char *memory;

    store_init(&odd, 20 * PAGE + 100);
    exposed = expose(device, &odd, "odd", DRAFTER_DEVICE_MAPPED);
    ck_assert_int_eq(exposure_populate(exposed, 0, odd.size), 0);
    memory = map_exposed(exposed, odd.size);
    memory[odd.size - 1] = 0x11;
    sync_exposed(exposed);
    ck_assert_int_eq(odd.bytes[odd.size - 1], 0x11);
    ck_assert_int_eq(odd.bytes[odd.size - 2], store_pattern(odd.size - 2));
    unmap_exposed(memory, odd.size);
    device_withdraw(exposed);
    store_release(&odd);
}
END_TEST

START_TEST(read_sees_dirty_pages)
{
    char buffer[2 * PAGE];
    char *memory;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    memset(memory + 9 * PAGE, 0x66, PAGE);
    ck_assert_int_eq(exposure_read(exposure, buffer, sizeof(buffer), 9 * PAGE), 0);
    ck_assert_int_eq(memcmp(buffer, memory + 9 * PAGE, sizeof(buffer)), 0);
    ck_assert_int_eq(store.bytes[9 * PAGE], store_pattern(9 * PAGE));
    ck_assert_int_lt(exposure_read(exposure, buffer, sizeof(buffer), store.size - 1), 0);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(invalidate_shows_new_content)
{
    char *memory;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    ck_assert_int_eq(memory[40 * PAGE], store_pattern(40 * PAGE));
    ck_assert_int_eq(memory[41 * PAGE], store_pattern(41 * PAGE));
    memset(store.bytes + 40 * PAGE, 0x29, PAGE);
    ck_assert_int_eq(exposure_invalidate(exposure, 40 * PAGE, PAGE), 0);
    ck_assert_int_eq(memory[40 * PAGE], 0x29);
    memset(store.bytes + 500 * PAGE, 0x2a, PAGE);
    ck_assert_int_eq(exposure_invalidate(exposure, 0, 0), 0);
    ck_assert_int_eq(memory[500 * PAGE], 0x2a);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(a_cleaned_range_is_dirty_only_after_another_write)
{
    uint64_t bitmap[PAGES / 64 + 1] = {0};
    struct drafter_error err = {0};
    char *memory;

    if (!exposure_can_clean(exposure)) {
        ck_assert_int_eq(exposure_clean(exposure, 0, PAGE), -ENOTSUP);
        return;
    }
    memory = map_exposed(exposure, store.size);
    memory[5 * PAGE] = 0x71;
    memory[9 * PAGE] = 0x72;
    memory[10 * PAGE] = 0x73;
    ck_assert_int_eq(exposure_clean(exposure, 5 * PAGE, PAGE), 0);
    ck_assert_int_eq(exposure_clean(exposure, 9 * PAGE, PAGE), 0);
    ck_assert_int_eq(store.bytes[5 * PAGE], 0x71);
    ck_assert_int_eq(store.bytes[9 * PAGE], 0x72);
    memory[9 * PAGE] = 0x74;
    ck_assert_int_eq(exposure_dirty(exposure, bitmap, PAGES, &err), 0);
    ck_assert_uint_eq(bitmap[0], UINT64_C(1) << 9 | UINT64_C(1) << 10);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(invalidate_loses_no_write)
{
    char *memory;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    memory[5 * PAGE] = 0x71;
    ck_assert_int_eq(exposure_invalidate(exposure, 0, 0), 0);
    ck_assert_int_eq(memory[5 * PAGE], 0x71);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(populated_pages_need_no_backend)
{
    char *memory;
    unsigned reads;
    int sum = 0;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    reads = store.reads;
    memory = map_exposed(exposure, store.size);
    for (unsigned page = 0; page < PAGES; page++)
        sum += memory[page * PAGE] - store.bytes[page * PAGE];
    ck_assert_int_eq(sum, 0);
    ck_assert_uint_eq(store.reads, reads);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(failed_write_back_is_reported)
{
    struct drafter_error err = {0};
    char *memory;

    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    store.write_error = ENOSPC;
    memory[0] ^= 1;
    ck_assert_int_eq(exposure_sync(exposure, &err), -ENOSPC);
    ck_assert_msg(err.message[0] != '\0', "the failure has a sentence");
    store.write_error = 0;
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(name_is_exposed_once)
{
    struct drafter_device_spec spec = store_spec(&store, "memory", 0);
    struct exposure *second = NULL;
    struct drafter_error err = {0};

    ck_assert_int_lt(device_expose(device, &spec, &second, &err), 0);
    ck_assert_msg(strstr(err.message, "memory") != NULL, "the message names it: %s", err.message);
}
END_TEST

static void expect_no_device(const struct drafter_device_spec *spec, const char *fragment)
{
    struct drafter_error err = {0};
    struct exposure *none = NULL;

    conformance_expect_error(device_expose(device, spec, &none, &err), EINVAL, &err, fragment);
    ck_assert_ptr_null(none);
}

START_TEST(what_is_no_device_is_refused)
{
    const char *names[] = {"", ".", "..", ".hidden", "a/b", "/etc"};
    const uint64_t sizes[] = {0, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    struct drafter_device_spec spec = store_spec(&store, "other", 0);
    char endless[DRAFTER_NAME_MAX + 2] = {0};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        spec.name = names[i];
        expect_no_device(&spec, "no device name");
    }
    spec.name = memset(endless, 'x', sizeof(endless) - 1);
    expect_no_device(&spec, "no device name");
    spec.name = "other";
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        spec.size = sizes[i];
        expect_no_device(&spec, "no device size");
    }
    spec.size = store.size;
    spec.backend.write = NULL;
    expect_no_device(&spec, "incomplete backend");
}
END_TEST

START_TEST(second_start_is_refused)
{
    struct drafter_error err = {0};

    conformance_expect_error(device_start(device, directory, &err), EALREADY, &err,
                             "already serves");
    device_withdraw(expose(device, &store, "disk", 0)); /* the first one goes on */
}
END_TEST

START_TEST(name_is_free_after_withdraw)
{
    char *memory;

    device_withdraw(exposure);
    ck_assert_int_eq(access(directory, F_OK), 0);
    memset(store.bytes, 0x51, store.size);
    exposure = expose(device, &store, "memory", DRAFTER_DEVICE_MAPPED);
    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    memory = map_exposed(exposure, store.size);
    ck_assert_int_eq(memory[17 * PAGE], 0x51);
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(instances_are_independent)
{
    struct instance *other = make_instance("other", NULL);
    struct exposure *exposed;
    struct store second;
    char where[160], *mine, *theirs;

    snprintf(where, sizeof(where), "%s/other", base);
    start_at(other, where);
    store_init(&second, 8 * PAGE);
    memset(second.bytes, 0x12, second.size);
    exposed = expose(other, &second, "memory", DRAFTER_DEVICE_MAPPED);
    ck_assert_int_eq(exposure_populate(exposed, 0, second.size), 0);
    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    mine = map_exposed(exposure, store.size);
    theirs = map_exposed(exposed, second.size);
    mine[0] = 0x01;
    theirs[0] = 0x02;
    sync_exposed(exposed);
    ck_assert_int_eq(second.bytes[0], 0x02);
    ck_assert_int_eq(store.bytes[0], store_pattern(0));
    unmap_exposed(theirs, second.size);
    device_withdraw(exposed);
    device_stop(other);
    instance_free(other);
    store_release(&second);
    ck_assert_int_eq(mine[PAGE], store_pattern(PAGE));
    unmap_exposed(mine, store.size);
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

static unsigned count_entries(const char *path)
{
    DIR *entries = opendir(path);
    unsigned count = 0;

    while (entries && readdir(entries))
        count++;
    if (entries)
        closedir(entries);
    return count;
}

static unsigned count_mounts(void)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    char line[4096];
    unsigned count = 0;

    while (table && fgets(line, sizeof(line), table))
        count += strstr(line, base) != NULL;
    if (table)
        fclose(table);
    return count;
}

/* A thread that was joined is in /proc for a moment yet; it may be one of `most`, too. */
static unsigned count_threads(unsigned most)
{
    unsigned count = 0;

    for (int i = 0; i < 200 && (count = count_entries("/proc/self/task")) > most; i++)
        usleep(10000);
    return count;
}

START_TEST(nothing_is_left_behind)
{
    unsigned fds, threads, mounts;
    char *memory;

    teardown();
    fds = count_entries("/proc/self/fd");
    threads = count_entries("/proc/self/task");
    mounts = count_mounts();
    for (int i = 0; i < 3; i++) {
        setup();
        memory = map_exposed(exposure, store.size);
        memory[0] = (char)i;
        unmap_exposed(memory, store.size);
        teardown();
    }
    ck_assert_uint_eq(count_entries("/proc/self/fd"), fds);
    ck_assert_uint_le(count_threads(threads), threads);
    ck_assert_uint_eq(count_mounts(), mounts);
    setup();
}
END_TEST

static void add_all(TCase *tests, const TTest *const *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tests, all[i]);
}

#include "device-served.h"

#include "device-node.h"

static void add_contract(TCase *tests)
{
    const TTest *const all[] = {
        file_has_size_of_device,        file_shows_backend,
        mapped_writes_are_dirty_pages,  dirty_keeps_bits_and_bounds,
        sync_writes_back_without_flush, last_partial_page_is_written_back,
        read_sees_dirty_pages,          a_cleaned_range_is_dirty_only_after_another_write,
        invalidate_shows_new_content,
        invalidate_loses_no_write,      populated_pages_need_no_backend,
        failed_write_back_is_reported,  name_is_exposed_once,
        name_is_free_after_withdraw,    instances_are_independent,
        what_is_no_device_is_refused,   second_start_is_refused,
        nothing_is_left_behind,
    };

    add_all(tests, all, sizeof(all) / sizeof(*all));
}

enum shape { SHAPE_PLAIN, SHAPE_FILES, SHAPE_NODES };

/* What a plugin makes of a device, and whether it answers each access itself. */
static const struct subject {
    const char *name;
    enum shape shape;
} subjects[] = {
    {"null", SHAPE_PLAIN},
    {"fuse", SHAPE_FILES},
    {"nbd", SHAPE_NODES},
    {"loop", SHAPE_NODES},
    {"ublk", SHAPE_NODES},
};

static enum shape shape_of(const char *name)
{
    for (size_t i = 0; i < sizeof(subjects) / sizeof(*subjects); i++)
        if (strcmp(subjects[i].name, name) == 0)
            return subjects[i].shape;
    return SHAPE_FILES;
}

static Suite *make_suite(enum shape shape)
{
    Suite *suite = suite_create(plugin_name);
    TCase *tests = tcase_create("contract"), *more = tcase_create("shape");

    tcase_set_timeout(tests, TEST_TIMEOUT_S);
    tcase_set_timeout(more, TEST_TIMEOUT_S);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_checked_fixture(more, setup, teardown);
    add_contract(tests);
    if (shape == SHAPE_FILES)
        add_served(more);
    if (shape == SHAPE_NODES)
        add_nodes(more, strcmp(plugin_name, "nbd") == 0);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, more);
    return suite;
}

/* Takes away what a failed test left. */
static void clean_up(void)
{
    static const char *const names[] = {"vm", "other", "dead"};
    char path[160];

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(path, sizeof(path), "%s/%s", base, names[i]);
        umount2(path, MNT_DETACH);
        rmdir(path);
    }
}

/* Whether the plugin can be tested on this host; says why not. */
static bool is_usable(void)
{
    struct drafter_probe probe = {.usable = true};
    struct drafter_error err = {0};
    struct plugin *plugin = NULL;

    if (!conformance_available(DRAFTER_KIND_DEVICE, plugin_name) ||
        plugin_load(DRAFTER_KIND_DEVICE, plugin_name, &plugin, &err) < 0)
        return false;
    if (plugin->descriptor.probe)
        plugin->descriptor.probe(NULL, &probe);
    plugin_unload(plugin);
    if (!probe.usable)
        printf("device %s is not tested: %s\n", plugin_name, probe.reason);
    return probe.usable;
}

/* Aborts all mounts below our directory. */
static void abort_mounts(void)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    char line[4096], point[512] = "";

    while (table && fgets(line, sizeof(line), table))
        if (sscanf(line, "%*u %*s %*s %*s %511s", point) == 1 &&
            strncmp(point, base, strlen(base)) == 0)
            umount2(point, MNT_FORCE);
    if (table)
        fclose(table);
}

/*
 * A test serves files and maps them in one process.  When it fails, its end writes its dirty pages
 * back to itself and waits for ever, and so does whoever looks at it in /proc.  So a mount is aborted
 * from here when its test does not end.  This is a process, not a thread: the leak checks of the
 * forked tests would wait for a thread.
 */
static void guard(void)
{
    const char *text = getenv("CK_TIMEOUT_MULTIPLIER");
    double factor = text ? strtod(text, NULL) : 1;
    unsigned test = 0, periods = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;; periods++) {
        if (test != atomic_load(started))
            periods = 0;
        test = atomic_load(started);
        if (periods > GUARD_PERIODS * factor)
            abort_mounts();
        conformance_sleep_ms(GUARD_PERIOD_MS);
    }
}

/*
 * What a child of reclaim_removes_a_dead_mount is, and what scripts start: it serves a device of so many
 * MiB in a directory until it is killed.  Not within Check, so nothing of it may be used here.
 */
static int serve(const char *name, const char *where, const char *mebibytes)
{
    struct drafter_device_spec spec;
    struct drafter_error err = {0};
    struct exposure *exposed;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    store_init(&store, mebibytes ? strtoull(mebibytes, NULL, 10) << 20 : PAGES * PAGE);
    spec = store_spec(&store, "memory", DRAFTER_DEVICE_MAPPED);
    if ((mkdir(where, 0700) < 0 && errno != EEXIST) ||
        instance_new(DRAFTER_KIND_DEVICE, NULL, name, NULL, "dead", where, NULL, &device, &err) ||
        device_reclaim(device, where, &err) || device_start(device, where, &err) ||
        device_expose(device, &spec, &exposed, &err))
        fprintf(stderr, "%s: %s\n", where, err.message);
    else if (puts("ready") >= 0 && fflush(stdout) == 0)
        pause();
    return 1;
}

static int run(const char *name)
{
    int status = 77;
    pid_t guardian;

    plugin_name = name;
    if (is_usable()) {
        started = mmap(NULL, sizeof(*started), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                       -1, 0);
        if (started == MAP_FAILED)
            return 1;
        guardian = fork();
        if (guardian < 0)
            return 1;
        if (guardian == 0)
            guard();
        status = conformance_run(make_suite(shape_of(name)), 1);
        kill(guardian, SIGKILL);
        waitpid(guardian, NULL, 0);
    }
    clean_up();
    return status;
}

/* Fails when one fails; a plugin that cannot be tested here is no failure if another can. */
int main(int argc, char **argv)
{
    int status, result = 77;

    if (argc >= 4 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    base = conformance_directory();
    if (argc > 1)
        return run(argv[1]);
    for (size_t i = 0; i < sizeof(subjects) / sizeof(*subjects); i++) {
        status = run(subjects[i].name);
        if (status != 77 && (result == 77 || result == 0))
            result = status;
    }
    return result;
}
