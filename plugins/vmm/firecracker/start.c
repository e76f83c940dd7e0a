/* SPDX-License-Identifier: BSD-2-Clause */
#include "firecracker.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "vmm/common/socket.h"
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LOG_FILE "firecracker.log"
#define WORDS_MAX 32

/* ---- the machine */

static int configured_machine(const struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                              struct machine *machine, struct drafter_error *err)
{
    snprintf(machine->template, sizeof(machine->template), "%s", vmm->config->cpu_template);
    return machine_from_spec(machine, spec, err);
}

/* Packages of the predecessor have no description: the saved state knows all but names. */
static int saved_machine(const struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                         struct machine *machine, struct drafter_error *err)
{
    struct machine wanted = {0};
    int result = configured_machine(vmm, spec, &wanted, err);

    if (result < 0)
        return result;
    if (spec->machine_config && !*spec->machine_config) {
        *machine = wanted;
        return 0;
    }
    result = machine_parse(spec->machine_config, machine, err);
    return result < 0 ? result : machine_check(machine, &wanted, err);
}

static int choose_machine(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                          enum drafter_vmm_start how, struct drafter_error *err)
{
    struct machine machine = {0};
    int result = how == DRAFTER_VMM_BOOT ? configured_machine(vmm, spec, &machine, err)
                                         : saved_machine(vmm, spec, &machine, err);

    if (result == 0) {
        vmm->machine = machine;
        snprintf(vmm->tap, sizeof(vmm->tap), "%s", spec->tap ? spec->tap : "");
    }
    return result;
}

/* ---- the directory */

int firecracker_name_jail(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                          struct drafter_error *err)
{
    int result = firecracker_version(vmm, err);

    if (result < 0)
        return result;
    vmm->directory = strdup(spec->directory);
    vmm->memory_path = strdup(spec->memory);
    if (!vmm->directory || !vmm->memory_path)
        return drafter_error_errno(err, ENOMEM, "VM");
    vmm->jail.uid = (uid_t)vmm->config->uid;
    vmm->jail.gid = (gid_t)vmm->config->gid;
    return jail_init(&vmm->jail, spec->directory, vmm->jailer ? vmm->config->chroot_base : NULL,
                     vmm->program, err);
}

static int make_log(struct firecracker *vmm, struct drafter_error *err)
{
    cleanup_free char *path = jail_path(&vmm->jail, LOG_FILE);
    cleanup_close int fd = -1;

    if (!path)
        return drafter_error_errno(err, ENOMEM, "VM");
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    return jail_give(&vmm->jail, LOG_FILE, err);
}

static int place_devices(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                         struct drafter_error *err)
{
    const struct drafter_vmm_device files[] = {{.name = "memory", .path = spec->memory},
                                               {.name = "kernel", .path = spec->kernel},
                                               {.name = "initramfs", .path = spec->initramfs}};
    int result = 0;

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && result == 0; i++) {
        if (files[i].path && access(files[i].path, R_OK) < 0)
            return drafter_error_errno(err, errno, "%s", files[i].path);
        if (files[i].path)
            result = jail_place(&vmm->jail, files[i].name, files[i].path, err);
    }
    for (size_t i = 0; i < spec->device_count && result == 0; i++) {
        if (spec->devices[i].drive)
            result = jail_place(&vmm->jail, spec->devices[i].name, spec->devices[i].path, err);
    }
    return result;
}

/* ---- the process */

const char *firecracker_log_path(const char *directory, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s/firecracker.log", directory);
    return buffer;
}

struct words {
    const char *list[WORDS_MAX + 1]; /* the caller's, or in text */
    size_t count;
    char chdir[PATH_MAX], uid[16], gid[16], mems[64], cpus[4096];
};

static void add(struct words *words, const char *word)
{
    if (words->count < WORDS_MAX)
        words->list[words->count++] = word;
}

static void add_pair(struct words *words, const char *option, const char *value)
{
    add(words, option);
    add(words, value);
}

