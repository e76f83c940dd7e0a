/* SPDX-License-Identifier: BSD-2-Clause */
/* The config device of a package, which a guest may have written. */
#include "vm/package.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct package package, again;
    struct drafter_error err = {0};
    char *text;

    if (package_decode((const char *)data, size, &package, &err)) {
        assert(err.code && *err.message);
        return 0;
    }
    assert(package.device_count <= WIRE_DEVICES_MAX);
    if (!package.complete)
        return 0;
    assert(package.memory_size >= DRAFTER_PAGE_SIZE && package.cpu_count);
    text = package_encode(&package);
    assert(text && !package_decode(text, strlen(text), &again, &err));
    assert(!memcmp(&package, &again, sizeof(package)));
    free(text);
    return 0;
}
