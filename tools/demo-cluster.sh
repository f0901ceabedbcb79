#!/bin/bash
# The story of `make demo` on a real Nomad (raw_exec), Consul and MinIO, in a private directory and on free ports: the
# run is a dispatched parameterized job that `nomad job status` and `nomad alloc logs` show. Ends everything it started.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() {
	printf '\n=== %s\n' "$*"
}

die() {
	printf 'demo-cluster: %s\n' "$*" >&2
	exit 1
}

[ "$(id -u)" -eq 0 ] || die "Nomad's client wants root for raw_exec and control groups; \`make demo\` does without"
tools/deps.sh install build demo-cluster || die "packages are missing (see above)"
say "building Nomad, Consul and MinIO where they are not cached (some minutes the first time)"
tools/servers/build.sh nomad consul minio
say "building"
log=$(mktemp "${TMPDIR:-/tmp}/drover-demo.XXXXXX")
if ! MAKEFLAGS='' make -j"$(nproc)" all >"$log" 2>&1; then
	cat "$log" >&2
	rm -f "$log"
	die "the build failed"
fi
rm -f "$log"
say "tools of the verticals (some minutes the first time)"
for vertical in python secrets; do
	"toolbox/verticals/$vertical/install.sh" || die "the tools of vertical $vertical could not be installed"
done
exec env PYTHONPATH=tests/cluster python3 -B tools/demo_cluster.py
