package main

import (
	"regexp"
	"slices"
	"strings"
)

// pattern returns what -test.run and -test.skip understand as these tests and no
// others. A name is taken apart at each slash, as the testing package does with
// names and patterns alike. With a depth above 0 the levels below it are left out,
// so that a test means all its subtests.
func pattern(records []record, depth int) string {
	var names []string
	for _, r := range records {
		parts := strings.Split(r.Test, "/")
		if depth > 0 {
			parts = parts[:min(depth, len(parts))]
		}
		for i, part := range parts {
			parts[i] = "^" + regexp.QuoteMeta(part) + "$"
		}
		if name := strings.Join(parts, "/"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}
