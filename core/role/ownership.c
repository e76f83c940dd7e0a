/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/ownership.h"

#include "command.h"
#include "config/config.h"
#include "role/node.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int ownership_check_start(const struct ledger_record *record, const char *path,
                          struct drafter_error *err)
{
    const unsigned long long epoch = record->epoch;

    switch (record->state) {
    case LEDGER_RELINQUISHED:
        return drafter_error_set(err, EPERM,
                                 "VM %s was handed over to %s in epoch %llu; its files here are old (%s)",
                                 record->vm, record->peer, epoch, path);
    case LEDGER_REFUSED:
        return drafter_error_set(err, EPERM,
                                 "VM %s was refused here and stayed at %s in epoch %llu; its files "
                                 "here are old (%s)",
                                 record->vm, record->peer, epoch, path);
    case LEDGER_ARRIVING:
        return drafter_error_set(err, EPERM,
                                 "VM %s was on its way here from %s when its drafter ended; its files "
                                 "here are no VM; connect there again (%s)",
                                 record->vm, record->peer, path);
    case LEDGER_INCOMPLETE:
        return drafter_error_set(err, ENODATA,
                                 "VM %s was taken over from %s in epoch %llu, but not all of it "
                                 "arrived: it cannot run from these files (%s)",
                                 record->vm, record->peer, epoch, path);
    case LEDGER_OWNED:
        if (record->whole)
            return drafter_error_set(err, EUCLEAN,
                                     "VM %s was backed up here, but its files may not have their names yet: "
                                     "start the terminator again, it finishes that (%s)",
                                     record->vm, path);
        return drafter_error_set(err, EUCLEAN,
                                 "VM %s ran here and was not saved when its drafter or host ended: its "
                                 "memory and disks do not belong together; start over from its "
                                 "package, and remove %s then",
                                 record->vm, path);
    default:
        return 0;
    }
}

int ownership_check_take_over(const struct ledger_record *record, struct drafter_error *err)
{
    switch (record->state) {
    case LEDGER_RELINQUISHED:
        if (record->whole)
            return 0;
        return drafter_error_set(err, EPERM,
                                 "%s has VM %s, and the files here are not it: what it had written last "
                                 "was never saved here", record->peer, record->vm);
    case LEDGER_REFUSED:
    case LEDGER_ARRIVING:
        return drafter_error_set(err, EPERM, "VM %s never ran here; take it over at %s", record->vm,
                                 record->peer);
    case LEDGER_INCOMPLETE:
        return drafter_error_set(err, EPERM,
                                 "half of VM %s is missing here; take it over at %s, which has all of it "
                                 "as it was when it was handed over", record->vm, record->peer);
    default:
        return drafter_error_set(err, EPERM, "VM %s belongs to nobody else", record->vm);
    }
}

int ownership_take_over(struct ledger *ledger, uint64_t epoch, struct drafter_error *err)
{
    char peer[sizeof(ledger->record.peer)];
    int rc = ownership_check_take_over(&ledger->record, err);

    if (rc)
        return rc;
    if (ledger->record.epoch != epoch)
        return drafter_error_set(err, ESTALE,
                                 "the ledger is at epoch %" PRIu64 ", not at %" PRIu64 ": look again",
                                 ledger->record.epoch, epoch);
    memcpy(peer, ledger->record.peer, sizeof(peer));
    return ledger_write(ledger, LEDGER_SAVED, epoch + 1, peer, NULL, err);
}

/* What the command shows. */
struct view {
    const struct node_options *node;
    struct ledger_record record;
    bool running; /* a drafter, or a holder, has the ledger open */
    char path[512], session[33], since[32];
    const char *owner; /* "": nobody that is known */
    struct drafter_error start, take_over;
};

static const char *owner_of(const struct ledger_record *record)
{
    switch (record->state) {
    case LEDGER_OWNED:
    case LEDGER_INCOMPLETE:
    case LEDGER_SAVED:
        return "this node";
    case LEDGER_RELINQUISHED:
    case LEDGER_REFUSED:
    case LEDGER_ARRIVING:
        return record->peer;
    default:
        return "";
    }
}

static int look(const struct node_options *node, struct view *view, struct drafter_error *err)
{
    const struct ledger_record *record = &view->record;
    time_t since;
    struct tm utc;
    int rc = ledger_peek(node->state_directory, node->name, &view->record, &view->running, err);

    if (rc)
        return rc;
    view->node = node;
    snprintf(view->path, sizeof(view->path), "%s/%s.ledger", node->state_directory, node->name);
    since = (time_t)record->time;
    if (record->state != LEDGER_NONE && gmtime_r(&since, &utc))
        strftime(view->since, sizeof(view->since), "%Y-%m-%dT%H:%M:%SZ", &utc);
    for (unsigned i = 0; i < sizeof(record->session); i++)
        snprintf(view->session + 2 * i, 3, "%02x", record->session[i]);
    view->owner = owner_of(record);
    if (view->running)
        drafter_error_set(&view->start, EBUSY,
                          "VM %s is in use on this node: a drafter has it, or the holder of one that "
                          "died, which goes on with it when it is started again",
                          node->name);
    else
        ownership_check_start(record, view->path, &view->start);
    ownership_check_take_over(record, &view->take_over);
    return 0;
}

