# shellcheck shell=bash disable=SC2154 # scripts/hosts sets $here
# The tests of sbx in the guests: compiled here, run there as the ordinary user, from a copy of the tree. Each package
# is a job of its own.

readonly module=github.com/sbx-run/sbx
# The longest that the tests of a package may take, in seconds: an emulated processor is ten to twenty times slower.
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

# suite GUEST…
suite() {
	local guest package reason there=()
	(($# > 0)) || set -- 12 11 13 testing
	guests=$1
	work
	go build -o "$SBX_HOSTS_WORK/testsum" ./scripts/testsum
	go build -o "$SBX_HOSTS_WORK/test2json" cmd/test2json
	make_suite "$SBX_HOSTS_WORK/suite"
	for guest; do
		reason=$(bring_up "$guest")
		if [[ -z $reason ]]; then there+=("$guest"); else report_absent "$guest" suite "$reason"; fi
	done
	((${#there[@]} == 0)) || for package in $(packages_with_tests); do
		printf "%s $package\n" "${there[@]}"
	done | in_parallel package || true
	touch "$SBX_HOSTS_WORK/records"
	[[ -z ${SBX_RECORDS-} ]] || cat "$SBX_HOSTS_WORK/records" >>"$SBX_RECORDS"
	"$SBX_HOSTS_WORK/testsum" total "$SBX_HOSTS_WORK/records"
}

# make_suite DIR: the tree and what the tests need in DIR, the test binaries beside it. The modification times are
# today's everywhere, so nothing is built again in the guest, which has no go command.
make_suite() {
	local dir=$1 package
	mkdir -p "$dir/tree" "$dir.tests"
	git ls-files -z --cached --others --exclude-standard | grep -zv '^scripts/vm' |
		tar --create --null --files-from - --ignore-failed-read 2>/dev/null | tar --extract --directory "$dir/tree"
	cp "$SBX_HOSTS_WORK/sbx" "$dir/sbx"
	go build -trimpath -o "$dir/probe" ./internal/sbxtest/probe
	for package in $(packages_with_tests); do
		go test -c -trimpath -ldflags='-s -w' -o "$(test_binary "$package")" "./$package"
	done
	cp "$here/hosts.d/suite-guest.sh" "$dir/run"
}

test_binary() { printf '%s/suite.tests/%s.test' "$SBX_HOSTS_WORK" "${1//\//-}"; }

# run_package "GUEST PACKAGE". What failed is tried once more: cf. may_try_again.
run_package() {
	local guest=${1% *} package=${1#* } dir status slow begun=$SECONDS
	dir=$(mktemp -d "$SBX_HOSTS_WORK/package.XXXXXX")
	if (($(seconds_left) < 60)); then
		record_package skip "cannot: no time was left"
		return
	fi
	attempt_package
	if package_failed && (($(seconds_left) > 60)); then
		printf 'once more: [%s] %s: vm ended with %d\n%s\n' "$guest" "$package" "$status" "$(sed 's/^/    | /' "$dir/summary")"
		attempt_package
	fi
	if ((status != 0)) && (($(seconds_left) <= 0)); then
		record_package skip "cannot: no time was left"
	elif package_failed && slow=$(slowness); then
		record_package skip "cannot: it failed in a guest that takes $slow s for three hundred processes"
	else
		cat "$dir/summary" "$dir/notes"
		cat "$dir/records" >>"$SBX_HOSTS_WORK/records"
		((status == 0)) || record_package fail "vm ended with $status"
	fi
}

package_failed() {
	((status != 0)) || grep -q '"result":"fail"' "$dir/records"
}

# attempt_package OPTION… sets $status and leaves results in $dir/records, what to read in $dir/summary, and what is no
# test's in $dir/notes.
attempt_package() {
	local left limit=$suite_limit
	left=$(seconds_left)
	((left > limit)) || limit=$((left > 0 ? left : 1))
	status=0
	timeout --foreground -k 20 "$((limit + 120))" "$here/vm" run "$guest" "$@" -t "$limit" --prepared "$SBX_HOSTS_WORK/prepared" \
		--env "SBX_TEST_SKIP=$suite_skip" --env "SBX_TEST_RUN=${SBX_HOSTS_RUN-}" --put "$SBX_HOSTS_WORK/suite" \
		--put "$(test_binary "$package")" -- bash /job/suite/run "$package" >"$dir/out" 2>"$dir/err" </dev/null || status=$?
	: >"$dir/records"
	"$SBX_HOSTS_WORK/test2json" -t -p "$module/$package" <"$dir/out" |
		"$SBX_HOSTS_WORK/testsum" watch -run "Debian $guest" -o "$dir/records" >"$dir/summary" || true
	: >"$dir/notes"
	((status == 0)) || grep '^vm: ' "$dir/err" >"$dir/notes" || true
}

# record_package RESULT REASON
record_package() {
	printf '%s [%s] %s (%d s): %s\n' "$1" "$guest" "$package" "$((SECONDS - begun))" "$2"
	printf '{"run":"Debian %s","pkg":"scripts/hosts","test":"suite, %s","result":"%s","reason":"%s"}\n' \
		"$guest" "${package//\//-}" "$1" "${2//[\"\\[:cntrl:]]/\'}" >>"$SBX_HOSTS_WORK/records"
}
