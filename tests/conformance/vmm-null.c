/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the null VMM promises: it notices each wrong page, and it fails on request. */
#include "util/io.h"
#include "vmm.h"
#include <fcntl.h>
#include <stdio.h>

static const struct vmm_subject *subject;

/* A saved VM, its state, and its memory file. */
static struct vm *saved(const struct vmm_subject *of, int *ret_state, int *ret_memory)
{
    struct vm *vm = vm_new(of, NULL);

    vm_boot(vm);
    vm_wait_beats(vm, 20);
    vm_pause(vm);
    *ret_state = vm_save(vm);
    *ret_memory = open(vm->memory, O_RDWR | O_CLOEXEC);
    return vm;
}

static void put(int memory, uint64_t page, const void *data)
{
    ck_assert_int_eq(io_pwrite_full(memory, data, DRAFTER_PAGE_SIZE, page * DRAFTER_PAGE_SIZE), 0);
}

static void get(int memory, uint64_t page, void *data)
{
    ck_assert_int_eq(io_pread_full(memory, data, DRAFTER_PAGE_SIZE, page * DRAFTER_PAGE_SIZE), 0);
}

static void expect_load_error(struct vm *first, int state, const char *fragment)
{
    struct vm *second = vm_new(subject, first);
    struct drafter_error err = {0};

    ck_assert_int_eq(lseek(state, 0, SEEK_SET), 0);
    vm_restore(second, first);
    conformance_expect_error(vmm_load(second->vmm, state, &err), EBADMSG, &err, fragment);
    vm_free(second);
}

START_TEST(each_kind_of_wrong_page_is_named)
{
    int state, memory;
    struct vm *vm = saved(subject, &state, &memory);
    char good[DRAFTER_PAGE_SIZE], page[DRAFTER_PAGE_SIZE] = {0};

    get(memory, 17, good);
    put(memory, 17, page);
    expect_load_error(vm, state, "page 17 is lost");
    memcpy(page, good, sizeof(page));
    page[sizeof(page) - 1] ^= 1;
    put(memory, 17, page);
    expect_load_error(vm, state, "page 17 is torn");
    get(memory, 18, page);
    put(memory, 17, page);
    expect_load_error(vm, state, "page 17 holds page 18");
    page[0] ^= 1;
    put(memory, 17, page);
    expect_load_error(vm, state, "page 17 is foreign");
    put(memory, 17, good);
    close(state);
    close(memory);
    vm_free(vm);
}
END_TEST

START_TEST(a_stale_page_is_named_with_its_version)
{
    int state, memory;
    struct vm *vm = saved(subject, &state, &memory);
    char(*before)[DRAFTER_PAGE_SIZE] = malloc(subject->memory_size), now[DRAFTER_PAGE_SIZE];
    uint64_t pages = subject->memory_size / DRAFTER_PAGE_SIZE, page;

    ck_assert_ptr_nonnull(before);
    for (page = 0; page < pages; page++)
        get(memory, page, before[page]);
    vm_resume(vm);
    vm_wait_beats(vm, 20);
    vm_pause(vm);
    close(state);
    state = vm_save(vm);
    for (page = 0; page < pages; page++) {
        get(memory, page, now);
        if (memcmp(now, before[page], sizeof(now)) != 0)
            break;
    }
    ck_assert_msg(page < pages, "the guest dirties nothing");
    put(memory, page, before[page]);
    expect_load_error(vm, state, "is stale");
    put(memory, page, now);
    free(before);
    close(state);
    close(memory);
    vm_free(vm);
}
END_TEST

