# shellcheck shell=bash
# Starts, watches and ends one qemu. The devices are the same when a state is saved and when it is resumed.

# qemu_accel prints kvm where it works for real, else tcg: a /dev/kvm that can be opened need not be able to run.
qemu_accel() {
	if [[ -n ${SBX_VM_ACCEL-} ]]; then
		echo "$SBX_VM_ACCEL"
	elif grep -qwE 'vmx|svm' /proc/cpuinfo && [[ -w /dev/kvm ]] &&
		timeout 10 qemu-system-x86_64 -nodefaults -display none -M q35,accel=kvm -cpu host -m 64 \
			-S -monitor stdio <<<quit >/dev/null 2>&1; then
		echo kvm
	else
		echo tcg
	fi
}

# Five-level page tables are a fifth more walking in an emulator.
accel_arguments() {
	case $1 in
	kvm) printf '%s\n' -accel kvm -cpu host,migratable=on ;;
	tcg) printf '%s\n' -accel tcg,thread=multi,tb-size=256 -cpu max,la57=off ;;
	*) broken "no accelerator is called $1" ;;
	esac
}

# kernel_arguments EXTRA. The clock: an emulated acpi timer costs a device access per call, the TSC is cheap, and
# the kernel's doubts about it come from the emulator's pauses.
kernel_arguments() {
	echo "root=/dev/vda rw quiet panic=-1 console=ttyS0 systemd.show_status=no systemd.getty_auto=no" \
		"mitigations=off tsc=reliable clocksource=tsc no_timer_check random.trust_cpu=on $1"
}

# snapshot_key ACCEL names the saved state: it fits this qemu, this way of running, this command line, and what the
# guest was prepared with.
snapshot_key() {
	{
		qemu-system-x86_64 --version | head -n 1
		accel_arguments "$1"
		kernel_arguments "$job_boot"
		[[ -z $job_prepared ]] || (cd "$job_prepared" && find . -type f -exec sha256sum {} + | sort)
		declare -f qemu_arguments
		echo "$memory_mb $job_disk_mb"
	} | sha256sum | cut -c1-12
}

# open_ports makes the FIFOs for the ports of a guest (out, err and ctl) and for qemu's monitor (mon.in, mon.out) in
# $scratch_dir, and starts those who pass on what the guest prints.
open_ports() {
	rm -f "$scratch_dir"/{out,err,ctl,mon.in,mon.out}
	mkfifo "$scratch_dir"/{out,err,ctl,mon.in,mon.out}
	pass_on <"$scratch_dir/out" &
	out_pid=$!
	pass_on <"$scratch_dir/err" >&2 &
	err_pid=$!
}

# pass_on copies standard input up to the mark, which is $end_mark after a NUL. Exit status: 0 after the mark, 3 at an
# end of file without one. What may be the mark's beginning is held back until more has come.
pass_on() {
	# shellcheck disable=SC2016 # the dollars are perl's
	exec perl -e '
		my ($end, $held) = ("\0" . shift, "");
		$| = 1;
		while (sysread STDIN, my $part, 65536) {
			$held .= $part;
			my $ready = index $held, $end;
			my $complete = $ready >= 0;
			if (!$complete) {
				my $nul = rindex $held, "\0";
				$ready = $nul >= 0 && index($end, substr $held, $nul) == 0 ? $nul : length $held;
			}
			print substr($held, 0, $ready, "") or exit 4;
			exit 0 if $complete;
		}
		print $held;
		exit 3;' "$end_mark"
}

