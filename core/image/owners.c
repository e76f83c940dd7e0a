/* SPDX-License-Identifier: BSD-2-Clause */
#include "image/owners.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (512u << 20)

/* ---- the list */

/* Without blank components, "." and slashes at either end: "" becomes ".". */
static int clean(const char *path, char *buffer, struct drafter_error *err)
{
    size_t used = 0;

    while (*path) {
        size_t length = strcspn(path, "/");

        if (length == 2 && !strncmp(path, "..", 2))
            return drafter_error_set(err, EINVAL, "a path leads outside of the image");
        if (length && (length != 1 || *path != '.')) {
            if (used + length + 2 > OWNER_PATH_MAX)
                return drafter_error_set(err, ENAMETOOLONG, "a path of the image is too long");
            if (used)
                buffer[used++] = '/';
            memcpy(buffer + used, path, length);
            used += length;
        }
        path += length + (path[length] == '/');
    }
    if (!used)
        buffer[used++] = '.';
    buffer[used] = '\0';
    return 0;
}

static int make_room(struct owners *owners, size_t length, struct drafter_error *err)
{
    size_t capacity = owners->capacity ? 2 * owners->capacity : 256;
    struct owner *list;

    if (owners->count == OWNERS_MAX || owners->bytes + length > OWNERS_BYTES_MAX)
        return drafter_error_set(err, E2BIG, "more than %d files, or too long paths", OWNERS_MAX);
    if (owners->count < owners->capacity)
        return 0;
    list = reallocarray(owners->list, capacity, sizeof(*list));
    if (!list)
        return drafter_error_set(err, ENOMEM, "out of memory");
    owners->list = list;
    owners->capacity = capacity;
    return 0;
}

int owners_add(struct owners *owners, const struct owner *owner, const char *path,
               struct drafter_error *err)
{
    char buffer[OWNER_PATH_MAX + 1];
    struct owner copy = *owner;
    int rc = clean(path, buffer, err);

