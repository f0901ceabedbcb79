#!/bin/sh
# Installs the tools of the vertical `python` for the user who calls it: bandit, semgrep and the step library.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
toolbox=$here/../..
. "$toolbox/lib/toolchain.sh"

toolchain_begin python "$here/install.sh" "$here/requirements.txt" "$toolbox/lib/toolchain.sh" "$toolbox/lib/drover_step.py"
find_python
say "installing with $python (about 400 MB)"
make_venv
"$stage/bin/python3" -m pip install --quiet --disable-pip-version-check --no-input -r "$here/requirements.txt" ||
	die "pip could not install the tools" "check the network and pip's index settings (pip config list)"
"$stage/bin/python3" -m pip uninstall --quiet --yes pip
relocatable_scripts
"$stage/bin/bandit" --version >/dev/null || die "bandit does not start"
PATH=$stage/bin:$PATH SEMGREP_ENABLE_VERSION_CHECK=0 "$stage/bin/semgrep" --version >/dev/null || die "semgrep does not start"
toolchain_commit
