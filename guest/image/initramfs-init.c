/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Init of the initramfs: loads the drivers of the virtio devices that are there, mounts the root
 * file system and hands over to its init. A program, not a shell script, because every fork and
 * every module that nobody needs is dear where instructions are emulated.
 *
 * /modules/bus holds what finds the devices; /modules/ID the driver of virtio device ID and what it
 * needs, in the order of loading. A file may be in several directories: the second load fails with
 * EEXIST.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROOT_WAIT_MS 10000

/* As init's end is the kernel's panic, which panic=1 turns into a reboot, the VMM sees it. */
static void die(const char *what)
{
    printf("initramfs: %s: %s\n", what, strerror(errno));
    sleep(1);
    exit(1);
}

static void load_directory(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char file[512];
        int fd;

        if (entries[i]->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
            printf("initramfs: %s: %s\n", file, strerror(errno));
        close(fd);
    }
}

static void load_drivers(void)
{
    DIR *devices;
    struct dirent *entry;

    load_directory("/modules/bus");
    if (!(devices = opendir("/sys/bus/virtio/devices")))
        die("no virtio bus");
    while ((entry = readdir(devices))) {
        char path[512], text[32] = "";
        FILE *file;

        snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/device", entry->d_name);
        if (entry->d_name[0] == '.' || !(file = fopen(path, "re")))
            continue;
        if (fgets(text, sizeof(text), file)) {
            snprintf(path, sizeof(path), "/modules/%ld", strtol(text, NULL, 16));
            load_directory(path);
        }
        fclose(file);
    }
    closedir(devices);
}

/* root=DEVICE of the kernel's command line. */
static const char *root_device(void)
{
    static char line[4096];
    FILE *file = fopen("/proc/cmdline", "re");
    char *rest = line, *word;

    if (file && fgets(line, sizeof(line), file))
        while ((word = strsep(&rest, " \n")))
            if (strncmp(word, "root=/", 6) == 0)
                return word + 5;
    return "/dev/vda";
}

static void wait_for(const char *path)
{
    struct timespec pause = {.tv_nsec = 5000000};

    for (int ms = 0; access(path, F_OK) != 0; ms += 5) {
        if (ms > ROOT_WAIT_MS)
            die(path);
        nanosleep(&pause, NULL);
    }
}

int main(void)
{
    static char *const argv[] = {"/sbin/init", NULL};
    const char *root;

    if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 ||
        mount("proc", "/proc", "proc", 0, NULL) < 0 || mount("sys", "/sys", "sysfs", 0, NULL) < 0)
        die("mount");
    load_drivers();
    root = root_device();
    wait_for(root);
    if (mount(root, "/sysroot", "ext4", MS_NOATIME, NULL) < 0)
        die(root);
    if (mount("/dev", "/sysroot/dev", NULL, MS_MOVE, NULL) < 0 ||
        mount("/proc", "/sysroot/proc", NULL, MS_MOVE, NULL) < 0 ||
        mount("/sys", "/sysroot/sys", NULL, MS_MOVE, NULL) < 0 || chdir("/sysroot") < 0 ||
        mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
        die("cannot switch to the root file system");
    execv(argv[0], argv);
    die(argv[0]);
}
