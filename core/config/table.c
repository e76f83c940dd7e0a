/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/table.h"

#include "config/suggest.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define OPTIONS_MAX 256

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"k", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20},
    {"G", UINT64_C(1) << 30},
    {"T", UINT64_C(1) << 40},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"", 1},
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000 * 1000},
    {"s", 1000 * 1000 * 1000},
    {"m", UINT64_C(60) * 1000 * 1000 * 1000},
    {"h", UINT64_C(3600) * 1000 * 1000 * 1000},
    {NULL, 0},
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

/* Reads decimal digits and moves behind them. */
static int parse_digits(const char **text, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (**text < '0' || **text > '9')
        return -EINVAL;
    for (; **text >= '0' && **text <= '9'; ++*text)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(**text - '0'), &value))
            return -ERANGE;
    *ret_value = value;
    return 0;
}

/* Decimal digits and one of the units, with any blanks between them. */
static int parse_number(const char *text, const struct unit *units, uint64_t *ret_value)
{
    uint64_t value;
    int ret = parse_digits(&text, &value);

    if (ret < 0)
        return ret;
    text += strspn(text, " \t");
    for (; units->name; units++) {
        if (strcasecmp(text, units->name) != 0)
            continue;
        if (__builtin_mul_overflow(value, units->factor, &value))
            return -ERANGE;
        *ret_value = value;
        return 0;
    }
    return -EINVAL;
}

int table_parse_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on",
                                        "0",  "1",   "f",     "t"};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret_value = i % 2;
            return 0;
        }
    }
    return -EINVAL;
}

int table_parse_uint(const char *text, uint64_t *ret_value)
{
    return parse_number(text, no_units, ret_value);
}

int table_parse_size(const char *text, uint64_t *ret_value)
{
    return parse_number(text, size_units, ret_value);
}

/* The longest unit that the text begins with, or NULL. */
static const struct unit *leading_unit(const char *text)
{
    const struct unit *best = NULL;

    for (const struct unit *unit = duration_units + 1; unit->name; unit++)
        if (!strncasecmp(text, unit->name, strlen(unit->name)) &&
            (!best || strlen(unit->name) > strlen(best->name)))
            best = unit;
    return best;
}

/* As the original wrote durations, "1m0s": each number with its unit, nothing between them. */
static int parse_compound(const char *text, uint64_t *ret_value)
{
    uint64_t total = 0, value;

    do {
        int ret = parse_digits(&text, &value);
        const struct unit *unit = ret < 0 ? NULL : leading_unit(text);

        if (!unit)
            return ret < 0 ? ret : -EINVAL;
        if (__builtin_mul_overflow(value, unit->factor, &value) ||
            __builtin_add_overflow(total, value, &total))
            return -ERANGE;
        text += strlen(unit->name);
    } while (*text);
    *ret_value = total;
    return 0;
}

int table_parse_duration(const char *text, uint64_t *ret_value)
{
    int ret = parse_number(text, duration_units, ret_value);

    return ret == -EINVAL ? parse_compound(text, ret_value) : ret;
}

static const char *wanted(const struct drafter_option *option)
{
    switch (option->type) {
    case DRAFTER_OPTION_BOOL:
        return "yes or no";
    case DRAFTER_OPTION_UINT:
        return "a whole number";
    case DRAFTER_OPTION_SIZE:
        return "a size such as 4096, 64k or 2G";
    case DRAFTER_OPTION_DURATION:
        return "a duration such as 250ms, 30s or 5m";
    default:
        return "a value";
    }
}

/* Fails with the value in quotes, or without it where it is secret. */
static int refuse(const struct drafter_option *option, const char *text, int code,
                  const char *reason, struct drafter_error *err)
{
    if (option->flags & DRAFTER_OPTION_SECRET)
        return drafter_error_set(err, code, "the value is not %s", reason);
    return drafter_error_set(err, code, "'%.64s' is not %s", text, reason);
}

static int check_range(const struct drafter_option *option, const char *text, uint64_t value,
                       struct drafter_error *err)
{
    char range[128], reason[160];

