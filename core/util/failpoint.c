/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/failpoint.h"

#include "util/log.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS 500
#define PAUSE_MAX_MS 600000

/* Where each step is; tests/chaos reads this table, too. */
static const struct {
    const char *name, *source, *destination; /* NULL: that side does nothing then */
} steps[FAILPOINT_COUNT] = {
    {"S0", "a connection came in", "about to connect"},
    {"S1", "HELLO was read", "HELLO was sent"},
    {"S2", "about to offer", "the offer is being checked"},
    {"S3", "accepted, streams are here", "about to accept"},
    {"S4", "first pass begins", "first pass is announced"},
    {"S5", "a further pass begins", "a further pass is announced"},
    {"S6", "before the guest's hook", NULL},
    {"S7", "the VM is paused", NULL},
    {"S8", "its state is saved", NULL},
    {"S9", "dirty pages were announced", NULL},
    {"S10", "RELINQUISHED is durable", NULL},
    {"S11", "COMMIT was sent", "COMMIT was read"},
    {"S12", NULL, "ownership is durable"},
    {"S13", NULL, "the state is loaded"},
    {"S14", NULL, "the guest runs"},
    {"S15", "RESUMED was read", "before the guest's hook"},
    {"S16", "the rest is being sent", "RESUMED was sent"},
    {"S17", "all was sent and hashed", "all is here, durably"},
    {"S18", "about to say DONE", "DONE was read"},
    {"S19", "cleaning up", "cleaning up"},
};

static const char *const actions[] = {"kill", "stop", "error", "pause"};
enum action { ACT_KILL, ACT_STOP, ACT_ERROR, ACT_PAUSE, ACT_COUNT };

unsigned failpoint_armed = FAILPOINT_COUNT;
static enum action armed_action;
static unsigned armed_pause_ms = PAUSE_MS;
static bool acted; /* atomic */

static int parse_action(const char *text, struct drafter_error *err)
{
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : strlen(text);
    unsigned long pause_ms = PAUSE_MS;
    char *end = NULL;

    if (equals)
        pause_ms = strtoul(equals + 1, &end, 10);
    for (unsigned i = 0; i < ACT_COUNT; i++) {
        if (strlen(actions[i]) != length || memcmp(actions[i], text, length) != 0 ||
            (equals && (i != ACT_PAUSE || !equals[1] || *end || pause_ms > PAUSE_MAX_MS)))
            continue;
        armed_action = (enum action)i;
        armed_pause_ms = (unsigned)pause_ms;
        return 0;
    }
    return drafter_error_set(err, EINVAL,
                             "DRAFTER_FAILPOINT: \"%s\" is no action; kill, stop, error, pause and "
                             "pause=MS are", text);
}

int failpoint_setup(struct drafter_error *err)
{
    const char *text = secure_getenv("DRAFTER_FAILPOINT"), *colon = text ? strchr(text, ':') : NULL;
    int rc;

    if (!text || !*text)
        return 0;
    for (unsigned i = 0; colon && i < FAILPOINT_COUNT; i++) {
        if (strlen(steps[i].name) != (size_t)(colon - text) ||
            memcmp(steps[i].name, text, (size_t)(colon - text)) != 0)
            continue;
        rc = parse_action(colon + 1, err);
        if (!rc)
            failpoint_armed = i;
        return rc;
    }
    return drafter_error_set(err, EINVAL, "DRAFTER_FAILPOINT: \"%s\" is not STEP:ACTION with a step of "
                             "S0 to S19", text);
}

int failpoint_act(enum failpoint step)
{
    const struct timespec pause = {armed_pause_ms / 1000, armed_pause_ms % 1000 * 1000000L};

    if (__atomic_exchange_n(&acted, true, __ATOMIC_RELAXED))
        return 0;
    log_event("failpoint", "\"step\":\"%s\",\"action\":\"%s\"", steps[step].name,
              actions[armed_action]);
    switch (armed_action) {
    case ACT_KILL:
        kill(getpid(), SIGKILL);
        return 0;
    case ACT_STOP:
        kill(getpid(), SIGSTOP);
        return 0;
    case ACT_PAUSE:
        nanosleep(&pause, NULL);
        return 0;
    default:
        return -EIO;
    }
}
