/* SPDX-License-Identifier: BSD-2-Clause */
/* The rules, as nft reads them; what they are for is in ../rules.h. */
#include "nftables.h"

#include <string.h>

#define TABLE "inet drafter_"

/* The words of a family. */
static const struct words {
    const char *ip, *type, *digit, *loopback;
} words[LAYOUT_FAMILIES] = {
    {"ip", "ipv4_addr", "4", "127.0.0.0/8"},
    {"ip6", "ipv6_addr", "6", "::1"},
};

static enum layout_family_index family_of(int family)
{
    return family == AF_INET6 ? LAYOUT_V6 : LAYOUT_V4;
}

/* Replaces a table whether or not it is there: nft cannot delete what is not. */
static void open_table(FILE *out, const char *name)
{
    fprintf(out, "add table " TABLE "%s\ndelete table " TABLE "%s\ntable " TABLE "%s {\n", name,
            name, name);
}

static void write_sets(FILE *out, const struct layout_family *family, const struct words *word)
{
    char text[ADDRESS_TEXT_MAX];

    fprintf(out, "map forward%s { type inet_proto . %s . inet_service : %s . inet_service; }\n",
            word->digit, word->type, word->type);
    fprintf(out, "map wildcard%s { type inet_proto . inet_service : %s . inet_service; }\n",
            word->digit, word->type);
    fprintf(out, "set blocked%s { type %s; flags interval; auto-merge;", word->digit, word->type);
    if (family->blocked.family) {
        fprintf(out, " elements = { %s", address_cidr(&family->blocked, text));
        if (rules_isolate(family))
            fprintf(out, ", %s", address_cidr(&family->host_veth, text));
        fputs(" };", out);
    }
    fputs(" }\n", out);
}

static void write_translation(FILE *out, const struct words *word)
{
    fprintf(out, "dnat %s to meta l4proto . %s daddr . th dport map @forward%s\n", word->ip,
            word->ip, word->digit);
    fprintf(out, "fib daddr type local dnat %s to meta l4proto . th dport map @wildcard%s\n",
            word->ip, word->digit);
}

static void write_source(FILE *out, const struct layout *layout, const struct layout_family *family,
                         const struct words *word)
{
    char text[ADDRESS_TEXT_MAX];

    address_cidr(&family->namespace_veth, text);
    fprintf(out, "oifgroup %u %s saddr %s masquerade\n", layout->group, word->ip, word->loopback);
    fprintf(out, "oifgroup %u ct status dnat %s saddr %s masquerade\n", layout->group, word->ip,
            text);
    if (!family->own)
        fprintf(out, "oifname \"%s\" %s saddr %s masquerade\n", layout->host_interface, word->ip,
                text);
}

static void write_chain(FILE *out, const struct layout *layout, const char *head,
                        void (*write)(FILE *, const struct layout *, enum layout_family_index))
{
    fprintf(out, "%s\n", head);
    for (int i = 0; i < LAYOUT_FAMILIES; i++)
        if (layout->family[i].enabled)
            write(out, layout, i);
    fputs("}\n", out);
}

static void guard_rules(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    fprintf(out, "iifgroup %u %s daddr %s drop\n", layout->group, words[i].ip, words[i].loopback);
    /* What a link's neighbour discovery sends comes from no slot's address. */
    fprintf(out, "iifgroup %u meta nfproto ipv%s %s fib saddr . iif oif missing drop\n",
            layout->group, words[i].digit, i == LAYOUT_V6 ? "ip6 saddr != { fe80::/10, :: }" : "");
}

static void translation_rules(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    (void)layout;
    write_translation(out, &words[i]);
}

/* Before translation nothing has been routed yet, so that a neighbour may still name a loopback address. */
static void incoming_rules(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    fprintf(out, "%s daddr %s return\n", words[i].ip, words[i].loopback);
    translation_rules(out, layout, i);
}

static void source_rules(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    write_source(out, layout, &layout->family[i], &words[i]);
}

static void filter_rules(FILE *out, const struct layout *layout, enum layout_family_index i)
{
    fprintf(out, "iifgroup %u %s daddr @blocked%s drop\n", layout->group, words[i].ip,
            words[i].digit);
    fprintf(out, "oifgroup %u %s saddr @blocked%s drop\n", layout->group, words[i].ip,
            words[i].digit);
}

