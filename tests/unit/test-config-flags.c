/* SPDX-License-Identifier: BSD-2-Clause */
/* Command lines of roles: what they put into a configuration, and what `drafter config` prints of it. */
#include "capture.h"
#include "unit.h"

#include "command.h"
#include "config/flags.h"
#include "options.h"

static const struct drafter_option role_options[] = {
    {.key = "connect", .type = DRAFTER_OPTION_STRING},
    {.key = "network", .type = DRAFTER_OPTION_STRING, .default_value = "lan"},
    {.key = "vmm", .type = DRAFTER_OPTION_STRING},
    {.key = "early", .type = DRAFTER_OPTION_BOOL, .default_value = "no"},
    DRAFTER_OPTION_END,
};

static const struct drafter_option node_options[] = {
    {.key = "role", .type = DRAFTER_OPTION_STRING},
    {.key = "name", .type = DRAFTER_OPTION_STRING},
    DRAFTER_OPTION_END,
};

static const struct config_flag table[] = {
    {.name = "raddr", .kind = "r", .key = "connect", .default_value = "localhost:1337"},
    {.name = "interface", .kind = "network", .key = "device"},
    {.name = "incoming", .kind = "network", .key = "allow", .form = CONFIG_FLAG_SWITCH},
    {.name = "cpu", .kind = "vmm", .key = "cpu"},
    {.name = "forwards", .kind = "forward", .form = CONFIG_FLAG_OBJECTS},
    {.name = "devices", .kind = "device", .key = "name", .form = CONFIG_FLAG_OBJECTS,
     .model = CONFIG_FLAG_WHOLE, .default_value = "[{\"name\": \"disk\", \"base\": \"d\"}]"},
    {.name = "disk-path", .kind = "device", .id = "disk", .key = "base", .model = CONFIG_FLAG_PARTS,
     .default_value = "p"},
    {.name = "disk-raddr", .kind = "device", .id = "disk", .key = "connect",
     .model = CONFIG_FLAG_PARTS, .default_value = "host:1504"},
    {.name = "size", .kind = "r", .key = "early", .unit = "M"},
    {.name = "workers", .ignored = "there are none"},
    {0},
};

static const struct config_flag plugin_table[] = {
    {.name = "output", .kind = "vmm", .key = "output", .form = CONFIG_FLAG_SWITCH,
     .default_value = "yes"},
    {.name = "mock", .kind = "r", .key = "vmm", .form = CONFIG_FLAG_SWITCH, .value = "fake"},
    {0},
};

/* What the plugins q and fake know. */
static const struct drafter_option q_options[] = {
    {.key = "output", .type = DRAFTER_OPTION_BOOL},
    {.key = "cpu", .type = DRAFTER_OPTION_STRING},
    {.key = "jail", .type = DRAFTER_OPTION_STRING},
    {.key = "fast", .type = DRAFTER_OPTION_BOOL},
    DRAFTER_OPTION_END,
};
static const struct drafter_option fake_options[] = {
    {.key = "output", .type = DRAFTER_OPTION_BOOL, .flags = DRAFTER_OPTION_IGNORED},
    DRAFTER_OPTION_END,
};

static const struct drafter_option *options_of(void *opaque, const char *kind, const char *plugin)
{
    (void)opaque;
    ck_assert_str_eq(kind, "vmm");
    return !strcmp(plugin, "q") ? q_options : !strcmp(plugin, "fake") ? fake_options : NULL;
}

static struct config_flags flags = {.role = "r",
                                    .options = role_options,
                                    .node = node_options,
                                    .flags = table,
                                    .bare = CONFIG_FLAG_WHOLE};

static void with_plugins(void)
{
    flags.plugin_kind = "vmm";
    flags.flags = plugin_table;
    flags.plugin_options = options_of;
}

static struct config *config;
static struct drafter_error err;

static int set(const char *const *words)
{
    return config_set_flags(config, &flags, (char *const *)words, &err);
}

#define SET(...) set((const char *const[]){__VA_ARGS__, NULL})

static const char *value(const char *kind, const char *id, const char *key)
{
    const struct config_section *section = config_section(config, kind, id);

    return section ? config_value(section, key) : NULL;
}

static void from_line(void)
{
    flags.plugin_kind = NULL;
    flags.flags = table;
    err = (struct drafter_error){0};
    config = config_new("command line");
}

static void from_file(const char *text)
{
    config_free(config);
    ck_assert_int_eq(config_parse(text, strlen(text), "f", &config, NULL), 0);
}

