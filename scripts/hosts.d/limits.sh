# shellcheck shell=bash disable=SC2154 # scripts/hosts sets $here and $SBX_HOSTS_WORK
# Runs scripts/hosts.d/limits in guests: each of its parts is a job of its own, each of its lines a result.

# The longest that a part may take in a guest, in seconds.
readonly part_limit=900

# limits GUEST…: what the guests have in common comes first, so that little time shows most.
limits() {
	local guest part reason there=()
	(($# > 0)) || set -- 12 13 11 testing
	guests=$1
	work
	for guest; do
		reason=$(bring_up "$guest")
		if [[ -z $reason ]]; then there+=("$guest"); else report_absent "$guest" limits "$reason"; fi
	done
	((${#there[@]} > 0)) || { finish; return; }
	for part in limits_are_set inside memory processes swap cpu disk many; do
		[[ " ${SBX_LIMITS_PARTS-$part} " == *" $part "* ]] || continue
		printf "%s $part\\n" "${there[@]}"
	done | in_parallel limits-of || true
	finish
}

# limits_of "GUEST PART". What failed is tried once more: cf. may_try_again.
limits_of() {
	local guest=${1% *} part=${1#* } status out
	out=$SBX_HOSTS_WORK/limits-$guest-$part
	if (($(seconds_left) < 60)); then
		report "$guest" "limits, $part" skipped "cannot: no time was left"
		return
	fi
	attempt_part
	if part_failed && (($(seconds_left) > 60)); then
		printf 'once more: [%s] limits, %s: vm ended with %d\n%s\n' "$guest" "$part" "$status" "$(sed 's/^/    | /' "$out")"
		attempt_part
	fi
	report_part
}

part_failed() {
	((status != 0)) || grep -q '^NOT OK: ' "$out"
}

# attempt_part OPTION… leaves the output in $out and sets $status.
attempt_part() {
	local left
	left=$(seconds_left)
	status=0
	timeout --foreground -k 20 "$((left > 0 ? left : 1))" "$here/vm" run "$guest" "$@" -t "$part_limit" --prepared "$SBX_HOSTS_WORK/prepared" \
		--setup 'fallocate -l 512M /swap; chmod 0600 /swap; mkswap /swap >/dev/null; swapon /swap' \
		--env "SBX_LIMITS_AT_ONCE=${SBX_LIMITS_AT_ONCE:-50}" \
		--put "$SBX_HOSTS_WORK/sbx" --put "$here/hosts.d/limits" -- bash /job/limits "$part" >"$out" 2>&1 </dev/null || status=$?
}

report_part() {
	local line name result slow
	if ((status != 0)) && (($(seconds_left) <= 0)); then
		report "$guest" "limits, $part" skipped "cannot: no time was left"
		return
	fi
	if part_failed && slow=$(slowness); then
		report "$guest" "limits, $part" skipped "cannot: it failed in a guest that takes $slow s for three hundred processes"
		return
	fi
	while IFS= read -r line; do
		case $line in
		'ok: '*) result=passed line=${line#ok: } ;;
		'NOT OK: '*) result=failed line=${line#NOT OK: } ;;
		*) continue ;;
		esac
		name=${line%%: *}
		report "$guest" "limits, $part, $name" "$result" "${line#"$name": }"
	done <"$out"
	((status == 0)) || report "$guest" "limits, $part" failed "vm ended with $status"
	! part_failed || sed 's/^/    | /' "$out"
}
