/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What `drafter check` says about the devices, the ledger and the package of a role, and `drafter
 * roles`.  The plugins are the tree's own where storage is looked at.
 */
#include "capture.h"
#include "unit.h"

#include "command.h"
#include "migrate/ledger.h"
#include "plugin/storage.h"
#include "vm/package.h"

#include <jansson.h>
#include <sys/stat.h>

#define MIB (1 << 20)

static char *directory;

static struct run check_path(const char *path)
{
    struct run run = {0};
    int saved = capture_begin();

    run.ret = command_check(path, false, &run.err);
    run.output = capture_end(saved);
    return run;
}

/* A node of the VM "vm" whose directories are `directory`; "@" stands for that in `text`. */
static struct run check_text(const char *text)
{
    char *path = unit_path(directory, "node.conf"), *whole = calloc(1, 1 << 16), *to = whole;
    struct run run;

    ck_assert_ptr_nonnull(whole);
    to += snprintf(whole, 1 << 15,
                   "[drafter]\nstate-directory = %s\nrun-directory = %s\nrole = ", directory,
                   directory);
    for (const char *from = text; *from; from++)
        if (*from == '@')
            to = stpcpy(to, directory);
        else
            *to++ = *from;
    ck_assert_int_eq(io_replace_file(path, whole, strlen(whole), 0600, NULL), 0);
    run = check_path(path);
    free(whole);
    free(path);
    return run;
}

static void make_file(const char *name, const void *content, size_t length)
{
    char *path = unit_path(directory, name);

    ck_assert_int_eq(io_replace_file(path, content, length, 0600, NULL), 0);
    free(path);
}

static void set_up(void)
{
    directory = unit_make_directory();
    for (const char *const *name = (const char *const[]){"kernel", "state", "memory", NULL}; *name;
         name++)
        make_file(*name, "x", 1);
}

static void tear_down(void)
{
    unit_drop_directory(directory);
}

#define DEVICES                                                                                    \
    "[device:kernel]\nbase = @/kernel\n[device:state]\nbase = @/state\n"                           \
    "[device:memory]\nbase = @/memory\n"
#define PEER "peer\n[peer]\nvmm = null\nexposure = null\n"

static void make_package(const char *vmm, const char *extra_device)
{
    struct package package = {.complete = true, .memory_size = MIB, .cpu_count = 1};
    char *text;

    snprintf(package.facts.name, sizeof(package.facts.name), "%s", vmm);
    snprintf(package.devices[0].name, sizeof(package.devices[0].name), "memory");
    snprintf(package.devices[1].name, sizeof(package.devices[1].name), "%s", extra_device);
    package.devices[0].size = package.devices[1].size = MIB;
    package.device_count = 2;
    text = package_encode(&package);
    make_file("config", text, strlen(text));
    free(text);
}

static void make_ledger(enum ledger_state state)
{
    struct ledger ledger;

    ck_assert_int_eq(ledger_open(directory, "vm", &ledger, NULL), 0);
    ck_assert_int_eq(ledger_write(&ledger, state, 7, "there:1337", NULL, NULL), 0);
    ledger_close(&ledger);
}

START_TEST(devices_that_a_role_needs_must_have_sections)
{
    struct run run = check_text("snapshotter\n[device:kernel]\ninput = @/kernel\n");

    ck_assert_has(run.output, "there is no [device:state] section\n");
    ck_assert_has(run.output, "there is no [device:config] section\n");
    ck_assert_has(run.output, "node.conf:5: device kernel needs an output; add output = FILE\n");
    free(run.output);
    run = check_text("registry\n" DEVICES);
    ck_assert_has(run.output, "there is no [device:config] section\n");
    free(run.output);
    run = check_text(PEER "connect = a:1\n");
    ck_assert_has(run.output, "nothing could be received\n");
    free(run.output);
    run = check_text(PEER DEVICES "[device:config]\n[device]\nbase = @/kernel\n");
    ck_assert_has(run.output, "device config needs a base; add base = FILE\n");
    ck_assert_has(run.output, "a device needs a name: [device:NAME]\n");
    free(run.output);
}
END_TEST

START_TEST(files_to_start_from_must_hold_something)
{
    struct run run;

    make_file("state", "", 0);
    run = check_text(PEER "[device:state]\nbase = @/state\n[device:memory]\nbase = @\n");
    ck_assert_has(run.output, "/state: is empty\n");
    ck_assert_has(run.output, ": is a directory\n");
    free(run.output);
}
END_TEST

START_TEST(files_with_content_are_not_received_into)
{
    struct run run = check_text(PEER "connect = a:1\n" DEVICES);

    ck_assert_has(run.output, "/memory: it exists and is not known to be a VM's that left; move it "
                              "away, or set overwrite = yes in [peer]\n");
    free(run.output);
    run = check_text(PEER "connect = a:1\noverwrite = yes\n" DEVICES);
    ck_assert_hasnt(run.output, "it exists");
    free(run.output);
    make_ledger(LEDGER_RELINQUISHED);
    run = check_text(PEER "connect = a:1\n" DEVICES);
    ck_assert_hasnt(run.output, "it exists");
    free(run.output);
}
END_TEST

