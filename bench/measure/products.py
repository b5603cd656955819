"""The two products: how each is configured, started and stopped, and the tools that measure them."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from . import machine

HOST, PORT, CONTROL_PORT = "127.0.0.1", 5070, 2223
DOMAIN, PASSWORD = "example.org", "bench"
RELAY_PORTS = (8000, 65535)
# Accounts u000000… and c000000…, where nothing else is asked for.
ACCOUNTS = 1000
# Seconds that the generator may take beyond its warm-up and window.
LOAD_LIMIT = 150


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a product is to be set up."""

    challenge_calls: bool = False
    trust: bool = False
    media: bool = False
    durable: bool = False
    # A record of each call in the store. Kamailio, as it is set up here, writes none.
    records: bool = False
    accounts: int = ACCOUNTS
    workers: int | None = None


class Server:
    """A running product: named groups of processes."""

    def __init__(self, groups):
        self.groups = groups

    def watches(self):
        """Arguments that make the generator measure the CPU time of all processes."""
        return [f"--watch={name}={','.join(map(str, process.tree()))}" for name, process in self.groups.items()]

    def pss(self):
        return machine.pss([pid for process in self.groups.values() for pid in process.tree()])

    def stop(self):
        for process in self.groups.values():
            process.stop()


class Workshop:
    """Directory, tools, and the servers that run."""

    def __init__(self, directory, root, trapez):
        self.directory, self.root = directory, root
        self.running = []
        self.serial = 0
        cores = sorted(os.sched_getaffinity(0))
        self.server_core, self.load_core = str(cores[0]), str(cores[1] if len(cores) == 2 else cores[2])
        self.both_cores = f"{cores[0]},{cores[1]}"
        self.load = self.build("trapez-load")
        self.trapez = trapez
        self.bare = directory / "bare"
        subprocess.run(["cc", "-O2", "-o", self.bare, root / "bench/bare.c"], check=True)

    def build(self, package):
        """Builds a package of this workspace for release; gives the path of the program."""
        command = ["cargo", "build", "--release", "--quiet", "--package", package, "--message-format=json"]
        result = subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, text=True)
        if result.returncode != 0:
            raise machine.Failure(f"{package} does not build; see cargo's messages above")
        built = [json.loads(line).get("executable") for line in result.stdout.splitlines()]
        return next(path for path in built if path and pathlib.Path(path).name == package)

    def contenders(self, only):
        chosen = [Kamailio(self)] if only != "trapez" else []
        if only != "kamailio":
            self.trapez = self.trapez or self.build("trapez")
            chosen.append(Trapez(self))
        return chosen

    def scratch(self):
        """A fresh directory for one server."""
        self.serial += 1
        path = self.directory / f"server-{self.serial}"
        path.mkdir()
        return path

    def start(self, command, log, cores):
        process = machine.Process(command, log, cores)
        self.running.append(process)
        return process

    def start_bare(self, *arguments):
        """The bare loop, as a server."""
        log = self.scratch() / "log"
        process = self.start([self.bare, arguments[0], HOST, *arguments[1:]], log, self.server_core)
        return Server({"bare": process})

    def drive(self, unit, server, *options, seconds, warmup=1):
        """Runs the generator against the running server; gives its report."""
        command = ["taskset", "-c", self.load_core, self.load, unit, f"--server={HOST}:{PORT}"]
        command += [f"--domain={DOMAIN}", f"--password={PASSWORD}", f"--seconds={seconds}", f"--warmup={warmup}"]
        command += [*options, *server.watches()]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                start_new_session=True)
        machine.favour(load.pid)
        try:
            output, errors = load.communicate(timeout=seconds + warmup + LOAD_LIMIT)
        finally:
            load.kill()
            load.wait()
        if load.returncode != 0:
            return {"error": errors.strip() or f"exit code {load.returncode}"}
        return json.loads(output)

    def versions(self):
        kamailio = subprocess.run(["kamailio", "-v"], capture_output=True, text=True).stdout.split("(")[0]
        rtpengine = subprocess.run(["rtpengine", "--version"], capture_output=True, text=True)
        rtpengine = (rtpengine.stdout + rtpengine.stderr).split("Version:")[-1].split()[0]
        return f"{kamailio.replace('version: ', '').strip()}, rtpengine {rtpengine}"

    def stop(self):
        for process in self.running:
            process.stop()


