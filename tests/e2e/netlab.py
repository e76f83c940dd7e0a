# SPDX-License-Identifier: BSD-2-Clause
"""Hosts for tests of networks: namespaces in one broadcast domain, each with a /run of its own.

A host is a network and a mount namespace, kept by a process that sleeps; what runs there is entered with nsenter. Its
eth0 is one end of a link to a bridge in a further namespace. Nothing of the machine's own namespace is touched, and all
of it ends with the processes.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import drafterlab
from drafterlab import DRAFTER, check, section, skip

NETTOOL = str(pathlib.Path(__file__).resolve().parent / "nettool.py")
PLUGINS = ("nftables", "iptables")
SUBNET, SUBNET6 = "192.168.77", "fd77:"


def need(*programs):
    if os.geteuid() != 0:
        skip("needs root")
    if not os.path.exists("/dev/net/tun"):
        skip("/dev/net/tun is missing")
    for program in ("ip", "nsenter", "unshare", *programs):
        if not shutil.which(program):
            skip(f"{program} is not installed")
    if subprocess.run(["unshare", "--net", "--mount", "ip", "link", "add", "type", "veth"], capture_output=True).returncode:
        skip("namespaces with links cannot be made here")


def plugins():
    """The network plugins with namespaces that are built."""
    listed = json.loads(subprocess.run([DRAFTER, "plugins", "--json"], capture_output=True, check=True).stdout)
    listed = listed if isinstance(listed, list) else listed["plugins"]
    found = [name for name in PLUGINS if any(p.get("kind") == "network" and p.get("name") == name for p in listed)]
    return found or skip("no network plugin with namespaces is built")


class Place:
    """Where commands run: the namespaces of a process."""

    def __init__(self, lab, pid):
        self.lab, self.pid = lab, pid
        self.enter = ["nsenter", "-t", str(pid), "-n", "-m", "--"]

    def run(self, *words, check=True):
        done = subprocess.run([*self.enter, *words], capture_output=True, text=True)
        if check and done.returncode:
            raise drafterlab.Failure(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def ip(self, words):
        return self.run("ip", *words.split())

    def tool(self, *words, timeout=None):
        environment = ["env", f"NETTOOL_TIMEOUT={timeout}"] if timeout else []
        return self.run(*environment, sys.executable, NETTOOL, *map(str, words), check=False)

    def spawn(self, *words, await_line=None):
        """A process that runs until the lab ends; `await_line` is what it says when it is there."""
        child = self.lab.spawn([*self.enter, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if await_line:
            line = child.stdout.readline().strip()
            if line != await_line:
                raise drafterlab.Failure(f"{words} said {line!r}")
        return child

    def service(self, *words):
        return self.spawn(sys.executable, NETTOOL, *words, await_line="ready")


class Host(Place):
    def __init__(self, lab, name, number):
        super().__init__(lab, make_namespaces(lab))
        self.name, self.address, self.address6 = name, f"{SUBNET}.{number}", f"{SUBNET6}:{number}"
        for scope in "all", "default":  # addresses that are there at once
            self.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{scope}/accept_dad")
        self.ip("link set lo up")
        if not number:
            return
        self.ip(f"link add eth0 type veth peer name {name} netns {lab.lan.pid}")
        self.ip(f"addr add {self.address}/24 dev eth0")
        self.ip(f"addr add {self.address6}/64 dev eth0 nodad")
        self.ip("link set eth0 up")
        lab.lan.ip(f"link set dev {name} master lan up")

    def guest(self, slot, tap="tap0"):
        """A namespace that plays the VM of a slot, as `drafter nat status` tells of it."""
        addresses = [slot[key] for key in ("guest", "gateway", "guest6", "gateway6") if key in slot]
        child = self.service("guest", slot["netns"], slot.get("tap", tap), slot["mac"], *addresses)
        return Place(self.lab, child.pid)

    def drafter(self, *words, check=True):
        return self.run(DRAFTER, *words, check=check)

    def status(self, config):
        return json.loads(self.drafter("nat", "status", "--config", config, "--json"))

    def state(self):
        """Everything that a pool may change and must put back."""
        commands = ("ip -d link", "ip addr", "ip -4 route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule",
                    "ip neigh show proxy", "ip -6 neigh show proxy", "nft -s list ruleset", "ls /run/netns")
        return {command: self.run(*command.split(), check=False) for command in commands}


def make_namespaces(lab):
    script = "mount --make-rprivate / && mount -t tmpfs run /run && mkdir -p /run/lock /run/netns && echo ready && exec sleep infinity"
    child = lab.spawn(["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    if child.stdout.readline().strip() != "ready":
        raise drafterlab.Failure("a host cannot be made")
    return child.pid


class NetLab(drafterlab.Lab):
    """A lab with hosts; nodes run on the host that `place` says."""

    def __init__(self):
        super().__init__()
        self.places = {}

    def hosts(self, *names):
        self.lan = Host(self, "lan", 0)
        self.lan.ip("link add lan type bridge")
        self.lan.ip("link set lan up")
        return [Host(self, name, number) for number, name in enumerate(names, 1)]

    def place(self, node, host):
        self.places[node] = host.enter

    def prefix(self, node):
        return self.places.get(node, [])

    def nat(self, name, host, network, wait=True):
        """A pool on a host; `network`: the text of its [network:lan] section."""
        self.place(name, host)
        node = self.node(name, self.drafter_section(host.name, "nat", vm="nat") + section("nat", network="lan") + network)
        if wait:
            node.wait("ready")
        return node


def main(test, *programs):
    """Runs test(lab, plugin) for each plugin, each with a lab of its own."""
    need(*programs)
    for plugin in plugins():
        print(f"== {plugin}", flush=True)
        lab = NetLab()
        try:
            with lab:
                test(lab, plugin)
                lab.check_leaks()
        except (drafterlab.Failure, drafterlab.benchlib.BenchError, subprocess.SubprocessError) as failure:
            print(f"FAILED: {failure}", flush=True)
            lab.print_logs()
            sys.exit(1)


def same(before, after, what):
    """Compares two states of a host."""
    for command, text in before.items():
        if text != after[command]:
            print(f"--- {command}\n{text}\n+++\n{after[command]}")
    check(before == after, what)
