/* SPDX-License-Identifier: BSD-2-Clause */
/* The copy-on-write storage plugin: options, life and descriptor.  Start at cow.h. */
#include "cow.h"

#include <stdlib.h>

int cow_new(const struct drafter_context *context, const struct cow_config *config,
            const struct cow_io *io, void *io_host, struct cow **ret_cow, struct drafter_error *err)
{
    struct cow *cow;

    if (!context->next)
        return drafter_error_set(err, EINVAL, "cow: needs a base: it is a layer over a storage");
    if (config->import && (config->import_block_size == 0 ||
                           config->import_block_size % DRAFTER_PAGE_SIZE != 0))
        return drafter_error_set(err, EINVAL,
                                 "cow: import needs import-block-size, a multiple of %zu",
                                 DRAFTER_PAGE_SIZE);
    cow = calloc(1, sizeof *cow);
    if (!cow)
        return drafter_error_set(err, ENOMEM, "cow: no memory");
    cow->config = config;
    cow->io = io;
    cow->io_host = io_host;
    cow->keeper = context->keeper;
    cow->base = drafter_next_storage(context->next, &cow->base_instance);
    if (!cow->base) {
        free(cow);
        return drafter_error_set(err, EINVAL, "cow: what is below is not a storage");
    }
    for (unsigned i = 0; i < COW_STRIPES; i++)
        pthread_rwlock_init(&cow->merge[i], NULL);
    pthread_mutex_init(&cow->commit.lock, NULL);
    pthread_cond_init(&cow->commit.done, NULL);
    *ret_cow = cow;
    return 0;
}

void cow_free(struct cow *cow)
{
    if (!cow)
        return;
    cow_close(cow);
    for (unsigned i = 0; i < COW_STRIPES; i++)
        pthread_rwlock_destroy(&cow->merge[i]);
    pthread_mutex_destroy(&cow->commit.lock);
    pthread_cond_destroy(&cow->commit.done);
    free(cow);
}

static int cow_create(const struct drafter_context *context, const void *config, void **ret_instance,
                      struct drafter_error *err)
{
    struct cow *cow;
    int r = cow_new(context, config, &cow_io_files, (void *)(uintptr_t)context->keeper, &cow, err);

    if (r == 0)
        *ret_instance = cow;
    return r;
}

/* What was written and not flushed would be lost with the map: an orderly end keeps it. */
static void cow_destroy(void *instance)
{
    struct cow *cow = instance;

    if (cow && cow->opened && !cow->readonly) {
        int r = cow_map_changed(&cow->map) ? cow_flush(cow) : 0;

        if (r == 0 && cow_heat_end(cow) < 0)
            drafter_log(DRAFTER_LOG_WARNING, "cow", "%s: checksums of pages could not be kept",
                        cow->config->state);
        if (r < 0)
            drafter_log(DRAFTER_LOG_ERROR, "cow", "%s: writes since the last flush are lost (error %d)",
                        cow->config->state, -r);
    }
    cow_free(cow);
}

static const struct drafter_option cow_options[] = {
    {.key = "overlay", .type = DRAFTER_OPTION_PATH, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct cow_config, overlay),
     .help = "sparse file that takes what is written; as long as the device"},
    {.key = "state", .type = DRAFTER_OPTION_PATH, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct cow_config, state),
     .help = "file with the map of the pages that are in the overlay"},
    {.key = "import", .type = DRAFTER_OPTION_PATH, .offset = offsetof(struct cow_config, import),
     .help = "block list of an overlay made by Drafter in Go, read once when the state file is made"},
    {.key = "import-block-size", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct cow_config, import_block_size), .maximum = UINT64_C(1) << 30,
     .unit = "bytes", .help = "block size of the imported list, a multiple of 4 KiB"},
    DRAFTER_OPTION_END,
};

const struct drafter_storage_ops cow_ops = {
    .open = cow_open,
    .size = cow_size,
    .pread = cow_pread,
    .pwrite = cow_pwrite,
    .flush = cow_flush,
    .zero = cow_zero,
    .trim = cow_trim,
    .extent = cow_extent,
    .layer = cow_layer,
    .check = cow_check,
    .verify = cow_verify,
};

static const struct drafter_plugin cow_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_STORAGE, struct drafter_storage_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "cow",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "copy-on-write layer over a read-only base",
    .options = cow_options,
    .config_size = sizeof(struct cow_config),
    .create = cow_create,
    .destroy = cow_destroy,
    .ops = &cow_ops,
};
DRAFTER_PLUGIN_ENTRY(cow_plugin)
