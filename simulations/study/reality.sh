#!/usr/bin/env bash
# The simulator against real meshes on this machine, as a table: four minutes.
#
#   simulations/study/reality.sh [MESH [ROUNDS]]
#
# MESH is the program (default: mesh), ROUNDS how often each mesh is measured (default: 3). A mesh of as many nodes, with thunks
# that do nothing, says first what the machine takes for each (mesh sim calibrate); the thunks that are foretold sleep.
set -euo pipefail
export LC_ALL=C
mesh=$(realpath "$(command -v "${1:-mesh}")")
rounds=${2:-3}
here=$(realpath "$(dirname "$0")")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# real WORKERS SLOTS COUNT SECONDS: seconds that it took; its recording and CPU times are left in $out.
real() {
    "$here/../../tests/bench-mesh" --mesh "$mesh" --workers "$1" --slots "$2" --count "$3" --seconds "$4" \
        --trace "$out" sleeps >"$out/said"
    # The second time, when the program is there.
    sed -n 's/^sleeps: .*: \([0-9.]*\) s;.*/\1/p' "$out/said" | tail -n 1
}

# simulated WORKERS SLOTS COUNT SECONDS SETTING…: seconds that it would take.
simulated() {
    local workers=$1 slots=$2 count=$3 seconds=$4
    shift 4
    "$mesh" sim run "$here/../scenarios/loopback.toml" --set "platform.hosts.1.count=$workers" \
        --set "platform.hosts.1.cores=$slots" --set "workload.tasks=$count" --set "workload.work=$seconds" \
        "${@/#/--set=}" 2>"$out/said" | awk '$1 == "makespan_s" { print $2 }'
}

# What 1000 real thunks that do nothing tell of the machine, as settings. A second of CPU time for a thousand is
# a millisecond for each.
calibrated() {
    real "$1" "$2" 1000 0 >"$out/took"
    "$mesh" sim calibrate "$out/trace.json" --cores "$(nproc)" --submit "$(awk '{ print $1 }' "$out/cpu")" \
        --lease "$(awk '{ print $2 }' "$out/cpu")" |
        sed -n 's/^\([a-z]*\) = "\{0,1\}\([0-9][^"]*\)"\{0,1\}$/platform.machines.0.\1=\2/p'
}

echo "| workers x slots | thunks | a thunk takes of the machine | real, s | simulated, s | simulated / mean of real | without the machine |"
echo "|---|---|---|---|---|---|---|"
free=(platform.machines.0.submit=0 platform.machines.0.lease=0 platform.machines.0.sandbox=0)
while read -r workers slots count seconds; do
    mapfile -t costs < <(calibrated "$workers" "$slots")
    each=$(printf '%s\n' "${costs[@]}" | awk -F'[= ]' '/ ms$/ { sum += $2 } END { print sum }')
    times=()
    for ((round = 0; round < rounds; round++)); do times+=("$(real "$workers" "$slots" "$count" "$seconds")"); done
    with=$(simulated "$workers" "$slots" "$count" "$seconds" "${costs[@]}")
    without=$(simulated "$workers" "$slots" "$count" "$seconds" "${free[@]}")
    printf '%s\n' "${times[@]}" | awk -v shape="$workers x $slots | $count x $seconds s" -v each="$each" -v with="$with" -v without="$without" '
        { sum += $1; all = all (NR > 1 ? ", " : "") $1 }
        END { mean = sum / NR
            printf "| %s | %.1f ms | %s | %.2f | %.2f | %.2f |\n", shape, each, all, with, with / mean, without / mean }'
done <<'END'
32 4 1000 1
32 4 128 1
8 4 200 1
1 2 40 1
END
