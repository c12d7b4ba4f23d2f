# shellcheck shell=bash disable=SC2154 # scripts/hosts and table.sh set $here, $guests and $row_names
# Brings up the guests, within what time there is.

# What a guest with its rows takes at the least, in seconds: no sense in beginning with less.
readonly guest_seconds=120

seconds_left() {
	echo $((SBX_HOSTS_END - $(date +%s)))
}

# on_guest GUEST ROWS NEXT builds and boots the guest, with an image in the user's store, and runs the rows there. The
# guest after it is brought up meanwhile.
on_guest() {
	local guest=$1 rows=$2 next=$3 reason start=$SECONDS row
	[[ -e $SBX_HOSTS_WORK/absent-$guest ]] || up "$guest"
	reason=$(<"$SBX_HOSTS_WORK/absent-$guest")
	if [[ -z $reason ]]; then
		printf '== Debian %s, Linux %s, is up after %d s\n' "$guest" "$(cat "$SBX_HOSTS_WORK/kernel-$guest")" "$((SECONDS - start))"
		{
			[[ -z $next ]] || echo "up $next"
			xargs -n 1 printf '%s %s\n' "$guest" <<<"$rows"
		} | in_parallel -g "$guests" row || true
		return
	fi
	while read -r row; do
		report_absent "$guest" "${row_names[row]}" "$reason"
	done <<<"$rows"
}

# up GUEST leaves in absent-GUEST why the guest cannot be had, or nothing.
up() {
	bring_up "$1" >"$SBX_HOSTS_WORK/absent-$1.new"
	mv "$SBX_HOSTS_WORK/absent-$1.new" "$SBX_HOSTS_WORK/absent-$1"
}

# bring_up GUEST prints why the guest cannot be had, if it cannot. It has two tries, since an emulated guest may die.
bring_up() {
	local guest=$1 left log=$SBX_HOSTS_WORK/guest-log-$1 start=$SECONDS try=''
	for try in '' --fresh; do
		left=$(seconds_left)
		((left >= guest_seconds)) || break
		! timeout --foreground -k 30 "$left" "$here/vm" run "$guest" $try --prepared "$SBX_HOSTS_WORK/prepared" -- uname -r \
			2>&1 >"$SBX_HOSTS_WORK/kernel-$guest" </dev/null | tee "$log" >&2 || return 0
	done
	if (($(seconds_left) >= guest_seconds)); then
		why_absent "$guest" "$log"
	else
		echo "cannot: Debian $guest was not up after $((SECONDS - start)) s, and no time was left"
	fi
}

# why_absent GUEST LOG prints a reason that begins with "cannot:" where neither sbx nor these scripts are to blame. The
# first guest has to come up, if there is room and the archive can be reached. Those of the others come and go; but where they boot, sbx
# has to make its image.
why_absent() {
	local guest=$1 said blameless='(cannot download|MB free)'
	said=$(grep '^vm: ' "$2" | tail -n 1)
	[[ $guest == "${guests%%,*}" || $said == *'(prepared '* ]] || blameless='.'
	if grep -qE "^vm: .*$blameless" "$2"; then
		echo "cannot: Debian $guest did not come up: $said"
	else
		echo "Debian $guest did not come up: $said"
	fi
}

# report_absent GUEST NAME REASON
report_absent() {
	if [[ $3 == cannot:* ]]; then report "$1" "$2" skipped "$3"; else report "$1" "$2" failed "$3"; fi
}
