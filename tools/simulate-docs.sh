#!/bin/sh
# The simulator's table and picture in docs/SCALING.md and docs/scaling.svg:
#
#   tools/simulate-docs.sh           write both
#   tools/simulate-docs.sh --check   fail if they are not what the simulator says now
#
# DROVER_BIN names the folder of the programs (default build/bin).
set -eu
cd "$(dirname "$0")/.."
bin=${DROVER_BIN:-build/bin}/drover-autoscale
page=docs/SCALING.md
picture=docs/scaling.svg
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

"$bin" simulate -seed 1 -markdown -svg "$temp/scaling.svg" > "$temp/table"
awk -v table="$temp/table" '
	/^<!-- \/simulate -->$/ { skip = 0 }
	!skip { print }
	/^<!-- simulate -->$/ { skip = 1; while ((getline line < table) > 0) print line }
' "$page" > "$temp/page"

if [ "${1:-}" = --check ]; then
	cmp -s "$temp/page" "$page" || { echo "$page: the table differs from what the simulator says: make simulate-docs" >&2; exit 1; }
	cmp -s "$temp/scaling.svg" "$picture" || { echo "$picture differs from what the simulator draws: make simulate-docs" >&2; exit 1; }
	exit 0
fi
cat "$temp/page" > "$page"
cat "$temp/scaling.svg" > "$picture"
