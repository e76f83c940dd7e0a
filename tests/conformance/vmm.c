/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of drafter/vmm.h over every VMM plugin.  The guest is one that proves its own
 * continuity: it numbers its heartbeats and complains when its memory is not as it left it.
 */
#include "vmm.h"
#include "util/io.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define GUEST_WORDS "fill=8 dirty=2 rate=20000 key=7 check=1 write=sparse"

static struct vmm_subject subjects[] = {
    {.plugin = "null", .memory_size = 4 << 20, .overrides = {"heartbeat", "3ms"}},
    {.plugin = "qemu",
     .memory_size = 16 << 20,
     .boot_args = GUEST_WORDS,
     .overrides = {"accelerator", "tcg", "net", "none"},
     .process = true,
     .kernel = "testguest-pvh.elf"},
    {.plugin = "firecracker",
     .memory_size = 16 << 20,
     .boot_args = GUEST_WORDS,
     .overrides = {"firecracker-bin", "firecracker"},
     .process = true,
     .kernel = "testguest-fc.elf"},
    {.plugin = "firecracker",
     .memory_size = 16 << 20,
     .boot_args = GUEST_WORDS,
     .overrides = {"firecracker-bin", "firecracker", "map-private", "yes"},
     .process = true,
     .kernel = "testguest-fc.elf"},
    {.plugin = "firecracker",
     .memory_size = 16 << 20,
     .boot_args = GUEST_WORDS,
     .overrides = {"firecracker-bin", "firecracker", "jailer-bin", "jailer",
                   "chroot-base-dir", "/srv/jailer"},
     .process = true,
     .kernel = "testguest-fc.elf"},
};
#define SUBJECTS (sizeof(subjects) / sizeof(subjects[0]))

static const struct vmm_subject *usable[SUBJECTS];
static int usable_count;

static struct vm *booted(int subject)
{
    struct vm *vm = vm_new(usable[subject], NULL);

    vm_boot(vm);
    return vm;
}

/* A VM that was paused and saved; the state is in *ret_state. */
static struct vm *saved(int subject, int *ret_state)
{
    struct vm *vm = booted(subject);

    vm_wait_beats(vm, 5);
    vm_pause(vm);
    *ret_state = vm_save(vm);
    return vm;
}

static void expect_gone(struct vm *vm, pid_t pid)
{
    ck_assert_int_eq(vmm_pid(vm->vmm), -ESRCH);
    if (vm->subject->process)
        ck_assert_msg(kill(pid, 0) < 0 && errno == ESRCH, "process %d is still there", (int)pid);
}

START_TEST(facts_are_short_printable_text)
{
    struct vm *vm = vm_new(usable[_i], NULL);
    struct drafter_vmm_facts facts, again;
    struct drafter_error err = {0};

    ck_assert_msg(vmm_facts(vm->vmm, &facts, &err) == 0, "%s", err.message);
    ck_assert_msg(vmm_facts(vm->vmm, &again, &err) == 0, "%s", err.message);
    ck_assert_str_eq(facts.name, vm->subject->plugin);
    ck_assert_str_ne(facts.version, "");
    ck_assert_str_ne(facts.machine, "");
    ck_assert_str_ne(facts.accelerator, "");
    ck_assert_uint_ne(facts.cpu_features, 0);
    ck_assert_mem_eq(&facts, &again, sizeof(facts));
    vm_free(vm);
}
END_TEST

START_TEST(a_booted_guest_runs_until_it_is_paused)
{
    struct vm *vm = booted(_i);
    unsigned long beats;

    vm_wait_beats(vm, 10);
    vm_pause(vm);
    conformance_sleep_ms(20); /* what was printed reaches the file */
    beats = vm_beats(vm);
    conformance_sleep_ms(100);
    ck_assert_uint_eq(vm_beats(vm), beats);
    vm_resume(vm);
    vm_wait_beats(vm, 10);
    vm_free(vm);
}
END_TEST

START_TEST(pausing_and_resuming_twice_succeeds)
{
    struct vm *vm = booted(_i);

    vm_resume(vm);
    vm_pause(vm);
    vm_pause(vm);
    vm_resume(vm);
    vm_resume(vm);
    vm_wait_beats(vm, 3);
    vm_free(vm);
}
END_TEST

