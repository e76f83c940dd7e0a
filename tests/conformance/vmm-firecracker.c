/* SPDX-License-Identifier: BSD-2-Clause */
/* What only Firecracker promises: a guest that dials, drives by name, a strict description. */
#include "util/cleanup.h"
#include "util/io.h"
#include "vm/agent.h"
#include "vmm.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SUBJECTS_MAX 4

static const struct vmm_subject *subjects[SUBJECTS_MAX];
static int subject_count;

/* The directory that Firecracker works in, or NULL; both kinds have it below the test's directory. */
static bool root_of(const struct vm *vm, char *root, size_t size)
{
    const char *const *word = vm->subject->overrides;
    char path[600];
    const struct dirent *program, *id;
    bool found = false;
    DIR *base, *jails;

    for (; word[0] && strcmp(word[0], "chroot-base-dir") != 0; word += 2)
        ;
    if (!word[0]) {
        snprintf(root, size, "%s/root", vm->directory);
        return access(root, F_OK) == 0;
    }
    base = opendir(word[1]);
    while (base && !found && (program = readdir(base))) {
        snprintf(path, sizeof(path), "%s/%s", word[1], program->d_name);
        jails = *program->d_name == '.' ? NULL : opendir(path);
        while (jails && !found && (id = readdir(jails))) {
            snprintf(root, size, "%s/%s/root", path, id->d_name);
            found = *id->d_name != '.' && access(root, F_OK) == 0;
        }
        if (jails)
            closedir(jails);
    }
    if (base)
        closedir(base);
    return found;
}

/* Comes as Firecracker does when the guest has dialled; -1 when nobody listens. */
static int dial(const struct vm *vm, const char *name)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    char root[1024];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), directory;

    ck_assert(root_of(vm, root, sizeof(root)));
    directory = open(root, O_PATH | O_CLOEXEC);
    snprintf(where.sun_path, sizeof(where.sun_path), "/proc/self/fd/%d/%s", directory, name);
    if (connect(fd, (const struct sockaddr *)&where, sizeof(where)) < 0) {
        close(fd);
        fd = -1;
    }
    close(directory);
    return fd;
}

START_TEST(a_guest_that_dials_is_heard_while_it_runs)
{
    struct vm *vm = vm_new(subjects[_i], NULL);
    struct drafter_error err = {0};
    int guest, late, host = -1;
    char byte = 'x';

    vm_boot(vm);
    conformance_expect_error(vmm_channel(vm->vmm, "agent", &host, &err), EAGAIN, &err, "port 26");
    guest = dial(vm, "vsock.sock_26");
    ck_assert_int_ge(guest, 0);
    ck_assert_msg(vmm_channel(vm->vmm, "agent", &host, &err) == 0, "%s", err.message);
    ck_assert_int_eq(write(guest, &byte, 1), 1);
    ck_assert_int_eq(read(host, &byte, 1), 1);
    close(host);
    late = dial(vm, "vsock.sock_26");
    vm_pause(vm);
    ck_assert_int_le(read(late, &byte, 1), 0); /* no connection is open when it is saved */
    ck_assert_int_lt(dial(vm, "vsock.sock_26"), 0);
    ck_assert_int_lt(vmm_channel(vm->vmm, "agent", &host, &err), 0);
    vm_resume(vm);
    close(guest);
    close(late);
    guest = dial(vm, "vsock.sock_26");
    ck_assert_int_eq(vmm_channel(vm->vmm, "agent", &host, &err), 0);
    close(guest);
    close(host);
    ck_assert_int_eq(vmm_channel(vm->vmm, "console", &host, &err), -ENOTSUP);
    vm_free(vm);
}
END_TEST

START_TEST(a_guest_that_came_and_left_was_alive)
{
    struct vm *vm = vm_new(subjects[_i], NULL);
    struct drafter_error err = {0};
    int guest, host = -1;
    char byte;

    vm_boot(vm);
    guest = dial(vm, "vsock.sock_25");
    close(guest);
    ck_assert_msg(vmm_channel(vm->vmm, "liveness", &host, &err) == 0, "%s", err.message);
    ck_assert_int_eq(read(host, &byte, 1), 1);
    close(host);
    vm_free(vm);
}
END_TEST

/* Answers the call that comes, whatever it is. */
static void answer_call(int guest)
{
    char text[512] = "", answer[300];
    const char *call;
    size_t used = 0;

    while (used < sizeof(text) - 1 && (used < 3 || text[used - 1] != '\n'))
        if (read(guest, text + used, 1) == 1)
            used++;
        else
            return;
    call = strstr(text, "\"call\":\"");
    snprintf(answer, sizeof(answer), "{\"request\":null,\"response\":{\"call\":\"%.*s\",\"err\":\"\"}}\n",
             call ? (int)strcspn(call + 8, "\"") : 0, call ? call + 8 : "");
    ck_assert_int_eq(io_write_full(guest, answer, strlen(answer)), 0);
}

