# shellcheck shell=bash
# Comes before the command of each row, in the guest, as the user.

# walled OPTION… runs a program that says whether it can see the host, whose /job holds the row.
walled() {
	# shellcheck disable=SC2016 # for the shell inside
	sbx run "$@" sh -c 'if [ -e /job ] || [ "$$" -gt 50 ]; then echo UNWALLED; else echo "walled off"; fi'
}

# place COMMAND… starts a sandbox by way of the command and says where in the tree its limits are.
place() {
	local leaf='' wrapped
	"$@" sbx run -q -m 64m sleep 30 &
	wrapped=$!
	for _ in {1..250}; do
		leaf=$(find /sys/fs/cgroup -type d -name 'sbx-*' ! -name '*.scope' 2>/dev/null | head -n 1)
		[[ -z $leaf || -z $(cat "$leaf/box/cgroup.procs" 2>/dev/null) ]] || break
		sleep 0.1
	done
	echo "place: /$(basename "$(dirname "$leaf")"), memory.max $(cat "$leaf/memory.max")"
	pkill -x sleep
	wait "$wrapped"
	return 0
}
