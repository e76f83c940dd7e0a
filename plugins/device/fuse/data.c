/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes of the files: requests that reach the backend. */
#include "service.h"

#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

/* -EIO for a file that is gone, else what the backend says; at most to the end of the device. */
static int data_read_backend(struct read_job *job, void *buffer, size_t *ret_length)
{
    struct file *file = service_get(job->service, job->ino);
    size_t length = job->size;
    int result = 0;

    if (!file)
        return -EIO;
    if (job->offset >= file->size)
        length = 0;
    else if (length > file->size - job->offset)
        length = (size_t)(file->size - job->offset);
    if (length > 0)
        result = file->backend.read(file->backend.opaque, buffer, length, job->offset);
    *ret_length = length;
    service_put(file);
    return result;
}

void data_run(struct read_job *job, void *buffer)
{
    size_t length = 0;
    int result = -EINTR;

    if (atomic_load(&job->state) != READ_ANSWERED)
        result = data_read_backend(job, buffer, &length);
    if (watch_end(job)) {
        if (result < 0)
            fuse_reply_err(job->req, -result);
        else
            fuse_reply_buf(job->req, buffer, length);
    }
    free(job);
}

static void data_note_refusal(struct file *file, uint64_t offset, size_t size)
{
    uint64_t first = offset / SERVICE_TRANSFER_MAX, end = offset + size;

    if (end > file->size)
        end = file->size;
    for (uint64_t step = first; step <= (end - 1) / SERVICE_TRANSFER_MAX; step++)
        atomic_fetch_or(&file->refused[step / 8], (unsigned char)(1u << step % 8));
}

/*
 * Readahead of a device with missing blocks would make a fault wait for all of it, so it is
 * refused: the kernel then asks for the one page that was faulted on.  Our own setting of no
 * readahead is not enough, because a mapping with MADV_HUGEPAGE (QEMU's) reads 4 MiB ahead whatever
 * the setting.
 */
static bool data_refuses_readahead(struct service *service, fuse_ino_t ino, size_t size,
                                   uint64_t offset)
{
    struct file *file = service_get(service, ino);
    bool sparse;

    if (!file)
        return false;
    pthread_mutex_lock(&service->lock);
    sparse = (file->flags & DRAFTER_DEVICE_MAPPED) && file->hint == DRAFTER_DEVICE_SPARSE;
    pthread_mutex_unlock(&service->lock);
    if (sparse && file->backend.present && offset < file->size)
        sparse = !file->backend.present(
            file->backend.opaque, size < file->size - offset ? size : file->size - offset, offset);
    if (sparse && offset < file->size)
        data_note_refusal(file, offset, size);
    service_put(file);
    return sparse;
}

void data_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct service *service = fuse_req_userdata(req);
    struct read_job *job = NULL;

    if (size > DRAFTER_PAGE_SIZE && fi->fh != SERVICE_HANDLE_SELF && offset >= 0 &&
        data_refuses_readahead(service, ino, size, (uint64_t)offset)) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    if (offset >= 0 && size <= SERVICE_TRANSFER_MAX)
        job = calloc(1, sizeof(*job));
    if (!job) {
        fuse_reply_err(req, offset < 0 || size > SERVICE_TRANSFER_MAX ? EINVAL : ENOMEM);
        return;
    }
    *job = (struct read_job){.service = service,
                             .req = req,
                             .reader = fuse_req_ctx(req)->pid,
                             .ino = ino,
                             .size = size,
                             .offset = (uint64_t)offset};
    watch_begin(job);
    if (!pool_claim(&service->pool, job))
        return;
    do {
        data_run(job, pool_buffer());
        job = pool_next(&service->pool);
    } while (job);
}

static int data_write_backend(struct file *file, const char *data, size_t *length, uint64_t offset,
                              bool write_back)
{
    if (file->flags & DRAFTER_DEVICE_READONLY)
        return -EROFS;
    if (offset >= file->size)
        return write_back ? 0 : -ENOSPC;
    if (*length > file->size - offset)
        *length = (size_t)(file->size - offset);
    return file->backend.write(file->backend.opaque, data, *length, offset);
}

void data_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                struct fuse_file_info *fi)
{
    struct file *file = service_get(fuse_req_userdata(req), ino);
    size_t length = size;
    int result = -EINVAL;

    if (!file) {
        fuse_reply_err(req, EIO);
        return;
    }
    if (offset >= 0)
        result = data_write_backend(file, data, &length, (uint64_t)offset, fi->writepage);
    service_put(file);
    if (result < 0)
        fuse_reply_err(req, -result);
    else
        fuse_reply_write(req, fi->writepage ? size : length);
}

void data_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct file *file;
    int result = 0;

    (void)datasync;
    /* The kernel wrote back before it asked; our own descriptors want no more than that. */
    if (fi && fi->fh == SERVICE_HANDLE_SELF) {
        fuse_reply_err(req, 0);
        return;
    }
    file = service_get(fuse_req_userdata(req), ino);
    if (!file) {
        fuse_reply_err(req, EIO);
        return;
    }
    if (file->backend.flush)
        result = file->backend.flush(file->backend.opaque);
    service_put(file);
    fuse_reply_err(req, -result);
}

static bool data_is_zero(const struct drafter_device_backend *backend, char *buffer, size_t length,
                         uint64_t offset)
{
    if (backend->present && !backend->present(backend->opaque, length, offset))
        return false;
    return backend->read(backend->opaque, buffer, length, offset) == 0 && buffer[0] == 0 &&
           memcmp(buffer, buffer + 1, length - 1) == 0;
}

/*
 * A trim is a hint, and may leave anything behind.  A hole reads as zeros: QEMU punches one for a guest
 * that wants just that.  So zeros are written wherever the trim did not leave them.
 */
int data_punch(const struct drafter_device_backend *backend, uint64_t length, uint64_t offset)
{
    int result = backend->trim(backend->opaque, length, offset);
    char *buffer = pool_buffer();

    while (result == 0 && length > 0) {
        size_t part = SERVICE_TRANSFER_MAX - (size_t)(offset % SERVICE_TRANSFER_MAX);

        if (part > length)
            part = (size_t)length;
        if (!data_is_zero(backend, buffer, part, offset)) {
            memset(buffer, 0, part);
            result = backend->write(backend->opaque, buffer, part, offset);
        }
        offset += part;
        length -= part;
    }
    return result;
}

static int data_trim(struct file *file, int mode, uint64_t offset, uint64_t length)
{
    if (offset > file->size || length > file->size - offset)
        return -EFBIG;
    if (file->flags & DRAFTER_DEVICE_READONLY)
        return -EROFS;
    if (mode == 0)
        return 0; /* the space is there */
    if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || !file->backend.trim)
        return -EOPNOTSUPP;
    return file->service->backend_punches
               ? file->backend.trim(file->backend.opaque, length, offset)
               : data_punch(&file->backend, length, offset);
}

void data_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                    struct fuse_file_info *fi)
{
    struct file *file = service_get(fuse_req_userdata(req), ino);
    int result = -EINVAL;

    (void)fi;
    if (!file) {
        fuse_reply_err(req, EIO);
        return;
    }
    if (offset >= 0 && length > 0)
        result = data_trim(file, mode, (uint64_t)offset, (uint64_t)length);
    service_put(file);
    fuse_reply_err(req, -result);
}
