"""A policy of your own in Python: first in, first out, each task on the fastest host with an idle core.

In a scenario, with the path of this file from there:

    [policy]
    name = "external"
    command = ["python3", "../examples/policy.py"]

One JSON object a line comes in, one goes out; docs/simulator.md has the fields. What is printed to
standard error is shown to whoever runs the simulator.
"""

import heapq
import json
import sys


def place(ready, memory, hosts):
    """Takes tasks from `ready`, the first one first, as long as there are hosts with room for them."""
    heapq.heapify(hosts)
    placements = []
    for task in list(ready):
        too_small = []
        while hosts and hosts[0][4] < memory[task]:
            too_small.append(heapq.heappop(hosts))
        if hosts:
            leases_in_advance, slowness, host, room, free_memory = heapq.heappop(hosts)
            placements.append({"task": task, "host": host})
            del ready[task]
            if room > 1:
                after = leases_in_advance + (room <= ahead + 1)
                heapq.heappush(hosts, (after, slowness, host, room - 1, free_memory - memory[task]))
        for host in too_small:
            heapq.heappush(hosts, host)
        if not hosts:
            break
    return placements


ready = {}  # keeps the order in which tasks became ready
memory = {}
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "start":
        speed = {host["host"]: host["speed"] for host in message["hosts"]}
        ahead = message["ahead"]
        answer = {"version": 1}
    else:
        memory.update((task["task"], task["memory"]) for task in message["known"])
        for task in message["unready"]:
            del ready[task]
        ready.update((task, None) for task in message["ready"])
        hosts = [(max(0, ahead + 1 - free["room"]), -speed[free["host"]], free["host"], free["room"],
                  free["memory"]) for free in message["free"]]
        answer = {"place": place(ready, memory, hosts)}
    print(json.dumps(answer), flush=True)
