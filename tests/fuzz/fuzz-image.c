/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an image, or who edits its bundle, decides.  The first byte says which: a layer of a layout
 * ('l'), the owners of a bundle ('o'), its configuration ('c').  What is taken has no path that leads
 * outside, and is the same when it is written and read again.
 */
#include "image/image.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST "1111111111111111111111111111111111111111111111111111111111111111"
#define MANIFEST "2222222222222222222222222222222222222222222222222222222222222222"

static char directory[64];

static const char *in(const char *name)
{
    static char paths[2][256];
    static unsigned next;
    char *path = paths[next++ % 2];

    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

static void put(const char *name, const void *data, size_t length)
{
    int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert(fd >= 0 && write(fd, data, length) == (ssize_t)length);
    close(fd);
}

static void clean_up(void)
{
    static const char *const names[] = {"input", "output", "index.json", "blobs/sha256/" DIGEST,
                                        "blobs/sha256/" MANIFEST, NULL};

    for (const char *const *name = names; *name; name++)
        unlink(in(*name));
    rmdir(in("blobs/sha256"));
    rmdir(in("blobs"));
    rmdir(directory);
}

static void set_up(void)
{
    static const char index[] = "{\"manifests\": [{\"digest\": \"sha256:" MANIFEST "\"}]}";
    static const char manifest[] = "{\"layers\": [{\"digest\": \"sha256:" DIGEST "\"}]}";

    snprintf(directory, sizeof(directory), "%s/drafter-fuzz.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert(mkdtemp(directory));
    atexit(clean_up);
    assert(!mkdir(in("blobs"), 0700) && !mkdir(in("blobs/sha256"), 0700));
    put("index.json", index, strlen(index));
    put("blobs/sha256/" MANIFEST, manifest, strlen(manifest));
}

static void check_owners(const struct owners *owners)
{
    struct drafter_error err = {0};
    struct owners again;
    size_t said = 0;

    assert(!owners_save(in("output"), owners, &err));
    assert(!owners_load(in("output"), &again, &err));
    for (size_t i = 0; i < owners->count; i++) {
        const struct owner *owner = &owners->list[i], *found = owners_find(&again, owner->path);

        assert(*owner->path && *owner->path != '/' && !strstr(owner->path, "//"));
        assert(strcmp(owner->path, "..") && strncmp(owner->path, "../", 3) &&
               !strstr(owner->path, "/../"));
        said += found != NULL;
        assert(!found || (found->uid == owner->uid && found->gid == owner->gid &&
                          found->mode == owner->mode &&
                          found->capability_length == owner->capability_length &&
                          !memcmp(found->capability, owner->capability, found->capability_length)));
    }
    assert(said == again.count);
    owners_release(&again);
}

static void try_layer(void)
{
    struct image_job job = {.options = {.max_size = 1 << 20}};
    struct drafter_error err = {0};
    struct owners owners = {0};
    uint64_t size;

    assert(!supervisor_init(&job.supervisor, &err));
    if (image_scan_layers(&job, directory, &owners, &size, &err))
        assert(err.code && *err.message);
    else
        assert(size <= 1 << 20);
    check_owners(&owners);
    owners_release(&owners);
    supervisor_release(&job.supervisor);
}

static void try_owners(void)
{
    struct drafter_error err = {0};
    struct owners owners;

    if (owners_load(in("input"), &owners, &err)) {
        assert(err.code && *err.message);
        return;
    }
    check_owners(&owners);
    owners_release(&owners);
}

static void try_config(void)
{
    const struct image_options options = {.hostname = "guest", .ready_port = 1};
    struct drafter_error err = {0};

    if (image_convert_config(&options, in("input"), in("output"), &err))
        assert(err.code && *err.message);
    else if (image_check_config(in("output"), &err))
        assert(strstr(err.message, "names nothing to run"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!*directory)
        set_up();
    if (!size)
        return 0;
    put(*data == 'l' ? "blobs/sha256/" DIGEST : "input", data + 1, size - 1);
    switch (*data) {
    case 'l':
        try_layer();
        break;
    case 'o':
        try_owners();
        break;
    case 'c':
        try_config();
        break;
    default:
        break;
    }
    return 0;
}
