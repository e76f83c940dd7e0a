/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"

#include "config/config.h"
#include "config/copy.h"

struct values {
    const char *path, *token;
    uint64_t block_size, retries;
    bool readonly;
};

static const struct drafter_option table[] = {
    {.key = "path", .type = DRAFTER_OPTION_PATH, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct values, path), .help = "the file"},
    {.key = "token", .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_SECRET,
     .offset = offsetof(struct values, token)},
    {.key = "block-size", .type = DRAFTER_OPTION_SIZE, .offset = offsetof(struct values, block_size),
     .default_value = "64k", .minimum = 4096, .maximum = 1 << 20},
    {.key = "retries", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct values, retries),
     .flags = DRAFTER_OPTION_SECRET},
    {.key = "readonly", .type = DRAFTER_OPTION_BOOL, .offset = offsetof(struct values, readonly)},
    DRAFTER_OPTION_END,
};

static struct config *parse(const char *text)
{
    struct drafter_error err = {0};
    struct config *config = NULL;

    ck_assert_msg(config_parse(text, strlen(text), "f", &config, &err) == 0, "%s", err.message);
    return config;
}

static int apply(struct config *config, const char *const *also, struct values *values,
                 struct drafter_error *err)
{
    memset(values, 0, sizeof(*values));
    return config_apply(config_section(config, "s", ""), table, also, values, sizeof(*values), err);
}

static void expect_print(const struct config *config, const char *expected)
{
    cleanup_free char *printed = NULL;
    size_t length;
    FILE *stream = open_memstream(&printed, &length);

    config_print(config, stream);
    fclose(stream);
    ck_assert_str_eq(printed, expected);
}

START_TEST(values_and_defaults_fill_the_struct)
{
    struct config *config = parse("[s]\nPath = /x\nread-only = yes\n");
    struct drafter_error err = {0};
    struct values values;

    ck_assert_msg(apply(config, NULL, &values, &err) == 0, "%s", err.message);
    ck_assert_str_eq(values.path, "/x");
    ck_assert(values.readonly);
    ck_assert_uint_eq(values.block_size, 65536);
    ck_assert_ptr_null(values.token);
    config_free(config);
}
END_TEST

static const struct {
    const char *text, *message;
} faulty[] = {
    {"[s]\npath = /x\n\nblok-size = 4k\n",
     "f:4: unknown key 'blok-size' in [s]; did you mean 'block-size'?"},
    {"[s]\npath = /x\nzzzzzz = 1\n",
     "f:3: unknown key 'zzzzzz' in [s], which has path, token, block-size, retries, readonly, "
     "plugin"},
    {"\n\n[s]\n", "f:3: [s] lacks 'path' (the file)"},
    {"[s]\npath =\n", "f:2: path: the path is empty"},
    {"[s]\npath=/x\nblock_size = 1k\n",
     "f:3: block-size: '1k' is not in the range 4k to 1M"},
    {"[s]\npath=/x\nretries = hunter2\n", "f:3: retries: the value is not a whole number"},
};

START_TEST(faults_say_file_line_and_what_was_meant)
{
    static const char *const also[] = {"plugin", NULL};
    struct config *config = parse(faulty[_i].text);
    struct drafter_error err = {0};
    struct values values;

    ck_assert_int_eq(apply(config, also, &values, &err), -EINVAL);
    ck_assert_str_eq(err.message, faulty[_i].message);
    config_free(config);
}
END_TEST

START_TEST(keys_of_others_are_let_through)
{
    static const char *const also[] = {"plugin", NULL};
    struct config *config = parse("[s]\npath = /x\nPlugin = tcp\n");
    struct values values;

    ck_assert_int_eq(apply(config, NULL, &values, NULL), -EINVAL);
    ck_assert_int_eq(apply(config, also, &values, NULL), 0);
    config_free(config);
    config = parse("[s]\npath = /x\nnext = tcp\n");
    ck_assert_str_eq(config_value(config_section(config, "s", ""), "next"), "tcp");
    ck_assert_int_eq(apply(config, NULL, &values, NULL), 0);
    config_free(config);
}
END_TEST

START_TEST(no_section_gives_the_defaults)
{
    static const struct drafter_option optional[] = {
        {.key = "n", .type = DRAFTER_OPTION_UINT, .default_value = "7"},
        DRAFTER_OPTION_END,
    };
    struct drafter_error err = {0};
    struct values values = {0};
    uint64_t number = 0;

    ck_assert_int_eq(config_apply(NULL, optional, NULL, &number, sizeof(number), &err), 0);
    ck_assert_uint_eq(number, 7);
    ck_assert_int_eq(config_apply(NULL, table, NULL, &values, sizeof(values), &err), -EINVAL);
    ck_assert_str_eq(err.message, "the configuration lacks 'path' (the file)");
    ck_assert_int_eq(config_apply(NULL, NULL, NULL, NULL, 0, NULL), 0);
}
END_TEST

