# shellcheck shell=bash disable=SC2154 # scripts/hosts sets $here, suite.sh the rest
# Runs one package, or a part of it, in a guest and judges what came out.

# A job that begins with less time than this, in seconds, would end before it says anything.
readonly piece_seconds=40

# run_package "GUEST PACKAGE [PATTERN]" leaves in $dir: kept, the records of what passed or was skipped; failed, of what
# failed; ended, of both. What failed is tried once more: cf. may_try_again.
run_package() {
	local guest package pattern dir status=0 begun=$SECONDS
	read -r guest package pattern <<<"$1"
	dir=$(mktemp -d "$SBX_HOSTS_WORK/package.XXXXXX")
	touch "$dir"/{kept,failed,ended,story}
	if (($(seconds_left) < piece_seconds)); then
		record_piece skip "cannot: no time was left"
		return
	fi
	run_to_the_end
	judge_rest
	[[ ! -s $dir/failed ]] || try_again
	cat "$dir/kept" "$dir/failed" >>"$SBX_HOSTS_WORK/records"
	tell
}

# run_to_the_end begins anew with what a job did not come to, as long as each comes to something, or once if not.
run_to_the_end() {
	local before vain=0
	while :; do
		before=$(wc -l <"$dir/ended")
		attempt_package "${pattern:-.}" "$("$SBX_HOSTS_WORK/testsum" pattern "$dir/ended")"
		grep -v '"result":"fail"' "$dir/records" >>"$dir/kept" || true
		grep '"result":"fail"' "$dir/records" >>"$dir/failed" || true
		cat "$dir/records" >>"$dir/ended"
		((status != 0 && $(seconds_left) >= piece_seconds)) || return 0
		(($(wc -l <"$dir/ended") == before)) || vain=0
		((vain++ < 2)) || return 0
		printf 'goes on: [%s] %s: vm ended with %d after %d results; %s\n' "$guest" "$package" "$status" "$(wc -l <"$dir/ended")" \
			"$(grep -h '^cut off' "$dir/summary" | tail -n 1)"
	done
}

# attempt_package RUN SKIP sets $status and leaves results in $dir/records and what to read in $dir/summary. A test that
# had not ended when the guest did has no result.
attempt_package() {
	local left limit=$suite_limit skip
	left=$(seconds_left)
	((left > limit)) || limit=$((left > 0 ? left : 1))
	skip=$(left_out)${2:+|$2}
	status=0
	timeout --foreground -k 20 "$((limit + 120))" "$here/vm" run "$guest" -t "$limit" --prepared "$SBX_HOSTS_WORK/prepared" \
		--env "SBX_TEST_RUN=$1" --env "SBX_TEST_SKIP=${skip#|}" --put "$SBX_HOSTS_WORK/suite" \
		--put "$(test_binary "$package")" -- bash /job/suite/run "$package" >"$dir/out" 2>"$dir/err" </dev/null || status=$?
	rm -f "$dir/records"
	local cut=()
	((status == 0)) || cut=(-cut)
	"$SBX_HOSTS_WORK/test2json" -t -p "$module/$package" <"$dir/out" |
		"$SBX_HOSTS_WORK/testsum" watch "${cut[@]}" -run "Debian $guest" -o "$dir/records" >"$dir/summary" || true
	((status == 0)) || grep '^vm: ' "$dir/err" >>"$dir/story" || true
}

# judge_rest records what the tests did not come to.
judge_rest() {
	local slow
	((status != 0)) || return 0
	local rest
	rest="vm ended with $status after $(wc -l <"$dir/ended") results; $(grep '^cut off' "$dir/summary" | tail -n 1)"
	if (($(seconds_left) < piece_seconds)); then
		record_piece skip "cannot: no time was left; $rest"
	elif slow=$(slowness); then
		record_piece skip "cannot: $rest, in a guest that takes $slow s for three hundred processes"
	else
		record_piece fail "$rest"
	fi
}

# try_again gives those tests that failed a second try, whole but for the subtests of subtests.
try_again() {
	local first=$dir/failed-first slow names
	cat "$dir/summary" >>"$dir/story"
	mv "$dir/failed" "$first"
	: >"$dir/failed"
	names=$("$SBX_HOSTS_WORK/testsum" pattern "$first")
	if (($(seconds_left) < piece_seconds)); then
		record_piece skip "cannot: no time was left for a second try of $names"
		return
	fi
	printf 'once more: [%s] %s: %s\n%s\n' "$guest" "$package" "$names" "$(sed 's/^/    | /' "$dir/summary")"
	attempt_package "$("$SBX_HOSTS_WORK/testsum" pattern -depth 2 "$first")" ''
	grep -v '"result":"fail"' "$dir/records" >>"$dir/kept" || true
	if ((status != 0)) && (($(seconds_left) < piece_seconds)); then
		record_piece skip "cannot: no time was left for a second try of $names"
	elif ((status == 0)) && ! grep -q '"result":"fail"' "$dir/records"; then
		return
	elif slow=$(slowness); then
		record_piece skip "cannot: $names failed in a guest that takes $slow s for three hundred processes"
	else
		grep '"result":"fail"' "$dir/records" >"$dir/failed" || cp "$first" "$dir/failed"
	fi
}

# tell prints one line, and what failed.
tell() {
	[[ ! -s $dir/failed ]] || cat "$dir/summary" "$dir/story"
	printf '[%s] %s: %d passed, %d failed, %d skipped (%d s)\n' "$guest" "$package${pattern:+ $pattern}" \
		"$(grep -c '"result":"pass"' "$dir/kept")" "$(wc -l <"$dir/failed")" "$(grep -c '"result":"skip"' "$dir/kept")" "$((SECONDS - begun))"
}

# record_piece RESULT REASON
record_piece() {
	printf '%s [%s] %s (%d s): %s\n' "$1" "$guest" "$package${pattern:+ $pattern}" "$((SECONDS - begun))" "$2"
	printf '{"run":"Debian %s","pkg":"scripts/hosts","test":"suite, %s","result":"%s","reason":"%s"}\n' \
		"$guest" "$(tr '/"\\\\' '-__' <<<"$package${pattern:+ $pattern}")" "$1" "${2//[\"\\[:cntrl:]]/\'}" >>"$SBX_HOSTS_WORK/records"
}
