/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an upload left that was cut off: objects that no index names.  A page of names is listed, then
 * the root is looked at, and only if it is still ours are those of the page deleted that are not in use.
 * A writer that takes over commits before it puts anything, so none of its objects can be on the page.
 */
#include "volume.h"

#include "util/cleanup.h"
#include "xml.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_LIMIT (4u << 20)

struct list {
    struct volume *volume;
    char kind;
    char token[1200]; /* of the next page; empty at the first, and after the last */
    bool more;
};

/* The object's name after the prefix: 'b/OFFSET-SERIAL'. */
static bool parse_name(const char *name, struct volume_object *object)
{
    int used = 0;

    memset(object, 0, sizeof *object);
    return sscanf(name, "%c/%16" SCNx64 "-%16" SCNx64 "%n", &object->kind, &object->place,
                  &object->entry.serial, &used) == 3 &&
           name[used] == '\0' && (object->kind == 'b' || object->kind == 'i');
}

static int get_page(struct list *list, struct http_response *response)
{
    struct volume *volume = list->volume;
    char prefix[1000], token[2000], query[4000];
    struct http_request request = {
        .method = "GET", .path = volume->bucket_path, .query = query, .limit = LIST_LIMIT};
    char plain[310];
    int n;

    snprintf(plain, sizeof plain, "%s%c/", volume->prefix, list->kind);
    if (sign_encode(plain, 0, prefix, sizeof prefix) ||
        sign_encode(list->token, 0, token, sizeof token))
        return -ENAMETOOLONG;
    n = snprintf(query, sizeof query, "%s%s%slist-type=2&prefix=%s",
                 *token ? "continuation-token=" : "", token, *token ? "&" : "", prefix);
    return n < 0 || (size_t)n >= sizeof query ? -ENAMETOOLONG
                                              : http_send(volume->http, &request, response);
}

static bool grow(struct volume_object **objects, size_t *room)
{
    size_t more = *room ? 2 * *room : 64;
    void *larger = realloc(*objects, more * sizeof **objects);

    if (!larger)
        return false;
    *objects = larger;
    *room = more;
    return true;
}

/* Deletes what is unused of a page; the upper half of a serial tells what this process put. */
static int sweep_page(struct list *list, const struct http_response *response, unsigned *deleted)
{
    cleanup_free struct volume_object *unused = NULL;
    struct volume *volume = list->volume;
    size_t count = 0, room = 0, gone;
    const char *at = response->body, *end = response->body + response->length;
    size_t skip = strlen(volume->prefix);
    char name[1100];

    while (at && xml_find(at, (size_t)(end - at), "Key", name, sizeof name, &at)) {
        struct volume_object object;

        if (strncmp(name, volume->prefix, skip) != 0 || !parse_name(name + skip, &object))
            continue; /* none of ours */
        if (object.entry.serial >> 32 == volume->session || volume_uses(volume, &object))
            continue;
        if (count == room && !grow(&unused, &room))
            return -ENOMEM;
        unused[count++] = object;
    }
    gone = volume_delete_all(volume, unused, count);
    *deleted += (unsigned)gone;
    return gone == count ? 0 : -EIO;
}

static int sweep_kind(struct volume *volume, char kind, unsigned *deleted)
{
    struct list list = {.volume = volume, .kind = kind, .more = true};
    int rc = 0;

    while (!rc && list.more) {
        struct http_response response = {0};
        char truncated[8] = "";

        rc = get_page(&list, &response);
        if (!rc)
            rc = volume_check_root(volume);
        if (!rc)
            rc = sweep_page(&list, &response, deleted);
        list.more = !rc && response.body &&
                    xml_text(response.body, response.length, "IsTruncated", truncated, sizeof truncated) &&
                    strcmp(truncated, "true") == 0 &&
                    xml_text(response.body, response.length, "NextContinuationToken", list.token,
                             sizeof list.token);
        http_response_release(&response);
    }
    return rc;
}

int volume_sweep(struct volume *volume, unsigned *ret_deleted, struct drafter_error *err)
{
    int rc;

    *ret_deleted = 0;
    rc = sweep_kind(volume, 'b', ret_deleted);
    if (!rc)
        rc = sweep_kind(volume, 'i', ret_deleted);
    return rc ? drafter_error_errno(err, -rc, "s3: %s: cannot look for leftovers", volume->prefix) : 0;
}
