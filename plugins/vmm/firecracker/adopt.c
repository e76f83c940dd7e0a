/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Firecracker that outlived its drafter.  The holder is its parent; its API answers whoever connects,
 * and tells how far it is.
 */
#include "firecracker.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static int map_kept(struct firecracker *vmm, bool *ret_found, struct drafter_error *err)
{
    void *memory;
    int result = vmm->keeper->memory(vmm->keeper->opaque, "vmm", sizeof(struct firecracker_kept),
                                     &memory, ret_found);

    if (result < 0)
        return drafter_error_errno(err, -result, "cannot keep the VM");
    vmm->kept = memory;
    return 0;
}

int firecracker_keep(struct firecracker *vmm, struct drafter_error *err)
{
    bool found;
    int result;

    if (!vmm->keeper || !vmm->process.keeper)
        return 0;
    result = map_kept(vmm, &found, err);
    if (result < 0)
        return result;
    *vmm->kept = (struct firecracker_kept){.layout = FIRECRACKER_KEPT_LAYOUT,
                                           .kind = (int32_t)vmm->kind,
                                           .memory = (int32_t)vmm->memory};
    memcpy(vmm->kept->version, vmm->version, sizeof(vmm->kept->version));
    result = machine_format(&vmm->machine, vmm->kept->machine, sizeof(vmm->kept->machine));
    if (result < 0)
        return drafter_error_errno(err, -result, "the VM's description");
    __atomic_store_n(&vmm->kept->pid, (int32_t)process_pid(&vmm->process), __ATOMIC_RELEASE);
    return 0;
}

/* What is said here holds if this process dies now. */
void firecracker_keep_memory(struct firecracker *vmm, enum firecracker_memory memory)
{
    vmm->memory = memory;
    if (vmm->kept)
        __atomic_store_n(&vmm->kept->memory, (int32_t)memory, __ATOMIC_RELEASE);
}

void firecracker_forget(struct firecracker *vmm)
{
    if (vmm->kept)
        munmap(vmm->kept, sizeof(*vmm->kept));
    vmm->kept = NULL;
}

static int find_kept(struct firecracker *vmm, struct drafter_error *err)
{
    struct firecracker_kept *kept;
    bool found = false;
    int result = vmm->keeper ? map_kept(vmm, &found, err) : 0;

    kept = vmm->kept;
    if (result < 0)
        return result;
    if (!found || !kept->pid)
        return drafter_error_set(err, ENOENT, "no Firecracker was left");
    if (kept->layout != FIRECRACKER_KEPT_LAYOUT || kept->pid < 2 ||
        kept->version[sizeof(kept->version) - 1] || kept->machine[sizeof(kept->machine) - 1])
        return drafter_error_set(err, EPROTO, "the Firecracker that was left is another version's");
    memcpy(vmm->version, kept->version, sizeof(vmm->version));
    vmm->kind = (enum firecracker_kind)kept->kind;
    vmm->memory = (enum firecracker_memory)kept->memory;
    return machine_parse(kept->machine, &vmm->machine, err);
}

/* A load or a save that the dead process began comes to its end before this is answered. */
static int find_phase(struct firecracker *vmm, struct drafter_error *err)
{
    json_t *value = NULL;
    const char *state;
    int result = api_get(&vmm->api, "/", firecracker_deadline(vmm), &value, err);

    if (result < 0)
        return result;
    state = json_string_value(json_object_get(value, "state"));
    if (state && strcmp(state, "Not started") == 0)
        vmm->phase = FIRECRACKER_INCOMING;
    else if (state && strcmp(state, "Paused") == 0)
        vmm->phase = FIRECRACKER_PAUSED;
    else
        vmm->phase = FIRECRACKER_RUNNING;
    json_decref(value);
    return 0;
}

static int connect_again(struct firecracker *vmm, const struct drafter_vmm_spec *spec,
                         struct drafter_error *err)
{
    char log_path[PATH_MAX];
    int result = firecracker_name_jail(vmm, spec, err);

    if (result == 0)
        result = process_adopt(&vmm->process,
                               &(struct process_spec){.name = "Firecracker",
                                                      .log_path = firecracker_log_path(
                                                          spec->directory, log_path,
                                                          sizeof(log_path)),
                                                      .keeper = vmm->keeper},
                               vmm->kept->pid, err);
    if (result == 0)
        result = api_open(&vmm->api, vmm->jail.root, API_SOCKET, err);
    return result < 0 ? result : find_phase(vmm, err);
}

int firecracker_adopt(void *instance, const struct drafter_vmm_spec *spec,
                      enum drafter_vmm_phase *ret_phase, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    int result;

    if (vmm->phase != FIRECRACKER_STOPPED)
        return drafter_error_set(err, EBUSY, "the VM was started already");
    result = find_kept(vmm, err);
    if (result == 0)
        result = connect_again(vmm, spec, err);
    if (result == 0 && vmm->phase == FIRECRACKER_RUNNING)
        result = vsock_open(vmm, err);
    if (result < 0)
        return drafter_error_wrap(err, "the VM that was left");
    *ret_phase = vmm->phase == FIRECRACKER_INCOMING ? DRAFTER_VMM_WAITING
                 : vmm->phase == FIRECRACKER_PAUSED ? DRAFTER_VMM_PAUSED
                                                    : DRAFTER_VMM_RUNNING;
    return 0;
}
