/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter check FILE...`: what the files are, whether they are whole, and what can be done if not.  Nothing is
 * changed.  A file is known by its content; the two files of an overlay are found among those that are named.
 */
#include "block/binlog.h"
#include "command.h"
#include "migrate/ledger.h"
#include "pack/extract.h"
#include "plugin/storage.h"
#include "role/node.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/json.h"
#include "vm/package.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 256

struct file {
    const char *path;
    uint64_t size;
    bool done; /* what it is has been said */
};

struct checked {
    struct file files[FILES_MAX];
    unsigned count, defects, unknown;
    json_t *all;   /* what was found, an object for each thing */
    json_t *lines; /* of the thing at hand */
    unsigned bad;  /* likewise: its defects */
};

static void say(struct checked *checked, bool defect, const char *format, ...) DRAFTER_PRINTF(3, 4);
static void say(struct checked *checked, bool defect, const char *format, ...)
{
    char line[DRAFTER_ERROR_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    checked->bad += defect;
    json_array_append_new(checked->lines, json_pack("{s:s, s:b}", "text", line, "defect", defect));
}

static void begin(struct checked *checked)
{
    checked->lines = json_array();
    checked->bad = 0;
}

/* The thing at hand has been looked at; `remedy` counts when it is not whole. */
static void end(struct checked *checked, struct file *file, struct file *second, const char *kind,
                const char *remedy)
{
    bool whole = checked->bad == 0;
    json_t *files = json_array();

    file->done = true;
    json_array_append_new(files, json_string(file->path));
    if (second) {
        second->done = true;
        json_array_append_new(files, json_string(second->path));
    }
    json_array_append_new(checked->all,
                          json_pack("{s:o, s:s, s:I, s:b, s:o, s:s?}", "files", files, "kind", kind, "size",
                                    (json_int_t)(file->size + (second ? second->size : 0)), "whole",
                                    whole, "findings", checked->lines, "remedy", whole ? NULL : remedy));
    checked->lines = NULL;
    checked->defects += checked->bad;
}

/* ---- ledgers */

static bool is_ledger(const struct file *file)
{
    const char *dot = strrchr(file->path, '.');

    return file->size == LEDGER_FILE_SIZE && dot && !strcmp(dot, ".ledger");
}

static int check_ledger(struct checked *checked, struct file *file, struct drafter_error *err)
{
    cleanup_close int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    struct ledger_record record, newest = {0};
    uint64_t sequence, highest = 0;
    unsigned valid = 0, blank = 0;

    if (fd < 0)
        return drafter_error_errno(err, errno, "%s: cannot open", file->path);
    begin(checked);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t slot[LEDGER_SLOT_SIZE];
        int rc = io_pread_full(fd, slot, sizeof(slot), i * (LEDGER_FILE_SIZE / 2));

        if (rc)
            say(checked, true, "record %u cannot be read: %s", i, strerror(-rc));
        else if (io_is_zero(slot, sizeof(slot)))
            blank++;
        else if (ledger_decode(slot, &record, &sequence))
            say(checked, true, "record %u is damaged", i);
        else if (!valid++ || sequence > highest)
            newest = record, highest = sequence;
    }
    if (valid)
        say(checked, false, "VM %s: %s, epoch %" PRIu64 "%s%s", newest.vm, ledger_state_name(newest.state),
            newest.epoch, *newest.peer ? ", with " : "", newest.peer);
    else if (blank)
        say(checked, false, "says nothing of any VM yet");
    end(checked, file, NULL, "ledger",
        valid ? "one record is left and is used; if the other was the newer one, which node runs the VM is only "
                "known there: compare `drafter ownership` of both nodes before you start it"
              : "find out which node runs the VM, then remove the file");
    return 0;
}

/* ---- packages */

static int take_config(const char *path, struct package *ret_package)
{
    cleanup_free char *text = malloc(PACKAGE_CONFIG_MAX);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct drafter_error ignored = {0};
    ssize_t length = text && fd >= 0 ? pread(fd, text, PACKAGE_CONFIG_MAX, 0) : -1;

    return length <= 0 || *text != '{' ? -EINVAL
                                       : package_decode(text, (size_t)length, ret_package, &ignored);
}

static struct file *find_named(struct checked *checked, const char *path)
{
    struct stat named, other;

    for (unsigned i = 0; i < checked->count; i++)
        if (!stat(path, &named) && !stat(checked->files[i].path, &other) &&
            named.st_dev == other.st_dev && named.st_ino == other.st_ino)
            return &checked->files[i];
    return NULL;
}

/* The file of a device is called like it: memory, vm1.memory, memory.bin, or drafter.drftmemory. */
static bool names_device(const char *file, const char *device)
{
    size_t length = strlen(device);
    const char *at = strstr(file, device);
    size_t before = at ? (size_t)(at - file) : 0;

    if (!at || (at[length] && at[length] != '.') || strstr(file, ".part"))
        return false;
    return before == 0 || file[before - 1] == '.' || (before > 4 && !memcmp(at - 4, "drft", 4));
}

/* Its path beside the config, in `ret_path`; false: there is none. */
static bool find_device(const char *config, const char *device, char ret_path[PATH_MAX])
{
    const char *slash = strrchr(config, '/');
    int length = slash ? (int)(slash - config) : 1;
    struct dirent *entry;
    bool found = false;
    DIR *directory;

    snprintf(ret_path, PATH_MAX, "%.*s/%s", length, slash ? config : ".", device);
    if (access(ret_path, F_OK) == 0)
        return true;
    snprintf(ret_path, PATH_MAX, "%.*s", length, slash ? config : ".");
    directory = opendir(length ? ret_path : "/");
    while (directory && !found && (entry = readdir(directory)))
        if (names_device(entry->d_name, device))
            found = snprintf(ret_path, PATH_MAX, "%.*s/%s", length, slash ? config : ".",
                             entry->d_name) < PATH_MAX;
    if (directory)
        closedir(directory);
    return found;
}

static void check_device(struct checked *checked, const struct package_device *device, const char *path)
{
    struct package_device found = {0};
    struct drafter_error err = {0};
    struct file *file = find_named(checked, path);

    if (file)
        file->done = true;
    if (package_hash_file(path, &found, &err))
        say(checked, true, "device %s: %s", device->name, err.message);
    else if (found.size != device->size)
        say(checked, true, "device %s: %s has %" PRIu64 " bytes instead of %" PRIu64, device->name, path,
            found.size, device->size);
    else if (strcmp(found.hash, device->hash) != 0)
        say(checked, true, "device %s: %s is not what was saved (a VM that runs on it changes it)",
            device->name, path);
    else
        say(checked, false, "device %s: %s, %" PRIu64 " bytes, whole", device->name, path, device->size);
}

static void check_package(struct checked *checked, struct file *file, const struct package *package)
{
    begin(checked);
    if (!package->complete)
        say(checked, false, "as the original writes it: nothing is known of its devices");
    for (unsigned i = 0; i < package->device_count; i++) {
        char path[PATH_MAX];

        if (find_device(file->path, package->devices[i].name, path))
            check_device(checked, &package->devices[i], path);
        else
            say(checked, true, "device %s: no such file beside %s", package->devices[i].name, file->path);
    }
    end(checked, file, NULL, "package",
        "copy the devices that are named from where the package came from, or pull it again");
}

/* 1: it is an archive with a manifest, and has been looked at. */
static int check_archive(struct checked *checked, struct file *file)
{
    const struct pack_extract_options options = {.progress = PROGRESS_AUTO};
    struct drafter_error err = {0};
    struct pack_reader reader;
    int rc = pack_reader_open(file->path, &reader, &err);

    if (rc == -ENOTSUP)
        return 0;
    begin(checked);
    if (!rc) {
        for (unsigned i = 0; i < reader.manifest.device_count; i++)
            say(checked, false, "device %s, %" PRIu64 " bytes", reader.manifest.devices[i].name,
                reader.manifest.devices[i].size);
        rc = pack_verify(&reader, &options, &err);
        pack_reader_close(&reader);
    }
    if (rc)
        say(checked, true, "%s", err.message);
    end(checked, file, NULL, "archive", "copy it again from where it came from");
    return 1;
}

/* ---- binlogs */

static void read_records(struct checked *checked, struct binlog_reader *reader, void *data)
{
    struct drafter_error err = {0};
    struct binlog_record record;
    int rc;

    while ((rc = binlog_next(reader, &record, data, &err)) == 1)
        ;
    say(checked, false, "device %s, %" PRIu64 " bytes, %" PRIu64 " records", reader->device, reader->size,
        reader->count);
    if (rc)
        say(checked, true, "%s", err.message);
    else if (!reader->complete)
        say(checked, false, "it goes on, or was ended at its limit");
}

/* 1: it is a binlog, and has been looked at. */
static int check_binlog(struct checked *checked, struct file *file)
{
    cleanup_free char *data = malloc(BINLOG_DATA_MAX);
    struct drafter_error err = {0};
    struct binlog_reader reader;
    int rc = data ? binlog_open(file->path, &reader, &err) : -ENOMEM;

    if (rc && rc != -EBADMSG && rc != -ENOTSUP)
        return 0;
    begin(checked);
    if (rc) {
        say(checked, true, "%s", err.message);
    } else {
        read_records(checked, &reader, data);
        binlog_reader_close(&reader);
    }
    end(checked, file, NULL, "binlog", "what is ahead of that can be printed and replayed");
    return 1;
}

/* ---- overlays */

static void take_line(void *opaque, const char *line)
{
    bool note = !strncmp(line, "note: ", 6);

    say(opaque, !note, "%s", note ? line + 6 : line);
}

/* The plugin looks at the pair.  -EPROTO: `state` is no state file.  Else the number of defects. */
static int examine(const char *overlay, const char *state, bool verify, struct checked *checked,
                   struct drafter_error *err)
{
    const char *const base[] = {"path", overlay, "readonly", "yes", NULL}; /* a check reads no base */
    const char *const pair[] = {"overlay", overlay, "state", state, NULL};
    struct instance *below = NULL, *storage = NULL;
    int rc = instance_new(DRAFTER_KIND_STORAGE, NULL, DEFAULT_STORAGE, base, "check-base", "/nowhere", NULL,
                          &below, err);

    if (!rc)
        rc = instance_new(DRAFTER_KIND_STORAGE, NULL, DEFAULT_OVERLAY, pair, "check", "/nowhere", below,
                          &storage, err);
    if (!rc)
        rc = (verify ? storage_verify : storage_check)(storage, take_line, checked, err);
    if (storage)
        instance_free(storage);
    if (below)
        instance_free(below);
    return rc;
}

/* Of the files that are left the one with the fewest defects as overlay of `state`. */
static struct file *find_overlay(struct checked *checked, struct file *state, int *ret_defects)
{
    struct file *best = NULL;

    *ret_defects = INT_MAX;
    for (unsigned i = 0; i < checked->count; i++) {
        struct file *file = &checked->files[i];
        struct drafter_error ignored = {0};
        int defects;

        if (file->done || file == state)
            continue;
        begin(checked);
        defects = examine(file->path, state->path, false, checked, &ignored);
        json_decref(checked->lines);
        if (defects >= 0 && defects < *ret_defects) {
            *ret_defects = defects;
            best = file;
        }
    }
    return best;
}

static int check_overlay(struct checked *checked, struct file *state, struct drafter_error *err)
{
    struct drafter_error error = {0};
    struct file *overlay;
    int defects;

    begin(checked);
    defects = examine(state->path, state->path, false, checked, &error);
    json_decref(checked->lines);
    if (defects == -EPROTO)
        return 0;
    if (defects < 0) {
        *err = error;
        return defects;
    }
    overlay = find_overlay(checked, state, &defects);
    begin(checked);
    if (!overlay)
        say(checked, true, "the state file of an overlay; name the overlay, too");
    else if ((defects = examine(overlay->path, state->path, true, checked, err)) < 0)
        return defects;
    end(checked, state, overlay, "overlay",
        "what is named is lost: write those pages anew in the VM, or restore both files from a backup; a VM "
        "that reads them gets I/O errors");
    return 0;
}

/* ---- the command */

static int check_known(struct checked *checked, struct file *file, struct drafter_error *err)
{
    struct package package;

    if (is_ledger(file))
        return check_ledger(checked, file, err);
    if (!take_config(file->path, &package))
        check_package(checked, file, &package);
    else if (!check_binlog(checked, file))
        check_archive(checked, file);
    return 0;
}

static int look_at(struct checked *checked, int count, char **paths, struct drafter_error *err)
{
    if (count > FILES_MAX)
        return drafter_error_set(err, EINVAL, "at most %d files at a time", FILES_MAX);
    for (int i = 0; i < count; i++) {
        struct stat status;

        if (stat(paths[i], &status))
            return drafter_error_errno(err, errno, "%s", paths[i]);
        if (!S_ISREG(status.st_mode))
            return drafter_error_set(err, EINVAL, "%s: not a regular file", paths[i]);
        checked->files[checked->count++] = (struct file){.path = paths[i], .size = (uint64_t)status.st_size};
    }
    return 0;
}

static int check_all(struct checked *checked, struct drafter_error *err)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < checked->count; i++)
        if (!checked->files[i].done)
            rc = check_known(checked, &checked->files[i], err);
    for (unsigned i = 0; !rc && i < checked->count; i++)
        if (!checked->files[i].done)
            rc = check_overlay(checked, &checked->files[i], err);
    for (unsigned i = 0; !rc && i < checked->count; i++) {
        if (checked->files[i].done)
            continue;
        checked->unknown++;
        begin(checked);
        end(checked, &checked->files[i], NULL, "unknown", NULL);
    }
    return rc;
}

static void print_thing(const json_t *thing)
{
    const json_t *files = json_object_get(thing, "files"), *line;
    const char *remedy = json_string_value(json_object_get(thing, "remedy"));
    const char *kind = json_string_value(json_object_get(thing, "kind"));
    size_t index;

    json_array_foreach(files, index, line)
        printf("%s%s", index ? " " : "", json_string_value(line));
    printf(": %s, %" JSON_INTEGER_FORMAT " bytes%s\n", kind,
           json_integer_value(json_object_get(thing, "size")),
           !strcmp(kind, "unknown")                            ? ""
           : json_is_true(json_object_get(thing, "whole")) ? ", whole"
                                                           : ", NOT WHOLE");
    json_array_foreach(json_object_get(thing, "findings"), index, line)
        printf("  %s %s\n", json_is_true(json_object_get(line, "defect")) ? "!" : "-",
               json_string_value(json_object_get(line, "text")));
    if (remedy)
        printf("  = %s\n", remedy);
}

static void print_all(const struct checked *checked, bool json)
{
    json_t *thing;
    size_t index;

    if (json) {
        json_dumpf(checked->all, stdout, JSON_INDENT(2));
        putchar('\n');
        return;
    }
    json_array_foreach(checked->all, index, thing)
        print_thing(thing);
}

int command_check_files(int count, char **paths, bool json, struct drafter_error *err)
{
    cleanup_free struct checked *checked = calloc(1, sizeof(*checked));
    int rc;

    if (!checked || !(checked->all = json_array()))
        return drafter_error_set(err, ENOMEM, "out of memory");
    rc = look_at(checked, count, paths, err);
    if (!rc)
        rc = check_all(checked, err);
    if (!rc)
        print_all(checked, json);
    json_decref(checked->all);
    if (!rc && checked->defects)
        rc = drafter_error_set(err, EUCLEAN, "%u defect%s", checked->defects,
                               checked->defects == 1 ? "" : "s");
    if (!rc && checked->unknown)
        rc = drafter_error_set(err, EINVAL, "%u file%s of no kind that drafter writes, or a device as it is: "
                                            "nothing is known of what it must hold", checked->unknown,
                               checked->unknown == 1 ? "" : "s");
    return rc;
}
