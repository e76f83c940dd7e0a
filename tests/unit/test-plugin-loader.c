/* SPDX-License-Identifier: BSD-2-Clause */
/* The loader against fixtures that each have one defect (tests/plugins/fixture.c). */
#include "unit.h"

#include "plugin/kinds.h"
#include "plugin/plugin.h"
#include "plugin/search.h"
#include <drafter/storage.h>
#include <sys/stat.h>

static void use_fixtures(void)
{
    setenv("DRAFTER_PLUGIN_PATH", FIXTURES, 1);
}

static void copy_file(const char *from, const char *to)
{
    cleanup_free char *data = NULL;
    size_t length;

    ck_assert_int_eq(io_read_file(from, 16 << 20, &data, &length, NULL), 0);
    ck_assert_int_eq(io_replace_file(to, data, length, 0755, NULL), 0);
}

/* A copy of the good fixture in a fresh directory. */
static char *copy_good(const char *directory)
{
    char *path = unit_path(directory, "drafter-storage-good.so");

    copy_file(FIXTURES "/drafter-storage-good.so", path);
    return path;
}

static void expect_refusal(enum drafter_kind kind, const char *name, const char *file,
                           const char *reason)
{
    struct drafter_error err = {0};
    struct plugin *plugin = NULL;
    cleanup_free char *message = NULL;

    ck_assert_int_lt(plugin_load(kind, name, &plugin, &err), 0);
    ck_assert_ptr_null(plugin);
    ck_assert_int_gt(asprintf(&message, "%s: %s", file, reason), 0);
    ck_assert_str_eq(err.message, message);
}

#define STRING_(text) #text
#define STRING(text) STRING_(text)

static const struct {
    const char *name, *reason;
} defects[] = {
    {"wrong-magic", "found magic 0x21212121, wanted 0x31465244"},
    {"wrong-major", "found plugin interface 2." STRING(DRAFTER_ABI_MINOR) ", wanted major version 1"},
    {"tiny", "found a descriptor of 16 bytes, wanted 104 to 65536"},
    {"gigantic", "found a descriptor of 1073741824 bytes, wanted 104 to 65536"},
    {"wrong-kind", "found a transport plugin, wanted a storage plugin"},
    {"no-kind", "found kind 99, wanted storage"},
    {"wrong-name", "found plugin 'other', wanted 'wrong-name'"},
    {"no-name", "found a name that is missing or not of the letters a-z, digits and dashes, wanted "
                "one"},
    {"missing-op", "found no operation flush(), wanted it: every storage plugin has one"},
    {"short-ops", "found no operation flush(), wanted it: every storage plugin has one"},
    {"no-create", "found no create(), wanted one"},
    {"no-ops", "found no table of operations, wanted one"},
    {"threads", "found thread model 7, wanted 0 or 1"},
    {"bad-option", "option 'outside': 8 bytes at 40 do not fit a configuration of 40"},
    {"bad-default", "option 'number': default: 'many' is not a whole number"},
    {"null-entry", "found no descriptor (drafter_plugin_entry() returned NULL), wanted one"},
    {"no-entry", "found no symbol drafter_plugin_entry, wanted it"},
    {"undefined", "found an object that cannot be loaded: undefined symbol: "
                  "fixture_nobody_has_this"},
};

START_TEST(each_defect_is_refused_by_its_reason)
{
    cleanup_free char *file = NULL;

    use_fixtures();
    ck_assert_int_gt(asprintf(&file, FIXTURES "/drafter-storage-%s.so", defects[_i].name), 0);
    expect_refusal(DRAFTER_KIND_STORAGE, defects[_i].name, file, defects[_i].reason);
}
END_TEST

START_TEST(a_transport_that_serializes_is_refused)
{
    use_fixtures();
    expect_refusal(DRAFTER_KIND_TRANSPORT, "serial", FIXTURES "/drafter-transport-serial.so",
                   "found thread model serialize-instance, wanted parallel: the operations of a "
                   "transport wait for each other");
}
END_TEST

START_TEST(a_good_plugin_is_loaded)
{
    struct drafter_error err = {0};
    struct plugin *plugin;

    use_fixtures();
    ck_assert_msg(plugin_load(DRAFTER_KIND_STORAGE, "good", &plugin, &err) == 0, "%s", err.message);
    ck_assert_str_eq(plugin->descriptor.name, "good");
    ck_assert_str_eq(plugin->descriptor.version, "1.2");
    ck_assert_ptr_nonnull(((struct drafter_storage_ops *)plugin->ops)->extent);
    plugin_unload(plugin);
}
END_TEST

START_TEST(an_older_minor_lacks_the_operations_it_did_not_know)
{
    const struct drafter_storage_ops *ops;
    struct drafter_error err = {0};
    struct plugin *plugin;

    use_fixtures();
    ck_assert_msg(plugin_load(DRAFTER_KIND_STORAGE, "older", &plugin, &err) == 0, "%s",
                  err.message);
    ops = plugin->ops;
    ck_assert_ptr_nonnull(ops->flush);
    ck_assert_ptr_null(ops->zero);
    ck_assert_ptr_null(ops->extent); /* the plugin's memory has it, but behind the size it states */
    plugin_unload(plugin);
}
END_TEST

