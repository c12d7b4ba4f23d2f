package archive

import (
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Platform is what an image was made for, in the words of Go: linux/amd64,
// linux/arm/v7.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p Platform) String() string {
	if p == (Platform{}) {
		return "none"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// wanted reads --platform; "" is this host's.
func wanted(s string) (Platform, error) {
	if s == "" {
		return Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, fault(unix.EINVAL, "the platform %s is not of the form OS/ARCH or OS/ARCH/VARIANT, as linux/arm64", shown(s))
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p.normal(), nil
}

// normal replaces other words for the same.
func (p Platform) normal() Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386", "i686":
		p.Architecture = "386"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	}
	if p.Architecture == "arm64" && p.Variant == "v8" || p.Architecture == "amd64" && p.Variant == "v1" {
		p.Variant = ""
	}
	return p
}

// fit says how well an image for have serves who wants p: 0 is not at all.
// Without a wanted variant the one that runs everywhere is the best.
func (p Platform) fit(have Platform) int {
	have = have.normal()
	switch {
	case have.OS != p.OS || have.Architecture != p.Architecture:
		return 0
	case have.Variant == p.Variant:
		return 3
	case p.Variant != "":
		return 0
	case have.Architecture == "arm" && have.Variant == "v7":
		return 2
	default:
		return 1
	}
}
