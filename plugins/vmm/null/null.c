/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VMM without a virtual machine: the mock for tests of everything that moves VMs, and the
 * reference for writers of VMM plugins.  Needs no privilege, no kernel and no program.
 *
 * Its guest is a thread (guest.c) that keeps rewriting memory in a pattern which shows each lost or
 * stale page (oracle.c); its device state is a small blob with the guest's counters.  Like that of
 * a real machine, the state is worthless without the memory that belongs to it: load() verifies
 * every page against the counters, or lets the guest find out while it runs (verify = background).
 *
 * While the guest runs, the memory file is locked (flock), so that two copies of a VM that share a
 * file cannot run at once.
 */
#include "../original.h"
#include "guest.h"
#include "util/cleanup.h"
#include "util/io.h"
#include <drafter/vmm.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

enum null_verify { VERIFY_LOAD, VERIFY_BACKGROUND, VERIFY_NO };
enum null_phase { PHASE_STOPPED, PHASE_RUNNING, PHASE_PAUSED, PHASE_INCOMING };

#define STATE_MAGIC UINT64_C(0x31304d4d564c4c4e) /* "NLLVMM01" */
#define STATE_MAX (UINT64_C(64) << 20)

struct null_config {
    uint64_t dirty_rate, disk_rate, working_set, fill, seed, heartbeat, state_size;
    int verify;
    uint64_t fail_start, fail_pause, fail_save, fail_load, fail_resume;
};

struct null_vmm {
    const struct null_config *config;
    enum null_phase phase;
    uint64_t calls_start, calls_pause, calls_save, calls_load, calls_resume;
    uint64_t memory_size, key;
    unsigned cpu_count;
    int serial_fd;
    int file_fds[GUEST_FILES_MAX];
    char file_names[GUEST_FILES_MAX][DRAFTER_NAME_MAX + 1];
    uint64_t file_pages[GUEST_FILES_MAX];
    size_t file_count;
    struct guest guest;
};

/* What save() writes, behind a u64 that tells how many bytes follow it. */
struct null_state {
    uint64_t magic, key, memory_size, beats, file_count;
    struct {
        uint64_t pages, hot, steps;
    } files[GUEST_FILES_MAX];
    uint64_t padding; /* bytes behind this structure */
    uint64_t checksum;
};

static uint64_t checksum(const struct null_state *state)
{
    const uint64_t *words = (const uint64_t *)state;
    uint64_t sum = 0;

    for (size_t i = 0; i < offsetof(struct null_state, checksum) / sizeof(*words); i++)
        sum = oracle_mix(sum ^ words[i]) + i;
    return sum;
}

/* Counts a call and fails it when the configuration says so. */
static int inject(uint64_t *calls, uint64_t wanted, const char *what, struct drafter_error *err)
{
    if (++*calls == wanted)
        return drafter_error_set(err, EIO, "null vmm: %s fails as configured (call %" PRIu64 ")",
                                 what, wanted);
    return 0;
}

static uint64_t hot_pages(const struct null_vmm *vmm, uint64_t pages)
{
    uint64_t hot = vmm->config->working_set >> DRAFTER_PAGE_SHIFT;

    return hot && hot < pages ? hot : pages;
}

/* ---- start and stop */

static int add_file(struct null_vmm *vmm, const char *name, const char *path, bool readonly,
                    uint64_t need, struct drafter_error *err)
{
    cleanup_close int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    struct stat status;
    off_t size;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s %s", name, path);
    if (fstat(fd, &status) < 0)
        return drafter_error_errno(err, errno, "%s %s", name, path);
    size = S_ISREG(status.st_mode) ? status.st_size : lseek(fd, 0, SEEK_END);
    if (size < 0 || (uint64_t)size < need)
        return drafter_error_set(err, EINVAL, "%s %s: %jd bytes, %" PRIu64 " are needed", name,
                                 path, (intmax_t)size, need);
    if (readonly)
        return 0;
    if (vmm->file_count == GUEST_FILES_MAX)
        return drafter_error_set(err, E2BIG, "more than %d writable devices", GUEST_FILES_MAX);
    snprintf(vmm->file_names[vmm->file_count], sizeof(vmm->file_names[0]), "%s", name);
    vmm->file_pages[vmm->file_count] = (need ? need : (uint64_t)size) >> DRAFTER_PAGE_SHIFT;
    vmm->file_fds[vmm->file_count++] = steal_fd(&fd);
    return 0;
}

