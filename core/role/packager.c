/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/packager.h"

#include "pack/extract.h"
#include "role/devices.h"
#include "role/original.h"
#include "role/supervise.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "vm/package.h"
#include "vm/vm.h"

#include <fcntl.h>
#include <sodium.h>
#include <string.h>

struct packager {
    struct node *node;
    struct packager_options options;
    struct devices devices;
    struct pack_file files[DEVICES_MAX];
    unsigned count;
    struct supervisor supervisor;
};

static const char *const signature_rules[] = {"ignore", "check", "require", NULL};

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_,                                                    \
     .offset = offsetof(struct packager_options, field_), .default_value = default_, .help = help_}

const struct drafter_option packager_option_table[] = {
    OPTION("package-path", PATH, package_path, "out/app.tar.zst", "the package"),
    OPTION("extract", BOOL, extract, "no", "take devices out of the package instead of making it"),
    OPTION("storage", STRING, storage, NULL,
           "id of a [storage:ID] section that gets the package, too, or that has the one to be extracted"),
    OPTION("send", BOOL, send, "no", "send the package that is there into the storage instead of making it"),
    {.key = "level", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct packager_options, level),
     .default_value = "3", .minimum = 1, .maximum = 19, .help = "of compression"},
    {.key = "frame-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct packager_options, frame_size), .default_value = "128k",
     .minimum = PACK_FRAME_MIN, .maximum = PACK_FRAME_MAX,
     .help = "what is compressed together and read at once, a power of two"},
    {.key = "threads", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct packager_options, threads), .default_value = "0", .maximum = 256,
     .help = "how many threads work, 0 for one per processor"},
    OPTION("reuse", PATH, reuse, NULL,
           "an earlier package of yours, of which what did not change is taken as it is"),
    OPTION("sign", PATH, sign, NULL, "sign the package with this key, the PATH.key of drafter keygen"),
    {.key = "signature", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct packager_options, signature), .default_value = "check",
     .choices = signature_rules,
     .help = "extract: whether the package must be signed by a key that may give us packages"},
    {.key = "progress", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct packager_options, progress), .default_value = "auto",
     .choices = progress_forms, .help = "how to show how far it is; SIGUSR1 shows it at any time"},
    DRAFTER_OPTION_END,
};

#define DEVICE(name_, path_) "{\"name\":\"" name_ "\",\"path\":\"out/" path_ "\"}"

const struct config_flag packager_flags[] = {
    {.name = "devices", .kind = "device", .key = "name", .form = CONFIG_FLAG_OBJECTS,
     .model = CONFIG_FLAG_WHOLE,
     .default_value = "[" DEVICE("state", "package/state.bin") "," DEVICE(
         "memory", "package/memory.bin") "," DEVICE("kernel", "package/vmlinux") "," DEVICE("disk",
         "package/rootfs.ext4") "," DEVICE("config", "package/config.json") "," DEVICE("oci",
         "blueprint/oci.ext4") "]",
     .help = "names and paths of the devices: [{\"name\": NAME, \"path\": PATH}, ...]"},
    ORIGINAL_PART_PATHS("path", "its file"),
    {0},
};

/* One that the section of the device names under any of the keys that name its only file. */
static const char *path_of(const struct node_device *device)
{
    return device->options.path ? device->options.path : device->options.base;
}

static int list_files(struct packager *packager, struct drafter_error *err)
{
    for (unsigned i = 0; i < packager->devices.count; i++) {
        const struct node_device *device = &packager->devices.list[i];
        const char *path = path_of(device);

        if (!path)
            return drafter_error_set(err, EINVAL, "%s: device %s needs a path",
                                     config_where(device->section, NULL), device->name);
        packager->files[packager->count++] = (struct pack_file){device->name, path};
    }
    if (!packager->count)
        return drafter_error_set(err, EINVAL, "there is no device to %s",
                                 packager->options.extract ? "extract" : "pack");
    return 0;
}

static bool is_cancelled(void *opaque)
{
    struct packager *packager = opaque;

    return supervisor_wait(&packager->supervisor, 0) == WAKEUP_SIGNAL;
}

int signature_admit(enum signature_rule rule, const char *package, const char *signer,
                    const char *vm, struct drafter_error *err)
{
    int rc;


    if (rule == SIGNATURE_IGNORE)
        return 0;
    if (!*signer)
        return rule == SIGNATURE_CHECK
                   ? 0
                   : drafter_error_set(err, EACCES, "%s is not signed", package);
    rc = trust_check(signer, TRUST_REGISTRY, vm, err);
    return rc ? drafter_error_wrap(err, "%s: signed by %s", package, signer) : 0;
}

/* What its config device says of the VM, but for hashes that are of the snapshot. */
static json_t *describe_vm(const struct packager *packager)
{
    cleanup_free struct package *package = calloc(1, sizeof(*package));
    cleanup_free char *data = calloc(1, PACKAGE_CONFIG_MAX + 1);
    struct drafter_error ignored = {0};
    cleanup_close int fd = -1;
    json_t *vm;

    for (unsigned i = 0; i < packager->count; i++)
        if (!strcmp(packager->files[i].name, VM_DEVICE_CONFIG))
            fd = open(packager->files[i].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || !data || !package || read(fd, data, PACKAGE_CONFIG_MAX) <= 0 ||
        package_decode(data, PACKAGE_CONFIG_MAX, package, &ignored))
        return NULL;
    vm = json_loads(data, 0, NULL);
    json_object_del(json_object_get(vm, "drafter"), "devices");
    return vm;
}

