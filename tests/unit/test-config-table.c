/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"

#include "config/suggest.h"
#include "config/table.h"

struct values {
    const char *string, *path;
    bool flag;
    uint64_t number, size, duration;
    int choice;
};

static const char *const choices[] = {"tcg", "kvm", "auto-detect", NULL};

static const struct drafter_option table[] = {
    {.key = "string", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct values, string)},
    {.key = "path", .type = DRAFTER_OPTION_PATH, .offset = offsetof(struct values, path)},
    {.key = "flag", .type = DRAFTER_OPTION_BOOL, .offset = offsetof(struct values, flag)},
    {.key = "number", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct values, number)},
    {.key = "size", .type = DRAFTER_OPTION_SIZE, .offset = offsetof(struct values, size)},
    {.key = "duration", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct values, duration)},
    {.key = "choice", .type = DRAFTER_OPTION_ENUM, .offset = offsetof(struct values, choice),
     .choices = choices},
    {.key = "percent", .type = DRAFTER_OPTION_UINT, .offset = offsetof(struct values, number),
     .minimum = 1, .maximum = 100},
    {.key = "block-size", .type = DRAFTER_OPTION_SIZE, .offset = offsetof(struct values, size),
     .minimum = 4096},
    {.key = "password", .type = DRAFTER_OPTION_ENUM, .flags = DRAFTER_OPTION_SECRET,
     .offset = offsetof(struct values, choice), .choices = choices},
    DRAFTER_OPTION_END,
};

static int store(const char *key, const char *text, struct values *values,
                 struct drafter_error *err)
{
    return table_store(table_find(table, key), text, values, err);
}

static const struct {
    const char *text;
    uint64_t value;
} sizes[] = {
    {"0", 0},
    {"4096", 4096},
    {"64k", 65536},
    {"64K", 65536},
    {"1M", 1 << 20},
    {"3 G", UINT64_C(3) << 30},
    {"2t", UINT64_C(2) << 40},
    {"18446744073709551615", UINT64_MAX},
    {"16777215T", UINT64_C(16777215) << 40},
};

START_TEST(sizes_are_powers_of_1024)
{
    struct values values;

    ck_assert_int_eq(store("size", sizes[_i].text, &values, NULL), 0);
    ck_assert_uint_eq(values.size, sizes[_i].value);
}
END_TEST

static const struct {
    const char *text;
    uint64_t value;
} durations[] = {
    {"7", 7},
    {"7ns", 7},
    {"3us", 3000},
    {"250ms", 250000000},
    {"30s", UINT64_C(30000000000)},
    {"5m", UINT64_C(300000000000)},
    {"2H", UINT64_C(7200000000000)},
    {"1m0s", UINT64_C(60000000000)},
    {"1h2m3s4ms5us6ns", UINT64_C(3723004005006)},
};

START_TEST(durations_are_nanoseconds)
{
    struct values values;

    ck_assert_int_eq(store("duration", durations[_i].text, &values, NULL), 0);
    ck_assert_uint_eq(values.duration, durations[_i].value);
}
END_TEST

START_TEST(a_range_may_be_open_at_its_end)
{
    struct values values;

    ck_assert_int_eq(store("block-size", "4096", &values, NULL), 0);
    ck_assert_int_eq(store("block-size", "1T", &values, NULL), 0);
    ck_assert_int_eq(store("percent", "100", &values, NULL), 0);
    ck_assert_uint_eq(values.number, 100);
}
END_TEST

START_TEST(booleans_have_four_spellings)
{
    static const char *const yes[] = {"yes", "true", "on", "1", "YES", "True"};
    static const char *const no[] = {"no", "false", "off", "0", "No"};
    struct values values = {.flag = false};

    for (size_t i = 0; i < sizeof(yes) / sizeof(*yes); i++) {
        values.flag = false;
        ck_assert_int_eq(store("flag", yes[i], &values, NULL), 0);
        ck_assert(values.flag);
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++) {
        values.flag = true;
        ck_assert_int_eq(store("flag", no[i], &values, NULL), 0);
        ck_assert(!values.flag);
    }
}
END_TEST

START_TEST(choices_become_indices)
{
    struct values values;

    ck_assert_int_eq(store("choice", "kvm", &values, NULL), 0);
    ck_assert_int_eq(values.choice, 1);
    ck_assert_int_eq(store("choice", "autoDetect", &values, NULL), 0);
    ck_assert_int_eq(values.choice, 2);
}
END_TEST