START_TEST(a_newer_minor_is_cut_to_what_is_known)
{
    struct drafter_error err = {0};
    struct plugin *plugin;

    use_fixtures();
    ck_assert_msg(plugin_load(DRAFTER_KIND_STORAGE, "newer", &plugin, &err) == 0, "%s",
                  err.message);
    ck_assert_uint_gt(plugin->descriptor.struct_size, sizeof(struct drafter_plugin));
    ck_assert_uint_gt(plugin->descriptor.ops_size, sizeof(struct drafter_storage_ops));
    ck_assert_ptr_nonnull(((struct drafter_storage_ops *)plugin->ops)->extent);
    plugin_unload(plugin);
}
END_TEST

START_TEST(an_absolute_path_is_taken)
{
    struct drafter_error err = {0};
    struct plugin *plugin;

    setenv("DRAFTER_PLUGIN_PATH", "/nonexistent", 1);
    ck_assert_msg(
        plugin_load(DRAFTER_KIND_STORAGE, FIXTURES "/drafter-storage-good.so", &plugin, &err) == 0,
        "%s", err.message);
    plugin_unload(plugin);
    expect_refusal(DRAFTER_KIND_VMM, FIXTURES "/drafter-storage-good.so",
                   FIXTURES "/drafter-storage-good.so",
                   "found a storage plugin, wanted a vmm plugin");
}
END_TEST

START_TEST(a_relative_path_and_a_strange_name_are_refused)
{
    static const char *const names[] = {"../good", "drafter-storage-good.so", "", "Good", "a/b"};
    struct drafter_error err = {0};
    struct plugin *plugin;

    use_fixtures();
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, names[_i], &plugin, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "is no plugin name"));
}
END_TEST

START_TEST(relative_directories_of_the_search_path_are_passed_over)
{
    struct drafter_error err = {0};
    struct plugin *plugin;

    ck_assert_int_eq(chdir(FIXTURES), 0);
    setenv("DRAFTER_PLUGIN_PATH", ".::fixtures", 1);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, "good", &plugin, &err), -ENOENT);
    setenv("DRAFTER_PLUGIN_PATH", ".:/nonexistent:" FIXTURES, 1);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, "good", &plugin, &err), 0);
    plugin_unload(plugin);
}
END_TEST

START_TEST(a_missing_plugin_names_the_nearest)
{
    struct drafter_error err = {0};
    struct plugin *plugin;

    use_fixtures();
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, "goood", &plugin, &err), -ENOENT);
    ck_assert_str_eq(err.message,
                     "no storage plugin 'goood' in " FIXTURES "; did you mean 'good'?");
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_NETWORK, "good", &plugin, &err), -ENOENT);
    ck_assert_str_eq(err.message,
                     "no network plugin 'good' (drafter-network-good.so) in " FIXTURES);
}
END_TEST

START_TEST(a_file_that_everybody_can_write_is_refused)
{
    char *directory = unit_make_directory();
    char *file = copy_good(directory);

    chmod(file, 0757);
    expect_refusal(DRAFTER_KIND_STORAGE, file, file,
                   "found mode 0757 of it, which everybody can write, wanted a file that only its "
                   "owner can");
    free(file);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_directory_that_everybody_can_write_is_refused)
{
    char *directory = unit_make_directory(), *reason;
    char *file = copy_good(directory);

    chmod(directory, 01777);
    ck_assert_int_gt(
        asprintf(&reason,
                 "found mode 1777 of %s, which everybody can write, wanted a directory "
                 "that only its owner can",
                 directory),
        0);
    expect_refusal(DRAFTER_KIND_STORAGE, file, file, reason);
    free(reason);
    free(file);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_link_is_refused_when_either_directory_is_unsafe)
{
    char *target = unit_make_directory(), *linked = unit_make_directory();
    char *file = copy_good(target), *link = unit_path(linked, "drafter-storage-good.so");
    struct drafter_error err = {0};
    struct plugin *plugin;

    ck_assert_int_eq(symlink(file, link), 0);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, link, &plugin, &err), 0);
    plugin_unload(plugin);
    chmod(target, 0777);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, link, &plugin, &err), -EPERM);
    chmod(target, 0700);
    chmod(linked, 0777);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, link, &plugin, &err), -EPERM);
    free(file);
    free(link);
    unit_drop_directory(target);
    unit_drop_directory(linked);
}
END_TEST

