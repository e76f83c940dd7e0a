/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of the device suite for plugins that show block devices of the kernel, whose page cache lies
 * between the VMM and the plugin, for disks as well.  Included by device.c, whose fixture it uses.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>

START_TEST(written_disk_has_dirty_pages)
{
    struct exposure *disk = expose(device, &store, "disk", 0);
    uint64_t *map = bitmap_new(PAGES);
    struct drafter_error err = {0};
    char page[PAGE];
    int fd = open_exposed(disk, O_RDWR);

    memset(page, 0x6b, sizeof(page));
    ck_assert_int_eq(pwrite(fd, page, sizeof(page), 7 * PAGE), sizeof(page));
    ck_assert_int_eq(exposure_dirty(disk, map, PAGES, &err), 0);
    /* Either it is told, or it was written back. */
    ck_assert(bitmap_test(map, 7) || store.bytes[7 * PAGE] == 0x6b);
    sync_exposed(disk);
    ck_assert_int_eq(store.bytes[7 * PAGE], 0x6b);
    ck_assert_uint_eq(store.flushes, 0);
    close(fd);
    free(map);
    device_withdraw(disk);
}
END_TEST

START_TEST(fsync_of_the_vmm_is_a_flush)
{
    int fd = open_exposed(exposure, O_RDWR);

    ck_assert_int_eq(pwrite(fd, "x", 1, 3), 1);
    ck_assert_int_eq(fsync(fd), 0);
    ck_assert_uint_eq(store.flushes, 1);
    ck_assert_int_eq(store.bytes[3], 'x');
    store.flush_error = EIO;
    ck_assert_int_eq(fsync(fd), -1);
    ck_assert_int_eq(errno, EIO);
    store.flush_error = 0;
    close(fd);
}
END_TEST

START_TEST(discarded_range_is_a_trim)
{
    uint64_t range[2] = {4 * PAGE, 2 * PAGE};
    int fd = open_exposed(exposure, O_RDWR);
    char byte = 1;

    ck_assert_int_eq(ioctl(fd, BLKDISCARD, range), 0);
    ck_assert_uint_eq(store.trims, 1);
    ck_assert_uint_eq(store.trim_offset, 4 * PAGE);
    ck_assert_uint_eq(store.trim_length, 2 * PAGE);
    ck_assert_int_eq(pread(fd, &byte, 1, 5 * PAGE), 1);
    ck_assert_int_eq(byte, 0);
    close(fd);
}
END_TEST

/* Not every kernel can do it without help, and then says so. */
START_TEST(punched_node_is_zeros_whatever_a_trim_leaves)
{
    int fd = open_exposed(exposure, O_RDWR);

    store.trim_keeps = true;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, 2 * PAGE) == 0)
        ck_assert(store_is_zero(&store, 4 * PAGE, 2 * PAGE));
    else
        ck_assert_int_eq(errno, EOPNOTSUPP);
    ck_assert_int_eq(store.bytes[6 * PAGE], store_pattern(6 * PAGE));
    close(fd);
}
END_TEST

START_TEST(invalidate_trims_nothing)
{
    ck_assert_int_eq(exposure_invalidate(exposure, 0, 0), 0);
    ck_assert_int_eq(exposure_invalidate(exposure, PAGE + 1, 10), 0);
    ck_assert_uint_eq(store.trims, 0);
    ck_assert_int_eq(store.bytes[0], store_pattern(0));
}
END_TEST

START_TEST(readonly_node_is_not_written)
{
    struct exposure *disk = expose(device, &store, "disk", DRAFTER_DEVICE_READONLY);
    int fd = open(disk->path, O_RDWR | O_CLOEXEC);

    ck_assert_msg(fd < 0 || write(fd, "x", 1) < 0 || fsync(fd) < 0, "it can be written");
    ck_assert_uint_eq(store.writes, 0);
    if (fd >= 0)
        close(fd);
    device_withdraw(disk);
}
END_TEST

START_TEST(beyond_the_bytes_of_the_device_are_zeros)
{
    char buffer[512], zero[512] = {0}, whole[3 * PAGE];
    struct exposure *exposed;
    struct store odd;
    int fd;

    store_init(&odd, 3 * PAGE + 100);
    exposed = expose(device, &odd, "odd", 0);
    fd = open_exposed(exposed, O_RDWR);
    for (int i = 0; i < 20; i++) { /* a plugin's buffers are full of other bytes then */
        ck_assert_int_eq(exposure_invalidate(exposed, 0, 0), 0);
        ck_assert_int_eq(pread(fd, whole, sizeof(whole), 0), sizeof(whole));
        ck_assert_int_eq(pread(fd, buffer, 512, 3 * PAGE), 512);
        ck_assert_int_eq(memcmp(buffer, odd.bytes + 3 * PAGE, 100), 0);
        ck_assert_int_eq(memcmp(buffer + 100, zero, 412), 0);
    }
    memset(buffer, 0x7e, sizeof(buffer));
    ck_assert_int_eq(pwrite(fd, buffer, 512, 3 * PAGE), 512);
    ck_assert_int_eq(fsync(fd), 0);
    ck_assert_int_eq(memcmp(odd.bytes + 3 * PAGE, buffer, 100), 0);
    close(fd);
    device_withdraw(exposed);
    store_release(&odd);
}
END_TEST

