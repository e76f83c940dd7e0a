/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/package.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/json.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#define PADDING (UINT64_C(1) << 20)
#define FORMAT_VERSION 1
#define CPUS_MAX 4096
#define HASH_STEP ((size_t)1 << 20)

uint64_t package_padded_size(uint64_t size)
{
    return (size + 2 * PADDING - 1) / PADDING * PADDING;
}

uint64_t package_guess_memory(uint64_t size)
{
    uint64_t units = size / PADDING;

    return (units > 1 && units % 2 ? units - 1 : units) * PADDING;
}

static json_t *devices_json(const struct package *package)
{
    json_t *devices = json_array();

    for (unsigned i = 0; devices && i < package->device_count; i++) {
        const struct package_device *device = &package->devices[i];

        json_array_append_new(devices, json_pack("{s:s, s:I, s:s}", "name", device->name, "size",
                                                 (json_int_t)device->size, "blake2b", device->hash));
    }
    return devices;
}

char *package_encode(const struct package *package)
{
    const struct drafter_vmm_facts *facts = &package->facts;
    char features[17], *text;
    json_t *object;

    snprintf(features, sizeof(features), "%016" PRIx64, facts->cpu_features);
    object = json_pack(
        "{s:I, s:{s:i, s:{s:s, s:s, s:s, s:s, s:s, s:s}, s:I, s:i, s:s, s:s, s:s, s:o}}",
        "agentVSockPort", (json_int_t)package->agent_port, "drafter", "format", FORMAT_VERSION,
        "vmm", "name", facts->name, "version", facts->version, "machine", facts->machine,
        "accelerator", facts->accelerator, "cpuModel", facts->cpu_model, "cpuFeatures", features,
        "memorySize", (json_int_t)package->memory_size, "cpuCount", (int)package->cpu_count,
        "kernel", package->kernel, "bootArgs", package->boot_args, "machineConfig", package->machine_config, "devices",
        devices_json(package));
    text = object ? json_text(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

static int take(const json_t *object, const char *key, char *buffer, size_t size,
                struct drafter_error *err)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_string(value) || json_string_length(value) >= size)
        return drafter_error_set(err, EINVAL, "config device: \"%s\" is missing or too long", key);
    memcpy(buffer, json_string_value(value), json_string_length(value) + 1);
    return 0;
}

static int take_number(const json_t *object, const char *key, uint64_t minimum, uint64_t maximum,
                       uint64_t *ret_value, struct drafter_error *err)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || (uint64_t)number < minimum ||
        (uint64_t)number > maximum)
        return drafter_error_set(err, EINVAL, "config device: \"%s\" is missing or out of range",
                                 key);
    *ret_value = (uint64_t)number;
    return 0;
}

static int take_facts(const json_t *object, struct drafter_vmm_facts *facts,
                      struct drafter_error *err)
{
    char features[17];

    if (take(object, "name", facts->name, sizeof(facts->name), err) ||
        take(object, "version", facts->version, sizeof(facts->version), err) ||
        take(object, "machine", facts->machine, sizeof(facts->machine), err) ||
        take(object, "accelerator", facts->accelerator, sizeof(facts->accelerator), err) ||
        take(object, "cpuModel", facts->cpu_model, sizeof(facts->cpu_model), err) ||
        take(object, "cpuFeatures", features, sizeof(features), err))
        return -EINVAL;
    facts->cpu_features = strtoull(features, NULL, 16);
    return 0;
}

static int take_devices(const json_t *array, struct package *package, struct drafter_error *err)
{
    if (json_array_size(array) > WIRE_DEVICES_MAX)
        return drafter_error_set(err, EINVAL, "config device: too many devices");
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        struct package_device *device = &package->devices[i];

        if (take(entry, "name", device->name, sizeof(device->name), err) ||
            take(entry, "blake2b", device->hash, sizeof(device->hash), err) ||
            take_number(entry, "size", 1, INT64_MAX, &device->size, err))
            return -EINVAL;
        package->device_count++;
    }
    return 0;
}

static int take_drafter(const json_t *object, struct package *package, struct drafter_error *err)
{
    uint64_t format, cpus;

    if (take_number(object, "format", 1, UINT32_MAX, &format, err))
        return -EINVAL;
    if (format != FORMAT_VERSION)
        return drafter_error_set(err, EINVAL,
                                 "config device: format %u is newer than this drafter knows (%d)",
                                 (unsigned)format, FORMAT_VERSION);
    if (take_facts(json_object_get(object, "vmm"), &package->facts, err) ||
        take_number(object, "memorySize", DRAFTER_PAGE_SIZE, INT64_MAX, &package->memory_size, err) ||
        take_number(object, "cpuCount", 1, CPUS_MAX, &cpus, err) ||
        take(object, "bootArgs", package->boot_args, sizeof(package->boot_args), err) ||
        take(object, "machineConfig", package->machine_config, sizeof(package->machine_config),
             err) ||
        take_devices(json_object_get(object, "devices"), package, err))
        return -EINVAL;
    if (json_object_get(object, "kernel") &&
        take(object, "kernel", package->kernel, sizeof(package->kernel), err))
        return -EINVAL;
    package->cpu_count = (unsigned)cpus;
    package->complete = true;
    return 0;
}

int package_decode(const char *data, size_t length, struct package *ret_package,
                   struct drafter_error *err)
{
    struct package package = {0};
    cleanup_json json_t *object = NULL;
    json_error_t error;
    uint64_t port = 0;

    object = json_loadb(data, strnlen(data, length), JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object))
        return drafter_error_set(err, EINVAL, "config device: not a JSON object: %s",
                                 object ? "wrong type" : error.text);
    if (take_number(object, "agentVSockPort", 0, UINT32_MAX, &port, err))
        return -EINVAL;
    package.agent_port = (uint32_t)port;
    if (json_object_get(object, "drafter") &&
        take_drafter(json_object_get(object, "drafter"), &package, err))
        return -EINVAL;
    *ret_package = package;
    return 0;
}

int package_hash_file(const char *path, struct package_device *device, struct drafter_error *err)
{
    cleanup_free unsigned char *buffer = malloc(HASH_STEP);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char digest[32];
    crypto_generichash_state state;
    struct stat status;

    if (!buffer || fd < 0 || fstat(fd, &status))
        return drafter_error_errno(err, errno, "%s: cannot read it", path);
    crypto_generichash_init(&state, NULL, 0, sizeof(digest));
    for (off_t at = 0; at < status.st_size; at += (off_t)HASH_STEP) {
        size_t step = status.st_size - at < (off_t)HASH_STEP ? (size_t)(status.st_size - at) : HASH_STEP;
        int rc = io_pread_full(fd, buffer, step, (uint64_t)at);

        if (rc)
            return drafter_error_errno(err, -rc, "%s: cannot read it", path);
        crypto_generichash_update(&state, buffer, step);
    }
    crypto_generichash_final(&state, digest, sizeof(digest));
    sodium_bin2hex(device->hash, sizeof(device->hash), digest, sizeof(digest));
    device->size = (uint64_t)status.st_size;
    return 0;
}
