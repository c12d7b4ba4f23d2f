# shellcheck shell=bash
# Comes before the command of each row, in the guest, as the user.

# walled OPTION… runs a program that says whether it can see the host, whose /job holds the row.
walled() {
	# shellcheck disable=SC2016 # for the shell inside
	sbx run "$@" sh -c 'if [ -e /job ] || [ "$$" -gt 50 ]; then echo UNWALLED; else echo "walled off"; fi'
}
