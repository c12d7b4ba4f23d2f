package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree(t, dir, "file d/f x", "dir d/sub", "link l d", "link abs "+dir+"/d/f", "link chain l/../abs", "link loop loop",
		"link dangling none", "fifo fifo", "dir open", "link open/l ../d", "link magic /proc/self/cwd", "link mtab /proc/self/mounts",
		"file odd,name:\\x x")
	if err := os.Chmod(filepath.Join(dir, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "s"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "d"))
	for name, c := range map[string]struct {
		path string
		want string // below dir
		err  error
	}{
		"a directory":                       {dir + "/d", "/d", nil},
		"a slash at the end":                {dir + "/d/", "/d", nil},
		"a file":                            {dir + "/d/f", "/d/f", nil},
		"a file with a slash at the end":    {dir + "/d/f/", "", unix.ENOTDIR},
		"relative":                          {"sub", "/d/sub", nil},
		"the working directory":             {".", "/d", nil},
		"dots":                              {"./sub/../../d//./f", "/d/f", nil},
		"above the root":                    {"/../../.." + dir + "/d", "/d", nil},
		"a link":                            {dir + "/l", "/d", nil},
		"a link in the middle":              {dir + "/l/f", "/d/f", nil},
		"an absolute link":                  {dir + "/abs", "/d/f", nil},
		"links of links":                    {dir + "/chain", "/d/f", nil},
		".. after a link is physical":       {dir + "/l/../d/f", "/d/f", nil},
		"an odd name":                       {dir + `/odd,name:\x`, `/odd,name:\x`, nil},
		"a loop":                            {dir + "/loop", "", unix.ELOOP},
		"a link to nothing":                 {dir + "/dangling", "", unix.ENOENT},
		"nothing":                           {dir + "/none", "", unix.ENOENT},
		"empty":                             {"", "", unix.ENOENT},
		"a file as a directory":             {dir + "/d/f/x", "", unix.ENOTDIR},
		"a named pipe":                      {dir + "/fifo", "", unix.EINVAL},
		"a socket":                          {dir + "/s", "", unix.EINVAL},
		"a device":                          {"/dev/null", "", unix.EINVAL},
		"a link that anybody can replace":   {dir + "/open/l", "", unix.ELOOP},
		"a link into a process":             {"/proc/self/cwd", "", unix.ELOOP},
		"a link to a link into a process":   {dir + "/magic/d", "", unix.ELOOP},
		"a link to a file of the processes": {dir + "/mtab", "", unix.ELOOP},
		"a directory of the processes":      {"/proc/sys", "", unix.EINVAL},
	} {
		s, err := Resolve(c.path)
		if c.err != nil {
			if !errors.Is(err, c.err) {
				t.Errorf("%s: %+v, %v, want %v", name, s, err, c.err)
			}
			continue
		}
		if err != nil || s.Path != dir+c.want {
			t.Errorf("%s: %q, %v, want %q", name, s.Path, err, dir+c.want)
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(s.Path, &st); err != nil || s.Dev != st.Dev || s.Ino != st.Ino || s.Mode != st.Mode || s.UID != st.Uid {
			t.Errorf("%s: %+v is not %+v, %v", name, s, st, err)
		}
		if m := s.Bind("/x", true); m.check() != nil || m.Directory != (st.Mode&unix.S_IFMT == unix.S_IFDIR) {
			t.Errorf("%s: bad entry %+v", name, m)
		}
	}
}

// A sandbox wrote a link where the user shares a directory in the next run.
func TestResolveTainted(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree(t, dir, "dir data/real", "link data/sub /etc", "link todata data", "dir data2", "link data2/l ../data")
	for path, want := range map[string]error{
		"/data/sub": unix.ELOOP, "/todata/sub": unix.ELOOP, "/data/real": nil, "/todata": nil, "/data2/l/real": nil, "/data2/l/sub/ssl": unix.ELOOP,
	} {
		s, err := Resolve(dir+path, dir+"/data", dir+"/other")
		if !errors.Is(err, want) || (err != nil) != (want != nil) {
			t.Errorf("%s: %q, %v, want %v", path, s.Path, err, want)
		}
	}
	if _, err := Resolve(dir + "/data/sub"); err != nil {
		t.Error("without the knowledge the link is the user's:", err)
	}
}

// As root the owner of a link can be somebody else.
func TestResolveForeignLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("cannot: only root can make a link of another user")
	}
	dir := t.TempDir()
	tree(t, dir, "dir d", "link l d")
	if err := os.Lchown(filepath.Join(dir, "l"), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(dir + "/l"); !errors.Is(err, unix.ELOOP) || !strings.Contains(fmt.Sprint(err), "another user") {
		t.Errorf("got %v", err)
	}
}

func TestReachedSockets(t *testing.T) {
	list := PowerfulSockets("/home/u")
	for path, want := range map[string]bool{
		"/run": true, "/run/user/1000": true, "/run/user/1000/bus": true, "/": true, "/run/docker.sock": true,
		"/tmp": true, "/tmp/x": false, "/tmp/.X11-unix/X0": true, "/home/u": true, "/home/u/project": false,
		"/home/u/.ssh/id": true, "/usr": false, "/run/users": false, "/var/lib": true,
	} {
		if got := ReachedSockets(path, list); (len(got) > 0) != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for _, p := range list {
		if p.Reason == "" || !strings.HasPrefix(p.Path, "/") {
			t.Errorf("incomplete: %+v", p)
		}
	}
	if len(PowerfulSockets("")) >= len(list) {
		t.Error("the home directory adds nothing")
	}
}
