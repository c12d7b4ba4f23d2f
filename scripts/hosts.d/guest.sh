# shellcheck shell=bash
# Comes before the command of each row, in the guest, as the user.

# walled OPTION… runs a program that says whether it can see the host, whose /job holds the row.
walled() {
	# shellcheck disable=SC2016 # for the shell inside
	sbx run "$@" sh -c 'if [ -e /job ] || [ "$$" -gt 50 ]; then echo UNWALLED; else echo "walled off"; fi'
}

# place COMMAND… starts a sandbox by way of the command and says where in the tree its limits are.
place() {
	local leaf='' wrapped limit=
	"$@" sbx run -q -m 64m sleep 1000 &
	wrapped=$!
	while [[ -z $limit ]] && kill -0 "$wrapped" 2>/dev/null; do
		sleep 0.1
		leaf=$(find /sys/fs/cgroup -type d -name 'sbx-*' ! -name '*.scope' 2>/dev/null | head -n 1)
		[[ -z $leaf || -z $(cat "$leaf/box/cgroup.procs" 2>/dev/null) ]] || limit=$(cat "$leaf/memory.max")
	done
	echo "place: /$(basename "$(dirname "$leaf")"), memory.max $limit"
	while kill -0 "$wrapped" 2>/dev/null; do
		pkill -x sleep # which may not have begun
		sleep 0.1
	done
	wait "$wrapped"
	return 0
}
