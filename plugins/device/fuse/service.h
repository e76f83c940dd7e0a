/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One FUSE file system that shows the devices of one VM as files.
 *
 *   fuse.c    the operations: start, expose, withdraw, stop
 *   plugin.c  options and descriptor
 *   serve.c   names and attributes: lookup, getattr, open, readdir ...
 *   data.c    bytes: read, write, fsync, fallocate
 *   watch.c   reads whose reader was killed
 *   pool.c    the threads that read /dev/fuse
 *   cache.c   what the kernel caches of a file: dirty, sync, invalidate, populate, readahead
 *   mount.c   the mount table and the backing device info of a mount
 *   keep.c    what outlives the process: the session and who had which inode number
 *
 * Locks: service.lock, pool.lock and watch.lock, never two of them at once.  None is held across
 * I/O or a backend call.
 */
#ifndef FUSE_SERVICE_H
#define FUSE_SERVICE_H

#define FUSE_USE_VERSION 35

#include <drafter/device.h>
#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define SERVICE_TRANSFER_MAX ((size_t)1 << 20) /* max_read and max_write */
#define SERVICE_ATTR_TIMEOUT_S 86400.0

struct service_config {
    uint64_t threads;
    bool allow_other;
};

struct service;

enum read_state {
    READ_NEW = 0, /* only its worker may answer */
    READ_PENDING,
    READ_ANSWERED, /* by the watch; the request is gone */
    READ_DONE,     /* its worker answers */
};

/* A read until it is answered; `state` decides who does. */
struct read_job {
    struct service *service;
    fuse_req_t req;
    pid_t reader; /* thread */
    fuse_ino_t ino;
    size_t size;
    uint64_t offset;
    atomic_int state;            /* enum read_state */
    struct read_job *next;       /* in the pool's queue; protected by pool.lock */
    struct read_job *watch_next; /* protected by watch.lock, as `watched` is */
    bool watched;
};

struct watch {
    pthread_t thread;
    bool running; /* of the thread that starts and stops */

    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t change;
    struct read_job *first; /* reads that were interrupted */
    bool stopping;
};

struct pool {
    struct fuse_session *session;
    struct kept *kept; /* constant */
    struct worker *workers;
    unsigned worker_count; /* the filler's while it runs */
    unsigned worker_limit; /* constant */
    pthread_t filler;      /* makes the workers that a start need not wait for */
    bool filling;

    pthread_mutex_t lock; /* protects what follows */
    unsigned reads_max;   /* workers that reads may occupy */
    pthread_cond_t turn;
    unsigned receiving; /* workers in read(/dev/fuse) */
    unsigned parked;    /* workers waiting for `turn` */
    unsigned reading;   /* workers that serve reads */
    bool stopping;
    struct read_job *first, *last; /* reads that wait for a worker */
};

/* A device: a file of the mount.  Constant after expose, but for what service.lock protects. */
struct file {
    struct service *service;
    fuse_ino_t ino;
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t size;
    unsigned flags;
    struct drafter_device_backend backend;
    struct timespec born;
    int fd;      /* our own descriptor without readahead; -1 unless DRAFTER_DEVICE_MAPPED */
    int bulk_fd; /* our own descriptor with large readahead; likewise */
    _Atomic unsigned char
        *refused; /* a bit per SERVICE_TRANSFER_MAX: readahead was refused in it */

    /* protected by service.lock */
    enum drafter_device_hint hint;
    unsigned busy;     /* requests inside the backend */
    bool withdrawn;    /* no request enters the backend any more */
    pid_t self_opener; /* thread of ours that is opening the file; 0: none */
};

struct service {
    const struct service_config *config;
    const struct drafter_keeper *keeper; /* or NULL */
    struct kept *kept;                   /* constant between start or adopt and stop; or NULL */
    bool adopting;                       /* between adopt and serve */
    bool backend_punches;                /* constant; a backend's trim leaves zeros, where it shall */
    const char *id;
    char *directory;
    struct fuse_session *session;
    struct pool pool;
    struct watch watch;
    char bdi[64];          /* /sys/class/bdi/MAJOR:MINOR, "" while unknown */
    bool tracks_writeback; /* the kernel keeps pages marked until a write-back was answered */

    pthread_mutex_t lock; /* protects what follows and the marked fields of struct file */
    pthread_cond_t idle;  /* a file's busy went to zero */
    struct file **files;  /* by inode number - SERVICE_FIRST_INO; NULL once withdrawn */
    size_t file_count;
};

