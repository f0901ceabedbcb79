#!/bin/sh
# Installs the tools of the vertical `secrets` for the user who calls it: gitleaks and the step library.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
toolbox=$here/../..
. "$toolbox/lib/toolchain.sh"

gitleaks_version=8.30.1
module=github.com/zricethezav/gitleaks/v8

toolchain_begin secrets "$here/install.sh" "$toolbox/lib/toolchain.sh" "$toolbox/lib/drover_step.py"
need go "install Go 1.25 or newer (https://go.dev/doc/install); it builds gitleaks"
need git "apt-get install git; gitleaks reads histories with it"
find_python
say "building gitleaks $gitleaks_version (about a minute the first time)"
make_venv --without-pip
# The version is a link-time variable of gitleaks; without it the probe could not tell one build from another.
GOBIN=$stage/bin CGO_ENABLED=0 GOFLAGS= go install -trimpath \
	-ldflags "-s -w -X $module/version.Version=$gitleaks_version" "$module@v$gitleaks_version" ||
	die "go could not build gitleaks" "check the network and GOPROXY; the Go release must be one that gitleaks accepts"
relocatable_scripts
"$stage/bin/gitleaks" version | grep -qxF "$gitleaks_version" || die "the gitleaks that was built does not tell version $gitleaks_version"
toolchain_commit