/* Memory and processors of a node; where the kernel tells of none the VM runs anywhere. */
static int add_node(const struct firecracker *vmm, struct words *words, struct drafter_error *err)
{
    const char *node = vmm->config->numa_node;
    cleanup_free char *list = NULL;
    char path[96];
    size_t length;

    if (!node)
        return 0;
    snprintf(path, sizeof(path), "/sys/devices/system/node/node%.8s/cpulist", node);
    if (io_read_file(path, sizeof(words->cpus) - 32, &list, &length, NULL) < 0) {
        drafter_log(DRAFTER_LOG_WARNING, vmm->id, "%s is missing: the VM is bound to no NUMA node",
                    path);
        return 0;
    }
    if (memchr(list, '\0', length))
        return drafter_error_set(err, EINVAL, "%s cannot be read", path);
    list[strcspn(list, "\n")] = '\0';
    snprintf(words->mems, sizeof(words->mems), "cpuset.mems=%.8s", node);
    snprintf(words->cpus, sizeof(words->cpus), "cpuset.cpus=%s", list);
    add_pair(words, "--cgroup", words->mems);
    add_pair(words, "--cgroup", words->cpus);
    return 0;
}

static int add_jailer(const struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                      struct words *words, struct drafter_error *err)
{
    const struct firecracker_config *config = vmm->config;
    int result;

    snprintf(words->uid, sizeof(words->uid), "%" PRIu64, config->uid);
    snprintf(words->gid, sizeof(words->gid), "%" PRIu64, config->gid);
    add(words, vmm->jailer);
    add_pair(words, "--id", vmm->jail.id);
    add_pair(words, "--exec-file", vmm->program);
    add_pair(words, "--uid", words->uid);
    add_pair(words, "--gid", words->gid);
    add_pair(words, "--chroot-base-dir", config->chroot_base);
    if (spec->netns)
        add_pair(words, "--netns", spec->netns);
    add_pair(words, "--cgroup-version", config->cgroup_version ? "2" : "1");
    result = add_node(vmm, words, err);
    add(words, "--");
    return result;
}

/*
 * The names of files must be relative in a saved VM, so Firecracker gets its directory to work in;
 * env(1) changes to it and becomes Firecracker.
 */
static void add_plain(const struct firecracker *vmm, struct words *words)
{
    snprintf(words->chdir, sizeof(words->chdir), "--chdir=%s", vmm->jail.root);
    add(words, "env");
    add(words, words->chdir);
    add(words, vmm->program);
    add_pair(words, "--id", vmm->jail.id);
}

static int open_serial(const struct firecracker *vmm, int *ret_fd, struct drafter_error *err)
{
    const char *serial = vmm->config->serial;
    cleanup_free char *path = NULL;
    int fd;

    if (vmm->config->enable_output || strcmp(serial, "stdio") == 0)
        return 0;
    if (strcmp(serial, "none") == 0)
        path = strdup("/dev/null");
    else if (asprintf(&path, "%s%s%s", *serial == '/' ? "" : vmm->directory,
                      *serial == '/' ? "" : "/", serial) < 0)
        path = NULL;
    if (!path)
        return drafter_error_errno(err, ENOMEM, "VM");
    /* Read and write: a FIFO has a reader then, and without another the guest's words are lost. */
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    *ret_fd = fd;
    return 0;
}

static int spawn(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                 struct drafter_error *err)
{
    struct words words = {.count = 0};
    cleanup_close int serial_fd = -1;
    char log_path[PATH_MAX];
    int result = vmm->jail.jailed ? add_jailer(vmm, spec, &words, err) : 0;

    if (!vmm->jail.jailed)
        add_plain(vmm, &words);
    add_pair(&words, "--api-sock", API_SOCKET);
    add_pair(&words, "--log-path", LOG_FILE);
    add_pair(&words, "--level", "Warning");
    if (result == 0)
        result = open_serial(vmm, &serial_fd, err);
    if (result < 0)
        return result;
    result = process_start(
        &vmm->process,
        &(struct process_spec){.name = "Firecracker",
                               .argv = words.list,
                               .netns = vmm->jail.jailed ? NULL : spec->netns,
                               .log_path = firecracker_log_path(vmm->directory, log_path,
                                                                sizeof(log_path)),
                               .keeper = vmm->keeper,
                               .inherit_stdin = vmm->config->enable_input,
                               .inherit_stdout = serial_fd < 0,
                               .stdout_fd = serial_fd},
        err);
    return result < 0 ? result : jail_note(&vmm->jail, process_pid(&vmm->process), err);
}