START_TEST(background_verification_stops_the_guest_at_a_bad_page)
{
    struct vmm_subject lazy = *subject;
    int state, memory;
    struct vm *first, *second;
    struct drafter_error err = {0};
    char zeros[DRAFTER_PAGE_SIZE] = {0};

    lazy.overrides[2] = "verify";
    lazy.overrides[3] = "background";
    lazy.overrides[4] = "dirty-rate";
    lazy.overrides[5] = "0";
    first = saved(&lazy, &state, &memory);
    second = vm_new(&lazy, first);
    put(memory, 900, zeros);
    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(second);
    ck_assert(vm_complains(second, 5000));
    conformance_expect_error(vmm_pause(second->vmm, &err), EBADMSG, &err, "page 900 is lost");
    close(state);
    close(memory);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(two_vms_never_run_on_one_memory)
{
    int state, memory;
    struct vm *first = saved(subject, &state, &memory), *second = vm_new(subject, first);
    struct drafter_error err = {0};

    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(first);
    conformance_expect_error(vmm_resume(second->vmm, &err), EBUSY, &err, "another VM runs");
    vm_pause(first);
    close(state);
    close(memory);
    vm_free(second);
    vm_free(first);
}
END_TEST

static const char *const faults[] = {"fail-start", "fail-pause", "fail-save", "fail-resume",
                                     "fail-load"};

/* Boots, pauses, saves and resumes, and loads in another VM: the result of the step that failed. */
static int life(const struct vmm_subject *of, struct drafter_error *err)
{
    struct vm *first = vm_new(of, NULL), *second = vm_new(of, first);
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int result = vmm_start(first->vmm, &first->spec, DRAFTER_VMM_BOOT, err);

    if (result == 0)
        result = vmm_describe(first->vmm, first->machine_config, sizeof(first->machine_config));
    if (result == 0)
        result = vmm_pause(first->vmm, err);
    if (result == 0)
        result = vmm_save(first->vmm, fd, err);
    if (result == 0)
        result = vmm_resume(first->vmm, err);
    if (result == 0)
        vm_pause(first);
    if (result == 0) {
        close(fd);
        fd = vm_save(first);
        vm_restore(second, first);
        result = vmm_load(second->vmm, fd, err);
    }
    close(fd);
    vm_free(second);
    vm_free(first);
    return result;
}

START_TEST(the_configured_call_fails)
{
    struct vmm_subject faulty = *subject;
    struct drafter_error err = {0};

    ck_assert_msg(life(&faulty, &err) == 0, "%s", err.message);
    faulty.overrides[2] = faults[_i];
    faulty.overrides[3] = "1";
    conformance_expect_error(life(&faulty, &err), EIO, &err, faults[_i] + 5);
    faulty.overrides[3] = "9";
    ck_assert_msg(life(&faulty, &err) == 0, "%s", err.message);
}
END_TEST

START_TEST(drives_are_part_of_the_pattern)
{
    struct vmm_subject with_drive = *subject;
    struct drafter_vmm_device drive = {
        .name = "disk", .path = conformance_path("disk"), .drive = true};
    struct vm *first, *second;
    char zeros[DRAFTER_PAGE_SIZE] = {0};
    int disk = open(drive.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), state;
    struct drafter_error err = {0};

    ck_assert_int_eq(ftruncate(disk, 1 << 20), 0);
    with_drive.overrides[2] = "disk-rate";
    with_drive.overrides[3] = "2000";
    first = vm_new(&with_drive, NULL);
    first->spec.devices = &drive;
    first->spec.device_count = 1;
    vm_boot(first);
    vm_wait_beats(first, 10);
    vm_pause(first);
    state = vm_save(first);
    vmm_stop(first->vmm);
    put(disk, 200, zeros);
    second = vm_new(&with_drive, first);
    second->spec.devices = &drive;
    second->spec.device_count = 1;
    vm_restore(second, first);
    conformance_expect_error(vmm_load(second->vmm, state, &err), EBADMSG, &err, "disk: page 200");
    close(disk);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

void vmm_null_cases(Suite *suite, const struct vmm_subject *null_subject)
{
    TCase *cases = tcase_create("null");

    subject = null_subject;
    tcase_set_timeout(cases, 30);
    tcase_add_test(cases, each_kind_of_wrong_page_is_named);
    tcase_add_test(cases, a_stale_page_is_named_with_its_version);
    tcase_add_test(cases, background_verification_stops_the_guest_at_a_bad_page);
    tcase_add_test(cases, two_vms_never_run_on_one_memory);
    tcase_add_loop_test(cases, the_configured_call_fails, 0,
                        (int)(sizeof(faults) / sizeof(faults[0])));
    tcase_add_test(cases, drives_are_part_of_the_pattern);
    suite_add_tcase(suite, cases);
}