/* A connection of an agent that has ended since, then the one of its successor. */
static void *agent_main(void *opaque)
{
    int guest = dial(opaque, "vsock.sock_26");

    conformance_sleep_ms(20);
    close(guest);
    conformance_sleep_ms(50);
    guest = dial(opaque, "vsock.sock_26");
    answer_call(guest);
    close(guest);
    return NULL;
}

START_TEST(a_hook_waits_for_an_agent_that_lives)
{
    struct vm *vm = vm_new(subjects[_i], NULL);
    struct drafter_error err = {0};
    pthread_t agent;

    vm_boot(vm);
    ck_assert_int_eq(agent_hook(vm->vmm, "BeforeSuspend", NULL, 50, &err), -ETIMEDOUT);
    agent = conformance_thread(agent_main, vm);
    ck_assert_msg(agent_hook(vm->vmm, "BeforeSuspend", NULL, 5000, &err) == 0, "%s", err.message);
    conformance_join(agent);
    vm_free(vm);
}
END_TEST

static void make_file(const struct vm *vm, const char *name, char *path, size_t size)
{
    int fd;

    snprintf(path, size, "%s/%s.img", vm->directory, name);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    close(fd);
}

START_TEST(drives_are_found_by_name_and_survive_a_restore)
{
    char path[2][300];
    struct drafter_vmm_device drives[] = {
        {.name = "kernel", .path = "/nonexistent", .drive = false},
        {.name = "disk", .path = path[0], .drive = true},
        {.name = "oci-image", .path = path[1], .drive = true, .readonly = true},
    };
    struct vm *first = vm_new(subjects[_i], NULL), *second = vm_new(subjects[_i], first);
    char root[1024], place[1100];
    int state;

    make_file(first, "disk", path[0], sizeof(path[0]));
    make_file(first, "oci", path[1], sizeof(path[1]));
    first->spec.devices = second->spec.devices = drives;
    first->spec.device_count = second->spec.device_count = 3;
    vm_boot(first);
    ck_assert_msg(strstr(first->machine_config, "drives=disk,oci-image"), "%s",
                  first->machine_config);
    ck_assert(root_of(first, root, sizeof(root)));
    snprintf(place, sizeof(place), "%s/oci-image", root);
    ck_assert_int_eq(access(place, R_OK), 0);
    vm_wait_beats(first, 5);
    vm_pause(first);
    state = vm_save(first);
    vmm_stop(first->vmm);
    ck_assert(access(root, F_OK) < 0);
    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(second);
    vm_wait_beats(second, 5);
    close(state);
    vm_free(second);
    vm_free(first);
    ck_assert(access(path[0], F_OK) < 0); /* it lay in the VM's directory, which is gone */
}
END_TEST

START_TEST(names_that_the_directory_needs_are_no_drives)
{
    static const char *const names[] = {"memory", "state", "dev", "vsock.sock", "../x", "a/b", ""};
    struct vm *vm = vm_new(subjects[_i], NULL);
    struct drafter_vmm_device drive = {.path = "/dev/null", .drive = true};

    vm->spec.devices = &drive;
    vm->spec.device_count = 1;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct drafter_error err = {0};

        drive.name = names[i];
        conformance_expect_error(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), EINVAL, &err,
                                 "name of a drive");
    }
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

START_TEST(a_tampered_description_is_refused)
{
    static const char *const changes[][2] = {
        {"layout=1", "layout=2"},           {"template=None", "template=../x"},
        {"cpus=1", "cpus=1x"},              {"cpus=1", "cpus=-1"},
        {"tap=none", "tap=a b"},            {"tap=none", "tap=none tap=none"},
        {"tap=none", "tap=tap0"},           {"memory=", "memory=9"},
        {"drives=", "drives=../../disk"},   {"drives=", "drives=x"},
        {" drives=", ""},                   {" drives=", "  drives="},
    };
    struct vm *vm = vm_new(subjects[_i], NULL);
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
    }
    vm->spec.machine_config = good;
    vm_restore(vm, NULL);
    vm_free(vm);
}
END_TEST

static void wait_filled(const struct vm *vm)
{
    uint64_t end = conformance_now_ms() + 30000;
    char *text = NULL;
    size_t length;
    bool filled = false;

    while (!filled && conformance_now_ms() < end) {
        conformance_sleep_ms(20);
        filled = io_read_file(vm->serial, 1 << 20, &text, &length, NULL) == 0 && strstr(text, "READY");
        free(steal(&text));
    }
    ck_assert_msg(filled, "the guest does not fill its memory");
}