static int await_socket(struct firecracker *vmm, uint64_t deadline, struct drafter_error *err)
{
    static const struct timespec moment = {.tv_nsec = 500000};
    int fd, result;

    while ((result = socket_connect(vmm->jail.root, API_SOCKET, &fd, err)) < 0) {
        if (process_pid(&vmm->process) < 0)
            return drafter_error_set(err, EPIPE, "it ended");
        if (drafter_now_ns() > deadline)
            return drafter_error_set(err, ETIMEDOUT, "Firecracker does not become ready: %s",
                                     strerror(-result));
        nanosleep(&moment, NULL);
    }
    close(fd);
    return 0;
}

/* Until it answers a question. */
static int await_ready(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                       struct drafter_error *err)
{
    uint64_t timeout_ms = spec->timeout_ms ? spec->timeout_ms : vmm->config->timeout / 1000000;
    uint64_t deadline = drafter_now_ns() + timeout_ms * 1000000;
    json_t *value = NULL;
    int result = await_socket(vmm, deadline, err);

    if (result == 0)
        result = api_open(&vmm->api, vmm->jail.root, API_SOCKET, err);
    if (result == 0)
        result = api_get(&vmm->api, "/machine-config", deadline, &value, err);
    json_decref(value);
    return result < 0 ? result : firecracker_learn_kind(vmm, &vmm->api, err);
}

/* ---- the machine of a VM that boots, in the order of calls that the original has */

static int put_boot_source(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                           struct drafter_error *err)
{
    json_t *body = json_pack("{s:s,s:s}", "kernel_image_path", "kernel", "boot_args",
                             spec->boot_args ? spec->boot_args : "");

    if (spec->initramfs)
        json_object_set_new(body, "initrd_path", json_string("initramfs"));
    return api_put(&vmm->api, "/boot-source", body, firecracker_deadline(vmm), err);
}

/* Identifiers of Firecracker have letters, digits and '_'. */
void firecracker_identify(const char *name, char *id, size_t size)
{
    snprintf(id, size, "%s", name);
    for (; *id; id++)
        *id = isalnum((unsigned char)*id) ? *id : '_';
}

static int put_drive(struct firecracker *vmm, const struct drafter_vmm_device *device,
                     struct drafter_error *err)
{
    char id[DRAFTER_NAME_MAX + 1], path[DRAFTER_NAME_MAX + 16];

    firecracker_identify(device->name, id, sizeof(id));
    snprintf(path, sizeof(path), "/drives/%s", id);
    return api_put(&vmm->api, path,
                   json_pack("{s:s,s:s,s:b,s:b,s:s}", "drive_id", id, "path_on_host", device->name,
                             "is_root_device", 0, "is_read_only", device->readonly, "io_engine",
                             vmm->config->io_engine_sync ? "Sync" : "Async"),
                   firecracker_deadline(vmm), err);
}

static int put_machine(struct firecracker *vmm, struct drafter_error *err)
{
    json_t *body = json_pack("{s:I,s:I,s:b}", "vcpu_count", (json_int_t)vmm->machine.board.cpus,
                             "mem_size_mib", (json_int_t)(vmm->machine.board.memory >> 20),
                             "track_dirty_pages", firecracker_tracks(vmm));

    if (strcmp(vmm->machine.template, "None") != 0)
        json_object_set_new(body, "cpu_template", json_string(vmm->machine.template));
    return api_put(&vmm->api, "/machine-config", body, firecracker_deadline(vmm), err);
}

static int put_vsock(struct firecracker *vmm, struct drafter_error *err)
{
    if (!vmm->config->vsock)
        return 0;
    return api_put(&vmm->api, "/vsock",
                   json_pack("{s:i,s:s}", "guest_cid", 3, "uds_path", VSOCK_SOCKET),
                   firecracker_deadline(vmm), err);
}

static int put_network(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                       struct drafter_error *err)
{
    char id[32], path[64];
    json_t *body;

    if (!spec->tap)
        return 0;
    firecracker_identify(vmm->machine.tap, id, sizeof(id));
    snprintf(path, sizeof(path), "/network-interfaces/%s", id);
    body = json_pack("{s:s,s:s}", "iface_id", id, "host_dev_name", spec->tap);
    if (spec->mac)
        json_object_set_new(body, "guest_mac", json_string(spec->mac));
    return api_put(&vmm->api, path, body, firecracker_deadline(vmm), err);
}

