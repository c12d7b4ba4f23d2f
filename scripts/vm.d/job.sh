# shellcheck shell=bash
# Makes the disk of one job, resumes a guest with it, and follows the job to its end.

# stage_job DIR lays out the disk: the files at the top, what the guest's side needs in .vm.
stage_job() {
	local stage=$1 file name
	mkdir -p "$stage/.vm"
	for file in ${job_files[@]+"${job_files[@]}"}; do
		[[ -e $file ]] || broken "cannot read $file"
		name=$(basename "$file")
		[[ ! -e $stage/$name ]] || broken "two files are called $name"
		cp -a --reflink=auto -- "$file" "$stage/$name"
	done
	chmod -R a+rX -- "$stage"
	cp "$here/guest/job" "$stage/.vm/job"
	write_command >"$stage/.vm/command"
	[[ -z $job_setup ]] || printf '%s\n' "$job_setup" >"$stage/.vm/setup"
	[[ -z $job_stdin ]] || cat >"$stage/.vm/stdin"
	head -c 64 /dev/urandom >"$stage/.vm/seed"
	chmod -R a+rX "$stage/.vm"
}

# The command is a script, so that every kind of session takes it as it is. Files of the job are on its path, last.
write_command() {
	local variable
	echo 'PATH=$PATH:/job'
	for variable in ${job_env[@]+"${job_env[@]}"}; do
		printf 'export %s=%q\n' "${variable%%=*}" "${variable#*=}"
	done
	[[ -z $job_stdin ]] || echo 'exec </job/.vm/stdin'
	((${#job_command[@]} == 0)) || printf 'exec %s\n' "$(printf '%q ' "${job_command[@]}")"
}

write_settings() {
	local rows=0 columns=0
	if ((job_terminal)); then
		read -r rows columns < <(stty size)
	fi
	printf '%s=%q\n' user "$job_user" session "$job_session" rows "$rows" columns "$columns" clock "$(date +%s.%N)" end "$end_mark"
}

# A disk of the size that the saved state knows. The label tells the guest that a job is there.
make_job_disk() {
	write_settings >"$1/.vm/settings"
	chmod a+r "$1/.vm/settings"
	make_disk "$1" "$2" sbx-job
}

make_disk() {
	truncate -s "${job_disk_mb}M" "$2"
	mke2fs -q -F -t ext4 -O '^has_journal' -E lazy_itable_init=1 -m 0 -N 4096 -L "$3" -d "$1" "$2" ||
		broken "the files of the job do not fit ($job_disk_mb MB)"
}

# The longest that a resumed guest may take to say that it is there. Alone it takes a second.
readonly wake_limit=90

# run_job NAME runs the job that the job_* variables describe and sets $job_status to its exit status. A guest that
# does not wake up is booted anew, once; after that nothing is repeated, since the command may have begun.
run_job() {
	need_guest "$1"
	need_snapshot
	if ((job_fresh)); then
		drop_snapshot
		need_snapshot
	fi
	mkdir "$scratch_dir/stage"
	stage_job "$scratch_dir/stage"
	attempt_job
	if [[ -z $job_status ]] && ! ((awake)); then
		say "the guest does not wake up ($line): it is booted once more"
		drop_snapshot
		need_snapshot
		attempt_job
	fi
	[[ -n $job_status ]] || broken "the guest failed ($line): this says nothing about the command"
}

attempt_job() {
	rm -f "$scratch_dir/job.img"
	make_job_disk "$scratch_dir/stage" "$scratch_dir/job.img"
	resume
	follow
}

# wake_watch ends a guest that does not wake up; its process is the one that is killed when the guest does.
wake_watch() {
	# shellcheck disable=SC2016 # the dollars are perl's
	setpriv --pdeathsig KILL perl -e 'sleep shift; kill TERM => shift' "$wake_limit" "$qemu_pid" &
	wake_pid=$!
}

end_wake_watch() {
	[[ -n $wake_pid ]] || return 0
	kill "$wake_pid" 2>/dev/null || true
	wait "$wake_pid" || true
	wake_pid=
}

# snapshot=on: what the guest writes goes to a nameless file and is gone with qemu.
resume() {
	local terminal=null
	if ((job_terminal)); then
		terminal=stdio,signal=off
		saved_terminal=$(stty -g)
	fi
	qemu_arguments "$snapshot/ram" off "$job_boot" "$terminal"
	start_qemu "$job_limit" \
		-drive "file=$snapshot/disk.qcow2,if=virtio,format=qcow2,cache=unsafe,snapshot=on" \
		-drive "file=$scratch_dir/job.img,if=virtio,format=raw,readonly=on" \
		-incoming defer
	cat >&"$monitor" <<-END
		migrate_set_capability x-ignore-shared on
		migrate_incoming "exec:cat $snapshot/state"
	END
}

# follow sets $job_status, which stays empty when the guest failed; $awake says whether it had begun with the job.
follow() {
	local started=0
	job_status='' awake=0
	wake_watch
	while next_line; do
		case $line in
		awake)
			awake=1
			end_wake_watch
			;;
		started) started=1 ;;
		exit\ *)
			job_status=${line#exit }
			drain || broken "the output of the command is not complete"
			break
			;;
		note:\ *) say "${line#note: }" ;;
		broken:\ *) broken "${line#broken: }" ;;
		esac
	done
	end_wake_watch
	stop_qemu
	[[ -z $job_status ]] || return 0
	show_logs
	if [[ $line == timeout ]] && ((started)); then
		say "the command did not end within $job_limit s"
		job_status=$exit_timeout
	fi
}
