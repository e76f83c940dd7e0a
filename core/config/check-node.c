/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether the node could start: its directories, its name, and what its ledger says of the VM. */
#include "config/check.h"

#include "role/node.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
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

void check_node(struct check *check, const struct node_options *options)
{
    const char *name = options->name;

    check_directory(check, "state-directory", options->state_directory);
    check_directory(check, "run-directory", options->run_directory);
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > DRAFTER_NAME_MAX)
        check_add(check, CHECK_ERROR, "name", NULL,
                  "\"%s\" is no name for a VM: letters, digits, at most %d characters", name,
                  DRAFTER_NAME_MAX);
}

/* ledger_open would make the file and take its lock. */
static void read_ledger(const char *path, struct ledger_record *ret_record)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    uint64_t newest = 0;

    for (unsigned i = 0; fd >= 0 && i < 2; i++) {
        uint8_t slot[LEDGER_SLOT_SIZE];
        struct ledger_record record;
        uint64_t sequence;

        if (io_pread_full(fd, slot, sizeof(slot), i * (LEDGER_FILE_SIZE / 2)) ||
            ledger_decode(slot, &record, &sequence) || sequence % 2 != i || sequence < newest)
            continue;
        newest = sequence;
        *ret_record = record;
    }
}

enum ledger_state check_ledger(struct check *check, const struct node_options *options,
                               bool arriving)
{
    struct ledger_record record = {.state = LEDGER_NONE};
    unsigned long long epoch;
    cleanup_free char *path = NULL;

    if (asprintf(&path, "%s/%s.ledger", options->state_directory, options->name) < 0) {
        path = NULL;
        return LEDGER_NONE;
    }
    read_ledger(path, &record);
    epoch = record.epoch;
    if (!arriving && (record.state == LEDGER_RELINQUISHED || record.state == LEDGER_REFUSED))
        check_add(check, CHECK_ERROR, path, "take it over from there with connect",
                  "VM %s belongs to %s since epoch %llu; its files here are old", record.vm,
                  record.peer, epoch);
    else if (!arriving && record.state == LEDGER_INCOMPLETE)
        check_add(check, CHECK_ERROR, path, NULL,
                  "VM %s was taken over from %s in epoch %llu, but not all of it arrived",
                  record.vm, record.peer, epoch);
    else if (!arriving && record.state == LEDGER_OWNED)
        check_add(check, CHECK_ERROR, path,
                  "start over from its package, and remove the ledger then",
                  "VM %s runs, or was not saved when its drafter or host ended", record.vm);
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
