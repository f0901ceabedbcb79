# bash completion for drover: commands and options from --help, names and ids from the dispatcher.

# The commands that begin with the words typed so far; one word each.
_drover_commands() {
	drover --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)\( [a-z]\{2,\}\)\{0,1\}  .*/\1\2/p'
}

_drover_options() {
	# shellcheck disable=SC2086 # a command may be two words
	drover $1 --help 2>/dev/null | sed -n 's/^  \(-[a-z-]*\)\(, \(-[a-z-]*\)\)\{0,1\} .*/\1 \3/p'
}

# _drover_ids PATH-COMMAND KEY FIELD: texts of one field of a list that the dispatcher gives; silent where it is away.
_drover_ids() {
	# shellcheck disable=SC2086
	timeout 2 drover $1 -json 2>/dev/null | sed -n 's/^      "'"$2"'": "\([^"]*\)",\{0,1\}$/\1/p'
}

_drover() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command="" words=() word i
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		[[ $word == -* ]] || words+=("$word")
	done
	command=${words[0]:-}
	case $command in
	workflow | targets) [ ${#words[@]} -lt 2 ] || command="$command ${words[1]}" ;;
	esac
	COMPREPLY=()
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_drover_options "$command")" -- "$cur")
		return
	fi
	case $prev in
	-fail-on | --fail-on)
		mapfile -t COMPREPLY < <(compgen -W "error warning note info all none" -- "$cur")
		return
		;;
	-state | --state)
		mapfile -t COMPREPLY < <(compgen -W "queued running canceling completed failed timed_out canceled" -- "$cur")
		return
		;;
	-severity | --severity)
		mapfile -t COMPREPLY < <(compgen -W "error warning note info" -- "$cur")
		return
		;;
	-workflow | --workflow)
		mapfile -t COMPREPLY < <(compgen -W "$(_drover_ids 'workflow list' name)" -- "$cur")
		return
		;;
	-sarif | --sarif | -export-sarif | --export-sarif | -params-file | --params-file | -ca-cert | --ca-cert | -client-cert | \
		--client-cert | -client-key | --client-key | -data-dir | --data-dir | -toolbox | --toolbox | -o | -output | --output)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	case ${words[*]} in
	"") mapfile -t COMPREPLY < <(compgen -W "$(_drover_commands | cut -d' ' -f1 | sort -u)" -- "$cur") ;;
	workflow | targets)
		mapfile -t COMPREPLY < <(compgen -W "$(_drover_commands | sed -n "s/^$command //p")" -- "$cur")
		;;
	run | "workflow show") mapfile -t COMPREPLY < <(compgen -W "$(_drover_ids 'workflow list' name)" -- "$cur") ;;
	run\ * | workflow\ push* | workflow\ validate*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	status | logs | findings | artifacts | cancel*)
		mapfile -t COMPREPLY < <(compgen -W "$(_drover_ids 'runs -limit 100' id)" -- "$cur")
		;;
	"targets show" | targets\ rm*) mapfile -t COMPREPLY < <(compgen -W "$(_drover_ids targets id)" -- "$cur") ;;
	esac
}

complete -o filenames -F _drover drover
