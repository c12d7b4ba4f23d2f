package sbxtest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// MappedRoot runs a program in dir as root of a user namespace in which 0 is the
// caller and 1 and up are his first subordinate range: it may read, give away and
// remove what belongs to these ids. It returns the combined output, and an error
// also where the caller has no such range. unshare(1) has --map-auto for this since
// util-linux 2.38; Debian 11 has 2.36.
func MappedRoot(dir string, argv ...string) ([]byte, error) {
	// The program begins when the maps are written, and is root from its execve on.
	wait := []string{"--user", "sh", "-c", `echo; read -r mapped && exec "$@" 2>&1`, "sh"}
	cmd := exec.Command("unshare", append(wait, argv...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var mapError error
	if _, err := stdout.Read(make([]byte, 1)); err == nil {
		mapError = writeMaps(cmd.Process.Pid)
		if mapError == nil {
			_, mapError = io.WriteString(in, "mapped\n")
		}
	}
	in.Close()
	out, readError := io.ReadAll(stdout)
	err = cmp.Or(mapError, cmd.Wait(), readError)
	return append(out, stderr.Bytes()...), err
}

// writeMaps has the helpers of the host write both maps of a process.
func writeMaps(pid int) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	for _, m := range []struct {
		helper, file string
		own          int
	}{{"newuidmap", "/etc/subuid", os.Getuid()}, {"newgidmap", "/etc/subgid", os.Getgid()}} {
		text, err := os.ReadFile(m.file)
		if err != nil {
			return err
		}
		first, count, found := subordinateRange(string(text), me.Username, me.Uid)
		if !found {
			return fmt.Errorf("%s has no line in %s", me.Username, m.file)
		}
		out, err := exec.Command(m.helper, strconv.Itoa(pid), "0", strconv.Itoa(m.own), "1", "1", first, count).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", m.helper, err, out)
		}
	}
	return nil
}

// subordinateRange looks for a line "name:first:count" of subuid(5).
func subordinateRange(text, name, uid string) (first, count string, found bool) {
	for line := range strings.Lines(text) {
		owner, numbers, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if owner != name && owner != uid {
			continue
		}
		if first, count, found = strings.Cut(numbers, ":"); found {
			return first, count, true
		}
	}
	return "", "", false
}