static void write_element(FILE *out, const struct layout *layout,
                          const struct rules_forward *forward)
{
    const struct words *word = &words[family_of(forward->host.family)];
    struct address host = {.family = (uint8_t)forward->host.family};
    char text[ADDRESS_TEXT_MAX];

    memcpy(host.bytes, &forward->host.address, host.family == AF_INET6 ? 16 : 4);
    fprintf(out, "add element " TABLE "%s %s%s { %s", layout->prefix,
            forward->host.wildcard ? "wildcard" : "forward", word->digit,
            forward_protocol_name(forward->host.protocol));
    if (!forward->host.wildcard)
        fprintf(out, " . %s", address_text(&host, text));
    fprintf(out, " . %u : %s . %u }\n", forward->host.port, address_text(&forward->target, text),
            forward->port);
}

static void write_elements(FILE *out, const struct layout *layout,
                           const struct rules_forwards *forwards)
{
    for (size_t i = 0; i < forwards->count; i++)
        write_element(out, layout, &forwards->items[i]);
}

void nftables_write_host(FILE *out, const struct layout *layout, const void *argument)
{
    open_table(out, layout->prefix);
    for (int i = 0; i < LAYOUT_FAMILIES; i++)
        if (layout->family[i].enabled)
            write_sets(out, &layout->family[i], &words[i]);
    write_chain(out, layout, "chain guard { type filter hook prerouting priority raw;", guard_rules);
    write_chain(out, layout, "chain incoming { type nat hook prerouting priority dstnat;",
                incoming_rules);
    write_chain(out, layout, "chain local { type nat hook output priority -100;",
                translation_rules);
    write_chain(out, layout, "chain outgoing { type nat hook postrouting priority srcnat;",
                source_rules);
    write_chain(out, layout, "chain passing { type filter hook forward priority filter;",
                filter_rules);
    fputs("}\n", out);
    write_elements(out, layout, argument);
}

void nftables_write_forwards(FILE *out, const struct layout *layout, const void *argument)
{
    for (int i = 0; i < LAYOUT_FAMILIES; i++)
        if (layout->family[i].enabled)
            fprintf(out, "flush map " TABLE "%s forward%s\nflush map " TABLE "%s wildcard%s\n",
                    layout->prefix, words[i].digit, layout->prefix, words[i].digit);
    write_elements(out, layout, argument);
}

void nftables_write_remove(FILE *out, const struct layout *layout, const void *argument)
{
    (void)argument;
    fprintf(out, "add table " TABLE "%s\ndelete table " TABLE "%s\n", layout->prefix,
            layout->prefix);
}

void nftables_write_slot(FILE *out, const struct layout *layout, const void *argument)
{
    const uint32_t *slot = argument;
    char link[IFNAMSIZ], one[ADDRESS_TEXT_MAX], two[ADDRESS_TEXT_MAX], guest[ADDRESS_TEXT_MAX];
    struct slot_addresses addresses;

    layout_inner(layout, *slot, link);
    fputs("table " TABLE "slot {\nchain incoming { type nat hook prerouting priority dstnat;\n", out);
    for (int i = 0; i < LAYOUT_FAMILIES; i++) {
        if (!layout->family[i].enabled)
            continue;
        layout_slot(layout, *slot, i, &addresses);
        address_text(&addresses.unique, one);
        address_text(&addresses.inner, two);
        address_text(&layout->family[i].guest, guest);
        fprintf(out, "iifname \"%s\" %s daddr %s dnat %s to %s\n", link, words[i].ip, one,
                words[i].ip, guest);
        if (layout->allow_incoming)
            fprintf(out, "iifname \"%s\" %s daddr %s dnat %s to %s\n", link, words[i].ip, two,
                    words[i].ip, guest);
    }
    fputs("}\nchain outgoing { type nat hook postrouting priority srcnat;\n", out);
    for (int i = 0; i < LAYOUT_FAMILIES; i++) {
        if (!layout->family[i].enabled)
            continue;
        layout_slot(layout, *slot, i, &addresses);
        address_text(&addresses.unique, one);
        address_text(&layout->family[i].guest, guest);
        fprintf(out, "oifname \"%s\" %s saddr %s snat %s to %s\n", link, words[i].ip, guest,
                words[i].ip, one);
    }
    fputs("}\nchain passing { type filter hook forward priority filter;\nct state invalid drop\n",
          out);
    if (!layout->allow_incoming)
        fprintf(out, "iifname \"%s\" ct state new drop\n", link);
    fprintf(out, "iifname \"%s\" oifname \"%s\" drop\n", link, link);
    for (int i = 0; i < LAYOUT_FAMILIES; i++)
        if (layout->family[i].enabled)
            fprintf(out, "iifname \"%s\" %s saddr != %s drop\n", layout->tap, words[i].ip,
                    address_text(&layout->family[i].guest, guest));
    fputs("}\n}\n", out);
}
