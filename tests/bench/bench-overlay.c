/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A cow overlay against the same requests to a preallocated raw file, both through the adapters and in
 * this process, and against qcow2 through qemu-img bench where there is one.  One JSON line per figure:
 * rounds alternate (A-B-A-B) and the median counts.
 *
 *     bench-overlay [DIRECTORY [ROUNDS]]
 *
 * Needs DRAFTER_PLUGIN_PATH; takes about 1 GiB of disk below DIRECTORY.
 */
#include "plugin/storage.h"
#include "util/io.h"
#include "util/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE (UINT64_C(256) << 20)
#define PAGE DRAFTER_PAGE_SIZE
#define PAGES ((unsigned)(SIZE / PAGE))
#define FLUSHED_WRITES 4096
#define ROUNDS_MAX 25

/* As in the program: what plugins may call must be linked in. */
void *const bench_exports[] = {(void *)drafter_now_ns, (void *)drafter_next_storage,
                               (void *)drafter_error_wrap};

enum what { FIRST_WRITE, REWRITE, READ_THROUGH, READ_OWN, WRITE_FLUSH, WHATS };

static const char *const names[WHATS] = {"first_write_4k", "rewrite_4k", "read_through_4k",
                                         "read_own_4k", "write_4k_flush_every_32"};

struct round {
    double iops[WHATS];
};

static char directory[256];
static unsigned order[PAGES];

static void die(const char *what, const struct drafter_error *err)
{
    fprintf(stderr, "bench-overlay: %s: %s\n", what, err ? err->message : "failed");
    abort();
}

static const char *path_of(const char *name)
{
    static char path[2][400];
    static unsigned turn;

    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", directory, name);
    return path[turn];
}

static struct instance *make(const char *plugin, const char *const *options, struct instance *next,
                             unsigned flags)
{
    struct drafter_error err = {0};
    struct instance *made;

    if (instance_new(DRAFTER_KIND_STORAGE, NULL, plugin, options, plugin, directory, next, &made,
                     &err) < 0 ||
        storage_open(made, flags & DRAFTER_STORAGE_CREATE ? SIZE : 0, flags, &err) < 0)
        die(plugin, &err);
    return made;
}

static double run(struct instance *storage, bool write, unsigned count, unsigned flush_every)
{
    static uint8_t buffer[DRAFTER_PAGE_SIZE] __attribute__((aligned(4096))) = {1};
    uint64_t start = drafter_now_ns();

    for (unsigned i = 0; i < count; i++) {
        uint64_t offset = (uint64_t)order[i] * PAGE;
        int r = write ? storage_write(storage, buffer, PAGE, offset)
                      : storage_read(storage, buffer, PAGE, offset);

        if (r == 0 && flush_every && i % flush_every == flush_every - 1)
            r = storage_flush(storage);
        if (r < 0)
            die("I/O", NULL);
    }
    return count * 1e9 / (double)(drafter_now_ns() - start);
}

static void settle(struct instance *storage)
{
    if (storage_flush(storage) < 0)
        die("flush", NULL);
}

static void prepare(const char *name)
{
    static uint8_t buffer[1 << 20];
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    memset(buffer, 0x55, sizeof buffer);
    for (uint64_t at = 0; at < SIZE; at += sizeof buffer) {
        if (fd < 0 || io_pwrite_full(fd, buffer, sizeof buffer, at) < 0)
            die(name, NULL);
    }
    fsync(fd);
    close(fd);
}

/*
 * A file that was written in large pieces is cached in large folios, in which ext4 is slow to find the
 * one dirty page: not what the raw file shall be measured by.
 */
static void drop_cache(const char *name)
{
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        die(name, NULL);
    close(fd);
}

/* All but the flushed writes happen in the page cache, as a guest's do between flushes. */
static void measure(struct instance *storage, struct instance *fresh, const char *drop,
                    struct round *round)
{
    (void)run(storage, false, PAGES, 0); /* into the page cache */
    round->iops[READ_THROUGH] = run(storage, false, PAGES, 0);
    if (drop)
        drop_cache(drop);
    round->iops[FIRST_WRITE] = run(storage, true, PAGES, 0);
    settle(storage);
    round->iops[REWRITE] = run(storage, true, PAGES, 0);
    settle(storage);
    round->iops[READ_OWN] = run(storage, false, PAGES, 0);
    round->iops[WRITE_FLUSH] = run(fresh, true, FLUSHED_WRITES, 32);
}

