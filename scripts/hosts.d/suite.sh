# shellcheck shell=bash disable=SC2034,SC2154 # scripts/hosts sets $here, others use $guests and $suite_limit
# The tests of sbx in the guests: compiled here, run there as the ordinary user. Each package is a job, a long one several.

readonly module=github.com/sbx-run/sbx
# The longest that one job may take, in seconds: an emulated processor is ten to twenty times slower. What a job did not
# come to is begun in another one.
readonly suite_limit=${SBX_HOSTS_SUITE_LIMIT:-1800}
# What the kernel decides comes first, so that little time shows most, and what is longest comes last.
readonly suite_first="userns mounts cgroupv2 internal/landlock internal/vfork internal/reaper internal/seccomp internal/launch internal/initproc"
readonly suite_last="rootfs cmd/sbx-image cmd/sbx"

# what_to_run prints "PACKAGE" or "PACKAGE PATTERN" a line. SBX_HOSTS_PACKAGES is a list such as "mounts internal/seccomp
# cmd/sbx:^TestPromises$"; without it all packages are run.
what_to_run() {
	local all
	if [[ -n ${SBX_HOSTS_PACKAGES-} ]]; then
		tr ' ' '\n' <<<"$SBX_HOSTS_PACKAGES" | sed 's/:/ /'
		return
	fi
	all=$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | grep . | sed "s,^$module/,,")
	tr ' ' '\n' <<<"$suite_first"
	grep -vxF "$(tr ' ' '\n' <<<"$suite_first $suite_last")" <<<"$all"
	tr ' ' '\n' <<<"$suite_last"
}

# suite GUEST…
suite() {
	local guest piece reason there=()
	(($# > 0)) || set -- 12 11 13 testing
	guests=$1
	work
	make_suite "$SBX_HOSTS_WORK/suite"
	for guest; do
		reason=$(bring_up "$guest")
		if [[ -z $reason ]]; then there+=("$guest"); else report_absent "$guest" suite "$reason"; fi
	done
	touch "$SBX_HOSTS_WORK/records"
	((${#there[@]} == 0)) || what_to_run | pieces | while read -r piece; do
		for guest in "${there[@]}"; do printf '%s %s\n' "$guest" "$piece"; done
	done | in_parallel package || true
	for guest in ${there[@]+"${there[@]}"}; do record_left_out; done
	[[ -z ${SBX_RECORDS-} ]] || cat "$SBX_HOSTS_WORK/records" >>"$SBX_RECORDS"
	"$SBX_HOSTS_WORK/testsum" total "$SBX_HOSTS_WORK/records"
}

# make_suite DIR: the tree and what the tests need in DIR, the test binaries beside it. The modification times are
# today's everywhere, so nothing is built again in the guest, which has no go command.
make_suite() {
	local dir=$1 package
	go build -o "$SBX_HOSTS_WORK/testsum" ./scripts/testsum
	go build -o "$SBX_HOSTS_WORK/test2json" cmd/test2json
	mkdir -p "$dir/tree" "$dir.tests"
	git ls-files -z --cached --others --exclude-standard | grep -zv '^scripts/vm' |
		tar --create --null --files-from - --ignore-failed-read 2>/dev/null | tar --extract --directory "$dir/tree"
	cp "$SBX_HOSTS_WORK/sbx" "$dir/sbx"
	go build -trimpath -o "$dir/sbx-image" ./cmd/sbx-image
	go build -trimpath -o "$dir/probe" ./internal/sbxtest/probe
	for package in $(what_to_run | cut -d' ' -f1 | sort -u); do
		go test -c -trimpath -ldflags='-s -w' -o "$(test_binary "$package")" "./$package"
	done
	cp "$here/hosts.d/suite-guest.sh" "$dir/run"
}

test_binary() { printf '%s/suite.tests/%s.test' "$SBX_HOSTS_WORK" "${1//\//-}"; }

# pieces turns a long package on standard input into several lines, each with a pattern for its tests.
pieces() {
	local package pattern
	while read -r package pattern; do
		if [[ $package == cmd/sbx && -z $pattern ]]; then
			in_tens TestScripts < <(cd cmd/sbx/testdata && printf '%s\n' *.txtar | sed 's/\.txtar$//')
			in_tens '' < <(tests_of "$package" | grep -vx TestScripts | grep -vE "$(left_out)")
		else
			echo "$package $pattern"
		fi
	done
}

# in_tens PARENT turns names on standard input into patterns for ten of them at a time.
in_tens() {
	xargs -n 10 | sed -e 's/ /|/g' -e "s,.*,cmd/sbx ${1:+^$1\$/}^(&)\$,"
}

tests_of() { "$(test_binary "$1")" -test.list . | grep -E '^(Test|Fuzz|Example)'; }

# left_out prints the expression of the names in suite-skip. SBX_HOSTS_SKIP takes its place.
left_out() {
	echo "${SBX_HOSTS_SKIP-$(sed -n 's/^\(\^[^ ]*\) .*/\1/p' "$here/hosts.d/suite-skip" | paste -sd'|')}"
}

# record_left_out counts what suite-skip names among the tests of the packages that were run.
record_left_out() {
	local package expression reason name
	[[ -z ${SBX_HOSTS_SKIP+set} ]] || return 0
	what_to_run | grep -v ' ' | while read -r package; do
		while read -r expression reason; do
			[[ $expression == ^* ]] || continue
			for name in $(tests_of "$package" | grep -E "$expression" || true); do
				printf '{"run":"Debian %s","pkg":"%s","test":"%s","result":"skip","reason":"%s"}\n' \
					"$guest" "$module/$package" "$name" "$reason" >>"$SBX_HOSTS_WORK/records"
			done
		done <"$here/hosts.d/suite-skip"
	done
}
