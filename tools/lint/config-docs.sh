#!/bin/sh
# Writes docs/CONFIG.md from the programs' settings tables.
set -eu
cd "$(dirname "$0")/../.."
bin=${DROVER_BIN:-build/bin}
{
	printf '# Settings\n\nWritten by `tools/lint/config-docs.sh` from the programs; do not edit. A flag beats the environment, which beats\nthe settings file, which beats the default.\n'
	for p in drover-dispatcher drover-worker drover drover-autoscale; do
		printf '\n## %s\n\n' "$p"
		"$bin/$p" -settings-markdown
	done
} > docs/CONFIG.md
