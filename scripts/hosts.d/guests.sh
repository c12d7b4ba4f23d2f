# shellcheck shell=bash disable=SC2154 # scripts/hosts and table.sh set $here, $guests and $row_names
# Brings up the guests, within what time there is.

# What a guest with its rows takes at the least, in seconds: no sense in beginning with less.
readonly guest_seconds=120

seconds_left() {
	echo $((SBX_HOSTS_END - $(date +%s)))
}

# on_guest GUEST ROWS builds and boots the guest, with an image in the user's store, and runs the rows there. The first
# guest has to come up. The archives of the others come and go: they are skipped, and named.
on_guest() {
	local guest=$1 rows=$2 left reason='' start=$SECONDS
	left=$(seconds_left)
	if ((left < guest_seconds)) && [[ $guest != "${guests%%,*}" ]]; then
		reason="cannot: no time was left for Debian $guest"
	elif ! timeout -k 30 "$((left > 0 ? left : 1))" "$here/vm" run "$guest" --prepared "$SBX_HOSTS_WORK/prepared" -- uname -r \
		>"$SBX_HOSTS_WORK/kernel" 2> >(tee "$SBX_HOSTS_WORK/guest-log" >&2) </dev/null; then
		reason="Debian $guest did not come up: $(grep '^vm: ' "$SBX_HOSTS_WORK/guest-log" | tail -n 1)"
		(($(seconds_left) > 0)) || reason="Debian $guest was not up after $((SECONDS - start)) s, and then the time was over"
		[[ $guest == "${guests%%,*}" ]] || reason="cannot: $reason"
	fi
	if [[ -z $reason ]]; then
		printf '== Debian %s, Linux %s, is up after %d s\n' "$guest" "$(cat "$SBX_HOSTS_WORK/kernel")" "$((SECONDS - start))"
		xargs -n 1 printf '%s %s\n' "$guest" <<<"$rows" | in_parallel row || true
		return
	fi
	local row
	while read -r row; do
		if [[ $reason == cannot:* ]]; then
			report "$guest" "${row_names[row]}" skipped "$reason"
		else
			report "$guest" "${row_names[row]}" failed "$reason"
		fi
	done <<<"$rows"
}
