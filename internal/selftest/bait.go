package selftest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/probe"
)

// bait is what is laid out for the probe to find, and taken away at the end.
type bait struct {
	facts    probe.Facts
	variable string     // of the environment of `sbx run`
	files    []*os.File // open in `sbx run`, on the host's directories
	sockets  []int
}

// namespaceNames are the links in /proc/self/ns that a sandbox must not share.
func namespaceNames() []string {
	return []string{"user", "pid", "mnt", "uts", "ipc", "net", "cgroup"}
}

// layOut must run on the thread that starts the sandboxes: the keyring is that
// thread's. What cannot be laid out is left out, and the probe says so.
func layOut() (*bait, error) {
	secret := rand.Text()
	b := &bait{
		facts:    probe.Facts{Secret: secret, Namespaces: map[string]string{}},
		variable: "SBX_SELFTEST_SECRET=" + secret,
	}
	for _, name := range namespaceNames() {
		link, err := os.Readlink("/proc/self/ns/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel has no such namespace
		}
		if err != nil {
			return nil, fmt.Errorf("look at the own namespaces: %w", err)
		}
		b.facts.Namespaces[name] = link
	}
	b.facts.Hostname, _ = os.Hostname()
	b.facts.UserName = userName()
	if err := b.layFile(); err != nil {
		b.close()
		return nil, err
	}
	b.laySockets()
	b.layKey()
	for _, path := range []string{"/", b.facts.Canary} {
		if f, err := os.Open(path); err == nil {
			b.files = append(b.files, f)
		}
	}
	return b, nil
}

func userName() string {
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// layFile puts a file with the secret into the home, or where there is no home
// to write to, among the temporary files.
func (b *bait) layFile() error {
	file, err := os.CreateTemp(os.Getenv("HOME"), ".sbx-selftest-")
	if err != nil {
		file, err = os.CreateTemp("", ".sbx-selftest-")
	}
	if err != nil {
		return fmt.Errorf("lay out a file for the probe: %w", err)
	}
	b.facts.Canary = file.Name()
	_, err = file.WriteString(b.facts.Secret + "\n")
	// Readable to everybody: what keeps the probe away must not be the mode.
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return fmt.Errorf("lay out a file for the probe: %w", err)
	}
	return nil
}

func (b *bait) laySockets() {
	if fd, port, err := probe.Listen(); err == nil {
		b.facts.Port = port
		b.sockets = append(b.sockets, fd)
	}
	name := "sbx-selftest-" + b.facts.Secret
	if fd, err := probe.ListenAbstract(name); err == nil {
		b.facts.Abstract = name
		b.sockets = append(b.sockets, fd)
	}
}

// layKey puts a key into a session keyring that ends with this thread and the
// sandboxes that it starts: the user's own keyring stays as it is.
func (b *bait) layKey() {
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return
	}
	name := "sbx-selftest-" + b.facts.Secret
	if _, err := unix.AddKey("user", name, []byte(b.facts.Secret), unix.KEY_SPEC_SESSION_KEYRING); err == nil {
		b.facts.Key = name
	}
}

func (b *bait) close() {
	if b.facts.Canary != "" {
		_ = os.Remove(b.facts.Canary)
	}
	for _, f := range b.files {
		f.Close()
	}
	for _, fd := range b.sockets {
		unix.Close(fd)
	}
}
