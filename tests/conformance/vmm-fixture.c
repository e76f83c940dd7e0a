/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/io.h"
#include "vmm.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define WAIT_MS 20000
#define SERIAL_MAX ((size_t)16 << 20)

struct vm *vm_new(const struct vmm_subject *subject, const struct vm *memory_of)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    const char *build = getenv("abs_top_builddir");
    int fd;

    ck_assert_ptr_nonnull(vm);
    vm->subject = subject;
    vm->vmm = conformance_instance(DRAFTER_KIND_VMM, subject->plugin, subject->overrides);
    snprintf(vm->directory, sizeof(vm->directory), "%s/vm.XXXXXX", conformance_directory());
    ck_assert_ptr_nonnull(mkdtemp(vm->directory));
    snprintf(vm->serial, sizeof(vm->serial), "%s/serial.log", vm->directory);
    if (memory_of)
        memcpy(vm->memory, memory_of->memory, sizeof(vm->memory));
    else
        snprintf(vm->memory, sizeof(vm->memory), "%s/memory", vm->directory);
    fd = open(vm->memory, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    /* Longer than the memory, as a padded device is. */
    ck_assert_int_eq(ftruncate(fd, (off_t)subject->memory_size + (1 << 20)), 0);
    close(fd);
    snprintf(vm->kernel, sizeof(vm->kernel), "%s/guest/testguest/%s", build ? build : ".",
             subject->kernel ? subject->kernel : "");
    vm->spec = (struct drafter_vmm_spec){
        .struct_size = sizeof(vm->spec),
        .name = "conformance",
        .directory = vm->directory,
        .memory_size = subject->memory_size,
        .cpu_count = 1,
        .boot_args = subject->boot_args,
        .memory = vm->memory,
        .kernel = subject->kernel ? vm->kernel : NULL,
        .timeout_ms = WAIT_MS,
    };
    return vm;
}

void vm_free(struct vm *vm)
{
    instance_free(vm->vmm);
    io_remove_tree(vm->directory, NULL);
    free(vm);
}

void vm_boot(struct vm *vm)
{
    struct drafter_error err = {0};

    ck_assert_msg(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err) == 0, "%s", err.message);
    ck_assert_int_eq(vmm_describe(vm->vmm, vm->machine_config, sizeof(vm->machine_config)), 0);
}

void vm_restore(struct vm *vm, const struct vm *saved)
{
    struct drafter_error err = {0};

    if (saved)
        memcpy(vm->machine_config, saved->machine_config, sizeof(vm->machine_config));
    vm->spec.machine_config = vm->machine_config;
    ck_assert_msg(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_RESTORE, &err) == 0, "%s", err.message);
}

void vm_pause(struct vm *vm)
{
    struct drafter_error err = {0};

    ck_assert_msg(vmm_pause(vm->vmm, &err) == 0, "%s", err.message);
}

void vm_resume(struct vm *vm)
{
    struct drafter_error err = {0};

    ck_assert_msg(vmm_resume(vm->vmm, &err) == 0, "%s", err.message);
}

int vm_save(struct vm *vm)
{
    struct drafter_error err = {0};
    char path[288];
    int fd;

    snprintf(path, sizeof(path), "%s/state", vm->directory);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(vmm_save(vm->vmm, fd, &err) == 0, "%s", err.message);
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

void vm_load(struct vm *vm, int state_fd)
{
    struct drafter_error err = {0};

    ck_assert_msg(vmm_load(vm->vmm, state_fd, &err) == 0, "%s", err.message);
}

/* ---- heartbeats */

/*
 * Scans the serial log: the number of the first and last whole heartbeat line, 0 for none.  A
 * restored guest may begin in the middle of a line.
 */
static bool scan(const struct vm *vm, unsigned long *ret_first, unsigned long *ret_last)
{
    char *text = NULL, *rest, *line;
    size_t length;
    bool sound = true;

    *ret_first = *ret_last = 0;
    if (io_read_file(vm->serial, SERIAL_MAX, &text, &length, NULL) < 0)
        return true;
    if (strrchr(text, '\n'))
        strrchr(text, '\n')[0] = '\0';
    else
        *text = '\0';
    for (rest = text; (line = strsep(&rest, "\n"));) {
        unsigned long beat;

        if (strncmp(line, "BAD", 3) == 0 && sound)
            printf("guest: %s\n", line);
        sound = sound && strncmp(line, "BAD", 3) != 0;
        if (sscanf(line, "HB %lu ", &beat) != 1)
            continue;
        ck_assert_msg(!*ret_last || beat == *ret_last + 1, "after heartbeat %lu came %lu",
                      *ret_last, beat);
        *ret_first = *ret_first ? *ret_first : beat;
        *ret_last = beat;
    }
    free(text);
    return sound;
}

unsigned long vm_beats(const struct vm *vm)
{
    unsigned long first, last;

    ck_assert_msg(scan(vm, &first, &last), "the guest's memory is damaged");
    return last;
}

unsigned long vm_first_beat(const struct vm *vm)
{
    uint64_t end = conformance_now_ms() + WAIT_MS;
    unsigned long first, last;

    do {
        ck_assert_msg(scan(vm, &first, &last), "the guest's memory is damaged");
        if (first)
            return first;
        conformance_sleep_ms(2);
    } while (conformance_now_ms() < end);
    ck_abort_msg("no heartbeat");
}

void vm_wait_beats(const struct vm *vm, unsigned long count)
{
    uint64_t end = conformance_now_ms() + WAIT_MS;
    unsigned long from = vm_beats(vm);

    while (vm_beats(vm) < from + count) {
        ck_assert_msg(conformance_now_ms() < end, "the guest does not run");
        conformance_sleep_ms(2);
    }
}

bool vm_complains(const struct vm *vm, unsigned timeout_ms)
{
    uint64_t end = conformance_now_ms() + timeout_ms;
    unsigned long first, last;

    do {
        if (!scan(vm, &first, &last))
            return true;
        conformance_sleep_ms(5);
    } while (conformance_now_ms() < end);
    return false;
}
