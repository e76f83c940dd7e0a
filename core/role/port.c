/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether a port is free is the kernel's to say: by binding it.  Only who has it is read from
 * /proc/thread-self/net: there a line is "number local:port remote:port state ... inode", the addresses in
 * hexadecimal words as they lie in memory; the process with that socket has it among its descriptors.
 */
#include "role/port.h"

#include "config/table.h"
#include "util/cleanup.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define TABLES 2 /* of IPv4 and IPv6 */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* ---- what it is called */

static int parse_port(const char *text, uint16_t *ret_port)
{
    uint64_t port;

    if (table_parse_uint(text, &port) < 0 || port < 1 || port > 65535)
        return -EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

static int resolve(const char *host, int family, char *address, size_t size)
{
    const struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc;

    if (getaddrinfo(host, NULL, &hints, &found) || !found)
        return -ENOENT;
    rc = getnameinfo(found->ai_addr, found->ai_addrlen, address, (socklen_t)size, NULL, 0,
                     NI_NUMERICHOST);
    freeaddrinfo(found);
    return rc ? -ENOENT : 0;
}

static int parse_host(const char *host, bool brackets, char *address, size_t size,
                      struct drafter_error *err)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (!*host)
        host = "0.0.0.0";
    if (brackets ? inet_pton(AF_INET6, host, &v6) : inet_pton(AF_INET, host, &v4)) {
        if (!inet_ntop(brackets ? AF_INET6 : AF_INET, brackets ? (void *)&v6 : (void *)&v4, address,
                       (socklen_t)size))
            return drafter_error_errno(err, errno, "%s", host);
        return 0;
    }
    if (brackets || strchr(host, ':'))
        return drafter_error_set(err, EINVAL, "\"%s\" is no IPv6 address%s", host,
                                 brackets ? "" : " in brackets, like [::1]:3333");
    if (resolve(host, AF_INET, address, size) < 0 && resolve(host, AF_INET6, address, size) < 0)
        return drafter_error_set(err, EINVAL, "\"%s\" is neither an address nor a name that can be "
                                 "resolved", host);
    return 0;
}

int port_parse(const char *text, char *address, size_t size, uint16_t *ret_port,
               struct drafter_error *err)
{
    const char *colon = strrchr(text, ':'), *start = text;
    cleanup_free char *host = NULL;
    size_t length = colon ? (size_t)(colon - text) : 0;
    bool brackets = length > 1 && *text == '[' && colon[-1] == ']';

    if (!colon || parse_port(colon + 1, ret_port) < 0)
        return drafter_error_set(err, EINVAL, "\"%.64s\" is no ADDRESS:PORT", text);
    if (brackets) {
        start++;
        length -= 2;
    }
    host = strndup(start, length);
    if (!host)
        return drafter_error_errno(err, ENOMEM, "%s", text);
    return parse_host(host, brackets, address, size, err);
}

/* ---- who has it */

static bool is_any(const char *words)
{
    return strspn(words, "0") == strlen(words);
}

/*
 * Whether a line of the table is a socket that a binding of ours would meet; gives its inode.  `wanted`
 * NULL: in the other family, where only a wildcard does.
 */
static bool meets(const char *line, int protocol, const char *wanted, uint16_t port,
                  unsigned long *ret_inode)
{
    unsigned local_port, state;
    char local[33], remote[33];

    if (sscanf(line, " %*u: %32[0-9A-F]:%x %32[0-9A-F]:%*x %x %*s %*s %*s %*u %*u %lu", local,
               &local_port, remote, &state, ret_inode) != 5)
        return false;
    if (local_port != port || *ret_inode == 0)
        return false;
    if (protocol == IPPROTO_TCP && state != 10) /* LISTEN */
        return false;
    return is_any(local) || (wanted && (is_any(wanted) || strcmp(local, wanted) == 0));
}

static void hexadecimal(const union address *address, char *text, size_t size)
{
    const uint32_t *words = address->any.sa_family == AF_INET
                                ? (const uint32_t *)&address->v4.sin_addr
                                : (const uint32_t *)&address->v6.sin6_addr;
    size_t count = address->any.sa_family == AF_INET ? 1 : 4;

    for (size_t i = 0; i < count; i++)
        snprintf(text + 8 * i, size - 8 * i, "%08X", words[i]);
}

