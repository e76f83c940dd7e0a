/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The [device:NAME] sections: which of them a role needs, and whether their files are what it
 * needs. Overlays are examined by the storage plugin itself, which reads them and changes nothing.
 */
#include "config/check.h"

#include "migrate/hello.h"
#include "plugin/storage.h"
#include "plugin/vmm.h"
#include "role/devices.h"
#include "util/cleanup.h"
#include "vm/vm.h"

#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

#define OVERLAYS_MAX 16

/* The devices without which a role does not start; one that receives takes what is offered. */
static const struct {
    enum check_use use;
    const char *devices[5];
} needs[] = {
    {CHECK_USE_START, {VM_DEVICE_KERNEL, VM_DEVICE_STATE, VM_DEVICE_MEMORY, VM_DEVICE_CONFIG}},
    {CHECK_USE_SERVE, {VM_DEVICE_CONFIG}},
    {CHECK_USE_SNAPSHOT, {VM_DEVICE_KERNEL, VM_DEVICE_STATE, VM_DEVICE_MEMORY, VM_DEVICE_CONFIG}},
};

struct device {
    const struct check_devices *all;
    const struct config_section *section;
    struct device_options options;
};

#define fault(device_, remedy_, key_, format_, ...)                                                \
    check_add((device_)->all->check, CHECK_ERROR, (device_)->section->id, remedy_, "%s: " format_, \
              config_where((device_)->section, key_), __VA_ARGS__)

/* A file that is to be read, and written with `mode` W_OK. */
static bool check_input(const struct device *device, const char *key, const char *path, int mode)
{
    struct stat status;

    if (access(path, mode) < 0 || stat(path, &status) < 0) {
        fault(device, NULL, key, "%s: %s", path, strerror(errno));
        return false;
    }
    if (S_ISDIR(status.st_mode) || (S_ISREG(status.st_mode) && status.st_size == 0)) {
        fault(device, NULL, key, "%s: %s", path, status.st_size ? "is a directory" : "is empty");
        return false;
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        fault(device, NULL, key, "%s: neither a file nor a block device", path);
        return false;
    }
    return true;
}

/* A file that is to be written: it or, when it is not there, its directory. */
static void check_output(const struct device *device, const char *key, const char *path)
{
    cleanup_free char *copy = path ? strdup(path) : NULL;
    const char *directory;

    if (!copy || access(path, W_OK) == 0)
        return;
    directory = errno == ENOENT ? dirname(copy) : path;
    if (access(directory, W_OK) < 0)
        fault(device, errno == ENOENT ? "make the directory" : "change its permissions", key,
              "%s: %s", directory, strerror(errno));
}

/* What arrives must not overwrite what nobody knows. */
static void check_free(const struct device *device, const char *key, const char *path)
{
    struct stat status;

    if (device->all->overwrite || stat(path, &status) < 0 ||
        (S_ISREG(status.st_mode) && status.st_size == 0))
        return;
    fault(device, "move it away, or set overwrite = yes in [peer]", key,
          "%s: it exists and is not known to be a VM's that left", path);
}

static unsigned split(char *list, char **words)
{
    unsigned count = 0;
    char *rest = list, *word;

    while (list && (word = strsep(&rest, " \t")))
        if (*word && count < OVERLAYS_MAX)
            words[count++] = word;
    return count;
}

static void report_defect(void *opaque, const char *line)
{
    const struct device *device = opaque;
    bool note = !strncmp(line, "note: ", 6);

    check_add(device->all->check, note ? CHECK_WARNING : CHECK_ERROR, device->section->id, NULL,
              "%s", note ? line + 6 : line);
}

/* Lets the storage plugin look at an instance; faults of its options were reported before. */
static void examine(const struct device *device, struct instance *storage)
{
    struct drafter_error err = {0};

    if (storage_check(storage, report_defect, (void *)device, &err) < 0 && err.code)
        check_add(device->all->check, err.code == EBUSY ? CHECK_WARNING : CHECK_ERROR,
                  device->section->id, err.code == EBUSY ? "stop what uses it" : NULL, "%s",
                  err.message);
}

