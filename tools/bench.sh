#!/bin/bash
# Measure and write the figures:
#
#   tools/bench.sh OUT.json
#
# BENCH_QUICK=1: small sizes, in under three minutes, to see that everything still measures. DROVER_BIN: the programs to
# measure (default build/bin). See tests/bench/README.md.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -eq 1 ] || {
	echo "usage: tools/bench.sh OUT.json" >&2
	exit 2
}
mkdir -p "$(dirname "$1")"
out=$(realpath "$1")
export DROVER_BIN=${DROVER_BIN:-$root/build/bin}

programs=$(mktemp -d "${TMPDIR:-/tmp}/drover-bench.XXXXXX")
trap 'rm -rf "$programs"' EXIT
cd "$root/tests/bench"
for program in stamp load; do
	"${CC:-gcc}" -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
		-static -pthread "$program.c" exchange.c -o "$programs/$program"
done
# Tasks run it under other users.
chmod 0755 "$programs"
PYTHONPATH=$root/tests/cluster:$root/tests/bench python3 -B -m figures "$out" "$programs"
