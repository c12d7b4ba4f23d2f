package sbxtest

import (
	"os"
	"strconv"
	"time"
)

// Patience stretches a time limit of a test on slow machines: SBX_TEST_PATIENCE is the
// factor, 1 without it. An emulated processor is ten to twenty times slower, which is
// no fault of the program under test; what hangs hangs for longer still.
func Patience(limit time.Duration) time.Duration {
	if factor, err := strconv.Atoi(os.Getenv("SBX_TEST_PATIENCE")); err == nil && factor > 1 {
		return limit * time.Duration(factor)
	}
	return limit
}