static int open_files(struct null_vmm *vmm, const struct drafter_vmm_spec *spec,
                      struct drafter_error *err)
{
    char path[PATH_MAX];
    int result = add_file(vmm, "memory", spec->memory, false, spec->memory_size, err);

    if (result == 0 && spec->kernel)
        result = add_file(vmm, "kernel", spec->kernel, true, 0, err);
    if (result == 0 && spec->initramfs)
        result = add_file(vmm, "initramfs", spec->initramfs, true, 0, err);
    for (size_t i = 0; i < spec->device_count && result == 0; i++) {
        const struct drafter_vmm_device *device = &spec->devices[i];
        bool used = !device->readonly && vmm->config->disk_rate;

        if (device->drive)
            result = add_file(vmm, device->name, device->path, !used, 0, err);
    }
    if (result < 0)
        return result;
    snprintf(path, sizeof(path), "%s/serial.log", spec->directory);
    vmm->serial_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return vmm->serial_fd < 0 ? drafter_error_errno(err, errno, "%s", path) : 0;
}

static int make_guest(struct null_vmm *vmm, uint64_t key, struct drafter_error *err)
{
    struct guest *guest = &vmm->guest;

    vmm->key = key;
    *guest = (struct guest){.file_count = vmm->file_count,
                            .heartbeat_ns = vmm->config->heartbeat,
                            .serial = vmm->serial_fd};
    for (size_t i = 0; i < vmm->file_count; i++) {
        uint64_t pages = vmm->file_pages[i], fill = vmm->config->fill >> DRAFTER_PAGE_SHIFT;
        int result;

        if (fill && fill < pages)
            pages = fill;
        guest->rates[i] = i ? vmm->config->disk_rate : vmm->config->dirty_rate;
        result = oracle_init(&guest->files[i], vmm->file_names[i], vmm->file_fds[i],
                             oracle_mix(key + i), pages, hot_pages(vmm, pages), err);
        if (result < 0)
            return result;
    }
    return 0;
}

