/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VM runs on the package's own files, under temporary names next to their final ones; they get
 * those only when all of them are complete and durable.
 */
#include "role/snapshotter.h"

#include "role/devices.h"
#include "role/slot.h"
#include "role/supervise.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "vm/agent.h"
#include "vm/vm.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define PART ".part"
#define COPY_STEP ((size_t)1 << 20)
#define LIVENESS_STEP_MS 200

struct snapshotter {
    struct node *node;
    struct snapshotter_options options;
    struct devices devices;
    char *paths[DEVICES_MAX]; /* where each output is being made */
    struct instance *vmm;
    struct supervisor supervisor;
    struct package package;
    struct slot slot;
    bool started;
};

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_,                                                    \
     .offset = offsetof(struct snapshotter_options, field_), .default_value = default_,              \
     .help = help_}

const struct drafter_option snapshotter_option_table[] = {
    OPTION("vmm", STRING, vmm, DEFAULT_VMM, "id of a [vmm:ID] section, or a VMM plugin"),
    SLOT_OPTIONS(struct snapshotter_options),
    OPTION("boot-args", STRING, boot_args, "console=ttyS0 panic=1", "kernel command line"),
    {.key = "memory-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct snapshotter_options, memory_size), .default_value = "1G",
     .minimum = 1 << 20, .help = "guest memory"},
    {.key = "cpu-count", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct snapshotter_options, cpu_count), .default_value = "1", .minimum = 1,
     .maximum = 255, .help = "virtual CPUs"},
    OPTION("resume-timeout", DURATION, resume_timeout, "1m",
           "how long the guest may take until it is alive"),
    OPTION("hook-timeout", DURATION, hook_timeout, "10s", "how long the guest's hook may take"),
    OPTION("settle", DURATION, settle, "0s", "how long to let the guest run before the snapshot"),
    OPTION("liveness", BOOL, liveness, "yes", "wait until the guest says that it is alive"),
    OPTION("agent", BOOL, agent, "yes", "the guest has an agent that runs hooks"),
    {.key = "agent-vsock-port", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct snapshotter_options, agent_port), .default_value = "26",
     .minimum = 1, .maximum = UINT32_MAX, .help = "port of the agent, kept in the package"},
    DRAFTER_OPTION_END,
};

static bool is_made_here(const char *name)
{
    return !strcmp(name, VM_DEVICE_STATE) || !strcmp(name, VM_DEVICE_MEMORY) ||
           !strcmp(name, VM_DEVICE_CONFIG);
}

static int check_devices(struct snapshotter *snapshotter, struct drafter_error *err)
{
    static const char *const needed[] = {VM_DEVICE_KERNEL, VM_DEVICE_STATE, VM_DEVICE_MEMORY,
                                         VM_DEVICE_CONFIG};

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (!devices_find(&snapshotter->devices, needed[i]))
            return drafter_error_set(err, EINVAL, "a snapshot needs a [device:%s] section",
                                     needed[i]);
    for (unsigned i = 0; i < snapshotter->devices.count; i++) {
        const struct node_device *device = &snapshotter->devices.list[i];

        if (!device->options.output)
            return drafter_error_set(err, EINVAL, "%s: device %s needs an output",
                                     config_where(device->section, NULL), device->name);
        if (!device->options.input && !is_made_here(device->name))
            return drafter_error_set(err, EINVAL, "%s: device %s needs an input",
                                     config_where(device->section, NULL), device->name);
    }
    return 0;
}

/* Copies what is not a hole. */
static int copy_sparse(int from, int to, off_t size)
{
    cleanup_free char *buffer = malloc(COPY_STEP);
    off_t at = 0, end;

    if (!buffer)
        return -ENOMEM;
    while (at < size && (at = lseek(from, at, SEEK_DATA)) >= 0) {
        end = lseek(from, at, SEEK_HOLE);
        while (at < end) {
            size_t step = end - at < (off_t)COPY_STEP ? (size_t)(end - at) : COPY_STEP;
            int rc = io_pread_full(from, buffer, step, (uint64_t)at);

            if (!rc && !io_is_zero(buffer, step))
                rc = io_pwrite_full(to, buffer, step, (uint64_t)at);
            if (rc)
                return rc;
            at += (off_t)step;
        }
    }
    return at < 0 && errno != ENXIO ? -errno : 0;
}

