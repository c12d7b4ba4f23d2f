package rootfs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inRoot binds nothing: the programs run with the image as their root and
// without /proc and /dev, so a few that need these are not here.
type inRoot struct {
	name  string
	argv  []string
	needs string // a program of the host; without it the case does not count
	want  string // in the output
}

// perlScript is a file because perl -e wants /dev/null.
const perlScript = `use strict; use warnings; use utf8; use open ':std', ':utf8';
use POSIX; use Data::Dumper; use File::Temp; use Encode; use List::Util qw(sum); use Socket; use Time::HiRes;
print sum(1..4), lc("Ä"), "\N{GREEK SMALL LETTER ALPHA}";
`

func TestBaseImageOfThisHostWorks(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { removeBelow(t, dir) })
	s, err := OpenStore(filepath.Join(dir, "sbx"))
	must(t, err)
	defer s.Close()
	img := buildImage(t, s, ImageRequest{Store: s.Path(), Name: ImageBase, Owner: Ownership{Single: true}})
	t.Logf("%d files, %d MiB, notes %q", img.Files, img.Bytes>>20, img.Notes)
	if len(img.Notes) > 0 && os.Getenv("SBX_MUST_WORK") == "1" {
		t.Errorf("something is lacking: %q", img.Notes)
	}
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	for _, tc := range []inRoot{
		{"shell", sh("echo $((6*7))"), "sh", "42"},
		{"bash", []string{"/bin/bash", "-lc", "a=(1 2 3); echo ${#a[@]} $PATH"}, "bash", "3 /usr/local/"},
		{"pipes", sh("printf 'b\\na\\nb\\n' | sort | uniq -c | awk '{print $2 $1}' | sed s/a/A/ | tr '\\n' ' '"), "awk", "A1 b2"},
		{"find and xargs", sh("find /etc -name passwd | xargs grep -c ^root:"), "find", "1"},
		{"tar and gzip", sh("tar czf /tmp/x.tgz -C /etc passwd && tar tzf /tmp/x.tgz"), "tar", "passwd"},
		{"xz", sh("echo hi | xz | xz -d"), "xz", "hi"},
		{"bzip2", sh("echo hi | bzip2 | bunzip2"), "bzip2", "hi"},
		{"zstd", sh("echo hi | zstd | zstd -d"), "zstd", "hi"},
		{"diff", sh("diff /etc/passwd /etc/group | head -n 1 | wc -l"), "diff", "1"},
		{"links are relative to the root", sh("ls -l /bin/sh /etc/mtab"), "ls", "/proc/self/mounts"},
		{"user names", sh("id -un 1000; getent group sbx"), "getent", "sbx:x:1000:"},
		{"services", sh("getent services https"), "getent", "443/tcp"},
		{"UTF-8", sh("LC_ALL=C.UTF-8 locale charmap"), "locale", "UTF-8"},
		{"iconv", sh("printf '\\344' | iconv -f LATIN1 -t UTF-8"), "iconv", "ä"},
		{"time zones", sh("TZ=Europe/Berlin date -d @0 +%H%Z"), "date", "01CET"},
		{"terminfo", sh("tput -T xterm-256color colors"), "tput", "256"},
		{"certificates", sh("openssl verify -CApath /etc/ssl/certs $(ls /etc/ssl/certs/*.pem | head -n 1)"), "openssl", ": OK"},
		{"ldd", sh("ldd /bin/sh"), "ldd", "libc.so"},
		{"file", sh("file -b /etc/passwd"), "file", "ASCII"},
		{"less", sh("less -V | head -n 1"), "less", "less "},
		{"python", []string{"/usr/bin/python3", "-c", "import ssl, sqlite3, json, ctypes, hashlib, zoneinfo, curses, lzma, bz2, asyncio, readline, decimal, uuid; print(json.dumps([hashlib.sha256(b'').hexdigest()[:4], str(zoneinfo.ZoneInfo('Europe/Berlin'))]))"}, "python3", `["e3b0", "Europe/Berlin"]`},
		{"perl", sh("cat >/tmp/p.pl <<'END'\n" + perlScript + "END\nperl /tmp/p.pl"), "perl", "10äα"},
		{"the loader's cache", sh("ldconfig -p | grep -c libc.so"), "ldconfig", "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !onHost(tc.needs) {
				t.Skipf("cannot: this host has no %s in its system directories", tc.needs)
			}
			if tc.name == "certificates" && len(glob(t, img.Path+"/etc/ssl/certs/*.pem")) == 0 {
				t.Skip("cannot: this host has no certificates")
			}
			if _, err := os.Stat("/usr/share/zoneinfo/Europe/Berlin"); err != nil && tc.name == "time zones" {
				t.Skip("cannot: this host has no time zones")
			}
			if tc.name == "perl" && len(glob(t, "/usr/share/perl/5*/open.pm")) == 0 {
				t.Skip("cannot: this host has Perl without its modules")
			}
			out, err := runIn(t, img.Path, "/", tc.argv...)
			if err != nil || !strings.Contains(out, tc.want) {
				t.Errorf("%v: %v\n%s", tc.argv, err, out)
			}
		})
	}
	checkNoPrivilege(t, img.Path)
}

func onHost(name string) bool {
	for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return true
		}
	}
	return false
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	must(t, err)
	return names
}

// checkNoPrivilege wants no set-id bit, no capability, and no file that others
// may write, anywhere.
func checkNoPrivilege(t *testing.T, tree string) {
	t.Helper()
	for name, target := range treePaths(t, tree) {
		if target != "" {
			if _, err := os.Lstat(tree + name); err != nil {
				t.Error(err)
			}
			continue
		}
		st := lstat(t, tree, name)
		if st.Mode&0o6000 != 0 || st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
			t.Errorf("%s has mode %o", name, st.Mode)
		}
		var buf [1024]byte
		if n, err := unix.Lgetxattr(tree+name, "security.capability", buf[:]); err == nil {
			t.Errorf("%s has capabilities (%d bytes)", name, n)
		}
	}
}

func TestImagesOfThisHostResolve(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { removeBelow(t, dir) })
	s, err := OpenStore(filepath.Join(dir, "sbx"))
	must(t, err)
	defer s.Close()
	for _, name := range []string{ImageHost, ImageScratch} {
		req := ImageRequest{Store: s.Path(), Name: name, Owner: Ownership{Single: true}}
		must(t, Build(context.Background(), req, nil))
		img := findImage(t, s, req)
		checkNoPrivilege(t, img.Path)
		for _, bind := range img.Binds {
			if st, err := os.Lstat(img.Path + bind); err != nil || !st.IsDir() {
				t.Errorf("%s: no directory to bind %s on: %v", name, bind, err)
			}
		}
	}
}
