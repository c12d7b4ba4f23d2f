# shellcheck shell=bash
# What all parts of vm share: where things lie, messages, the tools of the host.

# A failure of the machinery, not of the command in the guest.
readonly exit_broken=125
# The time limit of a job was reached; the number that timeout(1) uses.
readonly exit_timeout=124

readonly all_guests=(11 12 13 testing)
readonly memory_mb=1536
readonly disk_gb=6
# A saved state fits only a disk of the same size, so that of the job's disk is fixed; both files are sparse.
readonly job_disk_mb=768

cache=${SBX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sbx-ci}

say() {
	printf 'vm: %s\n' "$*" >&2
}

broken() {
	say "$*"
	exit "$exit_broken"
}

# tries NUMBER COMMAND… repeats a command that the network may have spoilt, after a growing pause. The command is
# no function that relies on errexit, which does not hold in here.
tries() {
	local most=$1 try
	shift
	for ((try = 1; ; try++)); do
		"$@" && return
		((try < most)) || return 1
		say "try $try of $most failed: $1"
		sleep $((try * 5))
	done
}

# suite GUEST prints the name that the mirror knows.
suite() {
	case $1 in
	11) echo bullseye ;;
	12) echo bookworm ;;
	13) echo trixie ;;
	*) echo "$1" ;;
	esac
}

# hash_of FILE… prints 12 hexadecimal digits of their contents.
hash_of() {
	cat -- "$@" | sha256sum | cut -c1-12
}

# The tools of the host and the Debian package of each.
readonly host_tools=(
	qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap mke2fs:e2fsprogs
	busybox:busybox-static modprobe:kmod cpio:cpio flock:util-linux xz:xz-utils zstd:zstd perl:perl-base
)

missing_packages() {
	local entry
	for entry in "${host_tools[@]}"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${entry%%:*}" >/dev/null || echo "${entry##*:}"
	done
	((EUID == 0)) || command -v fakeroot >/dev/null || echo fakeroot
}

# Root on Debian or Ubuntu gets what is missing; others are told.
need_host_tools() {
	local packages
	mapfile -t packages < <(missing_packages)
	PATH=$PATH:/usr/sbin:/sbin
	((${#packages[@]} > 0)) || return 0
	if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
		broken "this host lacks packages: apt-get install ${packages[*]}"
	fi
	say "installing ${packages[*]}"
	tries 3 install_packages "${packages[@]}" && return
	! network_trouble "$scratch_dir/install.log" || broken "cannot download ${packages[*]}"
	broken "cannot install ${packages[*]}"
}

install_packages() {
	local status=0
	{
		timeout --foreground -k 10 300 apt-get update -qq &&
			DEBIAN_FRONTEND=noninteractive timeout --foreground -k 10 600 \
				apt-get install -y -qq --no-install-recommends "$@"
	} </dev/null >"$scratch_dir/install.log" 2>&1 || status=$?
	((status == 0)) || tail -n 20 "$scratch_dir/install.log" >&2
	return "$status"
}

# network_trouble FILE: apt's words for an archive that is out of reach, busy or being renewed. Who calls vm can tell
# such a failure, "cannot download", from all others.
network_trouble() {
	grep -qE 'Failed to fetch|Unable to fetch|Could not (resolve|connect|handshake)|Temporary failure resolving|Connection (failed|timed out|reset)|Unable to connect|unreachable|Hash Sum mismatch|unexpected size|Mirror sync|Timeout was reached' "$1"
}

# need_space DIR: a guest takes about half a gigabyte, and while it is built its tree and disk beside each other.
need_space() {
	local free
	free=$(df --output=avail -m "$1" | tail -n 1)
	((free >= 2048)) || broken "$1 has $free MB free, and a guest needs 2048: make room, or set SBX_CACHE to another folder"
}

# scratch NAME makes a folder for one piece of work, locked so that sweep can tell the living from the dead,
# and sets $scratch_dir to it. It goes when the script ends, or in the next sweep when the script was killed.
scratch() {
	mkdir -p "$cache/work"
	sweep
	scratch_dir=$(mktemp -d "$cache/work/$1.XXXXXX")
	qemu_pid='' out_pid='' err_pid='' wake_pid=''
	end_mark=end-$(head -c 12 /dev/urandom | od -An -v -tx1 | tr -d ' ')
	exec {scratch_lock}>"$scratch_dir/new-lock"
	flock "$scratch_lock"
	mv "$scratch_dir/new-lock" "$scratch_dir/lock"
	trap 'end_scratch' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

end_scratch() {
	end_wake_watch
	abort_qemu
	[[ -z ${saved_terminal-} ]] || stty "$saved_terminal"
	rm -rf --one-file-system "$scratch_dir"
}

# sweep removes the folders whose script was killed. The lock is tried from a file that may be gone by then.
sweep() {
	local dir
	for dir in "$cache"/work/*/; do
		[[ -e $dir/lock ]] || continue
		if flock --nonblock "$dir/lock" true 2>/dev/null; then
			rm -rf --one-file-system "$dir"
		fi
	done
}
