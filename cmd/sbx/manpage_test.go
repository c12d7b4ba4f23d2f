package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/sbx-run/sbx/internal/plan"
)

const manpage = "../../docs/sbx.1.md"

// The words of the page that are flags are set in bold and begin a line of
// their own: "**-e**, **--env**=*NAME*[=*VALUE*]".
var flagLine = regexp.MustCompile(`(?m)^(?:\*\*-([a-zA-Z])\*\*, )?\*\*--([a-z][a-z-]*)\*\*(=.*)?$`)

// The manual page and the command line know the same flags, with the same short
// forms, and agree on which of them take a value.
func TestManpageFlags(t *testing.T) {
	text := readPage(t)
	onPage := map[string][]string{}
	for _, m := range flagLine.FindAllStringSubmatch(section(t, text, "OPTIONS"), -1) {
		short, long, value := m[1], m[2], m[3]
		if _, twice := onPage[long]; twice {
			t.Errorf("the page has --%s twice", long)
		}
		onPage[long] = []string{short, strconv.FormatBool(value != "")}
	}
	for name, flag := range modelFlags(t) {
		entry, found := onPage[name]
		if !found {
			t.Errorf("the page lacks --%s: %s", name, flag.Help)
			continue
		}
		short := ""
		if flag.Short != 0 {
			short = string(flag.Short)
		}
		if entry[0] != short {
			t.Errorf("--%s has the short form %q, the page says %q", name, short, entry[0])
		}
		if takesValue := !flag.IsBool(); entry[1] != strconv.FormatBool(takesValue) {
			t.Errorf("--%s takes a value: %v, the page says %s", name, takesValue, entry[1])
		}
		delete(onPage, name)
	}
	for name := range onPage {
		t.Errorf("the page names --%s, which no command has", name)
	}
}

// A flag that is mentioned in the running text exists as well.
func TestManpageMentions(t *testing.T) {
	flags := modelFlags(t)
	var shorts []string
	for _, flag := range flags {
		if flag.Short != 0 {
			shorts = append(shorts, string(flag.Short))
		}
	}
	text := strings.ReplaceAll(readPage(t), `\`, "")
	for _, m := range regexp.MustCompile(`\*\*--?([a-z][a-z-]*)`).FindAllStringSubmatch(text, -1) {
		if _, long := flags[m[1]]; !long && !slices.Contains(shorts, m[1]) {
			t.Errorf("the page mentions %s, which no command has", m[0])
		}
	}
	examples := section(t, text, "EXAMPLES")
	for _, m := range regexp.MustCompile(`(?m)^ +sbx (.*)$`).FindAllStringSubmatch(examples, -1) {
		words := strings.Fields(strings.TrimSpace(strings.Split(m[1], "<")[0]))
		if _, err := newModel(t).Parse(words); err != nil {
			t.Errorf("the example %q does not parse: %v", m[0], err)
		}
	}
}

// Each command stands in the synopsis, and the synopsis names no other.
func TestManpageCommands(t *testing.T) {
	var onPage []string
	synopsis := section(t, readPage(t), "SYNOPSIS")
	for _, m := range regexp.MustCompile(`(?m)^\*\*sbx ([a-z]+(?: [a-z]+)?)\*\*`).FindAllStringSubmatch(synopsis, -1) {
		onPage = append(onPage, m[1])
	}
	var commands []string
	for _, node := range newModel(t).Model.Leaves(true) {
		commands = append(commands, strings.TrimPrefix(node.FullPath(), "sbx "))
	}
	slices.Sort(onPage)
	slices.Sort(commands)
	if !slices.Equal(onPage, commands) {
		t.Errorf("the synopsis has the commands %v, the program %v", onPage, commands)
	}
}

// The page has the sections of a manual page in their order, all layers, all
// limits that --ulimit takes, and sbx's own exit statuses.
func TestManpageContents(t *testing.T) {
	text := readPage(t)
	var heads []string
	for _, m := range regexp.MustCompile(`(?m)^# ([A-Z ]+)$`).FindAllStringSubmatch(text, -1) {
		heads = append(heads, m[1])
	}
	want := []string{
		"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SIGNALS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO",
	}
	if !slices.Equal(heads, want) {
		t.Errorf("sections %q, want %q", heads, want)
	}
	flat := strings.Join(strings.Fields(text), " ")
	if layers := strings.Join(plan.LayerNames(), " "); !strings.Contains(flat, layers) {
		t.Errorf("the page lacks the layers %q", layers)
	}
	statuses := section(t, text, "EXIT STATUS")
	for _, status := range []int{exitTimeout, exitSbx, exitNotRunnable, exitNotFound} {
		if !strings.Contains(statuses, "*"+strconv.Itoa(status)+"*\n") {
			t.Errorf("EXIT STATUS lacks %d", status)
		}
	}
}

// The README's table and the page tell the same exit statuses.
func TestReadmeStatuses(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{exitTimeout, exitSbx, exitNotRunnable, exitNotFound} {
		if !strings.Contains(string(text), "| "+strconv.Itoa(status)+" | ") {
			t.Errorf("the table of README.md lacks %d", status)
		}
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(manpage)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns the text below the heading of this name.
func section(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n# "+name+"\n")
	if !found {
		t.Fatalf("the page has no section %s", name)
	}
	body, _, _ := strings.Cut(rest, "\n# ")
	return body
}

func newModel(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := kong.New(&cli{}, kong.Name("sbx"), kong.Vars{"layers": layerWords()})
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// modelFlags are the flags of all commands, by long name.
func modelFlags(t *testing.T) map[string]*kong.Flag {
	t.Helper()
	flags := map[string]*kong.Flag{}
	var collect func(*kong.Node)
	collect = func(node *kong.Node) {
		for _, flag := range node.Flags {
			flags[flag.Name] = flag
		}
		for _, child := range node.Children {
			collect(child)
		}
	}
	collect(newModel(t).Model.Node)
	if len(flags) < 20 {
		t.Fatalf("the model has only %d flags", len(flags))
	}
	return flags
}
