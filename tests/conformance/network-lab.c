/* SPDX-License-Identifier: BSD-2-Clause */
#include "network-lab.h"

#include "conformance.h"
#include "util/proc.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TALK_TIMEOUT_MS 300
#define REACH_TIMEOUT_MS 8000 /* a busy machine */
#define ARGUMENTS_MAX 32

static int host_ns = -1, client_ns = -1;

static int own_ns(void)
{
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    return fd;
}

void lab_enter(int netns)
{
    ck_assert_int_eq(setns(netns, CLONE_NEWNET), 0);
}

int lab_host(void)
{
    return host_ns;
}

int lab_client(void)
{
    return client_ns;
}

char *lab_output(const char *command)
{
    const char *argv[ARGUMENTS_MAX] = {NULL};
    char *copy = strdup(command), *next = copy, *output = NULL;
    struct drafter_error err = {0};
    size_t count = 0;
    int rc;

    for (char *word; (word = strsep(&next, " ")) && count + 1 < ARGUMENTS_MAX;)
        if (*word)
            argv[count++] = word;
    rc = proc_run(argv, 20000, 1 << 22, &output, &err);
    ck_assert_msg(rc == 0, "%s: %s", command, err.message);
    free(copy);
    return output;
}

void lab_run(const char *command)
{
    free(lab_output(command));
}

const char *lab_obstacle(void)
{
    const char *const needed[] = {"/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip"};

    if (geteuid() != 0)
        return "needs root";
    if (access("/dev/net/tun", R_OK | W_OK) < 0)
        return "/dev/net/tun is missing";
    for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++)
        if (access(needed[i], X_OK) == 0)
            return NULL;
    return "ip(8) is not installed";
}

static int listen_at(int type)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(LAB_PORT)};
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0), on = 1;

    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (type == SOCK_STREAM)
        ck_assert_int_eq(listen(fd, 16), 0);
    return fd;
}

/* Answers "PEER TEXT". */
static void *echo_stream(void *opaque)
{
    int fd = (int)(intptr_t)opaque;
    struct sockaddr_in6 peer;
    socklen_t size = sizeof(peer);
    char name[64] = "", in[256], out[512];
    ssize_t length;

    getpeername(fd, (struct sockaddr *)&peer, &size);
    inet_ntop(AF_INET6, &peer.sin6_addr, name, sizeof(name));
    while ((length = recv(fd, in, sizeof(in) - 1, 0)) > 0) {
        in[length] = '\0';
        length = snprintf(out, sizeof(out), "%s %s",
                          strncmp(name, "::ffff:", 7) == 0 ? name + 7 : name, in);
        if (send(fd, out, (size_t)length, MSG_NOSIGNAL) < 0)
            break;
    }
    close(fd);
    return NULL;
}

