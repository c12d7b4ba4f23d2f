package probe

import (
	"slices"
	"strings"
)

// commonNames are accounts that a sandbox has of its own: to find one of them
// inside tells nothing of the caller.
var commonNames = []string{
	"root", "daemon", "bin", "nobody", "sbx", // users, and below them groups and directories
	"sys", "adm", "tty", "mail", "shadow", "staff", "users", "nogroup",
	"home", "box", "tmp", "run", "proc", "dev", "etc", "usr", "var", "lib", "opt", "nonexistent",
}

// recognisable says whether the caller's name, where it is found inside, could
// only have come from outside.
func (f *Facts) recognisable() bool {
	return f.UserName != "" && !slices.Contains(commonNames, f.UserName)
}

// names says whether the text has the caller's name in it as a word: the name
// "al" is not in "/usr/local". A name that is not [Facts.recognisable] is never
// found.
func (f *Facts) names(text string) bool {
	if !f.recognisable() {
		return false
	}
	for rest := text; ; {
		at := strings.Index(rest, f.UserName)
		if at < 0 {
			return false
		}
		end := at + len(f.UserName)
		before := at == 0 || !partOfName(rest[at-1])
		if before && (end == len(rest) || !partOfName(rest[end])) {
			return true
		}
		rest = rest[at+1:]
	}
}

// partOfName are the characters of names, those of useradd(8) and the dot.
func partOfName(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