    if (option->minimum == 0 && option->maximum == 0)
        return 0;
    if (value >= option->minimum && (value <= option->maximum || option->maximum == 0))
        return 0;
    table_describe_range(option, range, sizeof(range));
    snprintf(reason, sizeof(reason), "in the range %s", range);
    return refuse(option, text, EINVAL, reason, err);
}

static int store_number(const struct drafter_option *option, const char *text, uint64_t *value,
                        struct drafter_error *err)
{
    uint64_t number;
    int ret;

    if (option->type == DRAFTER_OPTION_SIZE)
        ret = table_parse_size(text, &number);
    else if (option->type == DRAFTER_OPTION_DURATION)
        ret = table_parse_duration(text, &number);
    else
        ret = table_parse_uint(text, &number);
    if (ret == -ERANGE)
        return refuse(option, text, EINVAL, "a number below 2^64", err);
    if (ret < 0)
        return refuse(option, text, EINVAL, wanted(option), err);
    ret = check_range(option, text, number, err);
    if (ret < 0)
        return ret;
    *value = number;
    return 0;
}

static int store_choice(const struct drafter_option *option, const char *text, int *value,
                        struct drafter_error *err)
{
    char range[128], reason[256];
    const char *nearest;
    int count;

    for (count = 0; option->choices[count]; count++) {
        if (suggest_same(text, option->choices[count])) {
            *value = count;
            return 0;
        }
    }
    table_describe_range(option, range, sizeof(range));
    nearest = suggest_nearest(text, option->choices, (unsigned)count);
    if (nearest && !(option->flags & DRAFTER_OPTION_SECRET))
        snprintf(reason, sizeof(reason), "one of %s; did you mean '%s'?", range, nearest);
    else
        snprintf(reason, sizeof(reason), "one of %s", range);
    return refuse(option, text, EINVAL, reason, err);
}

int table_store(const struct drafter_option *option, const char *text, void *target,
                struct drafter_error *err)
{
    void *value = (char *)target + option->offset;

    switch (option->type) {
    case DRAFTER_OPTION_PATH:
        if (*text == '\0')
            return drafter_error_set(err, EINVAL, "the path is empty");
        /* fall through */
    case DRAFTER_OPTION_STRING:
        *(const char **)value = text;
        return 0;
    case DRAFTER_OPTION_BOOL:
        if (table_parse_bool(text, value) < 0)
            return refuse(option, text, EINVAL, wanted(option), err);
        return 0;
    case DRAFTER_OPTION_UINT:
    case DRAFTER_OPTION_SIZE:
    case DRAFTER_OPTION_DURATION:
        return store_number(option, text, value, err);
    case DRAFTER_OPTION_ENUM:
        return store_choice(option, text, value, err);
    }
    return drafter_error_set(err, EINVAL, "the option has no known type (%d)", (int)option->type);
}

const struct drafter_option *table_find(const struct drafter_option *table, const char *key)
{
    for (; table && table->key; table++)
        if (suggest_same(table->key, key))
            return table;
    return NULL;
}

const char *table_type_name(enum drafter_option_type type)
{
    static const char *const names[] = {"?",    "string", "path",     "boolean",
                                        "uint", "size",   "duration", "choice"};

    return (size_t)type < sizeof(names) / sizeof(*names) ? names[type] : names[0];
}

/* The number in the largest unit that divides it. */
static void format_number(const struct drafter_option *option, uint64_t value, char *buffer,
                          size_t size)
{
    const struct unit *units = no_units, *best;

    if (option->type == DRAFTER_OPTION_SIZE)
        units = size_units;
    if (option->type == DRAFTER_OPTION_DURATION)
        units = duration_units + 1;
    for (best = units; units->name; units++)
        if (value > 0 && value % units->factor == 0)
            best = units;
    snprintf(buffer, size, "%llu%s", (unsigned long long)(value / best->factor), best->name);
}

