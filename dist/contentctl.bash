# bash completion of contentctl. Verbs and options are those of its own --help, so there is no list here to grow old.

_contentctl_daemon() {
	local words=() i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-a | --address | -n | --namespace) words+=("${COMP_WORDS[i]}" "${COMP_WORDS[++i]}") ;;
		--address=* | --namespace=*) words+=("${COMP_WORDS[i]}") ;;
		esac
	done
	"${COMP_WORDS[0]}" "${words[@]}" "$@" 2>/dev/null
}

_contentctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} verb='' i help
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-a | --address | -n | --namespace) ((i++)) ;;
		-*) ;;
		*)
			verb=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	COMPREPLY=()
	# shellcheck disable=SC2086 # an absent verb is no word
	if [[ $cur == -* ]]; then
		help=$("${COMP_WORDS[0]}" $verb --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*=?')
		mapfile -t COMPREPLY < <(compgen -W "$help" -- "$cur")
		[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
		return
	fi
	case $verb in
	'') help=$("${COMP_WORDS[0]}" --help 2>/dev/null | sed -n '/^Verbs:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p') ;;
	pull | run | rmi | push | tag | export) help=$(_contentctl_daemon images -q) ;;
	exec | kill | pause | resume | rm | logs | attach | stats | update) help=$(_contentctl_daemon ps -q) ;;
	*)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$help" -- "$cur")
	# Names of images have colons, at which readline cuts words.
	type __ltrim_colon_completions >/dev/null 2>&1 && __ltrim_colon_completions "$cur"
}

complete -F _contentctl contentctl
