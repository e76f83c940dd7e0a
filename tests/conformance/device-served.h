/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of the device suite for plugins that answer each access of a VMM themselves.  Included
 * by device.c, whose fixture it uses.
 */

/* A read of one page in a thread of its own. */
struct reader {
    pthread_t thread;
    int fd;
    off_t offset;
    ssize_t result; /* bytes or negative errno */
    char buffer[DRAFTER_PAGE_SIZE];
};

static void *reader_run(void *opaque)
{
    struct reader *reader = opaque;

    reader->result = pread(reader->fd, reader->buffer, sizeof(reader->buffer), reader->offset);
    if (reader->result < 0)
        reader->result = -errno;
    return NULL;
}

static void reader_start(struct reader *reader, int fd, off_t offset)
{
    reader->fd = fd;
    reader->offset = offset;
    ck_assert_int_eq(pthread_create(&reader->thread, NULL, reader_run, reader), 0);
}

START_TEST(missing_block_stops_no_other_access)
{
    struct reader blocked[4];
    struct instance *small = make_instance("small", "4");
    struct exposure *disk, *memory_exposure;
    struct store other;
    char where[160], *memory, byte, page[PAGE] = {0};
    int fd;

    snprintf(where, sizeof(where), "%s/other", base);
    start_at(small, where);
    store_init(&other, 64 * PAGE);
    disk = expose(small, &store, "disk", 0);
    memory_exposure = expose(small, &other, "memory", DRAFTER_DEVICE_MAPPED);
    memory = map_exposed(memory_exposure, other.size);
    memory[0] = 0x13;
    store_gate(&store, 0, 8 * PAGE);
    fd = open_exposed(disk, O_RDWR);
    for (int i = 0; i < 3; i++) /* not neighbours: those may become one request */
        reader_start(&blocked[i], fd, 2 * i * (off_t)PAGE);
    store_await_blocked(&store, 3);
    ck_assert_int_eq(pread(fd, &byte, 1, 100 * PAGE), 1); /* a further read has a thread left */
    reader_start(&blocked[3], fd, 6 * PAGE);
    store_await_blocked(&store, 4);
    sync_exposed(memory_exposure); /* now no read would, but writes do */
    ck_assert_int_eq(other.bytes[0], 0x13);
    ck_assert_int_eq(pwrite(fd, page, PAGE, 200 * PAGE), PAGE); /* less would be read first */
    ck_assert_int_eq(fsync(fd), 0);
    store_gate(&store, 0, 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(blocked[i].thread, NULL);
        ck_assert_int_eq(blocked[i].result, PAGE);
        ck_assert_int_eq(memcmp(blocked[i].buffer, store.bytes + 2 * i * PAGE, PAGE), 0);
    }
    close(fd);
    unmap_exposed(memory, other.size);
    device_withdraw(disk);
    device_withdraw(memory_exposure);
    device_stop(small);
    instance_free(small);
    store_release(&other);
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

START_TEST(more_blocked_reads_than_threads_all_end)
{
    struct reader blocked[24];
    struct instance *small = make_instance("small", "2");
    struct exposure *disk;
    char where[160];
    int fd;

    snprintf(where, sizeof(where), "%s/other", base);
    start_at(small, where);
    disk = expose(small, &store, "disk", 0);
    store_gate(&store, 0, store.size);
    fd = open_exposed(disk, O_RDONLY);
    for (int i = 0; i < 24; i++)
        reader_start(&blocked[i], fd, i * (off_t)PAGE);
    store_await_blocked(&store, 2);
    ck_assert_int_eq(fsync(fd), 0);
    store_gate(&store, 0, 0);
    for (int i = 0; i < 24; i++) {
        pthread_join(blocked[i].thread, NULL);
        ck_assert_int_eq(blocked[i].result, PAGE);
    }
    close(fd);
    device_withdraw(disk);
    device_stop(small);
    instance_free(small);
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

START_TEST(missing_page_costs_one_page)
{
    char *memory = map_exposed(exposure, store.size);
    unsigned reads = store.reads;

    store_gate(&store, 51 * PAGE, store.size - 51 * PAGE); /* reading ahead would block */
    ck_assert_int_eq(memory[50 * PAGE], store_pattern(50 * PAGE));
    ck_assert_uint_eq(store.reads, reads + 1);
    store_gate(&store, 0, 0);
    unmap_exposed(memory, store.size);
}
END_TEST

/* As QEMU maps memory: the kernel then reads ahead even where readahead is off. */
START_TEST(missing_page_costs_one_page_in_a_huge_mapping)
{
    char *memory = map_exposed(exposure, store.size);
    unsigned reads;

    madvise(memory, store.size, MADV_HUGEPAGE);
    store_gate(&store, 0, 50 * PAGE);
    ck_assert_int_eq(memory[50 * PAGE], store_pattern(50 * PAGE));
    ck_assert_int_eq(memory[51 * PAGE], store_pattern(51 * PAGE));
    ck_assert_uint_eq(store.reads, 2);
    store_gate(&store, 0, 0);
    ck_assert_int_eq(exposure_populate(exposure, 0, store.size), 0);
    ck_assert_uint_le(store.reads, 2 + 8); /* in large reads even so */
    reads = store.reads;
    ck_assert_int_eq(memcmp(memory, store.bytes, store.size), 0);
    ck_assert_uint_eq(store.reads, reads);
    unmap_exposed(memory, store.size);
}
END_TEST

static bool all_present(void *opaque, uint64_t length, uint64_t offset)
{
    struct store *backing = opaque;

    return offset + length <= backing->size / 2;
}

START_TEST(present_blocks_are_read_ahead)
{
    struct drafter_device_spec spec = store_spec(&store, "half", DRAFTER_DEVICE_MAPPED);
    struct drafter_error err = {0};
    struct exposure *half = NULL;
    char *memory;

    spec.backend.present = all_present;
    ck_assert_int_eq(device_expose(device, &spec, &half, &err), 0);
    memory = map_exposed(half, store.size);
    madvise(memory, store.size, MADV_HUGEPAGE);
    for (unsigned page = 0; page < 256; page++)
        ck_assert_int_eq(memory[page * PAGE], store_pattern(page * PAGE));
    ck_assert_uint_le(store.reads, 8);
    ck_assert_int_eq(memory[store.size - 1], store_pattern(store.size - 1));
    unmap_exposed(memory, store.size);
    device_withdraw(half);
}
END_TEST

START_TEST(backend_errors_reach_the_reader)
{
    struct exposure *disk = expose(device, &store, "disk", 0);
    int fd = open_exposed(disk, O_RDWR);
    char byte;

    store.read_error = EIO;
    ck_assert_int_eq(pread(fd, &byte, 1, 0), -1);
    ck_assert_int_eq(errno, EIO);
    store.read_error = 0;
    store.write_error = ENOSPC;
    ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
    ck_assert_int_eq(errno, ENOSPC);
    store.write_error = 0;
    close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(failed_write_back_reaches_msync)
{
    char *memory = map_exposed(exposure, store.size);

    memory[0] = 1;
    store.write_error = ENOSPC;
    ck_assert_int_eq(msync(memory, PAGE, MS_SYNC), -1);
    ck_assert_int_eq(errno, ENOSPC);
    store.write_error = 0;
    unmap_exposed(memory, store.size);
}
END_TEST

START_TEST(guest_fsync_is_a_flush)
{
    int fd = open_exposed(exposure, O_RDWR);

    ck_assert_int_eq(fsync(fd), 0);
    ck_assert_uint_eq(store.flushes, 1);
    store.flush_error = EIO;
    ck_assert_int_eq(fsync(fd), -1);
    ck_assert_int_eq(errno, EIO);
    ck_assert_uint_eq(store.flushes, 2);
    store.flush_error = 0;
    sync_exposed(exposure);
    ck_assert_uint_eq(store.flushes, 2);
    close(fd);
}
END_TEST

/* It is QEMU's way to write zeros. */
START_TEST(punched_hole_is_zeros_whatever_a_trim_leaves)
{
    uint64_t begin = 4 * PAGE + 512, length = 2 * PAGE;
    int fd = open_exposed(exposure, O_RDWR);

    store.trim_keeps = true;
    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin,
                               (off_t)length),
                     0);
    ck_assert_uint_eq(store.trims, 1);
    ck_assert(store_is_zero(&store, begin, length));
    ck_assert_int_eq(store.bytes[begin - 1], store_pattern(begin - 1));
    ck_assert_int_eq(store.bytes[begin + length], store_pattern(begin + length));
    close(fd);
}
END_TEST

START_TEST(punched_hole_is_a_trim)
{
    int fd = open_exposed(exposure, O_RDWR);
    char byte = 1;

    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, 2 * PAGE),
                     0);
    ck_assert_uint_eq(store.trims, 1);
    ck_assert_uint_eq(store.trim_offset, 4 * PAGE);
    ck_assert_uint_eq(store.trim_length, 2 * PAGE);
    ck_assert_int_eq(pread(fd, &byte, 1, 5 * PAGE), 1);
    ck_assert_int_eq(byte, 0);
    ck_assert_int_eq(fallocate(fd, 0, 0, (off_t)store.size + 1), -1);
    close(fd);
}
END_TEST