    if (!rc)
        rc = make_room(owners, strlen(buffer) + 1, err);
    if (rc)
        return rc;
    copy.path = strdup(buffer);
    if (!copy.path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    copy.order = owners->count;
    owners->bytes += strlen(buffer) + 1;
    owners->list[owners->count++] = copy;
    return 0;
}

static int compare(const void *left, const void *right)
{
    const struct owner *a = left, *b = right;
    int order = strcmp(a->path, b->path);

    return order ? order : a->order < b->order ? -1 : a->order > b->order;
}

void owners_sort(struct owners *owners)
{
    size_t kept = 0;

    if (owners->count)
        qsort(owners->list, owners->count, sizeof(*owners->list), compare);
    for (size_t i = 0; i < owners->count; i++) {
        if (i + 1 < owners->count && !strcmp(owners->list[i].path, owners->list[i + 1].path))
            free(owners->list[i].path);
        else
            owners->list[kept++] = owners->list[i];
    }
    owners->count = kept;
    for (size_t i = 0; i < kept; i++)
        owners->list[i].order = i;
}

static int compare_path(const void *path, const void *owner)
{
    return strcmp(path, ((const struct owner *)owner)->path);
}

struct owner *owners_find(const struct owners *owners, const char *path)
{
    if (!owners->count)
        return NULL;
    return bsearch(path, owners->list, owners->count, sizeof(*owners->list), compare_path);
}

void owners_prune(struct owners *owners)
{
    size_t kept = 0;

    for (size_t i = 0; i < owners->count; i++) {
        if (owners->list[i].is_found)
            owners->list[kept++] = owners->list[i];
        else
            free(owners->list[i].path);
    }
    owners->count = kept;
}

void owners_release(struct owners *owners)
{
    for (size_t i = 0; i < owners->count; i++)
        free(owners->list[i].path);
    free(owners->list);
    *owners = (struct owners){0};
}

/* ---- the file */

static bool is_plain(char c)
{
    return (unsigned char)c > ' ' && c != 0x7f && c != '\\';
}

static void write_line(FILE *file, const struct owner *owner)
{
    fprintf(file, "%" PRIu32 " %" PRIu32 " ", owner->uid, owner->gid);
    if (owner->mode >= 0)
        fprintf(file, "%04o ", (unsigned)owner->mode);
    else
        fputs("- ", file);
    for (unsigned i = 0; i < owner->capability_length; i++)
        fprintf(file, "%02x", owner->capability[i]);
    fputs(owner->capability_length ? " " : "- ", file);
    for (const char *at = owner->path; *at; at++)
        fprintf(file, is_plain(*at) ? "%c" : "\\%03o", (unsigned char)*at);
    fputc('\n', file);
}

/* What says nothing is left out. */
static bool says_something(const struct owner *owner)
{
    return !owner->is_device &&
           (owner->uid || owner->gid || owner->mode >= 0 || owner->capability_length);
}

int owners_save(const char *path, const struct owners *owners, struct drafter_error *err)
{
    cleanup_fclose FILE *file = fopen(path, "we");

    if (!file)
        return drafter_error_errno(err, errno, "%s", path);
    fputs("# UID GID MODE CAPABILITY PATH; what is not here belongs to root\n", file);
    for (size_t i = 0; i < owners->count; i++)
        if (says_something(&owners->list[i]))
            write_line(file, &owners->list[i]);
    if (fflush(file) || ferror(file))
        return drafter_error_errno(err, errno, "%s: cannot write it", path);
    return 0;
}

/* A number up to `most` that a blank follows, in this base. */
static bool read_number(char **at, int base, uint32_t most, uint32_t *ret)
{
    char *end;
    unsigned long value;

    if (!isdigit((unsigned char)**at))
        return false;
    errno = 0;
    value = strtoul(*at, &end, base);
    if (errno || *end != ' ' || value > most)
        return false;
    *at = end + 1;
    *ret = (uint32_t)value;
    return true;
}

static bool skip_dash(char **at)
{
    if (strncmp(*at, "- ", 2) != 0)
        return false;
    *at += 2;
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_capability(char **at, struct owner *owner)
{
    unsigned length = 0;

    if (skip_dash(at))
        return true;
    for (; **at != ' '; *at += 2) {
        int high = hex_digit((*at)[0]), low = high < 0 ? -1 : hex_digit((*at)[1]);

        if (low < 0 || length == OWNER_CAPABILITY_MAX)
            return false;
        owner->capability[length++] = (uint8_t)(high << 4 | low);
    }
    (*at)++;
    owner->capability_length = (uint8_t)length;
    return length > 0;
}

/* In place. */
static bool unescape(char *text)
{
    char *to = text;

    for (const char *at = text; *at;) {
        int value = 0;

        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        at++;
        for (int i = 0; i < 3; i++, at++) {
            if (*at < '0' || *at > '7')
                return false;
            value = value * 8 + (*at - '0');
        }
        if (!value || value > 255)
            return false;
        *to++ = (char)value;
    }
    *to = '\0';
    return to != text;
}

static bool read_line(char *line, struct owner *owner, char **ret_path)
{
    uint32_t mode;

    *owner = (struct owner){.mode = -1};
    if (!read_number(&line, 10, UINT32_MAX - 1, &owner->uid) ||
        !read_number(&line, 10, UINT32_MAX - 1, &owner->gid))
        return false;
    if (!skip_dash(&line)) {
        if (!read_number(&line, 8, 07777, &mode))
            return false;
        owner->mode = (int)mode;
    }
    *ret_path = NULL;
    if (!read_capability(&line, owner) || !unescape(line))
        return false;
    *ret_path = line;
    return true;
}

static int read_lines(char *text, const char *path, struct owners *owners, struct drafter_error *err)
{
    unsigned number = 0;

    for (char *line; (line = strsep(&text, "\n"));) {
        struct owner owner;
        char *name;

        number++;
        if (!*line || *line == '#')
            continue;
        if (!read_line(line, &owner, &name))
            return drafter_error_set(err, EINVAL, "%s:%u: not UID GID MODE CAPABILITY PATH", path,
                                     number);
        if (owners_add(owners, &owner, name, err))
            return drafter_error_wrap(err, "%s:%u", path, number);
    }
    owners_sort(owners);
    return 0;
}

int owners_load(const char *path, struct owners *owners, struct drafter_error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    int rc;

    *owners = (struct owners){0};
    if (access(path, F_OK) && errno == ENOENT)
        return 0;
    rc = io_read_file(path, FILE_MAX, &text, &length, err);
    if (!rc && strlen(text) != length)
        rc = drafter_error_set(err, EINVAL, "%s: no text", path);
    if (!rc)
        rc = read_lines(text, path, owners, err);
    if (rc)
        owners_release(owners);
    return rc;
}
