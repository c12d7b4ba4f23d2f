package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// debianVariable names a tar of a Debian tree, as `mmdebstrap --variant=minbase
// --include=adduser,passwd bookworm FILE` makes it in a minute or two, over the
// network; scripts/test makes one as root and keeps it for a week.
const debianVariable = "SBX_TEST_DEBIAN"

// In a Debian tree from elsewhere a fake root installs and removes packages, adds
// users and becomes them, and files keep their owners and set-id bits.
func TestDebianTree(t *testing.T) {
	image := os.Getenv(debianVariable)
	sbxtest.Need(t, sbxtest.SubordinateRange(), sbxtest.Requirement{
		Text: "$" + debianVariable + ", a tar of a Debian tree", Cannot: true,
		Missing: func() string {
			if image == "" {
				return "it is not set"
			}
			return ""
		},
	})
	box := sbxtest.NewStore(t)
	box.MustRun(t, "image", "import", "-q", image, "debian")
	work := t.TempDir()
	debPackage(t, work)
	script := filepath.Join(work, "script")
	if err := os.WriteFile(script, []byte(debianScript), 0o755); err != nil {
		t.Fatal(err)
	}
	result := box.MustRun(t, "run", "-q", "--image", "debian", "-u", "0", "--copy-in", work+":/work", "sh", "/work/script")
	for _, want := range []string{
		"installed hello", "alice 1000 1000", "file alice alice", "svc 999", "nobody 65534", "su 4755 0 0", "verified", "removed",
	} {
		if !strings.Contains(result.Stdout, want+"\n") {
			t.Errorf("no line %q\n%v", want, result)
		}
	}
}

const debianScript = `set -eu
dpkg -i /work/hello.deb >/dev/null
echo installed $(hello-from-a-package)
adduser --disabled-password --gecos '' alice >/dev/null
su alice -c 'echo $(id -un) $(id -u) $(id -g); touch ~/file; stat -c "file %U %G" ~/file'
useradd --system --create-home svc
echo svc $(runuser -u svc -- id -u)
echo nobody $(setpriv --reuid=65534 --clear-groups id -u)
stat -c 'su %a %u %g' /usr/bin/su
dpkg --verify coreutils && echo verified
dpkg -P hello >/dev/null && ! command -v hello-from-a-package && echo removed
`

// debPackage makes a package with the tools that Debian packages are made of.
func debPackage(t *testing.T, dir string) {
	t.Helper()
	sbxtest.Need(t, sbxtest.Program("dpkg-deb"))
	for name, text := range map[string]string{
		"pkg/DEBIAN/control":               "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: greets\n",
		"pkg/DEBIAN/postinst":              "#!/bin/sh\nchown daemon:daemon /usr/share/hello\n",
		"pkg/usr/bin/hello-from-a-package": "#!/bin/sh\necho hello\n",
		"pkg/usr/share/hello/text":         "hello\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("dpkg-deb", "--root-owner-group", "--build", "pkg", "hello.deb")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("dpkg-deb: %w\n%s", err, out))
	}
}
