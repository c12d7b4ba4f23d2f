# shellcheck shell=bash
# Boots a guest once and saves its state when its user manager is up; later jobs resume from there.

# Emulated boots take 15-30 s alone, and ten times as long on a machine that is that busy.
readonly boot_limit=600

# drop_snapshot removes the saved state, so that need_snapshot boots the guest anew. Another job that was about to
# resume it does not come up, and is given a second try.
drop_snapshot() {
	rm -rf --one-file-system "$snapshot"
}

# need_snapshot sets $snapshot to the folder with the saved state of $guest that the job_* variables ask for.
need_snapshot() {
	local lock start=$SECONDS
	need_host_tools
	accel=$(qemu_accel)
	snapshot=$guest/state-$(snapshot_key "$accel")
	if [[ -e $snapshot/facts ]]; then
		touch "$snapshot/facts"
		return
	fi
	exec {lock}>"$guest/lock"
	flock "$lock"
	if [[ ! -e $snapshot/facts ]]; then
		say "booting $(basename "$guest") (${accel}${job_boot:+, $job_boot})"
		drop_snapshot
		boot_and_save "$scratch_dir/state"
		if [[ $line != ready ]]; then
			show_logs
			say "the guest did not come up ($line): it is booted once more"
			boot_and_save "$scratch_dir/state"
		fi
		[[ $line == ready ]] || { show_logs; broken "the guest did not come up ($line), twice"; }
		remove_prepared
		mv "$scratch_dir/state" "$snapshot"
		say "saved the state of $(basename "$guest") after $((SECONDS - start)) s"
	fi
	exec {lock}>&-
}

# remove_prepared removes the prepared states that were not used for two hours: each build of sbx makes new ones.
remove_prepared() {
	local dir
	for dir in "$guest"/state-*/; do
		[[ -e $dir/prepared && -n $(find "$dir/facts" -mmin +120) ]] || continue
		rm -rf --one-file-system "$dir"
	done
}

# boot_and_save DIR leaves in $line "ready", or how the guest ended before. The memory is a file (ram) that qemu shares,
# so the state proper is only that of the devices, and a job maps the file privately instead of reading it.
boot_and_save() {
	local dir=$1
	rm -rf --one-file-system "$dir"
	mkdir "$dir"
	qemu-img create -q -f qcow2 -F raw -b "$guest/root.img" "$dir/disk.qcow2"
	make_first_disk "$scratch_dir/first.img"
	qemu_arguments "$dir/ram" on "$job_boot" null
	start_qemu "$boot_limit" \
		-drive "file=$dir/disk.qcow2,if=virtio,format=qcow2,cache=unsafe,discard=unmap" \
		-drive "file=$scratch_dir/first.img,if=virtio,format=raw,readonly=on" </dev/null
	wait_until_ready "$dir/facts.new"
	if [[ $line != ready ]]; then
		stop_qemu
		return
	fi
	save_state "$dir/state"
	[[ -z $job_prepared ]] || : >"$dir/prepared"
	mv "$dir/facts.new" "$dir/facts"
}

# make_first_disk IMAGE makes the second disk of a boot: empty, or what the guest is to be prepared with.
make_first_disk() {
	rm -rf --one-file-system "$1" "$scratch_dir/first"
	if [[ -z $job_prepared ]]; then
		truncate -s "${job_disk_mb}M" "$1"
		return
	fi
	mkdir -p "$scratch_dir/first/.vm"
	cp -a --reflink=auto -- "$job_prepared/." "$scratch_dir/first"
	echo 'PATH=$PATH:/job; . /job/prepare' >"$scratch_dir/first/.vm/command"
	cp "$here/guest/job" "$scratch_dir/first/.vm/job"
	head -c 64 /dev/urandom >"$scratch_dir/first/.vm/seed"
	chmod -R a+rX "$scratch_dir/first"
	printf 'user=user session=scope kind=prepare clock=%s\n' "$(date +%s.%N)" >"$scratch_dir/first/.vm/settings"
	make_disk "$scratch_dir/first" "$1" sbx-prepare
}

# wait_until_ready FILE
wait_until_ready() {
	: >"$1"
	while next_line; do
		case $line in
		fact\ *) echo "${line#fact }" >>"$1" ;;
		prepared\ 0) ;;
		prepared\ *) return ;;
		ready) return ;;
		esac
	done
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
