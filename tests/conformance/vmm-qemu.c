/* SPDX-License-Identifier: BSD-2-Clause */
/* What only QEMU promises: channels, drives, a strict description of the saved machine. */
#include "vmm.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

static const struct vmm_subject *subject;

START_TEST(channels_connect_and_others_do_not_exist)
{
    struct vm *vm = vm_new(subject, NULL);
    struct drafter_error err = {0};
    int fd = -1;

    vm_boot(vm);
    ck_assert_msg(vmm_channel(vm->vmm, "agent", &fd, &err) == 0, "%s", err.message);
    close(fd);
    ck_assert_msg(vmm_channel(vm->vmm, "liveness", &fd, &err) == 0, "%s", err.message);
    close(fd);
    ck_assert_int_eq(vmm_channel(vm->vmm, "console", &fd, &err), -ENOTSUP);
    vm_free(vm);
}
END_TEST

/* One word of the description replaced by another. */
static void replaced(const char *text, const char *from, const char *to, char *out, size_t size)
{
    const char *at = strstr(text, from);

    ck_assert_msg(at, "\"%s\" lacks %s", text, from);
    snprintf(out, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

START_TEST(a_tampered_description_never_reaches_the_command_line)
{
    static const char *const changes[][2] = {
        {"machine=microvm", "machine=microvm,memory-backend=x"},
        {"machine=microvm", "machine=none"},
        {"accel=tcg", "accel=kvm"},
        {"accel=tcg", "accel=tcg,thread=single"},
        {"cpu=max", "cpu=max\ttab"},
        {"cpu=max", "cpu=max cpu=max"},
        {"cpu=max", "cpu="},
        {"cpus=1", "cpus=1x"},
        {"cpus=1", "cpus=-1"},
        {"cpus=1", "cpus=999999999999999999999"},
        {"layout=1", "layout=2"},
        {"layout=1 ", ""},
        {"nic=none", "nic=socket"},
        {"nic=none", "nic=tap"},
        {"nic=none", "nic=none file=/etc/passwd"},
        {"drives=", "drives=disk"},
        {"drives=", "drives=../../disk"},
        {"drives=", "drives=d,d"},
        {"drives=", "drives=a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"},
        {" drives=", ""},
        {" drives=", "  drives="},
    };
    struct vm *vm = vm_new(subject, NULL);
    char good[2048], bad[4096];

    vm_boot(vm);
    memcpy(good, vm->machine_config, sizeof(good));
    vmm_stop(vm->vmm);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct drafter_error err = {0};

        replaced(good, changes[i][0], changes[i][1], bad, sizeof(bad));
        vm->spec.machine_config = bad;
        ck_assert_msg(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_RESTORE, &err) == -EINVAL,
                      "accepted: %s (%s)", bad, err.message);
        ck_assert_msg(!strchr(changes[i][1], ',') || strstr(err.message, " cannot be \""),
                      "parsed: %s (%s)", bad, err.message);
    }
    vm->spec.machine_config = good;
    vm_restore(vm, NULL);
    vm_free(vm);
}
END_TEST

/*
 * A Linux guest gets no interrupt from slot 0, and calls the drive in the highest slot vda: neither
 * shows with the test guest, which has no drivers.
 */
static void expect_slots(pid_t pid)
{
    char path[64], line[16384];
    int fd;
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    length = read(fd, line, sizeof(line) - 1);
    close(fd);
    ck_assert_int_gt(length, 0);
    for (ssize_t i = 0; i < length; i++)
        line[i] = line[i] ? line[i] : ' ';
    line[length] = '\0';
    ck_assert_msg(!strstr(line, "virtio-mmio-bus.0"), "%s", line);
    ck_assert_msg(strstr(line, "virtio-mmio-bus.23,drive=drive0,serial=disk,"), "%s", line);
    ck_assert_msg(strstr(line, "virtio-mmio-bus.22,drive=drive1,serial=data,"), "%s", line);
}

