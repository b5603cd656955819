"""The machine: what must be installed, processes and their memory, and a description for the table."""

import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time

PACKAGES = {
    "kamailio": "kamailio",
    "/usr/lib/x86_64-linux-gnu/kamailio/modules/db_sqlite.so": "kamailio-sqlite-modules",
    "rtpengine": "rtpengine-daemon",
    "sqlite3": "sqlite3",
    "cc": "gcc",
}
RECEIVE_BUFFER = 4 << 20
# Seconds for a process to begin to answer, and to end after SIGTERM.
START_LIMIT = 20
STOP_LIMIT = 10


class Failure(SystemExit):
    """What went wrong and what to do about it."""

    def __init__(self, text):
        super().__init__(f"bench: {text}")


def check():
    """Sees to it that there is everything to measure with."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Failure("this needs two cores: one for the server, one for the load")
    missing = [package for tool, package in PACKAGES.items() if not present(tool)]
    if missing:
        install(missing)
    limit = pathlib.Path("/proc/sys/net/core/rmem_max")
    if int(limit.read_text()) < RECEIVE_BUFFER:
        try:
            limit.write_text(str(RECEIVE_BUFFER))
        except OSError:
            raise Failure(f"receive buffers are too small; run as root: sysctl -w net.core.rmem_max={RECEIVE_BUFFER}")


def present(tool):
    return pathlib.Path(tool).exists() if tool.startswith("/") else shutil.which(tool) is not None


def install(packages):
    """Installs from Debian, without letting the packages start their services."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"install first: apt-get install {' '.join(packages)}")
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        command = ["apt-get", "-qq", "-y", "--no-install-recommends"]
        subprocess.run([*command, "update"], env=environment, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*command, "install", *packages], env=environment, check=True, stdout=subprocess.DEVNULL)
    finally:
        if ours:
            policy.unlink()


class Process:
    """A process that was started here, with all its children, on the given cores."""

    def __init__(self, command, log, cores):
        self.log = log
        command = ["taskset", "-c", cores, *map(str, command)]
        with open(log, "wb") as output:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        favour(self.child.pid)

    def tree(self):
        """The process and its descendants. `taskset` replaces itself, so the first is the server."""
        found, open_ends = [], [self.child.pid]
        while open_ends:
            pid = open_ends.pop()
            found.append(pid)
            try:
                for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    open_ends += map(int, (task / "children").read_text().split())
            except OSError:
                continue
        return found

    def wait_until(self, ready):
        """Waits until `ready()`; fails with the end of the log if the process ends or takes too long."""
        end = time.monotonic() + START_LIMIT
        while not ready():
            if self.child.poll() is not None or time.monotonic() > end:
                text = pathlib.Path(self.log).read_text(errors="replace")
                raise Failure(f"{' '.join(self.child.args[3:])} does not answer; it said:\n{text[-2000:]}")
            time.sleep(0.02)

    def stop(self):
        """SIGTERM, and SIGKILL for what is left of the tree after a while."""
        if self.child.poll() is not None:
            return
        pids = self.tree()
        self.child.terminate()
        try:
            self.child.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.child.wait()


def favour(pid):
    """Puts the session of a process ahead of what else runs on the machine, where we may."""
    try:
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-10")
    except OSError:
        pass


def answers(address, request, beginning):
    """Whether a server answers a datagram with one that begins so; `address` = (host, port)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        probe.connect(address)
        try:
            probe.send(request(*probe.getsockname()).encode())
            return probe.recv(4096).startswith(beginning)
        except OSError:
            return False


def answers_options(address, domain):
    """Whether a SIP server answers OPTIONS on UDP."""
    mark = time.monotonic_ns()
    return answers(address, lambda host, port: (
        f"OPTIONS sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{mark}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:probe@{domain}>;tag={mark}\r\nTo: <sip:{domain}>\r\n"
        f"Call-ID: {mark}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"), b"SIP/2.0 2")


def answers_ping(address):
    """Whether rtpengine answers on its control port."""
    return answers(address, lambda *_: "1 d7:command4:pinge", b"1 ")


def pss(pids):
    """Proportional set size of the processes together, bytes."""
    return sum(pss_of(pid) for pid in pids)


def pss_of(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def description(versions):
    """One line about machine and date."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((l.split(":", 1)[1].strip() for l in cpuinfo.splitlines() if l.startswith("model name")), "unknown CPU")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    date = time.strftime("%Y-%m-%d")
    return (f"{date}; {os.cpu_count()} cores, {model}, {memory} GB, Linux {platform.release()}; "
            f"{versions}; load average at the start {os.getloadavg()[0]:.1f}")
