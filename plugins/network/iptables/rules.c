/* SPDX-License-Identifier: BSD-2-Clause */
/* The rules, as iptables-restore reads them; what they are for is in ../rules.h. */
#include "iptables.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_ 512

/* Our chains and where the kernel's jump to them, the first table's first. */
static const struct chain {
    const char *table, *name, *from;
    bool last; /* behind the others' rules, not before them */
} chains[] = {
    {"raw", "GUARD", "PREROUTING", false},  {"nat", "TO", "PREROUTING", false},
    {"nat", "TO", "OUTPUT", false},         {"nat", "FROM", "POSTROUTING", false},
    {"filter", "BLOCK", "FORWARD", false},  {"filter", "PASS", "FORWARD", true},
};
#define CHAINS (sizeof(chains) / sizeof(*chains))

static const char *const tables[] = {"raw", "nat", "filter"};
#define TABLES (sizeof(tables) / sizeof(*tables))

static const char *const loopback[LAYOUT_FAMILIES] = {"127.0.0.0/8", "::1/128"};

/* What a rule of ours begins with. */
static void add(FILE *out, const struct layout *layout, const char *chain)
{
    fprintf(out, "-A DRAFTER-%s-%s ", layout->prefix, chain);
}

/* Hands each line of a table to `each`, NUL-terminated and short enough to be of interest. */
static void each_line(const char *saved, const char *table,
                      void (*each)(void *context, const char *line), void *context)
{
    char line[LINE_MAX_];
    bool inside = false;

    while (saved && *saved) {
        size_t length = strcspn(saved, "\n");

        if (length < sizeof(line)) {
            memcpy(line, saved, length);
            line[length] = '\0';
            if (*line == '*')
                inside = strcmp(line + 1, table) == 0;
            else if (inside)
                each(context, line);
        }
        saved += length + (saved[length] != '\0');
    }
}

struct search {
    FILE *out;
    char mark[48]; /* "DRAFTER-ark-" */
    unsigned found;
};

static void start_search(struct search *search, FILE *out, const struct layout *layout)
{
    search->out = out;
    search->found = 0;
    snprintf(search->mark, sizeof(search->mark), "DRAFTER-%s-", layout->prefix);
}

/* Whether a name is of a chain of ours.  That of pool "ark-b" begins like one of pool "ark". */
static bool is_ours(const struct search *search, const char *name)
{
    size_t length = strlen(search->mark);

    return strncmp(name, search->mark, length) == 0 &&
           strcspn(name + length, " -") == strcspn(name + length, " ");
}

/* A jump to a chain of ours from one that is not: "-A FORWARD -j DRAFTER-ark-PASS". */
static void unlink_jump(void *context, const char *line)
{
    struct search *search = context;
    const char *jump = strstr(line, " -j ");

    if (strncmp(line, "-A ", 3) != 0 || !jump ||
        is_ours(search, line + 3) || !is_ours(search, jump + 4))
        return;
    fprintf(search->out, "-D %s\n", line + 3);
    search->found++;
}

/* ":DRAFTER-ark-PASS - [0:0]" */
static void remove_chain(void *context, const char *line)
{
    struct search *search = context;

    if (line[0] != ':' || !is_ours(search, line + 1))
        return;
    fprintf(search->out, "-F %.*s\n-X %.*s\n", (int)strcspn(line + 1, " "), line + 1,
            (int)strcspn(line + 1, " "), line + 1);
    search->found++;
}

bool iptables_write_remove(FILE *out, const struct layout *layout, const char *saved)
{
    struct search search;
    unsigned found = 0;

    for (size_t i = 0; i < TABLES; i++) {
        fprintf(out, "*%s\n", tables[i]);
        start_search(&search, out, layout);
        each_line(saved, tables[i], unlink_jump, &search);
        each_line(saved, tables[i], remove_chain, &search);
        found += search.found;
        fputs("COMMIT\n", out);
    }
    return found > 0;
}

static void write_guard(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    add(out, layout, "GUARD");
    fprintf(out, "-m devgroup --src-group 0x%x -d %s -j DROP\n", layout->group, loopback[i]);
    add(out, layout, "GUARD");
    fprintf(out, "-m devgroup --src-group 0x%x -m rpfilter --invert -j DROP\n", layout->group);
}

static void write_forward(FILE *out, const struct layout *layout,
                          const struct rules_forward *forward)
{
    bool v6 = forward->host.family == AF_INET6;
    struct address host = {.family = (uint8_t)forward->host.family};
    const char *protocol = forward_protocol_name(forward->host.protocol);
    char text[ADDRESS_TEXT_MAX];

    memcpy(host.bytes, &forward->host.address, v6 ? 16 : 4);
    add(out, layout, "TO");
    if (forward->host.wildcard)
        fputs("-m addrtype --dst-type LOCAL ", out);
    else
        fprintf(out, "-d %s ", address_text(&host, text));
    fprintf(out, "-p %s -m %s --dport %u -j DNAT --to-destination %s%s%s:%u\n", protocol, protocol,
            forward->host.port, v6 ? "[" : "", address_text(&forward->target, text), v6 ? "]" : "",
            forward->port);
}

static void write_to(FILE *out, const struct layout *layout, enum layout_family_index i,
                     const struct rules_forwards *forwards)
{
    for (size_t n = 0; n < forwards->count; n++)
        if ((forwards->items[n].host.family == AF_INET6) == (i == LAYOUT_V6))
            write_forward(out, layout, &forwards->items[n]);
}

