# shellcheck shell=bash
# Makes what a guest boots from: a root disk, a kernel and an initrd. This file is part of the recipe: a change
# here builds every guest anew.

# The Debian archive that apt's lists name, if any.
archive_of_apt() {
	# shellcheck disable=SC2016 # the dollars are apt's
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "Debian" && $3 == "Debian" && !n++ { print $1 }'
}

# The Debian mirror that this host's apt knows; nothing on a host that is no Debian, where mmdebstrap's own is taken.
debian_mirror() {
	local found
	command -v apt-get >/dev/null || return 0
	found=$(archive_of_apt)
	if [[ -z $found ]] && ((EUID == 0)); then
		apt-get update -qq >&2 || true
		found=$(archive_of_apt)
	fi
	echo "$found"
}

package_list() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/guest/packages" | paste -sd,
}

# The installer of Debian 11 merged /bin and /usr/bin already, its packages do not; mmdebstrap hands over the tree.
# shellcheck disable=SC2016 # the dollars are for mmdebstrap's shell
readonly merged_usr='for dir in bin sbin lib lib32 lib64 libx32; do
	mkdir -p "$1/usr/$dir" && ln -s "usr/$dir" "$1/$dir"
done'

# The release files of testing expire within a week, and mirrors may be older: the signatures still hold, so only
# the date is not looked at. INITRD=No: the guest's own initrd is a hundred times smaller than Debian's.
# Only the main archive is used: it has whole sets of packages, the security archive of an old release has not.
make_tree() {
	local guest=$1 mirror
	mirror=${SBX_VM_MIRROR:-$(debian_mirror)}
	tries 3 bootstrap "$mirror" "$@" && return
	! network_trouble "$scratch_dir/bootstrap.log" ||
		broken "cannot download Debian $guest: does ${mirror:-the mirror} have $(suite "$guest")? SBX_VM_MIRROR names another"
	broken "cannot make the tree of Debian $guest"
}

# bootstrap MIRROR GUEST TARGET ARGUMENT… What mmdebstrap mounts and starts as root is in namespaces that end with it,
# also when it is killed for being late.
bootstrap() {
	local guest=$2 target=$3 apart=()
	((EUID != 0)) || apart=(unshare --mount --pid --mount-proc --fork --kill-child)
	# shellcheck disable=SC2206 # no mirror is no argument
	local where=($1)
	shift 3
	[[ $guest != 11 ]] || set -- --setup-hook="$merged_usr" "$@"
	rm -rf --one-file-system "$target"
	local status=0
	env -u TMPDIR INITRD=No nice timeout --foreground -k 30 1800 ${apart[@]+"${apart[@]}"} mmdebstrap --quiet --variant=minbase \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='Acquire::Retries "3"' \
		--aptopt='Acquire::http::Timeout "30"' \
		--dpkgopt='force-unsafe-io' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/lib/cni/*' \
		--include="$(package_list)" \
		--customize-hook="$here/guest/setup" \
		"$@" "$(suite "$guest")" "$target" "${where[@]}" </dev/null >"$scratch_dir/bootstrap.log" 2>&1 || status=$?
	((status != 124)) || echo "Timeout was reached" >>"$scratch_dir/bootstrap.log"
	cat "$scratch_dir/bootstrap.log" >&2
	return "$status"
}

# make_root_disk TREE IMAGE. Without a journal, which nothing would ever replay.
make_root_disk() {
	truncate -s "${disk_gb}G" "$2"
	mke2fs -q -F -t ext4 -O '^has_journal' -E lazy_itable_init=1 -L guest-root -d "$1" "$2"
}

kernel_version() {
	basename "$(echo "$1"/boot/vmlinuz-* | tr ' ' '\n' | tail -n 1)" | sed 's/^vmlinuz-//'
}

# The files of modules in the order in which they are to be loaded; what is built in is no file.
module_files() {
	local tree=$1 version=$2 module
	for module in virtio_pci virtio_blk virtio_console crc32c_generic crc32c_intel ext4; do
		modprobe --dirname "$tree" --set-version "$version" --ignore-install --show-depends "$module" 2>/dev/null || true
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}

unpack_module() {
	case $1 in
	*.xz) xz -dc "$1" >"$2" ;;
	*.zst) zstd -qdc "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

make_initrd() {
	local tree=$1 version=$2 out=$3 root file name
	root=$(mktemp -d "$scratch_dir/initrd.XXXXXX")
	mkdir -p "$root"/{bin,lib,proc,sys,dev,root}
	cp "$(command -v busybox)" "$root/bin/busybox"
	install -m 0755 "$here/guest/init" "$root/init"
	: >"$root/modules"
	while read -r file; do
		name=$(basename "$file" | sed 's/\.ko.*/.ko/')
		unpack_module "$file" "$root/lib/$name"
		echo "$name" >>"$root/modules"
	done < <(module_files "$tree" "$version")
	(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$out"
}

# make_parts TREE DIR makes the three files of a guest from its tree.
make_parts() {
	local tree=$1 out=$2 version
	version=$(kernel_version "$tree")
	cp "$tree/boot/vmlinuz-$version" "$out/kernel"
	make_initrd "$tree" "$version" "$out/initrd"
	rm -f "$tree"/boot/{vmlinuz,System.map,config}-*
	make_root_disk "$tree" "$out/root.img"
}

# Without root the owners of the tree live in fakeroot only, so the tree is unpacked and packed inside it. fakeroot
# goes through sh, which drops exported functions: the shell inside reads this file again.
make_guest() {
	local guest=$1 out=$2
	if ((EUID == 0)); then
		make_tree "$guest" "$scratch_dir/tree"
		make_parts "$scratch_dir/tree" "$out"
		return
	fi
	make_tree "$guest" "$scratch_dir/tree.tar" --mode=unshare --format=tar
	mkdir "$scratch_dir/tree"
	export here scratch_dir
	# shellcheck disable=SC2016 # the inner shell expands
	fakeroot bash -euo pipefail -c '
		. "$here/vm.d/common.sh"
		. "$here/vm.d/build.sh"
		tar -xpf "$scratch_dir/tree.tar" -C "$scratch_dir/tree" --exclude "./dev/*"
		make_parts "$scratch_dir/tree" "$1"' bash "$out"
}
