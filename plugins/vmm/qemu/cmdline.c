/* SPDX-License-Identifier: BSD-2-Clause */
#include "cmdline.h"
#include "util/cleanup.h"
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BOOT_ARGS_MAX 2047 /* of Linux on x86 */
#define SERIAL_MAX 20      /* of virtio-blk */
#define FORWARDS_MAX 64

/* Not 0: QEMU's I/O APICs take their pin 0 for pin 2, so what hangs there never interrupts. */
enum { SLOT_SERIAL = 1, SLOT_NET, SLOT_RNG, SLOT_DRIVES };
#define MMIO_SLOTS 24

/* ---- words */

static void add_taken(struct cmdline *cmdline, char *word)
{
    if (cmdline->count + 2 > cmdline->capacity) {
        size_t capacity = cmdline->capacity ? cmdline->capacity * 2 : 64;
        char **words = realloc(cmdline->words, capacity * sizeof(*words));

        if (words) {
            cmdline->words = words;
            cmdline->capacity = capacity;
        }
    }
    if (!word || cmdline->count + 2 > cmdline->capacity) {
        cmdline->failed = -ENOMEM;
        free(word);
        return;
    }
    cmdline->words[cmdline->count++] = word;
    cmdline->words[cmdline->count] = NULL;
}

static void add(struct cmdline *cmdline, const char *word)
{
    add_taken(cmdline, strdup(word));
}

/* An option and its argument. */
static void add_option(struct cmdline *cmdline, const char *option, const char *format, ...)
    DRAFTER_PRINTF(3, 4);

static void add_option(struct cmdline *cmdline, const char *option, const char *format, ...)
{
    va_list arguments;
    char *word;

    va_start(arguments, format);
    if (vasprintf(&word, format, arguments) < 0)
        word = NULL;
    va_end(arguments);
    add(cmdline, option);
    add_taken(cmdline, word);
}

/* In lists of properties a comma is written twice; the caller frees. */
static char *escaped(const char *text)
{
    char *copy = malloc(2 * strlen(text) + 1), *out = copy;

    if (!copy)
        return NULL;
    for (; *text; text++) {
        *out++ = *text;
        if (*text == ',')
            *out++ = ',';
    }
    *out = '\0';
    return copy;
}

void cmdline_release(struct cmdline *cmdline)
{
    for (size_t i = 0; i < cmdline->count; i++)
        free(cmdline->words[i]);
    free(cmdline->words);
    *cmdline = (struct cmdline){0};
}

/* ---- devices */

/* "virtio-net-device,bus=virtio-mmio-bus.1" or "virtio-net-pci,addr=0x9" */
static void device_name(const struct machine *machine, const char *device, unsigned slot,
                        char *text, size_t size)
{
    if (machine_has_mmio(machine))
        snprintf(text, size, "%s-device,bus=virtio-mmio-bus.%u", device, slot);
    else
        snprintf(text, size, "%s-pci,addr=0x%x", device, 8 + slot);
}

static void add_channels(struct cmdline *cmdline, const struct cmdline_input *input)
{
    char device[96];

    device_name(input->machine, "virtio-serial", SLOT_SERIAL, device, sizeof(device));
    add_option(cmdline, "-device", "%s,max_ports=8", device);
    for (unsigned i = 0; i < QEMU_CHANNELS; i++) {
        const struct qemu_channel *channel = &qemu_channels[i];

        add_option(cmdline, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off", channel->name,
                   input->channel_fds[i]);
        add_option(cmdline, "-device", "virtserialport,chardev=%s,name=%s,nr=%u", channel->name,
                   channel->port, i + 1);
    }
}

static void add_user_net(struct cmdline *cmdline, const struct qemu_config *config)
{
    cleanup_free char *list = config->forward ? strdup(config->forward) : NULL;
    char *rest = list, *forward;
    char text[4096] = "";
    size_t used = 0;

    while ((forward = strsep(&rest, ", \t")) != NULL) {
        if (*forward && used < sizeof(text))
            used += (size_t)snprintf(text + used, sizeof(text) - used, ",hostfwd=%s", forward);
    }
    add_option(cmdline, "-netdev", "user,id=net,restrict=%s%s", config->restrict_net ? "on" : "off",
               text);
}

static void add_net(struct cmdline *cmdline, const struct cmdline_input *input)
{
    const struct drafter_vmm_spec *spec = input->spec;
    bool pci = !machine_has_mmio(input->machine);
    char device[96];

    if (input->machine->nic == MACHINE_NIC_NONE)
        return;
    if (spec->tap) {
        /* Without vnet_hdr a tap offers the guest what user networking does. */
        add_option(cmdline, "-netdev", "tap,id=net,ifname=%s,script=no,downscript=no,vnet_hdr=%s",
                   spec->tap, input->machine->nic == MACHINE_NIC_TAP ? "on" : "off");
    } else {
        add_user_net(cmdline, input->config);
    }
    device_name(input->machine, "virtio-net", SLOT_NET, device, sizeof(device));
    add_option(cmdline, "-device", "%s,netdev=net,mac=%s%s", device,
               spec->mac ? spec->mac : "52:54:00:12:34:56", pci ? ",romfile=" : "");
}

