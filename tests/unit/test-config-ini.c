/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"

#include "config/config.h"

static struct config *parse(const char *text)
{
    struct drafter_error err = {0};
    struct config *config = NULL;

    ck_assert_msg(config_parse(text, strlen(text), "f", &config, &err) == 0, "%s", err.message);
    return config;
}

START_TEST(sections_and_keys_keep_their_lines)
{
    struct config *config = parse("; comment\n\n[peer]\nname = a\n\n# more\n[device:disk.1]\n"
                                  "path=/x ; why\n  size : 5\n");
    struct config_section *section = config_section(config, "device", "disk.1");

    ck_assert_str_eq(config_where(config_section(config, "peer", ""), NULL), "f:3");
    ck_assert_str_eq(config_where(config_section(config, "peer", ""), "name"), "f:4");
    ck_assert_str_eq(config_where(section, NULL), "f:7");
    ck_assert_str_eq(config_where(section, "path"), "f:8");
    ck_assert_str_eq(config_where(section, "size"), "f:9");
    ck_assert_str_eq(config_value(section, "path"), "/x");
    ck_assert_str_eq(config_value(section, "SIZE"), "5");
    ck_assert_ptr_null(config_value(section, "name"));
    config_free(config);
}
END_TEST

START_TEST(empty_sections_exist)
{
    struct config *config = parse("[peer]\n[ device : a ]\n[device:b] ; last");

    ck_assert_ptr_nonnull(config_section(config, "peer", ""));
    ck_assert_ptr_nonnull(config_section(config, "device", "a"));
    ck_assert_ptr_null(config_section(config, "device", ""));
    config_free(config);
}
END_TEST

START_TEST(sections_are_walked_in_the_order_of_the_file)
{
    struct config *config = parse("[device:z]\n[peer]\n[device:a]\n[Device:m]\n");
    const struct config_section *section = NULL;
    const char *const ids[] = {"z", "a", "m"};

    for (int i = 0; i < 3; i++) {
        section = config_next(config, "device", section);
        ck_assert_str_eq(section->id, ids[i]);
    }
    ck_assert_ptr_null(config_next(config, "device", section));
    ck_assert_ptr_null(config_next(config, "none", NULL));
    config_free(config);
}
END_TEST

START_TEST(files_of_other_systems_are_read)
{
    struct config *config = parse("\xef\xbb\xbf[peer]\r\nname = a\r\n\r\nother = b\r\n");
    struct config_section *section = config_section(config, "peer", "");

    ck_assert_str_eq(config_value(section, "name"), "a");
    ck_assert_str_eq(config_where(section, "other"), "f:4");
    config_free(config);
}
END_TEST

START_TEST(a_long_line_is_read_whole)
{
    size_t length = 32000;
    cleanup_free char *text = calloc(1, length + 100);
    struct config *config;

    strcat(text, "[peer]\na = ");
    memset(text + strlen(text), 'x', length);
    strcat(text, "\nb = 1\n");
    config = parse(text);
    ck_assert_uint_eq(strlen(config_value(config_section(config, "peer", ""), "a")), length);
    ck_assert_str_eq(config_where(config_section(config, "peer", ""), "b"), "f:3");
    config_free(config);
}
END_TEST

START_TEST(an_empty_file_is_an_empty_configuration)
{
    struct config *config = parse("");

    ck_assert_ptr_null(config_next(config, "peer", NULL));
    config_free(config);
}
END_TEST

static const struct {
    const char *text, *message;
} faulty[] = {
    {"[a]\nx = 1\n\nX- = 2\n", "f:4: key 'X-' is there already, at line 2"},
    {"[a]\n[b]\n[A]\n", "f:3: section [a] is there already, at line 1"},
    {"[a:1]\n[a:2]\n[a:1]\n", "f:3: section [a:1] is there already, at line 1"},
    {"x = 1\n", "f:1: key 'x' stands before the first [SECTION]"},
    {"[a]\nx\n", "f:2: wanted KEY = VALUE or [SECTION]"},
    {"[a]\nx ; y = 1\n", "f:2: wanted KEY = VALUE or [SECTION]"},
    {"[a]\n = 1\n", "f:2: '' is no key: wanted letters, digits and dashes"},
    {"[a]\n-- = 1\n", "f:2: '--' is no key: wanted letters, digits and dashes"},
    {"[a]\nx y = 1\n", "f:2: 'x y' is no key: wanted letters, digits and dashes"},
    {"\n[a\n", "f:2: a section needs a closing ']'"},
    {"[a] b\n", "f:1: found more after the ']' of a section"},
    {"[a]\n\tx\rb = 1\n", "f:2: found a carriage return inside of a line"},
    {"[a]\nx = \x1b[31m\n", "f:2: found control character 0x1b"},
};

