# shellcheck shell=bash
# Runs in a guest, as the user: the test binary of the package that is named, in the folder of the package. The store is
# the user's own, which has its images since before the guest's state was saved.
export SBX_TEST_PATIENCE=10 SBX_BIN=/job/suite/sbx SBX_PROBE=/job/suite/probe SBX_TEST_HOME=$HOME SBX_MUST_WORK=${SBX_MUST_WORK-}
cd /job/suite/tree/"$1" || exit
"/job/${1//\//-}.test" -test.v=test2json -test.timeout=2h -test.run="$SBX_TEST_RUN" -test.skip="$SBX_TEST_SKIP" </dev/null 2>&1
exit 0