static void end(void)
{
    config_free(config);
}

START_TEST(one_and_two_dashes_and_both_kinds_of_values)
{
    ck_assert_int_eq(SET("-connect", "a", "--name=b=c", "-early"), 0);
    ck_assert_str_eq(value("r", "", "connect"), "a");
    ck_assert_str_eq(value("drafter", "", "name"), "b=c");
    ck_assert_str_eq(value("r", "", "early"), "yes");
    ck_assert_int_eq(SET("--Early=false", "-name", "-x"), 0);
    ck_assert_str_eq(value("r", "", "early"), "false");
    ck_assert_str_eq(value("drafter", "", "name"), "-x");
}
END_TEST

START_TEST(the_last_of_equal_flags_wins)
{
    ck_assert_int_eq(SET("--connect=a", "--raddr=b"), 0);
    ck_assert_str_eq(value("r", "", "connect"), "b");
}
END_TEST

START_TEST(defaults_are_for_lines_without_a_file)
{
    ck_assert_int_eq(SET("--early"), 0);
    ck_assert_str_eq(value("r", "", "connect"), "localhost:1337");
    ck_assert_str_eq(value("device", "disk", "base"), "d");
    from_file("[r]\nearly = no\n");
    ck_assert_int_eq(SET("--early"), 0);
    ck_assert_str_eq(value("r", "", "early"), "yes");
    ck_assert_ptr_null(value("r", "", "connect"));
    ck_assert_ptr_null(config_section(config, "device", "disk"));
}
END_TEST

START_TEST(an_empty_value_takes_a_key_away)
{
    from_file("[r]\nearly = no\nconnect = a\nvmm = q\n");
    ck_assert_int_eq(SET("--raddr", "", "--vmm="), 0);
    ck_assert_ptr_null(value("r", "", "connect"));
    ck_assert_ptr_null(value("r", "", "vmm"));
    ck_assert_str_eq(value("r", "", "early"), "no");
    end();
    from_line();
    ck_assert_int_eq(SET("--raddr", ""), 0); /* and no default comes in its place */
    ck_assert_ptr_null(value("r", "", "connect"));
}
END_TEST

START_TEST(flags_of_an_instance_go_where_the_role_looks)
{
    ck_assert_int_eq(SET("--interface", "eth0"), 0);
    ck_assert_str_eq(value("network", "lan", "device"), "eth0");
    ck_assert_str_eq(value("network", "lan", "plugin"), "lan");
    ck_assert_int_eq(SET("--interface=eth1", "--incoming=no", "--network", "wan"), 0);
    ck_assert_str_eq(value("network", "wan", "device"), "eth1");
    ck_assert_str_eq(value("network", "wan", "allow"), "no");
    ck_assert_int_eq(SET("--interface", ""), 0); /* its empty value may mean something */
    ck_assert_str_eq(value("network", "wan", "device"), "");
    from_file("[r]\nnetwork = x\n[network:x]\nplugin = p\n");
    ck_assert_int_eq(SET("--incoming"), 0);
    ck_assert_str_eq(value("network", "x", "allow"), "yes");
    ck_assert_str_eq(value("network", "x", "plugin"), "p");
    ck_assert_int_eq(SET("--cpu", "z"), -EINVAL);
    ck_assert_str_eq(err.message, "--cpu needs --vmm ID");
}
END_TEST

START_TEST(objects_become_sections)
{
    from_file("[forward:1]\na = x\n");
    ck_assert_int_eq(SET("--forwards", "[{\"a\": \"y\", \"internalPort\": 80, \"on\": true}, "
                                       "{\"a\": \"z\", \"none\": \"\"}]"),
                     0);
    ck_assert_str_eq(value("forward", "1", "a"), "x");
    ck_assert_str_eq(value("forward", "2", "a"), "y");
    ck_assert_str_eq(value("forward", "2", "internal-port"), "80");
    ck_assert_str_eq(value("forward", "2", "on"), "yes");
    ck_assert_str_eq(value("forward", "3", "a"), "z");
    ck_assert_ptr_null(value("forward", "3", "none"));
    ck_assert_int_eq(SET("--devices", "[{\"name\": \"disk\", \"blockSize\": 65536}]"), 0);
    ck_assert_str_eq(value("device", "disk", "block-size"), "65536");
    ck_assert_ptr_null(value("device", "disk", "name"));
}
END_TEST

