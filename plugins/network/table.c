/* SPDX-License-Identifier: BSD-2-Clause */
#include "table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TIMEOUT_NS UINT64_C(2000000000)
#define WAIT_TIMEOUT_NS UINT64_C(10000000000)
#define LOCK_POLL_NS 20000

/* Bytes that locks are on; the file need not be that long. */
#define LOCK_BYTE 0
#define LOCK_MAKER_BYTE 1
#define LOCK_RULES_BYTE 2
#define LOCK_SLOT_BYTE (1 << 20)
#define LOCK_FORWARD_BYTE (1 << 21)

static off_t lock_byte(enum table_lock_kind kind, uint32_t number)
{
    switch (kind) {
    case TABLE_LOCK_MAKER:
        return LOCK_MAKER_BYTE;
    case TABLE_LOCK_RULES:
        return LOCK_RULES_BYTE;
    case TABLE_LOCK_SLOT:
        return LOCK_SLOT_BYTE + (off_t)number;
    default:
        return LOCK_FORWARD_BYTE + (off_t)number;
    }
}

static int lock_call(int fd, int command, short type, off_t byte)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, command, &lock) < 0)
        return -errno;
    return command == F_OFD_GETLK && lock.l_type != F_UNLCK;
}

static int lock_fd(const struct table *table, enum table_lock_kind kind)
{
    return kind == TABLE_LOCK_SLOT ? table->slots_fd : table->fd;
}

bool table_take(struct table *table, enum table_lock_kind kind, uint32_t number)
{
    return lock_call(lock_fd(table, kind), F_OFD_SETLK, F_WRLCK, lock_byte(kind, number)) == 0;
}

void table_drop(struct table *table, enum table_lock_kind kind, uint32_t number)
{
    lock_call(lock_fd(table, kind), F_OFD_SETLK, F_UNLCK, lock_byte(kind, number));
}

/* A failure to ask counts as taken: nobody's slot is given away by it. */
bool table_taken(const struct table *table, enum table_lock_kind kind, uint32_t number)
{
    return lock_call(lock_fd(table, kind), F_OFD_GETLK, F_WRLCK, lock_byte(kind, number)) != 0;
}

bool table_mine(const struct table *table, uint32_t slot)
{
    return lock_call(table->fd, F_OFD_GETLK, F_WRLCK, lock_byte(TABLE_LOCK_SLOT, slot)) > 0 &&
           !table_taken(table, TABLE_LOCK_SLOT, slot);
}

bool table_inherit(struct table *table, int slots_fd)
{
    struct stat mine, its;

    if (fstat(table->fd, &mine) < 0 || fstat(slots_fd, &its) < 0 || mine.st_ino != its.st_ino ||
        mine.st_dev != its.st_dev)
        return false;
    close(table->slots_fd);
    table->slots_fd = slots_fd;
    return true;
}

static int wait_byte(struct table *table, off_t byte, uint64_t timeout_ns,
                     struct drafter_error *err)
{
    uint64_t end = drafter_now_ns() + timeout_ns;
    struct timespec pause = {.tv_nsec = LOCK_POLL_NS};
    int ret;

    while ((ret = lock_call(table->fd, F_OFD_SETLK, F_WRLCK, byte)) < 0) {
        if (ret != -EAGAIN && ret != -EACCES && ret != -EINTR)
            return drafter_error_errno(err, -ret, "%s: lock", table->path);
        if (drafter_now_ns() > end)
            return drafter_error_set(err, EBUSY, "%s: another process keeps it locked",
                                     table->path);
        nanosleep(&pause, NULL);
    }
    return 0;
}

int table_lock(struct table *table, struct drafter_error *err)
{
    return wait_byte(table, LOCK_BYTE, LOCK_TIMEOUT_NS, err);
}

int table_wait(struct table *table, enum table_lock_kind kind, struct drafter_error *err)
{
    return wait_byte(table, lock_byte(kind, 0), WAIT_TIMEOUT_NS, err);
}

void table_unlock(struct table *table)
{
    lock_call(table->fd, F_OFD_SETLK, F_UNLCK, LOCK_BYTE);
}

static int make_directories(const char *directory, struct drafter_error *err)
{
    char *path = strdup(directory);
    int ret = 0;

    if (!path)
        return drafter_error_set(err, ENOMEM, "%s: no memory", directory);
    for (char *slash = path; slash && ret == 0;) {
        slash = strchr(slash + 1, '/');
        if (slash)
            *slash = '\0';
        if (mkdir(path, slash ? 0755 : 0700) < 0 && errno != EEXIST)
            ret = drafter_error_errno(err, errno, "state-directory %s", path);
        if (slash)
            *slash = '/';
    }
    free(path);
    return ret;
}

/* Whoever may write there decides what is removed from the host. */
static int check_owner(int fd, const char *path, struct drafter_error *err)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return drafter_error_errno(err, errno, "%s", path);
    if (!S_ISREG(status.st_mode) || (status.st_uid != 0 && status.st_uid != geteuid()) ||
        (status.st_mode & 022))
        return drafter_error_set(err, EPERM,
                                 "%s: not a file that its owner, root or this user, alone can write",
                                 path);
    return 0;
}

