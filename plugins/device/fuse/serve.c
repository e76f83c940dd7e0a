/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names and attributes: one flat directory of regular files.
 *
 * Attributes never change by themselves, so the kernel may keep them for a day.  Names are kept
 * likewise; withdraw tells the kernel to forget its name.
 */
#include "service.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SERVE_BACKGROUND_MAX 1024 /* read-ahead and write-back requests on their way to us */

struct file *service_get(struct service *service, fuse_ino_t ino)
{
    struct file *file = NULL;

    pthread_mutex_lock(&service->lock);
    if (ino >= SERVICE_FIRST_INO && ino - SERVICE_FIRST_INO < service->file_count)
        file = service->files[ino - SERVICE_FIRST_INO];
    if (file && file->withdrawn)
        file = NULL;
    if (file)
        file->busy++;
    pthread_mutex_unlock(&service->lock);
    return file;
}

void service_put(struct file *file)
{
    struct service *service = file->service;

    pthread_mutex_lock(&service->lock);
    if (--file->busy == 0)
        pthread_cond_broadcast(&service->idle);
    pthread_mutex_unlock(&service->lock);
}

void serve_attributes(const struct service *service, const struct file *file, struct stat *ret_stat)
{
    mode_t access = service->config->allow_other ? 0666 : 0600;

    *ret_stat = (struct stat){.st_uid = geteuid(), .st_gid = getegid(), .st_blksize = 4096};
    if (!file) {
        ret_stat->st_ino = FUSE_ROOT_ID;
        ret_stat->st_mode = S_IFDIR | (service->config->allow_other ? 0755 : 0700);
        ret_stat->st_nlink = 2;
        return;
    }
    if (file->flags & DRAFTER_DEVICE_READONLY)
        access &= (mode_t)~0222;
    ret_stat->st_ino = file->ino;
    ret_stat->st_mode = S_IFREG | access;
    ret_stat->st_nlink = 1;
    ret_stat->st_size = (off_t)file->size;
    ret_stat->st_blocks = (blkcnt_t)((file->size + 511) / 512);
    ret_stat->st_atim = ret_stat->st_mtim = ret_stat->st_ctim = file->born;
}

static void serve_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    /*
     * No writeback_cache: dirty pages come from mappings, which work without it, and it would make
     * the kernel keep and write times and sizes of its own.
     * No splice: the backend wants the data in memory, page-aligned.
     */
    conn->want = conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
                                  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPLICIT_INVAL_DATA);
    conn->max_read = SERVICE_TRANSFER_MAX; /* must agree with the mount option */
    conn->max_write = SERVICE_TRANSFER_MAX;
    conn->max_readahead = SERVICE_TRANSFER_MAX;
    conn->max_background = SERVE_BACKGROUND_MAX;
    conn->congestion_threshold = SERVE_BACKGROUND_MAX;
}

static void serve_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct service *service = fuse_req_userdata(req);
    struct fuse_entry_param entry = {.entry_timeout = SERVICE_ATTR_TIMEOUT_S,
                                     .attr_timeout = SERVICE_ATTR_TIMEOUT_S};
    struct file *file;

    pthread_mutex_lock(&service->lock);
    for (size_t i = 0; parent == FUSE_ROOT_ID && i < service->file_count; i++) {
        file = service->files[i];
        if (!file || file->withdrawn || strcmp(file->name, name) != 0)
            continue;
        entry.ino = file->ino;
        serve_attributes(service, file, &entry.attr);
    }
    pthread_mutex_unlock(&service->lock);
    if (entry.ino)
        fuse_reply_entry(req, &entry);
    else
        fuse_reply_err(req, ENOENT);
}

static void serve_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct service *service = fuse_req_userdata(req);
    struct file *file = NULL;
    struct stat attributes;

    (void)fi;
    if (ino != FUSE_ROOT_ID) {
        file = service_get(service, ino);
        if (!file) {
            fuse_reply_err(req, ENODEV);
            return;
        }
    }
    serve_attributes(service, file, &attributes);
    if (file)
        service_put(file);
    fuse_reply_attr(req, &attributes, SERVICE_ATTR_TIMEOUT_S);
}