START_TEST(a_vm_that_left_does_not_start_here)
{
    struct run run;

    make_ledger(LEDGER_RELINQUISHED);
    run = check_text(PEER DEVICES);
    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.output, "VM vm belongs to there:1337 since epoch 7; its files here are "
                              "old; take it over from there with connect\n");
    free(run.output);
    make_ledger(LEDGER_REFUSED);
    run = check_text(PEER DEVICES);
    ck_assert_has(run.output, "VM vm belongs to there:1337 since epoch 7");
    free(run.output);
    make_ledger(LEDGER_INCOMPLETE);
    run = check_text(PEER DEVICES);
    ck_assert_has(run.output, "error    ");
    ck_assert_has(run.output, "VM vm was taken over from there:1337 in epoch 7, but not all of it "
                              "arrived\n");
    free(run.output);
    make_ledger(LEDGER_OWNED);
    run = check_text(PEER DEVICES);
    ck_assert_has(run.output, "error    ");
    ck_assert_has(run.output, "VM vm ran here and was not saved when its drafter or host ended");
    free(run.output);
    make_ledger(LEDGER_SAVED);
    run = check_text(PEER DEVICES);
    ck_assert_has(run.output, "vm.ledger: VM vm: owned, saved in epoch 7\n");
    free(run.output);
    run = check_text(PEER "connect = a:1\n" DEVICES);
    ck_assert_has(run.output, "warning  ");
    ck_assert_has(run.output, "VM vm is owned here in epoch 7: a running one will be refused");
    free(run.output);
}
END_TEST

START_TEST(files_of_a_vm_that_runs_are_left_alone)
{
    struct ledger ledger;
    struct run run;

    ck_assert_int_eq(ledger_open(directory, "vm", &ledger, NULL), 0);
    ck_assert_int_eq(ledger_write(&ledger, LEDGER_OWNED, 7, "there:1337", NULL, NULL), 0);
    run = check_text(PEER DEVICES);
    ck_assert_has(run.output, "warning  ");
    ck_assert_has(run.output, "vm.ledger: VM vm is in use in epoch 7: a drafter has it, or the holder "
                              "of one that died; start only the latter's again");
    ck_assert_hasnt(run.output, "start over");
    free(run.output);
    run = check_text(PEER "connect = a:1\n" DEVICES);
    ck_assert_has(run.output, "VM vm is in use in epoch 7");
    ck_assert_hasnt(run.output, "move it away");
    free(run.output);
    ledger_close(&ledger);
}
END_TEST

START_TEST(devices_are_files_as_large_as_the_package_says)
{
    struct run run;
    char *path = unit_path(directory, "memory"), *state = unit_path(directory, "state");

    make_package("null", "disk");
    run = check_text(PEER DEVICES "[device:config]\nbase = @/config\n");
    ck_assert_has(run.output, "error    package: device memory has 1 bytes, the package's has 1048576");
    free(run.output);
    ck_assert_int_eq(truncate(path, MIB), 0);
    ck_assert_int_eq(unlink(state), 0);
    ck_assert_int_eq(mkfifo(state, 0600), 0);
    run = check_text(PEER DEVICES "[device:config]\nbase = @/config\n");
    ck_assert_hasnt(run.output, "device memory has");
    ck_assert_has(run.output, "/state: neither a file nor a block device\n");
    free(run.output);
    free(path);
    free(state);
}
END_TEST

START_TEST(the_ledger_is_not_made)
{
    char *path = unit_path(directory, "vm.ledger");
    struct run run = check_text(PEER DEVICES);

    ck_assert_int_lt(access(path, F_OK), 0);
    free(run.output);
    free(path);
}
END_TEST

START_TEST(a_file_is_no_directory_of_the_node)
{
    char *path = unit_path(directory, "node.conf"), *text;
    struct run run;

    ck_assert_int_gt(asprintf(&text,
                              "[drafter]\nrole = registry\nstate-directory = %s/kernel\n"
                              "run-directory = %s\n",
                              directory, directory),
                     0);
    ck_assert_int_eq(io_replace_file(path, text, strlen(text), 0600, NULL), 0);
    run = check_path(path);
    ck_assert_has(run.output, "error    state-directory: ");
    ck_assert_has(run.output, "/kernel: Not a directory; name another one\n");
    free(run.output);
    free(text);
    free(path);
}
END_TEST

START_TEST(what_excludes_each_other_is_an_error)
{
    struct run run = check_text(PEER "listen = :1\n[device:kernel]\nbase = @/kernel\n"
                                     "make-migratable = no\n");

    ck_assert_has(run.output, "node.conf:11: a device that is not migratable and listen exclude "
                              "each other");
    free(run.output);
    run = check_text(PEER "listen =\n");
    ck_assert_has(run.output, "node.conf:8: \"\" is no address\n");
    free(run.output);
}
END_TEST

