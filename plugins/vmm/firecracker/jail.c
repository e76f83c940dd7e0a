/* SPDX-License-Identifier: BSD-2-Clause */
#include "jail.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "vmm/common/cpu.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define PID_FILE "drafter.pid"
#define LEFTOVER_PATIENCE_MS 5000

int jail_init(struct jail *jail, const char *vm_directory, const char *base, const char *program,
              struct drafter_error *err)
{
    const char *name = strrchr(program, '/');
    int length;

    snprintf(jail->id, sizeof(jail->id), "drafter-%016" PRIx64,
             cpu_hash(0, vm_directory, strlen(vm_directory)));
    jail->jailed = base != NULL;
    length = base ? asprintf(&jail->parent, "%s/%s/%s", base, name ? name + 1 : program, jail->id)
                  : asprintf(&jail->parent, "%s/root", vm_directory);
    if (length < 0)
        jail->parent = NULL;
    if (!jail->parent || asprintf(&jail->root, "%s%s", jail->parent, base ? "/root" : "") < 0) {
        jail->root = NULL;
        jail_release(jail);
        return drafter_error_errno(err, ENOMEM, "VM");
    }
    /* What is placed under the longest name must be found again, to be unbound. */
    if (strlen(jail->root) + 1 + DRAFTER_NAME_MAX >= PATH_MAX) {
        jail_release(jail);
        return drafter_error_set(err, ENAMETOOLONG,
                                 "the directory of the jail is longer than %d characters",
                                 PATH_MAX - DRAFTER_NAME_MAX - 2);
    }
    return 0;
}

char *jail_path(const struct jail *jail, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", jail->root, name) < 0 ? NULL : path;
}

/* ---- what was left */

/* Whether this process was started for this jail; process ids are used again. */
static bool works_here(const struct jail *jail, pid_t pid)
{
    cleanup_free char *line = NULL;
    char path[64];
    size_t length;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    return io_read_file(path, 65536, &line, &length, NULL) == 0 &&
           memmem(line, length, jail->id, strlen(jail->id));
}

/*
 * The kernel forgets to kill a Firecracker together with the process that started it when the jailer
 * has changed its user.
 */
static void end_leftover(const struct jail *jail)
{
    static const struct timespec moment = {.tv_nsec = 1000000};
    cleanup_free char *path = NULL, *text = NULL;
    size_t length;
    long pid;

    if (asprintf(&path, "%s/" PID_FILE, jail->parent) < 0) {
        path = NULL;
        return;
    }
    if (io_read_file(path, 64, &text, &length, NULL) < 0)
        return;
    pid = strtol(text, NULL, 10);
    if (pid < 2 || pid > INT_MAX || !works_here(jail, (pid_t)pid))
        return;
    drafter_log(DRAFTER_LOG_WARNING, "firecracker", "ending process %ld of a drafter that is gone",
                pid);
    kill((pid_t)pid, SIGKILL);
    for (unsigned i = 0; i < LEFTOVER_PATIENCE_MS && works_here(jail, (pid_t)pid); i++)
        nanosleep(&moment, NULL);
}

/* What is bound there is somebody's device: the tree is removed only when nothing is any more. */
static bool unbind(const struct jail *jail)
{
    DIR *directory = opendir(jail->root);
    const struct dirent *entry;
    bool clean = true;

    while (directory && (entry = readdir(directory))) {
        cleanup_free char *path = jail_path(jail, entry->d_name);

        if (*entry->d_name == '.' || !path)
            continue;
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            ;
        clean = clean && (errno == EINVAL || errno == ENOENT);
    }
    if (directory)
        closedir(directory);
    return clean;
}

static int sweep(const struct jail *jail, struct drafter_error *err)
{
    if (jail->jailed) {
        end_leftover(jail);
        if (!unbind(jail))
            return drafter_error_set(err, EBUSY, "%s: something is mounted there", jail->root);
    }
    return io_remove_tree(jail->parent, err);
}

