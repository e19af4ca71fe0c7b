#!/bin/sh
# fib N: returns N for N < 2, else the thunk that adds fib N-1 and fib N-2, which it also returns.
# $TOOLS, $FIB and $ADD are the names of the tree of tools, of this script and of add.sh.
set -eu
n=$1

if [ "$n" -lt 2 ]; then
  echo "$n" > /out/value
  exit
fi

step() { # step NAME ARGUMENTS INPUTS OUTPUTS: the canonical bytes of a thunk, and its name
  mesh thunk create --output "/out/$1" <<JSON
{"function": {"executable": "/bin/sh", "arguments": ["sh", $2],
  "environment": {"PATH": "/bin", "TOOLS": "$TOOLS", "FIB": "$FIB", "ADD": "$ADD"}},
 "inputs": {"/": {"source": {"value": "$TOOLS"}, "mode": "tree"}, $3},
 "outputs": {$4}}
JSON
}

fib() { # fib NAME N
  step "$1" "\"/fib.sh\", \"$2\"" "\"/fib.sh\": \"$FIB\"" \
    '"value": {"path": "/out/value", "dynamic": true},
     "left": {"path": "/out/left", "required": false, "dynamic": true},
     "right": {"path": "/out/right", "required": false, "dynamic": true}'
}

left=$(fib left $((n - 1)))
right=$(fib right $((n - 2)))
step value '"/add.sh"' \
  "\"/add.sh\": \"$ADD\", \"/left\": \"$left#value\", \"/right\": \"$right#value\"" \
  '"value": "/out/value"' > /dev/null
