/* SPDX-License-Identifier: BSD-2-Clause */
/* Instances, their configuration, and the storage adapter's defaults, checks and lock. */
#include "unit.h"

#include "plugin/storage.h"
#include <pthread.h>

static struct instance *make(const char *plugin, const char *const *overrides)
{
    struct drafter_error err = {0};
    struct instance *instance = NULL;

    setenv("DRAFTER_PLUGIN_PATH", FIXTURES, 1);
    ck_assert_msg(instance_new(DRAFTER_KIND_STORAGE, NULL, plugin, overrides, "test", "/", NULL,
                               &instance, &err) == 0,
                  "%s", err.message);
    return instance;
}

static int make_from(const char *text, const char *id, const char *const *overrides,
                     struct instance **ret_instance, struct drafter_error *err)
{
    struct config *config;
    int ret;

    setenv("DRAFTER_PLUGIN_PATH", FIXTURES, 1);
    ck_assert_int_eq(config_parse(text, strlen(text), "t.conf", &config, err), 0);
    ret = instance_new(DRAFTER_KIND_STORAGE, config_section(config, "storage", id), NULL, overrides,
                       id, "/", NULL, ret_instance, err);
    config_free(config); /* the instance does not need it */
    return ret;
}

/* Begins as the fixture's. */
struct fixture_config {
    const char *text, *secret;
    uint64_t size;
};

START_TEST(an_instance_keeps_its_configuration)
{
    struct drafter_error err = {0};
    struct instance *instance = NULL;
    const struct fixture_config *config;

    ck_assert_msg(make_from("[storage:a]\nplugin = good\ntext = first\nLIMIT = 64k\n", "a", NULL,
                            &instance, &err) == 0,
                  "%s", err.message);
    config = instance->config;
    ck_assert_str_eq(config->text, "first");
    ck_assert_ptr_null(config->secret);
    ck_assert_uint_eq(config->size, 65536);
    instance_free(instance);
}
END_TEST

START_TEST(overrides_win_over_the_section_and_the_plugin)
{
    static const char *const overrides[] = {"text", "second", "plugin", "older", NULL};
    struct drafter_error err = {0};
    struct instance *instance = NULL;

    ck_assert_msg(make_from("[storage:a]\nplugin = good\ntext = first\n", "a", overrides, &instance,
                            &err) == 0,
                  "%s", err.message);
    ck_assert_str_eq(((const struct fixture_config *)instance->config)->text, "second");
    ck_assert_str_eq(instance->plugin->descriptor.name, "older");
    instance_free(instance);
}
END_TEST

START_TEST(defaults_hold_without_a_section)
{
    struct instance *instance = make("good", NULL);

    ck_assert_str_eq(((const struct fixture_config *)instance->config)->text, "none");
    ck_assert_uint_eq(((const struct fixture_config *)instance->config)->size, 4096);
    instance_free(instance);
}
END_TEST

static const struct {
    const char *text, *message;
} faulty[] = {
    {"[storage:a]\nplugin = good\ntxt = x\n",
     "t.conf:3: unknown key 'txt' in [storage:a]; did you mean 'text'?"},
    {"[storage:a]\ntext = x\n", "t.conf:1: storage 'a' names no plugin: add plugin = NAME"},
    {"[storage:a]\n\nplugin = goood\n",
     "t.conf:3: no storage plugin 'goood' in " FIXTURES "; did you mean 'good'?"},
    {"[storage:a]\nplugin = good\ntext = refuse\n", "refused as asked"},
    {"[storage:a]\nplugin = good\nsilent = yes\n", "storage plugin good (a): create: Host is down"},
};

START_TEST(a_faulty_instance_is_refused_with_a_sentence)
{
    struct drafter_error err = {0};
    struct instance *instance = NULL;

    ck_assert_int_lt(make_from(faulty[_i].text, "a", NULL, &instance, &err), 0);
    ck_assert_str_eq(err.message, faulty[_i].message);
    ck_assert_ptr_null(instance);
}
END_TEST