START_TEST(strings_are_kept_as_they_are)
{
    static const char text[] = " a \"b\" ";
    struct values values;

    ck_assert_int_eq(store("string", text, &values, NULL), 0);
    ck_assert_ptr_eq(values.string, text);
    ck_assert_int_eq(store("string", "", &values, NULL), 0);
}
END_TEST

static const struct {
    const char *key, *text, *message;
} refused[] = {
    {"flag", "maybe", "'maybe' is not yes or no"},
    {"flag", "", "'' is not yes or no"},
    {"number", "-1", "'-1' is not a whole number"},
    {"number", "+1", "'+1' is not a whole number"},
    {"number", "", "'' is not a whole number"},
    {"number", "1x", "'1x' is not a whole number"},
    {"number", "0x10", "'0x10' is not a whole number"},
    {"number", "1k", "'1k' is not a whole number"},
    {"number", "1.5", "'1.5' is not a whole number"},
    {"number", "18446744073709551616", "'18446744073709551616' is not a number below 2^64"},
    {"number", "99999999999999999999999", "'99999999999999999999999' is not a number below 2^64"},
    {"size", "16777216T", "'16777216T' is not a number below 2^64"},
    {"size", "4kk", "'4kk' is not a size such as 4096, 64k or 2G"},
    {"size", "k", "'k' is not a size such as 4096, 64k or 2G"},
    {"size", "5s", "'5s' is not a size such as 4096, 64k or 2G"},
    {"duration", "5124096h", "'5124096h' is not a number below 2^64"},
    {"duration", "1m0", "'1m0' is not a duration such as 250ms, 30s or 5m"},
    {"duration", "1m s", "'1m s' is not a duration such as 250ms, 30s or 5m"},
    {"duration", "5 days", "'5 days' is not a duration such as 250ms, 30s or 5m"},
    {"percent", "0", "'0' is not in the range 1 to 100"},
    {"percent", "101", "'101' is not in the range 1 to 100"},
    {"block-size", "4095", "'4095' is not in the range 4k or more"},
    {"choice", "kwm", "'kwm' is not one of tcg|kvm|auto-detect; did you mean 'kvm'?"},
    {"choice", "hvf-xen-bhyve", "'hvf-xen-bhyve' is not one of tcg|kvm|auto-detect"},
    {"path", "", "the path is empty"},
    {"password", "kwm", "the value is not one of tcg|kvm|auto-detect"},
};

START_TEST(other_values_are_refused_with_what_was_wanted)
{
    struct drafter_error err = {0};
    struct values values = {.number = 42, .size = 42, .duration = 42, .choice = 42};

    ck_assert_int_eq(store(refused[_i].key, refused[_i].text, &values, &err), -EINVAL);
    ck_assert_str_eq(err.message, refused[_i].message);
    ck_assert_uint_eq(values.number, 42);
    ck_assert_uint_eq(values.size, 42);
    ck_assert_uint_eq(values.duration, 42);
    ck_assert_int_eq(values.choice, 42);
}
END_TEST

START_TEST(keys_match_whatever_their_case_and_dashes)
{
    ck_assert_ptr_eq(table_find(table, "blockSize"), table_find(table, "block-size"));
    ck_assert_ptr_nonnull(table_find(table, "BLOCK_SIZE"));
    ck_assert_ptr_null(table_find(table, "blocksizes"));
    ck_assert_ptr_null(table_find(NULL, "x"));
}
END_TEST

static const struct drafter_option end = DRAFTER_OPTION_END;

