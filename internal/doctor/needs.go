package doctor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/userns"
)

// Need is one thing that an administrator could change.
type Need struct {
	// Name is a word for it: helpers, subids, linger.
	Name string `json:"name"`
	// Title says what is missing, in a clause.
	Title string `json:"title"`
	// Do are lines for a shell of root's, remarks among them, Safe why that does no harm.
	Do   []string `json:"do"`
	Safe string   `json:"safe"`
}

// AdminFinding is what the letter to the administrator needs to know besides.
type AdminFinding struct {
	Hostname string
	// Distribution are ID and ID_LIKE of os-release(5).
	Distribution []string
	// Binary is the real path of sbx, OwnedByRoot whether root alone may change
	// it.
	Binary      string
	OwnedByRoot bool
	// Helpers is how newuidmap and newgidmap are unusable.
	Helpers HelperState
	// Subuid and the others are the host's files, for ranges that are free.
	Subuid, Subgid, Passwd, Group, LoginDefs []byte
	Systemd                                  bool
	// LSM are the active security modules, empty when not readable.
	LSM string
}

// HelperState says whether the host's helpers can write id maps.
type HelperState string

// The states of the helpers.
const (
	HelpersWork         HelperState = ""
	HelpersMissing      HelperState = "missing"
	HelpersUnprivileged HelperState = "unprivileged" // no setuid bit, no file capability, or a nosuid mount
	HelpersUnsafe       HelperState = "unsafe"       // not only root may change them
	// HelpersDefused means that this process and its children gain no rights by
	// execve, because of no_new_privs or a user namespace without the host's
	// root: nobody has to change the host for that.
	HelpersDefused HelperState = "defused"
)

func lookAdmin(binary string) AdminFinding {
	a := AdminFinding{Binary: binary, Helpers: helperState()}
	a.Hostname, _ = os.Hostname()
	a.Distribution = osRelease(readSome("/etc/os-release"))
	a.Subuid, a.Subgid = readSome("/etc/subuid"), readSome("/etc/subgid")
	a.Passwd, a.Group = readSome("/etc/passwd"), readSome("/etc/group")
	a.LoginDefs = readSome("/etc/login.defs")
	a.LSM = strings.TrimSpace(string(readSome("/sys/kernel/security/lsm")))
	// sd_booted(3): the directory is there when systemd is pid 1.
	st, err := os.Lstat("/run/systemd/system")
	a.Systemd = err == nil && st.IsDir()
	var bin unix.Stat_t
	a.OwnedByRoot = unix.Stat(binary, &bin) == nil && bin.Uid == 0 && bin.Mode&0o022 == 0
	return a
}

func helperState() HelperState {
	_, err := userns.FindHelpers()
	nnp, nnpErr := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	own, _, mapErr := userns.OwnMaps()
	_, hasRoot := own.Inside(0)
	switch {
	case err == nil:
		return HelpersWork
	case nnpErr == nil && nnp == 1, mapErr == nil && !hasRoot:
		return HelpersDefused
	case errors.Is(err, userns.ErrNotInstalled):
		return HelpersMissing
	case errors.Is(err, userns.ErrUnsafe):
		return HelpersUnsafe
	default:
		return HelpersUnprivileged
	}
}

// maxFile bounds what is read of a file of the host's, in bytes.
const maxFile = 16 << 20

// readSome reads a file; what cannot be read is empty: the letter then says
// less.
func readSome(path string) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil
	}
	return data
}

// osRelease returns ID and then the words of ID_LIKE (os-release(5)).
func osRelease(text []byte) []string {
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found {
			values[name] = strings.ToLower(strings.Trim(value, `"'`))
		}
	}
	return append(strings.Fields(values["ID"]), strings.Fields(values["ID_LIKE"])...)
}