static int check_header(const struct table *table, struct drafter_error *err)
{
    const struct table_header *header = &table->file->header;

    if (memcmp(header->magic, TABLE_MAGIC, sizeof(header->magic)) != 0 ||
        header->size != sizeof(struct table_file) || header->state > TABLE_GONE ||
        !memchr(header->backend, '\0', sizeof(header->backend)) ||
        !memchr(header->boot, '\0', sizeof(header->boot)))
        return drafter_error_set(err, EINVAL,
                                 "%s: not the state of a pool, or of another version of drafter",
                                 table->path);
    if (header->state != TABLE_EMPTY && !layout_valid(&header->layout))
        return drafter_error_set(err, EINVAL, "%s: the state of the pool is damaged", table->path);
    return 0;
}

/* A new file gets its size and magic under the lock, so that nobody sees it half made. */
static int map_file(struct table *table, bool create, struct drafter_error *err)
{
    struct stat status;
    int ret = table_lock(table, err);

    if (ret < 0)
        return ret;
    if (fstat(table->fd, &status) < 0)
        ret = drafter_error_errno(err, errno, "%s", table->path);
    else if (create && status.st_size == 0 &&
             ftruncate(table->fd, sizeof(struct table_file)) < 0)
        ret = drafter_error_errno(err, errno, "%s", table->path);
    else if (!(create && status.st_size == 0) && status.st_size != sizeof(struct table_file))
        ret = drafter_error_set(err, EINVAL, "%s: not the state of a pool", table->path);
    if (ret == 0) {
        table->file = mmap(NULL, sizeof(struct table_file), PROT_READ | PROT_WRITE, MAP_SHARED,
                           table->fd, 0);
        if (table->file == MAP_FAILED) {
            table->file = NULL;
            ret = drafter_error_errno(err, errno, "%s: map", table->path);
        }
    }
    if (ret == 0 && create && status.st_size == 0) {
        table->file->header.size = sizeof(struct table_file);
        memcpy(table->file->header.magic, TABLE_MAGIC, sizeof(table->file->header.magic));
    }
    if (ret == 0)
        ret = check_header(table, err);
    table_unlock(table);
    return ret;
}

/* Another open file: table_lock must not outlive a process that is killed with it. */
static int open_again(struct table *table, struct drafter_error *err)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", table->fd);
    table->slots_fd = open(path, O_RDWR | O_CLOEXEC);
    return table->slots_fd < 0 ? drafter_error_errno(err, errno, "%s", table->path) : 0;
}

int table_open(struct table *table, const char *directory, const char *prefix, bool create,
               struct drafter_error *err)
{
    struct table opened = TABLE_INIT;
    int ret = create ? make_directories(directory, err) : 0;

    if (ret < 0)
        return ret;
    if (asprintf(&opened.path, "%s/%s.pool", directory, prefix) < 0)
        return drafter_error_set(err, ENOMEM, "no memory");
    opened.fd = open(opened.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
    if (opened.fd < 0 && errno == ENOENT)
        ret = drafter_error_set(err, ENOENT, "there is no pool \"%s\" in %s: nobody made one",
                                prefix, directory);
    else if (opened.fd < 0)
        ret = drafter_error_errno(err, errno, "%s", opened.path);
    if (ret == 0)
        ret = check_owner(opened.fd, opened.path, err);
    if (ret == 0)
        ret = open_again(&opened, err);
    if (ret == 0)
        ret = map_file(&opened, create, err);
    if (ret < 0) {
        table_close(&opened);
        return ret;
    }
    *table = opened;
    return 0;
}

void table_close(struct table *table)
{
    if (table->file)
        munmap(table->file, sizeof(struct table_file));
    if (table->fd >= 0)
        close(table->fd);
    if (table->slots_fd >= 0)
        close(table->slots_fd);
    free(table->path);
    *table = (struct table)TABLE_INIT;
}

bool table_current(const struct table *table)
{
    struct stat mine, now;

    return table->file && table->file->header.state != TABLE_GONE &&
           fstat(table->fd, &mine) == 0 && stat(table->path, &now) == 0 &&
           mine.st_ino == now.st_ino && mine.st_dev == now.st_dev;
}

void table_clear(struct table *table)
{
    struct table_file *file = table->file;
    off_t begin = offsetof(struct table_file, slots);

    /* Zeroes and gives the memory back; where a file system cannot, zeroing has to do. */
    if (fallocate(table->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin,
                  (off_t)sizeof(*file) - begin) < 0)
        memset((char *)file + begin, 0, sizeof(*file) - (size_t)begin);
    memset(&file->header.layout, 0, sizeof(file->header.layout));
    file->header.state = TABLE_EMPTY;
}

void table_unlink(struct table *table)
{
    table->file->header.state = TABLE_GONE;
    unlink(table->path);
}

uint32_t table_hash(const char *owner)
{
    uint32_t hash = UINT32_C(2166136261);

    for (; *owner; owner++)
        hash = (hash ^ (unsigned char)*owner) * UINT32_C(16777619);
    return hash;
}
