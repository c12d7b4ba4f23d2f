# shellcheck shell=bash disable=SC2154 # scripts/hosts sets $here and $SBX_HOSTS_WORK
# Runs scripts/hosts.d/limits in guests: each of its lines is a result.

# The longest that it may take in one guest, in seconds.
readonly limits_limit=1800

# limits GUEST…
limits() {
	(($# > 0)) || set -- 11 12 13 testing
	work
	printf '%s\n' "$@" | in_parallel limits-of || true
	finish
}

limits_of() {
	local guest=$1 status=0 out=$SBX_HOSTS_WORK/limits-$1 line name result
	"$here/vm" run "$guest" -t "$limits_limit" --prepared "$SBX_HOSTS_WORK/prepared" \
		--setup 'dd if=/dev/zero of=/swap bs=1M count=512 2>/dev/null; chmod 0600 /swap; mkswap /swap >/dev/null; swapon /swap' \
		--env "SBX_LIMITS_AT_ONCE=${SBX_LIMITS_AT_ONCE:-50}" --put "$SBX_HOSTS_WORK/sbx" --put "$here/hosts.d/limits" -- bash /job/limits >"$out" 2>&1 </dev/null || status=$?
	while IFS= read -r line; do
		case $line in
		'ok: '*) result=passed line=${line#ok: } ;;
		'NOT OK: '*) result=failed line=${line#NOT OK: } ;;
		*) continue ;;
		esac
		name=${line%%: *}
		report "$guest" "limits, $name" "$result" "${line#"$name": }"
	done <"$out"
	grep -E ' took [0-9]+ s$' "$out" || true
	((status == 0)) || {
		report "$guest" "limits" failed "vm ended with $status"
		sed 's/^/    | /' "$out"
	}
}
