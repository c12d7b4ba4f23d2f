package rootfs

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// elfSpec describes a small ELF file that says what a test wants it to say.
// It can be read but not run.
type elfSpec struct {
	class, data   byte // 0: those of this machine
	machine, kind uint16
	interp        string
	needed        []string
	soname        string
	rpath         string
	runpath       string
	flags1        uint64
}

// bytes lays the file out: header, three program headers, text, dynamic
// section. Addresses are offsets into the file.
func (s elfSpec) bytes() []byte {
	if s.class == 0 {
		s.class = elfClass64
	}
	if s.data == 0 {
		s.data = nativeCacheEndian() - 1 // ELFDATA2LSB is 1, the cache's little endian 2
	}
	if s.machine == 0 {
		s.machine = nativeELF()
	}
	if s.kind == 0 {
		s.kind = elfTypeDyn
	}
	var order binary.AppendByteOrder = binary.LittleEndian
	if s.data == elfBig {
		order = binary.BigEndian
	}
	text, dynamic := []byte{0}, []uint64{}
	add := func(s string) uint64 {
		at := len(text)
		text = append(append(text, s...), 0)
		return uint64(at)
	}
	const textAt = elfHeaderSize64 + 3*elfPhdrSize64
	interpAt := textAt + add(s.interp)
	for _, name := range s.needed {
		dynamic = append(dynamic, dtNeeded, add(name))
	}
	for tag, value := range map[uint64]string{dtSoName: s.soname, dtRPath: s.rpath, dtRunPath: s.runpath} {
		if value != "" {
			dynamic = append(dynamic, tag, add(value))
		}
	}
	dynamic = append(dynamic, dtFlags1, s.flags1, dtStrTab, textAt, dtStrSize, uint64(len(text)), dtNull, 0)
	dynamicAt := uint64(textAt + len(text))
	size := dynamicAt + uint64(len(dynamic))*8

	b := append([]byte("\x7fELF"), s.class, s.data, 1, 0)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint16(b, s.kind)
	b = order.AppendUint16(b, s.machine)
	b = order.AppendUint32(b, 1)
	for _, v := range []uint64{0x40, elfHeaderSize64, 0} { // entry, program headers, sections
		b = order.AppendUint64(b, v)
	}
	b = order.AppendUint32(b, 0)
	for _, v := range []uint16{elfHeaderSize64, elfPhdrSize64, 3, 0, 0, 0} {
		b = order.AppendUint16(b, v)
	}
	segment := func(kind uint32, at, size uint64) {
		b = order.AppendUint32(b, kind)
		b = order.AppendUint32(b, 4)
		for _, v := range []uint64{at, at, at, size, size, 1} {
			b = order.AppendUint64(b, v)
		}
	}
	segment(elfLoad, 0, size)
	segment(elfDynamic, dynamicAt, uint64(len(dynamic))*8)
	if s.interp != "" {
		segment(elfInterp, interpAt, uint64(len(s.interp)+1))
	} else {
		segment(0, 0, 0)
	}
	b = append(b, text...)
	for _, v := range dynamic {
		b = order.AppendUint64(b, v)
	}
	return b
}

const testLoader = "/lib64/ld-linux-x86-64.so.2"

// plant makes a tree out of lines: a path with an [elfSpec], bytes, or a link
// target ("-> target"). Directories come by themselves.
func plant(t *testing.T, files map[string]any) *Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		switch c := content.(type) {
		case elfSpec:
			must(t, os.WriteFile(file, c.bytes(), 0o755))
		case []byte:
			must(t, os.WriteFile(file, c, 0o755))
		case string:
			target, isLink := strings.CutPrefix(c, "-> ")
			if isLink {
				must(t, os.Symlink(target, file))
			} else {
				must(t, os.WriteFile(file, []byte(c), 0o755))
			}
		}
	}
	return openTestRoot(t, dir)
}

func openTestRoot(t *testing.T, dir string) *Root {
	t.Helper()
	root, err := OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tool returns the path of a program that a test needs besides Go. Without it
// the test is skipped, or fails when SBX_MUST_WORK says that nothing may.
func tool(t *testing.T, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
			if _, err := os.Stat(dir + name); err == nil {
				return dir + name
			}
		}
		lack(t, name+" is not installed")
	}
	return file
}

func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// cc compiles C source text with the machine's compiler.
func cc(t *testing.T, out, source string, args ...string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(out), 0o755))
	cmd := exec.Command(tool(t, "gcc"), append([]string{"-x", "c", "-", "-x", "none", "-o", out}, args...)...)
	cmd.Stdin = strings.NewReader(source)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc %v: %v\n%s", args, err, text)
	}
	return out
}

// runIn runs a program with dir as its root directory, as root or, in a user
// namespace, as anybody.
func runIn(t *testing.T, dir, cwd string, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Path, cmd.Err = argv[0], nil // looked up below the new root by the kernel
	cmd.Dir, cmd.Env = cwd, []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mkfifo(t *testing.T, file string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, syscall.Mkfifo(file, 0o755))
}
