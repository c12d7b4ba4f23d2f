# shellcheck shell=bash
# Where guests lie, and that they are built when they are needed: each in a folder named by the recipe's hash.

# Everything that decides how a guest looks; a job's script is not among it, since it comes with the job.
recipe_files() {
	local part
	for part in packages masked-units setup init agent agent.service; do
		echo "$here/guest/$part"
	done
	echo "$here/vm.d/build.sh"
}

guest_dir() {
	local files
	mapfile -t files < <(recipe_files)
	echo "$cache/guests/$1-$(hash_of "${files[@]}")"
}

# remove_superseded GUEST removes what older recipes made, unless it was used within a day: it may be another tree's.
remove_superseded() {
	find "$cache/guests" -mindepth 1 -maxdepth 1 -type d -name "$1-*" ! -path "$guest" -mmin +1440 \
		-exec rm -rf --one-file-system {} +
}

# need_guest GUEST sets $guest to its folder, built when it was not there. Of two callers the second one waits.
need_guest() {
	local name=$1 lock start=$SECONDS
	guest=$(guest_dir "$name")
	if [[ -e $guest/root.img ]]; then
		touch "$guest"
		return
	fi
	need_host_tools
	mkdir -p "$cache/guests"
	exec {lock}>"$cache/guests/$name.lock"
	flock "$lock"
	if [[ ! -e $guest/root.img ]]; then
		need_space "$cache"
		say "building $name"
		rm -rf --one-file-system "$scratch_dir/guest" "$guest"
		mkdir "$scratch_dir/guest"
		make_guest "$name" "$scratch_dir/guest"
		rm -rf --one-file-system "$scratch_dir/tree" "$scratch_dir/tree.tar"
		mv "$scratch_dir/guest" "$guest"
		remove_superseded "$name"
		say "built $name in $((SECONDS - start)) s"
	fi
	exec {lock}>&-
}