static void *accept_streams(void *opaque)
{
    int listener = (int)(intptr_t)opaque, fd;
    pthread_t thread;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        if (pthread_create(&thread, NULL, echo_stream, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    return NULL;
}

static void *echo_datagrams(void *opaque)
{
    int fd = (int)(intptr_t)opaque;
    struct sockaddr_in6 peer;
    socklen_t size = sizeof(peer);
    char in[2048];
    ssize_t length;

    while ((length = recvfrom(fd, in, sizeof(in), 0, (struct sockaddr *)&peer, &size)) >= 0)
        sendto(fd, in, (size_t)length, 0, (struct sockaddr *)&peer, size);
    return NULL;
}

void lab_echo(void)
{
    pthread_t thread;

    ck_assert_int_eq(
        pthread_create(&thread, NULL, accept_streams, (void *)(intptr_t)listen_at(SOCK_STREAM)), 0);
    ck_assert_int_eq(
        pthread_create(&thread, NULL, echo_datagrams, (void *)(intptr_t)listen_at(SOCK_DGRAM)), 0);
}

void lab_setup(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(mount("lab", "/run", "tmpfs", 0, "mode=755"), 0);
    client_ns = own_ns();
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    host_ns = own_ns();
    lab_run("ip link set lo up");
    lab_enter(client_ns);
    lab_run("ip link set lo up");
    lab_run("ip link add eth0 type veth peer name host0");
    lab_run("ip address add 192.0.2.2/24 dev eth0");
    lab_run("ip address add 2001:db8::2/64 dev eth0 nodad");
    lab_run("ip link set eth0 addrgenmode none");
    lab_run("ip address add fe80::2/64 dev eth0 nodad");
    lab_run("ip link set eth0 up");
    ck_assert_int_eq(mkdir("/run/netns", 0755), 0);
    ck_assert_int_eq(mkdir("/run/drafter", 0755), 0);
    ck_assert_int_eq(mkdir("/run/drafter/network", 0700), 0);
    close(open("/run/netns/host", O_CREAT | O_RDONLY | O_CLOEXEC, 0600));
    lab_enter(host_ns);
    ck_assert_int_eq(mount("/proc/thread-self/ns/net", "/run/netns/host", NULL, MS_BIND, NULL), 0);
    lab_enter(client_ns);
    lab_run("ip link set host0 netns host name eth0");
    lab_echo();
    lab_enter(host_ns);
    umount2("/run/netns/host", MNT_DETACH);
    unlink("/run/netns/host");
    lab_run("ip link set eth0 addrgenmode none");
    lab_run("ip address add fe80::1/64 dev eth0 nodad");
    lab_run("ip address add 192.0.2.1/24 dev eth0");
    lab_run("ip address add 2001:db8::1/64 dev eth0 nodad");
    lab_run("ip link set eth0 up");
    lab_run("ip route add default via 192.0.2.2");
    lab_run("ip route add default via 2001:db8::2");
    lab_enter(client_ns);
    lab_run("ip route add 10.0.0.0/8 via 192.0.2.1");
    lab_run("ip route add fd64:7261:6674::/48 via 2001:db8::1");
    lab_enter(host_ns);
}

static int open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    ck_assert_msg(ioctl(fd, TUNSETIFF, &request) == 0, "tap %s: %s", name, strerror(errno));
    return fd;
}

struct wire {
    int ends[2];
};

static void *carry(void *opaque)
{
    struct wire *wire = opaque;
    static _Thread_local char frame[70000];

    for (;;) {
        struct pollfd polled[2] = {{wire->ends[0], POLLIN, 0}, {wire->ends[1], POLLIN, 0}};

        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return NULL;
        for (int i = 0; i < 2; i++) {
            ssize_t length = polled[i].revents ? read(wire->ends[i], frame, sizeof(frame)) : 0;

            if (length < 0 && errno != EAGAIN)
                return NULL;
            /* An end that is down loses the frame, as wires do. */
            if (length > 0 && write(wire->ends[1 - i], frame, (size_t)length) < 0)
                continue;
        }
    }
}

int lab_guest(const struct drafter_network_slot *slot)
{
    int netns = open(slot->netns, O_RDONLY | O_CLOEXEC), guest;
    struct wire *wire = malloc(sizeof(*wire));
    pthread_t thread;
    char command[256];

    ck_assert_msg(netns >= 0, "%s: %s", slot->netns, strerror(errno));
    lab_enter(netns);
    close(netns);
    wire->ends[0] = open_tap(slot->tap);
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    guest = own_ns();
    wire->ends[1] = open_tap("eth0");
    lab_run("ip link set lo up");
    snprintf(command, sizeof(command), "ip link set eth0 address %s up", slot->mac);
    lab_run(command);
    snprintf(command, sizeof(command), "ip address add %s dev eth0", slot->guest);
    lab_run(command);
    snprintf(command, sizeof(command), "ip route add default via %s", slot->gateway);
    lab_run(command);
    if (slot->guest6[0]) {
        snprintf(command, sizeof(command), "ip address add %s dev eth0 nodad", slot->guest6);
        lab_run(command);
        snprintf(command, sizeof(command), "ip route add default via %s", slot->gateway6);
        lab_run(command);
    }
    lab_echo();
    ck_assert_int_eq(pthread_create(&thread, NULL, carry, wire), 0);
    lab_enter(host_ns);
    return guest;
}

static socklen_t socket_address(const char *address, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof(*v4);
    }
    ck_assert_msg(inet_pton(AF_INET6, address, &v6->sin6_addr) == 1, "%s", address);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return sizeof(*v6);
}