START_TEST(damaged_memory_is_noticed_by_the_guest)
{
    struct vm *first = vm_new(subjects[_i], NULL), *second = vm_new(subjects[_i], first);
    char zeros[16 * DRAFTER_PAGE_SIZE] = {0};
    int memory, state;

    first->spec.boot_args = "fill=1 key=7 check=1"; /* each instruction may be emulated */
    vm_boot(first);
    wait_filled(first);
    vm_pause(first);
    state = vm_save(first);
    vmm_stop(first->vmm);
    memory = open(first->memory, O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(pwrite(memory, zeros, sizeof(zeros), 512 * 4096), sizeof(zeros));
    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(second);
    ck_assert_msg(vm_complains(second, 20000), "the guest goes on with pages of zeros");
    close(memory);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

/* A base of this length, below the test's directory, whose parts are not too long. */
static const char *make_base(char *base, size_t length)
{
    size_t at = (size_t)snprintf(base, PATH_MAX, "%s/", conformance_directory());

    for (; at < length; at++)
        base[at] = at % 100 ? 'j' : '/';
    base[length] = '\0';
    return base;
}

START_TEST(a_jail_whose_path_is_too_long_is_refused_before_it_is_made)
{
    struct vmm_subject deep = *subjects[_i];
    struct drafter_error err = {0};
    char base[PATH_MAX];
    const char **word = deep.overrides;
    struct vm *vm;

    for (; word[0] && strcmp(word[0], "chroot-base-dir") != 0; word += 2)
        ;
    if (!word[0])
        return; /* without a jailer only the VM's directory has a length */
    word[1] = make_base(base, PATH_MAX - 64);
    vm = vm_new(&deep, NULL);
    ck_assert_int_eq(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), -ENAMETOOLONG);
    ck_assert_msg(strstr(err.message, "the directory of the jail is longer than"), "%s", err.message);
    strchr(base + strlen(conformance_directory()) + 1, '/')[0] = '\0';
    ck_assert_msg(access(base, F_OK) < 0, "%s was made", base);
    vm_free(vm);
}
END_TEST

/* A VM whose Firecracker has not much time for an answer. */
static struct vm *boot_impatient(struct vmm_subject *impatient)
{
    const char **word = impatient->overrides;
    struct vm *vm;

    while (*word)
        word += 2;
    word[0] = "timeout";
    word[1] = "500ms";
    vm = vm_new(impatient, NULL);
    vm->spec.timeout_ms = 20000;
    vm_boot(vm);
    vm_wait_beats(vm, 5);
    return vm;
}

typedef int operation_fn(struct instance *vmm, struct drafter_error *err);

/* While the process does nothing; it goes on afterwards. */
static void run_late(const struct vm *vm, operation_fn *operation)
{
    struct drafter_error err = {0};

    int result;

    ck_assert_int_eq(kill(vmm_pid(vm->vmm), SIGSTOP), 0);
    result = operation(vm->vmm, &err);
    if (result < 0 || operation != vmm_gather) /* which has nothing to do when memory is shared */
        conformance_expect_error(result, ETIMEDOUT, &err, "does not answer");
    ck_assert_int_eq(kill(vmm_pid(vm->vmm), SIGCONT), 0);
    conformance_sleep_ms(200); /* in which it is done, and taken back */
}

START_TEST(a_guest_that_could_not_be_paused_in_time_runs_on)
{
    struct vmm_subject impatient = *subjects[_i];
    struct vm *vm = boot_impatient(&impatient);

    run_late(vm, vmm_pause);
    vm_wait_beats(vm, 20);
    run_late(vm, vmm_gather);
    vm_wait_beats(vm, 20);
    vm_pause(vm);
    vm_free(vm);
}
END_TEST

START_TEST(a_guest_that_could_not_be_resumed_in_time_stays_paused)
{
    struct vmm_subject impatient = *subjects[_i];
    struct vm *vm = boot_impatient(&impatient);
    unsigned long beats;

    vm_pause(vm);
    run_late(vm, vmm_resume);
    beats = vm_beats(vm);
    conformance_sleep_ms(200);
    ck_assert_uint_eq(vm_beats(vm), beats);
    vm_resume(vm);
    vm_wait_beats(vm, 20);
    vm_free(vm);
}
END_TEST

void vmm_firecracker_cases(Suite *suite, const struct vmm_subject *subject)
{
    static const TTest *const *const tests[] = {
        &a_guest_that_dials_is_heard_while_it_runs, &a_guest_that_came_and_left_was_alive,
        &a_hook_waits_for_an_agent_that_lives,
        &drives_are_found_by_name_and_survive_a_restore,
        &names_that_the_directory_needs_are_no_drives, &a_tampered_description_is_refused,
        &damaged_memory_is_noticed_by_the_guest,
        &a_jail_whose_path_is_too_long_is_refused_before_it_is_made,
        &a_guest_that_could_not_be_paused_in_time_runs_on,
        &a_guest_that_could_not_be_resumed_in_time_stays_paused,
    };
    TCase *cases = tcase_create("firecracker");

    subjects[subject_count] = subject;
    tcase_set_timeout(cases, 60);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_loop_test(cases, *tests[i], subject_count, subject_count + 1);
    subject_count++;
    suite_add_tcase(suite, cases);
}
