/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Save and load.  The state goes through a file in the VM's directory.  What the fork mapped shared it
 * only has to write back.  Memory of Firecracker's own is written to the memory device: at first as a
 * whole, then, by a release, what was changed since.
 */
#include "firecracker.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "vmm/common/state.h"
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define STATE_FILE "state"
#define DUMP_FILE "memory.dump"
#define PAGER_SOCKET "pager.sock"
#define COPY_STEP ((size_t)1 << 20)

static const char state_magic[STATE_MAGIC + 1] = "drffcvm1";

static int refuse(const struct firecracker *vmm, const char *what, struct drafter_error *err)
{
    return drafter_error_set(err, EINVAL, "cannot %s: %s", what,
                             vmm->phase == FIRECRACKER_STOPPED   ? "there is no VM"
                             : vmm->phase == FIRECRACKER_RUNNING ? "the VM runs"
                                                                 : "the VM is in another phase");
}

/* ---- the state file */

/* The file's content in a memory file whose offset is its end, as state_write() wants it. */
static int take_state(struct firecracker *vmm, struct drafter_error *err)
{
    cleanup_free char *path = jail_path(&vmm->jail, STATE_FILE);
    cleanup_close int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    cleanup_close int memory_fd = -1;
    struct stat status;
    int result;

    if (fd < 0 || fstat(fd, &status) < 0)
        return drafter_error_errno(err, errno, "Firecracker's state file");
    if ((uint64_t)status.st_size > STATE_MAX)
        return drafter_error_set(err, EFBIG, "Firecracker's state has %lld bytes",
                                 (long long)status.st_size);
    result = state_create(&memory_fd, err);
    if (result < 0)
        return result;
    for (off_t at = 0; at < status.st_size;)
        if (sendfile(memory_fd, fd, &at, (size_t)(status.st_size - at)) <= 0)
            return drafter_error_errno(err, errno, "%s", path);
    unlink(path);
    vmm->saved_fd = steal_fd(&memory_fd);
    return 0;
}

/* Puts what the memory file holds where Firecracker reads it. */
static int give_state(struct firecracker *vmm, int memory_fd, struct drafter_error *err)
{
    cleanup_free char *path = jail_path(&vmm->jail, STATE_FILE);
    cleanup_close int fd = -1;
    struct stat status;

    if (path)
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(memory_fd, &status) < 0)
        return drafter_error_errno(err, errno, "Firecracker's state file");
    for (off_t at = 0; at < status.st_size;)
        if (sendfile(fd, memory_fd, &at, (size_t)(status.st_size - at)) <= 0)
            return drafter_error_errno(err, errno, "%s", path);
    return jail_give(&vmm->jail, STATE_FILE, err);
}

static void remove_file(const struct firecracker *vmm, const char *name)
{
    cleanup_free char *path = jail_path(&vmm->jail, name);

    if (path)
        unlink(path);
}

/* ---- memory of its own */

/* Copies what is not a hole in one file to the same place of the other. */
static int copy_data(int from, int to, char *buffer, struct drafter_error *err)
{
    off_t begin, end = 0;

    while ((begin = lseek(from, end, SEEK_DATA)) >= 0) {
        end = lseek(from, begin, SEEK_HOLE);
        for (off_t at = begin; at < end;) {
            size_t step = end - at < (off_t)COPY_STEP ? (size_t)(end - at) : COPY_STEP;
            int result = io_pread_full(from, buffer, step, (uint64_t)at);

            if (result == 0)
                result = io_pwrite_full(to, buffer, step, (uint64_t)at);
            if (result < 0)
                return drafter_error_errno(err, -result, "cannot copy the guest's memory");
            at += (off_t)step;
        }
    }
    return errno == ENXIO ? 0 : drafter_error_errno(err, errno, "the guest's memory");
}

