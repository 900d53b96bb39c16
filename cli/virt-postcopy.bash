# SPDX-License-Identifier: LGPL-2.1-or-later
# Completion of virt-postcopy's commands, options and their values, for bash.
# shellcheck shell=bash

# The long options that --help names, and the commands below "Commands:".
_virt_postcopy_options() {
    "$@" --help 2>/dev/null |
        sed -n 's/^ *\(-[a-zA-Z0-9], *\)\{0,1\}\(--[a-z][a-z-]*\)=\{0,1\}.*/\2/p'
}

_virt_postcopy_commands() {
    LC_ALL=C "$1" --help 2>/dev/null |
        sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

# The URI that the line so far names with -c or --connect.
_virt_postcopy_uri() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -c | --connect)
            # "--connect=URI" comes as three words, and a URI may come as several
            [ "${COMP_WORDS[i + 1]}" = = ] && ((i++))
            _virt_postcopy_joined $((i + 1))
            return
            ;;
        esac
    done
    printf '%s\n' "${LIBVIRT_DEFAULT_URI:-postcopy:///system}"
}

# What bash has torn apart at "=" and ":", from a word on to the next space.
_virt_postcopy_joined() {
    local line=$COMP_LINE word i
    for ((i = 0; i < $1; i++)); do
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"${COMP_WORDS[i]}"}
    done
    line=${line#"${line%%[![:space:]]*}"}
    word=${line%%[[:space:]]*}
    printf '%s\n' "$word"
}

_virt_postcopy_domains() {
    virsh -q -r -c "$(_virt_postcopy_uri)" list --name 2>/dev/null | sed '/^$/d'
}

# The command in the line so far, if there is one already.
_virt_postcopy_command() {
    local i word commands=" $* "
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case ${COMP_WORDS[i - 1]} in
        -c | --connect | = | :) continue ;;
        esac
        [[ $commands == *" $word "* ]] && printf '%s\n' "$word" && return
    done
}

# Names that match what has been typed; one a line, whatever is in them.
_virt_postcopy_reply() {
    local name typed=$1
    COMPREPLY=()
    while IFS= read -r name; do
        [[ $name == "$typed"* ]] && COMPREPLY+=("$(printf '%q' "$name")")
    done
}

_virt_postcopy() {
    local program=$1 current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local commands command
    commands=$(_virt_postcopy_commands "$program")
    # shellcheck disable=SC2086
    command=$(_virt_postcopy_command $commands)

    if [ "$current" = = ]; then
        current=
    elif [ "$previous" = = ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $previous in
    -c | --connect | --to)
        _virt_postcopy_reply "$current" <<<$'postcopy:///system\npostcopy+tls://\npostcopy+ssh://'
        return
        ;;
    --as)
        _virt_postcopy_reply "$current" <<<$'source\ndestination'
        return
        ;;
    --domain)
        _virt_postcopy_reply "$current" < <(_virt_postcopy_domains)
        return
        ;;
    -t | --textfile | -f | --config)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    -d | --delay | -n | --iterations | -i | --interval | --migrateuri)
        COMPREPLY=()
        return
        ;;
    esac
    if [[ $current == -* || -n $command ]]; then
        # shellcheck disable=SC2086
        _virt_postcopy_reply "$current" < <(_virt_postcopy_options "$program" $command)
    else
        _virt_postcopy_reply "$current" <<<"$commands"
    fi
}

complete -F _virt_postcopy virt-postcopy
