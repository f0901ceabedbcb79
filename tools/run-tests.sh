#!/bin/sh
# Runs test programs one after the other; prints the output of those that fail and a line for each; fails if one failed.
set -u
bad=0
for t in "$@"; do
	out=$(mktemp)
	if timeout 600 "$t" >"$out" 2>&1; then
		printf 'ok    %s (%s)\n' "$(basename "$t")" "$(sed -n 's/^\[  PASSED  \] //p' "$out" | tail -1)"
	else
		rc=$?
		cat "$out"
		printf 'FAIL  %s (exit %s)\n' "$(basename "$t")" "$rc"
		bad=1
	fi
	rm -f "$out"
done
exit $bad
