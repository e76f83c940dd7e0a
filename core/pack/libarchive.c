/* SPDX-License-Identifier: BSD-2-Clause */
#include "pack/libarchive.h"

#include "util/cleanup.h"
#include "util/late.h"

#include <pthread.h>

#define READ_SIZE ((size_t)1 << 20)

static struct libarchive calls;

static int load(struct drafter_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool loaded;
    static const struct late_symbol symbols[] = {
#define LIBARCHIVE_SYMBOL(name) {"archive_" #name, &calls.name},
        LIBARCHIVE_CALLS(LIBARCHIVE_SYMBOL)
#undef LIBARCHIVE_SYMBOL
    };

    lock_scope(&lock);
    if (!loaded && late_load(LIBARCHIVE_SONAME, symbols, sizeof(symbols) / sizeof(symbols[0]), err))
        return -err->code;
    loaded = true;
    return 0;
}

int libarchive_fault(struct archive *archive, const char *path, struct drafter_error *err)
{
    const char *why = calls.error_string(archive);

    return drafter_error_set(err, EBADMSG, "%s: %s", path, why ? why : "no tar archive");
}

int libarchive_open(const char *path, bool may_be_empty, struct archive **ret_archive, struct drafter_error *err)
{
    struct archive *archive;

    if (load(err))
        return -err->code;
    archive = *ret_archive = calls.read_new();
    if (!archive || calls.read_support_filter_zstd(archive) < ARCHIVE_WARN ||
        calls.read_support_filter_gzip(archive) < ARCHIVE_WARN ||
        calls.read_support_format_tar(archive) < ARCHIVE_WARN ||
        (may_be_empty && calls.read_support_format_empty(archive) < ARCHIVE_WARN))
        return drafter_error_set(err, ENOMEM, "libarchive lacks tar or a filter");
    return calls.read_open_filename(archive, path, READ_SIZE) == ARCHIVE_OK ? 0 : libarchive_fault(archive, path, err);
}

const struct libarchive *libarchive(void)
{
    return &calls;
}

void libarchive_free(struct archive *archive)
{
    if (archive)
        calls.read_free(archive);
}