START_TEST(all_faults_are_reported)
{
    struct config *config = parse("[s]\nblock-size = 3\nretries = x\nwhat = 1\nreadonly = yes\n");
    struct config_report report = {0};
    struct drafter_error err = {0};
    struct values values = {0};

    ck_assert_int_eq(config_apply_all(config_section(config, "s", ""), table, NULL, &values,
                                      sizeof(values), &report, &err),
                     -EINVAL);
    ck_assert_uint_eq(report.count, 4);
    ck_assert_str_eq(report.messages[0], err.message);
    ck_assert_ptr_nonnull(strstr(report.messages[0], "f:2: block-size"));
    ck_assert_ptr_nonnull(strstr(report.messages[1], "f:3: retries"));
    ck_assert_ptr_nonnull(strstr(report.messages[2], "f:4: unknown key 'what'"));
    ck_assert_ptr_nonnull(strstr(report.messages[3], "lacks 'path'"));
    ck_assert(values.readonly); /* the rest was applied */
    config_report_free(&report);
    config_free(config);
}
END_TEST

START_TEST(secrets_are_never_printed)
{
    struct config *config = parse("[s]\npath = /x\ntoken = hunter2\n[t:id]\nk = v\n");
    struct values values;

    expect_print(config, "[s]\npath = (not used)\ntoken = (not used)\n\n[t:id]\nk = (not used)\n");
    ck_assert_int_eq(apply(config, NULL, &values, NULL), 0);
    ck_assert_str_eq(values.token, "hunter2");
    expect_print(config, "[s]\npath = /x\ntoken = (secret)\n\n[t:id]\nk = (not used)\n");
    config_free(config);
}
END_TEST

START_TEST(unknown_sections_are_refused_with_the_nearest)
{
    static const char *const kinds[] = {"peer", "device", "transport", NULL};
    struct config *config = parse("[peer]\n[transprot]\n[device:a]\n[kitchen:sink]\n");
    struct config_report report = {0};
    struct drafter_error err = {0};

    ck_assert_int_eq(config_check_kinds(config, kinds, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:2: unknown section [transprot]; did you mean 'transport'?");
    ck_assert_int_eq(config_check_kinds_all(config, kinds, &report, NULL), -EINVAL);
    ck_assert_uint_eq(report.count, 2);
    ck_assert_str_eq(report.messages[1], "f:4: unknown section [kitchen:sink]");
    config_report_free(&report);
    config_free(config);
}
END_TEST

START_TEST(what_nothing_used_is_refused)
{
    struct config *config = parse("[s]\npath = /x\n[storage:lost]\nplugin = file\n");
    struct drafter_error err = {0};
    struct values values;

    ck_assert_int_eq(apply(config, NULL, &values, NULL), 0);
    ck_assert_int_eq(config_check_used(config, NULL, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:3: nothing uses section [storage:lost]");
    config_value(config_section(config, "storage", "lost"), "other");
    err = (struct drafter_error){0};
    ck_assert_int_eq(config_check_used(config, NULL, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:4: nothing uses key 'plugin' in [storage:lost]");
    config_value(config_section(config, "storage", "lost"), "plugin");
    ck_assert_int_eq(config_check_used(config, NULL, &err), 0);
    config_free(config);
}
END_TEST

START_TEST(a_copied_section_stands_alone)
{
    struct config *config = parse("\n[s]\npath = /x\n[t]\n");
    struct config *copy = config_copy_section(config_section(config, "s", ""));
    struct config_section *section = config_section(copy, "s", "");

    config_free(config);
    ck_assert_ptr_null(config_section(copy, "t", ""));
    ck_assert_str_eq(config_value(section, "path"), "/x");
    ck_assert_str_eq(config_where(section, "path"), "f:3");
    config_free(copy);
}
END_TEST

START_TEST(four_places_can_be_named_in_one_message)
{
    struct config *config = parse("[a]\n[b]\n[c]\n[d]\n");
    const char *where[4];

    for (int i = 0; i < 4; i++)
        where[i] = config_where(config_section(config, (const char[]){(char)('a' + i), 0}, ""), NULL);
    ck_assert_str_eq(where[0], "f:1");
    ck_assert_str_eq(where[3], "f:4");
    config_free(config);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, values_and_defaults_fill_the_struct);
    tcase_add_loop_test(tests, faults_say_file_line_and_what_was_meant, 0,
                        sizeof(faulty) / sizeof(*faulty));
    tcase_add_test(tests, keys_of_others_are_let_through);
    tcase_add_test(tests, no_section_gives_the_defaults);
    tcase_add_test(tests, all_faults_are_reported);
    tcase_add_test(tests, secrets_are_never_printed);
    tcase_add_test(tests, unknown_sections_are_refused_with_the_nearest);
    tcase_add_test(tests, what_nothing_used_is_refused);
    tcase_add_test(tests, a_copied_section_stands_alone);
    tcase_add_test(tests, four_places_can_be_named_in_one_message);
}

int main(void)
{
    return unit_run("config-apply", add_tests);
}
