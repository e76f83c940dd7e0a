#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""drafter-heartbeats against guests of our own making, of which we know every gap."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import unittest

TOOL = os.environ.get("DRAFTER_HEARTBEATS", "./drafter-heartbeats")
PERIOD = 0.005


class Guest:
    """Beats on a deadline, so that lateness does not add up."""

    def __init__(self, sweeps_per_beat=1):
        self.seq = 0
        self.next = time.monotonic()
        self.step = sweeps_per_beat

    def line(self):
        self.seq += 1
        return b"HB %d %d %d\n" % (self.seq, self.seq * self.step, time.monotonic_ns())

    def beat(self, output, n=1, period=PERIOD):
        for _ in range(n):
            time.sleep(max(0, self.next - time.monotonic()))
            try:
                output.sendall(self.line())
            except OSError:
                return  # the tool has seen what it wanted
            self.next = max(self.next + period, time.monotonic() - PERIOD)

    def pause(self, seconds):
        time.sleep(seconds)
        self.next = time.monotonic()


class HeartbeatsTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.listeners = {}

    def tearDown(self):
        for listener in self.listeners.values():
            listener.close()
        self.dir.cleanup()

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def start(self, *options, names="ab"):
        """One socket per name, offered as QEMU does; returns our ends of them."""
        command = [TOOL]
        for name in names:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.path(name))
            listener.listen()
            self.listeners[name] = listener
            command += ["--source", f"{name}=connect:{self.path(name)}"]
        self.tool = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        return [self.listeners[name].accept()[0] for name in names]

    def report(self, status=0):
        text, _ = self.tool.communicate(timeout=20)
        self.assertEqual(self.tool.returncode, status)
        return json.loads(text)

    def test_one_source(self):
        (a,) = self.start("--until-beats", "200", names="a")
        Guest().beat(a, 200)
        report = self.report()
        self.assertEqual((report["count"], report["missing"], report["switches"]), (200, 0, []))
        self.assertAlmostEqual(report["interval_ms"]["median"], 5, delta=0.3)
        self.assertTrue(report["intact"])
        a.close()

    def test_blackout_and_speed(self):
        a, b = self.start("--until-switches", "1")
        guest = Guest()
        guest.beat(a, 200)
        guest.pause(0.080)
        guest.beat(b, 100, period=2 * PERIOD)  # half speed for a second, then full
        guest.beat(b, 100)
        report = self.report()
        (switch,) = report["switches"]
        self.assertAlmostEqual(switch["blackout_ms"], 80 + 5, delta=6)
        self.assertAlmostEqual(switch["beats_ratio"], 0.5, delta=0.05)
        self.assertAlmostEqual(switch["sweeps_ratio"], 0.5, delta=0.05)
        self.assertAlmostEqual(switch["recovered_ms"], 1000, delta=60)
        self.assertEqual((switch["lost"], report["missing"], report["split_brain"]), (0, 0, False))
        a.close(), b.close()

    def test_ping_pong(self):
        a, b = self.start("--until-switches", "3", "--settle", "100")
        guest = Guest()
        for output in (a, b, a, b):
            guest.beat(output, 50)
        report = self.report()
        self.assertEqual([s["from"] + s["to"] for s in report["switches"]], ["ab", "ba", "ab"])
        self.assertTrue(report["intact"])
        a.close(), b.close()

    def test_missing_and_bad(self):
        (a,) = self.start("--until-beats", "40", "--strict", names="a")
        guest = Guest()
        guest.beat(a, 20)
        guest.seq += 3
        a.sendall(b"BAD page=1 want=2 got=3\nCHK ok=100 bad=1\n")
        guest.beat(a, 20)
        report = self.report(status=4)
        self.assertEqual((report["missing"], report["bad"], report["chk_bad"]), (3, 1, 1))
        a.close()

    def test_split_brain(self):
        a, b = self.start("--until-beats", "120", "--strict")
        guest = Guest()
        guest.beat(a, 40)
        for _ in range(40):  # both go on from the same state
            time.sleep(PERIOD)
            line = guest.line()
            a.sendall(line)
            b.sendall(line)
        report = self.report(status=4)
        self.assertTrue(report["split_brain"])
        self.assertGreaterEqual(report["split_beats"], 39)
        self.assertAlmostEqual(report["split_ms"], 39 * 5, delta=60)
        a.close(), b.close()

    def test_guest_came_with_old_memory(self):
        a, b = self.start("--until-switches", "1", "--settle", "150", "--strict")
        guest = Guest()
        guest.beat(a, 40)
        guest.seq -= 10
        guest.pause(0.04)
        guest.beat(b, 60)
        report = self.report(status=4)
        self.assertEqual((report["rewound"], report["split_brain"], report["missing"]), (10, False, 0))
        self.assertAlmostEqual(report["switches"][0]["blackout_ms"], 45, delta=6)
        self.assertEqual(report["switches"][0]["lost"], -10)
        a.close(), b.close()

    def test_memory_went_back(self):
        a, b = self.start("--until-beats", "80", "--strict")
        guest = Guest(sweeps_per_beat=10)
        guest.beat(a, 40)
        guest.step = 5
        guest.beat(b, 40)
        self.assertEqual(self.report(status=4)["sweeps_back"], 1)
        a.close(), b.close()

    def test_line_cut_by_the_switch(self):
        """Also when the first host has closed its end by then."""
        a, b = self.start("--until-switches", "1", "--settle", "100")
        guest = Guest()
        guest.beat(a, 20)
        line = guest.line()
        a.sendall(line[:8])
        a.close()
        time.sleep(0.05)
        b.sendall(line[8:])
        guest.beat(b, 40)
        report = self.report()
        self.assertEqual((report["joined"], report["missing"], report["garbled"]), (1, 0, 0))
        self.assertAlmostEqual(report["switches"][0]["blackout_ms"], 50, delta=10)
        b.close()

    def test_byte_told_twice_at_the_switch(self):
        a, b = self.start("--until-switches", "1", "--settle", "100")
        guest = Guest()
        guest.beat(a, 20)
        line = guest.line()
        a.sendall(line[:-2])
        time.sleep(0.05)
        b.sendall(line[-3:])  # a digit of the TSC
        guest.beat(b, 40)
        report = self.report()
        self.assertEqual((report["joined"], report["tsc_back"], report["sweeps_back"]), (1, 0, 0))
        a.close(), b.close()

    def test_timeout_is_a_failure_with_a_report(self):
        a, b = self.start("--until-switches", "1", "--timeout", "0.4")
        Guest().beat(a, 20)
        report = self.report(status=3)
        self.assertEqual((report["timeout"], report["count"]), (True, 20))
        a.close(), b.close()

    def test_sigterm_ends_with_a_report(self):
        (a,) = self.start(names="a")
        Guest().beat(a, 20)
        time.sleep(0.05)
        self.tool.terminate()
        self.assertEqual(self.report()["count"], 20)
        a.close()

    def test_sigterm_ends_it_in_a_flood_too(self):
        (a,) = self.start(names="a")
        a.settimeout(0.2)
        start = time.monotonic()
        while self.tool.poll() is None and time.monotonic() < start + 5:
            if time.monotonic() > start + 0.2:
                self.tool.terminate()
            with contextlib.suppress(OSError):
                a.sendall(b"BAD page=1\n" * 1000)
        self.assertIsNotNone(self.tool.poll())
        self.report()
        a.close()

    def test_growing_file_listening_socket_and_events(self):
        read, write = os.pipe()
        self.tool = subprocess.Popen(
            [TOOL, "--source", f"f=file:{self.path('f')}", "--source", f"l=listen:{self.path('l')}",
             "--until-switches", "1", "--settle", "20", "--events", str(write), "--log", self.path("log")],
            stdout=subprocess.PIPE, text=True, pass_fds=[write])
        os.close(write)
        while not os.path.exists(self.path("l")):
            time.sleep(0.005)
        guest = Guest()
        with open(self.path("f"), "wb", buffering=0) as growing:
            growing.sendall = growing.write
            growing.write(b"READY pages=1 dirty=0\n")
            guest.beat(growing, 20)
        with socket.socket(socket.AF_UNIX) as out:
            out.connect(self.path("l"))
            guest.beat(out, 30)
            report = self.report()
        with os.fdopen(read) as events:
            words = [line.split()[:2] for line in events]
        self.assertEqual(words, [["ready", "f"], ["beat", "f"], ["beat", "l"], ["switch", "f"]])
        self.assertEqual(report["missing"], 0)
        with open(self.path("log")) as log:
            self.assertEqual(sum(1 for _ in log), report["count"])

    def test_wrong_options(self):
        for options in ([], ["--source", "a"], ["--source", "a=tcp:x"], ["--source", "a=file:x", "--timeout", "x"]):
            run = subprocess.run([TOOL, *options], capture_output=True)
            self.assertEqual(run.returncode, 2, options)


if __name__ == "__main__":
    unittest.main()
