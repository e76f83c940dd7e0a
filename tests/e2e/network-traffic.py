#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A pool of slots as its users see it, over `drafter nat` and `drafter forwarder`: from a third host and from the VMs,
IPv4 and IPv6. The VMs are namespaces behind the slots' taps, with a redis and a DNS server."""

import json
import os
import pathlib
import shutil
import signal

import netlab
from drafterlab import DRAFTER, check, section

PORT = 3333


def network(plugin, **options):
    return section("network:lan", plugin=plugin, slots=4, ipv6=True, **options)


def routes(host, way):
    """The third host knows where the slots' addresses are."""
    host.ip(f"route add 10.0.15.0/24 via {way.address}")
    host.ip(f"-6 route add fd64:7261:6674:f::/64 via {way.address6}")


def check_reach(third, guest, slot):
    for address in (slot["address"], slot["address6"]):
        check(third.tool("ping", address) == "alive", f"{address} answers a ping from a third host")
        check(third.tool("dns", address, 53) == "192.0.2.53", "and a question over UDP")
        check(third.tool("redis", address, 6379, "SET", "k", address) == "OK", "and takes a value into its redis")
        check(third.tool("redis", address, 6379, "GET", "k") == address, "which is there")
        check(third.tool("udp-refused", address, 9) == "refused", "and says with ICMP where nobody listens")
    for address in (third.address, third.address6):
        check(guest.tool("ping", address) == "alive", f"the VM reaches {address} with a ping")
        check(guest.tool("dns", address, 53) == "192.0.2.53", "and with a question over UDP")
        check(guest.tool("udp-refused", address, 9) == "refused", "and hears ICMP errors from there")


def check_mtu(host, third, guest, slot):
    """A narrower link behind the host: its errors arrive at the guest, and TCP goes on in smaller segments."""
    host.ip("link set eth0 mtu 1400")
    third.ip("link set eth0 mtu 1400")
    for address in (third.address, third.address6):
        check(guest.tool("ping", address, 1400) == "too big", f"the VM hears that 1400 bytes do not fit on the way to {address}")
        check(guest.tool("ping", address, 1300) == "alive", "but 1300 do")
        check(guest.tool("fetch", address, 8080, 300000) == "300000", "and TCP brings what it should")
    for address in (slot["address"], slot["address6"]):
        check(third.tool("fetch", address, 8080, 300000) == "300000", "in the other direction as well")
    host.ip("link set eth0 mtu 1500")
    third.ip("link set eth0 mtu 1500")


def check_between(guests, slots, expected, text):
    for address in (slots[1]["address"], slots[1]["address6"]):
        answer = guests[0].tool("redis", address, 6379, "PING", timeout=1.5)
        check((answer == "PONG") == expected, f"{text}: {address} from the other VM: {answer}")


def forward(lab, host, name, text, wanted="forwarding"):
    lab.place(name, host)
    node = lab.node(name, lab.drafter_section(name, "forwarder", vm=name) + section("forwarder", network="lan") + text)
    if wanted:
        node.wait(wanted)
    return node


def forwards(*addresses, protocol="tcp", port=6379):
    return "".join(section(f"forward:{protocol}{i}", netns="ark0", internal_port=port, protocol=protocol, external_addr=a)
                   for i, a in enumerate(addresses))


def check_refused(lab, host, text, name, *words):
    node = forward(lab, host, name, text, wanted=None)
    status = node.exited()
    check(status == 5, f"a taken port ends the forwarder with status {status}")
    message = node.messages("error")[-1]
    check(all(word in message for word in words), f"and its owner's name: {message}")


def check_forwards(lab, host, third, config, pool):
    check_refused(lab, host, config + forwards(f"127.0.0.1:{PORT}", f"0.0.0.0:{PORT}"), "twice", "twice, to ark0")
    node = forward(lab, host, "forwarder", config + forwards(f"127.0.0.1:{PORT}", f"[::1]:{PORT}", f"0.0.0.0:{PORT + 1}",
                                                             f"[::]:{PORT + 1}", f"{host.address}:{PORT + 2}")
                   + section("forward:other", netns="ark1", internal_port=6379, protocol="tcp", external_addr=f"[::1]:{PORT + 3}")
                   + forwards("0.0.0.0:5353", "[::]:5353", protocol="udp", port=53))
    for address, port in (("127.0.0.1", PORT), ("::1", PORT), ("127.0.0.1", PORT + 1), ("::1", PORT + 1), ("::1", PORT + 3),
                          (host.address, PORT + 1), (host.address6, PORT + 1), (host.address, PORT + 2)):
        check(host.tool("redis", address, port, "PING") == "PONG", f"the host itself: {address} {port}")
    for address, port in ((host.address, PORT + 1), (host.address6, PORT + 1), (host.address, PORT + 2)):
        check(third.tool("redis", address, port, "PING") == "PONG", f"the third host: {address} {port}")
    for address in (host.address, host.address6):
        check(third.tool("dns", address, 5353) == "192.0.2.53", f"the third host over UDP: {address}")
        check(host.tool("dns", address, 5353) == "192.0.2.53", "and the host itself")
    check(third.tool("redis", host.address, PORT, "PING", timeout=1) != "PONG", "a loopback address is for the host alone")
    listed = pool.status["forwards"]
    check(len(listed) == 8 and {f["owner"] for f in listed} == {"forwarder"}, "status lists all forwards with their owner")
    check_refused(lab, host, config + forwards(f"0.0.0.0:{PORT + 2}"), "second", "forwarder", str(node.child.pid))
    server = host.service("listen", "0.0.0.0", 4444)
    check_refused(lab, host, config + forwards("127.0.0.1:4444"), "third", "4444", f"process {server.pid}")
    check(node.stop() == 0, "the forwarder ends well")
    check(third.tool("redis", host.address, PORT + 1, "PING", timeout=1) != "PONG", "and its forwards with it")
    check(not pool.status["forwards"], "status lists none")
    return forward(lab, host, "again", config + forwards(f"0.0.0.0:{PORT}"))