/* An IPv6 wildcard may take an IPv4 port, too; ours do not. */
static unsigned long find_inode(int protocol, const union address *address, uint16_t port)
{
    static const char *const names[2][TABLES] = {{"tcp", "tcp6"}, {"udp", "udp6"}};
    bool v6 = address->any.sa_family == AF_INET6;
    char wanted[40], path[64], line[512];

    hexadecimal(address, wanted, sizeof(wanted));
    for (int i = v6; i < TABLES; i++) {
        bool own = (i == 1) == v6;
        cleanup_fclose FILE *table = NULL;
        unsigned long inode;

        snprintf(path, sizeof(path), "/proc/thread-self/net/%s",
                 names[protocol == IPPROTO_UDP][i]);
        table = fopen(path, "re");
        while (table && fgets(line, sizeof(line), table))
            if (meets(line, protocol, own ? wanted : NULL, port, &inode))
                return inode;
    }
    return 0;
}

static bool process_has(const char *pid, const char *link)
{
    char path[300], target[64];
    const struct dirent *entry;
    bool found = false;
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    directory = opendir(path);
    while (directory && !found && (entry = readdir(directory))) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);

        if (length < 0)
            continue;
        target[length] = '\0';
        found = strcmp(target, link) == 0;
    }
    if (directory)
        closedir(directory);
    return found;
}

static void read_name(const char *pid, char *name, size_t size)
{
    char path[300];
    cleanup_fclose FILE *file = NULL;

    snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    file = fopen(path, "re");
    if (!file || !fgets(name, (int)size, file))
        snprintf(name, size, "a process");
    name[strcspn(name, "\n")] = '\0';
}

/* " by NAME (process PID)", or nothing. */
static void describe_owner(unsigned long inode, char *text, size_t size)
{
    const struct dirent *entry;
    char link[64], name[32];
    DIR *processes = inode ? opendir("/proc") : NULL;

    *text = '\0';
    snprintf(link, sizeof(link), "socket:[%lu]", inode);
    while (processes && !*text && (entry = readdir(processes))) {
        if (*entry->d_name < '0' || *entry->d_name > '9' || !process_has(entry->d_name, link))
            continue;
        read_name(entry->d_name, name, sizeof(name));
        snprintf(text, size, " by %s (process %.16s)", name, entry->d_name);
    }
    if (processes)
        closedir(processes);
}

/* ---- keeping it */

static socklen_t make_address(const char *text, uint16_t port, union address *address)
{
    memset(address, 0, sizeof(*address));
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons(port);
        return sizeof(address->v4);
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons(port);
        return sizeof(address->v6);
    }
    return 0;
}

static int refuse(int protocol, const char *text, const union address *address, uint16_t port,
                  int code, struct drafter_error *err)
{
    const char *open = strchr(text, ':') ? "[" : "", *close = *open ? "]" : "";
    const char *name = protocol == IPPROTO_UDP ? "UDP" : "TCP";
    char owner[80];

    if (code == EADDRNOTAVAIL)
        return drafter_error_set(err, code, "%s: this host has no such address", text);
    if (code != EADDRINUSE)
        return drafter_error_errno(err, code, "%s%s%s:%u", open, text, close, (unsigned)port);
    describe_owner(find_inode(protocol, address, port), owner, sizeof(owner));
    return drafter_error_set(err, code, "%s%s%s:%u is in use for %s%s", open, text, close,
                             (unsigned)port, name, owner);
}

/*
 * Connections that ended a moment ago keep a port from being bound, but they are no owners: then TCP
 * sockets share the address.  It is the second choice because listeners that share, too, could come later.
 */
static int bind_port(int fd, int protocol, const union address *address, socklen_t length)
{
    const int one = 1;

    if (!bind(fd, &address->any, length))
        return 0;
    if (errno != EADDRINUSE || protocol != IPPROTO_TCP)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
        bind(fd, &address->any, length))
        return -errno;
    return 0;
}

int port_hold(int protocol, const char *text, uint16_t port, int *ret_fd,
              struct drafter_error *err)
{
    const int one = 1;
    union address address;
    socklen_t length = make_address(text, port, &address);
    cleanup_close int fd = -1;
    int ret;

    if (!length)
        return drafter_error_set(err, EINVAL, "\"%s\" is no address", text);
    fd = socket(address.any.sa_family,
                (protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return drafter_error_errno(err, errno, "socket");
    if (address.any.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)))
        return drafter_error_errno(err, errno, "IPV6_V6ONLY");
    ret = bind_port(fd, protocol, &address, length);
    if (ret < 0)
        return refuse(protocol, text, &address, port, -ret, err);
    *ret_fd = steal_fd(&fd);
    return 0;
}