static void measure_raw(struct round *round)
{
    struct instance *raw = make("file", (const char *const[]){"path", path_of("raw"), NULL}, NULL, 0);

    measure(raw, raw, "raw", round);
    instance_free(raw);
}

static struct instance *make_cow(struct instance *base, const char *overlay, const char *state)
{
    const char *const options[] = {"overlay", path_of(overlay), "state", path_of(state), NULL};

    unlink(path_of(overlay));
    unlink(path_of(state));
    return make("cow", (const char *const[]){"overlay", options[1], "state", options[3], NULL}, base,
                DRAFTER_STORAGE_CREATE);
}

static void measure_cow(struct round *round)
{
    struct instance *base = make("file", (const char *const[]){"path", path_of("base"), NULL}, NULL,
                                 DRAFTER_STORAGE_READONLY);
    struct instance *cow = make_cow(base, "a.overlay", "a.state");
    struct instance *fresh = make_cow(base, "b.overlay", "b.state");

    measure(cow, fresh, NULL, round);
    instance_free(fresh);
    instance_free(cow);
    instance_free(base);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const struct round *rounds, unsigned count, enum what what)
{
    double values[ROUNDS_MAX];

    for (unsigned i = 0; i < count; i++)
        values[i] = rounds[i].iops[what];
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

/*
 * First writes to a default qcow2, each to a cluster of its own as random ones are, one at a time as
 * ours are; 0 when qemu-img is not there.
 */
static double measure_qcow2(void)
{
    const char *image = path_of("image.qcow2"), *base = path_of("base");
    const char *const create[] = {"qemu-img", "create", "-q",  "-f", "qcow2", "-F",
                                  "raw",      "-b",     base,  image, NULL};
    const char *const bench[] = {"qemu-img", "bench", "-w", "-t", "writeback", "-d", "1", "-s",
                                 "4096", "-S", "69632", "-c", "3800", "-f", "qcow2", image, NULL};
    char *output = NULL, *found;
    double seconds = 0;

    if (proc_run(create, 60000, 65536, &output, NULL) < 0)
        return 0;
    free(output);
    output = NULL;
    if (proc_run(bench, 600000, 65536, &output, NULL) == 0) {
        found = strstr(output, "completed in ");
        seconds = found ? strtod(found + strlen("completed in "), NULL) : 0;
    }
    free(output);
    return seconds > 0 ? 3800 / seconds : 0;
}

static void report(const char *name, double cow, double other, const char *against, double target,
                   unsigned rounds)
{
    printf("{\"bench\": \"overlay/%s_iops\", \"ours\": %.0f, \"other\": \"%s\", \"theirs\": %.0f, "
           "\"ratio\": %.4f, \"target\": %.2f, \"rounds\": %u}\n",
           name, cow, against, other, cow / other, target, rounds);
    fflush(stdout);
}

static void shuffle(void)
{
    uint64_t state = 88172645463325252u;

    for (unsigned i = 0; i < PAGES; i++)
        order[i] = i;
    for (unsigned i = PAGES - 1; i > 0; i--) {
        unsigned j, swap = order[i];

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        j = (unsigned)(state % (i + 1));
        order[i] = order[j];
        order[j] = swap;
    }
}

int main(int argc, char **argv)
{
    static const double targets[WHATS] = {1.0, 0.98, 0.90, 0.90, 0.80};
    static struct round raw[ROUNDS_MAX], cow[ROUNDS_MAX];
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 5;
    double qcow2;

    if (rounds == 0 || rounds > ROUNDS_MAX)
        rounds = 5;
    snprintf(directory, sizeof directory, "%s/bench-overlay.XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
    if (!mkdtemp(directory))
        die(directory, NULL);
    shuffle();
    prepare("base");
    prepare("raw");
    for (unsigned i = 0; i < rounds; i++) {
        measure_raw(&raw[i]);
        measure_cow(&cow[i]);
    }
    for (enum what what = 0; what < WHATS; what++)
        report(names[what], median(cow, rounds, what), median(raw, rounds, what), "raw preallocated",
               targets[what], rounds);
    qcow2 = measure_qcow2();
    if (qcow2 > 0)
        report(names[FIRST_WRITE], median(cow, rounds, FIRST_WRITE), qcow2, "qcow2 default", 10, 1);
    else
        fprintf(stderr, "bench-overlay: no comparison with qcow2: no qemu-img\n");
    io_remove_tree(directory, NULL);
    return 0;
}
