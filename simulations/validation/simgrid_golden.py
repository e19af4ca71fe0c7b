#!/usr/bin/python3
"""Simulates the workflows with SimGrid and prints simgrid_golden.csv: simgrid_golden.py > simgrid_golden.csv

Needs Debian's python3-simgrid 3.32. Task n of a workflow runs on host n modulo the number of hosts, each
host runs its tasks in order on one core: fetch all inputs that other tasks made elsewhere, each as a
transfer of its own (edges, no caches), then execute. Network models: every transfer as if alone
(constant), one link shared by all transfers (shared), a link in each direction per host (star).

SimGrid's defaults are not a plain max-min model: LV08 multiplies latencies and bandwidths, TCP's window
bounds flows, acknowledgements take bandwidth, and rounding is coarse. CM02 and the settings below turn
these off.
"""

import json
import pathlib
import subprocess
import sys

LATENCY = 1e-3
BANDWIDTH = 125e6
FLOPS = 1e9
HOSTS = {"8": [1.0] * 8, "32": [1.0] * 32, "32-unequal": [1.0 + 0.5 * (n % 4) for n in range(32)]}
NETWORKS = ["constant", "shared", "star"]
WORKFLOWS = ["epigenomics", "montage", "bwa"]
HERE = pathlib.Path(__file__).parent


def read(workflow):
    body = json.loads((HERE / "workflows" / f"{workflow}.json").read_text())["workflow"]
    runtimes = {t["id"]: t["runtimeInSeconds"] for t in body["execution"]["tasks"]}
    sizes = {f["id"]: f["sizeInBytes"] for f in body["specification"]["files"]}
    tasks = body["specification"]["tasks"]
    makers = {file: n for n, task in enumerate(tasks) for file in task["outputFiles"]}
    numbers = {task["id"]: n for n, task in enumerate(tasks)}
    return [
        {
            "work": runtimes[task["id"]],
            "parents": sorted({numbers[parent] for parent in task["parents"]}),
            "inputs": [
                (makers[file], sizes[file])
                for file in task["inputFiles"]
                if file in makers and sizes[file] > 0
            ],
        }
        for task in tasks
    ]


def simulate(workflow, speeds, network):
    from simgrid import Actor, Comm, Engine, Link, LinkInRoute, NetZone, Semaphore, this_actor

    engine = Engine(
        [
            "golden",
            "--log=root.thresh:error",
            "--cfg=network/model:CM02",
            "--cfg=network/TCP-gamma:0",
            "--cfg=network/crosstraffic:0",
            "--cfg=surf/precision:1e-12",
            "--cfg=maxmin/precision:1e-12",
        ]
    )
    tasks = read(workflow)
    zone = NetZone.create_full_zone("zone")
    hosts = [zone.create_host(f"h{n}", FLOPS * speed) for n, speed in enumerate(speeds)]

    def link(name, latency, policy=Link.SharingPolicy.SHARED):
        made = zone.create_link(name, BANDWIDTH).set_latency(latency)
        return made.set_sharing_policy(policy, None).seal()

    if network == "star":
        ways = [(link(f"up{n}", LATENCY / 2), link(f"down{n}", LATENCY / 2)) for n in range(len(hosts))]
        route = lambda a, b: [LinkInRoute(ways[a][0]), LinkInRoute(ways[b][1])]
    else:
        policy = Link.SharingPolicy.SHARED if network == "shared" else Link.SharingPolicy.FATPIPE
        one = link("one", LATENCY, policy)
        route = lambda a, b: [LinkInRoute(one)]
    for a in range(len(hosts)):
        for b in range(len(hosts)):
            if a != b:
                zone.add_route(
                    hosts[a].netpoint, hosts[b].netpoint, None, None, route(a, b), False
                )
    zone.seal()

    done = [Semaphore(0) for _ in tasks]
    children = [0] * len(tasks)
    for task in tasks:
        for parent in task["parents"]:
            children[parent] += 1
    place = lambda n: n % len(hosts)

    def work(host):
        for n in range(host, len(tasks), len(hosts)):
            task = tasks[n]
            for parent in task["parents"]:
                done[parent].acquire()
            transfers = [
                Comm.sendto_async(hosts[place(maker)], hosts[host], size)
                for maker, size in task["inputs"]
                if place(maker) != host
            ]
            Comm.wait_all(transfers)
            this_actor.execute(task["work"] * FLOPS)
            for _ in range(children[n]):
                done[n].release()

    for n, host in enumerate(hosts):
        Actor.create(f"w{n}", host, work, n)
    engine.run()
    return Engine.clock


def main():
    if len(sys.argv) > 1:
        workflow, hosts, network = sys.argv[1:]
        print(f"{simulate(workflow, HOSTS[hosts], network):.9f}")
        return
    print("workflow,hosts,network,makespan_s", flush=True)
    for workflow in WORKFLOWS:
        for hosts in HOSTS:
            for network in NETWORKS:
                # One engine per process is all that SimGrid allows.
                command = [sys.executable, __file__, workflow, hosts, network]
                made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                print(f"{workflow},{hosts},{network},{made.stdout.split()[-1]}", flush=True)


main()