static int create_part(struct snapshotter *snapshotter, unsigned index, struct drafter_error *err)
{
    const struct device_options *options = &snapshotter->devices.list[index].options;
    const char *name = snapshotter->devices.list[index].name;
    cleanup_close int from = -1, to = -1;
    struct stat status = {0};
    uint64_t size;
    int rc = 0;

    if (asprintf(&snapshotter->paths[index], "%s" PART, options->output) < 0) {
        snapshotter->paths[index] = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    if (options->input && !is_made_here(name)) {
        from = open(options->input, O_RDONLY | O_CLOEXEC);
        if (from < 0 || fstat(from, &status))
            return drafter_error_errno(err, errno, "%s: cannot read device %s", options->input, name);
    }
    size = !strcmp(name, VM_DEVICE_MEMORY) ? snapshotter->options.memory_size
                                           : (uint64_t)status.st_size;
    to = open(snapshotter->paths[index], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0)
        return drafter_error_errno(err, errno, "%s: cannot create it", snapshotter->paths[index]);
    if (ftruncate(to, (off_t)package_padded_size(size)))
        rc = -errno;
    if (!rc && from >= 0)
        rc = copy_sparse(from, to, status.st_size);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot write it", snapshotter->paths[index]) : 0;
}

static const char *part(const struct snapshotter *snapshotter, const char *name)
{
    for (unsigned i = 0; i < snapshotter->devices.count; i++)
        if (!strcmp(snapshotter->devices.list[i].name, name))
            return snapshotter->paths[i];
    return NULL;
}

static int boot(struct snapshotter *snapshotter, struct drafter_error *err)
{
    struct drafter_vmm_device drives[DEVICES_MAX];
    struct drafter_vmm_spec spec = {
        .struct_size = sizeof(spec),
        .name = snapshotter->node->options.name,
        .directory = snapshotter->node->directory,
        .memory_size = snapshotter->options.memory_size,
        .cpu_count = (unsigned)snapshotter->options.cpu_count,
        .boot_args = snapshotter->options.boot_args,
        .memory = part(snapshotter, VM_DEVICE_MEMORY),
        .kernel = part(snapshotter, VM_DEVICE_KERNEL),
        .initramfs = part(snapshotter, VM_DEVICE_INITRAMFS),
        .devices = drives,
        .timeout_ms = (unsigned)(snapshotter->options.resume_timeout / 1000000),
    };
    pid_t pid;
    int rc;

    for (unsigned i = 0; i < snapshotter->devices.count; i++) {
        const char *name = snapshotter->devices.list[i].name;

        if (is_made_here(name) || !strcmp(name, VM_DEVICE_KERNEL) ||
            !strcmp(name, VM_DEVICE_INITRAMFS))
            continue;
        drives[spec.device_count++] = (struct drafter_vmm_device){
            .name = name, .path = snapshotter->paths[i], .drive = true};
    }
    slot_place(&snapshotter->slot, &spec.netns, &spec.tap, &spec.mac);
    rc = vmm_start(snapshotter->vmm, &spec, DRAFTER_VMM_BOOT, err);
    snapshotter->started = rc == 0;
    if (!rc)
        slot_announce(&snapshotter->slot);
    pid = vmm_pid(snapshotter->vmm);
    supervisor_watch(&snapshotter->supervisor, pid > 0 ? pid : 0); /* not every VMM is a process */
    return rc;
}

/* Lets the guest run for a while; the operator or the guest's end stop that. */
static int pause_between(struct snapshotter *snapshotter, int ms, struct drafter_error *err)
{
    switch (supervisor_wait(&snapshotter->supervisor, ms)) {
    case WAKEUP_SIGNAL:
        return drafter_error_set(err, ECANCELED, "cancelled before the snapshot");
    case WAKEUP_PROCESS:
        return drafter_error_set(err, ESRCH, "the VMM ended before the snapshot");
    default:
        return 0;
    }
}

/* One step of waiting for the guest, which may have to open the channel itself.  -ETIMEDOUT: not yet. */
static int await_liveness_step(struct snapshotter *snapshotter, int *fd, struct drafter_error *err)
{
    uint64_t step = drafter_now_ns() + (uint64_t)LIVENESS_STEP_MS * 1000000;
    int rc = *fd < 0 ? agent_channel(snapshotter->vmm, "liveness", step, fd, err) : 0;

    return rc ? rc : liveness_wait(*fd, LIVENESS_STEP_MS, err);
}

/* Waits in short steps, so that the operator and the guest's end are heard. */
static int await_liveness(struct snapshotter *snapshotter, struct drafter_error *err)
{
    uint64_t deadline = drafter_now_ns() + snapshotter->options.resume_timeout;
    cleanup_close int fd = -1;
    int rc = 0;

    if (!snapshotter->options.liveness)
        return 0;
    log_info("snapshotter", "waiting until the guest is alive");
    while (!rc) {
        struct drafter_error why = {0};

        rc = await_liveness_step(snapshotter, &fd, &why);
        if (!rc)
            return 0;
        if (rc != -ETIMEDOUT)
            *err = why;
        else if (drafter_now_ns() > deadline)
            drafter_error_set(err, ETIMEDOUT, "the guest did not say that it is alive within %llu s",
                              (unsigned long long)(snapshotter->options.resume_timeout / 1000000000));
        else
            rc = pause_between(snapshotter, 0, err);
    }
    return rc;
}

static int call_hook(struct snapshotter *snapshotter, struct drafter_error *err)
{
    if (!snapshotter->options.agent)
        return 0;
    return agent_hook(snapshotter->vmm, "BeforeSuspend", NULL,
                      (unsigned)(snapshotter->options.hook_timeout / 1000000), err);
}

static int save_state(struct snapshotter *snapshotter, struct drafter_error *err)
{
    const char *path = part(snapshotter, VM_DEVICE_STATE);
    cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t size;
    int rc;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s: cannot open it", path);
    if (ftruncate(fd, 0))
        return drafter_error_errno(err, errno, "%s: cannot empty it", path);
    rc = vmm_save(snapshotter->vmm, fd, err);
    if (rc)
        return rc;
    size = lseek(fd, 0, SEEK_END);
    if (size < 0 || ftruncate(fd, (off_t)package_padded_size((uint64_t)size)))
        return drafter_error_errno(err, errno, "%s: cannot pad it", path);
    return 0;
}

static int describe(struct snapshotter *snapshotter, struct drafter_error *err)
{
    struct package *package = &snapshotter->package;
    struct utsname host;
    int rc;

    package->agent_port = snapshotter->options.agent ? (uint32_t)snapshotter->options.agent_port : 0;
    package->memory_size = snapshotter->options.memory_size;
    package->cpu_count = (unsigned)snapshotter->options.cpu_count;
    if (!uname(&host))
        snprintf(package->kernel, sizeof(package->kernel), "%.64s", host.release);
    snprintf(package->boot_args, sizeof(package->boot_args), "%s", snapshotter->options.boot_args);
    rc = vmm_facts(snapshotter->vmm, &package->facts, err);
    if (rc)
        return rc;
    rc = vmm_describe(snapshotter->vmm, package->machine_config, sizeof(package->machine_config));
    return rc ? drafter_error_errno(err, -rc, "the VMM cannot describe its machine") : 0;
}

static int write_config(struct snapshotter *snapshotter, struct drafter_error *err)
{
    struct package *package = &snapshotter->package;
    const char *path = part(snapshotter, VM_DEVICE_CONFIG);
    cleanup_free char *text = NULL;
    cleanup_close int fd = -1;
    int rc;

    for (unsigned i = 0; i < snapshotter->devices.count; i++) {
        const char *name = snapshotter->devices.list[i].name;
        struct package_device *device = &package->devices[package->device_count];

        if (!strcmp(name, VM_DEVICE_CONFIG))
            continue;
        snprintf(device->name, sizeof(device->name), "%s", name);
        rc = package_hash_file(snapshotter->paths[i], device, err);
        if (rc)
            return rc;
        package->device_count++;
    }
    text = package_encode(package);
    if (!text)
        return drafter_error_set(err, ENOMEM, "out of memory");
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)package_padded_size(strlen(text))))
        return drafter_error_errno(err, errno, "%s: cannot size it", path);
    rc = io_pwrite_full(fd, text, strlen(text), 0);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot write it", path) : 0;
}

