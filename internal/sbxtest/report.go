package sbxtest

import (
	"encoding/json"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/probe"
)

// namespaceNames are the links in /proc/self/ns that a sandbox must not share.
var namespaceNames = []string{"user", "pid", "mnt", "uts", "ipc", "net", "cgroup"}

// HostFacts tells the probe what it must not find inside: it lays out a secret
// file, listens on a port and an abstract socket, and notes the host's
// namespaces and names. All of it ends with the test.
func HostFacts(t testing.TB) probe.Facts {
	t.Helper()
	facts := probe.Facts{Namespaces: map[string]string{}, Secret: "host-secret-" + t.Name()}
	for _, name := range namespaceNames {
		link, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		facts.Namespaces[name] = link
	}
	var err error
	if facts.Hostname, err = os.Hostname(); err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	facts.UserName = me.Username
	facts.Canary = filepath.Join(sharedHome(t), "canary-"+itoa(os.Getpid()))
	if err := os.WriteFile(facts.Canary, []byte(facts.Secret), 0o644); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, ok := tcp.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("odd address %v", tcp.Addr())
	}
	facts.Port = address.Port
	facts.Abstract = "sbxtest-" + itoa(os.Getpid()) + "-" + itoa(facts.Port)
	abstract, err := net.Listen("unix", "@"+facts.Abstract)
	if err != nil {
		t.Fatal(err)
	}
	facts.Key = addKey(t)
	t.Cleanup(func() {
		os.Remove(facts.Canary)
		tcp.Close()
		abstract.Close()
	})
	return facts
}

// addKey puts a key into the session keyring and returns its description, or ""
// where the caller has no such keyring or no room in it.
func addKey(t testing.TB) string {
	t.Helper()
	name := "sbxtest-" + itoa(os.Getpid())
	id, err := unix.AddKey("user", name, []byte("host-secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		t.Logf("no key can be added, so none is looked for: %v", err)
		return ""
	}
	t.Cleanup(func() {
		_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
	})
	return name
}

// Report runs the probe under sbx with the flags and returns its findings.
func (s Sandbox) Report(t testing.TB, facts probe.Facts, flags ...string) []probe.Finding {
	t.Helper()
	text, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run"}, flags...)
	args = append(args, Probe(t), "report", string(text))
	result := s.MustRun(t, args...)
	var findings []probe.Finding
	if err := json.Unmarshal([]byte(result.Stdout), &findings); err != nil {
		t.Fatalf("%v: %v", err, result)
	}
	return findings
}

// ReportOnTerminal is like [Sandbox.Report] with the program on a
// terminal of its own; the findings are taken from what the terminal shows.
func (s Sandbox) ReportOnTerminal(t testing.TB, facts probe.Facts, flags ...string) []probe.Finding {
	t.Helper()
	text, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run"}, flags...)
	args = append(args, Probe(t), "report", string(text))
	term := StartOnTerminal(t, s.Command(t, args...), 80, 24)
	status, output := term.Wait(t)
	var findings []probe.Finding
	// The terminal only turns line ends into CR LF, which JSON does not mind;
	// sbx resets the terminal behind the last line.
	start, end := strings.IndexByte(output, '['), strings.LastIndexByte(output, ']')
	for start >= 0 && start < end && json.Unmarshal([]byte(output[start:end+1]), &findings) != nil {
		end = strings.LastIndexByte(output[:end], ']')
	}
	if status != 0 || findings == nil {
		t.Fatalf("status %d; shown\n%s", status, output)
	}
	return findings
}
