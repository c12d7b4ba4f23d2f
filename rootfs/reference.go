package rootfs

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxReference is the length in bytes of the longest reference; docker's is the
// same for the part without tag and digest.
const maxReference = 255

// Reference is the name of an imported image, in the form that docker and podman
// use: [HOST[:PORT]/]PATH[:TAG][@DIGEST]. It is a key and a text to show, never
// a path, and nobody is contacted for it. The zero value names nothing.
type Reference struct {
	// Repository is what stands before tag and digest, with the host if there
	// is one.
	Repository string
	// Tag is "latest" when neither tag nor digest was given, and empty when
	// only a digest was.
	Tag string
	// Digest is sha256 or sha512 and the digits, or empty.
	Digest string
}

// String is the form that is shown, and the key of names.json.
func (r Reference) String() string {
	s := r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// ParseReference reads a reference; the grammar is that of docker's
// distribution/reference:
//
//	reference  = [ host "/" ] component { "/" component } [ ":" tag ] [ "@" digest ]
//	host       = label { "." label } [ ":" digits ]   with a dot, a port, or "localhost"
//	component  = alnum { ( "." | "_" | "__" | "-"… ) alnum }   alnum = [a-z0-9]+
//	tag        = [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//	digest     = "sha256:" 64 digits | "sha512:" 128 digits    lower-case hexadecimal
//
// At most 255 bytes are taken. A text that would be the id of an image (64
// hexadecimal digits, or sha256: and anything), and the names of the images that sbx makes itself (base,
// host, scratch), are refused. So a Reference never holds "..", a control byte
// or a leading dash.
func ParseReference(s string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		return Reference{}, fmt.Errorf("use image name %s: %w", shown(s), explain(unix.EINVAL, why))
	}
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("use image name %s…: %w", shown(s[:40]),
			explain(unix.EINVAL, fmt.Sprintf("it is longer than %d bytes", maxReference)))
	}
	var r Reference
	rest, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest && !ValidDigest(digest) {
		return bad("after @ comes sha256: with 64 or sha512: with 128 hexadecimal digits")
	}
	r.Digest = digest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !validTag(r.Tag) {
			return bad("a tag has 1 to 128 letters, digits, dots, dashes or underscores, and begins with none of the first two")
		}
	} else if !hasDigest {
		r.Tag = "latest"
	}
	r.Repository = rest
	switch {
	case rest == ImageBase || rest == ImageHost || rest == ImageScratch:
		return bad("that is the name of an image that sbx makes itself")
	case len(rest) == 64 && strings.Trim(rest, "0123456789abcdef") == "", rest == "sha256", rest == "sha512":
		// An archive may bring its names along; none of them stands before an id.
		return bad("it looks like the id of an image")
	case !validRepository(rest):
		return bad("not of the form [HOST/]name[/name…][:TAG][@DIGEST], in lower case")
	}
	return r, nil
}

func validRepository(s string) bool {
	parts := strings.Split(s, "/")
	if first := parts[0]; len(parts) > 1 && (strings.ContainsAny(first, ".:") || first == "localhost") {
		if !validHost(first) {
			return false
		}
		parts = parts[1:]
	}
	return !slices.ContainsFunc(parts, func(p string) bool { return !validComponent(p) })
}

// validHost is a host name or IPv4 address with an optional port.
func validHost(s string) bool {
	name, port, hasPort := strings.Cut(s, ":")
	if hasPort && (port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "") {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(strings.ToLower(label), lowerAlnum+"-") != "" {
			return false
		}
	}
	return true
}

const lowerAlnum = "abcdefghijklmnopqrstuvwxyz0123456789"

// validComponent: runs of letters and digits with one separator between two.
func validComponent(s string) bool {
	for {
		rest := strings.TrimLeft(s, lowerAlnum)
		switch {
		case len(rest) == len(s):
			return false
		case rest == "":
			return true
		}
		s = strings.TrimLeft(rest, "._-")
		switch sep := rest[:len(rest)-len(s)]; {
		case sep == "." || sep == "_" || sep == "__":
		case sep != "" && strings.Trim(sep, "-") == "":
		default:
			return false
		}
	}
}

func validTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return strings.Trim(strings.ToLower(s), lowerAlnum+"._-") == ""
}

// ValidDigest reports whether s is a digest of the two kinds that the OCI image
// specification registers, with its digits in lower case. Only such a text may
// become part of a path (SECURITY D13; CVE-2024-3727).
func ValidDigest(s string) bool {
	kind, digits, _ := strings.Cut(s, ":")
	return (kind == "sha256" && len(digits) == 64 || kind == "sha512" && len(digits) == 128) &&
		strings.Trim(digits, "0123456789abcdef") == ""
}
