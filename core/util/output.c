/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/output.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A file without a name, which is gone with the process whatever ends that; -1: not in this directory. */
static int open_nameless(const char *path)
{
    cleanup_free char *copy = strdup(path);

    return copy ? open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
}

int output_open(struct output *output, const char *path, struct drafter_error *err)
{
    struct stat status;

    if (!stat(path, &status) && !S_ISREG(status.st_mode)) {
        *output = (struct output){.fd = -1};
        return drafter_error_set(err, EINVAL, "%s is no file, and would be replaced by one", path);
    }
    *output = (struct output){.fd = -1, .path = strdup(path)};
    if (!output->path)
        return drafter_error_set(err, ENOMEM, "out of memory");
    output->fd = open_nameless(path);
    if (output->fd < 0 && asprintf(&output->temporary, "%s.part-XXXXXX", path) < 0)
        output->temporary = NULL;
    if (output->temporary && (output->fd = mkostemp(output->temporary, O_CLOEXEC)) < 0) {
        int code = errno;

        free(steal(&output->temporary));
        output_release(output);
        return drafter_error_errno(err, code, "%s: cannot create it", path);
    }
    return output->fd < 0 ? drafter_error_set(err, ENOMEM, "out of memory") : 0;
}

int output_sync(struct output *output, struct drafter_error *err)
{
    return fsync(output->fd) ? drafter_error_errno(err, errno, "%s: cannot write it", output->path) : 0;
}

/* A name of its own first: linkat replaces nothing, and rename needs one. */
static int give_name(struct output *output)
{
    char self[32];

    if (output->temporary)
        return 0;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", output->fd);
    for (unsigned i = 0; i < 100; i++) {
        cleanup_free char *name = NULL;

        if (asprintf(&name, "%s.part-%d-%u", output->path, (int)getpid(), i) < 0) {
            name = NULL;
            return -ENOMEM;
        }
        if (!linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
            output->temporary = steal(&name);
            return 0;
        }
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

int output_commit(struct output *output, struct drafter_error *err)
{
    int rc = give_name(output);

    if (!rc && rename(output->temporary, output->path))
        rc = -errno;
    if (rc)
        return drafter_error_errno(err, -rc, "%s: cannot give it its name", output->path);
    free(steal(&output->temporary));
    rc = io_sync_parent(output->path);
    return rc ? drafter_error_errno(err, -rc, "%s: its directory", output->path) : 0;
}

void output_release(struct output *output)
{
    if (output->temporary)
        unlink(output->temporary);
    if (output->fd >= 0)
        close(output->fd);
    free(output->temporary);
    free(output->path);
    *output = (struct output){.fd = -1};
}