static int print_json(const struct view *view)
{
    const struct ledger_record *record = &view->record;
    bool known = record->state != LEDGER_NONE, whole = view->take_over.code == 0;
    cleanup_json json_t *object = json_pack(
        "{s:s, s:s, s:I, s:s?, s:s?, s:s?, s:s?, s:b, s:{s:b, s:s?}, s:{s:b, s:s?}, s:s}", "vm",
        view->node->name, "state", ledger_state_name(record->state), "epoch",
        (json_int_t)record->epoch, "owner", *view->owner ? view->owner : NULL, "peer",
        *record->peer ? record->peer : NULL, "session", known ? view->session : NULL, "since",
        *view->since ? view->since : NULL, "running", (int)view->running, "start", "allowed",
        (int)!view->start.code, "reason", view->start.code ? view->start.message : NULL, "take_over",
        "allowed", (int)whole, "reason", whole ? NULL : view->take_over.message, "ledger",
        view->path);

    if (!object)
        return -ENOMEM;
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    return 0;
}

static void print_risk(const struct view *view)
{
    const struct ledger_record *record = &view->record;

    printf("take-over  possible, with --take-over=%" PRIu64 ": epoch %" PRIu64
           " begins from the files here, which are the VM of %s\n"
           "           - whatever it did at %s since then is lost\n"
           "           - if it runs there, it runs twice until that node asks here for pages: only "
           "then it hears of epoch %" PRIu64 " and stops. End it there first.\n",
           record->epoch, record->epoch + 1, view->since, view->owner, record->epoch + 1);
}

static void print_text(const struct view *view)
{
    const struct ledger_record *record = &view->record;

    printf("vm         %s\n", view->node->name);
    printf("ledger     %s\n", view->path);
    printf("state      %s%s\n", ledger_state_name(record->state),
           view->running ? ", and in use" : "");
    if (record->state != LEDGER_NONE) {
        printf("epoch      %" PRIu64 "\n", record->epoch);
        printf("owner      %s\n", view->owner);
        printf("peer       %s\n", *record->peer ? record->peer : "-");
        printf("session    %s\n", view->session);
        printf("since      %s\n", view->since);
    }
    printf("start      %s%s\n", view->start.code ? "refused: " : "allowed", view->start.message);
    if (view->take_over.code)
        printf("take-over  refused: %s\n", view->take_over.message);
    else
        print_risk(view);
}

static int parse_epoch(const char *text, uint64_t *ret_epoch, struct drafter_error *err)
{
    char *end;

    errno = 0;
    *ret_epoch = strtoull(text, &end, 10);
    if (errno || *end || *text < '0' || *text > '9')
        return drafter_error_set(err, EINVAL,
                                 "--take-over=\"%s\" names no epoch; `drafter ownership` tells it",
                                 text);
    return 0;
}

static int take_over(const struct node_options *node, const char *text, struct drafter_error *err)
{
    struct ledger ledger;
    uint64_t epoch;
    int rc = parse_epoch(text, &epoch, err);

    if (!rc)
        rc = ledger_open(node->state_directory, node->name, &ledger, err);
    if (rc)
        return rc;
    rc = ownership_take_over(&ledger, epoch, err);
    if (!rc)
        log_warning("ownership",
                    "VM %s was taken from %s by force: it belongs to this node in epoch %" PRIu64,
                    node->name, ledger.record.peer, ledger.record.epoch);
    ledger_close(&ledger);
    return rc;
}

int command_ownership(const char *config_path, const char *take_over_epoch, bool json,
                      struct drafter_error *err)
{
    struct node_options options;
    struct config *config;
    struct view view = {0};
    int rc = config_load(config_path, &config, err);

    if (rc)
        return rc == -ENOENT || rc == -EACCES ? rc : -EINVAL;
    rc = config_apply(config_section(config, "drafter", ""), node_option_table, NULL, &options,
                      sizeof(options), err);
    if (!rc && take_over_epoch)
        rc = take_over(&options, take_over_epoch, err);
    if (!rc)
        rc = look(&options, &view, err);
    if (!rc && json)
        rc = print_json(&view);
    else if (!rc)
        print_text(&view);
    config_free(config);
    return rc;
}
