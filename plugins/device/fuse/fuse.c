/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as files of a FUSE file system, one mount per VM.
 *
 * A device that will be mapped goes through the page cache: the guest's memory is those pages.  All
 * others are opened for direct I/O, so nothing of them is stale after a migration.
 */
#include "../pages.h"
#include "service.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FUSE_STOP_TIMEOUT_MS 5000
#define FUSE_WITHDRAW_REMARK_S 10
#define FUSE_READAHEAD_SPARSE_KIB 0
#define FUSE_READAHEAD_COMPLETE_KIB 1024

static void fuse_forward_log(enum fuse_log_level level, const char *format, va_list arguments)
{
    char text[256];

    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    drafter_log(level <= FUSE_LOG_ERR ? DRAFTER_LOG_WARNING : DRAFTER_LOG_DEBUG, "libfuse", "%s",
                text);
}

int fuse_create(const struct drafter_context *context, const void *config, void **ret_instance,
                struct drafter_error *err)
{
    struct service *service = calloc(1, sizeof(*service));

    if (!service)
        return drafter_error_set(err, ENOMEM, "no memory");
    service->config = config;
    service->id = context->id;
    service->keeper = context->keeper;
    pthread_mutex_init(&service->lock, NULL);
    pthread_cond_init(&service->idle, NULL);
    fuse_set_log_func(fuse_forward_log); /* libfuse has one per process; it is the same for all */
    *ret_instance = service;
    return 0;
}

/*
 * Ends the service.  The connection is aborted before anything is unmounted: an unmount writes
 * dirty pages back and would wait for us.  A thread that is inside a backend keeps what it uses.
 */
static void fuse_stop(void *instance)
{
    struct service *service = instance;
    bool ended;

    if (!service->directory)
        return;
    ended = pool_stop(&service->pool, FUSE_STOP_TIMEOUT_MS);
    watch_stop(&service->watch);
    umount2(service->directory, MNT_FORCE | UMOUNT_NOFOLLOW);
    fuse_session_unmount(service->session);
    if (mount_remove(service->directory) < 0)
        drafter_log(DRAFTER_LOG_WARNING, service->id, "%s: cannot unmount", service->directory);
    if (ended)
        fuse_session_destroy(service->session);
    else
        drafter_log(DRAFTER_LOG_WARNING, service->id,
                    "%s: reads of a backend did not return; their threads are left behind",
                    service->directory);
    service->session = ended ? NULL : service->session;
    free(service->directory);
    service->directory = NULL;
    if (ended)
        keep_end(service);
}

void fuse_destroy(void *instance)
{
    struct service *service = instance;

    if (!service)
        return;
    if (service->directory)
        fuse_stop(service);
    if (service->session)
        return; /* threads were left behind */
    free(service->files);
    pthread_cond_destroy(&service->idle);
    pthread_mutex_destroy(&service->lock);
    free(service);
}

int fuse_probe(const void *config, struct drafter_probe *ret_probe)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    (void)config;
    ret_probe->usable = fd >= 0;
    if (fd >= 0) {
        close(fd);
        if (geteuid() != 0)
            snprintf(ret_probe->reason, sizeof(ret_probe->reason),
                     "without root, mounts go through fusermount3 and writers may be throttled");
        return 0;
    }
    snprintf(ret_probe->reason, sizeof(ret_probe->reason), "/dev/fuse: %s", strerror(errno));
    snprintf(ret_probe->remedy, sizeof(ret_probe->remedy), "%s",
             errno == EACCES || errno == EPERM
                 ? "run as root, or give this user access to /dev/fuse"
                 : "load the kernel module: modprobe fuse; in a container, pass /dev/fuse in");
    return 0;
}

/* True when a page stays marked until its FUSE write was answered: Linux 6.16, with cachestat. */
static bool fuse_kernel_tracks_writeback(void)
{
    unsigned major_version = 0, minor_version = 0;
    struct utsname name;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major_version, &minor_version) != 2)
        return false;
    if (!pages_countable())
        return false;
    return major_version > 6 || (major_version == 6 && minor_version >= 16);
}

