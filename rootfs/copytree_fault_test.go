package rootfs

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Each system call of a copy is made to fail, with strace, on one file or in one
// directory: the copy ends with an error that names it and says why. What was
// only interrupted is done again.
func TestCopyTreeFaults(t *testing.T) {
	for _, tc := range []struct {
		call, errno string
		on          string // "src" or "dst", and the path below
		names       string // what the message names; "" when nothing is to fail
	}{
		{"pread64", "EIO", "src/sub/small", "sub/small: input/output error"},
		{"pwrite64", "ENOSPC", "dst/sub/small", "sub/small: no space left on device"},
		{"pwrite64", "EDQUOT", "dst/sub/small", "sub/small: disk quota exceeded"},
		{"copy_file_range", "ENOSPC", "dst/sub/large", "sub/large: no space left on device"},
		{"copy_file_range", "EIO", "dst/sub/large", "sub/large: input/output error"},
		{"ftruncate", "ENOSPC", "dst/sub/sparse", "sub/sparse: no space left on device"},
		{"fsetxattr", "ENOSPC", "dst/sub/small", "sub/small: no space left on device"},
		{"utimensat", "EIO", "dst/sub/small", "sub/small: input/output error"},
		{"close", "ENOSPC", "dst/sub/small", "sub/small: no space left on device"},
		{"openat", "ENOSPC", "dst/sub", "sub"},
		{"mkdirat", "ENOSPC", "dst/sub", "sub/dir: no space left on device"},
		{"symlinkat", "ENOSPC", "dst/sub", "sub/link: no space left on device"},
		{"linkat", "EIO", "dst/sub", "input/output error"},
		{"getdents64", "EIO", "src/sub", "sub: input/output error"},
		{"openat2", "EIO", "src/sub", "sub/"},

		{"pread64", "EINTR", "src/sub/small", ""},
		{"pwrite64", "EINTR", "dst/sub/small", ""},
		{"copy_file_range", "EINTR", "dst/sub/large", ""},
		{"close", "EINTR", "dst/sub/small", ""},
		{"openat", "EINTR", "dst/sub", ""},
		{"openat2", "EINTR", "src/sub", ""},
		{"mkdirat", "EINTR", "dst/sub", ""},
		{"symlinkat", "EINTR", "dst/sub", ""},
		{"linkat", "EINTR", "dst/sub", ""},
		{"getdents64", "EINTR", "src/sub", ""},
		{"copy_file_range", "EXDEV", "dst/sub/large", ""}, // an older kernel; then by hand
		{"copy_file_range", "EOPNOTSUPP", "dst/sub/large", ""},
	} {
		t.Run(tc.call+" "+tc.errno+" "+tc.on, func(t *testing.T) {
			dir := t.TempDir()
			makeFaultTree(t, dir+"/src")
			must(t, os.Mkdir(dir+"/dst", 0o755))
			out, err := injected(t, dir+"/"+tc.on, tc.call, tc.errno,
				workerTask{Do: "copy", Names: []string{dir + "/src", dir + "/dst"}})
			if tc.names != "" {
				if err == nil || !strings.Contains(string(out), "copy "+dir+"/src/") || !strings.Contains(string(out), tc.names) {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			if err != nil || !equalPictures(pictureOf(t, dir+"/src"), pictureOf(t, dir+"/dst")) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// A removal that meets a failing disk says so, goes on with everything else, and
// is not put off by an interruption or by a lack of descriptors.
func TestRemoveTreeFaults(t *testing.T) {
	for _, tc := range []struct{ call, errno, on, want string }{
		{"unlinkat", "EIO", "sub", "/tree/sub/"},
		{"getdents64", "EIO", "sub", "/tree/sub: input/output error"},
		{"openat2", "EIO", "sub", "/tree/sub/dir: input/output error"},
		{"unlinkat", "EINTR", "sub", ""},
		{"getdents64", "EINTR", "sub", ""},
		{"openat2", "EINTR", "sub", ""},
		{"openat2", "EAGAIN", "sub", ""},
		{"fcntl", "EMFILE", "sub", ""},
	} {
		t.Run(tc.call+" "+tc.errno, func(t *testing.T) {
			parent := openParent(t)
			makeFaultTree(t, parent.Name()+"/tree")
			out, err := injected(t, parent.Name()+"/tree/"+tc.on, tc.call, tc.errno,
				workerTask{Do: "remove", Dir: parent.Name()})
			if tc.want == "" {
				if err != nil {
					t.Errorf("%v: %s", err, out)
				}
				checkGone(t, parent)
				return
			}
			if err == nil || !strings.Contains(string(out), "remove "+parent.Name()) || !strings.Contains(string(out), tc.want) {
				t.Errorf("%v: %s", err, out)
			}
			must(t, RemoveTree(parent, "tree"))
			checkGone(t, parent)
		})
	}
}

// injected runs a task under strace, which makes one system call that uses the
// path fail, and gives what it printed.
func injected(t *testing.T, path, call, errno string, task workerTask) ([]byte, error) {
	t.Helper()
	text, err := json.Marshal(task)
	must(t, err)
	log := t.TempDir() + "/log"
	cmd := exec.Command(tool(t, "strace"), "-f", "-o", log, "-P", path, "-e", "trace="+call,
		"-e", "inject="+call+":error="+errno+":when=1", os.Args[0], "-test.run=^TestWorkerProcess$")
	cmd.Env = append(os.Environ(), "SBX_ROOTFS_WORKER=1")
	cmd.Stdin = bytes.NewReader(text)
	out, runErr := cmd.CombinedOutput()
	if data, err := os.ReadFile(log); err != nil || !bytes.Contains(data, []byte("(INJECTED)")) {
		t.Skipf("cannot: strace could not get hold of the call: %s %s", out, data)
	}
	return out, runErr
}

func makeFaultTree(t *testing.T, src string) {
	t.Helper()
	must(t, os.MkdirAll(src+"/sub/dir", 0o755))
	must(t, os.WriteFile(src+"/sub/small", make([]byte, 5000), 0o644))
	if err := unix.Setxattr(src+"/sub/small", "user.note", []byte("x"), 0); err != nil {
		t.Skipf("cannot: no user attributes in the temporary directory: %v", err)
	}
	must(t, os.WriteFile(src+"/sub/large", bytes.Repeat([]byte("large"), 100_000), 0o644))
	must(t, os.WriteFile(src+"/sub/sparse", nil, 0o644))
	must(t, os.Truncate(src+"/sub/sparse", 1<<20))
	must(t, os.Symlink("target", src+"/sub/link"))
	must(t, os.WriteFile(src+"/sub/dir/one", nil, 0o644))
	must(t, os.Link(src+"/sub/dir/one", src+"/sub/two"))
}
