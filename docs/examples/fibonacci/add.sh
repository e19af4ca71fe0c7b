#!/bin/sh
# The sum of two files.
set -eu
read -r left < /left
read -r right < /right
echo $((left + right)) > /out/value