START_TEST(one_address_and_many_exclude_each_other)
{
    ck_assert_int_eq(SET("--disk-path", "x"), 0);
    ck_assert_str_eq(value("device", "disk", "base"), "x");
    ck_assert_str_eq(value("device", "disk", "connect"), "host:1504");
    end();
    from_line();
    ck_assert_int_eq(SET("--disk-path=x", "--disk-raddr", ""), 0); /* and no default in its place */
    ck_assert_ptr_null(value("device", "disk", "connect"));
    ck_assert_int_eq(SET("--disk-path", "x", "--devices", "[]"), -EINVAL);
    ck_assert_str_eq(err.message, "--disk-path and --devices exclude each other: devices have one address "
                                  "together, or one each");
}
END_TEST

START_TEST(a_line_that_says_nothing_is_of_the_role_s_kind)
{
    flags.bare = CONFIG_FLAG_PARTS;
    ck_assert_int_eq(SET("--early"), 0);
    flags.bare = CONFIG_FLAG_WHOLE;
    ck_assert_str_eq(value("device", "disk", "base"), "p");
    ck_assert_str_eq(value("device", "disk", "connect"), "host:1504");
}
END_TEST

START_TEST(options_of_the_chosen_plugin_are_flags)
{
    with_plugins();
    ck_assert_int_eq(SET("--jail", "x", "-vmm", "q", "-fast", "--output=no"), 0);
    ck_assert_str_eq(value("vmm", "q", "jail"), "x");
    ck_assert_str_eq(value("vmm", "q", "fast"), "yes");
    ck_assert_str_eq(value("vmm", "q", "output"), "no");
    ck_assert_int_eq(SET("--vmm=fake", "--jail", "x"), -EINVAL);
    ck_assert_str_eq(err.message, "r has no flag --jail; see drafter r --help");
    from_file("[r]\nvmm = id\n[vmm:id]\nplugin = q\n");
    ck_assert_int_eq(SET("--jail", "y"), 0);
    ck_assert_str_eq(value("vmm", "id", "jail"), "y");
}
END_TEST

START_TEST(a_plugin_gets_only_defaults_that_it_uses)
{
    with_plugins();
    ck_assert_int_eq(SET("--vmm", "q"), 0);
    ck_assert_str_eq(value("vmm", "q", "output"), "yes");
    end();
    from_line();
    with_plugins();
    ck_assert_int_eq(SET("--mock"), 0);
    ck_assert_str_eq(value("r", "", "vmm"), "fake");
    ck_assert_ptr_null(value("vmm", "fake", "output"));
    ck_assert_int_eq(SET("--vmm", "q", "--mock=false", "--jail=z"), 0);
    ck_assert_str_eq(value("vmm", "q", "jail"), "z");
}
END_TEST

START_TEST(numbers_have_the_flag_s_unit_unless_they_say_one)
{
    ck_assert_int_eq(SET("--size", "512"), 0);
    ck_assert_str_eq(value("r", "", "early"), "512M");
    ck_assert_int_eq(SET("--size=1G"), 0);
    ck_assert_str_eq(value("r", "", "early"), "1G");
}
END_TEST

START_TEST(a_flag_without_effect_is_accepted)
{
    ck_assert_int_eq(SET("--workers", "4096", "--early"), 0);
    ck_assert_str_eq(value("r", "", "early"), "yes");
}
END_TEST

START_TEST(every_other_key_can_be_set)
{
    ck_assert_int_eq(SET("--set", "network:l.a.n.device=a=b", "--set=vmm.cpu=host"), 0);
    ck_assert_str_eq(value("network", "l.a.n", "device"), "a=b");
    ck_assert_str_eq(value("vmm", "", "cpu"), "host");
}
END_TEST

