/* SPDX-License-Identifier: BSD-2-Clause */
#include "state.h"
#include "util/cleanup.h"
#include "util/io.h"
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

static int memory_file(uint64_t size, struct drafter_error *err)
{
    cleanup_close int fd = memfd_create("drafter-vmm-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return drafter_error_errno(err, errno, "cannot make a memory file for the device state");
    return steal_fd(&fd);
}

int state_create(int *ret_fd, struct drafter_error *err)
{
    int fd = memory_file(STATE_MAX, err);

    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

int state_write(const char *magic, int memory_fd, int fd, struct drafter_error *err)
{
    off_t end = lseek(memory_fd, 0, SEEK_CUR);
    size_t length = STATE_HEADER + (size_t)end;
    uint64_t stream_length = htole64((uint64_t)end);
    cleanup_free char *data = NULL;
    int result;

    if (end <= 0 || (uint64_t)end > STATE_MAX)
        return drafter_error_set(err, EIO, "the VMM wrote no device state");
    data = malloc(length);
    if (!data)
        return drafter_error_errno(err, ENOMEM, "device state");
    memcpy(data, magic, STATE_MAGIC);
    memcpy(data + STATE_MAGIC, &stream_length, sizeof(stream_length));
    result = io_pread_full(memory_fd, data + STATE_HEADER, (size_t)end, 0);
    if (result == 0)
        result = io_write_full(fd, data, length);
    return result < 0 ? drafter_error_errno(err, -result, "cannot write the device state") : 0;
}

/* Fills the memory file with what was read already and the rest of its length from `fd`. */
static int copy_in(int fd, int memory_fd, const char *begin, size_t begun, size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    int result;

    if (memory == MAP_FAILED)
        return -errno;
    memcpy(memory, begin, begun);
    result = io_read_full(fd, (char *)memory + begun, length - begun);
    munmap(memory, length);
    return result;
}

/* Length of the stream from its header, and how many bytes of the header belong to the stream. */
static int judge(const char *magic, bool prefixed, const char *header, uint64_t *ret_length,
                 size_t *ret_part, struct drafter_error *err)
{
    uint64_t length, own;

    memcpy(&length, header + STATE_MAGIC, sizeof(length));
    memcpy(&own, header, sizeof(own));
    *ret_part = 0;
    *ret_length = le64toh(length);
    if (memcmp(header, magic, STATE_MAGIC) != 0) {
        own = le64toh(own);
        if (!prefixed || own < STATE_HEADER || own > STATE_MAX - sizeof(own))
            return drafter_error_set(err, EBADMSG, "this is no device state of this VMM");
        *ret_length = own + sizeof(own);
        *ret_part = STATE_HEADER;
    }
    if (!*ret_length || *ret_length > STATE_MAX)
        return drafter_error_set(err, EBADMSG, "a device state of %" PRIu64 " bytes cannot be",
                                 *ret_length);
    return 0;
}

int state_read(const char *magic, bool prefixed, int fd, int *ret_memory_fd,
               struct drafter_error *err)
{
    char header[STATE_HEADER];
    cleanup_close int memory_fd = -1;
    uint64_t length;
    size_t part;
    int result = io_read_full(fd, header, sizeof(header));

    if (result < 0)
        return drafter_error_errno(err, -result, "cannot read the device state");
    result = judge(magic, prefixed, header, &length, &part, err);
    if (result < 0)
        return result;
    memory_fd = memory_file(length, err);
    if (memory_fd < 0)
        return memory_fd;
    result = copy_in(fd, memory_fd, header, part, (size_t)length);
    if (result < 0)
        return drafter_error_errno(err, -result, "cannot read the device state");
    *ret_memory_fd = steal_fd(&memory_fd);
    return 0;
}
