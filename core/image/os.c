/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter image os`: the guest that runs bundles is made by the script that makes the other
 * guests.
 */
#include "image/image.h"

#include "util/cleanup.h"

#include <stdlib.h>
#include <unistd.h>

#define SCRIPT "image/build-image.sh"

/* From DRAFTER_GUEST_PATH, a source tree's guest directory, else where it was installed. */
static char *script_path(void)
{
    const char *guest = getenv("DRAFTER_GUEST_PATH");

    return image_path(guest && *guest ? guest : PKGDATADIR "/guest", SCRIPT);
}

int image_os(struct image_job *job, const char *directory, struct drafter_error *err)
{
    cleanup_free char *script = script_path(), *cache = NULL;
    char size[24];
    const struct image_tool tool = {script, "drafter", STDOUT_FILENO, -1, 0};
    const char *arguments[8] = {"--os"};
    unsigned count = 1;

    if (!script)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (access(script, X_OK))
        return drafter_error_errno(err, errno, "%s (DRAFTER_GUEST_PATH says where it is)", script);
    if (job->options.cache) {
        arguments[count++] = "--cache";
        arguments[count++] = job->options.cache;
    }
    if (job->options.size) {
        snprintf(size, sizeof(size), "%llu", (unsigned long long)job->options.size);
        arguments[count++] = "--size";
        arguments[count++] = size;
    }
    arguments[count++] = directory;
    return image_run(job, &tool, arguments, err);
}