static void examine_overlay(const struct device *device, const char *overlay, const char *state)
{
    const struct node_device described = {
        .name = device->section->id, .section = device->section, .options = device->options};
    const char *const layer[] = {"overlay", overlay, "state", state, NULL};
    struct node *node = device->all->node;
    struct instance *below, *storage;

    if (!devices_make_base(node, &described, true, &below, NULL) &&
        !node_make(node, DRAFTER_KIND_STORAGE, DEFAULT_OVERLAY, NULL, layer, overlay, below, &storage,
                   NULL))
        examine(device, storage);
}

/* One pair.  Only the topmost one is made when it is not there, and written. */
static void check_overlay(const struct device *device, const char *overlay, const char *state,
                          bool top)
{
    bool written = top && device->all->use != CHECK_USE_SERVE;
    bool has_overlay = access(overlay, F_OK) == 0, has_state = access(state, F_OK) == 0;

    if (has_overlay != has_state) {
        fault(device, "restore it, or remove both to start anew", "overlay",
              "%s is there and %s is not", has_overlay ? overlay : state,
              has_overlay ? state : overlay);
        return;
    }
    if (written) {
        check_output(device, "overlay", overlay);
        check_output(device, "state", state);
    }
    if (top && device->all->use == CHECK_USE_ARRIVE)
        check_free(device, "overlay", overlay);
    if (has_overlay)
        examine_overlay(device, overlay, state);
    else if (!written)
        fault(device, NULL, "overlay", "%s: %s", overlay, strerror(ENOENT));
}

static void check_overlays(const struct device *device)
{
    const struct device_options *options = &device->options;
    cleanup_free char *overlays = options->overlay ? strdup(options->overlay) : NULL;
    cleanup_free char *states = options->state ? strdup(options->state) : NULL;
    char *overlay[OVERLAYS_MAX], *state[OVERLAYS_MAX];
    unsigned count = split(overlays, overlay);

    if (split(states, state) != count) {
        fault(device, NULL, options->overlay ? "overlay" : "state", "%s",
              "overlay and state must name equally many files");
        return;
    }
    for (unsigned i = 0; i < count; i++)
        check_overlay(device, overlay[i], state[i], i + 1 == count);
}

static bool has_overlay(const struct device_options *options)
{
    return options->overlay && options->overlay[strspn(options->overlay, " \t")];
}

/* A device as [storage:ID] describes it, instead of base, overlay and state. */
static void check_storage(const struct device *device)
{
    struct node *node = device->all->node;
    struct instance *storage;

    check_reference(device->all->check, node->config, DRAFTER_KIND_STORAGE, device->options.storage,
                    true);
    if (!node_instance(node, DRAFTER_KIND_STORAGE, device->options.storage, &storage, NULL) &&
        device->all->use != CHECK_USE_ARRIVE)
        examine(device, storage);
}

static void check_made(const struct device *device)
{
    const char *name = device->section->id;
    bool made_here = !strcmp(name, VM_DEVICE_STATE) || !strcmp(name, VM_DEVICE_MEMORY) ||
                     !strcmp(name, VM_DEVICE_CONFIG);

    if (!device->options.output)
        fault(device, "add output = FILE", NULL, "device %s needs an output", name);
    if (!device->options.input && !made_here)
        fault(device, "add input = FILE", NULL, "device %s needs an input", name);
    if (device->options.input && !made_here)
        check_input(device, "input", device->options.input, R_OK);
    check_output(device, "output", device->options.output);
}

/* A file of a package. */
static void check_packed(const struct device *device)
{
    const char *path = device->options.path ? device->options.path : device->options.base;

    if (!path)
        fault(device, "add path = FILE", NULL, "device %s needs a path", device->section->id);
    else if (device->all->use == CHECK_USE_PACK)
        check_input(device, "path", path, R_OK);
    else
        check_output(device, "path", path);
}

