package rootfs

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// closure takes the libraries and loaders of every program and plug-in taken so
// far. They may lie where only ld.so.conf knows of, so inSystem does not count.
func (p *planner) closure() error {
	var objects []string
	for name, e := range p.known {
		if e.taken && e.kind == unix.S_IFREG && (e.mode&0o111 != 0 || strings.Contains(name, ".so")) {
			objects = append(objects, name)
		}
	}
	slices.Sort(objects)
	found, err := p.libraries(objects)
	if err != nil {
		return err
	}
	for _, lib := range append(found.Interps, found.Libs...) {
		chain, err := p.walk(lib.Path)
		if err != nil || !p.fit(chain[len(chain)-1]) {
			p.note("library not readable: %s", lib.Path)
			continue
		}
		p.takeAll(chain)
		p.tops = append(p.tops, chain[len(chain)-1].path)
	}
	for _, m := range found.Missing {
		p.note("%s needs %s, which the host lacks", m.NeededBy, m.Name)
	}
	return p.ctx.Err()
}

// libraries is the closure of these files of the host.
func (p *planner) libraries(objects []string) (Closure, error) {
	return NewResolver(p.host).Closure(objects...)
}

// loaderCache writes an ld.so.cache of those libraries of the host's that are
// in the image: the loader needs it for directories that are not built into it,
// and the host's own would tell what is installed there.
func (p *planner) loaderCache() error {
	data, err := p.host.ReadFile("/etc/ld.so.cache", maxLdCache)
	if err != nil {
		return nil // no glibc, or a host that lives without one
	}
	cache, err := ParseLdCache(data)
	if err != nil {
		p.note("the host's ld.so.cache is of an unknown format")
		return nil
	}
	names := make(map[string]bool)
	for name, e := range p.known {
		if e.taken {
			names[name[strings.LastIndexByte(name, '/')+1:]] = true
		}
	}
	var kept []CacheEntry
	dirs := make(map[string]bool)
	for i := range cache.Len() {
		e, ok := cache.Entry(i)
		if !ok || e.HWCap != 0 || !names[e.Path[strings.LastIndexByte(e.Path, '/')+1:]] {
			continue
		}
		chain, err := p.walk(e.Path)
		if err == nil && len(chain) > 0 && !slices.ContainsFunc(chain, func(e *entry) bool { return !e.taken }) {
			kept = append(kept, e)
			dirs[parentOf(e.Path)] = true
		}
	}
	var out bytes.Buffer
	if err := WriteLdCache(&out, kept); err != nil {
		return err
	}
	p.put("/etc/ld.so.cache", out.Bytes(), 0o644)
	p.put("/etc/ld.so.conf", loaderConf(dirs), 0o644)
	p.putDir("/etc/ld.so.conf.d", 0o755)
	return nil
}

func loaderConf(dirs map[string]bool) []byte {
	var out bytes.Buffer
	out.WriteString("include /etc/ld.so.conf.d/*.conf\n")
	sorted := make([]string, 0, len(dirs))
	for dir := range dirs {
		sorted = append(sorted, dir)
	}
	slices.Sort(sorted)
	for _, dir := range sorted {
		out.WriteString(dir + "\n")
	}
	return out.Bytes()
}
