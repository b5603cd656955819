"""The units of work, and how each is measured: both products in turns, round after round (A B A B …)."""

import dataclasses
import time

from .machine import Failure
from .products import PORT, RELAY_PORTS, Kamailio, Variant, note

MEMORY_BINDINGS = 100_000
# Registrations a second while the bindings are made, and seconds until all transaction timers have ended.
MEMORY_RATE, MEMORY_REST = 5_000, 40
# Seconds before a saturated load is measured: some thousands of units.
SATURATED_WARMUP = 0.3
# Microseconds that the second bare relay loop sleeps after each look at its sockets.
NAP = 500
RELAY = f"--relay-ports={RELAY_PORTS[0]}-{RELAY_PORTS[1]}"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of work. `bar` is Trapez's part of the peers' CPU time that it may take, `most` bounds the saturated load: a
    server keeps a unit's transactions for 32 s and its relay ports for 30 s, and must not run out of either."""

    name: str
    title: str
    load: str
    rate: int | None = None
    variant: Variant = Variant()
    options: tuple = ()
    bar: float | None = None
    bare: str | None = None
    challenged: bool | None = None
    most: int = 1_000_000
    group: str = ""


PLAIN = Variant(trust=True)
ALL = [
    Unit("options", "OPTIONS answered", "options", 4000, bar=0.5, bare="bare-options"),
    Unit("register", "REGISTER 401 REGISTER 200", "register", 2000, bar=0.5, bare="bare-register", challenged=True, most=150_000),
    Unit("reregister", "REGISTER with a cached nonce", "reregister", 2000, bar=0.5, bare="bare-options", most=300_000),
    Unit("register-durable", "REGISTER 401 REGISTER 200, durable", "register", 200, Variant(durable=True), bar=0.5,
         bare="bare-register", challenged=True, most=150_000),
    Unit("reregister-durable", "REGISTER with a cached nonce, durable", "reregister", 200, Variant(durable=True),
         bar=0.5, bare="bare-options"),
    Unit("call", "call of 7 messages", "call", 700, PLAIN, bar=0.5, bare="bare-call", challenged=False, most=80_000),
    Unit("call-record", "the same, with its record on the disk (Trapez alone)", "call", 700,
         Variant(trust=True, records=True), challenged=False, most=80_000),
    Unit("call-auth", "the same with 407 on the INVITE", "call", 700, Variant(challenge_calls=True), bar=0.5,
         bare="bare-call-authenticated", challenged=True, most=80_000),
    Unit("call-media", "the same, media anchored", "call", 300, Variant(trust=True, media=True), (RELAY,), bar=0.15,
         bare="bare-call", challenged=False, most=13_000),
    *(Unit(f"rtp-{calls}", f"RTP packet relayed, {calls} calls", "rtp", None, Variant(trust=True, media=True),
           (RELAY, f"--calls={calls}"), bar=0.6, group="rtp") for calls in (100, 300, 500)),
    Unit("memory", "memory per binding", "register", group="memory", variant=Variant(accounts=MEMORY_BINDINGS)),
    Unit("scaling-options", "OPTIONS answered", "options", group="scaling"),
    Unit("scaling-register", "REGISTER 401 REGISTER 200", "register", group="scaling", most=150_000),
    Unit("scaling-call", "call of 7 messages", "call", variant=PLAIN, group="scaling", most=80_000),
]
GROUPS = {unit.group for unit in ALL if unit.group}


def run(workshop, contenders, arguments, results):
    """Measures the chosen units, and tells on stderr how it goes."""
    limits = Limits(workshop, arguments)
    for unit in arguments.units:
        measure = {"memory": memory, "scaling": scaling}.get(unit.group, packets if unit.load == "rtp" else messages)
        for number in range(arguments.rounds if unit.group != "memory" else 1):
            for product in contenders:
                note(f"{unit.name}: {product.name}, round {number + 1}")
                try:
                    measure(workshop, product, unit, arguments, results)
                except Failure as failure:
                    results.add(unit, "start", product.name, {"error": str(failure)})
        limits.measure(unit, results)


