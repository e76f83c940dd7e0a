/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter check` and `drafter plugins`: what they print, with the fixtures as plugins. */
#include "capture.h"
#include "unit.h"

#include "command.h"
#include "options.h"
#include "role/role.h"
#include "util/probe.h"

#include <jansson.h>
#include <sys/stat.h>

static struct run check_file(const char *path, bool json)
{
    struct run run = {0};
    int saved;

    setenv("DRAFTER_PLUGIN_PATH", FIXTURES, 1);
    saved = capture_begin();
    run.ret = command_check(path, json, &run.err);
    run.output = capture_end(saved);
    return run;
}

/* The node's directories are in the temporary one, unless the text says otherwise: no root is
 * needed. */
static struct run check_text(const char *text, unsigned mode, bool json)
{
    char *directory = unit_make_directory(), *path = unit_path(directory, "node.conf"), *whole;
    struct run run;

    if (strstr(text, "[drafter]"))
        ck_assert_ptr_nonnull(whole = strdup(text));
    else
        ck_assert_int_gt(asprintf(&whole, "%s[drafter]\nstate-directory = %s\nrun-directory = %s\n",
                                  text, directory, directory),
                         0);
    ck_assert_int_eq(io_replace_file(path, whole, strlen(whole), mode, NULL), 0);
    free(whole);
    ck_assert_int_eq(chmod(path, mode), 0);
    run = check_file(path, json);
    free(path);
    unit_drop_directory(directory);
    return run;
}

static struct run plugins(const char *name, bool json)
{
    struct run run = {0};
    int saved;

    setenv("DRAFTER_PLUGIN_PATH", FIXTURES, 1);
    saved = capture_begin();
    run.ret = command_plugins(name, json, &run.err);
    run.output = capture_end(saved);
    return run;
}

START_TEST(a_sound_configuration_has_no_error)
{
    struct run run = check_text("[storage:a]\nplugin = good\nlimit = 8k\n", 0600, false);

    ck_assert_msg(run.ret == 0, "%s\n%s", run.err.message, run.output);
    ck_assert_has(run.output, "node.conf: the syntax is right\n");
    ck_assert_has(run.output, "ok       [storage:a] good: version 1.2, " FIXTURES);
    ck_assert_hasnt(run.output, "error ");
    free(run.output);
}
END_TEST

START_TEST(all_faults_come_at_once)
{
    struct run run = check_text("[storage:a]\nplugin = good\nlimt = 1\nmode = fast\n"
                                "[storage:b]\nplugin = missing-op\n[storag:c]\nx\n"
                                "[storage:d]\nplugin = with-probe\n[network]\n"
                                "[storage:e]\nplugin = good\nnext = f\n",
                                0600, false);

    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.err.message, "node.conf: 8 errors, ");
    ck_assert_has(run.output, "node.conf:8: wanted KEY = VALUE or [SECTION]\n");
    ck_assert_has(run.output, "node.conf:7: unknown section [storag:c]; did you mean 'storage'?\n");
    ck_assert_has(run.output, "node.conf:3: unknown key 'limt' in [storage:a]; did you mean "
                              "'limit'?\n");
    ck_assert_has(run.output, "node.conf:4: mode: 'fast' is not one of slow|fast-forward\n");
    ck_assert_has(run.output,
                  "found no operation flush(), wanted it: every storage plugin has one");
    ck_assert_has(run.output, "error    [storage:d] with-probe: the moon is not full; wait\n");
    ck_assert_has(run.output, "node.conf:11 names no plugin; add plugin = NAME\n");
    ck_assert_has(run.output, "error    storage plugin f: no storage plugin 'f'");
    free(run.output);
}
END_TEST

START_TEST(layers_in_a_circle_are_an_error)
{
    struct run run = check_text("[storage:a]\nplugin = good\nnext = b\n"
                                "[storage:b]\nplugin = good\nnext = a\n",
                                0600, false);

    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.output, "node.conf:3: the sections lie over each other in a circle");
    free(run.output);
}
END_TEST

START_TEST(a_role_is_checked_with_its_plugins_and_devices)
{
    struct run run = check_text("[drafter]\nrole = peer\n[peer]\nvmm = v\nexposure = e\n"
                                "strems = 3\nlisten = :1\ntransport = t\n"
                                "[device:memory]\nbase = /nonexistent/m\noverlay = /a /b\n"
                                "[registry]\nlisten = :2\n",
                                0600, false);

    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.output,
                  "node.conf:6: unknown key 'strems' in [peer]; did you mean 'streams'?");
    ck_assert_has(run.output, "node.conf:12: nothing uses section [registry]\n");
    free(run.output);
    run = check_text("[drafter]\nrole = peer\n[peer]\nvmm = v\nexposure = e\ntransport = t\n"
                     "[device:memory]\nbase = /nonexistent/m\noverlay = /a /b\n",
                     0600, false);
    ck_assert_has(run.output, "error    vmm plugin v: no vmm plugin 'v'");
    ck_assert_has(run.output, "error    device plugin e: no device plugin 'e'");
    ck_assert_hasnt(run.output, "transport plugin t"); /* neither connects nor listens */
    ck_assert_has(run.output, "node.conf:8: /nonexistent/m: No such file or directory\n");
    ck_assert_has(run.output, "node.conf:9: overlay and state must name equally many files\n");
    free(run.output);
    run = check_text("[drafter]\nrole = pear\n", 0600, false);
    ck_assert_has(run.output, "node.conf:2: unknown role 'pear'; did you mean 'peer'?\n");
    free(run.output);
}
END_TEST

/* A role is run and checked with one and the same word about a name that is none. */
START_TEST(an_unknown_role_is_refused_with_its_line)
{
    char *directory = unit_make_directory(), *path = unit_path(directory, "node.conf");
    char *const none[] = {NULL};
    const struct options options = {.config = path};
    struct config *config;
    struct drafter_error err = {0};

    ck_assert_int_eq(io_replace_file(path, "[drafter]\nrole = pear\n", 22, 0600, NULL), 0);
    ck_assert_int_eq(role_config(NULL, &options, none, &config, &err), -EINVAL);
    ck_assert_has(err.message, "node.conf:2: unknown role 'pear'; did you mean 'peer'?");
    ck_assert_int_eq(io_replace_file(path, "[drafter]\n", 10, 0600, NULL), 0);
    ck_assert_int_eq(role_config(NULL, &options, none, &config, &err), -EINVAL);
    ck_assert_has(err.message, "node.conf:1: no role is named; add role = to [drafter]: peer, ");
    free(path);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(where_an_arriving_vm_goes_must_be_writable)
{
    struct run run = check_text("[drafter]\nrole = peer\n[peer]\nconnect = a:1\n"
                                "[device:memory]\nbase = /nonexistent/m\n",
                                0600, false);

    ck_assert_has(run.output, "node.conf:6: /nonexistent: No such file or directory; make the "
                              "directory\n");
    free(run.output);
    run = check_text("[drafter]\nrole = peer\n[peer]\nconnect = a:1\n"
                     "[device:memory]\nbase = /tmp/not-there-yet\n",
                     0600, false);
    ck_assert_hasnt(run.output, "not-there-yet");
    free(run.output);
}
END_TEST

START_TEST(directories_of_the_node_must_be_writable)
{
    struct run run = check_text("[drafter]\nrole = peer\nstate-directory = /dev/null/x\n"
                                "run-directory = /proc/drafter/a/b\n[peer]\n",
                                0600, false);

    ck_assert_has(run.output, "error    state-directory: /dev/null/x: Not a directory");
    if (geteuid() != 0)
        ck_assert_has(run.output, "error    run-directory: /proc");
    free(run.output);
    run = check_text("[drafter]\nrole = peer\nstate-directory = /tmp/a/b/c\n"
                     "run-directory = /tmp\n[peer]\n",
                     0600, false);
    ck_assert_hasnt(run.output, "-directory");
    free(run.output);
}
END_TEST

START_TEST(a_secret_that_everybody_can_read_is_a_warning)
{
    struct run run = check_text("[storage:a]\nplugin = good\nsecret = hunter2\n", 0644, false);

    ck_assert_int_eq(run.ret, 0);
    ck_assert_has(run.output, "it holds secrets and everybody can read it (mode 0644)");
    ck_assert_hasnt(run.output, "hunter2");
    free(run.output);
    run = check_text("[storage:a]\nplugin = good\nsecret = hunter2\n", 0640, false);
    ck_assert_hasnt(run.output, "it holds secrets");
    free(run.output);
    run = check_text("[storage:a]\nplugin = good\n", 0646, false);
    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.output, "everybody can write it (mode 0646)");
    free(run.output);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_an_error)
{
    struct run run = check_file("/nonexistent/node.conf", false);

    ck_assert_int_eq(run.ret, -EINVAL);
    ck_assert_has(run.output, "error    configuration: /nonexistent/node.conf");
    ck_assert_has(run.output, " kvm: "); /* the host is looked at all the same */
    free(run.output);
}
END_TEST

START_TEST(findings_are_there_as_json)
{
    struct run run = check_text("[storage:a]\nplugin = good\nlimt = 1\n", 0600, true);
    json_t *all = json_loads(run.output, 0, NULL), *findings, *finding;
    unsigned errors = 0;
    size_t i;

    ck_assert_ptr_nonnull(all);
    ck_assert_int_eq(json_integer_value(json_object_get(all, "errors")), 1);
    findings = json_object_get(all, "findings");
    json_array_foreach(findings, i, finding)
    {
        if (strcmp(json_string_value(json_object_get(finding, "level")), "error") != 0)
            continue;
        errors++;
        ck_assert_str_eq(json_string_value(json_object_get(finding, "what")), "[storage:a] good");
    }
    ck_assert_uint_eq(errors, 1);
    json_decref(all);
    free(run.output);
}
END_TEST

START_TEST(each_probe_finds_an_answer)
{
    const struct probe *probe;

    for (size_t i = 0; (probe = probe_at(i)); i++) {
        struct probe_result result = {0};

        probe_run(probe, &result);
        ck_assert_msg(*result.reason, "%s says nothing", probe->name);
        ck_assert_ptr_eq(probe_find(probe->name), probe);
    }
    ck_assert_ptr_null(probe_find("teleporter"));
}
END_TEST

/* One line per interface, whose counters change. */
static unsigned count_interfaces(void)
{
    cleanup_free char *text = NULL;
    size_t length;
    unsigned count = 0;

    ck_assert_int_eq(io_read_file("/proc/net/dev", 1 << 20, &text, &length, NULL), 0);
    for (size_t i = 0; i < length; i++)
        count += text[i] == '\n';
    return count;
}

START_TEST(probes_leave_nothing_behind)
{
    cleanup_free char *before = NULL, *after = NULL;
    unsigned interfaces = count_interfaces();
    const struct probe *probe;
    struct stat ns, ns_after;
    size_t length;

    ck_assert_int_eq(stat("/proc/self/ns/net", &ns), 0);
    ck_assert_int_eq(io_read_file("/proc/self/mounts", 1 << 20, &before, &length, NULL), 0);
    for (size_t i = 0; (probe = probe_at(i)); i++) {
        struct probe_result result;

        probe_run(probe, &result);
    }
    ck_assert_int_eq(io_read_file("/proc/self/mounts", 1 << 20, &after, &length, NULL), 0);
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(stat("/proc/self/ns/net", &ns_after), 0);
    ck_assert_uint_eq(ns.st_ino, ns_after.st_ino);
    ck_assert_uint_eq(count_interfaces(), interfaces);
}
END_TEST

START_TEST(plugins_are_listed_with_the_reason_where_one_fails)
{
    struct run run = plugins(NULL, false);

    ck_assert_int_eq(run.ret, 0);
    ck_assert_has(run.output, "KIND       NAME         VERSION  SUMMARY");
    ck_assert_has(run.output, "storage    good         1.2      a fixture of the tests");
    ck_assert_has(run.output, "storage    wrong-major  -        cannot be loaded: found plugin "
                              "interface 2.3, wanted major version 1");
    free(run.output);
}
END_TEST

START_TEST(a_plugin_is_described)
{
    static const char *const names[] = {"good", "storage/good",
                                        FIXTURES "/drafter-storage-good.so"};
    struct run run = plugins(names[_i], false);

    ck_assert_msg(run.ret == 0, "%s", run.err.message);
    ck_assert_has(run.output, "storage/good 1.2: a fixture of the tests\n");
    ck_assert_has(run.output, "interface     1.3 (this program: 1.3)\n");
    ck_assert_has(run.output, "licence       BSD-2-Clause\n");
    ck_assert_has(run.output, "threads       parallel\n");
    ck_assert_has(run.output, "operations    open size pread pwrite flush extent\n");
    ck_assert_has(run.output, "left out      zero trim layer check verify digest settled\n");
    ck_assert_has(run.output, "limit                  size, 512 to 1M, default 4k\n      a size\n");
    ck_assert_has(run.output, "mode                   choice, slow|fast-forward, default slow\n");
    ck_assert_has(run.output, "secret                 string, secret\n");
    free(run.output);
}
END_TEST

START_TEST(a_description_is_there_as_json)
{
    struct run run = plugins("storage/good", true);
    json_t *all = json_loads(run.output, 0, NULL), *option;

    ck_assert_uint_eq(json_array_size(all), 1);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(all, 0), "abi")), "1.3");
    option = json_array_get(json_object_get(json_array_get(all, 0), "options"), 2);
    ck_assert_str_eq(json_string_value(json_object_get(option, "key")), "limit");
    ck_assert_int_eq(json_integer_value(json_object_get(option, "maximum")), 1048576);
    json_decref(all);
    free(run.output);
}
END_TEST

START_TEST(the_list_is_there_as_json)
{
    struct run run = plugins(NULL, true);
    json_t *all = json_loads(run.output, 0, NULL), *entry;
    bool failed = false;
    size_t i;

    json_array_foreach(all, i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "name")), "null-entry") == 0)
            failed = json_is_string(json_object_get(entry, "error"));
        if (strcmp(json_string_value(json_object_get(entry, "name")), "good") == 0)
            ck_assert(json_is_null(json_object_get(entry, "error")));
    }
    ck_assert(failed);
    json_decref(all);
    free(run.output);
}
END_TEST

START_TEST(descriptions_of_what_is_not_there_fail)
{
    struct run run = plugins("goood", false);

    ck_assert_int_eq(run.ret, -ENOENT);
    free(run.output);
    run = plugins("storage/goood", false);
    ck_assert_int_eq(run.ret, -ENOENT);
    ck_assert_has(run.err.message, "did you mean 'good'?");
    free(run.output);
    run = plugins("kitchen/good", false);
    ck_assert_int_eq(run.ret, -EINVAL);
    free(run.output);
    run = plugins("wrong-magic", false);
    ck_assert_int_eq(run.ret, -ENOEXEC);
    ck_assert_has(run.err.message, "found magic");
    free(run.output);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_sound_configuration_has_no_error);
    tcase_add_test(tests, all_faults_come_at_once);
    tcase_add_test(tests, layers_in_a_circle_are_an_error);
    tcase_add_test(tests, a_role_is_checked_with_its_plugins_and_devices);
    tcase_add_test(tests, an_unknown_role_is_refused_with_its_line);
    tcase_add_test(tests, where_an_arriving_vm_goes_must_be_writable);
    tcase_add_test(tests, directories_of_the_node_must_be_writable);
    tcase_add_test(tests, a_secret_that_everybody_can_read_is_a_warning);
    tcase_add_test(tests, a_file_that_is_not_there_is_an_error);
    tcase_add_test(tests, findings_are_there_as_json);
    tcase_add_test(tests, each_probe_finds_an_answer);
    tcase_add_test(tests, probes_leave_nothing_behind);
    tcase_add_test(tests, plugins_are_listed_with_the_reason_where_one_fails);
    tcase_add_loop_test(tests, a_plugin_is_described, 0, 3);
    tcase_add_test(tests, a_description_is_there_as_json);
    tcase_add_test(tests, the_list_is_there_as_json);
    tcase_add_test(tests, descriptions_of_what_is_not_there_fail);
}

int main(void)
{
    return unit_run("config-check", add_tests);
}