static void write_from(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    const struct layout_family *family = &layout->family[i];
    char text[ADDRESS_TEXT_MAX];

    address_cidr(&family->namespace_veth, text);
    add(out, layout, "FROM");
    fprintf(out, "-m devgroup --dst-group 0x%x -s %s -j MASQUERADE\n", layout->group, loopback[i]);
    add(out, layout, "FROM");
    fprintf(out,
            "-m devgroup --dst-group 0x%x -m conntrack --ctstate DNAT -s %s -j MASQUERADE\n",
            layout->group, text);
    if (family->own)
        return;
    add(out, layout, "FROM");
    fprintf(out, "-o %s -s %s -j MASQUERADE\n", layout->host_interface, text);
}

static void write_block(FILE *out, const struct layout *layout, const struct address *subnet)
{
    char text[ADDRESS_TEXT_MAX];

    address_cidr(subnet, text);
    add(out, layout, "BLOCK");
    fprintf(out, "-m devgroup --src-group 0x%x -d %s -j DROP\n", layout->group, text);
    add(out, layout, "BLOCK");
    fprintf(out, "-m devgroup --dst-group 0x%x -s %s -j DROP\n", layout->group, text);
}

/* For hosts whose policy is to forward nothing. */
static void write_pass(FILE *out, const struct layout *layout)
{
    add(out, layout, "PASS");
    fprintf(out, "-m devgroup --src-group 0x%x -o %s -j ACCEPT\n", layout->group,
            layout->host_interface);
    add(out, layout, "PASS");
    fprintf(out, "-m devgroup --dst-group 0x%x %s-j ACCEPT\n", layout->group,
            layout->allow_incoming ? "" : "-m conntrack --ctstate RELATED,ESTABLISHED ");
}

static void write_rules(FILE *out, const struct layout *layout, enum layout_family_index i,
                        const char *table, const struct rules_forwards *forwards)
{
    const struct layout_family *family = &layout->family[i];

    if (strcmp(table, "raw") == 0) {
        write_guard(out, layout, i);
    } else if (strcmp(table, "nat") == 0) {
        write_to(out, layout, i, forwards);
        write_from(out, layout, i);
    } else {
        if (family->blocked.family)
            write_block(out, layout, &family->blocked);
        if (rules_isolate(family))
            write_block(out, layout, &family->host_veth);
        write_pass(out, layout);
    }
}

/* Before translation nothing has been routed yet, so that a neighbour may still name a loopback address. */
static void write_jump(FILE *out, const struct layout *layout, enum layout_family_index family,
                       const struct chain *chain)
{
    bool incoming = strcmp(chain->table, "nat") == 0 && strcmp(chain->from, "PREROUTING") == 0;

    fprintf(out, "-%c %s %s%s -j DRAFTER-%s-%s\n", chain->last ? 'A' : 'I', chain->from,
            incoming ? "! -d " : "", incoming ? loopback[family] : "", layout->prefix, chain->name);
}

void iptables_write_host(FILE *out, const struct layout *layout, enum layout_family_index family,
                         const char *saved, const struct rules_forwards *forwards)
{
    for (size_t i = 0; i < TABLES; i++) {
        struct search search;

        fprintf(out, "*%s\n", tables[i]);
        /* Declaring a chain empties it where it is there. */
        for (size_t c = 0; c < CHAINS; c++)
            if (strcmp(chains[c].table, tables[i]) == 0 &&
                (c == 0 || strcmp(chains[c].name, chains[c - 1].name) != 0))
                fprintf(out, ":DRAFTER-%s-%s - [0:0]\n", layout->prefix, chains[c].name);
        start_search(&search, out, layout);
        each_line(saved, tables[i], unlink_jump, &search);
        for (size_t c = 0; c < CHAINS; c++)
            if (strcmp(chains[c].table, tables[i]) == 0)
                write_jump(out, layout, family, &chains[c]);
        write_rules(out, layout, family, tables[i], forwards);
        fputs("COMMIT\n", out);
    }
}

void iptables_write_forwards(FILE *out, const struct layout *layout,
                             enum layout_family_index family,
                             const struct rules_forwards *forwards)
{
    fprintf(out, "*nat\n:DRAFTER-%s-TO - [0:0]\n", layout->prefix);
    write_to(out, layout, family, forwards);
    fputs("COMMIT\n", out);
}

void iptables_write_slot(FILE *out, const struct layout *layout, enum layout_family_index family,
                         uint32_t slot)
{
    char link[IFNAMSIZ], unique[ADDRESS_TEXT_MAX], inner[ADDRESS_TEXT_MAX], guest[ADDRESS_TEXT_MAX];
    struct slot_addresses addresses;

    layout_inner(layout, slot, link);
    layout_slot(layout, slot, family, &addresses);
    address_text(&addresses.unique, unique);
    address_text(&addresses.inner, inner);
    address_text(&layout->family[family].guest, guest);
    fprintf(out, "*nat\n-A PREROUTING -i %s -d %s -j DNAT --to-destination %s\n", link, unique, guest);
    if (layout->allow_incoming)
        fprintf(out, "-A PREROUTING -i %s -d %s -j DNAT --to-destination %s\n", link, inner, guest);
    fprintf(out, "-A POSTROUTING -o %s -s %s -j SNAT --to-source %s\nCOMMIT\n", link, guest, unique);
    fputs("*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n", out);
    if (!layout->allow_incoming)
        fprintf(out, "-A FORWARD -i %s -m conntrack --ctstate NEW -j DROP\n", link);
    fprintf(out, "-A FORWARD -i %s -o %s -j DROP\n-A FORWARD -i %s ! -s %s -j DROP\nCOMMIT\n", link,
            link, layout->tap, guest);
}