static int copy_dump(const struct firecracker *vmm, struct drafter_error *err)
{
    cleanup_free char *dump = jail_path(&vmm->jail, DUMP_FILE), *buffer = malloc(COPY_STEP);
    cleanup_close int from = dump ? open(dump, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    cleanup_close int to = open(vmm->memory_path, O_WRONLY | O_CLOEXEC);

    if (from < 0 || to < 0 || !buffer)
        return drafter_error_errno(err, errno, "%s", from < 0 ? DUMP_FILE : vmm->memory_path);
    return copy_data(from, to, buffer, err);
}

static int create_snapshot(struct firecracker *vmm, const char *type, const char *memory,
                           struct drafter_error *err)
{
    return api_put(&vmm->api, "/snapshot/create",
                   json_pack("{s:s,s:s,s:s}", "snapshot_type", type, "snapshot_path", STATE_FILE,
                             "mem_file_path", memory),
                   firecracker_deadline(vmm), err);
}

/* Whether Firecracker can write to the device itself; it would cut a longer one to the memory's size. */
static bool fits(const struct firecracker *vmm)
{
    struct stat status;

    return stat(vmm->memory_path, &status) == 0 &&
           (uint64_t)status.st_size == vmm->machine.board.memory;
}

/*
 * Snapshots of memory that is Firecracker's own have two steps, so that the guest stands still for the
 * first alone.  Firecracker holds a page for written once it is in the dump: until the second step is done
 * nobody knows what the device lacks, and the next dump must be whole.
 */
static int dump(struct firecracker *vmm, bool *ret_copy, struct drafter_error *err)
{
    bool tracked = vmm->memory == MEMORY_TRACKED;
    bool direct = !tracked && fits(vmm);
    int result;

    firecracker_keep_memory(vmm, MEMORY_OWN);
    *ret_copy = !direct;
    remove_file(vmm, DUMP_FILE);
    result = create_snapshot(vmm, tracked ? "Diff" : "Full", direct ? "memory" : DUMP_FILE, err);
    if (result < 0) /* what filled the file system must not go on filling it */
        remove_file(vmm, DUMP_FILE);
    return result;
}

static int settle(struct firecracker *vmm, bool copy, struct drafter_error *err)
{
    int result = copy ? copy_dump(vmm, err) : 0;

    remove_file(vmm, DUMP_FILE);
    if (result == 0 && firecracker_tracks(vmm))
        firecracker_keep_memory(vmm, MEMORY_TRACKED);
    return result;
}

/* ---- operations */

int firecracker_save(void *instance, int fd, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    bool copy = false;
    int result;

    if (vmm->phase == FIRECRACKER_SAVED) /* the guest has not changed since */
        return state_write(state_magic, vmm->saved_fd, fd, err);
    if (vmm->phase != FIRECRACKER_PAUSED)
        return refuse(vmm, "save", err);
    if (vmm->memory == MEMORY_SHARED)
        result = create_snapshot(vmm, "MsyncAndState", "memory", err);
    else
        result = dump(vmm, &copy, err);
    if (result < 0)
        return firecracker_explain(vmm, result, "save", err);
    if (vmm->memory != MEMORY_SHARED)
        result = settle(vmm, copy, err);
    if (result == 0)
        result = take_state(vmm, err);
    if (result < 0)
        return result;
    vmm->phase = FIRECRACKER_SAVED;
    return state_write(state_magic, vmm->saved_fd, fd, err);
}

/* The guest stands still while Firecracker writes down what it changed. */
int firecracker_gather(void *instance, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    bool copy = false;
    int result, resumed = 0;

    if (vmm->phase != FIRECRACKER_RUNNING || vmm->memory == MEMORY_SHARED)
        return 0;
    result = firecracker_set_state(vmm, "Paused", err);
    if (result == 0) {
        result = dump(vmm, &copy, err);
        resumed = firecracker_set_state(vmm, "Resumed", result < 0 ? NULL : err);
        result = result < 0 ? result : resumed;
    }
    if (result == -ETIMEDOUT || resumed == -ETIMEDOUT)
        firecracker_leave_word(vmm, "Resumed");
    if (result == 0)
        result = settle(vmm, copy, err);
    remove_file(vmm, STATE_FILE);
    return result < 0 ? firecracker_explain(vmm, result, "gather memory", err) : 0;
}

/* The tap of this host takes the place of the saved one, whose name made the interface's identifier. */
static void override_tap(const struct firecracker *vmm, json_t *body)
{
    char id[sizeof(vmm->machine.tap)];

    if (!*vmm->tap || strcmp(vmm->tap, vmm->machine.tap) == 0)
        return;
    firecracker_identify(vmm->machine.tap, id, sizeof(id));
    json_object_set_new(body, "network_overrides",
                        json_pack("[{s:s,s:s}]", "iface_id", id, "host_dev_name", vmm->tap));
}

/* A release cannot map memory shared; without map-private its pages are served on demand. */
static bool is_served(const struct firecracker *vmm)
{
    return vmm->kind == KIND_STOCK && !vmm->config->map_private;
}

static json_t *describe_load(const struct firecracker *vmm)
{
    json_t *body = json_pack("{s:s,s:b}", "snapshot_path", STATE_FILE, "resume_vm", 0);
    bool served = is_served(vmm), tracked = firecracker_tracks(vmm);

    json_object_set_new(body, "mem_backend",
                        json_pack("{s:s,s:s}", "backend_path", served ? PAGER_SOCKET : "memory",
                                  "backend_type", served ? "Uffd" : "File"));
    if (vmm->kind == KIND_FORK)
        json_object_set_new(body, "shared", json_boolean(!tracked));
    json_object_set_new(body, vmm->kind == KIND_FORK ? "enable_diff_snapshots" : "track_dirty_pages",
                        json_boolean(tracked));
    override_tap(vmm, body);
    return body;
}

static int start_pager(struct firecracker *vmm, struct drafter_error *err)
{
    int result;

    if (!is_served(vmm))
        return 0;
    result = pager_start(&vmm->pager, vmm->jail.root, PAGER_SOCKET, vmm->memory_path,
                         vmm->machine.board.memory, vmm->process.pidfd, err);
    return result < 0 ? result : jail_give(&vmm->jail, PAGER_SOCKET, err);
}

static int load(struct firecracker *vmm, struct drafter_error *err)
{
    int result = start_pager(vmm, err);

    if (result < 0)
        return result;
    firecracker_keep_memory(vmm, firecracker_tracks(vmm) ? MEMORY_TRACKED : MEMORY_SHARED);
    result = api_put(&vmm->api, "/snapshot/load", describe_load(vmm), firecracker_deadline(vmm), err);
    if (result == 0 && is_served(vmm))
        result = pager_await(&vmm->pager, firecracker_deadline(vmm), err);
    remove_file(vmm, PAGER_SOCKET);
    return result;
}

int firecracker_load(void *instance, int fd, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    cleanup_close int memory_fd = -1;
    int result;

    if (vmm->phase != FIRECRACKER_INCOMING)
        return refuse(vmm, "load", err);
    result = state_read(state_magic, true, fd, &memory_fd, err);
    if (result == 0)
        result = give_state(vmm, memory_fd, err);
    if (result < 0)
        return drafter_error_wrap(err, "load");
    vmm->phase = FIRECRACKER_BROKEN;
    result = load(vmm, err);
    remove_file(vmm, STATE_FILE);
    if (result < 0)
        return firecracker_explain(vmm, result, "load", err);
    vmm->phase = FIRECRACKER_PAUSED;
    return 0;
}