static struct fuse_session *fuse_session_make(struct service *service)
{
    char options[128];
    char *argv[] = {(char *)"drafter", (char *)"-o", options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fuse_session *session;

    snprintf(options, sizeof(options), "fsname=drafter,subtype=drafter,max_read=%zu%s",
             SERVICE_TRANSFER_MAX, service->config->allow_other ? ",allow_other" : "");
    session = fuse_session_new(&args, &serve_ops, sizeof(serve_ops), service);
    fuse_opt_free_args(&args);
    return session;
}

static int fuse_start(void *instance, const char *directory, struct drafter_error *err)
{
    struct service *service = instance;

    if (service->session)
        return drafter_error_set(err, EALREADY, "%s: already serves %s", service->id,
                                 service->directory);
    service->directory = realpath(directory, NULL);
    if (!service->directory)
        return drafter_error_errno(err, errno, "%s", directory);
    service->tracks_writeback = fuse_kernel_tracks_writeback();
    service->session = fuse_session_make(service);
    if (!service->session || fuse_session_mount(service->session, service->directory) < 0) {
        if (service->session)
            fuse_session_destroy(service->session);
        service->session = NULL;
        free(service->directory);
        service->directory = NULL;
        return drafter_error_set(err, EIO,
                                 "%s: cannot mount a FUSE file system (needs /dev/fuse and "
                                 "root or fusermount3)",
                                 directory);
    }
    if (keep_begin(service, err) < 0 || watch_start(&service->watch, err) < 0 ||
        pool_start(&service->pool, service->session, service->kept,
                   (unsigned)service->config->threads, err) < 0) {
        fuse_stop(service); /* takes half a pool, too */
        return drafter_error_wrap(err, "%s", directory);
    }
    mount_tune(service);
    return 0;
}

static struct file *fuse_file_new(struct service *service, const struct drafter_device_spec *spec)
{
    struct file *file = calloc(1, sizeof(*file));

