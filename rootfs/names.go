package rootfs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// ValidName reports whether s may name an image or a sandbox:
// [a-z0-9][a-z0-9._-]{0,62}. Such a name is a harmless path component, is no
// option to any program, and prints as it is (SECURITY J9).
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

func checkName(what, s string) error {
	if !ValidName(s) {
		return fmt.Errorf("use %s name %s: %w", what, strconv.Quote(s),
			explain(unix.EINVAL, "not of the form [a-z0-9][a-z0-9._-]{0,62}"))
	}
	return nil
}

// randomID gives n random bytes as 2n hexadecimal digits.
func randomID(n int) (string, error) {
	buf := make([]byte, n)
	for got := 0; got < n; {
		k, err := unix.Getrandom(buf[got:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return "", fmt.Errorf("make a random name: %w", err)
		}
		got += max(k, 0)
	}
	return hex.EncodeToString(buf), nil
}