/* Times are accepted and ignored, the size that the file has is accepted; nothing else. */
static void serve_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int what,
                          struct fuse_file_info *fi)
{
    struct service *service = fuse_req_userdata(req);
    struct file *file = service_get(service, ino);
    bool refused = what & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID);

    if (file) {
        refused |= (what & FUSE_SET_ATTR_SIZE) && (uint64_t)wanted->st_size != file->size;
        service_put(file);
    }
    if (refused)
        fuse_reply_err(req, EPERM);
    else
        serve_getattr(req, ino, fi);
}

/* Answers by itself: libfuse 3.14 has no name for parallel direct writes. */
static void serve_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct service *service = fuse_req_userdata(req);
    struct file *file = service_get(service, ino);
    struct fuse_open_out out = {.fh = SERVICE_HANDLE_GUEST};
    int error = 0;

    if (!file) {
        fuse_reply_err(req, ENODEV);
        return;
    }
    if ((file->flags & DRAFTER_DEVICE_READONLY) && (fi->flags & O_ACCMODE) != O_RDONLY)
        error = EROFS;
    /* What nobody writes may be cached, too: QEMU reads a kernel in many small pieces. */
    out.open_flags = file->flags & (DRAFTER_DEVICE_MAPPED | DRAFTER_DEVICE_READONLY)
                         ? FOPEN_KEEP_CACHE
                         : FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
    pthread_mutex_lock(&service->lock);
    if (file->self_opener && file->self_opener == fuse_req_ctx(req)->pid) {
        out.fh = SERVICE_HANDLE_SELF;
        out.open_flags |= FOPEN_NOFLUSH;
    }
    pthread_mutex_unlock(&service->lock);
    service_put(file);
    if (error)
        fuse_reply_err(req, error);
    else
        fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* The names from position `offset` on that fit; returns their length in `buffer`. */
static size_t serve_list(fuse_req_t req, struct service *service, char *buffer, size_t size,
                         size_t offset)
{
    struct stat attributes;
    size_t used = 0, need;
    struct file *file;

    for (size_t i = offset; i < service->file_count; i++) {
        file = service->files[i];
        if (!file || file->withdrawn)
            continue;
        serve_attributes(service, file, &attributes);
        need = fuse_add_direntry(req, buffer + used, size - used, file->name, &attributes,
                                 (off_t)(i + 1));
        if (need > size - used)
            break;
        used += need;
    }
    return used;
}

static void serve_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                          struct fuse_file_info *fi)
{
    struct service *service = fuse_req_userdata(req);
    char *buffer = pool_buffer();
    size_t used = 0;

    (void)fi;
    if (ino != FUSE_ROOT_ID || offset < 0) {
        fuse_reply_err(req, ENOTDIR);
        return;
    }
    if (size > SERVICE_TRANSFER_MAX)
        size = SERVICE_TRANSFER_MAX;
    pthread_mutex_lock(&service->lock);
    used = serve_list(req, service, buffer, size, (size_t)offset);
    pthread_mutex_unlock(&service->lock);
    fuse_reply_buf(req, buffer, used);
}

static void serve_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct service *service = fuse_req_userdata(req);
    struct statvfs totals = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = DRAFTER_NAME_MAX};

    (void)ino;
    pthread_mutex_lock(&service->lock);
    for (size_t i = 0; i < service->file_count; i++) {
        if (!service->files[i])
            continue;
        totals.f_blocks += (service->files[i]->size + 4095) / 4096;
        totals.f_files++;
    }
    pthread_mutex_unlock(&service->lock);
    fuse_reply_statfs(req, &totals);
}

const struct fuse_lowlevel_ops serve_ops = {
    .init = serve_init,
    .lookup = serve_lookup,
    .getattr = serve_getattr,
    .setattr = serve_setattr,
    .open = serve_open,
    .read = data_read,
    .write = data_write,
    .fsync = data_fsync,
    .fallocate = data_fallocate,
    .readdir = serve_readdir,
    .statfs = serve_statfs,
};