// Needs lists what an administrator could change on the host so that it gives
// more of a sandbox, the most important first. It is pure. What the user can do
// himself is not among it.
func Needs(f Findings) []Need {
	var list []Need
	for _, need := range []func(Findings) (Need, bool){
		needKernel, needUserns, needAppArmor, needContainer, needHelpers, needSubids,
		needUnified, needLinger, needDelegation, needLandlock,
	} {
		if n, yes := need(f); yes {
			list = append(list, n)
		}
	}
	return list
}

func needKernel(f Findings) (Need, bool) {
	if judgeKernel(f.Uname[0], f.Uname[1]).Concern != Bad {
		return Need{}, false
	}
	return Need{
		Name:  "kernel",
		Title: fmt.Sprintf("the running kernel (%s) looks older than the fixes of spring 2026 for CVE-2026-31431 and CVE-2026-43284", f.Uname[0]),
		Do:    []string{"# install the distribution's current kernel, and restart", "# (its security tracker tells whether this release has the fixes already)"},
		Safe:  "with these holes any program that can read a file can change it in memory, with a sandbox or without one; the update closes them for all users",
	}, true
}

func needUserns(f Findings) (Need, bool) {
	name, value, title := "", "", "user namespaces are switched off (%s is 0)"
	switch most := f.Values["user.max_user_namespaces"]; {
	case most == "1":
		title = "a sandbox takes two user namespaces, one in the other (%s is 1)"
		fallthrough
	case most == "0":
		name, value = "user.max_user_namespaces", "10000"
	case f.Values["kernel.unprivileged_userns_clone"] == "0" && f.Facts.Caller.UID != 0:
		name, value = "kernel.unprivileged_userns_clone", "1"
	default:
		return Need{}, false
	}
	return Need{
		Name:  "userns",
		Title: fmt.Sprintf(title, name),
		Do: []string{
			fmt.Sprintf("echo '%s = %s' > /etc/sysctl.d/90-sbx.conf", name, value),
			"sysctl --system",
		},
		Safe: "this is the setting with which the large distributions are shipped; a user namespace gives no right over anything outside of it. It does open more of the kernel to local users, so keep the kernel up to date; sbx itself lets no program inside a sandbox make another one",
	}, true
}

// needAppArmor names the profile only where nothing works: with a profile that
// is there already, all does.
func needAppArmor(f Findings) (Need, bool) {
	if f.Values["kernel.apparmor_restrict_unprivileged_userns"] != "1" || f.anyWorks() {
		return Need{}, false
	}
	a := f.Admin
	n := Need{
		Name:  "apparmor",
		Title: "AppArmor takes the rights out of user namespaces of programs without a profile (kernel.apparmor_restrict_unprivileged_userns is 1)",
		Do: append(append([]string{"cat > /etc/apparmor.d/sbx <<'EOF'"}, apparmorProfile(a.Binary)...),
			"EOF", "apparmor_parser -r /etc/apparmor.d/sbx"),
		Safe: "the profile gives one program file back what the restriction took from all of them, and the restriction itself stays on. Whoever may write that file may use the permission for other code",
	}
	if a.OwnedByRoot {
		n.Safe += "; here that is root alone"
		return n, true
	}
	n.Safe += ": it belongs to a user here, so it is better to install it as root first (install -m 0755 " + shellWord(a.Binary) +
		" /usr/local/bin/sbx) and to write that path into the profile"
	return n, true
}

// apparmorProfile is the profile for a path, in the form that AppArmor 4 reads.
func apparmorProfile(path string) []string {
	return []string{
		"abi <abi/4.0>,",
		"include <tunables/global>",
		"",
		"profile sbx " + apparmorPath(path) + " flags=(unconfined) {",
		"  userns,",
		"  include if exists <local/sbx>",
		"}",
	}
}

// apparmorPath quotes a path and the characters that apparmor.d(5) gives a
// meaning in one.
func apparmorPath(path string) string {
	var b strings.Builder
	for _, c := range path {
		if strings.ContainsRune(`*?[]{}^\"@`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return `"` + b.String() + `"`
}

// shellWord quotes a word for a POSIX shell where it has to be.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@:+,%="
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