class Pool:
    def __init__(self, lab, name, host, config):
        self.host, self.node = host, lab.nat(name, host, config)

    @property
    def status(self):
        return self.host.status(self.node.config)


def two_guests(lab, host, pool):
    slots = pool.status["slots"]
    check(len(slots) == 4 and all(s["state"] == "free" for s in slots), "status lists four free slots")
    guests = [host.guest(slot) for slot in slots[:2]]
    for guest in guests:
        guest.spawn("redis-server", "--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--dir", lab.path(""))
        for address in ("0.0.0.0", "::"):
            guest.service("dns-server", address, 53)
            guest.service("serve", address, 8080, 300000)
        lab.eventually(lambda: guest.tool("redis", "127.0.0.1", 6379, "PING", timeout=1) == "PONG", "redis serves in the VM")
    return slots, guests


def check_killed(lab, host, config, slots):
    """kill -9 of the pool's maker: what it made stays in use, and the next one has all of it."""
    pool = Pool(lab, "killed", host, config)
    pool.node.kill()
    check(len(pool.status["slots"]) == 4, "a pool whose maker was killed is still there")
    pool = Pool(lab, "successor", host, config)
    check([s["address"] for s in pool.status["slots"]] == [s["address"] for s in slots], "the next one has the same slots")
    check(pool.node.stop() == 0, "and removes them")
    for moment in range(3):
        node = lab.nat(f"cut{moment}", host, config.replace("slots = 4", "slots = 60"), wait=False)
        lab.eventually(lambda: host.run("ls", "/run/netns").count("ark") >= 1 + 25 * moment or node.find("ready"), "it makes slots")
        node.kill()
    pool = Pool(lab, "last", host, config)
    check(len(pool.status["slots"]) == 4, "killed while it made them: the next one makes what it is told to")
    return pool


def check_command_line(lab, host, plugin):
    """The original's command line, under the original's name."""
    link, hook, heard = lab.path("drafter-nat"), lab.path("hook"), pathlib.Path(lab.path("heard"))
    pathlib.Path(hook).write_text(f'#!/bin/sh\ntest -e /run/netns/$1 && echo "remove $1" >>{heard} || echo "create $1" >>{heard}\n')
    os.chmod(hook, 0o700)
    os.symlink(os.path.abspath(DRAFTER), link)
    child = host.spawn(link, "-host-interface", "eth0", "--host-veth-cidr=10.9.8.0/24", "-namespace-veth-cidr", "10.9.15.0/28",
                       "-blocked-subnet-cidr", "10.9.15.0/28", "-namespace-prefix", "orig", "-namespace-interface", "tap9",
                       "--namespace-interface-gateway", "172.100.100.1", "-namespace-interface-ip", "172.100.100.2",
                       "-namespace-interface-netmask", "29", "-namespace-interface-mac", "02:00:00:00:00:09",
                       "-allow-incoming-traffic=false", "--network", plugin, "--before-create", hook, "--before-remove", hook, "--run-directory", lab.path("run/line"))
    asked = ("nat", "status", "--network", plugin, "--namespace-prefix", "orig", "--json")
    lab.eventually(lambda: host.drafter(*asked, check=False).count('"netns"') == 14,
                   "the original's flags make a pool of as many slots as there are addresses")
    slots = json.loads(host.drafter(*asked))["slots"]
    check(slots[3]["name"] == "orig3", "with the names that they say")
    check((slots[0]["tap"], slots[0]["mac"], slots[0]["address"], slots[0]["guest"], slots[0]["gateway"]) ==
          ("tap9", "02:00:00:00:00:09", "10.9.15.1", "172.100.100.2/29", "172.100.100.1"), "which are what it said")
    refused = host.drafter("forwarder", "--network", plugin, "--namespace-prefix", "orig", "--run-directory",
                           lab.path("run/refused"), "-port-forwards",
                           '[{"netns":"orig0","internalPort":"6379","protocol":"tcp","externalAddr":"127.0.0.1:3333"}]', check=False)
    check(not refused, "no forward into a pool that allows none")
    child.terminate()
    check(child.wait(60) == 0, "it ends well")
    check(heard.read_text().splitlines() == [f"{verb} orig{i}" for verb in ("create", "remove") for i in range(14)],
          "the hooks are called with each namespace before it is made and removed")


