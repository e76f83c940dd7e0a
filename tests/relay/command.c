/* SPDX-License-Identifier: BSD-2-Clause */
/* One grammar for --fault and the control socket: ACTION [ARGUMENT...] [conn=] [dir=]
 * [after-bytes=] [after-ms=]. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "relay.h"

static int parse_number(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    *ret = strtoull(text, &end, 10);
    if (errno != 0)
        return -ERANGE;
    switch (*end) {
    case 'k':
        *ret *= 1000, end++;
        break;
    case 'm':
        *ret *= 1000000, end++;
        break;
    case 'g':
        *ret *= 1000000000, end++;
        break;
    }
    return *end ? -EINVAL : 0;
}

/* BITS per second with k, m or g; off is 0. */
int command_rate(const char *text, uint64_t *ret)
{
    if (strcmp(text, "off") == 0) {
        *ret = 0;
        return 0;
    }
    return parse_number(text, ret);
}

/* Milliseconds with decimals, to ns. */
int command_time(const char *text, int64_t *ret)
{
    char *end;
    double ms = strtod(text, &end);

    if (end == text || *end || !isfinite(ms) || ms < 0 || ms > 1e9)
        return -EINVAL;
    *ret = (int64_t)(ms * NS_PER_MS);
    return 0;
}

static int parse_dir(const char *text, struct fault *fault)
{
    bool both = strcmp(text, "both") == 0;

    fault->dir[UP] = both || strcmp(text, "up") == 0;
    fault->dir[DOWN] = both || strcmp(text, "down") == 0;
    return fault->dir[UP] || fault->dir[DOWN] ? 0 : -EINVAL;
}

static int parse_conn(const char *text, struct fault *fault)
{
    uint64_t id = 0;

    if (strcmp(text, "all") != 0 && (parse_number(text, &id) < 0 || id == 0 || id > UINT32_MAX))
        return -EINVAL;
    fault->conn = (unsigned)id;
    return 0;
}

/* Returns 1 if the word is no option but an argument of the action. */
static int parse_option(const char *word, struct fault *fault, int64_t now)
{
    if (strncmp(word, "conn=", 5) == 0)
        return parse_conn(word + 5, fault);
    if (strncmp(word, "dir=", 4) == 0)
        return parse_dir(word + 4, fault);
    if (strncmp(word, "after-bytes=", 12) == 0)
        return parse_number(word + 12, &fault->after_bytes);
    if (strncmp(word, "after-ms=", 9) == 0) {
        int64_t after = 0;
        int r = command_time(word + 9, &after);

        fault->at = now + after;
        return r;
    }
    return strchr(word, '=') ? -EINVAL : 1;
}

static int parse_flip(const char *word, unsigned index, struct fault *fault)
{
    if (index == 0 && strcmp(word, "next") == 0)
        return 0;
    if (index == 0)
        return parse_number(word, &fault->after_bytes);
    return index > 1 || parse_number(word, &fault->bit) < 0 || fault->bit > 7 ? -EINVAL : 0;
}

static int parse_argument(const char *word, unsigned index, struct fault *fault)
{
    const char *name = fault->action->name;
    int64_t ns;

    if (strcmp(name, "flip") == 0)
        return parse_flip(word, index, fault);
    if (strcmp(name, "delay-connection") == 0 && index == 0)
        return parse_conn(word, fault);
    if (index > (strcmp(name, "delay-connection") == 0))
        return -EINVAL;
    if (strcmp(name, "slow") == 0)
        return command_rate(word, &fault->argument);
    if (strcmp(name, "drop") == 0 || strcmp(name, "duplicate") == 0)
        return parse_number(word, &fault->argument);
    if (strcmp(name, "rtt") != 0 && strcmp(name, "jitter") != 0 &&
        strcmp(name, "delay-connection") != 0)
        return -EINVAL;
    if (command_time(word, &ns) < 0)
        return -EINVAL;
    fault->argument = (uint64_t)ns;
    return 0;
}

static unsigned arguments_wanted(const struct action *action)
{
    if (strcmp(action->name, "flip") == 0 || strcmp(action->name, "delay-connection") == 0)
        return 2;
    return action->arguments[0] && action->arguments[0] != '[';
}

static int parse_fault(const struct action *action, char *rest, struct fault *ret,
                       const char **ret_bad)
{
    int64_t now = now_ns();
    unsigned count = 0;
    char *word;

    *ret = (struct fault){.action = action, .after_bytes = UINT64_MAX, .at = INT64_MAX};
    ret->dir[UP] = true;
    ret->dir[DOWN] = !action->per_stream;
    while ((word = strsep(&rest, " \t"))) {
        int r = *word ? parse_option(word, ret, now) : 0;

        if (r == 1)
            r = parse_argument(word, count++, ret);
        *ret_bad = word;
        if (r < 0)
            return r;
    }
    *ret_bad = "too few arguments";
    if (count < arguments_wanted(action))
        return -EINVAL;
    *ret_bad = "half-open needs dir=up or dir=down";
    if (strcmp(action->name, "half-open") == 0 && ret->dir[UP] && ret->dir[DOWN])
        return -EINVAL;
    return 0;
}

/* Replies with one line: ok, the statistics, or what is wrong. */
void command_run(struct relay *relay, char *line, FILE *reply)
{
    const struct action *action;
    struct fault fault;
    const char *bad = "";
    char *rest = line;
    char *name = strsep(&rest, " \t");

    if (strcmp(name, "stats") == 0) {
        control_stats(relay, reply);
        return;
    }
    if (strcmp(name, "quit") == 0)
        relay->quit = true;
    else if (!(action = fault_action(name))) {
        fprintf(reply, "error: unknown command: %s\n", name);
        return;
    } else if (parse_fault(action, rest ? rest : name + strlen(name), &fault, &bad) < 0) {
        fprintf(reply, "error: %s: %s\n", name, bad);
        return;
    } else if (fault_add(relay, &fault, now_ns()) < 0) {
        fprintf(reply, "error: out of memory\n");
        return;
    }
    fprintf(reply, "ok\n");
}
