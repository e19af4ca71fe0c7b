#!/usr/bin/env python3
"""Where the time of leases went, by the trace of a build (docs/trace.md): tests/lease_times.py TRACE"""

import json
import sys
from collections import defaultdict


def quantiles(what, times):
    if times:
        times.sort()
        p50, p99 = (times[min(len(times) - 1, len(times) * share // 100)] / 1e3 for share in (50, 99))
        print(f"  {what}: p50 {p50:.2f} ms, p99 {p99:.2f} ms ({len(times)})")


def main(path):
    with open(path) as file:
        events = json.load(file)["traceEvents"]
    spans, rows = defaultdict(dict), defaultdict(list)
    for event in events:
        if event.get("cat") == "lease":
            spans[event["id2"]["local"]][event["name"], event["ph"]] = event["ts"]
        elif event.get("cat") == "run" and event["args"].get("peer"):
            rows[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    leases = [span for span in spans.values() if ("lease", "b") in span]
    free = [span for span in leases if span["wait", "e"] - span["wait", "b"] < 100]
    quantiles("from lease to start, where a slot was free", [s["wait", "e"] - s["lease", "b"] for s in free])
    quantiles("from end to outputs here", [s["return", "e"] - s["return", "b"] for s in leases])
    gaps = []
    for row in rows.values():
        row.sort()
        gaps += [begin - end for (_, end), (begin, _) in zip(row, row[1:])]
    quantiles("from an end in a slot to the next start there", gaps)
    if rows:
        first = min(row[0][0] for row in rows.values())
        print(f"  first start {first / 1e3:.0f} ms after the command")
        starts = sorted(row[0][0] - first for row in rows.values())
        ends = sorted(row[-1][1] for row in rows.values())
        quantiles("first start of a slot after that", starts)
        quantiles("last end of a slot before that of all", [ends[-1] - end for end in ends])


main(*sys.argv[1:])
