/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bundle becomes an ext4 file system.  The same bundle gives the same bytes, whoever packs it and
 * wherever.
 */
#include "image/image.h"

#include "util/cleanup.h"
#include "util/log.h"
#include "util/output.h"

#include <fts.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK 4096
#define INODE 256
#define JOURNAL_MIB 4
#define INODES_FREE 4096
#define SIZE_ROUND (UINT64_C(1) << 20)
#define GROUP_BLOCKS 32768
#define UUID "6472616e-7465-7200-8000-000000000003"
#define HASH_SEED "6472616e-7465-7200-8000-000000000004"

/* Everything that a host's mke2fs.conf could decide is said. */
#define FEATURES                                                                                   \
    "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,"     \
    "huge_file,dir_nlink,extra_isize,metadata_csum"

struct measure {
    uint64_t files, blocks, names;
};

static void measure_entry(struct measure *measure, const FTSENT *entry)
{
    const uint64_t size = (uint64_t)entry->fts_statp->st_size;

    measure->files++;
    measure->names += (entry->fts_namelen + 8 + 3u) & ~3u;
    if (entry->fts_info == FTS_D)
        measure->blocks++;
    else
        measure->blocks += (size + BLOCK - 1) / BLOCK;
}

static int measure_tree(const char *bundle, struct measure *measure, struct drafter_error *err)
{
    char *const paths[] = {(char *)bundle, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    int rc = 0;

    if (!tree)
        return drafter_error_errno(err, errno, "%s", bundle);
    while (!rc && (errno = 0, entry = fts_read(tree)) != NULL) {
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS)
            rc = drafter_error_errno(err, entry->fts_errno, "%s", entry->fts_path);
        else if (entry->fts_info != FTS_DP)
            measure_entry(measure, entry);
    }
    if (!rc && errno)
        rc = drafter_error_errno(err, errno, "%s", bundle);
    fts_close(tree);
    return rc;
}

static uint64_t inodes_of(const struct measure *measure)
{
    return measure->files + measure->files / 4 + INODES_FREE;
}

/*
 * What the bundle takes up at most: half-full directories, inodes, journal, and what groups have of
 * their own.
 */
static uint64_t bytes_needed(const struct measure *measure)
{
    uint64_t blocks = measure->blocks + measure->names * 2 / BLOCK +
                      inodes_of(measure) * INODE / BLOCK + (JOURNAL_MIB << 20) / BLOCK + 64;

    blocks += blocks / 50 + 8 * (blocks / GROUP_BLOCKS + 1);
    return blocks * BLOCK;
}

static int choose_size(const struct image_options *options, const struct measure *measure,
                       uint64_t *ret_size, struct drafter_error *err)
{
    uint64_t needed = bytes_needed(measure), size = options->size;

    if (!size && __builtin_add_overflow(needed, options->free, &size))
        size = UINT64_MAX;
    if (size < needed)
        return drafter_error_set(err, EINVAL, "--size: the bundle needs %" PRIu64 " bytes", needed);
    if (size > options->max_size)
        return drafter_error_set(err, EFBIG, "%" PRIu64 " bytes are more than --max-size", size);
    *ret_size = (size + SIZE_ROUND - 1) & ~(SIZE_ROUND - 1);
    return 0;
}

static int make_file_system(struct image_job *job, const char *bundle, const struct measure *measure,
                            int fd, struct drafter_error *err)
{
    const struct image_tool mke2fs = {"mke2fs", "e2fsprogs", -1, fd, 0};
    char path[32], inodes[24], inode[16], block[16], journal[16], now[16];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    snprintf(inodes, sizeof(inodes), "%" PRIu64, inodes_of(measure));
    snprintf(inode, sizeof(inode), "%d", INODE);
    snprintf(block, sizeof(block), "%d", BLOCK);
    snprintf(journal, sizeof(journal), "size=%d", JOURNAL_MIB);
    snprintf(now, sizeof(now), "%d", IMAGE_TIME);
    setenv("E2FSPROGS_FAKE_TIME", now, 1); /* no thread of ours reads the environment */
    return image_run(job, &mke2fs,
                     (const char *[]){"-q", "-F", "-t", "ext4", "-L", "oci", "-m", "0", "-b", block,
                                      "-I", inode, "-N", inodes, "-J", journal, "-O", FEATURES, "-U",
                                      UUID, "-E",
                                      "hash_seed=" HASH_SEED
                                      ",root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,"
                                      "nodiscard",
                                      "-d", bundle, path, NULL},
                     err);
}

static int write_file(struct image_job *job, const char *bundle, const struct owners *owners,
                      struct output *output, struct drafter_error *err)
{
    struct measure measure = {0};
    uint64_t size = 0;
    int rc = measure_tree(bundle, &measure, err);

    if (!rc)
        rc = choose_size(&job->options, &measure, &size, err);
    if (rc)
        return rc;
    log_info("image", "%s: %" PRIu64 " files, %" PRIu64 " MiB", output->path, measure.files,
             size >> 20);
    if (ftruncate(output->fd, (off_t)size))
        return drafter_error_errno(err, errno, "%s: cannot make it %" PRIu64 " bytes long",
                                   output->path, size);
    rc = make_file_system(job, bundle, &measure, output->fd, err);
    if (!rc)
        rc = image_finish_ext4(output->fd, owners, err);
    if (!rc)
        rc = output_sync(output, err);
    if (!rc)
        rc = image_check(job, err);
    return rc ? rc : output_commit(output, err);
}

int image_check_bundle(const char *bundle, struct drafter_error *err)
{
    cleanup_free char *config = image_path(bundle, IMAGE_CONFIG);
    cleanup_free char *rootfs = image_path(bundle, IMAGE_ROOTFS);
    struct stat status;

    if (!config || !rootfs)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (lstat(rootfs, &status))
        return drafter_error_errno(err, errno, "%s", rootfs);
    if (!S_ISDIR(status.st_mode))
        return drafter_error_set(err, EINVAL, "%s: no directory", rootfs);
    return image_check_config(config, err);
}

int image_pack(struct image_job *job, const char *bundle, const char *file, struct drafter_error *err)
{
    cleanup_free char *path = image_path(bundle, IMAGE_OWNERS);
    struct owners owners = {0};
    struct output output;
    int rc = path ? image_check_bundle(bundle, err) : drafter_error_set(err, ENOMEM, "out of memory");

    if (!rc)
        rc = owners_load(path, &owners, err);
    if (rc)
        return rc;
    rc = output_open(&output, file, err);
    if (!rc) {
        rc = write_file(job, bundle, &owners, &output, err);
        output_release(&output);
    }
    owners_release(&owners);
    return rc;
}

int image_build(struct image_job *job, const char *image, const char *file, struct drafter_error *err)
{
    cleanup_free char *bundle = NULL;
    char *place;
    int rc = image_workplace(file, &place, err);

    if (rc)
        return rc;
    bundle = image_path(place, "bundle");
    rc = bundle ? image_unpack(job, image, bundle, err)
                : drafter_error_set(err, ENOMEM, "out of memory");
    if (!rc)
        rc = image_pack(job, bundle, file, err);
    image_workplace_release(&place);
    return rc;
}
