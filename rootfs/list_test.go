package rootfs

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListsSayWhy(t *testing.T) {
	for name, text := range map[string]string{"base": baseList, "host": hostList} {
		groups, binds, err := parseList(text)
		must(t, err)
		seen := make(map[string]bool)
		for _, g := range groups {
			if g.name == "" || g.reason == "" || seen[g.name] {
				t.Errorf("%s: group %q has no reason, or comes twice", name, g.name)
			}
			seen[g.name] = true
			for _, pattern := range append(append([]string{}, g.files...), g.trees...) {
				if !strings.HasPrefix(pattern, "/") && !strings.HasPrefix(pattern, "{") {
					t.Errorf("%s, group %s: %q is not absolute", name, g.name, pattern)
				}
				if _, err := filepath.Match(pattern, ""); err != nil {
					t.Errorf("%s, group %s: %q: %v", name, g.name, pattern, err)
				}
			}
		}
		if (len(binds) > 0) != (name == "host") {
			t.Errorf("%s binds %v", name, binds)
		}
		for _, b := range binds {
			if b.reason == "" {
				t.Errorf("%s: bind %v has no reason", name, b.paths)
			}
		}
	}
}

func TestListsNeverNameSecrets(t *testing.T) {
	for _, text := range []string{baseList, hostList} {
		for _, secret := range []string{"shadow", "machine-id", "/etc/ssh", "sudoers", "/etc/passwd", "/etc/hosts", "resolv.conf", "krb5", "gitconfig", "npmrc", "/home", "/root"} {
			for line := range strings.Lines(text) {
				if !strings.HasPrefix(line, "#") && strings.Contains(line, secret) {
					t.Errorf("%q in %q", secret, line)
				}
			}
		}
	}
}

func TestParseListRefuses(t *testing.T) {
	for _, text := range []string{"bin sh", "group a: b\nbins sh", "group a: b\ncopy /etc/shadow"} {
		if _, _, err := parseList(text); err == nil {
			t.Errorf("%q was understood", text)
		}
	}
}

func TestSkipped(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		want          bool
	}{
		{"/usr/lib/python3.11/test", "test", true},
		{"/usr/lib/python3.11/test", "tes", false},
		{"/usr/lib/python3.11/test.py", "test", false},
		{"/usr/share/perl/5.36/unicore/Name.pl", "unicore/Name.pl", true},
		{"/usr/share/perl/5.36/other/Name.pl", "unicore/Name.pl", false},
		{"/a/b.pyc", "*.pyc", true},
	} {
		if skipped(tc.name, []string{"nothing", tc.pattern}) != tc.want {
			t.Errorf("skip %s by %s: %v", tc.name, tc.pattern, !tc.want)
		}
	}
}

func TestPasswdAndGroup(t *testing.T) {
	for _, tc := range []struct {
		uid, gid    uint32
		user, group string // the line of the payload
	}{
		{1000, 1000, "sbx:x:1000:1000:sbx:/home/sbx:/bin/sh", "sbx:x:1000:"},
		{1234, 5678, "sbx:x:1234:5678:sbx:/home/sbx:/bin/sh", "sbx:x:5678:"},
		{0, 0, "root:x:0:0:root:/root:/bin/sh", "root:x:0:"},
		{1, 1, "daemon:x:1:1:daemon:/usr/sbin:/bin/sh", "daemon:x:1:"},
		{65534, 65534, "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh", "nogroup:x:65534:"},
		{4294967294, 100, "sbx:x:4294967294:100:sbx:/home/sbx:/bin/sh", "users:x:100:"},
	} {
		passwd, group := Passwd(tc.uid, tc.gid, ""), Group(tc.uid, tc.gid)
		checkLines(t, passwd, tc.user, 7)
		checkLines(t, group, tc.group, 4)
		for _, always := range []string{"root:x:0:", "nobody:x:65534:"} {
			if !bytes.Contains(passwd, []byte(always)) {
				t.Errorf("no %q in\n%s", always, passwd)
			}
		}
	}
	if !bytes.Contains(Passwd(1000, 1000, "/bin/bash"), []byte(":/home/sbx:/bin/bash\n")) {
		t.Error("the shell is not used")
	}
}

// checkLines wants the line, every id and name once, and the right number of
// fields.
func checkLines(t *testing.T, data []byte, want string, fields int) {
	t.Helper()
	found := false
	seen := make(map[string]bool)
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		line := scan.Text()
		found = found || line == want
		parts := strings.Split(line, ":")
		if len(parts) != fields || seen[parts[0]] || seen[parts[2]] {
			t.Errorf("line %q is wrong or comes twice", line)
			continue
		}
		seen[parts[0]], seen[parts[2]] = true, true
	}
	if !found {
		t.Errorf("no %q in\n%s", want, data)
	}
}

func TestHosts(t *testing.T) {
	want := "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if got := string(Hosts("box")); got != want {
		t.Errorf("got %q", got)
	}
}

func TestOpenDirImage(t *testing.T) {
	for _, tc := range []struct {
		name, program string
		files         map[string]any
		ok            bool
	}{
		{name: "a root with usr", files: map[string]any{"usr/bin/x": "x"}, ok: true},
		{name: "a root with bin as a link into itself", files: map[string]any{"bin": "-> /tools", "tools/x": "x"}, ok: true},
		{name: "only the program", program: "/app", files: map[string]any{"app": "x"}, ok: true},
		{name: "nothing of a root", program: "/app", files: map[string]any{"readme": "x"}},
		{name: "a link out of it", files: map[string]any{"usr": "-> ../../../../nowhere"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := plant(t, tc.files).Path()
			root, err := OpenDirImage(dir, tc.program)
			if tc.ok != (err == nil) {
				t.Fatal(err)
			}
			if err == nil {
				must(t, root.Close())
			} else if want := fmt.Sprintf("use %s as an image: it has neither usr nor bin in it", dir); !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	if _, err := OpenDirImage(file, ""); err == nil {
		t.Error("a file was taken")
	}
}
