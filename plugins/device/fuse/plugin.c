/* SPDX-License-Identifier: BSD-2-Clause */
/* What the plugin says of itself; everything else of it serves another plugin, too. */
#include "service.h"

static const struct drafter_option fuse_options[] = {
    {.key = "threads",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct service_config, threads),
     .default_value = "32",
     .minimum = 1,
     .maximum = 1024,
     .help = "reads of missing blocks that may wait at the same time; a quarter more threads, at "
             "least 4, serve everything else"},
    {.key = "allow-other",
     .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct service_config, allow_other),
     .default_value = "no",
     .help =
         "let processes of other users open the files, as a jailed VMM must; who can reach them "
         "is then up to the permissions of the directory above"},
    DRAFTER_OPTION_END,
};

static const struct drafter_plugin fuse_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_DEVICE, struct drafter_device_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "fuse",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "shows devices as files of a FUSE file system that can be mapped",
    .options = fuse_options,
    .config_size = sizeof(struct service_config),
    .create = fuse_create,
    .destroy = fuse_destroy,
    .probe = fuse_probe,
    .ops = &fuse_ops,
};
DRAFTER_PLUGIN_ENTRY(fuse_plugin)
