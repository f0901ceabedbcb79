#!/bin/bash
# Build the real servers from their pinned Go modules, once per machine.
#
#   build.sh [NAME...]      build what is missing (default: all of servers.tsv)
#   build.sh --path NAME    print where NAME is, or fail when it is not there
#   build.sh --list         print name, version and path of all
#
# Binaries go to ${XDG_CACHE_HOME:-~/.cache}/drover/servers/<name>-<version>: a changed version is a new file, and
# the old one stays for other checkouts. DROVER_USE_PATH=1 takes the programs on PATH instead and builds nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/drover/servers
table=$here/servers.tsv

die() {
	echo "build.sh: $*" >&2
	exit 1
}

names() {
	awk -F'\t' '!/^#/ && NF { print $1 }' "$table"
}

# field NAME COLUMN: one cell of the table; "-" means empty.
field() {
	awk -F'\t' -v name="$1" -v col="$2" '!/^#/ && $1 == name { print $col == "-" ? "" : $col }' "$table"
}

path_of() {
	local version
	if [ "${DROVER_USE_PATH:-0}" = 1 ]; then
		command -v "$1" || die "DROVER_USE_PATH=1, but there is no $1 on PATH"
		return
	fi
	version=$(field "$1" 2)
	[ -n "$version" ] || die "unknown server \"$1\" (known: $(names | tr '\n' ' '))"
	echo "$cache/$1-$version"
}

# go_ready: the modules ask for Go 1.26; an older one would fail with a riddle.
go_ready() {
	local have
	command -v go >/dev/null || die "Go 1.26 or newer is needed to build the servers: see https://go.dev/doc/install"
	have=$(go env GOVERSION | sed 's/^go//')
	[ "$(printf '%s\n' 1.26 "$have" | sort -V | head -n 1)" = 1.26 ] ||
		die "Go $have is too old to build the servers: 1.26 or newer is needed"
}

# build NAME: the lock makes concurrent builds of one server wait for the first; the rename makes it appear whole.
build() {
	local name=$1 out tags cgo package started=$SECONDS
	out=$(path_of "$name")
	if [ -x "$out" ]; then
		return
	fi
	go_ready
	mkdir -p "$cache"
	exec 9>"$cache/.$name.lock"
	flock 9
	if [ ! -x "$out" ]; then
		cgo=$(field "$name" 3) tags=$(field "$name" 4) package=$(field "$name" 5)
		echo "building $out (minutes, once per machine)" >&2
		rm -f "$out".new.*
		(cd "$here/$name" &&
			CGO_ENABLED=$cgo go build -mod=readonly -trimpath -ldflags "-s -w" -tags "$tags" -o "$out.new.$$" "$package") ||
			{
				rm -f "$out.new.$$"
				die "could not build $name; with other copies installed, DROVER_USE_PATH=1 uses those"
			}
		mv "$out.new.$$" "$out"
		echo "built $out in $((SECONDS - started)) s" >&2
	fi
	exec 9>&-
}

main() {
	local name path
	case ${1:-} in
	--path)
		[ $# -eq 2 ] || die "usage: build.sh --path NAME"
		path=$(path_of "$2")
		[ -x "$path" ] || die "$path is not there yet: run $here/build.sh $2"
		echo "$path"
		;;
	--list)
		for name in $(names); do
			printf '%s\t%s\t%s\n' "$name" "$(field "$name" 2)" "$(path_of "$name")"
		done
		;;
	--help | -h)
		sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
		;;
	-*)
		die "unknown option $1 (--path NAME, --list, --help)"
		;;
	*)
		[ $# -gt 0 ] || set -- $(names)
		for name; do
			path=$(path_of "$name")
			build "$name"
		done
		;;
	esac
}

main "$@"
