package launch

import (
	"strings"

	"github.com/sbx-run/sbx/internal/quote"
)

// ExplainClone adds to the error of a clone(2) with new namespaces the cause on
// this host, as a run would. The result is a [*CloneError] where the error has
// an errno.
func ExplainClone(err error) error { return cloneError(err) }

// RestrictedHint is what this host is known to do to user namespaces of
// programs without a permission of their own: they can be made, and every step
// in them is refused. Empty on hosts that do no such thing.
func RestrictedHint() string {
	if hint := appArmorHint(); hint != "" {
		return hint
	}
	return confinedHint(value("/proc/self/attr/current"), value("/sys/module/apparmor/parameters/enabled"))
}

// confinedHint names the profile of a security module that is in force for sbx
// itself, as in a container: it may refuse what the user namespace allows, with
// no switch that says so. current is /proc/self/attr/current: an AppArmor profile
// with its mode, where that module is enabled ("Y"), else a SELinux context.
func confinedHint(current, appArmor string) string {
	profile, _, _ := strings.Cut(strings.Trim(current, "\x00\n"), " (")
	switch {
	case profile == "" || profile == "unconfined" || strings.HasSuffix(current, "(complain)"):
		return ""
	case appArmor == "Y":
		return "the AppArmor profile " + quote.Quote(profile) + " is in force for sbx and may forbid it, see `dmesg`; in a container, start that with --security-opt apparmor=unconfined"
	case strings.Count(profile, ":") >= 2 && !strings.Contains(profile, ":unconfined_t"):
		return "SELinux runs sbx as " + quote.Quote(profile) + " and may forbid it, see `ausearch -m avc`; in a container, start that with --security-opt label=disable"
	}
	return ""
}
