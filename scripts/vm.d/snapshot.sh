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
	truncate -s "${job_disk_mb}M" "$dir/no-job.img"
	ram_share=on
	start_qemu "$dir" "$accel" "$extra" null \
		-drive "file=$dir/disk.qcow2,if=virtio,format=qcow2,cache=unsafe,discard=unmap" \
		-drive "file=$dir/no-job.img,if=virtio,format=raw,readonly=on" </dev/null
	wait_until_ready "$dir"
	save_state "$dir"
}

wait_until_ready() {
	local dir=$1
	while next_line "$boot_limit"; do
		case $line in
		fact\ *) echo "${line#fact }" >>"$dir/facts.new" ;;
		ready) return 0 ;;
		esac
	done
	show_logs "$dir"
	broken "the guest did not come up ($line)"
}

# The guest runs on while its state is saved: one that was stopped before would be resumed stopped.
save_state() {
	local dir=$1 reader
	cat "$dir/mon.out" >"$dir/mon.log" &
	reader=$!
	cat >"$dir/mon.in" <<-END
		migrate_set_capability x-ignore-shared on
		migrate_set_parameter max-bandwidth 100g
		migrate "exec:cat >$dir/state"
		info migrate
		quit
	END
	wait "$qemu_pid" || { show_logs "$dir"; broken "qemu failed while it saved the state"; }
	wait "$reader"
	grep -q 'Migration status: completed' "$dir/mon.log" || {
		tail -n 5 "$dir/mon.log" >&2
		broken "the state was not saved"
	}
	stop_qemu
	rm -f "$dir"/{out,err,ctl,mon.in,mon.out,mon.log,no-job.img,qemu.log}
	mv "$dir/facts.new" "$dir/facts"
}
