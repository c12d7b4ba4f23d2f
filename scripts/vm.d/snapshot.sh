# shellcheck shell=bash
# Boots a guest once and saves its state when its user manager is up; later jobs resume from there.

# Emulated boots take 25-65 s alone; several may share two cores.
readonly boot_limit=600

# need_snapshot EXTRA sets $snapshot to the folder with the saved state of $guest for a kernel command line.
need_snapshot() {
	local extra=$1 lock start=$SECONDS
	need_host_tools
	accel=$(qemu_accel)
	snapshot=$guest/state-$(snapshot_key "$accel" "$extra")
	[[ -e $snapshot/facts ]] && return
	exec {lock}>"$guest/lock"
	flock "$lock"
	if [[ ! -e $snapshot/facts ]]; then
		say "booting $(basename "$guest") (${accel}${extra:+, $extra})"
		rm -rf --one-file-system "$snapshot"
		mkdir "$scratch_dir/state"
		boot_and_save "$scratch_dir/state" "$extra"
		mv "$scratch_dir/state" "$snapshot"
		say "saved the state of $(basename "$guest") after $((SECONDS - start)) s"
	fi
	exec {lock}>&-
}

# boot_and_save DIR EXTRA. The memory is a file (ram) that qemu shares, so the state proper is only that of the
# devices, and a job maps the file privately instead of reading it.
boot_and_save() {
	local dir=$1 extra=$2
	qemu-img create -q -f qcow2 -F raw -b "$guest/root.img" "$dir/disk.qcow2"
	truncate -s "${job_disk_mb}M" "$scratch_dir/no-job.img"
	qemu_arguments "$dir/ram" on "$extra" null
	start_qemu "$boot_limit" \
		-drive "file=$dir/disk.qcow2,if=virtio,format=qcow2,cache=unsafe,discard=unmap" \
		-drive "file=$scratch_dir/no-job.img,if=virtio,format=raw,readonly=on" </dev/null
	wait_until_ready "$dir/facts.new"
	save_state "$dir/state"
	mv "$dir/facts.new" "$dir/facts"
}

wait_until_ready() {
	while next_line; do
		case $line in
		fact\ *) echo "${line#fact }" >>"$1" ;;
		ready) return 0 ;;
		esac
	done
	show_logs
	broken "the guest did not come up ($line)"
}

# The guest runs on while its state is saved: one that was stopped before would be resumed stopped.
save_state() {
	local reader
	cat "$scratch_dir/mon.out" >"$scratch_dir/mon.log" &
	reader=$!
	cat >&"$monitor" <<-END
		migrate_set_capability x-ignore-shared on
		migrate_set_parameter max-bandwidth 100g
		migrate "exec:cat >$1"
		info migrate
		quit
	END
	wait "$qemu_pid" || true
	qemu_pid=
	stop_qemu
	: <>"$scratch_dir/mon.out"
	wait "$reader"
	grep -q 'Migration status: completed' "$scratch_dir/mon.log" || {
		show_logs
		tail -n 5 "$scratch_dir/mon.log" >&2
		broken "the state was not saved"
	}
}