START_TEST(what_an_instance_used_is_marked_in_the_configuration)
{
    static const char text[] = "[storage:a]\nplugin = good\nsecret = hush\nnext = b\n";
    struct instance *instance = NULL;
    struct config *config;
    cleanup_free char *printed = NULL;
    size_t length;
    FILE *stream = open_memstream(&printed, &length);

    setenv("DRAFTER_PLUGIN_PATH", FIXTURES, 1);
    ck_assert_int_eq(config_parse(text, strlen(text), "t.conf", &config, NULL), 0);
    ck_assert_int_eq(instance_new(DRAFTER_KIND_STORAGE, config_section(config, "storage", "a"),
                                  NULL, NULL, "a", "/", NULL, &instance, NULL),
                     0);
    ck_assert_int_eq(config_check_used(config, NULL, NULL), 0);
    config_print(config, stream);
    fclose(stream);
    ck_assert_str_eq(printed, "[storage:a]\nplugin = good\nsecret = (secret)\nnext = b\n");
    instance_free(instance);
    config_free(config);
}
END_TEST

START_TEST(ranges_beyond_the_end_are_refused)
{
    struct instance *storage = make("good", NULL);
    char buffer[64] = {0};
    uint64_t end = storage_size(storage), length;
    enum drafter_extent_kind kind;
    bool own;

    ck_assert_int_eq(storage_read(storage, buffer, 64, end - 64), 0);
    ck_assert_int_eq(storage_read(storage, buffer, 64, end - 63), -EINVAL);
    ck_assert_int_eq(storage_read(storage, buffer, 64, UINT64_MAX - 8), -EINVAL);
    ck_assert_int_eq(storage_write(storage, buffer, 64, end), -EINVAL);
    ck_assert_int_eq(storage_zero(storage, end, 1), -EINVAL);
    ck_assert_int_eq(storage_trim(storage, UINT64_MAX, 1), -EINVAL);
    ck_assert_int_eq(storage_extent(storage, 0, end + 1, &kind, &length), -EINVAL);
    ck_assert_int_eq(storage_layer(storage, end, 1, &own, &length), -EINVAL);
    instance_free(storage);
}
END_TEST

START_TEST(absent_operations_have_their_defaults)
{
    struct instance *storage = make("older", NULL);
    char buffer[512], zeros[512] = {0};
    enum drafter_extent_kind kind = DRAFTER_EXTENT_ZERO;
    uint64_t length = 0;
    bool own = false;

    memset(buffer, 'x', sizeof(buffer));
    ck_assert_int_eq(storage_write(storage, buffer, sizeof(buffer), 1024), 0);
    ck_assert_int_eq(storage_zero(storage, 256, 1024), 0);
    ck_assert_int_eq(storage_read(storage, buffer, sizeof(buffer), 1024), 0);
    ck_assert_int_eq(memcmp(buffer, zeros, 256), 0);
    ck_assert_int_eq(buffer[256], 'x');
    ck_assert_int_eq(storage_trim(storage, 512, 1024), 0);
    ck_assert_int_eq(storage_extent(storage, 512, 1024, &kind, &length), 0);
    ck_assert_int_eq(kind, DRAFTER_EXTENT_DATA);
    ck_assert_uint_eq(length, 1024);
    ck_assert_int_eq(storage_layer(storage, 0, 512, &own, &length), 0);
    ck_assert(own);
    ck_assert_uint_eq(length, 512);
    ck_assert_int_eq(storage_check(storage, NULL, NULL, NULL), 0);
    instance_free(storage);
}
END_TEST

START_TEST(zeros_are_written_over_any_length)
{
    struct instance *storage = make("older", NULL);
    size_t length = 200000;
    cleanup_free char *buffer = malloc(length + 2), *zeros = calloc(1, length);

    memset(buffer, 'x', length + 2);
    ck_assert_int_eq(storage_write(storage, buffer, length + 2, 512), 0);
    ck_assert_int_eq(storage_zero(storage, length, 513), 0);
    ck_assert_int_eq(storage_read(storage, buffer, length + 2, 512), 0);
    ck_assert_int_eq(buffer[0], 'x');
    ck_assert_int_eq(memcmp(buffer + 1, zeros, length), 0);
    ck_assert_int_eq(buffer[length + 1], 'x');
    instance_free(storage);
}
END_TEST