static int connect_in(int netns, int type, const char *address, uint16_t port)
{
    struct sockaddr_storage to;
    socklen_t size = socket_address(address, port, &to);
    struct timeval timeout = {.tv_sec = TALK_TIMEOUT_MS / 1000,
                              .tv_usec = TALK_TIMEOUT_MS % 1000 * 1000};
    int fd;

    lab_enter(netns);
    fd = socket(to.ss_family, type | SOCK_CLOEXEC, 0);
    lab_enter(host_ns);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (struct sockaddr *)&to, size) < 0) {
        int code = errno == EINPROGRESS ? ETIMEDOUT : errno;

        close(fd);
        return -code;
    }
    return fd;
}

int lab_connect(int netns, const char *address, uint16_t port)
{
    return connect_in(netns, SOCK_STREAM, address, port);
}

static int exchange(int fd, bool stream, char *ret_peer)
{
    char reply[512];
    ssize_t length;

    if (send(fd, "hello", 5, MSG_NOSIGNAL) < 0 || (length = recv(fd, reply, 511, 0)) < 0)
        return -errno;
    reply[length] = '\0';
    if (length == 0)
        return -ECONNRESET;
    if (stream) {
        char *blank = strchr(reply, ' ');

        ck_assert_msg(blank && strcmp(blank, " hello") == 0, "echo said \"%s\"", reply);
        *blank = '\0';
        if (ret_peer)
            snprintf(ret_peer, 64, "%.63s", reply);
    } else {
        ck_assert_str_eq(reply, "hello");
    }
    return 0;
}

int lab_exchange(int fd, int timeout_ms)
{
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return exchange(fd, true, NULL);
}

int lab_talk(int netns, uint8_t protocol, const char *address, uint16_t port, char *ret_peer)
{
    bool stream = protocol == IPPROTO_TCP;
    int fd = connect_in(netns, stream ? SOCK_STREAM : SOCK_DGRAM, address, port), rc;

    if (fd < 0)
        return fd;
    rc = exchange(fd, stream, ret_peer);
    close(fd);
    return rc;
}

int lab_datagrams(int netns, const char *address, uint16_t port)
{
    return connect_in(netns, SOCK_DGRAM, address, port);
}

int lab_path_mtu(int netns, const char *address, int wanted)
{
    static const char large[1400];
    bool v6 = strchr(address, ':') != NULL;
    int fd = connect_in(netns, SOCK_DGRAM, address, LAB_PORT);
    int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP, discover = IP_PMTUDISC_DO, mtu = 0;
    uint64_t end = conformance_now_ms() + REACH_TIMEOUT_MS;
    socklen_t size = sizeof(mtu);

    ck_assert_int_ge(fd, 0);
    setsockopt(fd, level, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &discover, sizeof(discover));
    while (mtu != wanted && conformance_now_ms() < end) {
        if (send(fd, large, sizeof(large), 0) < 0)
            ck_assert_int_eq(errno, EMSGSIZE);
        conformance_sleep_ms(5);
        ck_assert_int_eq(getsockopt(fd, level, v6 ? IPV6_MTU : IP_MTU, &mtu, &size), 0);
    }
    close(fd);
    return mtu;
}

int lab_reach(int netns, uint8_t protocol, const char *address, uint16_t port, char *ret_peer)
{
    uint64_t end = conformance_now_ms() + REACH_TIMEOUT_MS;
    int rc;

    while ((rc = lab_talk(netns, protocol, address, port, ret_peer)) < 0 &&
           conformance_now_ms() < end)
        ;
    return rc;
}