/* Rounded up to sectors it would be longer than an offset can say. */
START_TEST(too_large_a_device_for_a_node_is_refused)
{
    struct drafter_device_spec spec = store_spec(&store, "endless", 0);

    spec.size = INT64_MAX;
    expect_no_device(&spec, "9223372036854775807 bytes cannot be exposed");
}
END_TEST

static bool none_present(void *opaque, uint64_t length, uint64_t offset)
{
    (void)opaque;
    (void)length;
    (void)offset;
    return false;
}

START_TEST(device_without_a_block_appears_at_once)
{
    struct drafter_device_spec spec = store_spec(&store, "empty", 0);
    struct drafter_error err = {0};
    struct exposure *empty = NULL;
    char byte;
    int fd;

    spec.backend.present = none_present;
    store_gate(&store, 0, store.size);
    ck_assert_int_eq(device_expose(device, &spec, &empty, &err), 0);
    store_gate(&store, 0, 0);
    fd = open_exposed(empty, O_RDONLY);
    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    ck_assert_int_eq(byte, store_pattern(0));
    close(fd);
    device_withdraw(empty);
}
END_TEST

/* In the kernel a request has a time limit, after which it is sent again. */
START_TEST(missing_block_may_take_longer_than_the_kernel_waits)
{
    struct instance *hasty = make_with("hasty", "timeout", "1s");
    struct exposure *disk;
    struct reader reader;
    char where[160], byte;
    int fd;

    snprintf(where, sizeof(where), "%s/other", base);
    start_at(hasty, where);
    disk = expose(hasty, &store, "disk", 0);
    fd = open_exposed(disk, O_RDWR);
    store_gate(&store, 0, PAGE);
    reader_start(&reader, fd, 0);
    store_await_blocked(&store, 3); /* that is, sent twice again */
    ck_assert_int_eq(pread(fd, &byte, 1, 50 * PAGE), 1);
    store_gate(&store, 0, 0);
    pthread_join(reader.thread, NULL);
    ck_assert_int_eq(reader.result, PAGE);
    ck_assert_int_eq(memcmp(reader.buffer, store.bytes, PAGE), 0);
    close(fd);
    device_withdraw(disk);
    device_stop(hasty);
    instance_free(hasty);
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

START_TEST(reclaim_releases_the_device_of_a_dead_process)
{
    struct instance *fresh = make_instance("fresh", NULL), *second;
    struct drafter_error err = {0};
    char where[160], path[180], byte;
    struct exposure *exposed;
    int fd;

    snprintf(where, sizeof(where), "%s/dead", base);
    snprintf(path, sizeof(path), "%s/memory", where);
    leave_dead_mount(where);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_msg(device_reclaim(fresh, where, &err) == 0, "%s", err.message);
    ck_assert_int_ne(access(path, F_OK), 0);
    start_at(fresh, where);
    exposed = expose(fresh, &store, "memory", 0);
    fd = open_exposed(exposed, O_RDONLY);
    ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
    close(fd);
    second = make_instance("second", NULL);
    ck_assert_int_eq(device_reclaim(second, where, &err), -EBUSY);
    instance_free(second);
    device_withdraw(exposed);
    device_stop(fresh);
    instance_free(fresh);
    ck_assert_int_eq(rmdir(where), 0);
}
END_TEST

static void add_nodes(TCase *tests, bool nbd)
{
    const TTest *const all[] = {
        missing_block_stops_no_other_access,
        more_blocked_reads_than_threads_all_end,
        missing_page_costs_one_page,
        written_disk_has_dirty_pages,
        fsync_of_the_vmm_is_a_flush,
        discarded_range_is_a_trim,
        punched_node_is_zeros_whatever_a_trim_leaves,
        invalidate_trims_nothing,
        readonly_node_is_not_written,
        beyond_the_bytes_of_the_device_are_zeros,
        too_large_a_device_for_a_node_is_refused,
        device_without_a_block_appears_at_once,
        withdrawn_device_gives_errors,
        withdraw_waits_for_calls_in_the_backend,
        stop_does_not_wait_for_open_files,
        killed_reader_ends_at_once,
        signalled_reader_goes_on,
        reader_killed_after_a_signal_ends_too,
        reclaim_releases_the_device_of_a_dead_process,
        concurrent_access_is_coherent,
    };

    add_all(tests, all, sizeof(all) / sizeof(*all));
    if (nbd)
        tcase_add_test(tests, missing_block_may_take_longer_than_the_kernel_waits);
}
