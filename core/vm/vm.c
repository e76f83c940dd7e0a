/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/vm.h"

#include "migrate/hello.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "vm/agent.h"

#include <sodium.h>
#include <string.h>
#include <sys/mman.h>

#define STATE_MAX (UINT64_C(1) << 30)
#define STATE_STEP ((size_t)64 << 10) /* stays in the processor's cache */

int vm_init(struct vm *vm, const char *name, const char *directory, struct instance *vmm,
            struct instance *exposer, struct block_device **devices, unsigned device_count,
            struct drafter_error *err)
{
    *vm = (struct vm){
        .name = name,
        .vmm = vmm,
        .exposer = exposer,
        .devices = devices,
        .device_count = device_count,
        .hook_timeout_ms = 10000,
        .start_timeout_ms = 10000,
        .assumed_cpus = 1,
    };
    vm->directory = strdup(directory);
    if (!vm->directory)
        return drafter_error_set(err, ENOMEM, "out of memory");
    return io_make_directories(directory, 0700, err);
}

static void forget_paths(struct vm *vm)
{
    for (unsigned i = 0; vm->paths && i < vm->device_count; i++)
        free(vm->paths[i]);
    free(vm->paths);
    vm->paths = NULL;
}

void vm_stop(struct vm *vm)
{
    if (vm->vmm)
        vmm_stop(vm->vmm);
    vm->started = vm->running = vm->loaded = false;
}

pid_t vm_pid(const struct vm *vm)
{
    return vm->vmm ? vmm_pid(vm->vmm) : -ESRCH;
}

void vm_release(struct vm *vm)
{
    struct drafter_error err = {0};

    if (vm->started)
        vmm_stop(vm->vmm);
    for (unsigned i = 0; i < vm->device_count; i++)
        block_device_withdraw(vm->devices[i]);
    if (vm->exposing)
        device_stop(vm->exposer);
    if (vm->directory && io_remove_tree(vm->directory, &err))
        log_warning("vm", "%s", err.message);
    free(vm->directory);
    forget_paths(vm);
    memset(vm, 0, sizeof(*vm));
}

struct block_device *vm_device(const struct vm *vm, const char *name)
{
    for (unsigned i = 0; i < vm->device_count; i++)
        if (!strcmp(vm->devices[i]->name, name))
            return vm->devices[i];
    return NULL;
}

static bool is(const struct block_device *device, const char *name)
{
    return !strcmp(device->name, name);
}

static bool is_drive(const struct block_device *device)
{
    return !is(device, VM_DEVICE_KERNEL) && !is(device, VM_DEVICE_INITRAMFS) &&
           !is(device, VM_DEVICE_STATE) && !is(device, VM_DEVICE_MEMORY) &&
           !is(device, VM_DEVICE_CONFIG);
}

/* State and config are the core's own business: no VMM opens them. */
static bool is_shown(const struct vm *vm, const struct block_device *device)
{
    return !vm->vmm || (!is(device, VM_DEVICE_STATE) && !is(device, VM_DEVICE_CONFIG));
}

static unsigned exposure_flags(const struct block_device *device)
{
    if (is(device, VM_DEVICE_MEMORY))
        return DRAFTER_DEVICE_MAPPED;
    return is_drive(device) ? 0 : DRAFTER_DEVICE_READONLY;
}

int vm_sweep(const char *directory, struct instance *exposer, struct drafter_error *err)
{
    cleanup_free char *devices = NULL;
    int rc;

    if (asprintf(&devices, "%s/devices", directory) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    /* A killed process may have left a mount and files; the directory's lock says that it is gone. */
    rc = device_reclaim(exposer, devices, err);
    return rc ? rc : io_remove_tree(devices, err);
}

static int show_devices(struct vm *vm, struct drafter_error *err)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < vm->device_count; i++) {
        struct block_device *device = vm->devices[i];

        if (!is_shown(vm, device))
            continue;
        rc = block_device_expose(device, vm->exposer, exposure_flags(device), err);
        if (!rc)
            exposure_hint(device->exposure, __atomic_load_n(&device->map.remote, __ATOMIC_RELAXED)
                                                ? DRAFTER_DEVICE_SPARSE
                                                : DRAFTER_DEVICE_COMPLETE);
    }
    return rc;
}

