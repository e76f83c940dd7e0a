/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter keygen` and `drafter trust`. */
#include "command.h"

#include "role/node.h"
#include "trust/keygen.h"
#include "trust/trust.h"
#include "util/json.h"

#include <stdio.h>
#include <string.h>

int command_keygen(const char *path, bool json, struct drafter_error *err)
{
    char identity[DRAFTER_IDENTITY_SIZE];
    int rc = keygen_write(path, identity, err);

    if (rc)
        return rc;
    if (json)
        printf("{\"key\":\"%s.key\",\"identity\":\"%s\"}\n", path, identity);
    else
        printf("%s\n", identity);
    return 0;
}

static int list_one(void *opaque, const struct trust_key *key, struct drafter_error *err)
{
    json_t *array = opaque;

    (void)err;
    if (array)
        json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:s}", "name", key->name, "identity",
                                               key->identity, "may", key->may, "vms", key->vms));
    else
        printf("%-20s %-52s %-28s %s\n", key->name, key->identity, *key->may ? key->may : "-",
               key->vms);
    return 0;
}

static int list(const char *path, bool json, struct drafter_error *err)
{
    cleanup_json json_t *array = json ? json_array() : NULL;
    int rc;

    if (json && !array)
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = trust_visit(path, list_one, array, err);
    if (!rc && array) {
        json_dumpf(array, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    return rc;
}

static int add(const char *path, int count, char **words, struct drafter_error *err)
{
    const struct trust_key key = {.name = count > 0 ? words[0] : NULL,
                                  .identity = count > 1 ? words[1] : NULL,
                                  .may = count > 2 ? words[2] : "",
                                  .vms = count > 3 ? words[3] : "*"};

    if (count < 2 || count > 4)
        return drafter_error_set(err, EINVAL, "write: drafter trust add NAME IDENTITY [RIGHTS [VMS]]");
    return trust_add(path, &key, err);
}

int command_find_trust(const char *config_path, struct config **ret_config, const char **ret_path,
                     struct drafter_error *err)
{
    struct node_options options = {0};
    struct config *config;
    int rc;

    *ret_config = NULL;
    *ret_path = TRUST_DEFAULT_FILE;
    if (!config_path)
        return 0;
    rc = config_load(config_path, &config, err);
    if (rc)
        return rc;
    *ret_config = config;
    rc = config_apply(config_section(config, "drafter", ""), node_option_table, NULL, &options,
                      sizeof(options), err);
    if (!rc)
        *ret_path = options.trust;
    return rc;
}

int command_trust(const char *config_path, int count, char **words, bool json,
                  struct drafter_error *err)
{
    const char *verb = count > 0 ? words[0] : "list", *path;
    struct config *config;
    int rc = command_find_trust(config_path, &config, &path, err);

    if (rc)
        ;
    else if (!strcmp(verb, "list") && count <= 1)
        rc = list(path, json, err);
    else if (!strcmp(verb, "add"))
        rc = add(path, count - 1, words + 1, err);
    else if (!strcmp(verb, "remove") && count == 2)
        rc = trust_remove(path, words[1], err);
    else
        rc = drafter_error_set(err, EINVAL, "write: drafter trust list, drafter trust add NAME "
                                            "IDENTITY [RIGHTS [VMS]], or drafter trust remove NAME");
    config_free(config);
    return rc;
}