START_TEST(a_file_of_another_user_is_refused)
{
    char *directory, *file;

    if (geteuid() != 0) {
        printf("not root: the owner of a file cannot be changed\n");
        return;
    }
    directory = unit_make_directory();
    file = copy_good(directory);
    ck_assert_int_eq(chown(file, 12345, 0), 0);
    expect_refusal(DRAFTER_KIND_STORAGE, file, file, "found owner 12345 of it, wanted 0 or 0");
    free(file);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_file_that_is_no_object_is_refused)
{
    char *directory = unit_make_directory();
    char *file = unit_path(directory, "drafter-storage-text.so");
    struct drafter_error err = {0};
    struct plugin *plugin;

    ck_assert_int_eq(io_replace_file(file, "hello\n", 6, 0755, NULL), 0);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, file, &plugin, &err), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(err.message, "found an object that cannot be loaded"));
    free(file);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_good_plugin_under_another_file_name_is_refused)
{
    char *directory = unit_make_directory();
    char *file = unit_path(directory, "something.so");

    copy_file(FIXTURES "/drafter-storage-good.so", file);
    expect_refusal(DRAFTER_KIND_STORAGE, file, file,
                   "found plugin 'good', wanted file name drafter-storage-good.so");
    free(file);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_plugin_is_loaded_once_and_counted)
{
    struct plugin *first, *second;

    use_fixtures();
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, "good", &first, NULL), 0);
    ck_assert_int_eq(plugin_load(DRAFTER_KIND_STORAGE, "good", &second, NULL), 0);
    ck_assert_ptr_eq(first, second);
    ck_assert_uint_eq(first->references, 2);
    plugin_unload(second);
    ck_assert_uint_eq(first->references, 1);
    ck_assert_str_eq(first->descriptor.name, "good");
    plugin_unload(first);
    plugin_unload(NULL);
}
END_TEST

struct visits {
    unsigned loaded, refused;
};

static int count_visit(void *opaque, const char *path, const struct plugin *plugin,
                       const struct drafter_error *err)
{
    struct visits *visits = opaque;

    ck_assert(*path == '/');
    if (plugin)
        visits->loaded++;
    else if (err->code)
        visits->refused++;
    return 0;
}

START_TEST(every_file_is_visited_loadable_or_not)
{
    struct visits visits = {0};

    use_fixtures();
    ck_assert_int_eq(plugin_foreach(count_visit, &visits), 0);
    ck_assert_uint_eq(visits.loaded, 5); /* good, older, newer, serial, with-probe */
    ck_assert_uint_eq(visits.refused, sizeof(defects) / sizeof(*defects) + 1);
}
END_TEST

START_TEST(a_file_hidden_by_an_earlier_directory_is_not_visited)
{
    char *directory = unit_make_directory(), *path;
    char *file = copy_good(directory);
    struct visits visits = {0};

    ck_assert_int_gt(asprintf(&path, "%s:" FIXTURES, directory), 0);
    setenv("DRAFTER_PLUGIN_PATH", path, 1);
    ck_assert_int_eq(plugin_foreach(count_visit, &visits), 0);
    ck_assert_uint_eq(visits.loaded, 5);
    free(path);
    free(file);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(kinds_have_names)
{
    enum drafter_kind kind;

    for (int i = DRAFTER_KIND_TRANSPORT; i <= DRAFTER_KIND_VMM; i++) {
        ck_assert_int_eq(plugin_kind_parse(plugin_kind_name((enum drafter_kind)i), &kind), 0);
        ck_assert_int_eq((int)kind, i);
    }
    ck_assert_int_eq(plugin_kind_parse("storag", &kind), -EINVAL);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, each_defect_is_refused_by_its_reason, 0,
                        sizeof(defects) / sizeof(*defects));
    tcase_add_test(tests, a_transport_that_serializes_is_refused);
    tcase_add_test(tests, a_good_plugin_is_loaded);
    tcase_add_test(tests, an_older_minor_lacks_the_operations_it_did_not_know);
    tcase_add_test(tests, a_newer_minor_is_cut_to_what_is_known);
    tcase_add_test(tests, an_absolute_path_is_taken);
    tcase_add_loop_test(tests, a_relative_path_and_a_strange_name_are_refused, 0, 5);
    tcase_add_test(tests, relative_directories_of_the_search_path_are_passed_over);
    tcase_add_test(tests, a_missing_plugin_names_the_nearest);
    tcase_add_test(tests, a_file_that_everybody_can_write_is_refused);
    tcase_add_test(tests, a_directory_that_everybody_can_write_is_refused);
    tcase_add_test(tests, a_link_is_refused_when_either_directory_is_unsafe);
    tcase_add_test(tests, a_file_of_another_user_is_refused);
    tcase_add_test(tests, a_file_that_is_no_object_is_refused);
    tcase_add_test(tests, a_good_plugin_under_another_file_name_is_refused);
    tcase_add_test(tests, a_plugin_is_loaded_once_and_counted);
    tcase_add_test(tests, every_file_is_visited_loadable_or_not);
    tcase_add_test(tests, a_file_hidden_by_an_earlier_directory_is_not_visited);
    tcase_add_test(tests, kinds_have_names);
}

int main(void)
{
    return unit_run("plugin-loader", add_tests);
}