int vm_expose(struct vm *vm, struct drafter_error *err)
{
    cleanup_free char *directory = NULL;
    int rc;

    if (!vm->exposer)
        return 0;
    if (asprintf(&directory, "%s/devices", vm->directory) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = vm_sweep(vm->directory, vm->exposer, err);
    if (!rc)
        rc = io_make_directories(directory, 0700, err);
    if (!rc)
        rc = device_start(vm->exposer, directory, err);
    vm->exposing = rc == 0;
    return rc ? rc : show_devices(vm, err);
}

/* The VMM gets no description of the machine, and refuses if it cannot do without. */
static int assume(struct vm *vm, struct drafter_error *err)
{
    const struct block_device *memory = vm_device(vm, VM_DEVICE_MEMORY);
    struct package *package = &vm->package;
    int rc = vm->vmm ? vmm_facts(vm->vmm, &package->facts, err) : 0;

    if (rc || !vm->vmm || !memory)
        return rc;
    package->memory_size = vm->assumed_memory ? vm->assumed_memory : package_guess_memory(memory->size);
    package->cpu_count = vm->assumed_cpus;
    log_info("vm", "VM %s: its package does not say what saved it: taken to be %s %s, %llu MiB, CPUs: %u",
             vm->name, package->facts.name, package->facts.version,
             (unsigned long long)(package->memory_size >> 20), package->cpu_count);
    return 0;
}

/* A file that was cut off would be a smaller disk to the guest. */
static int check_sizes(struct vm *vm, struct drafter_error *err)
{
    for (unsigned i = 0; i < vm->package.device_count; i++) {
        const struct package_device *wanted = &vm->package.devices[i];
        const struct block_device *device = vm_device(vm, wanted->name);

        if (device && device->size < wanted->size)
            return drafter_error_set(err, EINVAL,
                                     "device %s has %llu bytes, the package's has %llu: it was cut off",
                                     wanted->name, (unsigned long long)device->size,
                                     (unsigned long long)wanted->size);
    }
    return 0;
}

int vm_read_config(struct vm *vm, struct drafter_error *err)
{
    struct block_device *device = vm_device(vm, VM_DEVICE_CONFIG);
    cleanup_free char *data = malloc(PACKAGE_CONFIG_MAX);
    size_t length;
    int rc;

    if (!device)
        return drafter_error_set(err, EINVAL, "VM %s has no config device", vm->name);
    if (!data)
        return drafter_error_set(err, ENOMEM, "out of memory");
    length = device->size < PACKAGE_CONFIG_MAX ? (size_t)device->size : PACKAGE_CONFIG_MAX;
    rc = block_device_read(device, data, length, 0);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot read the config device");
    rc = package_decode(data, length, &vm->package, err);
    if (!rc && vm->package.complete)
        return check_sizes(vm, err);
    return rc ? rc : assume(vm, err);
}

int vm_check_host(struct vm *vm, struct drafter_error *err)
{
    struct drafter_vmm_facts facts;
    int rc;

    if (!vm->vmm)
        return 0;
    rc = vmm_facts(vm->vmm, &facts, err);
    return rc ? rc : hello_compare_facts(&vm->package.facts, &facts, err);
}

static const char *path_of(const struct vm *vm, unsigned index)
{
    const struct block_device *device = vm->devices[index];

    if (device->exposure)
        return device->exposure->path;
    return vm->paths ? vm->paths[index] : NULL;
}

static const char *shown_path(const struct vm *vm, const char *name)
{
    for (unsigned i = 0; i < vm->device_count; i++)
        if (is(vm->devices[i], name))
            return path_of(vm, i);
    return NULL;
}

static int fill_spec(const struct vm *vm, enum drafter_vmm_start how,
                     struct drafter_vmm_device *drives, struct drafter_vmm_spec *spec,
                     struct drafter_error *err)
{
    const struct block_device *memory = vm_device(vm, VM_DEVICE_MEMORY);

    *spec = (struct drafter_vmm_spec){
        .struct_size = sizeof(*spec),
        .name = vm->name,
        .directory = vm->directory,
        .memory_size = vm->package.memory_size,
        .cpu_count = vm->package.cpu_count,
        .boot_args = vm->package.boot_args,
        .memory = shown_path(vm, VM_DEVICE_MEMORY),
        .kernel = shown_path(vm, VM_DEVICE_KERNEL),
        .initramfs = shown_path(vm, VM_DEVICE_INITRAMFS),
        .devices = drives,
        .machine_config = how == DRAFTER_VMM_RESTORE ? vm->package.machine_config : NULL,
        .netns = vm->netns,
        .tap = vm->tap,
        .mac = vm->mac,
        .timeout_ms = vm->start_timeout_ms,
    };

    if (!spec->memory || !spec->kernel)
        return drafter_error_set(err, EINVAL, "VM %s lacks a memory or kernel device", vm->name);
    if (memory->size < vm->package.memory_size)
        return drafter_error_set(err, EINVAL, "the memory device is smaller than the VM's memory");
    for (unsigned i = 0; i < vm->device_count; i++)
        if (is_drive(vm->devices[i]))
            drives[spec->device_count++] = (struct drafter_vmm_device){
                .name = vm->devices[i]->name, .path = path_of(vm, i), .drive = true};
    return 0;
}

/* An exposer shows a device in its directory, by its name. */
static int foresee_paths(struct vm *vm)
{
    vm->paths = calloc(vm->device_count, sizeof(*vm->paths));
    for (unsigned i = 0; vm->paths && i < vm->device_count; i++)
        if (asprintf(&vm->paths[i], "%s/devices/%s", vm->directory, vm->devices[i]->name) < 0) {
            vm->paths[i] = NULL;
            forget_paths(vm);
        }
    return vm->paths ? 0 : -ENOMEM;
}

void vm_launch(struct vm *vm)
{
    struct drafter_vmm_device drives[WIRE_DEVICES_MAX];
    struct drafter_vmm_spec spec;
    struct drafter_error err = {0};
    int rc = foresee_paths(vm);

    if (!rc)
        rc = fill_spec(vm, DRAFTER_VMM_RESTORE, drives, &spec, &err);
    if (!rc)
        rc = vmm_launch(vm->vmm, &spec, DRAFTER_VMM_RESTORE, &err);
    vm->started = rc == 0;
    if (rc)
        forget_paths(vm);
}

/* A VMM that was told of other paths than the devices have now must be started anew. */
static void end_mistaken(struct vm *vm)
{
    bool mistaken = false;

    for (unsigned i = 0; vm->paths && i < vm->device_count; i++)
        mistaken |= is_shown(vm, vm->devices[i]) && strcmp(vm->paths[i], path_of(vm, i)) != 0;
    if (mistaken)
        vmm_stop(vm->vmm);
    forget_paths(vm);
}

static int start(struct vm *vm, enum drafter_vmm_start how, struct drafter_error *err)
{
    struct drafter_vmm_device drives[WIRE_DEVICES_MAX];
    struct drafter_vmm_spec spec;
    int rc;

    end_mistaken(vm);
    rc = fill_spec(vm, how, drives, &spec, err);
    if (!rc)
        rc = vmm_start(vm->vmm, &spec, how, err);
    vm->started = rc == 0;
    vm->process = rc == 0 && vmm_pid(vm->vmm) > 0;
    return rc;
}

int vm_adopt(struct vm *vm, enum drafter_vmm_phase *ret_phase, struct drafter_error *err)
{
    struct drafter_vmm_device drives[WIRE_DEVICES_MAX];
    struct drafter_vmm_spec spec;
    cleanup_free char *directory = NULL;
    int rc;

    if (asprintf(&directory, "%s/devices", vm->directory) < 0)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = device_adopt(vm->exposer, directory, err);
    vm->exposing = rc == 0;
    if (!rc)
        rc = show_devices(vm, err);
    if (!rc)
        rc = fill_spec(vm, DRAFTER_VMM_RESTORE, drives, &spec, err);
    if (!rc) /* first, because a VMM that waits for a page answers nobody */
        rc = device_serve(vm->exposer, err);
    if (!rc)
        rc = vmm_adopt(vm->vmm, &spec, ret_phase, err);
    vm->started = rc == 0;
    vm->process = rc == 0 && vmm_pid(vm->vmm) > 0;
    vm->running = rc == 0 && *ret_phase == DRAFTER_VMM_RUNNING;
    vm->loaded = rc == 0 && (*ret_phase == DRAFTER_VMM_RUNNING || *ret_phase == DRAFTER_VMM_PAUSED);
    return rc;
}

int vm_boot(struct vm *vm, struct drafter_error *err)
{
    int rc = start(vm, DRAFTER_VMM_BOOT, err);

    vm->running = vm->loaded = rc == 0;
    return rc;
}

int vm_prepare(struct vm *vm, struct drafter_error *err)
{
    return vm->vmm ? start(vm, DRAFTER_VMM_RESTORE, err) : 0;
}

/* Copies a device into a file; what is zero stays a hole, which costs nothing. */
static int copy_device(struct block_device *device, int fd)
{
    cleanup_free char *buffer = malloc(STATE_STEP);
    int rc = buffer ? 0 : -ENOMEM;

    for (uint64_t offset = 0; !rc && offset < device->size; offset += STATE_STEP) {
        size_t length = device->size - offset < STATE_STEP ? (size_t)(device->size - offset)
                                                           : STATE_STEP;

        rc = block_device_read(device, buffer, length, offset);
        if (!rc && !io_is_zero(buffer, length))
            rc = io_pwrite_full(fd, buffer, length, (off_t)offset);
    }
    return rc;
}

int vm_load(struct vm *vm, struct drafter_error *err)
{
    struct block_device *device = vm_device(vm, VM_DEVICE_STATE);
    cleanup_close int fd = memfd_create("drafter-state", MFD_CLOEXEC);
    int rc;

    if (!vm->vmm)
        return 0;
    if (!device || device->size > STATE_MAX)
        return drafter_error_set(err, EINVAL, "VM %s has no usable state device", vm->name);
    if (fd < 0 || ftruncate(fd, (off_t)device->size))
        return drafter_error_errno(err, errno, "no memory for the VM's state");
    rc = copy_device(device, fd);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot read the state device");
    rc = vmm_load(vm->vmm, fd, err);
    vm->loaded = rc == 0;
    return rc;
}

int vm_resume(struct vm *vm, struct drafter_error *err)
{
    int rc = vm->vmm ? vmm_resume(vm->vmm, err) : 0;

    vm->running = rc == 0;
    return rc;
}

void vm_foresee(struct vm *vm)
{
    struct drafter_error err = {0};

    if (vm->vmm && vmm_foresee(vm->vmm, &err)) /* the pause is longer for it */
        log_warning("vm", "VM %s: %s", vm->name, err.message);
}

int vm_pause(struct vm *vm, struct drafter_error *err)
{
    int rc = vm->vmm ? vmm_pause(vm->vmm, err) : 0;

    if (!rc)
        vm->running = false;
    return rc;
}

int vm_save(struct vm *vm, struct drafter_error *err)
{
    struct block_device *device = vm_device(vm, VM_DEVICE_STATE);
    cleanup_close int fd = memfd_create("drafter-state", MFD_CLOEXEC);
    off_t length;
    void *map;
    int rc;

    if (!vm->vmm)
        return 0;
    if (!device)
        return drafter_error_set(err, EINVAL, "VM %s has no state device", vm->name);
    if (fd < 0)
        return drafter_error_errno(err, errno, "no memory for the VM's state");
    rc = vmm_save(vm->vmm, fd, err);
    if (rc)
        return rc;
    length = lseek(fd, 0, SEEK_END);
    if (length <= 0 || (uint64_t)length > device->size)
        return drafter_error_set(err, EFBIG,
                                 "the VM's state has %lld bytes, the state device %llu; enlarge it",
                                 (long long)length, (unsigned long long)device->size);
    map = mmap(NULL, (size_t)length, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return drafter_error_errno(err, errno, "cannot read the VM's state back");
    rc = block_device_write(device, map, (size_t)length, 0);
    munmap(map, (size_t)length);
    return rc ? drafter_error_errno(err, -rc, "cannot write the state device") : 0;
}

int vm_before_suspend(struct vm *vm, struct drafter_error *err)
{
    if (!vm->vmm || !vm->package.agent_port)
        return 0;
    return agent_hook(vm->vmm, "BeforeSuspend", NULL, vm->hook_timeout_ms, err);
}

/* The guest learns the time, and gets entropy that no other guest of the same snapshot has. */
int vm_after_resume(struct vm *vm, struct drafter_error *err)
{
    unsigned char seed[32];
    char hex[sizeof(seed) * 2 + 1];

    if (!vm->vmm || !vm->package.agent_port)
        return 0;
    randombytes_buf(seed, sizeof(seed));
    sodium_bin2hex(hex, sizeof(hex), seed, sizeof(seed));
    return agent_hook(vm->vmm, "AfterResume", hex, vm->hook_timeout_ms, err);
}

void vm_rescue(struct vm *vm)
{
    for (unsigned i = 0; i < vm->device_count; i++)
        if (__atomic_load_n(&vm->devices[i]->io_error, __ATOMIC_RELAXED) &&
            block_device_rescue(vm->devices[i]))
            log_warning("vm", "device %s: its storage still refuses what the VM wrote",
                        vm->devices[i]->name);
}

int vm_write_back(struct vm *vm, struct drafter_error *err)
{
    for (unsigned i = 0; i < vm->device_count; i++) {
        struct block_device *device = vm->devices[i];
        int rc = device->exposure ? exposure_sync(device->exposure, err) : 0;

        if (!rc && (rc = block_device_rescue(device)))
            drafter_error_errno(err, -rc, "cannot write what was refused before");
        if (!rc && (rc = block_device_flush(device)))
            drafter_error_errno(err, -rc, "cannot flush it");
        if (rc && storage_flush_failed(device->storage))
            drafter_error_set(err, EIO, "cannot flush it: a sync of its storage has failed, and what that "
                                        "holds of the VM since is not known");
        if (rc)
            return drafter_error_wrap(err, "device %s", device->name);
    }
    return 0;
}

int vm_suspend(struct vm *vm, struct drafter_error *err)
{
    int rc = vm->running ? vm_before_suspend(vm, err) : 0;

    if (rc) { /* the guest's word is wished for, not needed: its state must not be lost for that */
        log_warning("vm", "suspending VM %s all the same: %s", vm->name, err->message);
        *err = (struct drafter_error){0};
    }
    rc = vm_pause(vm, err);
    if (!rc)
        rc = vm_save(vm, err);
    return rc ? rc : vm_write_back(vm, err);
}
