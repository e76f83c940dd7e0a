/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What outlives the process that serves the mount: the descriptor of the FUSE session, the kernel's
 * greeting on it (FUSE_INIT, which is sent once), and the inode numbers that the kernel knows our files
 * by.  The mount, the guest's mapping and the dirty pages are the kernel's and live as long as somebody
 * has the descriptor.
 *
 * A successor plays the greeting to its own libfuse, whose answer the kernel drops because nobody waits
 * for it.  Then it asks for what the dead process had taken (FUSE_NOTIFY_RESEND, Linux 6.9): requests
 * come again as if they were new.  Without that they would wait for ever, so adopt refuses before.
 */
#include "service.h"

#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <stdio.h>
#include <unistd.h>

#define KEEP_LAYOUT 1u
#define KEEP_FILES_MAX 256
#define KEEP_GREETING_MAX 256
#define KEEP_NOTIFY_RESEND 7 /* FUSE_NOTIFY_RESEND, which older headers lack */
#define KEEP_REPLAYED (UINT64_C(1) << 62) /* a number that the kernel gives to no request */

/* Layout 1; a later one is a larger number. */
struct kept {
    uint32_t layout;
    uint32_t greeting_length; /* 0 until it came */
    uint64_t file_count;
    unsigned char greeting[KEEP_GREETING_MAX];
    struct kept_file {
        char name[DRAFTER_NAME_MAX + 1]; /* "" once withdrawn */
        uint64_t size, flags;
        int64_t born;
    } files[KEEP_FILES_MAX]; /* by inode number - SERVICE_FIRST_INO */
};

/* What is kept is not trusted more than a file: another binary wrote it. */
static bool keep_valid(const struct kept *kept)
{
    if (kept->layout != KEEP_LAYOUT || kept->file_count > KEEP_FILES_MAX ||
        kept->greeting_length < sizeof(struct fuse_in_header) + sizeof(uint32_t) * 4 ||
        kept->greeting_length > KEEP_GREETING_MAX)
        return false;
    for (uint64_t i = 0; i < kept->file_count; i++)
        if (kept->files[i].name[DRAFTER_NAME_MAX])
            return false;
    return true;
}

static int keep_map(struct service *service, bool *ret_found, struct drafter_error *err)
{
    void *memory;
    int result;

    *ret_found = false;
    if (!service->keeper)
        return 0;
    result = service->keeper->memory(service->keeper->opaque, "files", sizeof(struct kept), &memory,
                                     ret_found);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot keep the session", service->id);
    service->kept = memory;
    return 0;
}

int keep_begin(struct service *service, struct drafter_error *err)
{
    bool found;
    int result = keep_map(service, &found, err);

    if (result < 0 || !service->kept)
        return result;
    memset(service->kept, 0, sizeof(*service->kept));
    service->kept->layout = KEEP_LAYOUT;
    result = service->keeper->put(service->keeper->opaque, "session",
                                  fuse_session_fd(service->session));
    return result < 0 ? drafter_error_errno(err, -result, "%s: cannot keep the session", service->id)
                      : 0;
}

/* FUSE_NOTIFY_RESEND came with Linux 6.9. */
static bool keep_kernel_resends(void)
{
    unsigned major_version = 0, minor_version = 0;
    struct utsname name;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major_version, &minor_version) != 2)
        return false;
    return major_version > 6 || (major_version == 6 && minor_version >= 9);
}

int keep_find(struct service *service, int *ret_fd, struct drafter_error *err)
{
    int fd, result;
    bool found;

    if (!service->keeper || service->keeper->take(service->keeper->opaque, "session", &fd) < 0)
        return drafter_error_set(err, ENOENT, "%s: no session was left", service->id);
    result = keep_kernel_resends()
                 ? keep_map(service, &found, err)
                 : drafter_error_set(err, ENOTSUP,
                                     "%s: this kernel cannot send requests again (Linux 6.9 can): "
                                     "what waits will never be answered",
                                     service->id);
    if (result == 0 && (!found || !keep_valid(service->kept)))
        result = drafter_error_set(err, EPROTO,
                                   "%s: the session that was left is of another version, or was just "
                                   "being made",
                                   service->id);
    if (result < 0) {
        close(fd);
        keep_end(service);
        return result;
    }
    *ret_fd = fd;
    return 0;
}

void keep_end(struct service *service)
{
    if (service->kept)
        munmap(service->kept, sizeof(*service->kept));
    service->kept = NULL;
}

/* It comes first and alone: the kernel sends nothing else before it is answered. */
void keep_greeting(struct kept *kept, const void *request, size_t length)
{
    const struct fuse_in_header *header = request;

    if (!kept || header->opcode != FUSE_INIT || length > KEEP_GREETING_MAX)
        return;
    memcpy(kept->greeting, request, length);
    __atomic_store_n(&kept->greeting_length, (uint32_t)length, __ATOMIC_RELEASE);
}

int keep_replay(struct service *service, struct drafter_error *err)
{
    struct fuse_in_header header;
    struct fuse_buf request = {.size = service->kept->greeting_length};
    char *copy = malloc(KEEP_GREETING_MAX);

    if (!copy)
        return drafter_error_set(err, ENOMEM, "no memory");
    memcpy(copy, service->kept->greeting, service->kept->greeting_length);
    memcpy(&header, copy, sizeof(header));
    header.unique = KEEP_REPLAYED;
    header.len = service->kept->greeting_length;
    memcpy(copy, &header, sizeof(header));
    request.mem = copy;
    fuse_session_process_buf(service->session, &request);
    free(copy);
    return 0;
}

int keep_resend(struct service *service, struct drafter_error *err)
{
    const struct fuse_out_header notice = {.len = sizeof(notice), .error = KEEP_NOTIFY_RESEND};

    if (write(fuse_session_fd(service->session), &notice, sizeof(notice)) < 0)
        return drafter_error_errno(err, errno, "%s: the kernel does not send again what waits",
                                   service->directory);
    return 0;
}

size_t keep_count(const struct service *service)
{
    return (size_t)service->kept->file_count;
}

int keep_add(struct service *service, const struct file *file)
{
    size_t index = file->ino - SERVICE_FIRST_INO;
    struct kept_file *entry;

    if (!service->kept)
        return 0;
    if (index >= KEEP_FILES_MAX)
        return -EMFILE;
    entry = &service->kept->files[index];
    entry->size = file->size;
    entry->flags = file->flags;
    entry->born = file->born.tv_sec;
    memcpy(entry->name, file->name, sizeof(entry->name));
    service->kept->file_count = index + 1;
    return 0;
}

int keep_number(struct service *service, struct file *file)
{
    for (size_t i = 0; i < keep_count(service); i++) {
        const struct kept_file *entry = &service->kept->files[i];

        if (strcmp(entry->name, file->name) != 0)
            continue;
        if (entry->size != file->size || entry->flags != file->flags)
            return -ENODEV;
        file->ino = SERVICE_FIRST_INO + i;
        file->born = (struct timespec){.tv_sec = entry->born};
        return 0;
    }
    return -ENODEV;
}

void keep_remove(struct service *service, const struct file *file)
{
    if (service->kept)
        service->kept->files[file->ino - SERVICE_FIRST_INO].name[0] = '\0';
}
