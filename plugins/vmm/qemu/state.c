/* SPDX-License-Identifier: BSD-2-Clause */
#include "state.h"
#include "util/cleanup.h"
#include "util/io.h"
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

static const char magic[8] = {'d', 'r', 'f', 'q', 'e', 'm', 'u', '1'};

static int memory_file(uint64_t size, struct drafter_error *err)
{
    cleanup_close int fd = memfd_create("drafter-qemu-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

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

int state_write(int memory_fd, int fd, struct drafter_error *err)
{
    off_t end = lseek(memory_fd, 0, SEEK_CUR);
    size_t length = STATE_HEADER + (size_t)end;
    uint64_t stream_length = htole64((uint64_t)end);
    cleanup_free char *data = NULL;
    int result;

    if (end <= 0 || (uint64_t)end > STATE_MAX)
        return drafter_error_set(err, EIO, "QEMU wrote no device state");
    data = malloc(length);
    if (!data)
        return drafter_error_errno(err, ENOMEM, "device state");
    memcpy(data, magic, sizeof(magic));
    memcpy(data + sizeof(magic), &stream_length, sizeof(stream_length));
    result = io_pread_full(memory_fd, data + STATE_HEADER, (size_t)end, 0);
    if (result == 0)
        result = io_write_full(fd, data, length);
    return result < 0 ? drafter_error_errno(err, -result, "cannot write the device state") : 0;
}

/* Copies `length` bytes of the stream `fd` to the start of the memory file. */
static int copy_in(int fd, int memory_fd, size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    int result;

    if (memory == MAP_FAILED)
        return -errno;
    result = io_read_full(fd, memory, length);
    munmap(memory, length);
    return result;
}

int state_read(int fd, int *ret_memory_fd, struct drafter_error *err)
{
    char header[STATE_HEADER];
    cleanup_close int memory_fd = -1;
    uint64_t length;
    int result = io_read_full(fd, header, sizeof(header));

    if (result < 0)
        return drafter_error_errno(err, -result, "cannot read the device state");
    memcpy(&length, header + sizeof(magic), sizeof(length));
    length = le64toh(length);
    if (memcmp(header, magic, sizeof(magic)) != 0)
        return drafter_error_set(err, EBADMSG, "this is no device state of QEMU");
    if (!length || length > STATE_MAX)
        return drafter_error_set(err, EBADMSG, "a device state of %" PRIu64 " bytes cannot be",
                                 length);
    memory_fd = memory_file(length, err);
    if (memory_fd < 0)
        return memory_fd;
    result = copy_in(fd, memory_fd, (size_t)length);
    if (result < 0)
        return drafter_error_errno(err, -result, "cannot read the device state");
    *ret_memory_fd = steal_fd(&memory_fd);
    return 0;
}