def messages(workshop, product, unit, arguments, results):
    """A fresh server for each load, so that nothing of the one before is still being tidied up."""
    loads = [(f"{unit.rate:,}/s", f"--rate={unit.rate}", arguments.warmup),
             ("saturated", f"--count={unit.most}", SATURATED_WARMUP)]
    for load, option, warmup in loads:
        server = product.start(unit.variant)
        try:
            report = workshop.drive(unit.load, server, *unit.options, option, seconds=arguments.seconds, warmup=warmup)
            results.add(unit, load, product.name, report)
        finally:
            server.stop()


def packets(workshop, product, unit, arguments, results):
    server = product.start(unit.variant)
    try:
        report = workshop.drive(unit.load, server, *unit.options, seconds=arguments.seconds, warmup=2)
        # Only what relays: the signalling beside it did nothing.
        if isinstance(product, Kamailio):
            report.get("cpu_us_per_unit", {}).pop("kamailio", None)
        results.add(unit, "50/s and leg", product.name, report)
    finally:
        server.stop()


def memory(workshop, product, unit, arguments, results):
    server = product.start(unit.variant)
    try:
        time.sleep(2)
        before = server.pss()
        options = [f"--users={MEMORY_BINDINGS}", f"--count={MEMORY_BINDINGS}", f"--rate={MEMORY_RATE}"]
        report = workshop.drive(unit.load, server, *options, seconds=2 * MEMORY_BINDINGS / MEMORY_RATE, warmup=0)
        note(f"  waiting {MEMORY_REST} s for the timers")
        time.sleep(MEMORY_REST)
        after = server.pss()
        report["bytes_per_binding"] = round((after - before) / MEMORY_BINDINGS)
        report["megabytes"] = [round(before / 1e6, 1), round(after / 1e6, 1)]
        results.add(unit, f"{MEMORY_BINDINGS:,} bindings", product.name, report)
    finally:
        server.stop()


def scaling(workshop, product, unit, arguments, results):
    """The same load with one worker and with two, the server free to use two cores each time."""
    for workers in (1, 2):
        server = product.start(dataclasses.replace(unit.variant, workers=workers), workshop.both_cores)
        try:
            report = workshop.drive(unit.load, server, f"--count={unit.most}", seconds=arguments.seconds,
                                    warmup=SATURATED_WARMUP)
            results.add(unit, f"{workers} workers", product.name, report)
        finally:
            server.stop()


class Limits:
    """The bare loop, measured once for each pattern of packets and each load."""

    def __init__(self, workshop, arguments):
        self.workshop, self.arguments = workshop, arguments
        self.known = {}

    def measure(self, unit, results):
        if unit.bare:
            for load, options in [(f"{unit.rate:,}/s", [f"--rate={unit.rate}"]), ("saturated", [])]:
                results.add(unit, load, "bare", self.echo(unit.bare, tuple(options)))
        elif unit.load == "rtp":
            results.add(unit, "50/s and leg", "bare", self.relay(unit, 0))
            results.add(unit, "50/s and leg", "bare, napping", self.relay(unit, NAP))

    def echo(self, pattern, options):
        if (pattern, options) not in self.known:
            note(f"{pattern} {' '.join(options)}")
            server = self.workshop.start_bare("echo", PORT)
            try:
                report = self.workshop.drive(pattern, server, *options, seconds=self.arguments.seconds)
            finally:
                server.stop()
            self.known[pattern, options] = report
        return self.known[pattern, options]

    def relay(self, unit, nap):
        calls = unit.options[1].split("=")[1]
        note(f"bare relay, {calls} calls, nap {nap} µs")
        server = self.workshop.start_bare("relay", RELAY_PORTS[0], calls, nap)
        try:
            return self.workshop.drive("bare-rtp", server, *unit.options, seconds=self.arguments.seconds)
        finally:
            server.stop()