int jail_make(struct jail *jail, struct drafter_error *err)
{
    int result = sweep(jail, err);

    if (result == 0)
        result = io_make_directories(jail->root, 0700, err);
    if (result == 0 && jail->jailed && chown(jail->root, jail->uid, jail->gid) < 0)
        result = drafter_error_errno(err, errno, "%s", jail->root);
    return result;
}

int jail_note(const struct jail *jail, pid_t pid, struct drafter_error *err)
{
    cleanup_free char *path = NULL;
    char text[32];

    if (!jail->jailed)
        return 0;
    if (asprintf(&path, "%s/" PID_FILE, jail->parent) < 0) {
        path = NULL;
        return drafter_error_errno(err, ENOMEM, "VM");
    }
    snprintf(text, sizeof(text), "%d\n", (int)pid);
    return io_replace_file(path, text, strlen(text), 0600, err);
}

/* ---- devices */

static int link_device(const char *place, const char *path, struct drafter_error *err)
{
    cleanup_free char *whole = NULL;
    char here[PATH_MAX] = "";

    if (*path != '/' && !getcwd(here, sizeof(here)))
        return drafter_error_errno(err, errno, "the working directory");
    if (asprintf(&whole, "%s%s%s", here, *path == '/' ? "" : "/", path) < 0) {
        whole = NULL;
        return drafter_error_errno(err, ENOMEM, "VM");
    }
    return symlink(whole, place) < 0 ? drafter_error_errno(err, errno, "%s", place) : 0;
}

/* A file of FUSE shows who may use it by its mount's options; it cannot be given away. */
static bool has_owner(const char *path)
{
    struct statfs status;

    return statfs(path, &status) == 0 && status.f_type != FUSE_SUPER_MAGIC;
}

static int bind_file(const struct jail *jail, const char *place, const char *path,
                     struct drafter_error *err)
{
    cleanup_close int fd = open(place, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", place);
    if (has_owner(path) && chown(path, jail->uid, jail->gid) < 0)
        return drafter_error_errno(err, errno, "%s: cannot give it to user %u", path,
                                   (unsigned)jail->uid);
    if (mount(path, place, NULL, MS_BIND, NULL) < 0)
        return drafter_error_errno(err, errno, "cannot bind %s to %s", path, place);
    return 0;
}

static int make_node(const struct jail *jail, const char *place, dev_t device,
                     struct drafter_error *err)
{
    if (mknod(place, S_IFBLK | 0600, device) < 0 || chown(place, jail->uid, jail->gid) < 0)
        return drafter_error_errno(err, errno, "%s", place);
    return 0;
}

int jail_place(const struct jail *jail, const char *name, const char *path,
               struct drafter_error *err)
{
    cleanup_free char *place = jail_path(jail, name);
    struct stat status;

    if (!place)
        return drafter_error_errno(err, ENOMEM, "VM");
    if (!jail->jailed)
        return link_device(place, path, err);
    if (stat(path, &status) < 0)
        return drafter_error_errno(err, errno, "%s", path);
    if (S_ISBLK(status.st_mode))
        return make_node(jail, place, status.st_rdev, err);
    return bind_file(jail, place, path, err);
}

int jail_give(const struct jail *jail, const char *name, struct drafter_error *err)
{
    cleanup_free char *path = jail_path(jail, name);

    if (!path)
        return drafter_error_errno(err, ENOMEM, "VM");
    if (jail->jailed && lchown(path, jail->uid, jail->gid) < 0)
        return drafter_error_errno(err, errno, "%s", path);
    return 0;
}

/* ---- the end */

void jail_release(struct jail *jail)
{
    free(jail->root);
    free(jail->parent);
    jail->root = jail->parent = NULL;
}

void jail_remove(struct jail *jail)
{
    struct drafter_error error = {0};

    if (!jail->root)
        return;
    if (jail->jailed && !unbind(jail))
        drafter_log(DRAFTER_LOG_WARNING, "firecracker", "%s: something stays mounted", jail->root);
    else if (io_remove_tree(jail->parent, &error) < 0)
        drafter_log(DRAFTER_LOG_WARNING, "firecracker", "%s", error.message);
    jail_release(jail);
}
