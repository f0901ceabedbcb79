#!/bin/bash
# Run pytest from a virtual environment with exactly the versions of tests/requirements.txt:
#
#   tools/pytest.sh [PYTEST ARGUMENT...]
#
# The environment is made once per machine and pin set, under ${XDG_CACHE_HOME:-~/.cache}/drover/venv-<digest>.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pins=$root/tests/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/drover

# make_venv PATH: a complete environment or none; the marker is written last.
make_venv() {
	local venv=$1 try
	rm -rf "$venv"
	python3 -m venv "$venv" || {
		echo "pytest.sh: python3 -m venv failed: tools/deps.sh install build" >&2
		return 1
	}
	for try in 1 2 3; do
		if "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$pins"; then
			touch "$venv/.complete"
			return 0
		fi
		echo "pytest.sh: pip failed (try $try of 3)" >&2
		sleep "$try"
	done
	return 1
}

main() {
	local venv
	venv=$cache/venv-$( (python3 --version && cat "$pins") | sha256sum | cut -c 1-12)
	if [ ! -e "$venv/.complete" ]; then
		mkdir -p "$cache"
		exec 9>"$cache/.venv.lock"
		flock 9
		[ -e "$venv/.complete" ] || make_venv "$venv"
		exec 9>&-
	fi
	cd "$root"
	# The rig serves every folder of tests.
	export PYTHONPATH=$root/tests/cluster:$root/tests
	exec "$venv/bin/python" -B -m pytest -p no:cacheprovider "$@"
}

main "$@"
