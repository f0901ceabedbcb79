#!/bin/sh
# fuzz.sh DIR SECONDS: runs every harness in DIR for SECONDS, two at a time, from its kept seeds; new findings fail.
set -eu
dir=$1 seconds=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one() {
	name=$(basename "$1"); name=${name#fuzz_}
	mkdir -p "$work/$name/corpus" "tests/fuzz/seeds/$name"
	if "$1" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 \
	    -artifact_prefix="$work/$name/" "$work/$name/corpus" "tests/fuzz/seeds/$name" >"$work/$name/log" 2>&1; then
		printf 'ok    fuzz %s (%s runs)\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name/log")"
	else
		tail -60 "$work/$name/log"
		mkdir -p build/fuzz-findings && cp "$work/$name/"*-* build/fuzz-findings/ 2>/dev/null || true
		printf 'FAIL  fuzz %s (input kept in build/fuzz-findings)\n' "$name"
		touch "$work/failed"
	fi
}
set -- "$dir"/fuzz_*
while [ $# -gt 0 ]; do
	one "$1" & shift
	if [ $# -gt 0 ]; then one "$1" & shift; fi
	wait
done
[ ! -e "$work/failed" ]
