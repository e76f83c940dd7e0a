/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/check.h"

#include "command.h"
#include "config/tree.h"
#include "role/node.h"
#include "util/cleanup.h"
#include "util/probe.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct check {
    json_t *findings;   /* NULL: print them as they come */
    unsigned counts[3]; /* by level */
    bool trust;         /* a transport asks the trust file */
};

static const char *const level_names[] = {"ok", "warning", "error"};

void check_add(struct check *check, enum check_level level, const char *what, const char *remedy,
               const char *format, ...)
{
    char reason[DRAFTER_ERROR_MAX];
    bool has_remedy = remedy && *remedy;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    check->counts[level]++;
    if (check->findings)
        json_array_append_new(check->findings,
                              json_pack("{s:s, s:s, s:s, s:s?}", "level", level_names[level],
                                        "what", what, "reason", reason, "remedy",
                                        has_remedy ? remedy : NULL));
    else
        printf("%-8s %s: %s%s%s\n", level_names[level], what, reason, has_remedy ? "; " : "",
               has_remedy ? remedy : "");
}

bool check_failed(const struct check *check)
{
    return check->counts[CHECK_ERROR] > 0;
}

void check_need_trust(struct check *check)
{
    check->trust = true;
}

bool check_needs_trust(const struct check *check)
{
    return check->trust;
}

void check_add_report(struct check *check, const char *what, struct config_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        check_add(check, CHECK_ERROR, what, NULL, "%s", report->messages[i]);
    config_report_free(report);
}

bool check_apply(struct check *check, const struct config_section *section,
                 const struct drafter_option *table, const char *const *also, void *target,
                 size_t size)
{
    struct config_report report = {0};
    int ret = config_apply_all(section, table, also, target, size, &report, NULL);
    char title[160] = "defaults";

    if (section)
        config_section_title(section, title, sizeof(title));
    check_add_report(check, title, &report);
    return ret == 0;
}

static void check_kinds(struct check *check, const struct config *config)
{
    struct config_report report = {0};

    config_check_kinds_all(config, node_section_kinds, &report, NULL);
    check_add_report(check, "configuration", &report);
}

static bool has_secret(const struct config *config)
{
    for (size_t i = 0; i < config->section_count; i++)
        for (size_t j = 0; j < config->sections[i]->entry_count; j++)
            if (config->sections[i]->entries[j].secret)
                return true;
    return false;
}

static void check_access(struct check *check, const char *path, const struct config *config)
{
    struct stat status;

    if (stat(path, &status) < 0)
        return;
    if (status.st_mode & S_IWOTH)
        check_add(check, CHECK_ERROR, path, "take the permission away: chmod o-w",
                  "everybody can write it (mode %04o)", (unsigned)status.st_mode & 07777);
    if (status.st_mode & S_IROTH && has_secret(config))
        check_add(check, CHECK_WARNING, path, "take the permission away: chmod o-r",
                  "it holds secrets and everybody can read it (mode %04o)",
                  (unsigned)status.st_mode & 07777);
}

static void check_host(struct check *check)
{
    const struct probe *probe;

    for (size_t i = 0; (probe = probe_at(i)); i++) {
        struct probe_result result;

        probe_run(probe, &result);
        if (result.available)
            check_add(check, CHECK_OK, probe->name, NULL, "%s", result.reason);
        else
            check_add(check, CHECK_WARNING, probe->name, result.remedy, "%s (it %s)", result.reason,
                      probe->purpose);
    }
}

static int finish(struct check *check, const char *path, struct drafter_error *err)
{
    unsigned errors = check->counts[CHECK_ERROR], warnings = check->counts[CHECK_WARNING];

    if (check->findings) {
        json_t *all = json_pack("{s:s, s:i, s:i, s:o}", "config", path, "errors", (int)errors,
                                "warnings", (int)warnings, "findings", check->findings);

        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    }
    if (errors > 0)
        return drafter_error_set(err, EINVAL, "%s: %u error%s, %u warning%s", path, errors,
                                 errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    return 0;
}

int command_check(const char *config_path, bool json, struct drafter_error *err)
{
    struct check check = {.findings = json ? json_array() : NULL};
    struct config_report report = {0};
    struct config *config = NULL;

    if (config_load_all(config_path, &config, &report, NULL) == 0)
        check_add(&check, CHECK_OK, config_path, NULL, "the syntax is right");
    check_add_report(&check, "configuration", &report);
    if (config) {
        check_kinds(&check, config);
        check_plugins(&check, config);
        check_roles(&check, config);
        check_access(&check, config_path, config);
    }
    check_host(&check);
    config_free(config);
    return finish(&check, config_path, err);
}
