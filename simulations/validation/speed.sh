#!/usr/bin/env bash
# How fast the simulator is beside SimGrid, on bags of tasks of one kind: simulations/validation/speed.sh [MESH]
#
# MESH is the program (default: mesh). Needs g++ and Debian's libsimgrid-dev. Durations are drawn by each for itself, so makespans are
# alike but not equal; those of the same graphs are held together by tests/simgrid.rs.
set -euo pipefail
export LC_ALL=C
mesh=$(realpath "$(command -v "${1:-mesh}")")
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
g++ -O2 -std=c++17 -o "$work/simgrid" speed.cpp -lsimgrid

scenario() { # HOSTS TASKS BYTES
  cat <<END
title = "$2 tasks on $1 hosts"
fidelity = "flow"
home = "server"
[platform]
backbone = { bandwidth = "1 Gbit/s", latency = "1 ms" }
[[platform.hosts]]
name = "server"
memory = "1 kB"
[[platform.hosts]]
name = "w"
count = $1
[workload]
kind = "bag"
tasks = $2
work = { distribution = "lognormal", mean = 1, cv = 1 }
memory = "1 MB"
input = "$3 B"
[policy]
name = "fifo"
END
}

echo "| hosts | tasks | input | makespan, s: SimGrid, mesh | CPU, s: SimGrid, mesh | tasks per CPU second: SimGrid, mesh |"
echo "|---|---|---|---|---|---|"
TIMEFORMAT='%U %S'
while read -r hosts tasks bytes; do
  read -r their_end their_cpu < <("$work/simgrid" "$hosts" "$tasks" "$bytes" --log=root.thresh:error)
  scenario "$hosts" "$tasks" "$bytes" > "$work/bag.toml"
  { time "$mesh" sim run "$work/bag.toml" --seeds 1 > "$work/said" 2> "$work/talk"; } 2> "$work/time" || { cat "$work/talk" >&2; exit 1; }
  our_end=$(awk '$1 == "makespan_s" { print $2 }' "$work/said")
  our_cpu=$(awk '{ print $1 + $2 }' "$work/time")
  awk "BEGIN { printf \"| $hosts | $tasks | $bytes B | %.1f, %.1f | %.2f, %.2f | %.0f, %.0f |\\n\", $their_end, $our_end, $their_cpu, $our_cpu, $tasks / $their_cpu, $tasks / $our_cpu }"
done <<'END'
100 10000 0
1000 100000 0
100 10000 100000
1000 20000 1000000
END