START_TEST(faults_are_refused_with_their_line)
{
    struct drafter_error err = {0};
    struct config *config = NULL;

    ck_assert_int_eq(config_parse(faulty[_i].text, strlen(faulty[_i].text), "f", &config, &err),
                     -EINVAL);
    ck_assert_str_eq(err.message, faulty[_i].message);
    ck_assert_ptr_null(config);
}
END_TEST

START_TEST(section_names_that_could_be_paths_are_refused)
{
    static const char *const titles[] = {"[]\n",          "[:a]\n",  "[a:]\n",    "[a:../b]\n",
                                         "[a:.hidden]\n", "[a b]\n", "[a:b:c]\n", "[a/b]\n"};
    struct drafter_error err = {0};
    struct config *config;

    ck_assert_int_eq(config_parse(titles[_i], strlen(titles[_i]), "f", &config, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "f:1: '"));
    ck_assert_ptr_nonnull(strstr(err.message, "is no section"));
}
END_TEST

START_TEST(names_are_bounded)
{
    struct drafter_error err = {0};
    struct config *config;
    char text[128];

    snprintf(text, sizeof(text), "[a:%063d]\n", 0);
    config = parse(text);
    ck_assert_uint_eq(strlen(config_next(config, "a", NULL)->id), DRAFTER_NAME_MAX);
    config_free(config);
    snprintf(text, sizeof(text), "[a:%064d]\n", 0);
    ck_assert_int_eq(config_parse(text, strlen(text), "f", &config, &err), -EINVAL);
}
END_TEST