static int rename_output(struct snapshotter *snapshotter, unsigned index, struct drafter_error *err)
{
    const char *output = snapshotter->devices.list[index].options.output;
    int rc;

    if (rename(snapshotter->paths[index], output))
        return drafter_error_errno(err, errno, "%s: cannot give it its name", output);
    rc = io_sync_parent(output);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot make its name durable", output) : 0;
}

static bool is_config(const struct snapshotter *snapshotter, unsigned index)
{
    return !strcmp(snapshotter->devices.list[index].name, VM_DEVICE_CONFIG);
}

/* An older package under these names is none from here on: without its config nobody starts it. */
static int retire_old_config(struct snapshotter *snapshotter, struct drafter_error *err)
{
    const char *config = devices_find(&snapshotter->devices, VM_DEVICE_CONFIG)->options.output;
    int rc;

    if (unlink(config) && errno != ENOENT)
        return drafter_error_errno(err, errno, "%s: cannot replace it", config);
    rc = io_sync_parent(config);
    return rc ? drafter_error_errno(err, -rc, "%s: cannot replace it", config) : 0;
}

/* The config makes the package one: its name comes last, and goes again if it may not last. */
static int rename_config(struct snapshotter *snapshotter, unsigned index, struct drafter_error *err)
{
    int rc = rename_output(snapshotter, index, err);

    if (rc)
        unlink(snapshotter->devices.list[index].options.output);
    return rc;
}

