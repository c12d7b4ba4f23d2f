# shellcheck shell=bash
# Runs in a guest, as the user: each test binary in the folder of its package, one after the other.
cp -r /job/suite/tree ~/tree
mkdir -m 0700 ~/test-home
export SBX_TEST_PATIENCE=10 SBX_BIN=/job/suite/sbx SBX_PROBE=/job/suite/probe SBX_TEST_HOME=$HOME/test-home SBX_MUST_WORK=${SBX_MUST_WORK-}
for binary in /job/suite/tests/*.test; do
	name=$(basename "$binary" .test)
	package=$name
	for top in cmd internal scripts; do package=${package/#$top-/$top/}; done
	printf '== package %s\n' "$package"
	cd ~/tree/"$package" || exit 1
	"$binary" -test.v=test2json -test.timeout=2h -test.run="${SBX_TEST_RUN:-.}" -test.skip="$SBX_TEST_SKIP" </dev/null 2>&1
	printf '== end of %s after %d s\n' "$package" "$SECONDS"
done
exit 0
