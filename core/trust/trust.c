/* SPDX-License-Identifier: BSD-2-Clause */
#include "trust/trust.h"

#include "util/cleanup.h"
#include "util/repeat.h"

#include <drafter/storage.h>

#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const right_names[TRUST_RIGHTS] = {"pull", "push", "registry", "control"};

static const struct drafter_option key_table[] = {
    {.key = "identity", .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct trust_key, identity), .help = "the key's fingerprint, or psk:NAME"},
    {.key = "may", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct trust_key, may),
     .default_value = "", .help = "pull, push, registry, control"},
    {.key = "vms", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct trust_key, vms),
     .default_value = "*", .help = "patterns of names of VMs"},
    DRAFTER_OPTION_END,
};

static char used_path[PATH_MAX] = TRUST_DEFAULT_FILE;

void trust_use(const char *path)
{
    snprintf(used_path, sizeof(used_path), "%s", path);
}

const char *trust_path(void)
{
    return used_path;
}

const char *trust_right_name(enum trust_right right)
{
    return right_names[right];
}

/* The next word of a list: its length, 0 at the end. */
static size_t next_word(const char **text)
{
    *text += strspn(*text, " \t,");
    return strcspn(*text, " \t,");
}

int trust_parse_rights(const char *text, unsigned *ret_rights, struct drafter_error *err)
{
    unsigned rights = 0;
    size_t length;

    for (; (length = next_word(&text)) > 0; text += length) {
        unsigned right = 0;

        while (right < TRUST_RIGHTS && (strlen(right_names[right]) != length ||
                                        memcmp(right_names[right], text, length)))
            right++;
        if (right == TRUST_RIGHTS)
            return drafter_error_set(err, EINVAL,
                                     "\"%.*s\" is no right; there are pull, push, registry and control",
                                     (int)length, text);
        rights |= 1u << right;
    }
    *ret_rights = rights;
    return 0;
}

bool trust_identity_valid(const char *identity)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (const char *at = identity; *at; at++)
        if (*at <= ' ' || *at > '~')
            return false;
    if (!strncmp(identity, "psk:", 4))
        return identity[4] && strlen(identity) < 4 + 65;
    return !strncmp(identity, "sha256:", 7) && strspn(identity + 7, base64) == 43 &&
           !strcmp(identity + 7 + 43, "=");
}

static int read_key(struct config_section *section, struct trust_key *key, unsigned *ret_rights,
                    struct drafter_error *err)
{
    int rc = config_apply(section, key_table, NULL, key, sizeof(*key), err);

    key->name = section->id;
    if (rc)
        return rc;
    if (!trust_identity_valid(key->identity))
        return drafter_error_set(err, EINVAL, "%s: \"%s\" is no identity; see drafter keygen",
                                 config_where(section, "identity"), key->identity);
    rc = trust_parse_rights(key->may, ret_rights, err);
    return rc ? drafter_error_wrap(err, "%s", config_where(section, "may")) : 0;
}

/* One key with two rules: neither is what was meant. */
static int refuse_twice(const struct config_section *section, const char *first, struct drafter_error *err)
{
    return drafter_error_set(err, EINVAL, "%s: the key is there already, as %s",
                             config_where(section, "identity"), first);
}

static bool matches(const char *patterns, const char *vm)
{
    size_t length;

    for (; (length = next_word(&patterns)) > 0; patterns += length) {
        char pattern[DRAFTER_NAME_MAX * 2];

        if (length < sizeof(pattern)) {
            memcpy(pattern, patterns, length);
            pattern[length] = '\0';
            if (!fnmatch(pattern, vm, 0))
                return true;
        }
    }
    return false;
}

int trust_check_mode(const char *path, struct drafter_error *err)
{
    struct stat status;

    if (stat(path, &status) == 0 && status.st_mode & S_IWOTH)
        return drafter_error_set(err, EACCES, "%s: anybody may write it; run chmod o-w on it", path);
    return 0;
}