class Kamailio:
    """Kamailio, tuned (`-x fm`), with two UDP workers; rtpengine in user space where media is anchored."""

    name = "kamailio"

    def __init__(self, workshop):
        self.workshop = workshop

    def start(self, variant, cores=None):
        shop = self.workshop
        cores = cores or shop.server_core
        directory = shop.scratch()
        database = directory / "kamailio.db"
        values = {
            # Two workers that write into one SQLite file lock each other out, and Kamailio then answers 500.
            "WORKERS": variant.workers or (1 if variant.durable else 2),
            "ADDRESS": f"{HOST}:{PORT}",
            "DOMAIN": DOMAIN,
            "PASSWORD": PASSWORD,
            "DATABASE": database,
            "RTPENGINE": f"{HOST}:{CONTROL_PORT}",
        }
        text = (shop.root / "bench/kamailio.cfg").read_text()
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        config = directory / "kamailio.cfg"
        config.write_text(text)
        defines = []
        groups = {}
        if variant.challenge_calls:
            defines += ["-A", "WITH_AUTH"]
        if variant.durable:
            defines += ["-A", "WITH_DATABASE"]
            create_tables(database)
        if variant.media:
            defines += ["-A", "WITH_MEDIA"]
            groups["rtpengine"] = self.start_rtpengine(directory, cores)
        command = ["kamailio", "-x", "fm", "-m", "2048", "-M", "64", "-DD", "-E", *defines, "-f", config]
        server = groups["kamailio"] = shop.start(command, directory / "kamailio.log", cores)
        server.wait_until(lambda: machine.answers_options((HOST, PORT), DOMAIN))
        return Server(groups)

    def start_rtpengine(self, directory, cores):
        # Two threads and no delay after delete: tuned for one core and for many short calls.
        command = ["rtpengine", "--table=-1", f"--interface={HOST}", f"--listen-ng={HOST}:{CONTROL_PORT}"]
        command += [f"--port-min={RELAY_PORTS[0]}", f"--port-max={RELAY_PORTS[1]}", "--num-threads=2"]
        command += ["--delete-delay=0", "--foreground", "--log-stderr", "--log-level=3"]
        process = self.workshop.start(command, directory / "rtpengine.log", cores)
        process.wait_until(lambda: machine.answers_ping((HOST, CONTROL_PORT)))
        return process


def create_tables(database):
    """Kamailio's tables for durable bindings."""
    share = pathlib.Path("/usr/share/kamailio/db_sqlite")
    for script in ["standard-create.sql", "usrloc-create.sql"]:
        subprocess.run(["sqlite3", database], stdin=open(share / script), check=True, stdout=subprocess.DEVNULL)


class Trapez:
    """Trapez with one worker on its core."""

    name = "trapez"

    def __init__(self, workshop):
        self.workshop = workshop

    def start(self, variant, cores=None):
        shop = self.workshop
        directory = shop.scratch()
        config = directory / "trapez.toml"
        config.write_text(self.configuration(variant))
        accounts = directory / "accounts.csv"
        with open(accounts, "w") as file:
            file.write("account,password\n")
            for prefix in "uc":
                file.writelines(f"{prefix}{n:06}@{DOMAIN},{PASSWORD}\n" for n in range(variant.accounts))
        place = ["--config", config, "--data", directory]
        imported = subprocess.run([shop.trapez, "account", "import", accounts, *place], capture_output=True, text=True)
        if imported.returncode != 0:
            raise machine.Failure(f"trapez account import failed: {imported.stderr.strip()}")
        server = shop.start([shop.trapez, "serve", *place], directory / "trapez.log", cores or shop.server_core)
        server.wait_until(lambda: machine.answers_options((HOST, PORT), DOMAIN))
        return Server({"trapez": server})

    def configuration(self, variant):
        trusted = '["127.0.0.0/8"]' if variant.trust else "[]"
        return f"""domains = ["{DOMAIN}"]

[listen]
udp = ["{HOST}:{PORT}"]
tcp = []

[auth]
trusted = {trusted}

[registrar]
durable = {str(variant.durable).lower()}

[media]
relay = "{'always' if variant.media else 'never'}"
ports = "{RELAY_PORTS[0]}-{RELAY_PORTS[1]}"

[records]
enabled = {str(variant.records).lower()}

[limits]
transactions = 4000000
calls = 1000000

[server]
workers = {variant.workers or 1}
media_workers = 1

[log]
level = "warn"
"""


def note(text):
    print(text, file=sys.stderr, flush=True)
