/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter ctl` and `drafter ps`: asking nodes that run. */
#include "command.h"

#include "config/config.h"
#include "control/control.h"
#include "control/show.h"
#include "options.h"
#include "role/node.h"
#include "util/cleanup.h"
#include "util/json.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_TIMEOUT_MS 5000
#define PROGRESS_MS 1000

/* The command line of ctl and ps. */
struct line {
    char *name, *run_directory; /* owned; the name may be NULL */
    const char *words[3]; /* command, argument, NULL */
    int count;
    bool json;
};

static void line_release(struct line *line)
{
    free(line->name);
    free(line->run_directory);
}

static int set(char **field, const char *value, struct drafter_error *err)
{
    free(*field);
    *field = strdup(value);
    return *field ? 0 : drafter_error_set(err, ENOMEM, "out of memory");
}

/* What a configuration file says of the node. */
static int read_config(struct line *line, const char *path, struct drafter_error *err)
{
    struct config *config;
    struct node node;
    int rc = config_load(path, &config, err);

    if (!rc)
        rc = node_look(config, &node, err);
    if (rc)
        return rc;
    rc = set(&line->run_directory, node.options.run_directory, err);
    if (!rc)
        rc = set(&line->name, node.options.name, err);
    node_close(&node);
    return rc;
}

static int default_directory(struct line *line, struct drafter_error *err)
{
    struct node_options options = {0};
    int rc = config_apply(NULL, node_option_table, NULL, &options, sizeof(options), err);

    return rc ? rc : set(&line->run_directory, options.run_directory, err);
}

/* --NAME VALUE or --NAME=VALUE at words[*at]; NULL: it is another. */
static const char *take_value(char *const *words, int *at, const char *name)
{
    const char *word = words[*at];
    size_t length = strlen(name);

    word += *word == '-';
    word += *word == '-';
    if (word == words[*at] || strncmp(word, name, length) != 0)
        return NULL;
    if (word[length] == '=')
        return word + length + 1;
    return !word[length] && words[*at + 1] ? words[++*at] : NULL;
}

static int line_read(const struct options *options, struct line *line, struct drafter_error *err)
{
    const char *value;
    int rc = default_directory(line, err);

    line->json = options->json;
    if (!rc && options->config)
        rc = read_config(line, options->config, err);
    for (int i = 0; !rc && options->rest[i]; i++) {
        const char *word = options->rest[i];

        if ((value = take_value(options->rest, &i, "name")))
            rc = set(&line->name, value, err);
        else if ((value = take_value(options->rest, &i, "run-directory")))
            rc = set(&line->run_directory, value, err);
        else if (*word == '-' && strcmp(word, "--off") != 0)
            rc = drafter_error_set(err, EINVAL, "option \"%.64s\" is not known, or lacks its value; see "
                                   "drafter(8)", word);
        else if (line->count == (int)(sizeof(line->words) / sizeof(*line->words)) - 1)
            rc = drafter_error_set(err, EINVAL, "too many words");
        else
            line->words[line->count++] = word;
    }
    return rc;
}

/* A socket without anybody behind it: its drafter died. */
static json_t *look(const struct line *line, const char *name)
{
    cleanup_json json_t *request = json_pack("{s:s}", "command", "status"), *answer = NULL;

    if (control_ask(line->run_directory, name, request, LOOK_TIMEOUT_MS, &answer, NULL))
        return json_pack("{s:s, s:s, s:s}", "name", name, "role", "", "state", "dead");
    json_object_del(answer, "ok");
    return json_incref(answer);
}

/* Of several the one with a VM, as others have little to tell; NULL: there is none, or more than one. */
static const char *only_name(const struct line *line, const json_t *names)
{
    const char *found = json_string_value(json_array_get(names, 0));
    unsigned count = 0;
    const json_t *name;
    size_t index;

    if (json_array_size(names) == 1)
        return found;
    json_array_foreach(names, index, name)
    {
        cleanup_json json_t *status = look(line, json_string_value(name));

        if (!json_object_get(status, "epoch"))
            continue;
        found = json_string_value(name);
        count++;
    }
    return count == 1 ? found : NULL;
}

/* Without a name there must be one node that it can mean. */
static int choose_name(struct line *line, struct drafter_error *err)
{
    cleanup_json json_t *names = NULL;
    int rc = line->name ? 0 : control_list(line->run_directory, &names, err);
    const char *name;

    if (rc || line->name)
        return rc;
    name = only_name(line, names);
    if (name)
        return set(&line->name, name, err);
    return drafter_error_set(err, json_array_size(names) ? EINVAL : ENOENT,
                             json_array_size(names) ? "%s: several run here; say --name NAME, which "
                                                      "drafter ps lists"
                                                    : "%s: nothing runs here",
                             line->run_directory);
}

static int ask(const struct line *line, json_t *request, unsigned timeout_ms, json_t **ret_answer,
               struct drafter_error *err)
{
    return control_ask(line->run_directory, line->name, request, timeout_ms, ret_answer, err);
}

static void print_json(const json_t *object, size_t flags)
{
    json_dumpf(object, stdout, flags);
    putchar('\n');
}

static void print(const struct line *line, const json_t *answer)
{
    if (line->json) {
        print_json(answer, JSON_INDENT(2));
    } else if (json_object_get(answer, "state")) {
        control_show_status(answer, stdout);
    } else {
        const char *key;
        const json_t *value;

        json_object_foreach((json_t *)answer, key, value)
            if (json_is_string(value))
                printf("%s: %s\n", key, json_string_value(value));
            else if (json_is_number(value))
                printf("%s: %.1f\n", key, json_number_value(value));
    }
}

static int run_plain(const struct line *line, struct drafter_error *err)
{
    cleanup_json json_t *request = NULL, *answer = NULL;
    bool look = !strcmp(line->words[0], "status");
    int rc = control_request(line->words[0], line->words[1], &request, err);

    if (!rc)
        rc = ask(line, request, look ? LOOK_TIMEOUT_MS : 0, &answer, err);
    if (!rc)
        print(line, answer);
    return rc;
}

static void print_progress(const struct line *line)
{
    cleanup_json json_t *request = json_pack("{s:s}", "command", "status"), *answer = NULL;

    if (ask(line, request, LOOK_TIMEOUT_MS, &answer, NULL))
        return;
    if (line->json)
        print_json(answer, JSON_COMPACT);
    else
        control_show_progress(answer, stdout);
    fflush(stdout);
}

static int conclude(const struct line *line, const json_t *answer, struct drafter_error *err)
{
    int rc = control_outcome(answer, line->name, err);

    if (line->json)
        print_json(answer, JSON_COMPACT);
    else if (!rc)
        printf("moved\n");
    return rc;
}

/* The destination connects, as always: this opens the door and waits at it. */
static int run_migrate(const struct line *line, struct drafter_error *err)
{
    cleanup_json json_t *opened = NULL, *answer = NULL;
    cleanup_close int fd = -1;
    struct pollfd wait = {.events = POLLIN};
    int rc = control_migrate(line->run_directory, line->name, line->words[1], 0, &fd, &opened, err);

    if (rc)
        return rc;
    if (!line->json)
        printf("waiting for a peer that connects to %s\n",
               json_string_value(json_object_get(opened, "listen")));
    fflush(stdout);
    wait.fd = fd;
    while (poll(&wait, 1, PROGRESS_MS) == 0)
        print_progress(line);
    rc = control_finish(fd, line->name, &answer, err);
    return rc ? rc : conclude(line, answer, err);
}

static const struct {
    const char *name;
    int (*run)(const struct line *line, struct drafter_error *err);
} commands[] = {
    {"status", run_plain}, {"migratable", run_plain}, {"migrate", run_migrate},
    {"cancel", run_plain}, {"snapshot", run_plain},   {"suspend", run_plain},
    {"resume", run_plain}, {"stop", run_plain},
};

static int dispatch(const struct line *line, struct drafter_error *err)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        if (!strcmp(commands[i].name, line->words[0]))
            return commands[i].run(line, err);
    return drafter_error_set(err, EINVAL, "ctl knows status, migratable, migrate, cancel, snapshot, "
                             "suspend, resume and stop, not \"%.64s\"", line->words[0]);
}

int command_ctl(const struct options *options, struct drafter_error *err)
{
    struct line line = {0};
    int rc = line_read(options, &line, err);

    if (!rc && !line.count)
        rc = drafter_error_set(err, EINVAL, "ctl needs a command, such as status");
    if (!rc)
        rc = choose_name(&line, err);
    if (!rc)
        rc = dispatch(&line, err);
    line_release(&line);
    return rc;
}

int command_ps(const struct options *options, struct drafter_error *err)
{
    cleanup_json json_t *names = NULL, *all = json_array();
    struct line line = {0};
    const json_t *name;
    size_t index;
    int rc = line_read(options, &line, err);

    if (!rc && line.count)
        rc = drafter_error_set(err, EINVAL, "ps takes no argument \"%.64s\"", line.words[0]);
    if (!rc)
        rc = control_list(line.run_directory, &names, err);
    if (!rc && !line.json)
        control_show_row(NULL, stdout);
    json_array_foreach(names, index, name)
    {
        json_array_append_new(all, look(&line, json_string_value(name)));
        if (!line.json)
            control_show_row(json_array_get(all, index), stdout);
    }
    if (!rc && line.json)
        print_json(all, JSON_INDENT(2));
    line_release(&line);
    return rc;
}