/* The section of an identity; `config` outlives what points into it. */
static int find_key(const char *path, const char *identity, struct config **ret_config,
                    struct config_section **ret_section, struct trust_key *ret_key,
                    unsigned *ret_rights, struct drafter_error *err)
{
    static const char *const kinds[] = {"key", NULL};
    struct config_section *section = NULL;
    struct config *config;
    bool found = false;
    int rc = trust_check_mode(path, err);

    if (!rc)
        rc = config_load(path, &config, err);
    if (rc)
        return rc;
    rc = config_check_kinds(config, kinds, err);
    while (!rc && (section = config_next(config, "key", section))) {
        struct trust_key key = {0};
        unsigned rights = 0;

        rc = read_key(section, &key, &rights, err);
        if (rc || strcmp(key.identity, identity))
            continue; /* the whole file must make sense */
        if (found) {
            rc = refuse_twice(section, ret_key->name, err);
            continue;
        }
        found = true;
        *ret_key = key;
        *ret_rights = rights;
        *ret_section = section;
    }
    if (!rc && !found)
        rc = drafter_error_set(err, ENOENT, "%s has no key %s", path, identity);
    if (rc) {
        config_free(config);
        return rc;
    }
    *ret_config = config;
    return 0;
}

/* Whoever connects makes us read the file: a fault in it must not fill the disk with complaints. */
static void complain(const struct drafter_error *error)
{
    static struct repeat repeat = REPEAT_INIT;
    char before[64] = "";
    unsigned more;

    if (!repeat_tell(&repeat, error->message, drafter_now_ns(), &more))
        return;
    if (more)
        snprintf(before, sizeof(before), " (and %u times before)", more);
    drafter_log(DRAFTER_LOG_ERROR, "trust", "nobody is trusted%s: %s", before, error->message);
}

int drafter_trust_find(const char *identity, char *ret_name, size_t size)
{
    struct drafter_error error = {0};
    struct config_section *section;
    struct trust_key key;
    struct config *config;
    unsigned rights;
    int rc = find_key(used_path, identity, &config, &section, &key, &rights, &error);

    if (rc) {
        if (rc != -ENOENT)
            complain(&error);
        return rc;
    }
    snprintf(ret_name, size, "%s", key.name);
    config_free(config);
    return 0;
}

int trust_check(const char *identity, enum trust_right right, const char *vm,
                struct drafter_error *err)
{
    const char *verb = right_names[right], *whom = vm ? vm : "of any name";
    struct config_section *section;
    struct trust_key key;
    struct config *config;
    unsigned rights;
    int rc;

    if (!*identity)
        return 0;
    rc = find_key(used_path, identity, &config, &section, &key, &rights, err);
    if (rc) {
        drafter_error_wrap(err, "not trusted to %s VM %s", verb, whom);
        if (err)
            err->code = EACCES;
        return -EACCES;
    }
    if (!(rights & 1u << right))
        rc = drafter_error_set(err, EACCES, "%s may not %s VM %s: %s: may = %s", key.name, verb, whom,
                               config_where(section, "may"), *key.may ? key.may : "(nothing)");
    else if (vm && !matches(key.vms, vm))
        rc = drafter_error_set(err, EACCES, "%s may %s, but not VM %s: %s: vms = %s", key.name, verb,
                               vm, config_where(section, "vms"), key.vms);
    config_free(config);
    return rc;
}

int drafter_trust_package(const char *identity, struct drafter_error *err)
{
    return trust_check(identity, TRUST_REGISTRY, NULL, err);
}

static int visit_one(struct config *config, struct config_section *section,
                     int (*visit)(void *opaque, const struct trust_key *key, struct drafter_error *err),
                     void *opaque, struct drafter_error *err)
{
    struct config_section *before = NULL;
    struct trust_key key = {0};
    unsigned rights;
    int rc = read_key(section, &key, &rights, err);

    while (!rc && (before = config_next(config, "key", before)) != section)
        if (!strcmp(config_value(before, "identity"), key.identity))
            rc = refuse_twice(section, before->id, err);
    return rc ? rc : visit(opaque, &key, err);
}

int trust_visit(const char *path,
                int (*visit)(void *opaque, const struct trust_key *key, struct drafter_error *err),
                void *opaque, struct drafter_error *err)
{
    static const char *const kinds[] = {"key", NULL};
    struct config_section *section = NULL;
    struct config *config;
    int rc = trust_check_mode(path, err);

    if (!rc)
        rc = config_load(path, &config, err);
    if (rc)
        return rc;
    rc = config_check_kinds(config, kinds, err);
    while (!rc && (section = config_next(config, "key", section)))
        rc = visit_one(config, section, visit, opaque, err);
    config_free(config);
    return rc;
}

static int count_one(void *opaque, const struct trust_key *key, struct drafter_error *err)
{
    (void)key, (void)err;
    ++*(unsigned *)opaque;
    return 0;
}

int trust_verify(const char *path, unsigned *ret_keys, struct drafter_error *err)
{
    unsigned keys = 0;
    int rc = trust_visit(path, count_one, &keys, err);

    if (!rc)
        *ret_keys = keys;
    return rc;
}
