/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Power cuts, kills and failed syncs under the ledger.  The ledger's own code writes a real file, which
 * is what a process sees, and what it asks of the disk is recorded; from every state that a cut may
 * leave it is opened again.  It must then say the last record that anybody could rely on, or one that
 * was being written, and never one whose writing had failed.
 *
 * A process that is killed leaves what it wrote in the page cache: the next one reads it, and relies on
 * it, before the power is cut.
 *
 * Built once as it is, where nothing may be found, and once for each mistake that ledger.c can be built
 * with (LEDGER_PLANT), where something must be found.
 */
#include "replay.h"

#include "migrate/ledger.h"
#include "util/io.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef LEDGER_PLANT
#define LEDGER_PLANT 0
#endif

#define RECORDS 12 /* that a run writes */
#define VM "redis"
#define NEVER SIZE_MAX

/* What ledger.c calls in place of the functions of the same name; see Makefile.am. */
int crash_pwrite_full(int fd, const void *buffer, size_t length, uint64_t offset);
int crash_fsync(int fd);
int crash_sync_parent(const char *path);

/* Operations of the record: when a record may be seen, must be, and may no more. */
struct span {
    size_t begun, relied, voided;
};

static struct disk disk;
static void *file; /* of the disk */
static struct ledger ledger;
static char directory[64], scratch[80];
static struct span spans[2 * RECORDS + 2]; /* by epoch */
static uint64_t epochs;                    /* begun so far */
static size_t kill_at, fail_at, syncs, states, violations;
static bool recording;
static jmp_buf killed;

static void maybe_die(void)
{
    if (recording && disk.count == kill_at) {
        kill_at = NEVER;
        longjmp(killed, 1);
    }
}

int crash_pwrite_full(int fd, const void *buffer, size_t length, uint64_t offset)
{
    int rc;

    if (!recording)
        return io_pwrite_full(fd, buffer, length, offset);
    maybe_die();
    rc = io_pwrite_full(fd, buffer, length, offset);
    return rc ? rc : disk_io.pwrite(file, buffer, length, offset);
}

int crash_fsync(int fd)
{
    (void)fd;
    if (!recording)
        return 0;
    maybe_die();
    if (syncs++ == fail_at) {
        errno = EIO;
        return -1;
    }
    return disk_io.sync(file);
}

int crash_sync_parent(const char *path)
{
    (void)path;
    if (!recording)
        return 0;
    maybe_die();
    return disk_io.sync_parent(&disk, VM);
}

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void found(const char *what, uint64_t epoch, size_t executed)
{
    if (!LEDGER_PLANT)
        printf("after %zu operations: %s, epoch %llu\n", executed, what, (unsigned long long)epoch);
    violations++;
}

static void check(const struct ledger_record *record, size_t executed)
{
    uint64_t newest = 0;

    for (uint64_t epoch = 1; epoch <= epochs; epoch++) {
        if (spans[epoch].relied <= executed && spans[epoch].voided > executed)
            newest = epoch;
    }
    if (record->epoch < newest)
        found("an older record than the one relied on", record->epoch, executed);
    if (record->epoch > epochs || (record->epoch && spans[record->epoch].begun > executed))
        found("a record from nowhere", record->epoch, executed);
    else if (record->epoch && spans[record->epoch].voided <= executed)
        found("a record whose writing failed", record->epoch, executed);
}

/* Puts the disk's file where ledger_open finds it. */
static void lay_out(const struct disk_image *image)
{
    char path[128];
    int fd, number = image->names[0];

    snprintf(path, sizeof(path), "%s/" VM ".ledger", scratch);
    unlink(path);
    if (number < 0)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && ftruncate(fd, (off_t)image->files[number].size) == 0, path);
    for (uint64_t page = 0; page * DISK_PAGE < image->files[number].size; page++) {
        uint64_t left = image->files[number].size - page * DISK_PAGE;

        if (image->files[number].pages && image->files[number].pages[page])
            must(io_pwrite_full(fd, image->files[number].pages[page],
                                left < DISK_PAGE ? left : DISK_PAGE, page * DISK_PAGE) == 0, path);
    }
    close(fd);
}

static bool visit(void *opaque, struct disk_image *image, size_t executed)
{
    struct drafter_error err = {0};
    struct ledger after;

    (void)opaque;
    states++;
    lay_out(image);
    if (ledger_open(scratch, VM, &after, &err)) {
        found(err.message, 0, executed);
        return true;
    }
    check(&after.record, executed);
    /* It goes on from there. */
    if (ledger_write(&after, LEDGER_OWNED, epochs + 1, "", NULL, &err))
        found(err.message, epochs + 1, executed);
    ledger_close(&after);
    if (ledger_open(scratch, VM, &after, &err) || after.record.epoch != epochs + 1)
        found("a recovered ledger does not keep a new record", epochs + 1, executed);
    ledger_close(&after);
    return true;
}

/* A process: opens the ledger, relies on what it says, and writes `count` records. */
static void run_process(unsigned count)
{
    struct drafter_error err = {0};

    if (disk.now.names[0] < 0)
        must(disk_io.open(&disk, VM, COW_IO_WRITE | COW_IO_CREATE, &file) == 0, "create");
    if (ledger_open(directory, VM, &ledger, &err)) {
        must(fail_at < syncs, err.message);
        return;
    }
    check(&ledger.record, disk.count);
    if (ledger.record.epoch)
        spans[ledger.record.epoch].relied = disk.count;
    for (unsigned i = 0; i < count; i++) {
        struct span *span = &spans[++epochs];

        *span = (struct span){disk.count, NEVER, NEVER};
        if (ledger_write(&ledger, i % 2 ? LEDGER_RELINQUISHED : LEDGER_OWNED, epochs, "10.0.0.1",
                         NULL, &err))
            span->voided = disk.count;
        else
            span->relied = disk.count;
    }
}

static void begin(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/" VM ".ledger", directory);
    unlink(path);
    disk_init(&disk);
    disk.paths[0] = VM;
    disk.fragile[0] = true; /* torn at any 64 bytes: harder than sectors of 512 */
    disk_record(&disk);
    epochs = syncs = 0;
    ledger.fd = -1;
    recording = true;
}

/* One run, whose first process may be killed at an operation, or have one sync fail. */
static size_t run(size_t kill_operation, size_t failing_sync)
{
    size_t length;

    begin();
    kill_at = kill_operation;
    fail_at = failing_sync;
    if (setjmp(killed) == 0)
        run_process(RECORDS);
    kill_at = fail_at = NEVER;
    ledger_close(&ledger);
    run_process(2);
    ledger_close(&ledger);
    recording = false;
    length = disk.count;
    replay(&disk, 88172645463325252u + kill_operation, visit, NULL);
    disk_release(&disk);
    return length;
}

int main(void)
{
    size_t length;

    snprintf(directory, sizeof(directory), "%s/crash-ledger.XXXXXX",
             getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 32 ? getenv("TMPDIR") : "/tmp");
    must(mkdtemp(directory) != NULL, directory);
    snprintf(scratch, sizeof(scratch), "%s/after", directory);
    length = run(NEVER, NEVER);
    for (size_t operation = 0; operation < length; operation++)
        run(operation, NEVER);
    for (size_t sync = 0; sync < 2 * RECORDS; sync++)
        run(NEVER, sync);
    io_remove_tree(directory, NULL);
    printf("plant %d: %zu states, %zu violations\n", LEDGER_PLANT, states, violations);
    if (states < 1000)
        return 1; /* nothing was tried */
    return LEDGER_PLANT ? violations == 0 : violations != 0;
}
