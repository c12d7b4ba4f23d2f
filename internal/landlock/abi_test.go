package landlock

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What each kernel's Landlock handles, for kernels that this machine does not run.
func TestABIs(t *testing.T) {
	const (
		fs1 = 1<<13 - 1
		fs2 = fs1 | unix.LANDLOCK_ACCESS_FS_REFER
		fs3 = fs2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		fs5 = fs3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		fs9 = fs5 | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
		sc6 = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	)
	tests := []struct {
		abi    int
		err    error
		files  uint64
		scopes uint64
		gaps   string // words of the gaps that are left
	}{
		{-1, ErrAbsent, 0, 0, "reading renaming truncating ioctl abstract shared"},
		{0, ErrAbsent, 0, 0, "reading renaming truncating ioctl abstract shared"},
		{1, ErrTooOld, fs1, 0, "reading renaming truncating ioctl abstract shared"},
		{2, nil, fs2, 0, "truncating ioctl abstract shared"},
		{3, nil, fs3, 0, "ioctl abstract shared"},
		{4, nil, fs3, 0, "ioctl abstract shared"},
		{5, nil, fs5, 0, "abstract shared"},
		{6, nil, fs5, sc6, "shared"},
		{7, nil, fs5, sc6, "shared"},
		{8, nil, fs5, sc6, "shared"},
		{9, nil, fs9, sc6, ""},
		{10, nil, fs9, sc6, ""},
		{99, nil, fs9, sc6, ""},
	}
	for _, tt := range tests {
		if err := Check(tt.abi); !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("ABI %d: %v, want %v", tt.abi, err, tt.err)
		}
		if files, scopes := handled(tt.abi); files != tt.files || scopes != tt.scopes {
			t.Errorf("ABI %d handles %#x and %#x, want %#x and %#x", tt.abi, files, scopes, tt.files, tt.scopes)
		}
		gaps := Gaps(tt.abi)
		words := strings.Fields(tt.gaps)
		if len(gaps) != len(words) {
			t.Errorf("ABI %d: gaps %q, want %q", tt.abi, gaps, words)
			continue
		}
		for i, word := range words {
			if !strings.Contains(gaps[i], word) || !strings.Contains(gaps[i], "(Linux ") {
				t.Errorf("ABI %d: gap %q, want %q in it", tt.abi, gaps[i], word)
			}
		}
	}
}

func TestGranted(t *testing.T) {
	const (
		readFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
		writeFile = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	)
	all9, _ := handled(9)
	all2, _ := handled(2)
	tests := []struct {
		name      string
		abi       int
		access    Access
		directory bool
		want      uint64
	}{
		{"nothing", 9, 0, true, 0},
		{"read below a directory", 9, Read, true, readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR},
		{"read a file", 9, Read, false, readFile},
		{"write includes read", 9, Write, false, writeFile | unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{"write below a directory is all but devices and sockets", 9, Write, true, all9 &^ (unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX)},
		{"an old kernel", 2, Write, true, all2},
		{"a file on an old kernel", 2, Write, false, writeFile},
		{"a device", 5, Device, false, unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
		{"a device on an old kernel", 3, Device, false, unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE},
		{"a socket", 9, Socket, false, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
		{"a socket on an old kernel", 8, Socket, false, 0},
		{"everything", 9, Read | Write | Device | Socket, true, all9},
	}
	for _, tt := range tests {
		if got := granted(tt.abi, tt.access, tt.directory); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

func TestRulesetRefusesABIs(t *testing.T) {
	for abi, want := range map[int]error{0: ErrAbsent, 1: ErrTooOld} {
		if fd, err := Ruleset(abi, nil); fd != -1 || !errors.Is(err, want) {
			t.Errorf("ABI %d: %d, %v, want %v", abi, fd, err, want)
		}
	}
}