static const struct {
    const char *words[3], *message;
} faulty[] = {
    {{"x"}, "r takes no argument \"x\""},
    {{"-"}, "r takes no argument \"-\""},
    {{"--early", "no"}, "r takes no argument \"no\""},
    {{"--conect", "a"}, "r has no flag --conect; did you mean --connect?"},
    {{"--zzzzzzzzz"}, "r has no flag --zzzzzzzzz; see drafter r --help"},
    {{"--role", "peer"}, "r has no flag --role; see drafter r --help"},
    {{"--connect"}, "--connect needs a value"},
    {{"--connect", "a\nb"}, "--connect: found control character 0x0a"},
    {{"--set", "a=b.c"}, "--set a=b.c: wanted SECTION.KEY=VALUE"},
    {{"--set", ".c=d"}, "--set .c=d: wanted SECTION.KEY=VALUE"},
    {{"--set", "a.=d"}, "--set a.=d: wanted SECTION.KEY=VALUE"},
    {{"--forwards", "{}"}, "--forwards: wanted a list of objects"},
    {{"--forwards", "[1]"}, "--forwards: wanted a list of objects"},
    {{"--forwards", "[{}]"}, "--forwards: an object says nothing"},
    {{"--forwards", "[{\"a\": []}]"},
     "--forwards: \"a\" is neither text nor a number nor a truth value"},
    {{"--forwards", "[{\"a\": \"\\n\"}]"}, "--forwards: found control character 0x0a"},
    {{"--forwards", "[{\"a\": 1, \"a\": 2}]"},
     "--forwards: column 13: duplicate object key near '\"a\"'"},
    {{"--devices", "[{\"base\": \"d\"}]"}, "--devices: an object lacks \"name\""},
    {{"--devices", "[{\"name\": \"d\"}]"}, "--devices: an object says nothing"},
};

START_TEST(faults_say_what_is_wrong)
{
    ck_assert_int_eq(set(faulty[_i].words), -EINVAL);
    ck_assert_str_eq(err.message, faulty[_i].message);
}
END_TEST

static char *printed(const char *const *words)
{
    char *rest[16] = {NULL}, *output;
    struct options options = {.rest = rest};
    int saved = capture_begin(), ret;

    for (; *words; words++)
        rest[options.rest_count++] = (char *)*words;
    ret = command_config(&options, &err);
    output = capture_end(saved);
    ck_assert_msg(ret == 0, "%s", err.message);
    return output;
}

START_TEST(a_command_line_can_be_kept_as_a_file)
{
    static const char *const line[] = {
        "forwarder", "--network", "null",          "-port-forwards",
        "[{\"netns\":\"ark7\",\"internalPort\":\"53\",\"protocol\":\"udp\",\"externalAddr\":\"[::]:53\"}]",
        "--set",     "network:null.slots=9",       "--set", "network:null.plugin=null", NULL};
    cleanup_free char *text = printed(line);

    ck_assert_str_eq(text, "[forwarder]\nnetwork = null\n\n"
                           "[forward:1]\nnetns = ark7\ninternalPort = 53\nprotocol = udp\n"
                           "externalAddr = [::]:53\n\n"
                           "[network:null]\nslots = 9\nplugin = null\n\n"
                           "[drafter]\nname = forwarder\nrole = forwarder\n");
    from_file(text);
    ck_assert_str_eq(value("forward", "1", "external-addr"), "[::]:53");
}
END_TEST

START_TEST(what_no_table_knows_is_not_printed)
{
    char *rest[] = {"nat", "--network=null", "--set", "network:null.plugin=null", "--set",
                    "network:null.key=hidden", NULL};
    struct options options = {.rest = rest, .rest_count = 6};
    int saved = capture_begin(), ret = command_config(&options, &err);
    cleanup_free char *output = capture_end(saved);

    ck_assert_int_eq(ret, -EINVAL);
    ck_assert_str_eq(output, "");
    ck_assert_has(err.message, "unknown key 'key' in [network:null]");
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, from_line, end);
    tcase_add_test(tests, one_and_two_dashes_and_both_kinds_of_values);
    tcase_add_test(tests, the_last_of_equal_flags_wins);
    tcase_add_test(tests, defaults_are_for_lines_without_a_file);
    tcase_add_test(tests, an_empty_value_takes_a_key_away);
    tcase_add_test(tests, flags_of_an_instance_go_where_the_role_looks);
    tcase_add_test(tests, objects_become_sections);
    tcase_add_test(tests, one_address_and_many_exclude_each_other);
    tcase_add_test(tests, a_line_that_says_nothing_is_of_the_role_s_kind);
    tcase_add_test(tests, options_of_the_chosen_plugin_are_flags);
    tcase_add_test(tests, a_plugin_gets_only_defaults_that_it_uses);
    tcase_add_test(tests, numbers_have_the_flag_s_unit_unless_they_say_one);
    tcase_add_test(tests, a_flag_without_effect_is_accepted);
    tcase_add_test(tests, every_other_key_can_be_set);
    tcase_add_loop_test(tests, faults_say_what_is_wrong, 0, sizeof(faulty) / sizeof(*faulty));
    tcase_add_test(tests, a_command_line_can_be_kept_as_a_file);
    tcase_add_test(tests, what_no_table_knows_is_not_printed);
}

int main(void)
{
    return unit_run("config-flags", add_tests);
}