static void describe_choices(const struct drafter_option *option, char *buffer, size_t size)
{
    size_t used = 0;

    *buffer = '\0';
    for (int i = 0; option->choices && option->choices[i] && used < size; i++) {
        int length = snprintf(buffer + used, size - used, "%s%s", i ? "|" : "", option->choices[i]);

        used += length > 0 ? (size_t)length : 0;
    }
}

void table_describe_range(const struct drafter_option *option, char *buffer, size_t size)
{
    char low[32], high[32];

    *buffer = '\0';
    if (option->type == DRAFTER_OPTION_ENUM) {
        describe_choices(option, buffer, size);
        return;
    }
    if (option->type < DRAFTER_OPTION_UINT || (option->minimum == 0 && option->maximum == 0))
        return;
    format_number(option, option->minimum, low, sizeof(low));
    format_number(option, option->maximum, high, sizeof(high));
    if (option->maximum == 0 || option->maximum == UINT64_MAX)
        snprintf(buffer, size, "%s or more", low);
    else
        snprintf(buffer, size, "%s to %s", low, high);
}

static size_t value_size(enum drafter_option_type type)
{
    switch (type) {
    case DRAFTER_OPTION_STRING:
    case DRAFTER_OPTION_PATH:
        return sizeof(const char *);
    case DRAFTER_OPTION_BOOL:
        return sizeof(bool);
    case DRAFTER_OPTION_UINT:
    case DRAFTER_OPTION_SIZE:
    case DRAFTER_OPTION_DURATION:
        return sizeof(uint64_t);
    case DRAFTER_OPTION_ENUM:
        return sizeof(int);
    }
    return 0;
}

/* A default is tried out on a value of its own; `size` cannot be used, there is no struct yet. */
static int check_default(const struct drafter_option *option, struct drafter_error *err)
{
    union {
        const char *text;
        bool boolean;
        uint64_t number;
        int choice;
    } value;
    struct drafter_option copy = *option;

    if (!option->default_value)
        return 0;
    if (option->flags & DRAFTER_OPTION_REQUIRED)
        return drafter_error_set(err, EINVAL, "a required option has a default");
    copy.offset = 0;
    return table_store(&copy, option->default_value, &value, err);
}

static int check_option(const struct drafter_option *option, size_t size, struct drafter_error *err)
{
    size_t need = value_size(option->type);
    int ret;

    if (!option->key[strspn(option->key, "-")] ||
        option->key[strspn(option->key, "abcdefghijklmnopqrstuvwxyz0123456789-")] ||
        suggest_same(option->key, "plugin"))
        return drafter_error_set(err, EINVAL, "option key '%s' is not allowed", option->key);
    if (need == 0)
        return drafter_error_set(err, EINVAL, "option '%s': unknown type %d", option->key,
                                 (int)option->type);
    if (option->flags & DRAFTER_OPTION_IGNORED)
        return 0;
    if (need > size || option->offset > size - need || option->offset % need != 0)
        return drafter_error_set(err, EINVAL,
                                 "option '%s': %zu bytes at %zu do not fit a configuration of %zu",
                                 option->key, need, option->offset, size);
    if (option->type == DRAFTER_OPTION_ENUM && (!option->choices || !option->choices[0]))
        return drafter_error_set(err, EINVAL, "option '%s': no choices", option->key);
    if (option->maximum != 0 && option->minimum > option->maximum)
        return drafter_error_set(err, EINVAL, "option '%s': minimum above maximum", option->key);
    ret = check_default(option, err);
    return ret < 0 ? drafter_error_wrap(err, "option '%s': default", option->key) : 0;
}

int table_check(const struct drafter_option *table, size_t size, struct drafter_error *err)
{
    for (size_t i = 0; table && table[i].key; i++) {
        int ret;

        if (i == OPTIONS_MAX)
            return drafter_error_set(err, EINVAL, "more than %d options", OPTIONS_MAX);
        ret = check_option(&table[i], size, err);
        if (ret < 0)
            return ret;
        if (table_find(table, table[i].key) != &table[i])
            return drafter_error_set(err, EINVAL, "option '%s': twice in the table", table[i].key);
    }
    return 0;
}