    if (!file)
        return NULL;
    *file = (struct file){.service = service,
                          .size = spec->size,
                          .flags = spec->flags,
                          .fd = -1,
                          .bulk_fd = -1,
                          .hint = DRAFTER_DEVICE_SPARSE};
    memcpy(&file->backend, &spec->backend,
           spec->backend.struct_size && spec->backend.struct_size < sizeof(file->backend)
               ? spec->backend.struct_size
               : sizeof(file->backend));
    file->refused = calloc(spec->size / SERVICE_TRANSFER_MAX / 8 + 1, 1);
    if (!file->refused) {
        free(file);
        return NULL;
    }
    snprintf(file->name, sizeof(file->name), "%s", spec->name);
    clock_gettime(CLOCK_REALTIME, &file->born);
    return file;
}

/* Enters the file in the table: from here on it can be seen. */
static int fuse_file_add(struct service *service, struct file *file)
{
    struct file **grown;
    int result = 0;

    pthread_mutex_lock(&service->lock);
    for (size_t i = 0; i < service->file_count; i++) {
        if (service->files[i] && strcmp(service->files[i]->name, file->name) == 0)
            result = -EEXIST;
    }
    grown = result < 0
                ? NULL
                : reallocarray(service->files, service->file_count + 1, sizeof(*service->files));
    if (grown) {
        service->files = grown;
        file->ino = SERVICE_FIRST_INO + service->file_count;
        result = keep_add(service, file);
    } else if (result == 0) {
        result = -ENOMEM;
    }
    if (result == 0)
        grown[service->file_count++] = file;
    pthread_mutex_unlock(&service->lock);
    return result;
}

/* Nothing is served yet: no lock. */
static int fuse_file_adopt(struct service *service, struct file *file)
{
    int result = keep_number(service, file);

    if (result == 0 && service->files[file->ino - SERVICE_FIRST_INO])
        result = -EEXIST;
    if (result == 0)
        service->files[file->ino - SERVICE_FIRST_INO] = file;
    return result;
}

/* Sets the readahead that files opened from now on get: small while a mapped device is sparse. */
static void fuse_update_readahead(struct service *service)
{
    unsigned kib = FUSE_READAHEAD_COMPLETE_KIB;
    struct file *file;

    pthread_mutex_lock(&service->lock);
    for (size_t i = 0; i < service->file_count; i++) {
        file = service->files[i];
        if (file && (file->flags & DRAFTER_DEVICE_MAPPED) && file->hint == DRAFTER_DEVICE_SPARSE)
            kib = FUSE_READAHEAD_SPARSE_KIB;
    }
    pthread_mutex_unlock(&service->lock);
    mount_readahead(service, kib);
}

static int fuse_open_self(struct file *file, const char *path)
{
    int flags = (file->flags & DRAFTER_DEVICE_READONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    struct service *service = file->service;
    int result = 0;

    pthread_mutex_lock(&service->lock);
    file->self_opener = gettid();
    pthread_mutex_unlock(&service->lock);
    /* A descriptor keeps the readahead that the mount had when it was opened. */
    mount_readahead(service, FUSE_READAHEAD_COMPLETE_KIB);
    file->bulk_fd = open(path, flags);
    if (file->bulk_fd >= 0)
        file->fd = open(path, flags);
    if (file->fd < 0)
        result = -errno;
    else
        posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
    pthread_mutex_lock(&service->lock);
    file->self_opener = 0;
    pthread_mutex_unlock(&service->lock);
    return result;
}

/* Waits until no request is inside the backend: the core may free it afterwards. */
static void fuse_file_drain(struct file *file)
{
    struct service *service = file->service;
    struct timespec remark;
    bool said = false;

    clock_gettime(CLOCK_REALTIME, &remark);
    remark.tv_sec += FUSE_WITHDRAW_REMARK_S;
    pthread_mutex_lock(&service->lock);
    file->withdrawn = true;
    while (file->busy > 0) {
        if (said) {
            pthread_cond_wait(&service->idle, &service->lock);
        } else if (pthread_cond_timedwait(&service->idle, &service->lock, &remark) == ETIMEDOUT) {
            said = true;
            drafter_log(DRAFTER_LOG_WARNING, service->id,
                        "%s: %u requests still wait for the device that is being withdrawn",
                        file->name, file->busy);
        }
    }
    pthread_mutex_unlock(&service->lock);
}

static void fuse_withdraw(void *exposure)
{
    struct file *file = exposure;
    struct service *service = file->service;

    fuse_file_drain(file);
    fuse_lowlevel_notify_inval_entry(service->session, FUSE_ROOT_ID, file->name,
                                     strlen(file->name));
    fuse_lowlevel_notify_inval_inode(service->session, file->ino, 0, 0);
    if (file->fd >= 0)
        close(file->fd);
    if (file->bulk_fd >= 0)
        close(file->bulk_fd);
    pthread_mutex_lock(&service->lock);
    service->files[file->ino - SERVICE_FIRST_INO] = NULL;
    keep_remove(service, file);
    pthread_mutex_unlock(&service->lock);
    free((void *)file->refused);
    free(file);
    fuse_update_readahead(service);
}

static int fuse_expose(void *instance, const struct drafter_device_spec *spec, char *path,
                       size_t path_size, void **ret_exposure, struct drafter_error *err)
{
    struct service *service = instance;
    struct file *file;
    int result;

    if (!service->session)
        return drafter_error_set(err, EINVAL, "%s: not started", service->id);
    if ((size_t)snprintf(path, path_size, "%s/%s", service->directory, spec->name) >= path_size)
        return drafter_error_set(err, ENAMETOOLONG, "%s: the path of the device is too long",
                                 spec->name);
    file = fuse_file_new(service, spec);
    if (!file)
        return drafter_error_set(err, ENOMEM, "%s: no memory", spec->name);
    result = service->adopting ? fuse_file_adopt(service, file) : fuse_file_add(service, file);
    if (result < 0) {
        free((void *)file->refused);
        free(file);
        return drafter_error_errno(err, -result, "%s: cannot expose the device", spec->name);
    }
    if (spec->flags & DRAFTER_DEVICE_MAPPED && !service->adopting)
        result = fuse_open_self(file, path);
    if (result < 0) {
        fuse_withdraw(file);
        return drafter_error_errno(err, -result, "%s: cannot open the exposed file", path);
    }
    fuse_update_readahead(service);
    *ret_exposure = file;
    return 0;
}

/* Nothing may look into the mount here: nobody would answer. */
static int fuse_adopt(void *instance, const char *directory, struct drafter_error *err)
{
    struct service *service = instance;
    char path[32];
    int fd, result;

    if (service->session)
        return drafter_error_set(err, EALREADY, "%s: already serves %s", service->id,
                                 service->directory);
    result = keep_find(service, &fd, err);
    if (result < 0)
        return result;
    service->tracks_writeback = fuse_kernel_tracks_writeback();
    service->directory = mount_resolve(directory);
    service->session = fuse_session_make(service);
    service->file_count = keep_count(service);
    service->files = calloc(service->file_count + 1, sizeof(*service->files));
    snprintf(path, sizeof(path), "/dev/fd/%d", fd);
    if (!service->directory || !service->files || !service->session ||
        fuse_session_mount(service->session, path) < 0) {
        close(fd);
        return drafter_error_set(err, EIO, "%s: cannot take its session over", directory);
    }
    service->adopting = true;
    return keep_replay(service, err);
}

static int fuse_open_adopted(struct service *service, struct drafter_error *err)
{
    for (size_t i = 0; i < service->file_count; i++) {
        struct file *file = service->files[i];
        char path[PATH_MAX];
        int result;

        if (!file || !(file->flags & DRAFTER_DEVICE_MAPPED))
            continue;
        snprintf(path, sizeof(path), "%s/%s", service->directory, file->name);
        result = fuse_open_self(file, path);
        if (result < 0)
            return drafter_error_errno(err, -result, "%s: cannot open the exposed file", path);
    }
    return 0;
}

static int fuse_serve(void *instance, struct drafter_error *err)
{
    struct service *service = instance;
    int result;

    if (!service->adopting)
        return drafter_error_set(err, EINVAL, "%s: nothing was adopted", service->id);
    result = watch_start(&service->watch, err);
    if (result == 0)
        result = pool_start(&service->pool, service->session, service->kept,
                            (unsigned)service->config->threads, err);
    if (result == 0)
        result = keep_resend(service, err);
    if (result < 0)
        return drafter_error_wrap(err, "%s", service->directory);
    service->adopting = false;
    mount_tune(service);
    result = fuse_open_adopted(service, err);
    fuse_update_readahead(service);
    return result;
}

static void fuse_hint(void *exposure, enum drafter_device_hint hint)
{
    struct file *file = exposure;

    pthread_mutex_lock(&file->service->lock);
    file->hint = hint;
    pthread_mutex_unlock(&file->service->lock);
    fuse_update_readahead(file->service);
}

/*
 * Removes a mount whose process is gone.  A dead connection answers statfs with ENOTCONN; one that
 * answers anything else is somebody's.
 */
static int fuse_reclaim(void *instance, const char *directory, struct drafter_error *err)
{
    struct statfs status;
    int result;

    (void)instance;
    if (!mount_is_ours(directory))
        return 0;
    if (statfs(directory, &status) == 0 || (errno != ENOTCONN && errno != ECONNABORTED))
        return drafter_error_set(err, EBUSY, "%s: another process serves it", directory);
    result = mount_remove(directory);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: cannot unmount what a dead process left",
                                   directory);
    return 0;
}

const struct drafter_device_ops fuse_ops = {
    .start = fuse_start,
    .expose = fuse_expose,
    .sync = cache_sync,
    .dirty = cache_dirty,
    .read = cache_read,
    .invalidate = cache_invalidate,
    .hint = fuse_hint,
    .populate = cache_populate,
    .withdraw = fuse_withdraw,
    .stop = fuse_stop,
    .reclaim = fuse_reclaim,
    .adopt = fuse_adopt,
    .serve = fuse_serve,
    .clean = cache_clean,
};
