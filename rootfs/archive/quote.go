package archive

import "strconv"

// maxShown bounds a name of the archive in a message.
const maxShown = 120

// shown is a text of the archive for a message. What is printed is quoted once
// more as a whole; this shows where a text begins and ends.
func shown(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(s[:maxShown]) + "…"
	}
	return strconv.Quote(s)
}