START_TEST(size_is_fixed)
{
    int fd = open_exposed(exposure, O_RDWR);
    struct exposure *disk;

    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(ftruncate(fd, (off_t)store.size * 2), -1);
    ck_assert_int_eq(ftruncate(fd, (off_t)store.size), 0);
    ck_assert_int_eq(open(exposure->path, O_RDWR | O_TRUNC | O_CLOEXEC), -1);
    close(fd);
    disk = expose(device, &store, "disk", 0);
    fd = open_exposed(disk, O_RDWR);
    ck_assert_int_eq(pwrite(fd, "xx", 2, (off_t)store.size - 1), 1);
    ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)store.size), -1);
    ck_assert_int_eq(errno, ENOSPC);
    close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(readonly_device_is_not_written)
{
    struct exposure *disk = expose(device, &store, "disk", DRAFTER_DEVICE_READONLY);
    int fd = open_exposed(disk, O_RDONLY);

    ck_assert_int_eq(open(disk->path, O_RDWR | O_CLOEXEC), -1);
    ck_assert_int_eq(errno, EROFS);
    close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(uncached_device_is_never_stale)
{
    struct exposure *disk = expose(device, &store, "disk", 0);
    int fd = open_exposed(disk, O_RDONLY);
    char byte;

    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    store.bytes[0] = 0x5a;
    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    ck_assert_int_eq(byte, 0x5a);
    close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(uncached_device_can_be_mapped_privately)
{
    struct exposure *disk = expose(device, &store, "kernel", DRAFTER_DEVICE_READONLY);
    int fd = open_exposed(disk, O_RDONLY);
    char *memory = mmap(NULL, store.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    ck_assert_ptr_ne(memory, MAP_FAILED);
    ck_assert_int_eq(memcmp(memory, store.bytes, store.size), 0);
    memory[0] ^= 1;
    ck_assert_int_eq(store.bytes[0], store_pattern(0));
    unmap_exposed(memory, store.size);
    close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(directory_lists_devices)
{
    ck_assert_uint_eq(count_entries(directory), 1); /* no dot entries are needed */
    device_withdraw(exposure);
    ck_assert_uint_eq(count_entries(directory), 0);
    exposure = expose(device, &store, "memory", DRAFTER_DEVICE_MAPPED);
}
END_TEST

START_TEST(withdrawn_device_gives_errors)
{
    struct exposure *disk = expose(device, &store, "disk", 0);
    int fd = open_exposed(disk, O_RDWR);
    char path[512], byte;

    snprintf(path, sizeof(path), "%s", disk->path);
    device_withdraw(disk);
    ck_assert_int_eq(pread(fd, &byte, 1, 0), -1);
    ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(store.bytes[0], store_pattern(0));
    close(fd);
}
END_TEST

struct withdrawal {
    struct exposure *exposed;
    atomic_bool done;
};

static void *withdrawal_run(void *opaque)
{
    struct withdrawal *withdrawal = opaque;

    device_withdraw(withdrawal->exposed);
    atomic_store(&withdrawal->done, true);
    return NULL;
}

START_TEST(withdraw_waits_for_calls_in_the_backend)
{
    struct withdrawal withdrawal = {.exposed = expose(device, &store, "disk", 0)};
    int fd = open_exposed(withdrawal.exposed, O_RDONLY);
    struct reader reader;
    pthread_t thread;

    store_gate(&store, 0, store.size);
    reader_start(&reader, fd, 0);
    store_await_blocked(&store, 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, withdrawal_run, &withdrawal), 0);
    usleep(100000);
    ck_assert(!atomic_load(&withdrawal.done));
    store_gate(&store, 0, 0);
    pthread_join(thread, NULL);
    pthread_join(reader.thread, NULL);
    close(fd);
}
END_TEST

START_TEST(stop_does_not_wait_for_open_files)
{
    char *memory = map_exposed(exposure, store.size), byte;
    int fd = open_exposed(exposure, O_RDWR);
    uint64_t begin = drafter_now_ns();

    memory[0] = 1;
    device_withdraw(exposure);
    device_stop(device);
    ck_assert_uint_lt(drafter_now_ns() - begin, UINT64_C(3000000000));
    ck_assert_uint_eq(count_mounts(), 0);
    ck_assert_int_eq(pread(fd, &byte, 1, 50 * PAGE), -1);
    close(fd);
    unmap_exposed(memory, store.size);
    start_at(device, directory);
    exposure = expose(device, &store, "memory", DRAFTER_DEVICE_MAPPED);
}
END_TEST

START_TEST(killed_reader_ends_at_once)
{
    struct exposure *disk = expose(device, &store, "disk", 0);
    uint64_t begin;
    pid_t child;
    char byte;
    int fd;

    store_gate(&store, 0, PAGE);
    child = fork();
    if (child == 0) {
        fd = open(disk->path, O_RDONLY | O_CLOEXEC);
        _exit(pread(fd, &byte, 1, 0) == 1 ? 0 : 1);
    }
    store_await_blocked(&store, 1);
    begin = drafter_now_ns();
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_uint_lt(drafter_now_ns() - begin, UINT64_C(2000000000));
    store_gate(&store, 0, 0);
    device_withdraw(disk);
}
END_TEST

static void ignore_signal(int number)
{
    (void)number;
}

/* A page fault that fails kills the VMM, so a signal that it survives must not end its read. */
START_TEST(signalled_reader_goes_on)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    struct exposure *disk =
        expose(device, &store, "disk", 0); /* the reader waits for the request */
    struct reader reader;
    int fd = open_exposed(disk, O_RDONLY);

    sigaction(SIGUSR1, &action, NULL);
    store_gate(&store, 0, store.size);
    reader_start(&reader, fd, 0);
    store_await_blocked(&store, 1);
    pthread_kill(reader.thread, SIGUSR1);
    usleep(150000);
    store_gate(&store, 0, 0);
    pthread_join(reader.thread, NULL);
    ck_assert_int_eq(reader.result, PAGE);
    close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(reader_killed_after_a_signal_ends_too)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    uint64_t begin;
    pid_t child;
    char *memory = map_exposed(exposure, store.size);

    store_gate(&store, 0, PAGE);
    child = fork();
    if (child == 0) {
        sigaction(SIGUSR1, &action, NULL);
        _exit(memory[0]);
    }
    store_await_blocked(&store, 1);
    kill(child, SIGUSR1);
    usleep(50000);
    begin = drafter_now_ns();
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_uint_lt(drafter_now_ns() - begin, UINT64_C(2000000000));
    store_gate(&store, 0, 0);
    unmap_exposed(memory, store.size);
}
END_TEST

/*
 * Serves a directory in a child, waits until it does, and kills it.  The child is this program anew: a
 * mere fork would inherit the locks that threads of ours hold at the moment, such as ASan's.
 */
static void leave_dead_mount(const char *where)
{
    char *const argv[] = {(char *)"device", (char *)"serve", (char *)plugin_name, (char *)where, NULL};
    posix_spawn_file_actions_t actions;
    int ready[2];
    pid_t child;
    char byte;

    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ready[1], STDOUT_FILENO);
    ck_assert_int_eq(posix_spawn(&child, "/proc/self/exe", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(reclaim_removes_a_dead_mount)
{
    struct instance *fresh = make_instance("fresh", NULL);
    struct drafter_error err = {0};
    struct exposure *exposed;
    struct statfs status;
    char where[160];

    snprintf(where, sizeof(where), "%s/dead", base);
    leave_dead_mount(where);
    ck_assert_int_eq(statfs(where, &status), -1);
    ck_assert_int_eq(errno, ENOTCONN);
    ck_assert_msg(device_reclaim(fresh, where, &err) == 0, "%s", err.message);
    start_at(fresh, where);
    exposed = expose(fresh, &store, "memory", 0);
    ck_assert_int_eq(access(exposed->path, R_OK), 0);
    device_withdraw(exposed);
    device_stop(fresh);
    instance_free(fresh);
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

START_TEST(reclaim_leaves_the_living_alone)
{
    struct instance *fresh = make_instance("fresh", NULL);
    struct drafter_error err = {0};
    struct stat status;
    char byte;
    int fd;

    ck_assert_int_eq(device_reclaim(fresh, directory, &err), -EBUSY);
    fd = open_exposed(exposure, O_RDONLY);
    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    close(fd);
    ck_assert_int_eq(device_reclaim(fresh, "/proc", &err), 0); /* not ours */
    ck_assert_int_eq(stat("/proc/self", &status), 0);
    ck_assert_int_eq(device_reclaim(fresh, base, &err), 0); /* no mount */
    instance_free(fresh);
}
END_TEST

struct hammer {
    pthread_t thread;
    int fd;
    unsigned index, errors;
};

/* Writes and reads back pages that belong to this thread alone. */
static void *hammer_run(void *opaque)
{
    struct hammer *hammer = opaque;
    char out[PAGE], in[PAGE];
    off_t offset;

    for (unsigned i = 0; i < 200; i++) {
        offset = (off_t)(hammer->index + i % 100 * 4) * (off_t)PAGE;
        memset(out, (int)(i + hammer->index), sizeof(out));
        if (pwrite(hammer->fd, out, sizeof(out), offset) != sizeof(out) ||
            pread(hammer->fd, in, sizeof(in), offset) != sizeof(in) ||
            memcmp(in, out, sizeof(in)) != 0)
            hammer->errors++;
    }
    return NULL;
}

START_TEST(concurrent_access_is_coherent)
{
    struct exposure *disk = expose(device, &store, "disk", 0);
    struct hammer hammers[4];
    int fd = open_exposed(disk, O_RDWR);

    for (unsigned i = 0; i < 4; i++) {
        hammers[i] = (struct hammer){.fd = fd, .index = i};
        pthread_create(&hammers[i].thread, NULL, hammer_run, &hammers[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(hammers[i].thread, NULL);
        ck_assert_uint_eq(hammers[i].errors, 0);
    }
    close(fd);
    device_withdraw(disk);
}
END_TEST

static void add_served(TCase *tests)
{
    const TTest *const all[] = {
        missing_block_stops_no_other_access,
        more_blocked_reads_than_threads_all_end,
        missing_page_costs_one_page,
        missing_page_costs_one_page_in_a_huge_mapping,
        present_blocks_are_read_ahead,
        backend_errors_reach_the_reader,
        failed_write_back_reaches_msync,
        guest_fsync_is_a_flush,
        punched_hole_is_a_trim,
        punched_hole_is_zeros_whatever_a_trim_leaves,
        size_is_fixed,
        readonly_device_is_not_written,
        uncached_device_is_never_stale,
        uncached_device_can_be_mapped_privately,
        directory_lists_devices,
        withdrawn_device_gives_errors,
        withdraw_waits_for_calls_in_the_backend,
        stop_does_not_wait_for_open_files,
        killed_reader_ends_at_once,
        signalled_reader_goes_on,
        reader_killed_after_a_signal_ends_too,
        reclaim_removes_a_dead_mount,
        reclaim_leaves_the_living_alone,
        concurrent_access_is_coherent,
    };

    add_all(tests, all, sizeof(all) / sizeof(*all));
}