/* A host has rules of its own, in the tables that iptables makes for the first rule. */
static const char *const own_rules[] = {
    "iptables -t raw -A PREROUTING -d 203.0.113.9 -j ACCEPT",
    "iptables -t nat -A PREROUTING -d 203.0.113.9 -j ACCEPT",
    "iptables -t nat -A OUTPUT -d 203.0.113.9 -j ACCEPT",
    "iptables -t nat -A POSTROUTING -d 203.0.113.9 -j ACCEPT",
    "iptables -t filter -A FORWARD -d 203.0.113.9 -j ACCEPT",
    "ip6tables -t raw -A PREROUTING -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables -t nat -A PREROUTING -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables -t nat -A OUTPUT -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables -t nat -A POSTROUTING -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables -t filter -A FORWARD -d 2001:db8:9::9 -j ACCEPT",
    "iptables-legacy -t raw -A PREROUTING -d 203.0.113.9 -j ACCEPT",
    "iptables-legacy -t nat -A PREROUTING -d 203.0.113.9 -j ACCEPT",
    "iptables-legacy -t nat -A OUTPUT -d 203.0.113.9 -j ACCEPT",
    "iptables-legacy -t nat -A POSTROUTING -d 203.0.113.9 -j ACCEPT",
    "iptables-legacy -t filter -A FORWARD -d 203.0.113.9 -j ACCEPT",
    "ip6tables-legacy -t raw -A PREROUTING -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables-legacy -t nat -A PREROUTING -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables-legacy -t nat -A OUTPUT -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables-legacy -t nat -A POSTROUTING -d 2001:db8:9::9 -j ACCEPT",
    "ip6tables-legacy -t filter -A FORWARD -d 2001:db8:9::9 -j ACCEPT",
};

void lab_rules(void)
{
    lab_run("nft add table inet others");
    lab_run("nft add chain inet others input { type filter hook input priority 0 ; policy accept ; }");
    lab_run("nft add rule inet others input tcp dport 9999 counter drop");
    for (size_t i = 0; i < sizeof(own_rules) / sizeof(*own_rules); i++)
        if (access("/usr/sbin/iptables", X_OK) == 0)
            lab_run(own_rules[i]);
}

/* Rules of a world that has its own lists; counters and comments change by themselves. */
static void print_rules(FILE *out, const char *command)
{
    char *rules = lab_output(command), *next = rules;

    for (char *line; (line = strsep(&next, "\n"));)
        if (*line != '#')
            fprintf(out, "%.*s\n", (int)strcspn(line, "["), line);
    free(rules);
}

char *lab_snapshot(void)
{
    static const char *const commands[] = {
        "nft -s list ruleset", "ip -o link",      "ip -o address", "ip route show table all",
        "ip -6 route show table all", "ip neigh show proxy", "ip -6 neigh show proxy",
        "find /run",           "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
        "cat /proc/sys/net/ipv6/conf/eth0/accept_ra /proc/sys/net/ipv4/neigh/eth0/proxy_delay",
        "cat /proc/sys/net/ipv6/conf/eth0/proxy_ndp /proc/sys/net/ipv6/neigh/eth0/proxy_delay",
    };
    char *all = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&all, &size);

    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        char *output = lab_output(commands[i]);

        fprintf(out, "%s\n", output);
        free(output);
    }
    if (access("/usr/sbin/iptables-save", X_OK) == 0) {
        print_rules(out, "iptables-save");
        print_rules(out, "ip6tables-save");
        print_rules(out, "iptables-legacy-save");
        print_rules(out, "ip6tables-legacy-save");
    }
    fclose(out);
    return all;
}

void lab_expect_same(const char *before, const char *after)
{
    while (*before || *after) {
        int one = (int)strcspn(before, "\n"), two = (int)strcspn(after, "\n");

        ck_assert_msg(one == two && memcmp(before, after, (size_t)one) == 0,
                      "before: \"%.*s\", after: \"%.*s\"", one, before, two, after);
        before += one + (before[one] != '\0');
        after += two + (after[two] != '\0');
    }
}
