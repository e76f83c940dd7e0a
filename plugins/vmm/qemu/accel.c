/* SPDX-License-Identifier: BSD-2-Clause */
#include "accel.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/proc.h"
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <x86intrin.h>

#define PROBE_TIMEOUT_MS 1500
#define ROM_SIZE ((size_t)64 << 10)
#define ROM_RESET 0xfff0
#define PASS_STATUS 0x63       /* isa-debug-exit ends QEMU with (0x31 << 1) | 1 */
#define TSC_WINDOW_NS 10000000 /* a reading is off by some 50 ns */

/* mov ecx, 20000000; loop: dec ecx; jnz loop; mov al, 0x31; out 0xf4, al; hlt; jmp $-1 */
static const uint8_t probe_code[] = {0x66, 0xb9, 0x00, 0x2d, 0x31, 0x01, 0x66, 0x49, 0x75,
                                     0xfc, 0xb0, 0x31, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd};
static const uint8_t probe_reset[] = {0xe9, 0x0d, 0x00}; /* jmp to the start of the segment */

/* ---- probe */

static int make_rom(struct drafter_error *err)
{
    cleanup_close int fd = memfd_create("drafter-kvm-probe", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, ROM_SIZE) < 0)
        return drafter_error_errno(err, errno, "memory file");
    if (io_pwrite_full(fd, probe_code, sizeof(probe_code), 0) < 0 ||
        io_pwrite_full(fd, probe_reset, sizeof(probe_reset), ROM_RESET) < 0)
        return drafter_error_set(err, EIO, "cannot write the probe");
    return steal_fd(&fd);
}

/* Runs the probe's QEMU; its wait status, or -ETIMEDOUT, or another error. */
static int run_probe(const char *binary, const char *cpu, int rom_fd, int error_fd, int *ret_status,
                     struct drafter_error *err)
{
    char rom[64];
    const char *argv[] = {binary,
                          "-nodefaults",
                          "-no-user-config",
                          "-display",
                          "none",
                          "-M",
                          "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off",
                          "-accel",
                          "kvm",
                          "-cpu",
                          cpu,
                          "-m",
                          "2",
                          "-bios",
                          rom,
                          "-device",
                          "isa-debug-exit,iobase=0xf4,iosize=1",
                          NULL};
    const int keep_fds[] = {rom_fd, -1};
    pid_t pid;
    int result;

    snprintf(rom, sizeof(rom), "/proc/self/fd/%d", rom_fd);
    result = proc_spawn(&(struct proc_spec){.argv = argv,
                                            .stdin_fd = -1,
                                            .stdout_fd = -1,
                                            .stderr_fd = error_fd,
                                            .keep_fds = keep_fds,
                                            .new_process_group = true,
                                            .die_with_parent = true,
                                            .without_secrets = true},
                        &pid, err);
    if (result < 0)
        return result;
    result = proc_wait(pid, PROBE_TIMEOUT_MS, ret_status);
    if (result < 0)
        proc_stop(pid, 0);
    return result;
}

static void first_line(int fd, char *line, size_t size)
{
    ssize_t got = pread(fd, line, size - 1, 0);

    line[got > 0 ? got : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

static void refuse(struct accel_choice *choice, const char *why, const char *detail)
{
    choice->kvm = false;
    snprintf(choice->reason, sizeof(choice->reason), "KVM is not used: %s%s%.160s", why,
             *detail ? ": " : "", detail);
}

void accel_probe(const char *binary, const char *cpu, struct accel_choice *ret_choice)
{
    struct drafter_error error = {0};
    cleanup_close int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    cleanup_close int rom_fd = -1, error_fd = -1;
    uint64_t start = drafter_now_ns();
    char line[192];
    int status = 0, result;

    if (kvm_fd < 0) {
        refuse(ret_choice, "/dev/kvm does not open", strerror(errno));
        return;
    }
    rom_fd = make_rom(&error);
    error_fd = memfd_create("drafter-kvm-probe-errors", MFD_CLOEXEC);
    result = rom_fd < 0 ? rom_fd : run_probe(binary, cpu, rom_fd, error_fd, &status, &error);
    first_line(error_fd, line, sizeof(line));
    if (result == -ETIMEDOUT) {
        refuse(ret_choice, "it runs far too slowly (no hardware virtualization below it?)", line);
    } else if (result < 0) {
        refuse(ret_choice, "the probe did not start", error.message);
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS_STATUS) {
        refuse(ret_choice, "a probe with it failed", line);
    } else {
        ret_choice->kvm = true;
        snprintf(ret_choice->reason, sizeof(ret_choice->reason),
                 "a probe ran under KVM in %" PRIu64 " ms", (drafter_now_ns() - start) / 1000000);
    }
}

/* ---- time stamp counter */

struct accel_tsc accel_tsc_read(void)
{
    struct accel_tsc best = {0};
    uint64_t best_width = UINT64_MAX;

    /* The reading in which the least time passed between the two counters. */
    for (int i = 0; i < 8; i++) {
        uint64_t before = __rdtsc(), ns = drafter_now_ns(), after = __rdtsc();

        if (after - before < best_width) {
            best_width = after - before;
            best = (struct accel_tsc){.ticks = before + (after - before) / 2, .ns = ns};
        }
    }
    return best;
}

uint64_t accel_tsc_khz(const struct accel_tsc *since)
{
    struct accel_tsc now;
    uint64_t passed = drafter_now_ns() - since->ns;

    if (passed < TSC_WINDOW_NS) {
        struct timespec rest = {.tv_nsec = (long)(TSC_WINDOW_NS - passed)};

        while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
            ;
    }
    now = accel_tsc_read();
    return (uint64_t)((double)(now.ticks - since->ticks) / (double)(now.ns - since->ns) * 1e6 +
                      0.5);
}
