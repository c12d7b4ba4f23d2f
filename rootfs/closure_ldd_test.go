package rootfs

import (
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// ldd runs the loader; Closure only reads. Both find the same files for
// programs of this host.
func TestClosureAgreesWithLdd(t *testing.T) {
	ldd := tool(t, "ldd")
	host := openTestRoot(t, "/")
	if isMuslHost(host) {
		t.Skip("cannot: ldd of musl prints other text")
	}
	resolver := NewResolver(host)
	compared := 0
	for _, name := range []string{
		"true", "bash", "sh", "ls", "cp", "sed", "gawk", "mawk", "grep", "find", "tar", "gzip", "xz", "git", "perl", "python3", "vim.basic",
		"gcc", "as", "ld", "make", "curl", "ssh", "openssl", "gpg", "less", "ps", "top", "mount", "ip", "sqlite3", "nano", "strace", "bwrap",
		"systemctl", "apt-get", "dpkg", "file", "rsync", "node", "ruby", "gdb", "cmake", "jq", "tmux", "screen", "wget", "locale", "iconv",
		"getent", "su", "passwd", "crun", "podman", "busctl", "udevadm", "lsblk", "fdisk", "objdump", "readelf", "pinky", "gettext", "bc", "dc",
	} {
		file, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		closure, err := resolver.Closure(file)
		must(t, err)
		if len(closure.NotELF)+len(closure.Refused) > 0 || len(closure.Interps) == 0 {
			continue
		}
		want, ok := lddLibs(t, ldd, file)
		if !ok {
			continue
		}
		var got []string
		for _, l := range closure.Libs {
			got = append(got, l.Name+" "+path.Clean(l.Path))
		}
		slices.Sort(got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %q\nldd  %q", file, got, want)
		}
		compared++
	}
	if compared < 20 {
		t.Errorf("only %d programs could be compared", compared)
	}
	t.Logf("%d programs compared", compared)
}

func isMuslHost(host *Root) bool {
	c, err := NewResolver(host).Closure("/bin/sh")
	return err != nil || len(c.Interps) == 0 || isMusl(c.Interps[0].Name)
}

// lddLibs returns the sorted "name path" pairs of ldd, without the loader and
// the vdso.
func lddLibs(t *testing.T, ldd, file string) (libs []string, ok bool) {
	t.Helper()
	out, err := exec.Command(ldd, file).CombinedOutput()
	if err != nil {
		return nil, false
	}
	for line := range strings.Lines(string(out)) {
		name, rest, found := strings.Cut(strings.TrimSpace(line), " => ")
		if at, _, ok := strings.Cut(rest, " (0x"); found && ok {
			libs = append(libs, name+" "+path.Clean(at))
		} else if strings.HasPrefix(name, "/") && !strings.HasPrefix(path.Base(name), "ld-") {
			at, _, _ := strings.Cut(name, " (0x")
			libs = append(libs, at+" "+path.Clean(at))
		}
	}
	slices.Sort(libs)
	return libs, true
}

// The same on programs with every kind of search path, built for the purpose.
func TestClosureAgreesWithLddOnSearchPaths(t *testing.T) {
	ldd, dir := tool(t, "ldd"), t.TempDir()
	shared := func(name string, args ...string) string {
		source := "int " + strings.Map(onlyLetters, name) + ";"
		args = append(args, "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed,--allow-shlib-undefined", "-Wl,-soname,"+path.Base(name))
		return cc(t, filepath.Join(dir, name), source, args...)
	}
	const oldTags, newTags = "-Wl,--disable-new-dtags", "-Wl,--enable-new-dtags"
	deepB := shared("deep/libb.so")
	shared("other/libb.so")
	shared("app/lib/sub/libb.so")
	libA := shared("app/lib/liba.so", deepB, newTags, "-Wl,-rpath,$ORIGIN/sub")
	libA2 := shared("app/lib/liba2.so", deepB)
	libQ := shared("app/lib/libq.so", "-Wl,-soname,"+dir+"/app/lib/libq.so")
	gone := shared("gone/libgone.so")
	const empty = "int main(void) { return 0; }"
	noAsNeeded := "-Wl,--no-as-needed,--allow-shlib-undefined,--unresolved-symbols=ignore-all"
	programs := []string{
		cc(t, filepath.Join(dir, "app/bin/runpath"), empty, noAsNeeded, libA, newTags, "-Wl,-rpath,$ORIGIN/../lib"),
		cc(t, filepath.Join(dir, "app/bin/rpath"), empty, noAsNeeded, libA2, oldTags, "-Wl,-rpath,${ORIGIN}/../lib:"+dir+"/other"),
		cc(t, filepath.Join(dir, "app/bin/notinherited"), empty, noAsNeeded, libA2, newTags, "-Wl,-rpath,${ORIGIN}/../lib:"+dir+"/other"),
		cc(t, filepath.Join(dir, "app/bin/slash"), empty, noAsNeeded, libQ),
		cc(t, filepath.Join(dir, "app/bin/missing"), empty, noAsNeeded, gone, libQ),
		cc(t, filepath.Join(dir, "app/bin/lib"), empty, noAsNeeded, libA, newTags, "-Wl,-rpath,"+dir+"/$LIB/none:"+dir+"/app/lib"),
	}
	resolver := NewResolver(openTestRoot(t, "/"))
	for _, file := range programs {
		closure, err := resolver.Closure(file)
		must(t, err)
		want, ok := lddLibs(t, ldd, file)
		if !ok {
			t.Errorf("ldd %s failed", file)
		}
		var got []string
		for _, l := range closure.Libs {
			got = append(got, l.Name+" "+path.Clean(l.Path))
		}
		slices.Sort(got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %q\nldd  %q", file, got, want)
		}
	}
}

func onlyLetters(r rune) rune {
	if 'a' <= r && r <= 'z' {
		return r
	}
	return -1
}
