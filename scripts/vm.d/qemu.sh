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

# snapshot_key ACCEL EXTRA names the saved state: it fits this qemu, this way of running, this command line only.
snapshot_key() {
	{
		qemu-system-x86_64 --version | head -n 1
		accel_arguments "$1"
		kernel_arguments "$2"
		declare -f start_qemu
		echo "$memory_mb $job_disk_mb"
	} | sha256sum | cut -c1-12
}

# start_qemu DIR ACCEL EXTRA TERMINAL ARGUMENT… starts qemu with its ports on the FIFOs out, err and ctl in DIR, and
# sets $qemu_pid; its monitor is on mon.in and mon.out. TERMINAL is a chardev for hvc0. setpriv: should this script be killed, qemu goes with it.
start_qemu() {
	local dir=$1 accel=$2 extra=$3 terminal=$4 arguments
	shift 4
	mapfile -t arguments < <(accel_arguments "$accel")
	arguments+=(
		-M q35 -smp 2 -m "$memory_mb" -nodefaults -no-user-config -display none -no-reboot -nic none
		-object "memory-backend-file,id=ram,mem-path=$dir/ram,size=${memory_mb}M,share=$ram_share" -machine memory-backend=ram
		-kernel "$guest/kernel" -initrd "$guest/initrd" -append "$(kernel_arguments "$extra")"
		-chardev "file,id=log,path=$dir/console.log" -serial chardev:log
		-device virtio-serial-pci
		-chardev "$terminal,id=tty" -device virtconsole,chardev=tty,nr=0
		-chardev "file,id=out,path=$dir/out" -device virtserialport,chardev=out,nr=1,name=out
		-chardev "file,id=err,path=$dir/err" -device virtserialport,chardev=err,nr=2,name=err
		-chardev "file,id=ctl,path=$dir/ctl" -device virtserialport,chardev=ctl,nr=3,name=ctl
		-chardev "pipe,id=mon,path=$dir/mon" -mon chardev=mon,mode=readline
	)
	mkfifo "$dir"/{out,err,ctl,mon.in,mon.out}
	cat <"$dir/out" &
	out_pid=$!
	cat <"$dir/err" >&2 &
	err_pid=$!
	# Read and write, so that neither side waits for the other to open it.
	exec {ctl}<>"$dir/ctl"
	TMPDIR=$dir setpriv --pdeathsig KILL qemu-system-x86_64 "${arguments[@]}" "$@" <&0 2>"$dir/qemu.log" &
	qemu_pid=$!
}

# The readers of the ports see the end of file when qemu has gone, unless it went before it had opened them.
stop_qemu() {
	local tries=40
	kill "$qemu_pid" 2>/dev/null || true
	while kill -0 "$qemu_pid" 2>/dev/null && ((tries-- > 0)); do
		sleep 0.05
	done
	kill -KILL "$qemu_pid" 2>/dev/null || true
	wait "$qemu_pid" 2>/dev/null || true
	qemu_pid=
	tries=40
	while ((tries-- > 0)) && { kill -0 "$out_pid" || kill -0 "$err_pid"; } 2>/dev/null; do
		sleep 0.05
	done
	kill "$out_pid" "$err_pid" 2>/dev/null || true
	exec {ctl}>&-
}

# next_line DEADLINE reads a line of the control port into $line; false when the deadline (in seconds of this
# script's life) is reached, or when qemu has ended, and $line is then "timeout" or "gone".
next_line() {
	while true; do
		if IFS= read -r -t 0.5 -u "$ctl" line; then
			return 0
		fi
		if ! kill -0 "$qemu_pid" 2>/dev/null; then
			# The last words may have come in between.
			IFS= read -r -t 0.01 -u "$ctl" line && return 0
			line=gone
			return 1
		fi
		if ((SECONDS >= $1)); then
			line=timeout
			return 1
		fi
	done
}

# What is known of a guest that failed.
show_logs() {
	local file
	for file in "$1/qemu.log" "$1/console.log"; do
		[[ -s $file ]] || continue
		say "the end of $(basename "$file"):"
		tail -n 25 "$file" | sed 's/^/    /' >&2
	done
}
