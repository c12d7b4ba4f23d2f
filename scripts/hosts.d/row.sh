# shellcheck shell=bash disable=SC2154 # scripts/hosts and table.sh set $here and $row_names
# Runs one row of the table in a guest and judges what came out.

# The longest that a row may take, in seconds; a command that hangs is ended by then, and has failed.
readonly row_limit=240

# What no host may make sbx say: a stack trace, an errno alone, or a program that sees the host.
readonly never='goroutine [0-9]|^panic:|^fatal error:|runtime error|UNWALLED|^sbx: (operation not permitted|permission denied|no such file or directory|invalid argument|no space left on device|resource temporarily unavailable|function not implemented|input/output error|exit status [0-9]+)$'

# write_row ROW FILE: the command with its exit status, then what doctor says where the row wants to know.
write_row() {
	{
		cat "$here/hosts.d/guest.sh"
		printf '(\n%s\n) </dev/null\n' "$(field "$1" run walled)"
		printf 'printf "\\nrow status %%d\\n" $?\n'
		[[ -z $(field "$1" doctor) ]] || printf 'echo "row doctor"\nsbx doctor 2>&1\n'
		echo exit 0
	} >"$2"
}

run_row() {
	local row=$1 name=${row_names[$1]} dir status=0
	dir=$(mktemp -d "$SBX_HOSTS_WORK/row.XXXXXX")
	write_row "$row" "$dir/row"
	"$here/vm" run "$(field "$row" guest 12)" -t "$row_limit" --as "$(field "$row" as user)" \
		--session "$(field "$row" session scope)" --boot "$(field "$row" boot)" --setup "$(field "$row" setup true)" \
		--put "$SBX_HOSTS_WORK/sbx" --put "$dir/row" -- bash /job/row >"$dir/out" 2>&1 </dev/null || status=$?
	judge_row "$row" "$name" "$dir/out" "$status"
	[[ -z ${SBX_HOSTS_SHOW-} ]] || sed 's/^/    | /' "$dir/out"
}

judge_row() {
	local row=$1 name=$2 out=$3 status=$4 reason
	if ((status != 0)) && grep -q '^vm: the setup ended with status 77' "$out"; then
		reason=$(grep -m 1 '^cannot: ' "$out" || true)
		if [[ -n ${SBX_MUST_WORK-} && -z $reason ]]; then
			report "$name" failed "it was skipped"
		else
			report "$name" skipped "${reason:-the guest lacks something}"
		fi
		return
	fi
	reason=$(fault "$row" "$out" "$status")
	if [[ -z $reason ]]; then
		report "$name" passed "$(first_words "$out")"
		return
	fi
	{
		report "$name" failed "$reason"
		sed 's/^/    | /' "$out"
	} | cat
}

# first_words: what sbx said, for the reader of the log.
first_words() {
	grep -m 1 -E '^sbx: |^walled' "$1" || true
}

# fault prints what is wrong with the output of a row, or nothing.
fault() {
	local row=$1 out=$2 status=$3 want found expression
	((status != 124)) || { echo "it hung"; return; }
	((status == 0)) || { echo "vm ended with $status"; return; }
	want=$(field "$row" status 0)
	found=$(sed -n 's/^row status //p' "$out" | head -n 1)
	[[ $found == "$want" ]] || { echo "status $found, not $want"; return; }
	if [[ -z $(field "$row" trace) ]] && grep -qE "$never" "$out"; then
		echo "it says: $(grep -m 1 -E "$never" "$out")"
		return
	fi
	while IFS= read -r expression; do
		sed '/^row doctor$/,$d' "$out" | grep -qE -- "$expression" || { echo "it does not say: $expression"; return; }
	done < <(field "$row" expect '^walled off$'; echo)
	[[ -n $(field "$row" doctor) ]] || return 0
	while IFS= read -r expression; do
		sed '1,/^row doctor$/d' "$out" | tr -s ' \n' ' ' | grep -qE -- "$expression" || { echo "doctor does not say: $expression"; return; }
	done < <(field "$row" doctor; echo)
}