START_TEST(a_restored_guest_goes_on_where_it_was_saved)
{
    int state;
    struct vm *first = saved(_i, &state), *second = vm_new(usable[_i], first);
    unsigned long beats;

    vm_restore(second, first);
    vm_load(second, state);
    conformance_sleep_ms(50);
    ck_assert_uint_eq(vm_beats(second), 0);
    beats = vm_beats(first);
    vmm_stop(first->vmm);
    vm_resume(second);
    /* The line that was being printed may be split over both logs. */
    ck_assert_uint_ge(vm_first_beat(second), beats + 1);
    ck_assert_uint_le(vm_first_beat(second), beats + 2);
    vm_wait_beats(second, 50);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(a_saved_guest_can_stay_and_be_saved_again)
{
    int state;
    struct vm *first = saved(_i, &state), *second = vm_new(usable[_i], first);
    unsigned long beats;

    for (int round = 0; round < 3; round++) {
        close(state);
        vm_resume(first);
        vm_wait_beats(first, 10);
        vm_pause(first);
        state = vm_save(first);
    }
    beats = vm_beats(first);
    vmm_stop(first->vmm);
    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(second);
    ck_assert_uint_ge(vm_first_beat(second), beats + 1);
    ck_assert_uint_le(vm_first_beat(second), beats + 2);
    vm_wait_beats(second, 30);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(a_restored_guest_can_be_saved_again)
{
    enum { HOPS = 3 };
    struct vm *hops[HOPS + 1];
    int state;

    hops[0] = saved(_i, &state);
    for (int hop = 1; hop <= HOPS; hop++) {
        hops[hop] = vm_new(usable[_i], hops[0]);
        vm_restore(hops[hop], hops[hop - 1]);
        vm_load(hops[hop], state);
        close(state);
        vmm_stop(hops[hop - 1]->vmm);
        vm_resume(hops[hop]);
        vm_wait_beats(hops[hop], 10);
        vm_pause(hops[hop]);
        state = vm_save(hops[hop]);
    }
    close(state);
    for (int hop = HOPS; hop >= 0; hop--)
        vm_free(hops[hop]);
}
END_TEST

static char *whole_state(int fd, size_t *ret_length)
{
    struct stat status;
    char *data;

    ck_assert_int_eq(fstat(fd, &status), 0);
    data = malloc((size_t)status.st_size);
    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(io_pread_full(fd, data, (size_t)status.st_size, 0), 0);
    *ret_length = (size_t)status.st_size;
    return data;
}

static void foresee(struct vm *vm)
{
    struct drafter_error err = {0};

    ck_assert_msg(vmm_foresee(vm->vmm, &err) == 0, "%s", err.message);
}

START_TEST(a_foreseen_pause_may_come_late_and_be_taken_back)
{
    struct vm *vm = booted(_i);
    unsigned long beats;

    vm_wait_beats(vm, 2);
    foresee(vm);
    vm_wait_beats(vm, 4); /* it runs on */
    foresee(vm);
    vm_pause(vm);
    beats = vm_beats(vm);
    conformance_sleep_ms(20);
    ck_assert_uint_eq(vm_beats(vm), beats);
    vm_resume(vm);
    vm_wait_beats(vm, 6);
    vm_pause(vm);
    vm_resume(vm);
    foresee(vm);
    vm_wait_beats(vm, 8);
    vm_free(vm);
}
END_TEST

START_TEST(a_guest_saved_in_a_foreseen_pause_goes_on_elsewhere_or_here)
{
    struct vm *first = booted(_i), *second = vm_new(usable[_i], first);
    unsigned long beats;
    int state;

    for (unsigned round = 1; round <= 2; round++) {
        vm_wait_beats(first, 5 * round);
        foresee(first);
        vm_pause(first);
        state = vm_save(first);
        if (round == 1) {
            vm_resume(first);
            close(state);
        }
    }
    beats = vm_beats(first);
    conformance_sleep_ms(20);
    ck_assert_uint_eq(vm_beats(first), beats);
    vm_restore(second, first);
    vmm_stop(first->vmm);
    vm_load(second, state);
    vm_resume(second);
    vm_wait_beats(second, 50);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(saving_twice_in_a_pause_gives_the_same_state)
{
    int state;
    struct vm *vm = saved(_i, &state);
    size_t length, again_length;
    char *data = whole_state(state, &length), *again;

    close(state);
    state = vm_save(vm);
    again = whole_state(state, &again_length);
    ck_assert_uint_eq(length, again_length);
    ck_assert_mem_eq(data, again, length);
    free(data);
    free(again);
    close(state);
    vm_free(vm);
}
END_TEST

struct feed {
    int fd;
    const char *data;
    size_t length;
};

static void *feed_main(void *opaque)
{
    struct feed *feed = opaque;

    io_write_full(feed->fd, feed->data, feed->length);
    close(feed->fd);
    return NULL;
}

/* Loads what a pipe carries; the result. */
static int load_from_pipe(struct vm *vm, const char *data, size_t length, struct drafter_error *err)
{
    int ends[2], result;
    struct feed feed = {.data = data, .length = length};
    pthread_t thread;

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    feed.fd = ends[1];
    thread = conformance_thread(feed_main, &feed);
    result = vmm_load(vm->vmm, ends[0], err);
    close(ends[0]);
    conformance_join(thread);
    return result;
}

START_TEST(a_state_is_read_from_a_pipe_and_may_end_in_zeros)
{
    int state;
    struct vm *first = saved(_i, &state), *second = vm_new(usable[_i], first);
    struct drafter_error err = {0};
    size_t length;
    char *data = whole_state(state, &length), *padded = calloc(1, length + 100000);

    memcpy(padded, data, length);
    vmm_stop(first->vmm);
    vm_restore(second, first);
    ck_assert_msg(load_from_pipe(second, padded, length + 100000, &err) == 0, "%s", err.message);
    vm_resume(second);
    vm_wait_beats(second, 10);
    free(data);
    free(padded);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

/* Loading this must fail, leave a stoppable VM, and a good state must load afterwards. */
static void expect_refused_state(struct vm *vm, const struct vm *from, const char *data,
                                 size_t length)
{
    struct drafter_error err = {0};
    pid_t pid;

    vm_restore(vm, from);
    pid = vmm_pid(vm->vmm);
    ck_assert_int_lt(load_from_pipe(vm, data, length, &err), 0);
    ck_assert_str_ne(err.message, "");
    ck_assert_int_lt(vmm_resume(vm->vmm, &err), 0);
    vmm_stop(vm->vmm);
    expect_gone(vm, pid);
}

START_TEST(a_bad_state_is_refused_and_harms_nothing)
{
    int state;
    struct vm *first = saved(_i, &state), *second = vm_new(usable[_i], first);
    size_t length;
    char *data = whole_state(state, &length), *garbage = malloc(length);

    vmm_stop(first->vmm);
    expect_refused_state(second, first, data, 0);
    expect_refused_state(second, first, data, 7);
    expect_refused_state(second, first, data, length / 2);
    expect_refused_state(second, first, data, length - 1);
    conformance_fill(garbage, length, 1, 0);
    expect_refused_state(second, first, garbage, length);
    /* A good frame, nonsense in it. */
    memcpy(garbage, data, 16);
    expect_refused_state(second, first, garbage, length);
    /* A length that nobody has. */
    memset(garbage, 0xff, length);
    memcpy(garbage, data, 8);
    expect_refused_state(second, first, garbage, length);
    memset(garbage, 0, length);
    expect_refused_state(second, first, garbage, length);
    vm_restore(second, first);
    vm_load(second, state);
    vm_resume(second);
    vm_wait_beats(second, 5);
    free(data);
    free(garbage);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

/* As the original's packages have it: a plugin does with it or says that it cannot. */
START_TEST(no_description_is_enough_or_refused)
{
    int state;
    struct vm *first = saved(_i, &state), *second = vm_new(usable[_i], first);
    struct drafter_error err = {0};

    second->spec.machine_config = "";
    if (vmm_start(second->vmm, &second->spec, DRAFTER_VMM_RESTORE, &err) == 0) {
        ck_assert_msg(vmm_load(second->vmm, state, &err) == 0, "%s", err.message);
        ck_assert_msg(vmm_resume(second->vmm, &err) == 0, "%s", err.message);
    } else {
        ck_assert_int_eq(err.code, EINVAL);
        ck_assert_ptr_nonnull(strstr(err.message, "describe"));
        ck_assert_int_eq(vmm_pid(second->vmm), -ESRCH);
    }
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(another_machine_is_refused)
{
    int state;
    struct vm *first = saved(_i, &state), *second = vm_new(usable[_i], first);
    char good[2048], longer[4096];
    const char *const bad[] = {"nonsense", "machine=other", longer};
    struct drafter_error err = {0};

    memcpy(good, first->machine_config, sizeof(good));
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        second->spec.machine_config = bad[i];
        ck_assert_int_lt(vmm_start(second->vmm, &second->spec, DRAFTER_VMM_RESTORE, &err), 0);
        ck_assert_int_eq(vmm_pid(second->vmm), -ESRCH);
    }
    second->spec.machine_config = NULL;
    ck_assert_int_lt(vmm_start(second->vmm, &second->spec, DRAFTER_VMM_RESTORE, &err), 0);
    second->spec.machine_config = good;
    second->spec.cpu_count = 2;
    ck_assert_int_lt(vmm_start(second->vmm, &second->spec, DRAFTER_VMM_RESTORE, &err), 0);
    second->spec.cpu_count = 1;
    second->spec.memory_size /= 2;
    ck_assert_int_lt(vmm_start(second->vmm, &second->spec, DRAFTER_VMM_RESTORE, &err), 0);
    close(state);
    vm_free(second);
    vm_free(first);
}
END_TEST

START_TEST(operations_out_of_order_are_refused)
{
    struct vm *vm = vm_new(usable[_i], NULL), *other = vm_new(usable[_i], NULL);
    struct drafter_error err = {0};
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    ck_assert_int_lt(vmm_pause(vm->vmm, &err), 0);
    ck_assert_int_lt(vmm_resume(vm->vmm, &err), 0);
    ck_assert_int_lt(vmm_save(vm->vmm, null_fd, &err), 0);
    ck_assert_int_lt(vmm_load(vm->vmm, null_fd, &err), 0);
    vm_boot(vm);
    ck_assert_int_lt(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), 0);
    ck_assert_int_lt(vmm_save(vm->vmm, null_fd, &err), 0);
    ck_assert_int_lt(vmm_load(vm->vmm, null_fd, &err), 0);
    vm_wait_beats(vm, 3);
    vm_restore(other, vm);
    ck_assert_int_lt(vmm_resume(other->vmm, &err), 0);
    ck_assert_int_lt(vmm_save(other->vmm, null_fd, &err), 0);
    ck_assert_int_lt(vmm_pause(other->vmm, &err), 0);
    close(null_fd);
    vm_free(other);
    vm_free(vm);
}
END_TEST

START_TEST(two_vms_run_side_by_side)
{
    struct vm *one = booted(_i), *two = booted(_i);

    vm_wait_beats(one, 10);
    vm_wait_beats(two, 10);
    vm_pause(one);
    vm_wait_beats(two, 10);
    vmm_stop(one->vmm);
    vm_wait_beats(two, 10);
    vm_free(one);
    vm_free(two);
}
END_TEST

START_TEST(a_stopped_vm_can_be_started_again)
{
    struct vm *vm = booted(_i);
    pid_t pid = vmm_pid(vm->vmm);

    vmm_stop(vm->vmm);
    expect_gone(vm, pid);
    vmm_stop(vm->vmm);
    unlink(vm->serial);
    vm_boot(vm);
    vm_wait_beats(vm, 5);
    vm_free(vm);
}
END_TEST

START_TEST(a_launched_vm_finds_its_devices_when_it_is_started)
{
    struct vm *vm = vm_new(usable[_i], NULL);
    char aside[sizeof(vm->memory) + 8];
    struct drafter_error err = {0};

    snprintf(aside, sizeof(aside), "%s.aside", vm->memory);
    ck_assert_int_eq(rename(vm->memory, aside), 0);
    ck_assert_msg(!vmm_launch(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), "%s", err.message);
    ck_assert_int_eq(rename(aside, vm->memory), 0);
    vm_boot(vm);
    vm_wait_beats(vm, 2);
    vm_free(vm);
}
END_TEST

START_TEST(a_vm_that_was_only_launched_can_be_stopped)
{
    struct vm *vm = vm_new(usable[_i], NULL);
    struct drafter_error err = {0};

    ck_assert_msg(!vmm_launch(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), "%s", err.message);
    vmm_stop(vm->vmm);
    ck_assert_int_eq(vmm_pid(vm->vmm), -ESRCH);
    vm_boot(vm);
    vm_wait_beats(vm, 2);
    vm_free(vm);
}
END_TEST

START_TEST(a_killed_process_is_noticed)
{
    struct vm *vm = booted(_i);
    struct drafter_error err = {0};
    pid_t pid = vmm_pid(vm->vmm);
    uint64_t end = conformance_now_ms() + 2000;

    if (vm->subject->process) {
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        while (vmm_pid(vm->vmm) >= 0 && conformance_now_ms() < end)
            conformance_sleep_ms(2);
        expect_gone(vm, pid);
        ck_assert_int_lt(vmm_pause(vm->vmm, &err), 0);
        ck_assert_msg(strstr(err.message, "signal 9"), "%s", err.message);
    }
    vm_free(vm);
}
END_TEST

/* Entries of the test's directory: what a VM left outside its own. */
static unsigned entries(const char *path)
{
    DIR *directory = opendir(path);
    unsigned count = 0;

    ck_assert_ptr_nonnull(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Sockets and pipes that a stopped VM left in its directory. */
static unsigned endpoints(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;
    unsigned count = 0;

    ck_assert_ptr_nonnull(directory);
    while ((entry = readdir(directory)))
        count += entry->d_type == DT_SOCK || entry->d_type == DT_FIFO;
    closedir(directory);
    return count;
}

static void stop_in_phase(int subject, int phase)
{
    int state = -1;
    struct vm *first = phase < 4 ? vm_new(usable[subject], NULL) : saved(subject, &state);
    struct vm *second = phase < 4 ? NULL : vm_new(usable[subject], first), *last = first;
    pid_t pid;

    if (phase >= 1 && phase < 4)
        vm_boot(first);
    if (phase >= 2 && phase < 4)
        vm_pause(first);
    if (phase == 3)
        state = vm_save(first);
    if (second) {
        vmm_stop(first->vmm);
        vm_restore(second, first);
        last = second;
    }
    if (phase >= 5)
        vm_load(second, state);
    if (phase >= 6)
        vm_resume(second);
    pid = vmm_pid(last->vmm);
    vmm_stop(last->vmm);
    expect_gone(last, pid);
    ck_assert_uint_eq(endpoints(last->directory), 0);
    if (state >= 0)
        close(state);
    if (second)
        vm_free(second);
    vm_free(first);
}

START_TEST(stopping_in_any_phase_leaves_nothing)
{
    unsigned files, fds;

    stop_in_phase(_i, 6); /* what libraries open once is open now */
    files = entries(conformance_directory());
    fds = conformance_open_fds();
    for (int phase = 0; phase <= 6; phase++) {
        stop_in_phase(_i, phase);
        ck_assert_msg(conformance_open_fds() == fds, "descriptors are left after phase %d", phase);
        ck_assert_msg(entries(conformance_directory()) == files, "files are left after phase %d",
                      phase);
    }
}
END_TEST

START_TEST(a_start_that_fails_says_why_and_leaves_nothing)
{
    struct vm *vm = booted(_i); /* loads what is loaded once */
    struct drafter_error err = {0};
    unsigned fds;

    vmm_stop(vm->vmm);
    fds = conformance_open_fds();
    vm->spec.memory = "/nonexistent/memory";
    ck_assert_int_lt(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), 0);
    ck_assert_msg(strstr(err.message, "/nonexistent/memory"), "%s", err.message);
    vm->spec.memory = vm->memory;
    vm->spec.kernel = "/nonexistent/kernel";
    ck_assert_int_lt(vmm_start(vm->vmm, &vm->spec, DRAFTER_VMM_BOOT, &err), 0);
    ck_assert_msg(strstr(err.message, "/nonexistent/kernel"), "%s", err.message);
    ck_assert_uint_eq(conformance_open_fds(), fds);
    ck_assert_int_eq(vmm_pid(vm->vmm), -ESRCH);
    vm_free(vm);
}
END_TEST

static bool guest_is_there(const struct vmm_subject *subject)
{
    const char *build = getenv("abs_top_builddir");
    char path[512];

    if (!subject->kernel)
        return true;
    snprintf(path, sizeof(path), "%s/guest/testguest/%s", build ? build : ".", subject->kernel);
    if (access(path, R_OK) == 0)
        return true;
    printf("vmm %s is not tested: %s is missing\n", subject->plugin, path);
    return false;
}

/* Where this machine has programs that PATH does not show; jails that the test may make. */
static void place_programs(struct vmm_subject *subject)
{
    static char jails[300];

    for (const char **word = subject->overrides; word[0] && word[1]; word += 2) {
        if (strcmp(word[0], "chroot-base-dir") == 0) {
            snprintf(jails, sizeof(jails), "%s/jails", conformance_directory());
            word[1] = jails;
        } else if (strcmp(word[1], "firecracker") == 0 && getenv("DRAFTER_TEST_FIRECRACKER")) {
            word[1] = getenv("DRAFTER_TEST_FIRECRACKER");
        } else if (strcmp(word[1], "jailer") == 0 && getenv("DRAFTER_TEST_JAILER")) {
            word[1] = getenv("DRAFTER_TEST_JAILER");
        }
    }
}

/* Whether the VMM's program is there. */
static bool host_is_fit(const struct vmm_subject *subject)
{
    struct drafter_error err = {0};
    struct drafter_vmm_facts facts;
    struct instance *vmm = NULL;
    int result = instance_new(DRAFTER_KIND_VMM, NULL, subject->plugin, subject->overrides, "vmm",
                              conformance_directory(), NULL, &vmm, &err);

    if (result == 0)
        result = vmm_facts(vmm, &facts, &err);
    if (result < 0)
        printf("vmm %s is not tested: %s\n", subject->plugin, err.message);
    instance_free(vmm);
    return result == 0;
}

static Suite *vmm_suite(void)
{
    static const TTest *const *const tests[] = {
        &facts_are_short_printable_text,
        &a_booted_guest_runs_until_it_is_paused,
        &pausing_and_resuming_twice_succeeds,
        &a_restored_guest_goes_on_where_it_was_saved,
        &a_saved_guest_can_stay_and_be_saved_again,
        &a_restored_guest_can_be_saved_again,
        &a_foreseen_pause_may_come_late_and_be_taken_back,
        &a_guest_saved_in_a_foreseen_pause_goes_on_elsewhere_or_here,
        &saving_twice_in_a_pause_gives_the_same_state,
        &a_state_is_read_from_a_pipe_and_may_end_in_zeros,
        &a_bad_state_is_refused_and_harms_nothing,
        &no_description_is_enough_or_refused,
        &another_machine_is_refused,
        &operations_out_of_order_are_refused,
        &two_vms_run_side_by_side,
        &a_stopped_vm_can_be_started_again,
        &a_launched_vm_finds_its_devices_when_it_is_started,
        &a_vm_that_was_only_launched_can_be_stopped,
        &a_killed_process_is_noticed,
        &stopping_in_any_phase_leaves_nothing,
        &a_start_that_fails_says_why_and_leaves_nothing,
    };
    Suite *suite = suite_create("vmm");
    TCase *contract = tcase_create("contract");

    tcase_set_timeout(contract, 60);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_loop_test(contract, *tests[i], 0, usable_count);
    suite_add_tcase(suite, contract);
    return suite;
}

int main(void)
{
    Suite *suite;

    setbuf(stdout, NULL);
    /* A test that fails leaves what was bound in its jail: that ends with this process. */
    if (unshare(CLONE_NEWNS) == 0)
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    conformance_directory();
    for (size_t i = 0; i < SUBJECTS; i++) {
        place_programs(&subjects[i]);
        if (conformance_available(DRAFTER_KIND_VMM, subjects[i].plugin) &&
            guest_is_there(&subjects[i]) && host_is_fit(&subjects[i]))
            usable[usable_count++] = &subjects[i];
    }
    suite = vmm_suite();
    for (int i = 0; i < usable_count; i++) {
        if (strcmp(usable[i]->plugin, "null") == 0)
            vmm_null_cases(suite, usable[i]);
        if (strcmp(usable[i]->plugin, "qemu") == 0)
            vmm_qemu_cases(suite, usable[i]);
        if (strcmp(usable[i]->plugin, "firecracker") == 0)
            vmm_firecracker_cases(suite, usable[i]);
    }
    return conformance_run(suite, (unsigned)usable_count);
}
