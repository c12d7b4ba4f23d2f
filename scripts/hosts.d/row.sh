# shellcheck shell=bash disable=SC2154 # scripts/hosts and table.sh set $here and $row_names
# Runs one row of the table in a guest and judges what came out.

# The longest that a row may take, in seconds; a command that hangs is ended by then, and has failed.
readonly row_limit=240

# What no host may make sbx say: a stack trace, an errno alone, or a program that sees the host.
readonly never='goroutine [0-9]|^panic:|^fatal error:|runtime error|UNWALLED|^sbx: (operation not permitted|permission denied|no such file or directory|invalid argument|no space left on device|resource temporarily unavailable|function not implemented|input/output error|exit status [0-9]+)$'

# What a machine may say, and sbx on it, that is too slow for limits of time: never a failure there, if it is that slow.
readonly lateness='^(it hung|it was skipped|the guest died)$|(not|no) answer|timed out|did not (end|come|answer)'
# Three hundred processes took a guest 12 s where two cores had three times as much to do as they could.
readonly slow_seconds=30

# slowness prints what they take here and now, and is true if that is too long for any judgement. Nothing of sbx is in
# it: a sandbox that hangs is no slow machine.
slowness() {
	local took
	# shellcheck disable=SC2016 # for the shell inside
	took=$("$here/vm" run "$guest" -t 200 --prepared "$SBX_HOSTS_WORK/prepared" \
		-- bash -c 'SECONDS=0; for i in {1..300}; do /bin/true; done; echo "$SECONDS"' 2>/dev/null </dev/null) ||
		{ (($? == 124)) && took=200; }
	echo "${took:-0}"
	((${took:-0} >= slow_seconds))
}

# write_row ROW FILE: the command with its exit status, then what doctor says where the row wants to know. All goes one
# way out of the guest, since two ways do not keep the order.
write_row() {
	{
		echo 'exec 2>&1'
		cat "$here/hosts.d/guest.sh"
		printf '(\n%s\n) </dev/null\n' "$(field "$1" run walled)"
		printf 'printf "\\nrow status %%d\\n" $?\n'
		[[ -z $(field "$1" doctor) ]] || printf 'echo "row doctor"\nsbx doctor\n'
		echo exit 0
	} >"$2"
}

# run_row "GUEST ROW" sets $guest, for field.
run_row() {
	local guest=${1% *} row=${1#* } name dir reason try
	name=${row_names[row]}
	if (($(seconds_left) < 20)); then
		report "$guest" "$name" skipped "cannot: no time was left"
		return
	fi
	dir=$(mktemp -d "$SBX_HOSTS_WORK/row.XXXXXX")
	write_row "$row" "$dir/row"
	attempt_row
	for try in 2 3; do
		reason=$(fault "$row" "$dir/out")
		[[ -n $reason ]] && may_try_again "$try" "$dir/out" || break
		printf 'once more: [%s] %s: %s\n%s\n' "$guest" "$name" "$reason" "$(sed 's/^/    | /' "$dir/out")"
		# What died may have had a bad state to begin with.
		if [[ $(outcome "$dir/out") == @(died|hung) ]]; then attempt_row --fresh; else attempt_row; fi
	done
	judge_row "$row" "$name" "$dir/out"
	[[ -z ${SBX_HOSTS_SHOW-} ]] || sed 's/^/    | /' "$dir/out"
}

# may_try_again TRY FILE: an emulated guest now and then loses its timer, or is too slow for a limit of time, so a row
# that went wrong has a second try in a new guest, and a third one if the guest died. What no host may
# make sbx say has none, nor has any row where so many have failed that it is not the guest.
may_try_again() {
	local outcome
	outcome=$(outcome "$2")
	[[ $outcome != late ]] && (($1 == 2)) || [[ $outcome == died ]] || return 1
	! grep -qE "$never" "$2" && (($(count failed) < 5))
}

# attempt_row OPTION… leaves the output in $dir/out and the exit status of vm as its last line.
attempt_row() {
	local left status=0 setup=''
	left=$(seconds_left)
	[[ -z $(field "$row" cold) ]] || setup=$'rm -rf /home/user/.local/share/sbx\n'
	# A row may have to boot its guest first, which the limit of the command does not count.
	timeout --foreground -k 20 "$((left > 0 ? left + 30 : 1))" "$here/vm" run "$guest" "$@" -t "$((left > row_limit ? row_limit : left > 0 ? left : 1))" \
		--prepared "$SBX_HOSTS_WORK/prepared" --as "$(field "$row" as user)" --session "$(field "$row" session scope)" \
		--boot "$(field "$row" boot)" --setup "$setup$(field "$row" setup true)" \
		--put "$SBX_HOSTS_WORK/sbx" --put "$dir/row" -- bash /job/row >"$dir/out" 2>&1 </dev/null || status=$?
	printf '\nvm status %d\n' "$status" >>"$dir/out"
}

# outcome FILE: skip, setup (it failed), hung, late (it was ended for want of time), died (the machine, not the command), ran.
outcome() {
	case $(sed -n '$s/^vm status //p' "$1") in
	125) died_or_skipped "$1" ;;
	124) if (($(seconds_left) > 0)); then echo hung; else echo late; fi ;;
	0) echo ran ;;
	*) if (($(seconds_left) > 0)); then echo ran; else echo late; fi ;;
	esac
}

# 125 is the machinery's: the set-up did not want to, or did not work, or the machine died.
died_or_skipped() {
	if grep -q '^vm: the setup ended with status 77' "$1"; then
		echo skip
	elif grep -q '^vm: the setup ended' "$1"; then
		echo setup
	elif (($(seconds_left) <= 0)); then
		echo late
	else
		echo died
	fi
}

judge_row() {
	local row=$1 name=$2 out=$3 reason slow
	case $(outcome "$out") in
	late)
		report "$guest" "$name" skipped "cannot: no time was left"
		return
		;;
	skip)
		reason=$(fault "$row" "$out")
		if [[ -z $reason ]]; then
			reason=$(grep -m 1 '^cannot: ' "$out" || true)
			report "$guest" "$name" skipped "${reason:-the guest lacks something}"
			return
		fi
		;;
	esac
	reason=$(fault "$row" "$out")
	if [[ -z $reason ]]; then
		report "$guest" "$name" passed "$(first_words "$out")"
		return
	fi
	if grep -qE "$lateness" <(echo "$reason"; cat "$out") && slow=$(slowness); then
		report "$guest" "$name" skipped "cannot: $reason, in a guest that takes $slow s for three hundred processes"
		return
	fi
	{
		report "$guest" "$name" failed "$reason"
		sed 's/^/    | /' "$out"
	} | cat
}

# first_words: what sbx said, for the reader of the log.
first_words() {
	grep -m 1 -E '^sbx: |^walled' "$1" || true
}

# fault prints what is wrong with the output of a row, or nothing.
fault() {
	local row=$1 out=$2 want found expression
	case $(outcome "$out") in
	hung) echo "it hung"; return ;;
	skip)
		[[ -z ${SBX_MUST_WORK-} ]] || grep -q '^cannot: ' "$out" || echo "it was skipped"
		return
		;;
	setup) echo "its setup failed"; return ;;
	died) echo "the guest died"; return ;;
	esac
	want=$(field "$row" status 0)
	found=$(sed -n 's/^row status //p' "$out" | head -n 1)
	[[ $found == "$want" ]] || { echo "status $found, not $want"; return; }
	if grep -qE "$never" "$out"; then
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