static void check_backup(const struct device *device)
{
    if (!device->options.output)
        fault(device, "add output = FILE", NULL, "device %s needs an output", device->section->id);
    check_output(device, "output", device->options.output);
}

/* One of before is emptied, anything else is refused at the start. */
static void check_binlog(const struct device *device)
{
    const char *path = device->options.binlog;
    struct binlog_reader reader;
    struct stat status;
    int rc;

    check_output(device, "binlog", path);
    if (!path || stat(path, &status) || !status.st_size)
        return;
    rc = binlog_open(path, &reader, NULL);
    if (!rc)
        binlog_reader_close(&reader);
    else if (rc == -EINVAL)
        fault(device, "move it away, or name another file", "binlog", "%s: it exists and is no binlog", path);
}

static void check_stack(const struct device *device)
{
    const struct device_options *options = &device->options;
    bool layered = has_overlay(options);
    enum check_use use = device->all->use;

    if (!options->base && !options->storage && use == CHECK_USE_ARRIVE && options->connect)
        return; /* it gets a file in the cache */
    if (!options->base && !options->storage) {
        fault(device, "add base = FILE", NULL, "device %s needs a base", device->section->id);
        return;
    }
    if (use != CHECK_USE_ARRIVE && options->base) {
        bool readonly = layered || options->shared || options->save_output || use == CHECK_USE_SERVE;

        check_input(device, "base", options->base, readonly ? R_OK : R_OK | W_OK);
    } else if (use == CHECK_USE_ARRIVE && !layered && options->storage) {
        fault(device, "give it an overlay and a state", "storage", "%s",
              "a base with a storage of its own stays as it is: nothing can be received into it");
    } else if (use == CHECK_USE_ARRIVE && !layered) {
        check_output(device, "base", options->base);
        check_free(device, "base", options->base);
    }
    if (options->storage)
        check_reference(device->all->check, device->all->node->config, DRAFTER_KIND_STORAGE,
                        options->storage, true);
    if (options->save_output && use != CHECK_USE_SERVE)
        check_output(device, "save-output", options->save_output);
    if (use != CHECK_USE_SERVE)
        check_binlog(device);
    check_overlays(device);
}

static void check_device(struct check_devices *all, const struct config_section *section)
{
    struct device device = {.all = all, .section = section};

    if (!*section->id) /* what else is no name was refused with the syntax */
        fault(&device, NULL, NULL, "%s", "a device needs a name: [device:NAME]");
    if (!check_apply(all->check, section, device_option_table, NULL, &device.options,
                     sizeof(device.options)))
        return;
    if (!device.options.base)
        device.options.base = device.options.input ? device.options.input : device.options.path;
    if (all->listening && !device.options.make_migratable)
        fault(&device, "remove one of the two", "make-migratable", "%s",
              "a device that is not migratable and listen exclude each other");
    if (all->use == CHECK_USE_SEND)
        return;
    if (all->use == CHECK_USE_PACK || all->use == CHECK_USE_EXTRACT)
        check_packed(&device);
    else if (all->use == CHECK_USE_BACKUP)
        check_backup(&device);
    else if (all->use == CHECK_USE_SNAPSHOT)
        check_made(&device);
    else if (device.options.storage && !device.options.base && !has_overlay(&device.options))
        check_storage(&device);
    else
        check_stack(&device);
}

static void check_needed(const struct check_devices *all, unsigned count)
{
    for (size_t i = 0; i < sizeof(needs) / sizeof(*needs); i++)
        for (const char *const *name = needs[i].devices; needs[i].use == all->use && *name; name++)
            if (!config_section(all->node->config, "device", *name))
                check_add(all->check, CHECK_ERROR, "devices", NULL,
                          "there is no [device:%s] section", *name);
    if (!count && all->use == CHECK_USE_ARRIVE)
        check_add(all->check, CHECK_ERROR, "devices", NULL,
                  "there is no [device:NAME] section: nothing could be received");
    if (count > DEVICES_MAX)
        check_add(all->check, CHECK_ERROR, "devices", NULL, "more than %d devices", DEVICES_MAX);
}