/* Inode numbers are never used twice, so that an old open file cannot reach a new device. */
#define SERVICE_FIRST_INO (FUSE_ROOT_ID + 1)

/*
 * The file handle in fuse_file_info.fh.  Requests on descriptors that sync() and read() opened are
 * told apart, because an fsync of our own must not reach stable storage.
 */
enum service_handle { SERVICE_HANDLE_GUEST = 0, SERVICE_HANDLE_SELF = 1 };

/* The file, with `busy` counted up, or NULL when it is gone.  Undo with service_put. */
struct file *service_get(struct service *service, fuse_ino_t ino);
void service_put(struct file *file);

/* The plugin's operations; see <drafter/plugin.h> and <drafter/device.h>.  `config` is a service_config. */
int fuse_create(const struct drafter_context *context, const void *config, void **ret_instance,
                struct drafter_error *err);
void fuse_destroy(void *instance);
int fuse_probe(const void *config, struct drafter_probe *ret_probe);
extern const struct drafter_device_ops fuse_ops;

extern const struct fuse_lowlevel_ops serve_ops;
void serve_attributes(const struct service *service, const struct file *file,
                      struct stat *ret_stat);

void data_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
               struct fuse_file_info *fi);
void data_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                struct fuse_file_info *fi);
void data_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void data_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                    struct fuse_file_info *fi);
/* On a worker: trims, and sees to it that the range reads as zeros. */
int data_punch(const struct drafter_device_backend *backend, uint64_t length, uint64_t offset);
/* Answers and frees a read; `buffer` holds SERVICE_TRANSFER_MAX bytes. */
void data_run(struct read_job *job, void *buffer);

int pool_start(struct pool *pool, struct fuse_session *session, struct kept *kept,
               unsigned reads_max, struct drafter_error *err);
/* Ends the threads; false when some were inside a backend at the deadline and had to be left. */
bool pool_stop(struct pool *pool, unsigned timeout_ms);
/* True: the calling worker runs the read now.  False: it was queued for a worker that reads. */
bool pool_claim(struct pool *pool, struct read_job *job);
/* After a read: the next one for this worker, or NULL, which ends its claim. */
struct read_job *pool_next(struct pool *pool);
/* Lets the watch answer a read, and takes that back: true when the caller has to answer it. */
void watch_begin(struct read_job *job);
bool watch_end(struct read_job *job);
int watch_start(struct watch *watch, struct drafter_error *err);
void watch_stop(struct watch *watch);

/* The calling worker's buffer of SERVICE_TRANSFER_MAX bytes, page-aligned. */
void *pool_buffer(void);

int cache_sync(void *exposure, struct drafter_error *err);
int cache_clean(void *exposure, uint64_t offset, uint64_t length);
int cache_dirty(void *exposure, uint64_t *bitmap, uint64_t pages, struct drafter_error *err);
int cache_read(void *exposure, void *buffer, size_t length, uint64_t offset);
int cache_invalidate(void *exposure, uint64_t offset, uint64_t length);
int cache_populate(void *exposure, uint64_t offset, uint64_t length);

/* Makes the memory that outlives the process and puts the session's descriptor beside it. */
int keep_begin(struct service *service, struct drafter_error *err);
/* Finds what a dead process left; *ret_fd is the session's descriptor. */
int keep_find(struct service *service, int *ret_fd, struct drafter_error *err);
void keep_end(struct service *service);
/* Notes the kernel's greeting, of which libfuse knows what both sides can do. */
void keep_greeting(struct kept *kept, const void *request, size_t length);
/* Lets a new libfuse session hear the greeting of the old one. */
int keep_replay(struct service *service, struct drafter_error *err);
/* Has the kernel send again what a dead process took and did not answer. */
int keep_resend(struct service *service, struct drafter_error *err);
/* Notes the inode number that a file has; -ENODEV: the dead process had no such file. */
int keep_add(struct service *service, const struct file *file);
int keep_number(struct service *service, struct file *file);
size_t keep_count(const struct service *service);
void keep_remove(struct service *service, const struct file *file);

/* The absolute path without looking at its last component, which may be a dead mount; or NULL. */
char *mount_resolve(const char *directory);
bool mount_is_ours(const char *directory);
int mount_remove(const char *directory);
void mount_tune(struct service *service);
void mount_readahead(const struct service *service, unsigned kib);

#endif
