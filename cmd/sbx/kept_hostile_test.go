package main_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// hostileTrees are what a program with every right inside may leave in a kept
// sandbox. /src is where a later run shares a directory of the user's.
var hostileTrees = []struct{ name, script string }{
	{"links to a share", `rm -rf /box /home/sbx; mkdir /src; ln -s /src /box; ln -s /src /home/sbx; rm -rf /var/tmp; ln -s /src /var/tmp`},
	{"dangling links to a share", `rm -rf /box /home /var/tmp; ln -s /src /box; ln -s /src /home; ln -s src/new /var/tmp`},
	{"the program's place leads to a share", `mkdir /src; rm -rf /box/probe; ln -s /src/made /box/probe; ln -s /src /box/sub`},
	{"links to the host", `for f in /box /home /var/tmp /usr/lib/x /etc/hosts; do rm -rf $f; ln -s "$CANARY" $f; done; ln -s "$CANARY" /box2; ln -s / /up`},
	{"links up", `rm -rf /box; ln -s ../../../../../../../../../../../../../../../$CANARY /box; ln -s /proc/1/root /src; ln -s /proc/self/fd/3 /fd`},
	{"etc is gone", `rm -rf /etc 2>/dev/null; ln -s "$CANARY" /etc || mkdir -p /etc/passwd`},
	{"passwd is a fifo", `rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group`},
	{"passwd is endless", `rm /etc/passwd; ln -s /dev/zero /etc/passwd; dd if=/dev/zero of=/etc/group bs=1M count=0 seek=1000000 2>/dev/null`},
	{"passwd lies", `echo "sbx:x:0:0::/../../../..:/bin/sh" > /etc/passwd; echo "x:x:1000:1000::/proc/self/root:/bin/sh" >> /etc/passwd`},
	{"fifos and directories in the way", `rm -rf /box; mkfifo /box; rm -rf /var/tmp; mkfifo /var/tmp; mkdir -p /box2/probe/x`},
	{"a directory in the program's place", `rm -f /box/probe; mkdir -p /box/probe/full; mkfifo /box/fifo`},
	{"names", `cd /box; touch "$(printf '\033]0;x\007')" "$(printf 'a\nb')" "$(printf '\377\376')" ./-rf ..data .wh.x .wh..wh..opq; mkdir 'sandbox:x'`},
	{"closed and special", `mkdir -p /box/shut/in; chmod 0 /box/shut; mkfifo /box/p; dd if=/dev/zero of=/box/big bs=1 count=1 seek=5T 2>/dev/null || :; chmod 6777 /box/probe 2>/dev/null || :`},
	{"a deep tree", `cd /box; i=0; while [ $i -lt 1300 ]; do mkdir d && cd -P d 2>/dev/null || break; i=$((i+1)); done; echo $i`},
}

// Whatever a program leaves: no later command hangs, follows it out of the
// sandbox, or changes anything of the user's but what it was asked for.
func TestHostileKeptSandbox(t *testing.T) {
	box := sbxtest.NewStore(t)
	box.Dir = probeDir(t)
	canary := canaryDir(t)
	box.MustRun(t, "run", "true")
	overlay := box.Run(t, "run", "--copy=overlay", "true")
	for _, way := range [][]string{{"--copy", "overlay"}, {"--copy", "full"}, {"--userns", "single"}} {
		trees := hostileTrees
		switch {
		case way[0] == "--userns" && os.Geteuid() == 0:
			continue
		case way[1] == "full": // seconds each
			trees = trees[:2]
		}
		for _, tree := range trees {
			t.Run(strings.Join(way, "=")+"/"+tree.name, func(t *testing.T) {
				if way[1] == "overlay" && overlay.Exit != 0 { // users have them since Linux 5.11
					t.Skip("cannot: no overlay here: " + overlay.Stderr)
				}
				attackKept(t, box, way, tree.script, canary)
			})
		}
	}
}

func attackKept(t *testing.T, box sbxtest.Sandbox, way []string, script, canary string) {
	share, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	writeFile(t, filepath.Join(share, "mine"), "mine")
	before := snapshot(t, canary) + snapshot(t, share) + snapshot(t, box.Dir)
	unchanged := func(after string) {
		t.Helper()
		if now := snapshot(t, canary) + snapshot(t, share) + snapshot(t, box.Dir); now != before {
			t.Fatalf("after %s:\n%s\nbefore:\n%s", after, now, before)
		}
	}
	args := append([]string{"run", "--keep", "--name", "evil", "-u", "0", "-e", "CANARY=" + canary}, way...)
	made := box.Run(t, append(args, "sh", "-c", script)...)
	if made.Exit >= 125 {
		box.Run(t, "rm", "evil") // where it was made all the same, and for the next one
		t.Fatal(made)
	}
	defer func() {
		box.MustRun(t, "rm", "evil")
		unchanged("rm")
	}()
	for _, cmd := range [][]string{
		{"run", "--in", "evil", "sh", "-c", "echo ran"},
		{"run", "--in", "evil", "./probe", "args"},
		{"run", "--in", "evil", "--ro", share + ":/src", "./probe", "args"},
		{"run", "--in", "evil", "--rw", share + ":/src", "./probe", "args"},
		{"run", "--in", "evil", "--rw", share + ":/src", "--copy-in", "probe:/box/sub/new", "-u", "0", "./probe", "args"},
		{"run", "--in", "evil", "-u", "sbx", "./probe", "args"},
		{"diff", "evil"},
		{"diff", "--json", "evil"},
		{"cp", "evil:/etc", out},
		{"cp", "evil:/var/.", out + "1"},
		{"cp", "evil:/box/.", out + "2"},
		{"cp", "-L", "evil:/box", out + "3"},
		{"cp", "probe", "evil:/box/probe"},
		{"cp", "probe", "evil:/var/tmp/"},
		{"cp", "-L", "probe", "evil:/src/x"},
		{"cp", ".", "evil:/home/sbx"},
	} {
		began := time.Now()
		result := box.Run(t, cmd...)
		if result.Exit > 127 || time.Since(began) > time.Minute {
			t.Errorf("%v (%v)", result, time.Since(began))
		}
		if strings.ContainsAny(result.Stderr+result.Stdout, "\x1b\a") {
			t.Errorf("an escape sequence: %q", result.Stdout+result.Stderr)
		}
		unchanged(strings.Join(cmd, " "))
	}
	harmlessCopies(t, filepath.Dir(out))
}

// harmlessCopies holds what was copied out to the rules for it.
func harmlessCopies(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if int(st.Uid) != os.Getuid() {
			t.Errorf("%q belongs to %d", path, st.Uid)
		}
		if mode := info.Mode(); mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
			t.Errorf("%q is %v", path, mode)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if real, err := filepath.EvalSymlinks(path); err == nil && !strings.HasPrefix(real, dir) {
				t.Errorf("%q leads to %q", path, real)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// canaryDir is a directory of the user's that nobody was told about.
func canaryDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "canary")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "file"), "canary")
	return dir
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// snapshot is everything about a small directory that could be changed, but for
// the times of directories: sbx itself holds places in what is shared.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%q %v %d:%d", path, info.Mode(), st.Uid, st.Gid)
		if !info.IsDir() {
			fmt.Fprintf(&b, " %v", st.Mtim)
		}
		if info.Mode().IsRegular() && info.Size() < 1<<10 {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
