/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QEMU that outlived its drafter.  The holder is its parent and has its control connection; the
 * process that adopts it asks QEMU itself how far it is.
 */
#include "qemu.h"
#include "util/cleanup.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int map_kept(struct qemu_vmm *vmm, bool *ret_found, struct drafter_error *err)
{
    void *memory;
    int result = vmm->keeper->memory(vmm->keeper->opaque, "vmm", sizeof(struct qemu_kept), &memory,
                                     ret_found);

    if (result < 0)
        return drafter_error_errno(err, -result, "cannot keep the VM");
    vmm->kept = memory;
    return 0;
}

int qemu_keep(struct qemu_vmm *vmm, struct drafter_error *err)
{
    bool found;
    int result;

    if (!vmm->keeper || !vmm->process.keeper)
        return 0;
    result = map_kept(vmm, &found, err);
    if (result == 0)
        result = vmm->keeper->put(vmm->keeper->opaque, "qmp", vmm->qmp.fd);
    if (result == 0 && vmm->incoming_fd >= 0) /* QEMU would take its end for that of its state */
        result = vmm->keeper->put(vmm->keeper->opaque, "incoming", vmm->incoming_fd);
    if (result < 0)
        return drafter_error_errno(err, -result, "cannot keep the control connection");
    *vmm->kept = (struct qemu_kept){.layout = QEMU_KEPT_LAYOUT};
    memcpy(vmm->kept->version, vmm->version, sizeof(vmm->kept->version));
    result = machine_format(&vmm->machine, vmm->kept->machine, sizeof(vmm->kept->machine));
    if (result < 0)
        return drafter_error_errno(err, -result, "the VM's description");
    __atomic_store_n(&vmm->kept->pid, (int32_t)process_pid(&vmm->process), __ATOMIC_RELEASE);
    return 0;
}

void qemu_forget(struct qemu_vmm *vmm)
{
    if (vmm->kept)
        munmap(vmm->kept, sizeof(*vmm->kept));
    vmm->kept = NULL;
}

static int find_kept(struct qemu_vmm *vmm, struct drafter_error *err)
{
    struct qemu_kept *kept;
    bool found = false;
    int result = vmm->keeper ? map_kept(vmm, &found, err) : 0;

    kept = vmm->kept;
    if (result < 0)
        return result;
    if (!found || !kept->pid)
        return drafter_error_set(err, ENOENT, "no QEMU was left");
    if (kept->layout != QEMU_KEPT_LAYOUT || kept->pid < 2 || kept->version[sizeof(kept->version) - 1] ||
        kept->machine[sizeof(kept->machine) - 1])
        return drafter_error_set(err, EPROTO, "the QEMU that was left is another version's");
    memcpy(vmm->version, kept->version, sizeof(vmm->version));
    return machine_parse(kept->machine, &vmm->machine, err);
}

static int query(struct qemu_vmm *vmm, const char *command, uint64_t deadline, char *ret_status,
                 size_t size, struct drafter_error *err)
{
    json_t *value = NULL;
    const char *status;
    int result = qmp_send(&vmm->qmp, command, NULL, -1, deadline, err);

    if (result == 0)
        result = qmp_receive(&vmm->qmp, vmm->qmp.last_id, deadline, &value, err);
    if (result < 0)
        return result;
    status = json_string_value(json_object_get(value, "status"));
    snprintf(ret_status, size, "%s", status ? status : "");
    json_decref(value);
    return 0;
}

/* Words of which one is `text`; the last is NULL. */
static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(text, *words) == 0)
            return true;
    }
    return false;
}

/* Not a byte of the state was given to it, and it can be. */
static bool awaits_state(struct qemu_vmm *vmm, const char *migration)
{
    static const char *const untouched[] = {"", "none", "setup", NULL};

    return is_one_of(migration, untouched) &&
           vmm->keeper->take(vmm->keeper->opaque, "incoming", &vmm->incoming_fd) == 0;
}

