# Sourced by every vertical's install.sh: where a toolchain lies, when it is current, and how a new one replaces it.
#
#   $root/<vertical>                    symbolic link to the version in use
#   $root/.versions/<vertical>-<digest> one finished toolchain, never changed after it was put there
#
# A version is built in a staging folder beside its final place and renamed, so a reader sees a whole toolchain or none.
# Nothing in it names its own path (see relocatable_scripts): a worker may bind it anywhere.

set -eu
umask 022

root=${DROVER_TOOLCHAINS:-${HOME:?HOME or DROVER_TOOLCHAINS must be set}/.cache/drover/toolchains}

# say TEXT: one line for the person who waits.
say() {
	printf '%s: %s\n' "${vertical:-toolchain}" "$*"
}

# die TEXT [HINT]: what went wrong and what to do about it.
die() {
	printf '%s: error: %s\n' "${vertical:-toolchain}" "$1" >&2
	[ $# -lt 2 ] || printf '%s: hint: %s\n' "${vertical:-toolchain}" "$2" >&2
	exit 1
}

# need COMMAND HINT: fails with the hint where a command is missing.
need() {
	command -v "$1" >/dev/null 2>&1 || die "$1 is missing" "$2"
}

# world_reachable PATH: whether a tool under any uid can read PATH through all its parents.
world_reachable() {
	path=$(readlink -f -- "$1") || return 1
	while [ "$path" != / ]; do
		case $(stat -L -c %A -- "$path") in
		d????????[xt]) ;;
		-??????r??) ;;
		*) return 1 ;;
		esac
		path=$(dirname -- "$path")
	done
}

# find_python: sets python to the interpreter that toolchains stand on. The distribution's comes first, because one in
# somebody's home folder cannot be read by the uids that tools run under.
find_python() {
	for python in ${DROVER_PYTHON:-} /usr/bin/python3 python3; do
		python=$(command -v "$python" 2>/dev/null) || continue
		"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue
		"$python" -c 'import venv, ensurepip' 2>/dev/null || continue
		world_reachable "$("$python" -c 'import sys; print(sys.executable)')" ||
			say "warning: $python is not readable for every user; sandboxed tools with another uid cannot start it"
		return 0
	done
	die "no Python 3.9 or newer with the venv module" "apt-get install python3 python3-venv"
}

# toolchain_begin VERTICAL FILE...: the files decide the version. Ends the script when that version is in place,
# otherwise leaves the staging folder in $stage.
toolchain_begin() {
	vertical=$1
	shift
	need sha256sum "apt-get install coreutils"
	need flock "apt-get install util-linux"
	digest=$(cat -- "$@" | sha256sum | cut -c1-16)
	final=$root/.versions/$vertical-$digest
	link=$root/$vertical
	mkdir -p -- "$root/.versions" || die "cannot create $root" "set DROVER_TOOLCHAINS to a folder you can write"

	exec 9>>"$root/.$vertical.lock"
	flock 9
	if [ -f "$final/.complete" ]; then
		[ "$(readlink -- "$link" || true)" = ".versions/$vertical-$digest" ] || toolchain_switch
		say "up to date in $link"
		exit 0
	fi
	[ -L "$link" ] || [ ! -e "$link" ] || die "$link is in the way and was not made by this script" "move it away"
	rm -rf -- "$final" "$root/.versions/.$vertical.stage".*
	stage=$(mktemp -d -- "$root/.versions/.$vertical.stage.XXXXXX")
	chmod 755 "$stage"
	trap 'rm -rf -- "$stage"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# toolchain_switch: points the link at $final in one step.
toolchain_switch() {
	ln -sfn -- ".versions/$vertical-$digest" "$root/.$vertical.next"
	mv -Tf -- "$root/.$vertical.next" "$link"
}

# toolchain_commit: puts the staging folder in place. The version it replaces stays for runs that still use it; older
# ones go.
toolchain_commit() {
	previous=$(readlink -- "$link" || true)
	chmod -R a+rX -- "$stage"
	touch "$stage/.complete"
	mv -T -- "$stage" "$final"
	toolchain_switch
	for old in "$root/.versions/$vertical"-*; do
		case $old in
		"$final" | "$root/$previous") ;;
		*) rm -rf -- "$old" ;;
		esac
	done
	say "installed in $link"
}

# make_venv [OPTION...]: an environment in $stage with the step library in it; options go to Python's venv.
make_venv() {
	"$python" -m venv "$@" "$stage" || die "the virtual environment could not be made" "apt-get install python3-venv"
	site=$("$stage/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	cp -- "$toolbox/lib/drover_step.py" "$site/"
	"$stage/bin/python3" -m compileall -q "$site/drover_step.py"
}

# relocatable_scripts: console scripts name the interpreter by absolute path; make them look beside themselves instead.
relocatable_scripts() {
	rm -f -- "$stage"/bin/activate* "$stage"/bin/Activate*
	for script in "$stage"/bin/*; do
		[ -f "$script" ] && [ ! -L "$script" ] || continue
		case $(head -c 2 -- "$script") in '#!') ;; *) continue ;; esac
		{
			printf '%s\n' '#!/bin/sh' "'''exec' \"\$(dirname -- \"\$0\")/python3\" \"\$0\" \"\$@\"" "' '''"
			tail -n +2 -- "$script" | sed "/^'''exec' /d; /^' '''\$/d"
		} >"$script.new"
		chmod 755 "$script.new"
		mv -f -- "$script.new" "$script"
	done
}
