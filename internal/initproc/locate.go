package initproc

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

// Until its execve the payload's process has pid 1's descriptors, some of them
// on the host's own mounts, and /proc/self/exe is the host's sbx. A path that
// leads through such a link of procfs leads out of the sandbox (CVE-2024-21626,
// CVE-2019-5736), whether it was asked for (--workdir /dev/fd/5) or a link in a
// hostile image has it so. So paths are walked here first, and such links are
// refused; from then until execve nothing runs that could change them.

// enterDir makes the working directory pid 1's own, from which the clone has
// it, in its copy of the mounts.
func (p *process) enterDir() error {
	dir := p.plan.Process.Dir
	fd, err := walk(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("go to the working directory %s: %w", quote.Quote(dir), err)
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("look at the working directory %s: %w", quote.Quote(dir), err)
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("go to the working directory %s: it leads into /proc: %w", quote.Quote(dir), unix.EACCES)
	}
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("go to the working directory %s: %w", quote.Quote(dir), err)
	}
	return nil
}

// walk opens a path inside, through any link but those of procfs that are none
// of text: ELOOP.
func walk(name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
		if (err == unix.EAGAIN || err == unix.EINTR) && try < 128 {
			continue
		}
		return fd, err
	}
}

// locate finds the file to execute: a path as it stands, a bare name along
// PATH. It looks with pid 1's eyes; whether the user may execute what is found
// is for execve(2) to say.
func (p *process) locate() (string, error) {
	name := p.plan.Program.Inside
	if strings.Contains(name, "/") {
		return name, checkWay(name, name, 0)
	}
	denied := false
	for _, dir := range strings.Split(p.searchPath(), ":") {
		if !path.IsAbs(dir) {
			continue
		}
		file := path.Join(dir, name)
		var st unix.Stat_t
		if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if st.Mode&0o111 != 0 {
			return file, checkWay(name, file, 0)
		}
		denied = true
	}
	if denied {
		return "", &RunError{err: fmt.Errorf("run %s: %w", name, unix.EACCES)}
	}
	return "", &RunError{NotFound: true, err: fmt.Errorf("run %s: %w", name, unix.ENOENT)}
}

// maxScripts is how deep the kernel follows scripts that are interpreters of
// scripts (execve(2)).
const maxScripts = 5

// checkWay refuses a file, and the interpreter that its "#!" line names, that
// is reached through a link of procfs, and what is no file: execve(2) has the same
// errno for a directory as for a file that is not executable. All other trouble is
// execve's to report.
func checkWay(program, file string, depth int) error {
	fd, err := walk(file, unix.O_PATH)
	if err == unix.ELOOP {
		return &RunError{err: fmt.Errorf("run %s: %s leads through too many links, or through one of /proc: %w", program, file, err)}
	}
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || depth == maxScripts {
		return nil
	}
	if err := rootfs.CheckProgramType(file, st.Mode); err != nil {
		if file != program {
			err = fmt.Errorf("run %s: %w", program, err)
		}
		return &RunError{err: err}
	}
	script, err := readShebang(file)
	if err != nil {
		return nil
	}
	return checkWay(program, script.Interp, depth+1)
}

func readShebang(file string) (*rootfs.Shebang, error) {
	fd, err := walk(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	head := make([]byte, 256)
	n, err := unix.Read(fd, head)
	if err != nil {
		return nil, err
	}
	return rootfs.ParseShebang(head[:n])
}

func (p *process) searchPath() string {
	for _, kv := range p.plan.Process.Env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			return value
		}
	}
	return ""
}
