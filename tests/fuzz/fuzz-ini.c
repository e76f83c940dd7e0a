/* SPDX-License-Identifier: BSD-2-Clause */
/* The INI reader and option tables: any text gives a configuration or a sentence. */
#include "config/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct values {
    const char *string, *path, *secret;
    uint64_t number, size, duration;
    int choice;
    bool flag;
};

static const char *const choices[] = {"tcg", "kvm", NULL};

static const struct drafter_option table[] = {
    {.key = "string", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct values, string)},
    {.key = "path", .type = DRAFTER_OPTION_PATH, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct values, path)},
    {.key = "secret", .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_SECRET,
     .offset = offsetof(struct values, secret)},
    {.key = "number", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct values, number),
     .minimum = 3, .maximum = 1000},
    {.key = "block-size", .type = DRAFTER_OPTION_SIZE, .offset = offsetof(struct values, size),
     .default_value = "64k"},
    {.key = "duration", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct values, duration)},
    {.key = "choice", .type = DRAFTER_OPTION_ENUM, .offset = offsetof(struct values, choice),
     .choices = choices},
    {.key = "flag", .type = DRAFTER_OPTION_BOOL, .offset = offsetof(struct values, flag)},
    DRAFTER_OPTION_END,
};

/* What is printed can be read again, and says the same when it is printed again. */
static char *print(const struct config *config, size_t *ret_length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, ret_length);

    config_print(config, stream);
    fclose(stream);
    return text;
}

static void print_and_read(const struct config *config)
{
    struct drafter_error err = {0};
    struct config *again = NULL;
    size_t length;
    char *text = print(config, &length);

    assert(config_parse(text, length, "again", &again, &err) == 0 || length > 1 << 20);
    config_free(again);
    free(text);
}

static void apply(const struct config *config, const char *kind)
{
    const struct config_section *section = NULL;

    while ((section = config_next(config, kind, section))) {
        struct config_report report = {0};
        struct values values = {0};
        struct drafter_error err = {0};
        int ret = config_apply_all(section, table, choices, &values, sizeof(values), &report, &err);

        assert((ret < 0) == (report.count > 0));
        assert(ret == 0 || strcmp(err.message, report.messages[0]) == 0);
        assert(ret < 0 || (values.path && (!values.number || values.number >= 3)));
        config_report_free(&report);
        config_where(section, "path");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"peer", "device", "storage", NULL};
    struct drafter_error err = {0};
    struct config *config = NULL;
    int ret = config_parse((const char *)data, size, "fuzz", &config, &err);

    assert((ret < 0) == (err.code != 0));
    assert((ret < 0) == (config == NULL));
    if (ret < 0)
        return 0;
    print_and_read(config);
    for (size_t i = 0; kinds[i]; i++)
        apply(config, kinds[i]);
    config_check_kinds(config, kinds, NULL);
    config_check_used(config, NULL, NULL);
    config_set(config, "peer", "", "path", "x", NULL);
    config_set(config, "peer", "", "Path", "y", NULL);
    config_free(config);
    return 0;
}