/* The config device says what the package is and needs; an overlaid one is read only when it runs.
 */
static bool read_package(const struct check_devices *all, struct package *ret_package)
{
    const struct config_section *section =
        config_section(all->node->config, "device", VM_DEVICE_CONFIG);
    const char *base = section ? config_value(section, "base") : NULL;
    cleanup_close int fd = -1;
    cleanup_free char *data = malloc(PACKAGE_CONFIG_MAX);
    struct drafter_error err = {0};
    ssize_t length;

    if (!base || config_value(section, "overlay") || config_value(section, "storage") || !data)
        return false;
    fd = open(base, O_RDONLY | O_CLOEXEC);
    length = fd < 0 ? -1 : pread(fd, data, PACKAGE_CONFIG_MAX, 0);
    if (length <= 0) /* reported with its device */
        return false;
    if (package_decode(data, (size_t)length, ret_package, &err) < 0) {
        check_add(all->check, CHECK_ERROR, base, NULL, "%s", err.message);
        return false;
    }
    if (!ret_package->complete)
        check_add(all->check, CHECK_WARNING, base,
                  "use the VMM that saved it, and give memory-size and cpu-count of the VM",
                  "it says nothing about the VMM that saved the VM, as the original's packages do not");
    return ret_package->complete;
}

/* A file that was cut off would be a smaller disk to the guest. */
static void check_size(const struct check_devices *all, const struct config_section *section,
                       const struct package_device *device)
{
    const char *base = config_value(section, "base");
    cleanup_close int fd = -1;
    off_t size;

    if (!base || config_value(section, "storage"))
        return;
    fd = open(base, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size > 0 && (uint64_t)size < device->size) /* others were reported with their device */
        check_add(all->check, CHECK_ERROR, "package", "copy it from there again",
                  "device %s has %lld bytes, the package's has %llu", device->name, (long long)size,
                  (unsigned long long)device->size);
}

/* Would this host's VMM load the package? */
static void check_host_fits(const struct check_devices *all, const char *vmm,
                            const struct package *package)
{
    struct drafter_vmm_facts facts = {0};
    struct drafter_error err = {0};
    struct instance *instance;

    if (node_instance(all->node, DRAFTER_KIND_VMM, vmm, &instance, NULL) < 0)
        return; /* reported with its section */
    if (vmm_facts(instance, &facts, &err) < 0 ||
        hello_compare_facts(&package->facts, &facts, &err) < 0)
        check_add(all->check, CHECK_ERROR, "package", NULL, "%s", err.message);
    else
        check_add(all->check, CHECK_OK, "package", NULL, "fits %s %s, %s, %s", facts.name,
                  facts.version, facts.machine, facts.accelerator);
}

static void check_package(const struct check_devices *all)
{
    cleanup_free struct package *package = calloc(1, sizeof(*package));

    if (!package || (all->use != CHECK_USE_START && all->use != CHECK_USE_SERVE) ||
        !read_package(all, package))
        return;
    for (unsigned i = 0; i < package->device_count; i++) {
        const char *name = package->devices[i].name;
        const struct config_section *section = config_section(all->node->config, "device", name);

        if (section)
            check_size(all, section, &package->devices[i]);
        else
            check_add(all->check, CHECK_WARNING, "package", "add the section",
                      "it has device %s, but there is no [device:%s] section", name, name);
    }
    if (all->use == CHECK_USE_START && all->vmm)
        check_host_fits(all, all->vmm, package);
}

void check_devices(struct check_devices *all)
{
    const struct config_section *section = NULL;
    unsigned count = 0;

    while ((section = config_next(all->node->config, "device", section))) {
        check_device(all, section);
        count++;
    }
    check_needed(all, count);
    check_package(all);
    while (all->node->count)
        instance_free(all->node->instances[--all->node->count]);
}
