package mounts

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrBindSyntax is wrapped by every error of ParseBind.
var ErrBindSyntax = errors.New(`want PATH or PATH:DST, with \: for a colon in a name`)

// ParseBind splits the value of a flag that shares a path, "PATH" or
// "PATH:DST". In both parts \: stands for a colon and \\ for a backslash; a
// backslash before anything else is itself. dst is empty when it was left
// out, else absolute and cleaned. All other bytes, commas and spaces too, are
// part of the name.
func ParseBind(s string) (src, dst string, err error) {
	parts := []string{""}
	for i := 0; i < len(s); i++ {
		last := len(parts) - 1
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == ':' || s[i+1] == '\\'):
			i++
			parts[last] += s[i : i+1]
		case s[i] == ':':
			parts = append(parts, "")
		default:
			parts[last] += s[i : i+1]
		}
	}
	wrong := func(what string) (string, string, error) {
		return "", "", fmt.Errorf("%s: %s: %w", quote(s), what, ErrBindSyntax)
	}
	switch {
	case strings.ContainsRune(s, 0):
		return wrong("there is a NUL in it")
	case len(parts) > 2:
		return wrong("there is more than one colon")
	case parts[0] == "":
		return wrong("the path is empty")
	case len(parts) == 1:
		return parts[0], "", nil
	}
	dst = parts[1]
	switch {
	case !strings.HasPrefix(dst, "/"):
		return wrong("the path inside is not absolute")
	case path.Clean(dst) == "/":
		return wrong("the path inside is the root itself")
	}
	return parts[0], path.Clean(dst), nil
}

// FormatBind is the inverse of ParseBind for a clean dst.
func FormatBind(src, dst string) string {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	if dst == "" {
		return escape.Replace(src)
	}
	return escape.Replace(src) + ":" + escape.Replace(dst)
}
