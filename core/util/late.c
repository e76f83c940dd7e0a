/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/late.h"

#include <dlfcn.h>
#include <string.h>

int late_load(const char *soname, const struct late_symbol *symbols, size_t count, struct drafter_error *err)
{
    void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

    if (!library)
        return drafter_error_set(err, ELIBACC, "%s", dlerror());
    for (size_t i = 0; i < count; i++) {
        void *symbol = dlsym(library, symbols[i].name);

        if (!symbol) {
            drafter_error_set(err, ELIBACC, "%s has no %s", soname, symbols[i].name);
            dlclose(library);
            return -ELIBACC;
        }
        memcpy(symbols[i].slot, &symbol, sizeof(symbol));
    }
    return 0;
}
