#!/bin/bash
# The whole story on this machine alone: installs or names what is missing, builds, starts everything embedded (no
# Nomad), scans a sample project with two workflows, shows their findings and holds them against the stated list.
# Leaves nothing running. Works for a plain user, who is told what to install.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
sample=examples/sample-project
expected=examples/sample-project.expected.json
bin=$PWD/build/bin
work=
dev_pid=

say() {
	printf '\n=== %s\n' "$*"
}

die() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

cleanup() {
	local status=$?
	trap - EXIT INT TERM
	if [ -n "$dev_pid" ]; then
		kill -TERM "$dev_pid" 2>/dev/null || true
		wait "$dev_pid" 2>/dev/null || true
	fi
	[ -z "$work" ] || rm -rf "$work"
	exit "$status"
}

# quietly COMMAND...: its output only where it fails.
quietly() {
	if ! "$@" >"$work/log" 2>&1; then
		cat "$work/log" >&2
		die "failed: $*"
	fi
}

prepare() {
	local verb=check
	[ "$(id -u)" -ne 0 ] || verb=install
	tools/deps.sh "$verb" build || die "packages are missing (see above)"
	say "building"
	MAKEFLAGS='' quietly make -j"$(nproc)" all
	say "tools of the verticals (some minutes the first time)"
	for vertical in python secrets; do
		"toolbox/verticals/$vertical/install.sh" || die "the tools of vertical $vertical could not be installed"
	done
}

# Starts everything in the background; its first line says where it listens.
start() {
	local line=
	say "starting dispatcher, store and workers on this machine"
	mkfifo "$work/announce"
	"$bin/drover" dev -ephemeral -listen 127.0.0.1:0 -json >"$work/announce" &
	dev_pid=$!
	exec 3<"$work/announce"
	read -r -t 60 line <&3 || die "it does not start"
	DROVER_ADDR=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["address"])' "$line")
	export DROVER_ADDR
	unset DROVER_TOKEN
	echo "it listens at $DROVER_ADDR"
}

# scan WORKFLOW: runs it, shows what it found, and compares that with what must be found.
scan() {
	say "drover run $1 $sample -wait"
	"$bin/drover" run "$1" "$sample" -wait -sarif "$work/$1.sarif" || die "$1 did not complete"
	python3 tests/toolbox/compare_findings.py --expected "$expected" --workflow "$1" "$work/$1.sarif" ||
		die "$1 did not find what it must find"
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/drover-demo.XXXXXX")
prepare
start
scan security_assessment
scan gitleaks_detection
say "drover runs"
"$bin/drover" runs
say "done in $SECONDS s; \`build/bin/drover dev\` starts it again"
