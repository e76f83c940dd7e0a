/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter package`: what is in a package, and whether it is whole. */
#include "command.h"
#include "config/config.h"
#include "options.h"
#include "pack/extract.h"
#include "role/packager.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/json.h"

#include <stdio.h>
#include <string.h>

/* Sizes of the frames of zeros, and of what all frames take up. */
static int measure(const struct pack_reader *reader, const struct pack_device *device,
                   uint64_t *ret_zeros, uint64_t *ret_compressed, struct drafter_error *err)
{
    struct pack_table table;
    int rc = pack_table_load(reader, device, &table, err);

    if (rc)
        return rc;
    *ret_zeros = *ret_compressed = 0;
    for (uint32_t i = 0; i < table.count; i++) {
        struct pack_frame frame = pack_table_frame(&table, i);

        *ret_zeros += pack_frame_is_zero(&frame) ? frame.size : 0;
        *ret_compressed += frame.compressed;
    }
    pack_table_release(&table);
    return 0;
}

static int describe_device(const struct pack_reader *reader, const struct pack_device *device,
                           json_t *list, struct drafter_error *err)
{
    uint64_t zeros, compressed;
    int rc = measure(reader, device, &zeros, &compressed, err);

    if (!rc)
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", device->name, "size",
                            (json_int_t)device->size, "compressed", (json_int_t)compressed, "zeros",
                            (json_int_t)zeros, "frames", (json_int_t)device->frames));
    return rc;
}

static int describe(const struct pack_reader *reader, json_t *object, struct drafter_error *err)
{
    const struct pack_manifest *manifest = &reader->manifest;
    json_t *devices = json_array();
    char name[DRAFTER_NAME_MAX + 1] = "";
    int rc = 0;

    json_object_set_new(object, "package", json_string(reader->path));
    json_object_set_new(object, "manifest", json_true());
    json_object_set_new(object, "size", json_integer((json_int_t)reader->source.size));
    json_object_set_new(object, "frameSize", json_integer(manifest->frame_size));
    json_object_set_new(object, "signer", *reader->signer ? json_string(reader->signer) : json_null());
    if (*reader->signer && !drafter_trust_find(reader->signer, name, sizeof(name)))
        json_object_set_new(object, "signerName", json_string(name));
    if (manifest->vm)
        json_object_set(object, "vm", manifest->vm);
    json_object_set_new(object, "devices", devices);
    for (unsigned i = 0; !rc && i < manifest->device_count; i++)
        rc = describe_device(reader, &manifest->devices[i], devices, err);
    return rc;
}

static void add_entry(void *opaque, const char *name, uint64_t size)
{
    json_array_append_new(opaque, json_pack("{s:s+, s:I}", "name", name, "", "size", (json_int_t)size));
}

static int describe_archive(const char *path, json_t *object, struct drafter_error *err)
{
    json_t *devices = json_array();

    json_object_set_new(object, "package", json_string(path));
    json_object_set_new(object, "manifest", json_false());
    json_object_set_new(object, "devices", devices);
    return pack_list_archive(path, add_entry, devices, err);
}

/* ---- text */

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key, const char *otherwise)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value ? value : otherwise;
}

static void print_vm(const json_t *vm)
{
    const json_t *ours = json_object_get(vm, "drafter");
    const json_t *vmm = json_object_get(ours, "vmm");

    if (ours)
        printf("VM: %s %s, %s, %s, CPU %s, %lld MiB, %lld CPU(s), saved on Linux %s\n",
               text(vmm, "name", "?"), text(vmm, "version", "?"), text(vmm, "machine", "?"),
               text(vmm, "accelerator", "?"), text(vmm, "cpuModel", "?"),
               (long long)number(ours, "memorySize") >> 20, (long long)number(ours, "cpuCount"),
               text(ours, "kernel", "(unknown)"));
    else if (vm)
        printf("VM: as the original packs it, which says nothing about its host\n");
}

static void print_text(const json_t *object)
{
    bool manifest = json_is_true(json_object_get(object, "manifest"));
    size_t index;
    json_t *device;

    printf("%s: %s\n", text(object, "package", ""),
           manifest ? "a package" : "an archive without a manifest");
    if (manifest)
        printf("Signed by: %s%s%s\n", text(object, "signerName", ""),
               json_object_get(object, "signerName") ? ", " : "",
               text(object, "signer", "nobody"));
    print_vm(json_object_get(object, "vm"));
    json_array_foreach(json_object_get(object, "devices"), index, device)
    {
        printf("  %-12s %14lld bytes", text(device, "name", ""), (long long)number(device, "size"));
        if (manifest)
            printf(", %14lld in the package, %14lld of zeros",
                   (long long)number(device, "compressed"), (long long)number(device, "zeros"));
        putchar('\n');
    }
    if (json_object_get(object, "verified"))
        printf("Verified: every byte is as it was packed\n");
}

/* ---- commands */

static int examine(const char *path, bool verify, json_t *object, struct drafter_error *err)
{
    const struct pack_extract_options options = {.progress = PROGRESS_AUTO};
    struct pack_reader reader;
    int rc = pack_reader_open(path, &reader, err);

    if (rc == -ENOTSUP && !verify) {
        *err = (struct drafter_error){0};
        return describe_archive(path, object, err);
    }
    if (rc == -ENOTSUP)
        return drafter_error_set(err, EINVAL, "%s has no manifest: there is nothing to verify it by",
                                 path);
    if (rc)
        return rc;
    rc = describe(&reader, object, err);
    if (!rc && verify)
        rc = signature_admit(SIGNATURE_CHECK, path, reader.signer, NULL, err);
    if (!rc && verify)
        rc = pack_verify(&reader, &options, err);
    if (!rc && verify)
        json_object_set_new(object, "verified", json_true());
    pack_reader_close(&reader);
    return rc;
}

int command_package(const struct options *options, struct drafter_error *err)
{
    const char *verb = options->rest_count == 2 ? options->rest[0] : "";
    bool verify = !strcmp(verb, "verify");
    cleanup_json json_t *object = json_object();
    struct config *config;
    const char *trust;
    int rc;

    if (!verify && strcmp(verb, "inspect") != 0)
        return drafter_error_set(err, EINVAL,
                                 "write: drafter package inspect FILE, or drafter package verify FILE");
    rc = command_find_trust(options->config, &config, &trust, err);
    if (!rc) {
        trust_use(trust);
        rc = examine(options->rest[1], verify, object, err);
    }
    config_free(config);
    if (rc)
        return rc;
    if (options->json) {
        json_dumpf(object, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_text(object);
    }
    return 0;
}