START_TEST(a_nul_byte_is_refused)
{
    struct drafter_error err = {0};
    struct config *config;

    ck_assert_int_eq(config_parse("[a]\nx = 1\0y\n", 12, "f", &config, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:2: found control character 0x00");
}
END_TEST

START_TEST(an_overlong_line_is_refused)
{
    size_t length = 40000;
    cleanup_free char *text = malloc(length);
    struct drafter_error err = {0};
    struct config *config;

    memset(text, 'x', length);
    text[10] = '\n';
    ck_assert_int_eq(config_parse(text, length, "f", &config, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:2: line is longer than 32767 bytes");
}
END_TEST

START_TEST(an_enormous_file_is_refused)
{
    char *directory = unit_make_directory(), *path = unit_path(directory, "big.conf");
    struct drafter_error err = {0};
    struct config *config;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    ck_assert_int_eq(ftruncate(fd, (1 << 20) + 1), 0);
    close(fd);
    ck_assert_int_eq(config_load(path, &config, &err), -EFBIG);
    ck_assert_ptr_nonnull(strstr(err.message, path));
    free(path);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(there_is_an_end_to_sections_and_keys)
{
    cleanup_free char *text = malloc(1 << 20);
    struct drafter_error err = {0};
    struct config *config;
    size_t used = 0;

    for (int i = 0; i < 4097; i++)
        used += (size_t)snprintf(text + used, 64, "[a:%d]\n", i);
    ck_assert_int_eq(config_parse(text, used, "f", &config, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:4097: too many sections");
    used = (size_t)snprintf(text, 64, "[a]\n");
    for (int i = 0; i < 1025; i++)
        used += (size_t)snprintf(text + used, 64, "k%d=\n", i);
    err = (struct drafter_error){0};
    ck_assert_int_eq(config_parse(text, used, "f", &config, &err), -EINVAL);
    ck_assert_str_eq(err.message, "f:1026: too many keys");
}
END_TEST

START_TEST(a_file_is_read_and_named_in_messages)
{
    char *directory = unit_make_directory(), *path = unit_path(directory, "node.conf");
    struct drafter_error err = {0};
    struct config *config = NULL;
    cleanup_free char *where = NULL;

    ck_assert_int_eq(io_replace_file(path, "[a]\nb = c\n", 10, 0600, NULL), 0);
    ck_assert_int_eq(config_load(path, &config, &err), 0);
    ck_assert_int_gt(asprintf(&where, "%s:2", path), 0);
    ck_assert_str_eq(config_where(config_section(config, "a", ""), "b"), where);
    ck_assert_str_eq(config_origin(config), path);
    config_free(config);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(config_load(path, &config, &err), -ENOENT);
    free(path);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(all_faults_of_a_file_are_reported)
{
    static const char text[] = "[a]\nx\nb = 1\nb = 2\n[a]\nlost = 1\n[c]\nd = 1\n";
    char *directory = unit_make_directory(), *path = unit_path(directory, "node.conf");
    struct config_report report = {0};
    struct drafter_error err = {0};
    struct config *config = NULL;

    ck_assert_int_eq(io_replace_file(path, text, strlen(text), 0600, NULL), 0);
    ck_assert_int_eq(config_load_all(path, &config, &report, &err), -EINVAL);
    ck_assert_uint_eq(report.count, 3);
    ck_assert_str_eq(report.messages[0], err.message);
    ck_assert_ptr_nonnull(strstr(report.messages[0], ":2: wanted"));
    ck_assert_ptr_nonnull(strstr(report.messages[1], ":4: key 'b'"));
    ck_assert_ptr_nonnull(strstr(report.messages[2], ":5: section [a]"));
    ck_assert_str_eq(config_value(config_section(config, "a", ""), "b"), "1");
    ck_assert_str_eq(config_value(config_section(config, "c", ""), "d"), "1");
    config_report_free(&report);
    config_free(config);
    free(path);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(the_command_line_adds_and_replaces)
{
    struct config *config = parse("[a]\nblock-size = 1\n");
    struct config_section *section = config_section(config, "a", "");

    ck_assert_int_eq(config_set(config, "a", "", "blockSize", "2", NULL), 0);
    ck_assert_int_eq(config_set(config, "b", "x", "k", "v", NULL), 0);
    ck_assert_ptr_eq(config_section(config, "a", ""), section);
    ck_assert_str_eq(config_value(section, "block-size"), "2");
    ck_assert_uint_eq(section->entry_count, 1);
    ck_assert_str_eq(config_where(section, "block-size"), "command line");
    ck_assert_str_eq(config_value(config_section(config, "b", "x"), "k"), "v");
    config_free(config);
    config = config_new("drafter-peer");
    ck_assert_int_eq(config_set(config, "a", "", "k", "v", NULL), 0);
    ck_assert_str_eq(config_where(config_section(config, "a", ""), "k"), "drafter-peer");
    config_free(config);
    config_free(NULL);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, sections_and_keys_keep_their_lines);
    tcase_add_test(tests, empty_sections_exist);
    tcase_add_test(tests, sections_are_walked_in_the_order_of_the_file);
    tcase_add_test(tests, files_of_other_systems_are_read);
    tcase_add_test(tests, a_long_line_is_read_whole);
    tcase_add_test(tests, an_empty_file_is_an_empty_configuration);
    tcase_add_loop_test(tests, faults_are_refused_with_their_line, 0,
                        sizeof(faulty) / sizeof(*faulty));
    tcase_add_loop_test(tests, section_names_that_could_be_paths_are_refused, 0, 8);
    tcase_add_test(tests, names_are_bounded);
    tcase_add_test(tests, a_nul_byte_is_refused);
    tcase_add_test(tests, an_overlong_line_is_refused);
    tcase_add_test(tests, an_enormous_file_is_refused);
    tcase_add_test(tests, there_is_an_end_to_sections_and_keys);
    tcase_add_test(tests, a_file_is_read_and_named_in_messages);
    tcase_add_test(tests, all_faults_of_a_file_are_reported);
    tcase_add_test(tests, the_command_line_adds_and_replaces);
}

int main(void)
{
    return unit_run("config-ini", add_tests);
}
