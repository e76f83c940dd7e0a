/* SPDX-License-Identifier: BSD-2-Clause */
/* The mount table, and the backing device info (bdi) that steers readahead and write-back of a
 * mount. */
#include "service.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOUNT_TYPE "fuse.drafter"
#define MOUNT_STACK_MAX 16

extern char **environ;

/* Undoes the octal escapes of the mount table (blank, tab, newline, backslash) in place. */
static void mount_unescape(char *text)
{
    char *to = text;

    for (; *text; text++, to++) {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
            text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
            *to = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 3;
        } else {
            *to = *text;
        }
    }
    *to = '\0';
}

char *mount_resolve(const char *directory)
{
    char *copy = strdup(directory), *slash, *parent, *full = NULL;
    size_t length;

    if (!copy)
        return NULL;
    for (length = strlen(copy); length > 1 && copy[length - 1] == '/'; length--)
        copy[length - 1] = '\0';
    slash = strrchr(copy, '/');
    if (slash)
        *slash = '\0';
    parent = realpath(slash ? (slash == copy ? "/" : copy) : ".", NULL);
    if (parent && asprintf(&full, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent,
                           slash ? slash + 1 : copy) < 0)
        full = NULL;
    free(parent);
    free(copy);
    return full;
}

/* Whether one line of mountinfo, which is changed, is of our type and at `path`. */
static bool mount_line_matches(char *line, const char *path)
{
    char *rest = line, *word = strsep(&rest, " "), *point = NULL;

    for (int column = 0; word && strcmp(word, "-") != 0; column++) {
        if (column == 4)
            point = word;
        word = strsep(&rest, " ");
    }
    word = word ? strsep(&rest, " ") : NULL;
    if (!point || !word || strcmp(word, MOUNT_TYPE) != 0)
        return false;
    mount_unescape(point);
    return strcmp(point, path) == 0;
}

bool mount_is_ours(const char *directory)
{
    char *path = mount_resolve(directory), *line = NULL;
    FILE *table = fopen("/proc/self/mountinfo", "re");
    size_t size = 0;
    bool found = false;

    while (path && table && !found && getline(&line, &size, table) >= 0)
        found = mount_line_matches(line, path);
    if (table)
        fclose(table);
    free(line);
    free(path);
    return found;
}

static int mount_run_fusermount(const char *directory)
{
    char *const argv[] = {(char *)"fusermount3", (char *)"-q",      (char *)"-u", (char *)"-z",
                          (char *)"--",          (char *)directory, NULL};
    pid_t pid;
    int error, status;

    error = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (error)
        return -error;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

/* Takes our mounts off `directory`; who still has files of them open keeps only errors. */
int mount_remove(const char *directory)
{
    int result = 0;

    for (int i = 0; i < MOUNT_STACK_MAX && mount_is_ours(directory); i++) {
        result = 0;
        if (umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            result = errno == EPERM ? mount_run_fusermount(directory) : -errno;
        if (result < 0)
            return result;
    }
    return mount_is_ours(directory) ? -EBUSY : 0;
}

static int mount_set(const struct service *service, const char *knob, unsigned value)
{
    char path[128], text[16];
    int fd, length, result = 0;

    if (!service->bdi[0])
        return -ENOENT;
    snprintf(path, sizeof(path), "%s/%s", service->bdi, knob);
    length = snprintf(text, sizeof(text), "%u", value);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)length) < 0)
        result = -errno;
    if (fd >= 0)
        close(fd);
    if (result < 0)
        drafter_log(DRAFTER_LOG_DEBUG, service->id, "%s stays as it is: %s", path,
                    strerror(-result));
    return result;
}

void mount_readahead(const struct service *service, unsigned kib)
{
    mount_set(service, "read_ahead_kb", kib);
}

/*
 * By default a FUSE mount may hold 1 % of memory dirty before the kernel throttles the writer, and
 * the writer is the guest.
 */
void mount_tune(struct service *service)
{
    struct stat status;

    if (stat(service->directory, &status) < 0)
        return;
    snprintf(service->bdi, sizeof(service->bdi), "/sys/class/bdi/%u:%u", major(status.st_dev),
             minor(status.st_dev));
    mount_set(service, "max_ratio", 100);
    mount_set(service, "strict_limit", 0);
    mount_readahead(service, 0);
}