def check_hook_that_fails(lab, host, plugin):
    """One line, and nothing of the pool stays."""
    refused = host.run("sh", "-c", f"exec '{DRAFTER}' nat --network {plugin} --slots 1 --before-create /bin/false --run-directory "
                       f"'{lab.path('run/hook')}' 2>&1 | cat", check=False)
    check("hook before creating ark0: /bin/false: exit status 1" in refused and len(refused.splitlines()) == 1,
          f"a hook that fails is told in one line: {refused}")
    check(not host.run("ls", "/run/drafter/network"), "and there is no pool")


def check_faults(lab, host, plugin):
    for options, words in (({"host_interface": "eth7"}, "eth7"), ({"namespace_prefix": "much-too-long"}, "namespace-prefix"),
                           ({"host_veth_cidr": "10.0.15.0/24"}, "overlap"), ({"namespace_veth_cidr": "10.0.15.0/32"}, "namespace-veth-cidr"),
                           ({"slots": 300}, "slots"), ({"namespace_interface_ip": "172.16.9.2"}, "namespace-interface-ip")):
        number = len(lab.nodes)
        node = lab.nat(f"faulty{number}", host, section("network:lan", plugin=plugin, **options), wait=False)
        status, errors = node.exited(), node.messages("error")
        check(status not in (0, None) and len(errors) == 1 and words in errors[0], f"one clear line: {errors}")


def own_rules(host):
    """A rule of the host's own in each chain of iptables that a pool uses: iptables makes a chain with its first rule, and leaves it."""
    for program, address in (("iptables", "203.0.113.9"), ("ip6tables", "2001:db8:9::9")):
        for table, chain in (("raw", "PREROUTING"), ("nat", "PREROUTING"), ("nat", "OUTPUT"), ("nat", "POSTROUTING"), ("filter", "FORWARD")):
            host.run(program, "-t", table, "-A", chain, "-d", address, "-j", "ACCEPT")


def traffic(lab, plugin):
    host, third = lab.hosts("a", "c")
    host.ip(f"route add default via {third.address}")
    if plugin == "iptables":
        own_rules(host)
    host.run("nft", "add table inet others; add chain inet others c { type filter hook forward priority 5; }; "
             "add rule inet others c ip saddr 203.0.113.9 drop")
    routes(third, host)
    before = host.state()
    pool = Pool(lab, "nat", host, network(plugin))
    slots, guests = two_guests(lab, host, pool)
    for address in ("0.0.0.0", "::"):
        third.service("dns-server", address, 53)
        third.service("serve", address, 8080, 300000)
    check_reach(third, guests[0], slots[0])
    check_mtu(host, third, guests[0], slots[0])
    check_between(guests, slots, False, "what is blocked")
    forwarder = check_forwards(lab, host, third, network(plugin), pool)
    for address in (slots[0]["address"], slots[0]["address6"]):
        third.spawn("python3", netlab.NETTOOL, "flood", address, 53)
    guests[1].spawn("python3", netlab.NETTOOL, "flood", third.address, 53)
    check(pool.node.stop() == 0, "the pool is removed while packets come and go")
    check(forwarder.exited() == 3, "which ends a forwarder")
    for guest in guests:
        os.kill(guest.pid, signal.SIGKILL)
    netlab.same(before, host.state(), "the host is what it was")
    options = {"blocked-subnet-cidr": "", "blocked-subnet-cidr6": ""}
    pool = Pool(lab, "open", host, network(plugin, **options))
    slots, guests = two_guests(lab, host, pool)
    check_between(guests, slots, True, "nothing is blocked")
    for guest in guests:
        os.kill(guest.pid, signal.SIGKILL)
    check(pool.node.stop() == 0, "the pool is removed")
    check_command_line(lab, host, plugin)
    check_hook_that_fails(lab, host, plugin)
    check_faults(lab, host, plugin)
    pool = check_killed(lab, host, network(plugin), slots)
    check(pool.node.stop() == 0, "the pool is removed")
    netlab.same(before, host.state(), "the host is what it was")


if __name__ == "__main__":
    if not shutil.which("redis-server"):
        netlab.skip("redis-server is not installed")
    netlab.main(traffic, "nft")