/* A microvm lists its slots from the last to the first, and a guest names its disks in that order. */
static unsigned drive_slot(const struct machine *machine, unsigned number)
{
    return machine_has_mmio(machine) ? MMIO_SLOTS - 1 - number : SLOT_DRIVES + number;
}

/*
 * cache.direct keeps drives out of the host's page cache, where a block could go stale after the
 * disk has moved; no-flush off makes a guest's flush an fsync of the file.  Some file systems
 * cannot do direct I/O: then QEMU drops the cache itself when a restored VM takes the drive over.
 */
static void add_drive(struct cmdline *cmdline, const struct cmdline_input *input, unsigned number,
                      const struct drafter_vmm_device *drive)
{
    cleanup_close int fd = open(drive->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    cleanup_free char *path = escaped(drive->path);
    const char *direct = fd >= 0 ? "on" : "off", *readonly = drive->readonly ? "on" : "off";
    struct stat status;
    bool block = stat(drive->path, &status) == 0 && S_ISBLK(status.st_mode);
    char device[96];

    device_name(input->machine, "virtio-blk", drive_slot(input->machine, number), device,
                sizeof(device));
    add_option(cmdline, "-blockdev",
               "driver=%s,node-name=file%u,filename=%s,locking=off,aio=threads,read-only=%s,"
               "discard=unmap,cache.direct=%s,cache.no-flush=off",
               block ? "host_device" : "file", number, path ? path : "", readonly, direct);
    add_option(
        cmdline, "-blockdev",
        "driver=raw,node-name=drive%u,file=file%u,read-only=%s,discard=unmap,cache.direct=%s,"
        "cache.no-flush=off",
        number, number, readonly, direct);
    add_option(cmdline, "-device",
               "%s,drive=drive%u,serial=%.*s,write-cache=on,werror=report,rerror=report", device,
               number, SERIAL_MAX, drive->name);
    if (!path)
        cmdline->failed = -ENOMEM;
}

static void add_drives(struct cmdline *cmdline, const struct cmdline_input *input)
{
    unsigned number = 0;

    for (size_t i = 0; i < input->spec->device_count; i++) {
        if (input->spec->devices[i].drive)
            add_drive(cmdline, input, number++, &input->spec->devices[i]);
    }
}

static void add_serial(struct cmdline *cmdline, const struct cmdline_input *input)
{
    const char *serial = qemu_has_terminal(input->config) ? "stdio" : input->config->serial;
    cleanup_free char *directory = escaped(input->spec->directory);
    cleanup_free char *name = escaped(serial);

    if (!directory || !name) {
        cmdline->failed = -ENOMEM;
    } else if (strcmp(serial, "none") == 0) {
        add_option(cmdline, "-chardev",
                   "null,id=console"); /* the device stays: it is part of the state */
    } else if (strcmp(serial, "stdio") == 0) {
        add_option(cmdline, "-chardev", "stdio,id=console,signal=off");
    } else if (strncmp(serial, "unix:", 5) == 0) {
        add_option(cmdline, "-chardev", "socket,id=console,path=%s,server=on,wait=off", name + 5);
    } else {
        add_option(cmdline, "-chardev", "file,id=console,path=%s%s%s,append=on",
                   *serial == '/' ? "" : directory, *serial == '/' ? "" : "/", name);
    }
    add_option(cmdline, "-serial", "chardev:console");
}

/* ---- machine */

static void add_machine(struct cmdline *cmdline, const struct cmdline_input *input)
{
    const struct machine *machine = input->machine;
    const struct qemu_config *config = input->config;
    cleanup_free char *memory = escaped(input->spec->memory);

    add_option(cmdline, "-machine", "%s,%smemory-backend=memory,suppress-vmdesc=on", machine->type,
               machine_has_mmio(machine) ? "acpi=on,ioapic2=on,rtc=on,isa-serial=on,pcie=off,"
                                         : "");
    if (strcmp(machine->accel, "tcg") == 0)
        add_option(cmdline, "-accel", "tcg,tb-size=%" PRIu64, config->tb_size >> 20);
    else
        add_option(cmdline, "-accel", "%s", machine->accel);
    add_option(cmdline, "-cpu", "%s", machine->cpu);
    add_option(cmdline, "-smp", "%" PRIu64, machine->board.cpus);
    add_option(cmdline, "-m", "size=%" PRIu64 "B", machine->board.memory);
    /* share=on is what makes memory a file; the file may be longer than the memory. */
    add_option(cmdline, "-object",
               "memory-backend-file,id=memory,share=on,merge=off,dump=off,prealloc=%s,size=%" PRIu64
               ",mem-path=%s",
               config->memory_prealloc ? "on" : "off", machine->board.memory, memory ? memory : "");
    add_option(cmdline, "-object", "rng-builtin,id=entropy");
    if (!memory)
        cmdline->failed = -ENOMEM;
}

static void add_kernel(struct cmdline *cmdline, const struct cmdline_input *input)
{
    const struct drafter_vmm_spec *spec = input->spec;
    const char *arguments = spec->boot_args ? spec->boot_args : "";
    bool clock = strcmp(input->machine->accel, "tcg") == 0 && !strstr(arguments, "tsc_early_khz=");

    add_option(cmdline, "-kernel", "%s", spec->kernel);
    if (spec->initramfs)
        add_option(cmdline, "-initrd", "%s", spec->initramfs);
    /* Linux cannot calibrate the counter against timers that are emulated in software. */
    if (clock)
        add_option(cmdline, "-append", "%s%stsc_early_khz=%" PRIu64, arguments,
                   *arguments ? " " : "", input->tsc_khz);
    else
        add_option(cmdline, "-append", "%s", arguments);
}

static void add_process(struct cmdline *cmdline, const struct cmdline_input *input)
{
    const struct qemu_config *config = input->config;
    cleanup_free char *name = escaped(input->spec->name);

    add(cmdline, config->binary);
    add_option(cmdline, "-name", "guest=%s", name ? name : "vm");
    add(cmdline, "-nodefaults");
    add(cmdline, "-no-user-config");
    add_option(cmdline, "-display", "none");
    if (config->on_reset == ON_RESET_EXIT)
        add(cmdline, "-no-reboot");
    if (config->sandbox)
        add_option(cmdline, "-sandbox",
                   "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add_option(cmdline, "-chardev", "socket,id=control,fd=%d,server=on,wait=off", input->qmp_fd);
    add_option(cmdline, "-mon", "chardev=control,mode=control");
    add_option(cmdline, "-global", "migration.x-events=on");
    if (input->how == DRAFTER_VMM_RESTORE) {
        add_option(cmdline, "-incoming", "fd:%d", input->incoming_fd);
        add(cmdline, "-S");
    }
}

static void add_extra(struct cmdline *cmdline, const struct qemu_config *config)
{
    cleanup_free char *list = config->extra_args ? strdup(config->extra_args) : NULL;
    char *rest = list, *word;

    while ((word = strsep(&rest, " \t")) != NULL) {
        if (*word)
            add(cmdline, word);
    }
}

static int check_text(const char *what, const char *text, const char *also,
                      struct drafter_error *err)
{
    for (const char *at = text; at && *at; at++) {
        if (!isalnum((unsigned char)*at) && !strchr(also, *at))
            return drafter_error_set(
                err, EINVAL, "%s: \"%.64s\" holds a character that it must not", what, text);
    }
    return 0;
}

int cmdline_build(struct cmdline *cmdline, const struct cmdline_input *input,
                  struct drafter_error *err)
{
    const struct drafter_vmm_spec *spec = input->spec;
    char rng[96];
    int result = check_text("tap", spec->tap, "-_.:@", err);

    if (result == 0)
        result = check_text("mac", spec->mac, ":", err);
    if (result == 0 && spec->boot_args && strlen(spec->boot_args) > BOOT_ARGS_MAX - 32)
        result = drafter_error_set(err, EINVAL, "the kernel command line is too long");
    if (result < 0)
        return result;
    add_process(cmdline, input);
    add_machine(cmdline, input);
    add_kernel(cmdline, input);
    add_serial(cmdline, input);
    add_channels(cmdline, input);
    add_net(cmdline, input);
    device_name(input->machine, "virtio-rng", SLOT_RNG, rng, sizeof(rng));
    add_option(cmdline, "-device", "%s,rng=entropy", rng);
    add_drives(cmdline, input);
    add_extra(cmdline, input->config);
    add_option(cmdline, "-readconfig", "/proc/self/fd/%d", input->gate_fd);
    return cmdline->failed ? drafter_error_errno(err, ENOMEM, "command line of QEMU") : 0;
}

int cmdline_check_config(const struct qemu_config *config, struct drafter_error *err)
{
    int result = check_text("forward", config->forward, ":.-, \t", err);

    if (result < 0)
        return result;
    if (config->forward && strlen(config->forward) > FORWARDS_MAX * 32)
        return drafter_error_set(err, EINVAL, "forward: too long");
    if (!machine_type_valid(config->machine))
        return drafter_error_set(
            err, EINVAL, "machine: \"%s\" is none of microvm, q35, pc, pc-q35-*, pc-i440fx-*",
            config->machine);
    if (config->cpu && !machine_cpu_valid(config->cpu))
        return drafter_error_set(err, EINVAL, "cpu: \"%s\" is no CPU model", config->cpu);
    return 0;
}
