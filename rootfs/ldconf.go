package rootfs

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of ld.so.conf: bytes of one file, files in all, depth of "include".
const (
	maxConfFile  = 256 << 10
	maxConfFiles = 256
	maxConfDepth = 8
)

// ldSoConf returns the directories that /etc/ld.so.conf names, includes
// followed; see ldconfig(8). A file that is not there adds nothing.
func (v *View) ldSoConf() []string {
	c := confReader{view: v}
	c.read("/etc/ld.so.conf", 0)
	return c.dirs
}

type confReader struct {
	view  *View
	files int
	dirs  []string
}

func (c *confReader) read(name string, depth int) {
	if c.files++; c.files > maxConfFiles || depth > maxConfDepth {
		return
	}
	data, err := c.view.readFile(name, maxConfFile)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "":
		case word == "include":
			for _, pattern := range strings.Fields(rest) {
				c.include(path.Dir(name), pattern, depth)
			}
		case word == "hwcap":
		default:
			c.add(strings.TrimSpace(line))
		}
	}
}

// add takes a line of directories, which blanks, commas, or colons separate.
// "=libc6" and the like at the end of one is a hint of old times.
func (c *confReader) add(line string) {
	for _, dir := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t,:", r) }) {
		dir, _, _ = strings.Cut(dir, "=")
		if strings.HasPrefix(dir, "/") && !slices.Contains(c.dirs, dir) {
			c.dirs = append(c.dirs, path.Clean(dir))
		}
	}
}

// include reads the files that match a pattern, in the order of their names.
// Wildcards are understood in the last component only.
func (c *confReader) include(base, pattern string, depth int) {
	if !strings.HasPrefix(pattern, "/") {
		pattern = base + "/" + pattern
	}
	dir, last := path.Split(pattern)
	names := c.view.names(dir)
	slices.Sort(names)
	for _, name := range names {
		if ok, err := path.Match(last, name); ok && err == nil {
			c.read(dir+name, depth+1)
		}
	}
}

// names lists a directory of the view, without what mounts add to it.
func (v *View) names(dir string) []string {
	root, at, err := v.resolve(dir)
	if err != nil {
		return nil
	}
	fd, err := root.OpenFD(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	var names []string
	if err := eachEntry(fd, func(e dirent) error {
		names = append(names, e.name)
		return nil
	}); err != nil {
		return nil
	}
	return names
}
