#!/bin/bash
# What Drover needs from Debian 12.
#
#   deps.sh check [GROUP...]     say what is missing and the command that installs it; exit 1 when something is
#   deps.sh install [GROUP...]   install it (root), or say what to ask an administrator for (exit 1)
#
# Groups: build, check (tests and lint), demo-cluster (builds the servers), docker. Default: build.
set -euo pipefail

# group, package, and a program that stands for it where it may come from elsewhere ("-": only the package counts)
packages() {
	cat <<-'END'
		build gcc gcc
		build make make
		build pkg-config pkg-config
		build libcurl4-openssl-dev -
		build libjansson-dev -
		build libyaml-dev -
		build libarchive-dev -
		build libssl-dev -
		build libmicrohttpd-dev -
		build libsqlite3-dev -
		build libseccomp-dev -
		build python3-venv -
		build git git
		build zstd zstd
		check libcmocka-dev -
		check clang clang
		check libclang-rt-14-dev -
		check llvm llvm-symbolizer
		check universal-ctags ctags
		check libarchive-tools bsdtar
		check unzip unzip
		check xfsprogs mkfs.xfs
		check btrfs-progs mkfs.btrfs
		docker docker.io dockerd
		docker iptables iptables
		docker debootstrap -
	END
}

GO_WANTED=1.26

die() {
	echo "deps.sh: $*" >&2
	exit 2
}

# groups_of GROUP...: the groups that these bring with them.
groups_of() {
	local group
	for group in "$@"; do
		case $group in
		build | docker) echo "$group" ;;
		check | demo-cluster) printf 'build\n%s\n' "$group" ;;
		*) die "unknown group \"$group\" (build, check, demo-cluster, docker)" ;;
		esac
	done | sort -u
}

# missing GROUP...: package names, one a line. One dpkg-query for all of them keeps this far below a second.
missing() {
	local groups installed group package program
	groups=" $* "
	installed=$(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' 2>/dev/null | awk '$2 ~ /^.i/ { print $1 }')
	while read -r group package program; do
		[[ $groups == *" $group "* ]] || continue
		if grep -qxF "$package" <<<"$installed"; then
			continue
		fi
		if [ "$program" != - ] && PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null; then
			continue
		fi
		echo "$package"
	done < <(packages)
}

# go_missing GROUP...: tell when a group needs Go and there is none that is new enough. Debian 12's own is too old.
go_missing() {
	local have
	[[ " $* " == *" demo-cluster "* || " $* " == *" check "* ]] || return 1
	have=$(go env GOVERSION 2>/dev/null || true)
	have=${have#go}
	if [ -n "$have" ] && [ "$(printf '%s\n' "$GO_WANTED" "$have" | sort -V | head -n 1)" = "$GO_WANTED" ]; then
		return 1
	fi
	echo "Go $GO_WANTED or newer (${have:-none} here; Debian's package is too old): https://go.dev/doc/install" >&2
}

# Mirrors stumble: three tries with a pause, the list is refreshed before each.
apt_install() {
	local try
	for try in 1 2 3; do
		if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; then
			return 0
		fi
		echo "deps.sh: apt-get failed (try $try of 3)" >&2
		sleep $((try * 5))
	done
	return 1
}

main() {
	local verb=${1:-} groups lacking status=0
	[ "$verb" = check ] || [ "$verb" = install ] || die "usage: deps.sh check|install [build|check|demo-cluster|docker]..."
	shift
	[ $# -gt 0 ] || set -- build
	groups=$(groups_of "$@")
	# shellcheck disable=SC2086 # groups and packages are lists of plain words
	{
		command -v dpkg-query >/dev/null || die "this is not Debian: install the counterparts of: $(packages | cut -d' ' -f2 | xargs)"
		lacking=$(missing $groups | xargs)
		if go_missing $groups; then
			status=1
		fi
		if [ -n "$lacking" ] && [ "$verb" = install ] && [ "$(id -u)" -eq 0 ]; then
			echo "installing $lacking"
			apt_install $lacking
			lacking=$(missing $groups | xargs)
		fi
	}
	if [ -n "$lacking" ]; then
		echo "missing: $lacking" >&2
		if [ "$(id -u)" -eq 0 ]; then
			echo "install with: tools/deps.sh install $*   (or apt-get install $lacking)" >&2
		else
			echo "ask an administrator for: sudo apt-get install $lacking" >&2
		fi
		status=1
	fi
	return "$status"
}

main "$@"
