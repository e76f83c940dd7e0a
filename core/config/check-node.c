/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether the node could start: its directories, its name, and what its ledger says of the VM. */
#include "config/check.h"

#include "role/node.h"
#include "trust/trust.h"
#include "util/cleanup.h"

#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

/* A directory that the node makes when it starts: the nearest parent that is there must be
 * writable. */
static void check_directory(struct check *check, const char *key, const char *path)
{
    cleanup_free char *copy = strdup(path);
    const char *parent = copy;
    struct stat status;

    while (parent && access(parent, F_OK) < 0 && errno == ENOENT)
        parent = dirname((char *)parent); /* ends at "/" or ".", which are there */
    if (parent && !stat(parent, &status) && !S_ISDIR(status.st_mode))
        check_add(check, CHECK_ERROR, key, "name another one", "%s: %s", parent, strerror(ENOTDIR));
    else if (parent && access(parent, W_OK) < 0)
        check_add(check, CHECK_ERROR, key, "make it writable or name another one", "%s: %s", parent,
                  strerror(errno));
}

/* With a fault in it the node starts, but trusts nobody. */
static void check_trust(struct check *check, const char *path)
{
    struct drafter_error error = {0};
    unsigned keys;

    if (!check_needs_trust(check))
        return;
    if (access(path, F_OK) < 0 && errno == ENOENT)
        check_add(check, CHECK_WARNING, "trust", "add keys with drafter trust add",
                  "%s: there is no such file: nobody is trusted", path);
    else if (trust_verify(path, &keys, &error))
        check_add(check, CHECK_WARNING, "trust", "until then nobody is trusted", "%s", error.message);
    else
        check_add(check, CHECK_OK, "trust", NULL, "%s: %u keys", path, keys);
}

void check_node(struct check *check, const struct node_options *options)
{
    const char *name = options->name;

    check_directory(check, "state-directory", options->state_directory);
    check_directory(check, "run-directory", options->run_directory);
    check_trust(check, options->trust);
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > DRAFTER_NAME_MAX)
        check_add(check, CHECK_ERROR, "name", NULL,
                  "\"%s\" is no name for a VM: letters, digits, at most %d characters", name,
                  DRAFTER_NAME_MAX);
}

enum ledger_state check_ledger(struct check *check, const struct node_options *options,
                               bool arriving, bool *ret_busy)
{
    struct ledger_record record = {.state = LEDGER_NONE};
    struct drafter_error error = {0};
    unsigned long long epoch;
    cleanup_free char *path = NULL;

    *ret_busy = false;
    if (asprintf(&path, "%s/%s.ledger", options->state_directory, options->name) < 0) {
        path = NULL;
        return LEDGER_NONE;
    }
    if (ledger_peek(options->state_directory, options->name, &record, ret_busy, &error) &&
        error.code != EINVAL) /* a bad name was said above */
        check_add(check, CHECK_ERROR, path, NULL, "%s", error.message);
    epoch = record.epoch;
    if (*ret_busy)
        check_add(check, CHECK_WARNING, path, "start only the latter's again: it goes on with the VM",
                  "VM %s is in use in epoch %llu: a drafter has it, or the holder of one that died",
                  options->name, epoch);
    else if (!arriving && (record.state == LEDGER_RELINQUISHED || record.state == LEDGER_REFUSED ||
                      record.state == LEDGER_ARRIVING))
        check_add(check, CHECK_ERROR, path, "take it over from there with connect",
                  "VM %s belongs to %s since epoch %llu; its files here are old", record.vm,
                  record.peer, epoch);
    else if (!arriving && record.state == LEDGER_INCOMPLETE)
        check_add(check, CHECK_ERROR, path, NULL,
                  "VM %s was taken over from %s in epoch %llu, but not all of it arrived",
                  record.vm, record.peer, epoch);
    else if (record.state == LEDGER_OWNED && record.whole)
        check_add(check, arriving ? CHECK_WARNING : CHECK_ERROR, path,
                  "start its terminator again: it finishes that",
                  "VM %s was backed up here, but its files may not have their names yet", record.vm);
    else if (!arriving && record.state == LEDGER_OWNED)
        check_add(check, CHECK_ERROR, path,
                  "start over from its package, and remove the ledger then",
                  "VM %s ran here and was not saved when its drafter or host ended", record.vm);
    else if (arriving && (record.state == LEDGER_OWNED || record.state == LEDGER_INCOMPLETE ||
                          record.state == LEDGER_SAVED))
        check_add(check, CHECK_WARNING, path, "only a package can arrive under this name",
                  "VM %s is owned here in epoch %llu: a running one will be refused", record.vm,
                  epoch);
    else if (record.state != LEDGER_NONE)
        check_add(check, CHECK_OK, path, NULL, "VM %s: %s in epoch %llu", record.vm,
                  ledger_state_name(record.state), epoch);
    return record.state;
}