static const struct {
    struct drafter_option option;
    const char *message;
} bad_tables[] = {
    {{.key = "Upper", .type = DRAFTER_OPTION_UINT}, "option key 'Upper' is not allowed"},
    {{.key = "", .type = DRAFTER_OPTION_UINT}, "option key '' is not allowed"},
    {{.key = "plugin", .type = DRAFTER_OPTION_STRING}, "option key 'plugin' is not allowed"},
    {{.key = "a", .type = (enum drafter_option_type)9}, "option 'a': unknown type 9"},
    {{.key = "a", .type = DRAFTER_OPTION_UINT, .offset = 9},
     "option 'a': 8 bytes at 9 do not fit a configuration of 16"},
    {{.key = "a", .type = DRAFTER_OPTION_UINT, .offset = SIZE_MAX - 7},
     "option 'a': 8 bytes at 18446744073709551608 do not fit a configuration of 16"},
    {{.key = "a", .type = DRAFTER_OPTION_ENUM}, "option 'a': no choices"},
    {{.key = "a", .type = DRAFTER_OPTION_UINT, .minimum = 5, .maximum = 4},
     "option 'a': minimum above maximum"},
    {{.key = "a", .type = DRAFTER_OPTION_UINT, .default_value = "x"},
     "option 'a': default: 'x' is not a whole number"},
    {{.key = "a", .type = DRAFTER_OPTION_UINT, .default_value = "5", .flags = DRAFTER_OPTION_REQUIRED},
     "option 'a': default: a required option has a default"},
};

START_TEST(faulty_tables_are_refused)
{
    const struct drafter_option faulty[] = {bad_tables[_i].option, end};
    struct drafter_error err = {0};

    ck_assert_int_lt(table_check(faulty, 16, &err), 0);
    ck_assert_str_eq(err.message, bad_tables[_i].message);
}
END_TEST

START_TEST(a_key_may_stand_in_a_table_once)
{
    const struct drafter_option twice[] = {
        {.key = "block-size", .type = DRAFTER_OPTION_UINT},
        {.key = "blocksize", .type = DRAFTER_OPTION_UINT},
        end,
    };
    struct drafter_error err = {0};

    ck_assert_int_eq(table_check(table, sizeof(struct values), &err), 0);
    ck_assert_int_lt(table_check(twice, 16, &err), 0);
    ck_assert_str_eq(err.message, "option 'blocksize': twice in the table");
}
END_TEST

START_TEST(distances_count_edits)
{
    char longest[65];

    ck_assert_uint_eq(suggest_distance("transport", "transport"), 0);
    ck_assert_uint_eq(suggest_distance("transprot", "transport"), 1); /* a swap */
    ck_assert_uint_eq(suggest_distance("transpor", "transport"), 1);
    ck_assert_uint_eq(suggest_distance("transportt", "transport"), 1);
    ck_assert_uint_eq(suggest_distance("kitten", "sitting"), 3);
    ck_assert_uint_eq(suggest_distance("", "abc"), 3);
    ck_assert_uint_eq(suggest_distance("block-size", "blockSize"), 0);
    memset(longest, 'a', 64);
    longest[64] = '\0';
    ck_assert_uint_eq(suggest_distance(longest, longest), 0);
}
END_TEST

START_TEST(only_near_names_are_suggested)
{
    static const char *const names[] = {"path", "readonly", "direct"};
    char longer[300];

    memset(longer, 'p', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    ck_assert_str_eq(suggest_nearest("pth", names, 3), "path");
    ck_assert_str_eq(suggest_nearest("read_olny", names, 3), "readonly");
    ck_assert_ptr_null(suggest_nearest("compression", names, 3));
    ck_assert_ptr_null(suggest_nearest(longer, names, 3));
    ck_assert_ptr_null(suggest_nearest("x", names, 0));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, sizes_are_powers_of_1024, 0, sizeof(sizes) / sizeof(*sizes));
    tcase_add_loop_test(tests, durations_are_nanoseconds, 0,
                        sizeof(durations) / sizeof(*durations));
    tcase_add_test(tests, a_range_may_be_open_at_its_end);
    tcase_add_test(tests, booleans_have_four_spellings);
    tcase_add_test(tests, choices_become_indices);
    tcase_add_test(tests, strings_are_kept_as_they_are);
    tcase_add_loop_test(tests, other_values_are_refused_with_what_was_wanted, 0,
                        sizeof(refused) / sizeof(*refused));
    tcase_add_test(tests, keys_match_whatever_their_case_and_dashes);
    tcase_add_loop_test(tests, faulty_tables_are_refused, 0,
                        sizeof(bad_tables) / sizeof(*bad_tables));
    tcase_add_test(tests, a_key_may_stand_in_a_table_once);
    tcase_add_test(tests, distances_count_edits);
    tcase_add_test(tests, only_near_names_are_suggested);
}

int main(void)
{
    return unit_run("config-table", add_tests);
}