START_TEST(drives_and_a_network_card_survive_a_restore)
{
    struct vmm_subject full = *subject;
    char path[2][300];
    struct drafter_vmm_device drives[] = {
        {.name = "kernel", .path = "/nonexistent", .drive = false},
        {.name = "disk", .path = path[0], .drive = true},
        {.name = "data", .path = path[1], .drive = true, .readonly = true},
    };
    struct vm *first, *second;
    int state;

    full.overrides[3] = "user";
    first = vm_new(&full, NULL);
    second = vm_new(&full, first);
    for (int i = 0; i < 2; i++) {
        int fd;

        snprintf(path[i], sizeof(path[i]), "%s/drive,%d", first->directory, i);
        fd = open(path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
        close(fd);
    }
    first->spec.devices = second->spec.devices = drives;
    first->spec.device_count = second->spec.device_count = 3;
    vm_boot(first);
    ck_assert_msg(strstr(first->machine_config, "nic=user") &&
                      strstr(first->machine_config, "drives=disk,data"),
                  "%s", first->machine_config);
    expect_slots(vmm_pid(first->vmm));
    vm_wait_beats(first, 5);
    vm_pause(first);
    state = vm_save(first);
    vm_restore(second, first);
    expect_slots(vmm_pid(second->vmm));
    vm_load(second, state);
    vmm_stop(first->vmm);
    vm_resume(second);
    vm_wait_beats(second, 10);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(drives_in_another_order_are_refused)
{
    struct drafter_vmm_device drives[] = {{.name = "a", .path = "/dev/null", .drive = true},
                                          {.name = "b", .path = "/dev/null", .drive = true}};
    struct vm *vm = vm_new(subject, NULL);
    struct drafter_error err = {0};
    char other[2048];

    vm_boot(vm);
    replaced(vm->machine_config, "drives=", "drives=b,a", other, sizeof(other));
    vmm_stop(vm->vmm);
    vm->spec.devices = drives;
    vm->spec.device_count = 2;
    vm->spec.machine_config = other;
    conformance_expect_error(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_RESTORE, &err), EINVAL, &err,
                             "drive 1");
    vm_free(vm);
}
END_TEST

START_TEST(a_state_beyond_the_bound_is_refused_by_its_header)
{
    const uint64_t length = ((uint64_t)64 << 20) + 1;
    struct vm *first = vm_new(subject, NULL), *second = vm_new(subject, first);
    struct drafter_error err = {0};
    int state;

    vm_boot(first);
    vm_pause(first);
    state = vm_save(first);
    ck_assert_int_eq(pwrite(state, &length, sizeof(length), 8), sizeof(length));
    vm_restore(second, first);
    conformance_expect_error(vmm_load(second->vmm, state, &err), EBADMSG, &err, "cannot be");
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

/* What is said ahead of a resume does not survive other commands. */
START_TEST(a_loaded_guest_that_is_saved_at_once_goes_on_all_the_same)
{
    struct vm *first = vm_new(subject, NULL), *second = vm_new(subject, first);
    int state, again;

    vm_boot(first);
    vm_wait_beats(first, 5);
    vm_pause(first);
    state = vm_save(first);
    vmm_stop(first->vmm);
    vm_restore(second, first);
    vm_load(second, state);
    again = vm_save(second);
    vm_resume(second);
    vm_wait_beats(second, 10);
    close(again);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

/* Foreseen or not. */
START_TEST(a_guest_that_could_not_be_paused_in_time_runs_on)
{
    struct vmm_subject impatient = *subject;
    struct drafter_error err = {0};
    struct vm *vm;

    impatient.overrides[4] = "timeout";
    impatient.overrides[5] = "300ms";
    vm = vm_new(&impatient, NULL);
    vm_boot(vm);
    vm_wait_beats(vm, 5);
    ck_assert_msg(!_i || vmm_foresee(vm->vmm, &err) == 0, "%s", err.message);
    ck_assert_int_eq(kill(vmm_pid(vm->vmm), SIGSTOP), 0);
    conformance_expect_error(vmm_pause(vm->vmm, &err), ETIMEDOUT, &err, "in time");
    ck_assert_int_eq(kill(vmm_pid(vm->vmm), SIGCONT), 0);
    conformance_sleep_ms(100); /* in which it is paused, and let go on */
    vm_wait_beats(vm, 20);
    vm_free(vm);
}
END_TEST

START_TEST(damaged_memory_is_noticed_by_the_guest)
{
    struct vm *first = vm_new(subject, NULL), *second = vm_new(subject, first);
    char zeros[DRAFTER_PAGE_SIZE] = {0};
    int memory, state;

    vm_boot(first);
    vm_wait_beats(first, 30);
    vm_pause(first);
    state = vm_save(first);
    vmm_stop(first->vmm);
    memory = open(first->memory, O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(pwrite(memory, zeros, sizeof(zeros), (512 + 100) * 4096), sizeof(zeros));
    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(second);
    ck_assert_msg(vm_complains(second, 10000), "the guest goes on with a page of zeros");
    close(memory);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(a_program_that_is_missing_is_named)
{
    struct vmm_subject missing = *subject;
    struct drafter_error err = {0};
    struct drafter_vmm_facts facts;
    struct vm *vm;

    missing.overrides[4] = "binary";
    missing.overrides[5] = "qemu-of-nowhere";
    vm = vm_new(&missing, NULL);
    conformance_expect_error(vmm_facts(vm->vmm, &facts, &err), ENOENT, &err, "qemu-of-nowhere");
    conformance_expect_error(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), ENOENT, &err,
                             "qemu-of-nowhere");
    vm_free(vm);
}
END_TEST

START_TEST(the_accelerator_is_proved)
{
    struct vmm_subject automatic = *subject;
    struct drafter_error err = {0};
    struct drafter_vmm_facts facts;
    struct vm *vm;

    automatic.overrides[1] = "auto";
    vm = vm_new(&automatic, NULL);
    ck_assert_msg(vmm_facts(vm->vmm, &facts, &err) == 0, "%s", err.message);
    ck_assert(strcmp(facts.accelerator, "tcg") == 0 || strcmp(facts.accelerator, "kvm") == 0);
    /* Whatever was chosen runs a guest. */
    vm_boot(vm);
    vm_wait_beats(vm, 5);
    vm_free(vm);
}
END_TEST

void vmm_qemu_cases(Suite *suite, const struct vmm_subject *qemu_subject)
{
    TCase *cases = tcase_create("qemu");

    subject = qemu_subject;
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, channels_connect_and_others_do_not_exist);
    tcase_add_test(cases, a_tampered_description_never_reaches_the_command_line);
    tcase_add_test(cases, drives_and_a_network_card_survive_a_restore);
    tcase_add_test(cases, drives_in_another_order_are_refused);
    tcase_add_test(cases, a_state_beyond_the_bound_is_refused_by_its_header);
    tcase_add_test(cases, a_loaded_guest_that_is_saved_at_once_goes_on_all_the_same);
    tcase_add_loop_test(cases, a_guest_that_could_not_be_paused_in_time_runs_on, 0, 2);
    tcase_add_test(cases, damaged_memory_is_noticed_by_the_guest);
    tcase_add_test(cases, a_program_that_is_missing_is_named);
    tcase_add_test(cases, the_accelerator_is_proved);
    suite_add_tcase(suite, cases);
}