/*
 * A save that the dead process began comes to its end, and first it stops the guest; an unfinished load
 * never does.
 */
static int find_phase(struct qemu_vmm *vmm, uint64_t deadline, struct drafter_error *err)
{
    static const char *const saving[] = {"setup", "active", "pre-switchover", "device", NULL};
    static const struct timespec moment = {.tv_nsec = 1000000};
    char status[32], migration[32] = "";
    int result;

    for (;;) {
        result = query(vmm, "query-migrate", deadline, migration, sizeof(migration), err);
        if (result == 0)
            result = query(vmm, "query-status", deadline, status, sizeof(status), err);
        if (result < 0)
            return result;
        if (strcmp(status, "finish-migrate") != 0 &&
            (strcmp(status, "inmigrate") == 0 || !is_one_of(migration, saving)))
            break;
        if (drafter_now_ns() > deadline)
            return drafter_error_set(err, ETIMEDOUT, "QEMU does not end a save");
        nanosleep(&moment, NULL);
    }
    if (strcmp(status, "inmigrate") == 0)
        vmm->phase = awaits_state(vmm, migration) ? QEMU_INCOMING : QEMU_BROKEN;
    else if (strcmp(status, "paused") == 0 || strcmp(status, "postmigrate") == 0 ||
             strcmp(status, "prelaunch") == 0)
        vmm->phase = QEMU_PAUSED;
    else
        vmm->phase = QEMU_RUNNING; /* or it stopped by itself, which is the guest's affair */
    return 0;
}

static int connect_again(struct qemu_vmm *vmm, const struct drafter_vmm_spec *spec,
                         uint64_t deadline, struct drafter_error *err)
{
    char log_path[PATH_MAX];
    int fd, result;

    result = process_adopt(
        &vmm->process,
        &(struct process_spec){.name = "QEMU",
                               .log_path = qemu_log_path(spec->directory, log_path, sizeof(log_path)),
                               .keeper = vmm->keeper},
        vmm->kept->pid, err);
    if (result == 0)
        result = vmm->keeper->take(vmm->keeper->opaque, "qmp", &fd);
    if (result < 0)
        return drafter_error_errno(err, -result, "QEMU's control connection was not left");
    return qmp_adopt(&vmm->qmp, fd, deadline, err);
}

int qemu_adopt(void *instance, const struct drafter_vmm_spec *spec, enum drafter_vmm_phase *ret_phase,
               struct drafter_error *err)
{
    static const enum drafter_vmm_phase phases[] = {
        [QEMU_STOPPED] = DRAFTER_VMM_USELESS, [QEMU_LAUNCHED] = DRAFTER_VMM_USELESS,
        [QEMU_RUNNING] = DRAFTER_VMM_RUNNING,
        [QEMU_PAUSED] = DRAFTER_VMM_PAUSED,   [QEMU_SAVED] = DRAFTER_VMM_PAUSED,
        [QEMU_SAVING] = DRAFTER_VMM_PAUSED,
        [QEMU_INCOMING] = DRAFTER_VMM_WAITING, [QEMU_BROKEN] = DRAFTER_VMM_USELESS,
    };
    struct qemu_vmm *vmm = instance;
    uint64_t deadline = qemu_deadline(vmm);
    int result;

    if (vmm->phase != QEMU_STOPPED)
        return drafter_error_set(err, EBUSY, "the VM was started already");
    result = find_kept(vmm, err);
    if (result < 0)
        return result;
    vmm->directory = strdup(spec->directory);
    if (!vmm->directory)
        return drafter_error_errno(err, ENOMEM, "VM");
    result = connect_again(vmm, spec, deadline, err);
    if (result == 0)
        result = find_phase(vmm, deadline, err);
    if (result < 0)
        return drafter_error_wrap(err, "the VM that was left");
    *ret_phase = phases[vmm->phase];
    return 0;
}