static int lock_memory(const struct null_vmm *vmm, struct drafter_error *err)
{
    /* A file system that cannot lock is no reason to fail. */
    if (flock(vmm->file_fds[0], LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return drafter_error_set(err, EBUSY, "another VM runs on this memory");
    return 0;
}

static int boot(struct null_vmm *vmm, struct drafter_error *err)
{
    uint64_t key = vmm->config->seed;
    int result;

    if (!key && getrandom(&key, sizeof(key), 0) != sizeof(key))
        return drafter_error_errno(err, errno, "getrandom");
    result = make_guest(vmm, key, err);
    if (result == 0)
        result = lock_memory(vmm, err);
    for (size_t i = 0; i < vmm->file_count && result == 0; i++)
        result = oracle_fill(&vmm->guest.files[i], err);
    if (result == 0)
        result = guest_start(&vmm->guest, err);
    if (result < 0)
        return result;
    vmm->phase = PHASE_RUNNING;
    guest_run(&vmm->guest);
    return 0;
}

static int null_describe(void *instance, char *buffer, size_t size)
{
    const struct null_vmm *vmm = instance;
    int length =
        snprintf(buffer, size, "machine=null cpus=%u memory=%" PRIu64 " drives=%zu", vmm->cpu_count,
                 vmm->memory_size, vmm->file_count - (vmm->file_count > 0));

    return length < 0 || (size_t)length >= size ? -ENOSPC : 0;
}

static int check_description(struct null_vmm *vmm, const char *given, struct drafter_error *err)
{
    char ours[128];

    if (!given)
        return drafter_error_set(err, EINVAL, "a restore needs the description of the machine");
    if (!*given) /* its state says what it is */
        return 0;
    if (null_describe(vmm, ours, sizeof(ours)) < 0 || strcmp(ours, given) != 0)
        return drafter_error_set(err, EINVAL, "the VM was \"%.128s\", this one is \"%s\"", given,
                                 ours);
    return 0;
}

static void null_stop(void *instance)
{
    struct null_vmm *vmm = instance;

    guest_stop(&vmm->guest);
    for (size_t i = 0; i < vmm->file_count; i++)
        close(vmm->file_fds[i]);
    vmm->file_count = 0;
    if (vmm->serial_fd >= 0)
        close(vmm->serial_fd);
    vmm->serial_fd = -1;
    vmm->phase = PHASE_STOPPED;
}

static int null_start(void *instance, const struct drafter_vmm_spec *spec,
                      enum drafter_vmm_start how, struct drafter_error *err)
{
    struct null_vmm *vmm = instance;
    int result;

    if (vmm->phase != PHASE_STOPPED)
        return drafter_error_set(err, EBUSY, "the VM was started already");
    if (!spec->memory || spec->memory_size < DRAFTER_PAGE_SIZE ||
        spec->memory_size % DRAFTER_PAGE_SIZE)
        return drafter_error_set(err, EINVAL, "memory: %" PRIu64 " bytes are no whole pages",
                                 spec->memory_size);
    result = inject(&vmm->calls_start, vmm->config->fail_start, "start", err);
    if (result < 0)
        return result;
    vmm->memory_size = spec->memory_size;
    vmm->cpu_count = spec->cpu_count;
    result = open_files(vmm, spec, err);
    if (result == 0 && how == DRAFTER_VMM_RESTORE)
        result = check_description(vmm, spec->machine_config, err);
    if (result == 0 && how == DRAFTER_VMM_BOOT)
        result = boot(vmm, err);
    if (result < 0)
        null_stop(vmm);
    else if (how == DRAFTER_VMM_RESTORE)
        vmm->phase = PHASE_INCOMING;
    return result;
}

/* ---- pause and resume */

static int null_pause(void *instance, struct drafter_error *err)
{
    struct null_vmm *vmm = instance;
    int result;

    if (vmm->phase == PHASE_PAUSED)
        return 0;
    if (vmm->phase != PHASE_RUNNING)
        return drafter_error_set(err, EINVAL, "no VM runs");
    result = inject(&vmm->calls_pause, vmm->config->fail_pause, "pause", err);
    if (result < 0)
        return result;
    guest_halt(&vmm->guest);
    vmm->phase = PHASE_PAUSED;
    flock(vmm->file_fds[0], LOCK_UN);
    return guest_check(&vmm->guest, err);
}

static int null_resume(void *instance, struct drafter_error *err)
{
    struct null_vmm *vmm = instance;
    int result;

    if (vmm->phase == PHASE_RUNNING)
        return 0;
    if (vmm->phase != PHASE_PAUSED)
        return drafter_error_set(err, EINVAL, "no paused VM");
    result = inject(&vmm->calls_resume, vmm->config->fail_resume, "resume", err);
    if (result == 0)
        result = guest_check(&vmm->guest, err);
    if (result == 0)
        result = lock_memory(vmm, err);
    if (result < 0)
        return result;
    guest_run(&vmm->guest);
    vmm->phase = PHASE_RUNNING;
    return 0;
}

/* ---- save and load */

static int write_padding(int fd, uint64_t left)
{
    static const char zeros[4096];

    while (left) {
        size_t part = left < sizeof(zeros) ? (size_t)left : sizeof(zeros);
        int result = io_write_full(fd, zeros, part);

        if (result < 0)
            return result;
        left -= part;
    }
    return 0;
}

static int null_save(void *instance, int fd, struct drafter_error *err)
{
    struct null_vmm *vmm = instance;
    struct null_state state = {.magic = STATE_MAGIC,
                               .key = vmm->key,
                               .memory_size = vmm->memory_size,
                               .file_count = vmm->guest.file_count,
                               .padding = vmm->config->state_size};
    uint64_t length = sizeof(state) + state.padding;
    int result;

    if (vmm->phase != PHASE_PAUSED)
        return drafter_error_set(err, EINVAL, "only a paused VM can be saved");
    result = inject(&vmm->calls_save, vmm->config->fail_save, "save", err);
    if (result == 0)
        result = guest_check(&vmm->guest, err);
    if (result < 0)
        return result;
    for (size_t i = 0; i < vmm->guest.file_count; i++) {
        const struct oracle *file = &vmm->guest.files[i];

        state.files[i].pages = file->pages;
        state.files[i].hot = file->hot;
        state.files[i].steps = file->steps;
    }
    state.beats = vmm->guest.beats;
    state.checksum = checksum(&state);
    result = io_write_full(fd, &length, sizeof(length));
    if (result == 0)
        result = io_write_full(fd, &state, sizeof(state));
    if (result == 0)
        result = write_padding(fd, state.padding);
    return result < 0 ? drafter_error_errno(err, -result, "cannot write the device state") : 0;
}

static int read_padding(int fd, uint64_t left)
{
    char scrap[4096];

    while (left) {
        size_t part = left < sizeof(scrap) ? (size_t)left : sizeof(scrap);
        int result = io_read_full(fd, scrap, part);

        if (result < 0)
            return result;
        if (!io_is_zero(scrap, part))
            return -EBADMSG;
        left -= part;
    }
    return 0;
}

static int read_state(int fd, struct null_state *state, struct drafter_error *err)
{
    uint64_t length;
    int result = io_read_full(fd, &length, sizeof(length));

    if (result < 0)
        return drafter_error_errno(err, -result, "cannot read the device state");
    if (length < sizeof(*state) || length > STATE_MAX)
        return drafter_error_set(err, EBADMSG, "no device state: it would have %" PRIu64 " bytes",
                                 length);
    result = io_read_full(fd, state, sizeof(*state));
    if (result < 0)
        return drafter_error_errno(err, -result, "cannot read the device state");
    if (state->magic != STATE_MAGIC || state->checksum != checksum(state) ||
        state->padding != length - sizeof(*state))
        return drafter_error_set(err, EBADMSG, "the device state is damaged");
    result = read_padding(fd, state->padding);
    return result < 0 ? drafter_error_errno(err, -result, "cannot read the device state") : 0;
}

static int adopt_state(struct null_vmm *vmm, const struct null_state *state,
                       struct drafter_error *err)
{
    int result;

    if (state->memory_size != vmm->memory_size || state->file_count != vmm->file_count)
        return drafter_error_set(err, EBADMSG, "the device state is of another machine");
    result = make_guest(vmm, state->key, err);
    if (result < 0)
        return result;
    vmm->guest.beats = state->beats;
    vmm->guest.scan = vmm->config->verify == VERIFY_BACKGROUND;
    for (size_t i = 0; i < vmm->file_count; i++) {
        struct oracle *file = &vmm->guest.files[i];

        if (state->files[i].pages > vmm->file_pages[i])
            return drafter_error_set(err, EBADMSG, "%s: the saved one was larger", file->what);
        result = oracle_init(file, file->what, file->fd, file->key, state->files[i].pages,
                             state->files[i].hot, err);
        if (result < 0)
            return result;
        file->steps = state->files[i].steps;
        if (vmm->config->verify == VERIFY_LOAD)
            result = oracle_verify(file, err);
        if (result < 0)
            return result;
    }
    return 0;
}

static int null_load(void *instance, int fd, struct drafter_error *err)
{
    struct null_vmm *vmm = instance;
    struct null_state state;
    int result;

    if (vmm->phase != PHASE_INCOMING)
        return drafter_error_set(err, EINVAL,
                                 "this VM was not started for a restore, or is loaded");
    result = inject(&vmm->calls_load, vmm->config->fail_load, "load", err);
    if (result == 0)
        result = read_state(fd, &state, err);
    if (result == 0)
        result = adopt_state(vmm, &state, err);
    if (result == 0)
        result = guest_start(&vmm->guest, err);
    if (result == 0)
        vmm->phase = PHASE_PAUSED;
    return result;
}

/* ---- the plugin */

static int null_facts(void *instance, struct drafter_vmm_facts *ret_facts,
                      struct drafter_error *err)
{
    (void)instance;
    (void)err;
    *ret_facts = (struct drafter_vmm_facts){.name = "null",
                                            .version = "1",
                                            .machine = "null",
                                            .accelerator = "none",
                                            .cpu_model = "thread",
                                            .cpu_features = 1};
    return 0;
}

static pid_t null_pid(void *instance)
{
    (void)instance;
    return -ESRCH;
}

static int null_create(const struct drafter_context *context, const void *config,
                       void **ret_instance, struct drafter_error *err)
{
    struct null_vmm *vmm = calloc(1, sizeof(*vmm));

    (void)context;
    if (!vmm)
        return drafter_error_errno(err, ENOMEM, "null vmm");
    vmm->config = config;
    vmm->serial_fd = -1;
    *ret_instance = vmm;
    return 0;
}

static void null_destroy(void *instance)
{
    if (instance)
        null_stop(instance);
    free(instance);
}

static const char *const verify_choices[] = {"load", "background", "no", NULL};

#define NULL_OPTION(key_, type_, field_, default_, unit_, help_)                                   \
    {                                                                                              \
        .key = (key_), .type = (type_), .offset = offsetof(struct null_config, field_),            \
        .default_value = (default_), .unit = (unit_), .help = (help_)                              \
    }

static const struct drafter_option null_options[] = {
    NULL_OPTION("dirty-rate", DRAFTER_OPTION_UINT, dirty_rate, "1000", "pages/s",
                "Pages of memory that the guest rewrites a second"),
    NULL_OPTION(
        "disk-rate", DRAFTER_OPTION_UINT, disk_rate, "0", "pages/s",
        "Pages of each writable drive that the guest rewrites a second; 0 leaves drives alone, "
        "otherwise their content is overwritten at boot"),
    NULL_OPTION("working-set", DRAFTER_OPTION_SIZE, working_set, "0", "bytes",
                "Part of memory that is rewritten, the rest is written once at boot; 0 is all"),
    NULL_OPTION("fill", DRAFTER_OPTION_SIZE, fill, "0", "bytes",
                "Part of memory that is used at all; 0 is all"),
    NULL_OPTION("seed", DRAFTER_OPTION_UINT, seed, "0", NULL,
                "Makes what is written repeatable; 0 is another content at each boot"),
    NULL_OPTION("heartbeat", DRAFTER_OPTION_DURATION, heartbeat, "10ms", NULL,
                "Time between heartbeat lines in serial.log; 0 is none"),
    NULL_OPTION("state-size", DRAFTER_OPTION_SIZE, state_size, "0", "bytes",
                "Padding of the saved device state"),
    {.key = "verify",
     .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct null_config, verify),
     .default_value = "load",
     .choices = verify_choices,
     .help =
         "When a restored guest looks at its memory: all of it in load, while it runs, or only at "
         "what it rewrites"},
    NULL_OPTION("fail-start", DRAFTER_OPTION_UINT, fail_start, "0", "call", "Which start fails"),
    NULL_OPTION("fail-pause", DRAFTER_OPTION_UINT, fail_pause, "0", "call", "Which pause fails"),
    NULL_OPTION("fail-save", DRAFTER_OPTION_UINT, fail_save, "0", "call", "Which save fails"),
    NULL_OPTION("fail-load", DRAFTER_OPTION_UINT, fail_load, "0", "call", "Which load fails"),
    NULL_OPTION("fail-resume", DRAFTER_OPTION_UINT, fail_resume, "0", "call", "Which resume fails"),
    VMM_IGNORED("enable-output", "it shows the guest's console, and this guest has none"),
    VMM_IGNORED("enable-input", "it opens the guest's console, and this guest has none"),
    VMM_ORIGINAL_OPTIONS,
    DRAFTER_OPTION_END,
};

static const struct drafter_vmm_ops null_ops = {
    .facts = null_facts,
    .start = null_start,
    .describe = null_describe,
    .pause = null_pause,
    .save = null_save,
    .load = null_load,
    .resume = null_resume,
    .pid = null_pid,
    .stop = null_stop,
};

static const struct drafter_plugin null_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_VMM, struct drafter_vmm_ops),
    .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
    .name = "null",
    .version = "0.1",
    .license = "BSD-2-Clause",
    .summary = "a VM that is a byte pattern, for tests",
    .options = null_options,
    .config_size = sizeof(struct null_config),
    .create = null_create,
    .destroy = null_destroy,
    .ops = &null_ops,
};
DRAFTER_PLUGIN_ENTRY(null_plugin)
