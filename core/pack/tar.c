/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/tar.h"

#include "util/cleanup.h"

#include <string.h>

#define EXTENDED_MAX 65536

/* What an extended header says of the entry behind it. */
struct extended {
    char name[257];
    bool has_size, odd; /* odd: it is not what lies there */
    uint64_t size;
};

static int take_record(const char *key, size_t length, struct extended *extended)
{
    const char *value = memchr(key, '=', length);

    if (!value)
        return -ENOTSUP;
    length -= (size_t)(++value - key);
    if (!strncmp(key, "path=", 5)) {
        if (length >= sizeof(extended->name))
            return -ENOTSUP;
        memcpy(extended->name, value, length);
        extended->name[length] = '\0';
    } else if (!strncmp(key, "size=", 5)) {
        extended->size = 0;
        extended->has_size = true;
        for (size_t i = 0; i < length; i++) {
            if (value[i] < '0' || value[i] > '9' || extended->size >> 58)
                return -ENOTSUP;
            extended->size = extended->size * 10 + (uint64_t)(value[i] - '0');
        }
    } else if (!strncmp(key, "GNU.sparse.", 11)) {
        extended->odd = true;
    }
    return 0;
}

/* Records of pax: "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
static int take_pax(const char *text, size_t length, struct extended *extended)
{
    int rc = 0;

    while (!rc && length) {
        size_t record = 0, digits = 0;

        while (digits < length && text[digits] >= '0' && text[digits] <= '9' && record < EXTENDED_MAX)
            record = record * 10 + (size_t)(text[digits++] - '0');
        if (!digits || record > length || record < digits + 3 || text[digits] != ' ' ||
            text[record - 1] != '\n')
            return -ENOTSUP;
        rc = take_record(text + digits + 1, record - digits - 2, extended);
        text += record;
        length -= record;
    }
    return rc;
}

static int take_extended(const struct pack_source *source, uint64_t offset, const struct pack_tar_entry *entry,
                         struct extended *extended)
{
    cleanup_free char *text = NULL;
    int rc;

    if (entry->type == 'g')
        return 0;
    if (entry->size > EXTENDED_MAX)
        return -ENOTSUP;
    text = calloc(1, (size_t)entry->size + 1);
    if (!text)
        return -ENOMEM;
    rc = pack_source_read(source, text, (size_t)entry->size, offset);
    if (rc)
        return rc;
    if (entry->type == 'L')
        snprintf(extended->name, sizeof(extended->name), "%s", text);
    return entry->type == 'x' ? take_pax(text, (size_t)entry->size, extended) : 0;
}

static bool is_extended(char type)
{
    return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

int pack_tar_find(const struct pack_source *source, const char *name, uint64_t *ret_offset,
                  uint64_t *ret_size)
{
    struct extended extended = {0};
    uint64_t at = 0;

    while (at + PACK_BLOCK <= source->size) {
        uint8_t block[PACK_BLOCK];
        struct pack_tar_entry entry;
        int rc = pack_source_read(source, block, sizeof(block), at);

        if (!rc && pack_tar_parse(block, &entry))
            rc = -ENOTSUP;
        if (rc || !*entry.name)
            return rc ? rc : -ENOENT;
        at += PACK_BLOCK;
        if (extended.has_size)
            entry.size = extended.size;
        if (pack_padded(entry.size) > source->size - at)
            return -ENOTSUP;
        if (is_extended(entry.type)) {
            rc = take_extended(source, at, &entry, &extended);
            if (rc)
                return rc;
        } else if (!strcmp(*extended.name ? extended.name : entry.name, name)) {
            *ret_offset = at;
            *ret_size = entry.size;
            return (entry.type == '0' || entry.type == '7') && !extended.odd ? 0 : -ENOTSUP;
        } else {
            extended = (struct extended){0};
        }
        at += pack_padded(entry.size);
    }
    return -ENOENT;
}
