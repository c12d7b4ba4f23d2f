# shellcheck shell=bash disable=SC2154 # scripts/hosts sets $here
# The tests of sbx in the guests: compiled here, run there as the ordinary user, from a copy of the tree.

readonly module=github.com/sbx-run/sbx
# The longest that all tests may take in one guest, in seconds: an emulated processor is ten to twenty times slower.
readonly suite_limit=${SBX_HOSTS_SUITE_LIMIT:-3600}
# What an emulator of a few cores does too slowly, or what needs programs that a guest does not have. SBX_HOSTS_SKIP
# replaces it, and SBX_HOSTS_RUN picks tests.
suite_skip=${SBX_HOSTS_SKIP-^(TestRandomKills|TestCompatibility|TestFaults|TestImportLaw|TestDirectDependencies|TestForbidden)}

# SBX_HOSTS_PACKAGES is a list such as "mounts internal/seccomp"; without it all packages are run.
packages_with_tests() {
	if [[ -n ${SBX_HOSTS_PACKAGES-} ]]; then
		tr ' ' '\n' <<<"$SBX_HOSTS_PACKAGES"
		return
	fi
	go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | grep . | sed "s,^$module/,,"
}

# make_suite DIR: the tree, the test binaries and what they need. The modification times are today's everywhere, so
# nothing is built again in the guest, which has no go command.
make_suite() {
	local dir=$1 package
	mkdir -p "$dir/tree" "$dir/tests"
	git ls-files -z --cached --others --exclude-standard | grep -zv '^scripts/vm' |
		tar --create --null --files-from - --ignore-failed-read 2>/dev/null | tar --extract --directory "$dir/tree"
	cp "$SBX_HOSTS_WORK/sbx" "$dir/sbx"
	go build -trimpath -o "$dir/probe" ./internal/sbxtest/probe
	for package in $(packages_with_tests); do
		go test -c -trimpath -ldflags='-s -w' -o "$dir/tests/${package//\//-}.test" "./$package"
	done
	cp "$here/hosts.d/suite-guest.sh" "$dir/run"
}

# run_package GUEST: all packages, in one guest.
run_package() {
	local guest=$1 status=0 out=$SBX_HOSTS_WORK/out-$1
	"$here/vm" run "$guest" -t "$suite_limit" --session scope --env "SBX_TEST_SKIP=$suite_skip" --env "SBX_TEST_RUN=${SBX_HOSTS_RUN-}" \
		--put "$SBX_HOSTS_WORK/suite" -- bash /job/suite/run >"$out" 2>&1 </dev/null || status=$?
	((status == 0)) || printf 'Debian %s: vm ended with %d:\n%s\n' "$guest" "$status" "$(tail -n 40 "$out")"
	split_packages "$guest" "$out"
	if ((status == 0)); then report "$guest" suite passed "all packages ran"; else report "$guest" suite failed "see above"; fi
}

# split_packages GUEST FILE hands each package's part of the output to the same tools as scripts/test.
split_packages() {
	local guest=$1 package part=$SBX_HOSTS_WORK/part-$1
	sed -n 's/^== package //p' "$2" | while read -r package; do
		awk -v want="== package $package" '/^== package / { on = ($0 == want); next } on' "$2" >"$part"
		"$SBX_HOSTS_WORK/test2json" -t -p "$module/$package" <"$part" |
			"$SBX_HOSTS_WORK/testsum" watch -run "Debian $guest" -o "$SBX_HOSTS_WORK/records-$guest" || true
	done
}

# suite GUEST…
suite() {
	work
	go build -o "$SBX_HOSTS_WORK/testsum" ./scripts/testsum
	go build -o "$SBX_HOSTS_WORK/test2json" cmd/test2json
	make_suite "$SBX_HOSTS_WORK/suite"
	(($# > 0)) || set -- 11 12 13 testing
	printf '%s\n' "$@" | in_parallel package || true
	cat "$SBX_HOSTS_WORK"/records-* >"$SBX_HOSTS_WORK/records"
	local guest
	for guest in "$@"; do
		grep -qx passed "$SBX_HOSTS_WORK/results/$guest-suite" ||
			printf '{"run":"Debian %s","pkg":"scripts/hosts","test":"suite","result":"fail"}\n' "$guest" >>"$SBX_HOSTS_WORK/records"
	done
	"$SBX_HOSTS_WORK/testsum" total "$SBX_HOSTS_WORK/records"
}
