/* SPDX-License-Identifier: BSD-2-Clause */
/* Flushes of the file plugin at the same time, one of which hears from the kernel that writing failed. */
#include "unit.h"

#include <drafter/storage.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

extern const struct drafter_plugin *drafter_plugin_entry(void);

static sem_t inside;
static atomic_int syncs;

/* In place of the C library's: as the kernel does, it tells one caller alone. */
int fdatasync(int fd)
{
    (void)fd;
    if (atomic_fetch_add(&syncs, 1) > 0)
        return 0;
    sem_post(&inside);
    usleep(100000); /* the kernel has told it; the plugin does not know yet */
    errno = EIO;
    return -1;
}

struct flusher {
    const struct drafter_storage_ops *ops;
    void *instance;
    int result;
};

static void *flush(void *opaque)
{
    struct flusher *flusher = opaque;

    flusher->result = flusher->ops->flush(flusher->instance);
    return NULL;
}

START_TEST(a_flush_beside_one_that_fails_fails)
{
    const struct drafter_plugin *plugin = drafter_plugin_entry();
    const struct drafter_context context = {.struct_size = sizeof(context), .id = "unit"};
    char *directory = unit_make_directory(), *path = unit_path(directory, "disk"), config[256] = {0};
    struct flusher first = {.ops = plugin->ops};
    struct drafter_error err = {0};
    pthread_t thread;

    sem_init(&inside, 0, 0);
    ck_assert_uint_le(plugin->config_size, sizeof(config));
    memcpy(config + plugin->options[0].offset, &path, sizeof(path));
    ck_assert_int_eq(plugin->create(&context, config, &first.instance, &err), 0);
    ck_assert_int_eq(first.ops->open(first.instance, 4096, DRAFTER_STORAGE_CREATE, &err), 0);
    pthread_create(&thread, NULL, flush, &first);
    sem_wait(&inside);
    ck_assert_int_eq(first.ops->flush(first.instance), -EIO);
    pthread_join(thread, NULL);
    ck_assert_int_eq(first.result, -EIO);
    plugin->destroy(first.instance);
    free(path);
    unit_drop_directory(directory);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_flush_beside_one_that_fails_fails);
}

int main(void)
{
    return unit_run("file-flush", add_tests);
}