START_TEST(answers_that_break_the_contract_are_mended_or_refused)
{
    static const char *const overreach[] = {"overreach", "yes", NULL};
    struct instance *storage = make("good", overreach);
    enum drafter_extent_kind kind;
    uint64_t length;

    ck_assert_int_eq(storage_extent(storage, 0, 512, &kind, &length), 0);
    ck_assert_int_eq(kind, DRAFTER_EXTENT_DATA);
    ck_assert_uint_eq(length, 512);
    instance_free(storage);
    storage = make("good", NULL); /* says nothing about the range: a caller would loop */
    ck_assert_int_eq(storage_extent(storage, 0, 512, &kind, &length), -EIO);
    instance_free(storage);
}
END_TEST

START_TEST(a_failed_flush_is_never_followed_by_a_good_one)
{
    static const char *const fails[] = {"flush-fails-at", "2", NULL};
    struct instance *storage = make("good", fails);

    ck_assert_int_eq(storage_flush(storage), 0);
    ck_assert_int_eq(storage_flush(storage), -ENOSPC);
    ck_assert_int_eq(storage_flush(storage), -ENOSPC);
    instance_free(storage);
}
END_TEST

struct reader {
    struct instance *storage;
    const struct drafter_storage_ops *ops; /* as a layer, where set */
    void *next;
    int ret;
};

static void *read_much(void *opaque)
{
    struct reader *reader = opaque;
    char buffer[16];

    for (int i = 0; i < 20 && reader->ret == 0; i++)
        reader->ret = reader->ops ? reader->ops->pread(reader->next, buffer, sizeof(buffer), 0)
                                  : storage_read(reader->storage, buffer, sizeof(buffer), 0);
    return NULL;
}

/* Two threads at once, one of them perhaps through a layer; whether they met inside the plugin. */
static bool threads_meet(const char *plugin, bool layer)
{
    struct instance *storage = make(plugin, NULL);
    struct reader readers[2] = {{.storage = storage}, {.storage = storage}};
    pthread_t threads[2];

    if (layer)
        readers[1].ops = drafter_next_storage(storage, &readers[1].next);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_much, &readers[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    instance_free(storage);
    return readers[0].ret == -EDEADLK || readers[1].ret == -EDEADLK;
}

START_TEST(a_serializing_plugin_sees_one_thread_at_a_time)
{
    ck_assert(!threads_meet("serial", false));
    ck_assert(!threads_meet("serial", true));
}
END_TEST

START_TEST(a_parallel_plugin_is_not_locked)
{
    ck_assert(threads_meet("good", false));
}
END_TEST

START_TEST(a_layer_gets_every_operation_and_the_checks)
{
    struct instance *storage = make("older", NULL);
    const struct drafter_storage_ops *ops;
    void *next = NULL;
    char buffer[64];

    ops = drafter_next_storage(storage, &next);
    ck_assert_ptr_nonnull(ops);
    ck_assert_ptr_nonnull(ops->zero);
    ck_assert_ptr_nonnull(ops->trim);
    ck_assert_ptr_nonnull(ops->extent);
    ck_assert_uint_eq(ops->size(next), storage_size(storage));
    ck_assert_int_eq(ops->pread(next, buffer, sizeof(buffer), ops->size(next)), -EINVAL);
    ck_assert_ptr_null(drafter_next_storage(NULL, &next));
    instance_free(storage);
}
END_TEST

START_TEST(freeing_nothing_is_allowed)
{
    instance_free(NULL);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, an_instance_keeps_its_configuration);
    tcase_add_test(tests, overrides_win_over_the_section_and_the_plugin);
    tcase_add_test(tests, defaults_hold_without_a_section);
    tcase_add_loop_test(tests, a_faulty_instance_is_refused_with_a_sentence, 0,
                        sizeof(faulty) / sizeof(*faulty));
    tcase_add_test(tests, what_an_instance_used_is_marked_in_the_configuration);
    tcase_add_test(tests, ranges_beyond_the_end_are_refused);
    tcase_add_test(tests, absent_operations_have_their_defaults);
    tcase_add_test(tests, zeros_are_written_over_any_length);
    tcase_add_test(tests, answers_that_break_the_contract_are_mended_or_refused);
    tcase_add_test(tests, a_failed_flush_is_never_followed_by_a_good_one);
    tcase_add_test(tests, a_serializing_plugin_sees_one_thread_at_a_time);
    tcase_add_test(tests, a_parallel_plugin_is_not_locked);
    tcase_add_test(tests, a_layer_gets_every_operation_and_the_checks);
    tcase_add_test(tests, freeing_nothing_is_allowed);
}

int main(void)
{
    return unit_run("plugin-adapters", add_tests);
}
