/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests over a plugin of the tree that may not be built. */
#ifndef UNIT_PLUGIN_H
#define UNIT_PLUGIN_H

#include "unit.h"

#include "plugin/plugin.h"

/* unit_run(), or 77 and why for a plugin that cannot be loaded. */
static inline int unit_run_over(enum drafter_kind kind, const char *plugin, const char *name,
                                void (*add_tests)(TCase *))
{
    struct drafter_error err = {0};
    struct plugin *loaded;

    if (plugin_load(kind, plugin, &loaded, &err) < 0) {
        printf("%s\n", err.message);
        return 77;
    }
    plugin_unload(loaded);
    return unit_run(name, add_tests);
}

#endif
