#!/bin/sh
# The figures of docs/study.md, as tables: a minute, and three more for the largest meshes.
#
#   simulations/study/run.sh [MESH [NODES_MAX]]
#
# MESH is the program (default: mesh), NODES_MAX the largest mesh (default: 100000).
set -eu
mesh=${1:-mesh}
nodes_max=${2:-100000}
here=$(dirname "$0")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# sweep NAME FILE ARGUMENTS…: a table of its own for each name.
sweep() {
    name=$1 file=$2
    shift 2
    "$mesh" sim sweep "$here/$file" --out "$out/$name" "$@" >"$out/said" 2>&1 || {
        cat "$out/said" >&2
        exit 1
    }
}

# means NAME COLUMN…: for each combination of a table its settings and the means of these columns.
means() {
    name=$1
    shift
    awk -F, -v wanted="$*" '
        NR == 1 {
            for (n = 1; n <= NF; n++) { at[$n] = n; if ($n == "seed") axes = n - 1 }
            count = split(wanted, columns, " ")
            next
        }
        {
            key = $1
            for (n = 2; n <= axes; n++) key = key "," $n
            if (!(key in rows)) order[++keys] = key
            rows[key]++
            for (n = 1; n <= count; n++) sum[key, n] += $at[columns[n]]
        }
        END {
            for (k = 1; k <= keys; k++) {
                line = order[k]
                for (n = 1; n <= count; n++) line = line "," sum[order[k], n] / rows[order[k]]
                print line
            }
        }' "$out/$name/summary.csv"
}

echo "## The best that a centre does, and what deciding without one costs"
latencies="1 ms,10 ms,30 ms,100 ms,300 ms"
lengths="0.1 s,0.3 s,1 s,3 s,10 s,30 s"
depths="0 1 4 16"
for centre in $depths; do
    sweep "centre$centre" cluster.toml --set fidelity=fast --set policy.ahead=$centre \
        --over "workload.work.mean=$lengths" --over "platform.control=$latencies"
done
sweep mesh cluster.toml --over "workload.work.mean=$lengths" --over "platform.control=$latencies"
for name in $(printf 'centre%s ' $depths) mesh; do means "$name" makespan_s | cut -d, -f3 >"$out/$name.makespans"; done
means mesh makespan_s | cut -d, -f1 >"$out/lengths"
echo "| task | $(echo "$latencies" | sed 's/,/ | /g') |"
echo "|---|$(echo "$latencies" | sed 's/[^,]*,*/---|/g')"
paste -d, "$out/lengths" "$out"/centre*.makespans "$out/mesh.makespans" | awk -F, '
    { best = $2; for (n = 3; n < NF; n++) if ($n < best) best = $n }
    $1 != task { if (NR > 1) print line; task = $1; line = "| " task " |" }
    { line = line sprintf(" %.2f s, %+.0f %% |", best, 100 * ($NF / best - 1)) }
    END { print line }'

echo
echo "## What second copies are worth"
sweep copies cluster.toml --over platform.hosts.1.stragglers.share=0,0.002,0.01,0.05,0.2 \
    --over speculation=none,ours
echo "| slow runs | makespan without, s | with, s | gain | second copies | work in vain |"
echo "|---|---|---|---|---|---|"
means copies makespan_s speculated wasted_core_s | awk -F, '
    $2 == "none" { without = $3; next }
    {
        printf "| %.1f %% | %.0f | %.0f | %.0f %% | %.0f | %.1f %% |\n", 100 * $1, without, $3,
            100 * (1 - $3 / without), $4, 100 * $5 / (2000 * 10)
    }'

echo
echo "## What checks are worth"
sweep liars liars.toml --over policy.check=0,1,5,20,50,100 --over platform.hosts.0.cores=8,64
echo "| checked | false results, 8 cores | makespan, s | false results, 64 cores | makespan, s | checks | of the work | liars found after, s |"
echo "|---|---|---|---|---|---|---|---|"
means liars false_results makespan_s checks checked_core_s liar_found_s | awk -F, '
    $2 == 8 { few = sprintf("%.0f | %.0f", $3, $4); next }
    { printf "| %d %% | %s | %.0f | %.0f | %.0f | %.0f %% | %.0f |\n", $1, few, $3, $4, $5, 100 * $6 / (5000 * 5), $7 }'

# mesh_of NODES USERS TASKS: makespan, messages of each node, of each node and second.
mesh_of() {
    sweep "mesh$1-$2" mesh.toml --set "workload.arrivals.count=$2" --set workload.arrivals.users=1000000 \
        --set "workload.tasks=$3" --over "platform.hosts.0.count=$1"
    means "mesh$1-$2" makespan_s messages | awk -F, -v users="$2" -v tasks="$3" '
        { printf "| %d | %d | %d | %.0f | %.0f | %.1f |\n", $1, users, tasks, $2, $3 / $1, $3 / $1 / $2 }'
}

echo
echo "## What a node says"
echo "| nodes | users | tasks of each | makespan, s | messages of a node | a second |"
echo "|---|---|---|---|---|---|"
for nodes in 10 100 1000 10000 100000; do
    [ "$nodes" -gt "$nodes_max" ] || mesh_of "$nodes" 1 2000
done
for users in 10 100; do
    [ 10000 -gt "$nodes_max" ] || mesh_of 10000 $users $((20000 / users))
done
