package pull

import (
	"errors"
	"fmt"
	"strings"
)

// Source is the name of an image in a registry.
type Source struct {
	// Registry is HOST or HOST:PORT.
	Registry string `json:"registry"`
	// Repository is the path of the image there, in lower case.
	Repository string `json:"repository"`
	// Tag is empty when there is only a digest.
	Tag string `json:"tag,omitempty"`
	// Digest is sha256:… in 64 hexadecimal digits, or empty. It counts when a tag is given too, as docker has it.
	Digest string `json:"digest,omitempty"`
}

// ErrShortName says that a name has no registry in front and that none is configured.
var ErrShortName = errors.New("the name has no registry in front: write it as HOST/NAME, for example registry.example.com/NAME, or set SBX_REGISTRY to the registry that you use")

const (
	maxReference = 512
	maxTag       = 128 // of the distribution specification
	defaultTag   = "latest"
)

// Parse reads HOST[:PORT]/PATH[:TAG][@DIGEST] as docker writes it. As there, the part before the first slash is a registry
// only with a dot or a colon in it, or as "localhost". A name without one gets the registry in fallback, which may have a
// path too; with an empty fallback it is ErrShortName, so that no name is asked for at a place that the user did not mean.
func Parse(text, fallback string) (Source, error) {
	if len(text) > maxReference {
		return Source{}, fmt.Errorf("the name is longer than %d bytes", maxReference)
	}
	if scheme, _, found := strings.Cut(text, "://"); found && isAlphanumeric(scheme) {
		return Source{}, fmt.Errorf("write the name without %s://", scheme)
	}
	var s Source
	rest := text
	if name, digest, found := strings.Cut(text, "@"); found {
		if err := CheckDigest(digest); err != nil {
			return Source{}, err
		}
		rest, s.Digest = name, digest
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, s.Tag = rest[:i], rest[i+1:]
		if !validTag(s.Tag) {
			return Source{}, fmt.Errorf("%q is no tag: letters, digits, and after the first also . and -, %d at most", s.Tag, maxTag)
		}
	}
	if s.Tag == "" && s.Digest == "" {
		s.Tag = defaultTag
	}
	host, path, found := strings.Cut(rest, "/")
	if !found || !isHost(host) {
		if fallback == "" && validPath(rest) {
			return Source{}, ErrShortName
		}
		rest = strings.TrimSuffix(fallback, "/") + "/" + rest
		host, path, _ = strings.Cut(rest, "/")
	}
	if !validHost(host) {
		return Source{}, fmt.Errorf("%q is no registry: HOST or HOST:PORT", host)
	}
	if !validPath(path) {
		return Source{}, fmt.Errorf("%q is no name of an image: lower case letters and digits, in words with . _ - or / between them", path)
	}
	s.Registry, s.Repository = host, path
	return s, nil
}

// String is the name as Parse reads it.
func (s Source) String() string {
	text := s.Registry + "/" + s.Repository
	if s.Tag != "" {
		text += ":" + s.Tag
	}
	if s.Digest != "" {
		text += "@" + s.Digest
	}
	return text
}

// CheckDigest refuses what is not sha256: and 64 hexadecimal digits in lower case. The specification of image layouts knows
// sha512 too, which no registry in use serves.
func CheckDigest(digest string) error {
	algorithm, hex, _ := strings.Cut(digest, ":")
	if algorithm != "sha256" {
		return fmt.Errorf("%q is no digest that sbx knows: sha256:…", digest)
	}
	if len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is no digest: 64 hexadecimal digits in lower case are needed after sha256:", digest)
	}
	return nil
}

// isHost tells a registry from the first part of a path as docker does.
func isHost(s string) bool { return strings.ContainsAny(s, ".:") || s == "localhost" }

// validHost accepts names, addresses, and [::1]; no part of it can leave its place in an URL.
func validHost(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		inner, after, found := strings.Cut(s[1:], "]")
		if !found || inner == "" || strings.Trim(inner, "0123456789abcdefABCDEF:.") != "" {
			return false
		}
		host, port = "v6", after
		if after != "" && after[0] != ':' {
			return false
		}
		port = strings.TrimPrefix(after, ":")
		if after == ":" {
			return false
		}
	} else if name, number, found := strings.Cut(s, ":"); found {
		host, port = name, number
		if number == "" {
			return false
		}
	}
	if len(port) > 5 || strings.Trim(port, "0123456789") != "" || host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || !isAlphanumeric(strings.ReplaceAll(label, "-", "a")) {
			return false
		}
	}
	return true
}

// validPath is the grammar of repositories: words of lower case letters and digits, joined by one dot, one or two underscores, or hyphens.
func validPath(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !validPart(part) {
			return false
		}
	}
	return true
}

func validPart(s string) bool {
	begin := 0 // of the separator before the byte at i
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			if !validSeparator(s[begin:i]) {
				return false
			}
			begin = i + 1
		case i == 0 || c != '.' && c != '_' && c != '-':
			return false
		}
	}
	return s != "" && begin == len(s)
}

func validSeparator(s string) bool {
	return s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	return isAlphanumeric(strings.NewReplacer(".", "a", "-", "a", "_", "a").Replace(s))
}

func isAlphanumeric(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
