/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program's own options may stand before or after the command and are written --name=value or
 * --name value.  A role has flags of its own, those of the original's tools among them (-raddr x), so
 * everything unknown after a role is left to it.
 */
#include "options.h"
#include "config/suggest.h"
#include "util/cleanup.h"
#include <stdlib.h>
#include <string.h>

enum option { OPTION_CONFIG, OPTION_LOG_FORMAT, OPTION_LOG_LEVEL, OPTION_TAKE_OVER, OPTION_QUIET,
              OPTION_JSON, OPTION_HELP, OPTION_VERSION, OPTION_COUNT };

/* In the order of enum option. */
static const char *const option_names[] = {"--config", "--log-format", "--log-level",
                                           "--take-over", "--quiet", "--json",
                                           "--help", "--version", NULL};
static const bool option_has_value[OPTION_COUNT] = {true, true, true, true};

/* In the order of their enums. */
static const char *const format_names[] = {"auto", "human", "json", NULL};
static const char *const level_names[] = {"error", "warning", "info", "debug", NULL};

/* Position in a list of names, or -1. */
static int find(const char *word, size_t length, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (strlen(words[i]) == length && memcmp(words[i], word, length) == 0)
            return i;
    }
    return -1;
}

static int refuse(const char *what, const char *word, const char *const *words,
                  struct drafter_error *err)
{
    const char *nearest;
    unsigned count = 0;

    while (words[count])
        count++;
    nearest = suggest_nearest(word, words, count);
    if (nearest)
        return drafter_error_set(err, EINVAL, "%s \"%s\" is not known, did you mean \"%s\"?", what,
                                 word, nearest);
    return drafter_error_set(err, EINVAL, "%s \"%s\" is not known, see drafter --help", what, word);
}

static int apply(struct options *options, enum option option, const char *value,
                 struct drafter_error *err)
{
    int index;

    switch (option) {
    case OPTION_CONFIG:
        options->config = value;
        return 0;
    case OPTION_LOG_FORMAT:
        index = find(value, strlen(value), format_names);
        if (index < 0)
            return refuse("log format", value, format_names, err);
        options->log_format = (enum log_format)index;
        return 0;
    case OPTION_LOG_LEVEL:
        index = find(value, strlen(value), level_names);
        if (index < 0)
            return refuse("log level", value, level_names, err);
        options->log_level = (enum drafter_log_level)index;
        return 0;
    case OPTION_TAKE_OVER:
        options->take_over = value;
        return 0;
    case OPTION_QUIET:
        options->log_level = DRAFTER_LOG_ERROR;
        return 0;
    case OPTION_JSON:
        options->json = true;
        return 0;
    case OPTION_HELP:
        options->help = true;
        return 0;
    case OPTION_VERSION:
        options->version = true;
        return 0;
    case OPTION_COUNT:
        break;
    }
    return drafter_error_set(err, EINVAL, "option out of range");
}

/* Takes one of our options at argv[*at]: 1 when it was one, 0 when not. */
static int take_option(char **argv, int *at, struct options *options, struct drafter_error *err)
{
    const char *word = argv[*at];
    const char *value = strchr(word, '=');
    int option = find(word, value ? (size_t)(value - word) : strlen(word), option_names), result;

    if (strcmp(word, "-h") == 0 || strcmp(word, "-help") == 0)
        option = OPTION_HELP;
    if (strcmp(word, "-q") == 0)
        option = OPTION_QUIET;
    if (option < 0)
        return 0;
    if (!option_has_value[option] && value)
        return drafter_error_set(err, EINVAL, "option %s takes no value", option_names[option]);
    if (option_has_value[option] && !value) {
        value = argv[*at + 1];
        if (!value)
            return drafter_error_set(err, EINVAL, "option %s needs a value", word);
        (*at)++;
    } else if (value) {
        value++;
    }
    result = apply(options, (enum option)option, value, err);
    return result < 0 ? result : 1;
}

/* The role of a link called drafter-ROLE, or NULL. */
static const char *role_of_program(const char *program, const char *const *roles)
{
    const char *slash = strrchr(program, '/');
    int role;

    program = slash ? slash + 1 : program;
    if (strncmp(program, "drafter-", 8) != 0)
        return NULL;
    role = find(program + 8, strlen(program + 8), roles);
    return role < 0 ? NULL : roles[role];
}

static int refuse_command(const char *word, const char *const *commands, const char *const *roles,
                          struct drafter_error *err)
{
    const char *all[64];
    size_t count = 0;

    for (; *commands && count < 63; commands++)
        all[count++] = *commands;
    for (; *roles && count < 63; roles++)
        all[count++] = *roles;
    all[count] = NULL;
    return refuse("command", word, all, err);
}

/* Finds the command or role `word`. */
static int take_command(const char *word, const char *const *commands, const char *const *roles,
                        struct options *options, bool *is_role, struct drafter_error *err)
{
    int index = find(word, strlen(word), commands);

    if (index >= 0) {
        options->command = commands[index];
        return 0;
    }
    index = find(word, strlen(word), roles);
    if (index < 0)
        return refuse_command(word, commands, roles, err);
    options->command = roles[index];
    *is_role = true;
    return 0;
}

int options_parse(int argc, char **argv, const char *const *commands, const char *const *roles,
                  struct options *ret_options, struct drafter_error *err)
{
    struct options options = {.log_level = DRAFTER_LOG_INFO};
    cleanup_free char **rest = calloc((size_t)argc + 1, sizeof(*rest));
    bool is_role = false;

    if (!rest)
        return drafter_error_errno(err, ENOMEM, "command line");
    options.command = argc > 0 ? role_of_program(argv[0], roles) : NULL;
    is_role = options.command != NULL;
    for (int i = 1; i < argc; i++) {
        int result = take_option(argv, &i, &options, err);

        if (result == 0 && is_role)
            rest[options.rest_count++] = argv[i];
        else if (result == 0 && argv[i][0] == '-' && argv[i][1])
            result = refuse("option", argv[i], option_names, err);
        else if (result == 0 && !options.command)
            result = take_command(argv[i], commands, roles, &options, &is_role, err);
        else if (result == 0)
            rest[options.rest_count++] = argv[i];
        if (result < 0)
            return result;
    }
    options.rest = steal(&rest);
    *ret_options = options;
    return 0;
}

void options_release(struct options *options)
{
    free(options->rest);
    options->rest = NULL;
    options->rest_count = 0;
}