static int boot(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                struct drafter_error *err)
{
    int result = put_boot_source(vmm, spec, err);

    for (size_t i = 0; i < spec->device_count && result == 0; i++) {
        if (spec->devices[i].drive)
            result = put_drive(vmm, &spec->devices[i], err);
    }
    if (result == 0)
        result = put_machine(vmm, err);
    if (result == 0)
        result = put_vsock(vmm, err);
    if (result == 0)
        result = put_network(vmm, spec, err);
    if (result == 0)
        result = vsock_open(vmm, err);
    if (result == 0)
        result = api_put(&vmm->api, "/actions", json_pack("{s:s}", "action_type", "InstanceStart"),
                         firecracker_deadline(vmm), err);
    return result;
}

/* ---- start and stop */

static int check_spec(const struct drafter_vmm_spec *spec, struct drafter_error *err)
{
    if (!spec->memory || !spec->kernel || !spec->directory || !spec->name)
        return drafter_error_set(err, EINVAL,
                                 "a VM needs a name, a directory, memory and a kernel");
    if (strlen(spec->directory) > PATH_MAX - 64)
        return drafter_error_set(err, ENAMETOOLONG, "the VM's directory");
    return 0;
}

/* A jail must have its devices before the jailer enters it, so there is less to do ahead. */
int firecracker_launch(void *instance, const struct drafter_vmm_spec *spec,
                       enum drafter_vmm_start how, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    int result = check_spec(spec, err);

    if (vmm->phase != FIRECRACKER_STOPPED)
        return drafter_error_set(err, EBUSY, "the VM was started already");
    if (result == 0)
        result = choose_machine(vmm, spec, how, err);
    if (result == 0)
        result = firecracker_name_jail(vmm, spec, err);
    if (result == 0)
        result = jail_make(&vmm->jail, err);
    if (result == 0)
        result = make_log(vmm, err);
    if (result == 0 && !vmm->jail.jailed)
        result = spawn(vmm, spec, err);
    if (result < 0)
        firecracker_stop(vmm);
    else
        vmm->phase = FIRECRACKER_LAUNCHED;
    return result;
}

static int go_on(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                 enum drafter_vmm_start how, struct drafter_error *err)
{
    int result = place_devices(vmm, spec, err);

    if (result == 0 && vmm->jail.jailed)
        result = spawn(vmm, spec, err);
    if (result == 0)
        result = await_ready(vmm, spec, err);
    if (result == 0 && how == DRAFTER_VMM_BOOT)
        result = boot(vmm, spec, err);
    if (result == -EPIPE)
        result = process_explain(&vmm->process, 2000, err);
    return result < 0 ? result : firecracker_keep(vmm, err);
}

int firecracker_start(void *instance, const struct drafter_vmm_spec *spec,
                      enum drafter_vmm_start how, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    int result = vmm->phase == FIRECRACKER_LAUNCHED ? 0 : firecracker_launch(vmm, spec, how, err);

    if (result < 0)
        return result;
    result = go_on(vmm, spec, how, err);
    if (result < 0) {
        firecracker_stop(vmm);
        return result;
    }
    vmm->phase = how == DRAFTER_VMM_BOOT ? FIRECRACKER_RUNNING : FIRECRACKER_INCOMING;
    return 0;
}

void firecracker_stop(void *instance)
{
    struct firecracker *vmm = instance;

    process_stop(&vmm->process);
    pager_stop(&vmm->pager);
    api_close(&vmm->api);
    vsock_close(vmm);
    firecracker_forget(vmm);
    jail_remove(&vmm->jail);
    free(vmm->directory);
    free(vmm->memory_path);
    vmm->directory = vmm->memory_path = NULL;
    if (vmm->saved_fd >= 0)
        close(vmm->saved_fd);
    if (vmm->word_fd >= 0)
        close(vmm->word_fd);
    vmm->saved_fd = vmm->word_fd = -1;
    vmm->memory = MEMORY_OWN;
    vmm->phase = FIRECRACKER_STOPPED;
}
