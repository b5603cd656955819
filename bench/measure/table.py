"""The samples of all rounds, and the tables made of them."""

import statistics
import sys

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
# Part of the units that may fail before a figure is called unsound.
FAILURES_ALLOWED = 0.001
# Microseconds that one unit in a hundred may begin late in an open loop.
LATENESS_ALLOWED = 20_000
MEMORY_BAR = 600
SCALING_BAR = 1.15


class Results:
    """Every report of the generator, and what was wrong with it."""

    def __init__(self, description):
        self.description = description
        self.samples = []
        self.units = {}

    def add(self, unit, load, product, report):
        fault = self.fault(unit, product, report)
        if fault:
            print(f"  unsound: {product}: {fault}", file=sys.stderr, flush=True)
        else:
            shown = ", ".join(f"{name} {value} µs" for name, value in report["cpu_us_per_unit"].items())
            latency = report["latency_us"]
            print(f"  {load}: {shown}; p50 {latency['p50']} p99 {latency['p99']} µs, {report['per_second']:,.0f}/s",
                  file=sys.stderr, flush=True)
        self.units[unit.name] = unit
        self.samples.append({"unit": unit.name, "load": load, "product": product, "report": report, "fault": fault})

    @staticmethod
    def fault(unit, product, report):
        """Why a report cannot be believed, or None."""
        if "error" in report:
            return report["error"]
        total = report["completed_total"] + report["failed"]
        if report["completed"] == 0 or report["failed"] > FAILURES_ALLOWED * total:
            return f"{report['failed']} of {total} failed: {report['failures']}"
        if (report["lateness_us"]["p99"] or 0) > LATENESS_ALLOWED:
            return f"the generator was late by {report['lateness_us']['p99'] / 1000:.0f} ms: the machine is not quiet"
        if unit.challenged is not None and not product.startswith("bare"):
            expected = report["completed_total"] if unit.challenged else 0
            if abs(report["challenged"] - expected) > FAILURES_ALLOWED * total + 64:
                return f"{report['challenged']} challenges, expected {expected}"
        if report.get("bytes_per_binding", 1) <= 0:
            before, after = report["megabytes"]
            return f"{before} MB before and {after} MB after: what the start took was given back in between"
        return None

    def is_sound(self):
        return not any(sample["fault"] for sample in self.samples)

    def of(self, unit, load, product):
        return [s["report"] for s in self.samples
                if (s["unit"], s["load"], s["product"]) == (unit, load, product) and not s["fault"]]

    def loads(self, unit):
        """The loads of a unit in the order of the table: saturated first."""
        found = {sample["load"]: None for sample in self.samples if sample["unit"] == unit}
        return sorted(found, key=lambda load: load != "saturated")


def render(results):
    """All tables as Markdown."""
    parts = [f"Measured {results.description}.\n"]
    plain = [u for u in results.units.values() if u.group not in ("memory", "scaling")]
    if plain:
        parts.append(costs(results, plain))
    if "memory" in results.units:
        parts.append(memory(results))
    scaled = [u for u in results.units.values() if u.group == "scaling"]
    if scaled:
        parts.append(scaling(results, scaled))
    faults = [f"- {s['product']}, {s['unit']}, {s['load']}: {s['fault']}" for s in results.samples if s["fault"]]
    if faults:
        parts.append("Not counted, because something was wrong:\n\n" + "\n".join(faults) + "\n")
    return "\n".join(parts)


def costs(results, units):
    lines = [
        "CPU µs per unit (user and system), median (min–max) of the rounds; latency p50 / p99 in µs.",
        "",
        "| unit | load | Trapez | Kamailio | rtpengine | ratio | bar | limit | latency Trapez | latency peers |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for unit in units:
        for load in results.loads(unit.name):
            ours, peers = results.of(unit.name, load, "trapez"), results.of(unit.name, load, "kamailio")
            if not ours and not peers:
                continue
            cells = [unit.title, load, cpu(ours, "trapez"), cpu(peers, "kamailio"), cpu(peers, "rtpengine"),
                     ratio(ours, peers, unit.bar), percent(unit.bar), limit(results, unit.name, load),
                     latency(ours, peers), latency(peers)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def memory(results):
    lines = ["| memory | Trapez | Kamailio | bar |", "|---|---|---|---|"]
    load = next((s["load"] for s in results.samples if s["unit"] == "memory" and not s["fault"]), "–")
    found = [results.of("memory", load, product) for product in ("trapez", "kamailio")]
    each = [str(f[0]["bytes_per_binding"]) if f else "–" for f in found]
    whole = ["{} → {}".format(*f[0]["megabytes"]) if f else "–" for f in found]
    lines.append(f"| bytes per binding at {load} | {each[0]} | {each[1]} | {MEMORY_BAR} |")
    lines.append(f"| MB (PSS) of the whole service, before → after | {whole[0]} | {whole[1]} | |")
    return "\n".join(lines) + "\n"


def scaling(results, units):
    lines = [
        f"CPU µs per unit with one worker and with two on two cores, saturated (bar for Trapez: {SCALING_BAR} times).",
        "",
        "| unit | Trapez 1 | Trapez 2 | times | Kamailio 1 | Kamailio 2 | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for unit in units:
        cells = [unit.title]
        for product in ("trapez", "kamailio"):
            one, two = (results.of(unit.name, f"{n} workers", product) for n in (1, 2))
            times = f"{median(two) / median(one):.2f}" if one and two else "–"
            cells += [cpu(one, product), cpu(two, product), times]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def values(reports, name):
    return [r["cpu_us_per_unit"][name] for r in reports if name in r["cpu_us_per_unit"]]


def median(reports):
    """The median over the rounds of the CPU time of all of a product's processes."""
    return statistics.median(sum(report["cpu_us_per_unit"].values()) for report in reports)


def cpu(reports, name):
    found = values(reports, name)
    if not found:
        return "–"
    text = number(statistics.median(found))
    return text if len(found) == 1 else f"{text} ({number(min(found))}–{number(max(found))})"


def ratio(ours, peers, bar):
    if not ours or not peers:
        return "–"
    part = median(ours) / median(peers)
    return f"{'**' if bar and part > bar else ''}{percent(part)}{' over the bar**' if bar and part > bar else ''}"


def limit(results, unit, load):
    bare, napping = results.of(unit, load, "bare"), results.of(unit, load, "bare, napping")
    if not bare:
        return "–"
    text = number(median(bare))
    return f"{text}; napping {number(median(napping))}" if napping else text


def latency(reports, peers=()):
    """p50 / p99; bold where the p99 is worse than the peers'."""
    if not reports:
        return "–"
    p50, p99 = (statistics.median(r["latency_us"][p] for r in reports) for p in ("p50", "p99"))
    worse = peers and p99 > statistics.median(r["latency_us"]["p99"] for r in peers)
    return f"{number(p50)} / {f'**{number(p99)}**' if worse else number(p99)}"


def percent(part):
    return "–" if part is None else f"{part * 100:.0f} %"


def number(value):
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def write_into(path, text):
    """Replaces what is between the markers in the README."""
    old = path.read_text()
    head, rest = old.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    path.write_text(f"{head}{BEGIN}\n{text}{END}{tail}")