# qemu_arguments MEMORY SHARE EXTRA TERMINAL fills $arguments: MEMORY is the file with the guest's memory, EXTRA are
# kernel arguments, TERMINAL is a chardev for hvc0.
qemu_arguments() {
	# shellcheck disable=SC2154 # need_snapshot sets $accel
	mapfile -t arguments < <(accel_arguments "$accel")
	arguments+=(
		-M q35 -smp 2 -m "$memory_mb" -nodefaults -no-user-config -display none -no-reboot -nic none
		-object "memory-backend-file,id=ram,mem-path=$1,size=${memory_mb}M,share=$2" -machine memory-backend=ram
		-kernel "$guest/kernel" -initrd "$guest/initrd" -append "$(kernel_arguments "$3")"
		-chardev "file,id=log,path=$scratch_dir/console.log" -serial chardev:log
		-device virtio-serial-pci
		-chardev "$4,id=tty" -device virtconsole,chardev=tty,nr=0
		-chardev "file,id=out,path=$scratch_dir/out" -device virtserialport,chardev=out,nr=1,name=out
		-chardev "file,id=err,path=$scratch_dir/err" -device virtserialport,chardev=err,nr=2,name=err
		-chardev "file,id=ctl,path=$scratch_dir/ctl" -device virtserialport,chardev=ctl,nr=3,name=ctl
		-chardev "pipe,id=mon,path=$scratch_dir/mon" -mon chardev=mon,mode=readline
	)
}

# start_qemu LIMIT ARGUMENT… starts qemu with $arguments and these, sets $qemu_pid to what ends it, after LIMIT seconds
# by itself, and opens its monitor as $monitor. setpriv: should this script be killed, all that it started goes with it.
start_qemu() {
	local limit=$1 keep
	shift
	open_ports
	# Only qemu's side keeps the control port open for writing, from its start on: the end of file is the end of qemu.
	exec {keep}<>"$scratch_dir/ctl" {ctl}<"$scratch_dir/ctl"
	TMPDIR=$scratch_dir setpriv --pdeathsig KILL timeout --foreground -k 5 "$limit" \
		setpriv --pdeathsig KILL qemu-system-x86_64 "${arguments[@]}" "$@" <&0 2>"$scratch_dir/qemu.log" &
	qemu_pid=$!
	exec {keep}>&-
	exec {monitor}<>"$scratch_dir/mon.in"
}

# stop_qemu ends qemu, if it runs still, and lets the readers of the ports finish: they see the end of file, once
# somebody has opened the ports for writing, which a qemu that failed early did not.
stop_qemu() {
	kill_qemu
	: <>"$scratch_dir/out" <>"$scratch_dir/err"
	drain || true
	exec {ctl}>&- {monitor}>&-
}

# drain waits until all output has been passed on; false when some of it is missing, other than for a reader of this
# script's own output that has gone.
drain() {
	local pid status whole=0
	for pid in $out_pid $err_pid; do
		status=0
		wait "$pid" || status=$?
		((status == 0 || status == 141)) || whole=1
	done
	out_pid='' err_pid=''
	return "$whole"
}

# timeout(1) passes the signal on, and sends a KILL when that does not help.
kill_qemu() {
	[[ -n $qemu_pid ]] || return 0
	kill "$qemu_pid" || true
	wait "$qemu_pid" || true
	qemu_pid=
}

# abort_qemu is for the end of the script, which is not to wait for whoever reads its output.
abort_qemu() {
	local pid
	kill_qemu
	for pid in $out_pid $err_pid; do
		kill "$pid" 2>/dev/null || true
	done
}

# next_line reads a line of the control port into $line. When qemu has ended it is false, and $line is "gone", or
# "timeout" if that was the reason. A read with a time-out of its own would be simpler, and lose a line now and then.
next_line() {
	local status=0
	IFS= read -r -u "$ctl" line && return 0
	wait "$qemu_pid" || status=$?
	qemu_pid=
	line=gone
	((status != 124 && status != 137)) || line=timeout
	return 1
}

# What is known of a guest that failed.
show_logs() {
	local file
	for file in "$scratch_dir/qemu.log" "$scratch_dir/console.log"; do
		[[ -s $file ]] || continue
		say "the end of $(basename "$file"):"
		tail -n 25 "$file" | sed 's/^/    /' >&2
	done
}
