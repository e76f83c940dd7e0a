/* SPDX-License-Identifier: BSD-2-Clause */
/* Lines of a log, and values in JSON objects. */
#include "embed/internal.h"

#include "util/json.h"

#include <stdio.h>
#include <string.h>

static const char *const level_names[] = {"error", "warning", "info", "debug"};

static enum drafter_log_level level_of(const json_t *record)
{
    const char *name = json_string_value(json_object_get(record, "level"));

    for (unsigned i = 0; name && i < sizeof(level_names) / sizeof(*level_names); i++)
        if (!strcmp(name, level_names[i]))
            return (enum drafter_log_level)i;
    return DRAFTER_LOG_INFO;
}

/* Nobody waits for a name that is too long for any event. */
static void read_record(const json_t *record, struct drafter_event *event, char *message)
{
    const char *name = json_string_value(json_object_get(record, "event"));
    const char *text = json_string_value(json_object_get(record, "message"));

    event->json = true;
    event->level = level_of(record);
    if (name && strlen(name) < sizeof(event->name))
        memcpy(event->name, name, strlen(name) + 1);
    snprintf(message, DRAFTER_ERROR_MAX, "%s", text ? text : "");
}

void event_read(const char *line, struct drafter_event *ret_event, char *ret_message)
{
    cleanup_json json_t *record = json_loads(line, 0, NULL);

    *ret_event = (struct drafter_event){.level = DRAFTER_LOG_WARNING};
    snprintf(ret_event->text, sizeof(ret_event->text), "%s", line);
    if (json_is_object(record))
        read_record(record, ret_event, ret_message);
    else
        snprintf(ret_message, DRAFTER_ERROR_MAX, "%s", line);
}

/* Borrowed from `object`; NULL when there is nothing at `path`. */
static const json_t *find(const json_t *object, const char *path)
{
    while (object && *path) {
        size_t length = strcspn(path, ".");
        char key[DRAFTER_NAME_MAX + 1];

        if (length >= sizeof(key))
            return NULL;
        memcpy(key, path, length);
        key[length] = '\0';
        object = json_object_get(object, key);
        path += length + (path[length] == '.');
    }
    return object;
}

int drafter_json_text(const char *json, const char *path, char *buffer, size_t size)
{
    cleanup_json json_t *object = json_loads(json, 0, NULL);
    const char *text = json_string_value(find(object, path));

    if (!object)
        return -EINVAL;
    if (!text)
        return -ENOENT;
    if (strlen(text) >= size)
        return -ENOSPC;
    memcpy(buffer, text, strlen(text) + 1);
    return 0;
}

int drafter_json_number(const char *json, const char *path, double *ret_number)
{
    cleanup_json json_t *object = json_loads(json, 0, NULL);
    const json_t *number = find(object, path);

    if (!object)
        return -EINVAL;
    if (!json_is_number(number))
        return -ENOENT;
    *ret_number = json_number_value(number);
    return 0;
}