/*
 * Makes all outputs durable, then gives them their names, the config's last: killed in between, there is
 * no package rather than one of two halves.
 */
static int publish(struct snapshotter *snapshotter, struct drafter_error *err)
{
    int rc = 0;

    for (unsigned i = 0; i < snapshotter->devices.count; i++) {
        cleanup_close int fd = open(snapshotter->paths[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fsync(fd))
            return drafter_error_errno(err, errno, "%s: cannot make it durable",
                                       snapshotter->paths[i]);
    }
    rc = retire_old_config(snapshotter, err);
    for (unsigned i = 0; !rc && i < snapshotter->devices.count; i++)
        if (!is_config(snapshotter, i))
            rc = rename_output(snapshotter, i, err);
    for (unsigned i = 0; !rc && i < snapshotter->devices.count; i++)
        if (is_config(snapshotter, i))
            rc = rename_config(snapshotter, i, err);
    return rc;
}

static int take_snapshot(struct snapshotter *snapshotter, struct drafter_error *err)
{
    uint64_t started = drafter_now_ns(), paused;
    int rc = check_devices(snapshotter, err);

    for (unsigned i = 0; !rc && i < snapshotter->devices.count; i++)
        rc = create_part(snapshotter, i, err);
    if (!rc)
        rc = slot_claim(&snapshotter->slot, snapshotter->node, snapshotter->options.network,
                        snapshotter->options.netns, err);
    if (!rc)
        rc = boot(snapshotter, err);
    if (!rc)
        rc = await_liveness(snapshotter, err);
    if (!rc)
        rc = pause_between(snapshotter, (int)(snapshotter->options.settle / 1000000), err);
    if (!rc)
        rc = call_hook(snapshotter, err);
    paused = drafter_now_ns();
    if (!rc)
        rc = vmm_pause(snapshotter->vmm, err);
    if (!rc)
        rc = save_state(snapshotter, err);
    if (!rc)
        rc = describe(snapshotter, err);
    if (snapshotter->started)
        vmm_stop(snapshotter->vmm);
    slot_release(&snapshotter->slot);
    if (!rc)
        rc = write_config(snapshotter, err);
    if (!rc)
        rc = publish(snapshotter, err);
    if (!rc)
        log_event("snapshot", "\"vm\":\"%s\",\"ms\":%.1f,\"pause_and_save_ms\":%.1f",
                  snapshotter->node->options.name, (double)(drafter_now_ns() - started) / 1e6,
                  (double)(drafter_now_ns() - paused) / 1e6);
    return rc;
}

static void release(struct snapshotter *snapshotter)
{
    struct drafter_error err = {0};

    if (io_remove_tree(snapshotter->node->directory, &err))
        log_warning("snapshotter", "%s", err.message);
    for (unsigned i = 0; i < snapshotter->devices.count; i++) {
        if (snapshotter->paths[i])
            unlink(snapshotter->paths[i]); /* gone already when it was published */
        free(snapshotter->paths[i]);
    }
    devices_release(&snapshotter->devices);
    supervisor_release(&snapshotter->supervisor);
}

int snapshotter_run(struct node *node, struct drafter_error *err)
{
    cleanup_free struct snapshotter *snapshotter = calloc(1, sizeof(*snapshotter));
    int rc;

    if (!snapshotter)
        return drafter_error_set(err, ENOMEM, "out of memory");
    snapshotter->node = node;
    rc = config_apply(config_section(node->config, "snapshotter", ""), snapshotter_option_table,
                      NULL, &snapshotter->options, sizeof(snapshotter->options), err);
    if (rc)
        return rc;
    rc = supervisor_init(&snapshotter->supervisor, err);
    if (!rc)
        rc = node_instance(node, DRAFTER_KIND_VMM, snapshotter->options.vmm, &snapshotter->vmm, err);
    if (!rc)
        rc = devices_read(node, &snapshotter->devices, err);
    if (!rc)
        rc = take_snapshot(snapshotter, err);
    release(snapshotter);
    return rc;
}
