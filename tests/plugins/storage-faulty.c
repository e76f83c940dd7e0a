/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A storage layer whose medium fails when it is told to: while the file `switch` has the word read, write or
 * flush, operations of that kind end with EIO.
 */
#include <drafter/storage.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct faulty_config {
    const char *path;
};

struct faulty {
    const struct faulty_config *config;
    const struct drafter_storage_ops *next;
    void *next_instance;
};

static int fails(const struct faulty *faulty, const char *what)
{
    char words[64] = "";
    int fd = open(faulty->config->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (read(fd, words, sizeof words - 1) < 0)
        words[0] = '\0';
    close(fd);
    return strstr(words, what) ? -EIO : 0;
}

static int faulty_create(const struct drafter_context *context, const void *config, void **ret_instance,
                         struct drafter_error *err)
{
    struct faulty *faulty = calloc(1, sizeof *faulty);

    if (!faulty || !context->next) {
        free(faulty);
        return drafter_error_set(err, EINVAL, "faulty: needs a storage below");
    }
    faulty->config = config;
    faulty->next = drafter_next_storage(context->next, &faulty->next_instance);
    *ret_instance = faulty;
    return 0;
}

static void faulty_destroy(void *instance)
{
    free(instance);
}

static int faulty_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    struct faulty *faulty = instance;

    return faulty->next->open(faulty->next_instance, size, flags, err);
}

static uint64_t faulty_size(void *instance)
{
    struct faulty *faulty = instance;

    return faulty->next->size(faulty->next_instance);
}

static int faulty_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct faulty *faulty = instance;
    int r = fails(faulty, "read");

    return r < 0 ? r : faulty->next->pread(faulty->next_instance, buffer, length, offset);
}

static int faulty_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    struct faulty *faulty = instance;
    int r = fails(faulty, "write");

    return r < 0 ? r : faulty->next->pwrite(faulty->next_instance, buffer, length, offset);
}

static int faulty_flush(void *instance)
{
    struct faulty *faulty = instance;
    int r = fails(faulty, "flush");

    return r < 0 ? r : faulty->next->flush(faulty->next_instance);
}

static const struct drafter_option faulty_options[] = {
    {.key = "switch", .type = DRAFTER_OPTION_PATH, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct faulty_config, path), .help = "file that says what fails"},
    DRAFTER_OPTION_END,
};

static const struct drafter_storage_ops faulty_ops = {
    .open = faulty_open,
    .size = faulty_size,
    .pread = faulty_pread,
    .pwrite = faulty_pwrite,
    .flush = faulty_flush,
};

static const struct drafter_plugin faulty_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_STORAGE, struct drafter_storage_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "faulty",
    .version = "1.0",
    .license = "BSD-2-Clause",
    .summary = "storage that fails when it is told to",
    .options = faulty_options,
    .config_size = sizeof(struct faulty_config),
    .create = faulty_create,
    .destroy = faulty_destroy,
    .ops = &faulty_ops,
};
DRAFTER_PLUGIN_ENTRY(faulty_plugin)