static int pack(struct packager *packager, struct drafter_error *err)
{
    const struct packager_options *options = &packager->options;
    struct pack_write_options write = {
        .files = packager->files,
        .count = packager->count,
        .path = options->package_path,
        .reuse = options->reuse,
        .sign = options->sign,
        .level = (int)options->level,
        .frame_size = (uint32_t)options->frame_size,
        .threads = (unsigned)options->threads,
        .progress = (enum progress_form)options->progress,
        .vm = describe_vm(packager),
        .cancelled = is_cancelled,
        .opaque = packager,
    };
    uint64_t started = drafter_now_ns();
    struct pack_written written;
    int rc;

    if (options->frame_size & (options->frame_size - 1))
        rc = drafter_error_set(err, EINVAL, "frame-size: no power of two");
    else
        rc = pack_write(&write, &written, err);
    json_decref(write.vm);
    if (!rc)
        log_event("packed", "\"package\":\"%s\",\"bytes\":%llu,\"size\":%llu,\"reused\":%llu,"
                  "\"ms\":%.0f", options->package_path, (unsigned long long)written.plain,
                  (unsigned long long)written.compressed, (unsigned long long)written.reused,
                  (double)(drafter_now_ns() - started) / 1e6);
    return rc;
}

static int extract_any(struct packager *packager, const struct pack_extract_options *extract,
                       struct drafter_error *err)
{
    enum signature_rule rule = (enum signature_rule)packager->options.signature;
    const char *path = packager->options.package_path;
    struct pack_reader reader;
    int rc = packager_open(packager->node, &packager->options, &reader, err);

    if (rc == -ENOTSUP) { /* another tool made it */
        *err = (struct drafter_error){0};
        rc = signature_admit(rule, path, "", "", err);
        return rc ? rc : pack_extract_archive(path, extract, err);
    }
    if (rc)
        return rc;
    rc = signature_admit(rule, path, reader.signer, packager->node->options.name, err);
    if (!rc)
        rc = pack_extract(&reader, extract, err);
    pack_reader_close(&reader);
    return rc;
}

static int extract(struct packager *packager, struct drafter_error *err)
{
    const struct packager_options *options = &packager->options;
    const struct pack_extract_options extract_options = {
        .files = packager->files,
        .count = packager->count,
        .threads = (unsigned)options->threads,
        .progress = (enum progress_form)options->progress,
        .cancelled = is_cancelled,
        .opaque = packager,
    };
    uint64_t started = drafter_now_ns();
    int rc = extract_any(packager, &extract_options, err);

    if (!rc)
        log_event("extracted", "\"package\":\"%s\",\"devices\":%u,\"ms\":%.0f",
                  options->package_path, packager->count,
                  (double)(drafter_now_ns() - started) / 1e6);
    return rc;
}

/* As the original does, so that out/ need not be there. */
static int make_directories(const struct packager *packager, struct drafter_error *err)
{
    const struct packager_options *options = &packager->options;
    bool made = !options->extract && !options->send;
    int rc = made ? io_make_parent(options->package_path, 0777, err) : 0;

    for (unsigned i = 0; !rc && packager->options.extract && i < packager->count; i++)
        rc = io_make_parent(packager->files[i].path, 0777, err);
    return rc;
}

/* What is sent as it is, is looked at first: all of it. */
static int verify(struct packager *packager, struct drafter_error *err)
{
    const struct packager_options *options = &packager->options;
    const struct pack_extract_options verify = {.threads = (unsigned)options->threads,
                                                .progress = (enum progress_form)options->progress,
                                                .cancelled = is_cancelled,
                                                .opaque = packager};
    struct pack_reader reader;
    int rc = pack_reader_open(options->package_path, &reader, err);

    if (rc)
        return rc == -ENOTSUP ? -EINVAL : rc;
    rc = pack_verify(&reader, &verify, err);
    pack_reader_close(&reader);
    return rc;
}

static int work(struct packager *packager, struct drafter_error *err)
{
    const struct packager_options *options = &packager->options;
    int rc;

    if (options->extract)
        return extract(packager, err);
    rc = options->send ? verify(packager, err) : pack(packager, err);
    if (!rc && options->storage)
        rc = packager_send(packager->node, options, is_cancelled, packager, err);
    return rc;
}

static int check_options(const struct packager *packager, struct drafter_error *err)
{
    const struct packager_options *options = &packager->options;

    if (options->send && (options->extract || !options->storage))
        return drafter_error_set(err, EINVAL, "send needs a storage, and excludes extract");
    return 0;
}

int packager_run(struct node *node, struct drafter_error *err)
{
    cleanup_free struct packager *packager = calloc(1, sizeof(*packager));
    int rc;

    if (!packager)
        return drafter_error_set(err, ENOMEM, "out of memory");
    packager->node = node;
    rc = config_apply(config_section(node->config, "packager", ""), packager_option_table, NULL,
                      &packager->options, sizeof(packager->options), err);
    if (!rc)
        rc = check_options(packager, err);
    if (!rc && !packager->options.send)
        rc = devices_read(node, &packager->devices, err);
    if (!rc && !packager->options.send)
        rc = list_files(packager, err);
    if (rc)
        return rc;
    rc = supervisor_init(&packager->supervisor, err);
    if (!rc)
        rc = make_directories(packager, err);
    if (!rc)
        rc = work(packager, err);
    supervisor_release(&packager->supervisor);
    return rc;
}