START_TEST(a_package_must_fit_this_host)
{
    struct run run;

    make_package("other", "disk");
    run = check_text(PEER DEVICES "[device:config]\nbase = @/config\n");
    ck_assert_has(run.output, "package: the VM needs the VMM \"other\", this host has \"null\"\n");
    ck_assert_has(run.output, "package: it has device disk, but there is no [device:disk] section");
    free(run.output);
    make_file("config", "{", 1);
    run = check_text("registry\n[device:config]\nbase = @/config\n");
    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.output, "error    ");
    free(run.output);
}
END_TEST

/* An overlay and its map over the device "memory". */
static void make_overlay(void)
{
    char *base = unit_path(directory, "memory"), *overlay = unit_path(directory, "overlay"),
         *state = unit_path(directory, "map");
    const char *const below_options[] = {"path", base, NULL};
    const char *const options[] = {"overlay", overlay, "state", state, NULL};
    struct instance *below, *storage;
    char page[4096] = "x";

    ck_assert_int_eq(truncate(base, MIB), 0);
    ck_assert_int_eq(instance_new(DRAFTER_KIND_STORAGE, NULL, DEFAULT_STORAGE, below_options, "b",
                                  directory, NULL, &below, NULL),
                     0);
    ck_assert_int_eq(instance_new(DRAFTER_KIND_STORAGE, NULL, DEFAULT_OVERLAY, options, "o",
                                  directory, below, &storage, NULL),
                     0);
    ck_assert_int_eq(storage_open(below, 0, DRAFTER_STORAGE_READONLY, NULL), 0);
    ck_assert_int_eq(storage_open(storage, MIB, DRAFTER_STORAGE_CREATE, NULL), 0);
    ck_assert_int_eq(storage_write(storage, page, sizeof(page), 0), 0);
    ck_assert_int_eq(storage_flush(storage), 0);
    instance_free(storage);
    instance_free(below);
    free(base);
    free(overlay);
    free(state);
}

#define OVERLAID PEER "[device:memory]\nbase = @/memory\noverlay = @/overlay\nstate = @/map\n"

START_TEST(overlays_are_examined)
{
    struct run run;
    char *path = unit_path(directory, "overlay");

    make_overlay();
    run = check_text(OVERLAID);
    ck_assert_hasnt(run.output, " memory: ");
    free(run.output);
    ck_assert_int_eq(truncate(path, MIB / 2), 0);
    run = check_text(OVERLAID);
    ck_assert_has(run.output, "error    memory: ");
    free(run.output);
    ck_assert_int_eq(unlink(path), 0);
    run = check_text(OVERLAID);
    ck_assert_has(run.output, "/map is there and ");
    ck_assert_has(run.output, "/overlay is not; restore it, or remove both to start anew\n");
    free(run.output);
    free(path);
}
END_TEST

START_TEST(the_lowest_of_two_overlays_must_be_there)
{
    struct run run = check_text(PEER "[device:memory]\nbase = @/memory\noverlay = @/a @/b\n"
                                     "state = @/c @/d\n");

    ck_assert_has(run.output, "/a: No such file or directory\n");
    ck_assert_hasnt(run.output, "/b: No such file");
    free(run.output);
}
END_TEST

static struct run roles(const char *section, bool json)
{
    struct run run = {0};
    int saved = capture_begin();

    run.ret = command_roles(section, json, &run.err);
    run.output = capture_end(saved);
    return run;
}

START_TEST(roles_and_their_keys_are_listed)
{
    struct run run = roles(NULL, false);
    json_t *all;

    ck_assert_has(run.output, "peer         role     ");
    ck_assert_has(run.output, "device       section  ");
    free(run.output);
    run = roles("registry", false);
    ck_assert_has(run.output, "[registry]: ");
    ck_assert_has(run.output, "  listen                 string, default :1600\n");
    free(run.output);
    run = roles("registry", true);
    all = json_loads(run.output, 0, NULL);
    ck_assert_uint_eq(json_array_size(all), 1);
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(all, 0), "options")), 2);
    json_decref(all);
    free(run.output);
    run = roles("regstry", false);
    ck_assert_int_eq(run.ret, -ENOENT);
    free(run.output);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, devices_that_a_role_needs_must_have_sections);
    tcase_add_test(tests, files_to_start_from_must_hold_something);
    tcase_add_test(tests, files_with_content_are_not_received_into);
    tcase_add_test(tests, a_vm_that_left_does_not_start_here);
    tcase_add_test(tests, files_of_a_vm_that_runs_are_left_alone);
    tcase_add_test(tests, devices_are_files_as_large_as_the_package_says);
    tcase_add_test(tests, the_ledger_is_not_made);
    tcase_add_test(tests, a_file_is_no_directory_of_the_node);
    tcase_add_test(tests, what_excludes_each_other_is_an_error);
    tcase_add_test(tests, a_package_must_fit_this_host);
    tcase_add_test(tests, overlays_are_examined);
    tcase_add_test(tests, the_lowest_of_two_overlays_must_be_there);
    tcase_add_test(tests, roles_and_their_keys_are_listed);
}

int main(void)
{
    return unit_run("config-roles", add_tests);
}
