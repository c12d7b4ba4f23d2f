package launch

import "strings"

// ExplainClone adds to the error of a clone(2) with new namespaces the cause on
// this host, as a run would. The result is a [*CloneError] where the error has
// an errno.
func ExplainClone(err error) error { return cloneError(err) }

// RestrictedHint is what this host is known to do to user namespaces of
// programs without a permission of their own: they can be made, and every step
// in them is refused. Empty on hosts that do no such thing.
func RestrictedHint() string { return strings.TrimPrefix(appArmorHint(), ": ") }
