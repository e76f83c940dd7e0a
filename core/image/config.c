/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.json, as umoci makes it of an image's configuration, for a guest that runs nothing else:
 * no terminal, the guest's network and names, and the capabilities that containers commonly have.
 */
#include "image/image.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/json.h"

#include <string.h>

#define READY_ANNOTATION "org.drafter.ready-port"

/* The sets of others stay empty: a process that is not root's gets none by being started. */
static const char *const capabilities[] = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN",  "CAP_DAC_OVERRIDE",     "CAP_FOWNER", "CAP_FSETID",
    "CAP_KILL",        "CAP_MKNOD",  "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID",
    "CAP_SETPCAP",     "CAP_SETUID", "CAP_SYS_CHROOT",       NULL};
static const char *const capability_sets[] = {"bounding", "effective", "permitted", NULL};

/* What the guest knows and the image cannot. */
static const char *const guest_files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", NULL};

/* The member, made an empty one where it is none. */
static json_t *member(json_t *object, const char *key, json_t *empty)
{
    json_t *found = json_object_get(object, key);

    if (found && json_typeof(found) == json_typeof(empty)) {
        json_decref(empty);
        return found;
    }
    json_object_set_new(object, key, empty);
    return json_object_get(object, key);
}

static json_t *capability_list(void)
{
    json_t *list = json_array();

    for (const char *const *name = capabilities; *name; name++)
        json_array_append_new(list, json_string(*name));
    return list;
}

static void set_process(json_t *process)
{
    json_t *sets = json_object();

    json_object_set_new(process, "terminal", json_false());
    for (const char *const *name = capability_sets; *name; name++)
        json_object_set_new(sets, *name, capability_list());
    json_object_set_new(process, "capabilities", sets);
}

static void add_guest_files(json_t *mounts)
{
    for (const char *const *path = guest_files; *path; path++)
        json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[s, s]}", "destination", *path,
                                                "type", "bind", "source", *path, "options", "bind",
                                                "rprivate"));
}

static void share_network(json_t *namespaces)
{
    for (size_t i = json_array_size(namespaces); i-- > 0;) {
        const char *type =
            json_string_value(json_object_get(json_array_get(namespaces, i), "type"));

        if (type && !strcmp(type, "network"))
            json_array_remove(namespaces, i);
    }
}

static void set_ready_port(json_t *annotations, uint64_t port)
{
    char text[8];

    json_object_del(annotations, READY_ANNOTATION);
    if (!port)
        return;
    snprintf(text, sizeof(text), "%u", (unsigned)port);
    json_object_set_new(annotations, READY_ANNOTATION, json_string(text));
}

int image_convert_config(const struct image_options *options, const char *from, const char *to,
                         struct drafter_error *err)
{
    cleanup_json json_t *config = NULL;
    cleanup_free char *text = NULL;
    int rc = image_read_json(from, &config, err);

    if (rc)
        return rc;
    set_process(member(config, "process", json_object()));
    json_object_set_new(config, "root", json_pack("{s:s}", "path", IMAGE_ROOTFS));
    json_object_set_new(config, "hostname", json_string(options->hostname));
    add_guest_files(member(config, "mounts", json_array()));
    share_network(member(member(config, "linux", json_object()), "namespaces", json_array()));
    set_ready_port(member(config, "annotations", json_object()), options->ready_port);
    text = json_text(config, JSON_INDENT(4));
    if (!text)
        return drafter_error_set(err, ENOMEM, "%s: out of memory", to);
    return io_replace_file(to, text, strlen(text), 0644, err);
}

int image_check_config(const char *path, struct drafter_error *err)
{
    cleanup_json json_t *config = NULL;
    const char *root;
    int rc = image_read_json(path, &config, err);

    if (rc)
        return drafter_error_wrap(err, "no runtime bundle");
    root = json_string_value(json_object_get(json_object_get(config, "root"), "path"));
    if (!root || strcmp(root, IMAGE_ROOTFS) != 0)
        return drafter_error_set(err, EINVAL, "%s: root.path is not \"" IMAGE_ROOTFS "\"", path);
    if (!json_array_size(json_object_get(json_object_get(config, "process"), "args")))
        return drafter_error_set(err, EINVAL, "%s: process.args names nothing to run", path);
    return 0;
}
