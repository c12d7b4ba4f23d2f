package rootfs

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// SandboxUser is the name that the payload's id has inside, whatever the id.
const SandboxUser = "sbx"

// defaultID is the payload's uid and gid when nothing else is asked for.
const defaultID = 1000

// account is one line of passwd(5) or group(5).
type account struct {
	id   uint32
	name string
	home string // passwd only
}

// The accounts that programs look up by name. Debian calls the last group
// nogroup, Fedora nobody; both names stand for 65534.
var (
	fixedUsers = [...]account{
		{0, "root", "/root"}, {1, "daemon", "/usr/sbin"}, {2, "bin", "/bin"}, {65534, "nobody", "/nonexistent"},
	}
	fixedGroups = [...]account{
		{0, "root", ""},
		{1, "daemon", ""},
		{2, "bin", ""},
		{3, "sys", ""},
		{4, "adm", ""},
		{5, "tty", ""},
		{8, "mail", ""},
		{42, "shadow", ""},
		{50, "staff", ""},
		{100, "users", ""},
		{65534, "nogroup", ""},
	}
)

// Passwd gives an /etc/passwd with root, daemon, bin, nobody, and the payload's
// uid as "sbx" with home /home/sbx when it is not one of these; uid 0 leaves sbx
// as 1000. shell "" is /bin/sh. See passwd(5).
func Passwd(uid, gid uint32, shell string) []byte {
	if shell == "" {
		shell = "/bin/sh"
	}
	var out bytes.Buffer
	for _, u := range fixedUsers {
		its, group := "/usr/sbin/nologin", u.id
		if u.id == 0 || u.id == uid {
			its = shell
		}
		if u.id == uid {
			group = gid
		}
		fmt.Fprintf(&out, "%s:x:%d:%d:%s:%s:%s\n", u.name, u.id, group, u.name, u.home, its)
	}
	if uid == 0 {
		uid, gid = defaultID, defaultID
	}
	if !slices.ContainsFunc(fixedUsers[:], func(a account) bool { return a.id == uid }) {
		fmt.Fprintf(&out, "%s:x:%d:%d:%s:/home/%s:%s\n", SandboxUser, uid, gid, SandboxUser, SandboxUser, shell)
	}
	return out.Bytes()
}

// Group gives the /etc/group that goes with Passwd. See group(5).
func Group(uid, gid uint32) []byte {
	if uid == 0 && gid == 0 {
		gid = defaultID
	}
	var out bytes.Buffer
	for _, g := range fixedGroups {
		fmt.Fprintf(&out, "%s:x:%d:\n", g.name, g.id)
	}
	if !slices.ContainsFunc(fixedGroups[:], func(a account) bool { return a.id == gid }) {
		fmt.Fprintf(&out, "%s:x:%d:\n", SandboxUser, gid)
	}
	return out.Bytes()
}

// Hosts gives an /etc/hosts that knows localhost and the sandbox's own name.
func Hosts(hostname string) []byte {
	return fmt.Appendf(nil, "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname)
}

// Texts of the generated /etc. They say nothing about the host.
const (
	nsswitchConf = "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files dns\n" +
		"networks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\nnetgroup: files\n"

	resolvConf = "# no name servers: the sandbox has no network\n"

	profile = `# for login shells, sh(1)
if [ "$(id -u)" = 0 ]; then
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
else
	PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
fi
export PATH
umask 022
[ -z "$BASH" ] || [ ! -r /etc/bash.bashrc ] || . /etc/bash.bashrc
`
	bashrc = `# for interactive bash(1)
[ -z "$PS1" ] && return
shopt -s checkwinsize
PS1='\u@\h:\w\$ '
`
)

// generated puts the files into the plan that are made, not copied. A file of
// the host under the same name is not used.
func (p *planner) generated(name, shell string) {
	p.put("/etc/passwd", Passwd(defaultID, defaultID, shell), 0o644)
	p.put("/etc/group", Group(defaultID, defaultID), 0o644)
	p.put("/etc/hosts", Hosts(SandboxUser), 0o644)
	p.put("/etc/hostname", []byte(SandboxUser+"\n"), 0o644)
	p.put("/etc/nsswitch.conf", []byte(nsswitchConf), 0o644)
	p.put("/etc/resolv.conf", []byte(resolvConf), 0o644)
	p.putLink("/etc/mtab", "../proc/self/mounts")
	if name == ImageScratch {
		return
	}
	p.put("/etc/profile", []byte(profile), 0o644)
	p.put("/etc/bash.bashrc", []byte(bashrc), 0o644)
	p.put("/etc/bashrc", []byte(bashrc), 0o644)
	shells := "/bin/sh\n"
	if shell != "" && shell != "/bin/sh" {
		shells += shell + "\n"
	}
	p.put("/etc/shells", []byte(shells), 0o644)
}

// skeletonDirs are in every image; /tmp and /var/tmp are sticky, /root closed.
var skeletonDirs = [...]struct {
	path string
	mode uint32
}{
	{"/box", 0o755},
	{"/dev", 0o755},
	{"/etc", 0o755},
	{"/home", 0o755},
	{"/home/sbx", 0o755},
	{"/media", 0o755},
	{"/mnt", 0o755},
	{"/opt", 0o755},
	{"/proc", 0o555},
	{"/root", 0o700},
	{"/run", 0o755},
	{"/run/lock", 0o1777},
	{"/srv", 0o755},
	{"/sys", 0o555},
	{"/tmp", 0o1777},
	{"/usr", 0o755},
	{"/usr/bin", 0o755},
	{"/usr/sbin", 0o755},
	{"/usr/lib", 0o755},
	{"/usr/share", 0o755},
	{"/usr/local", 0o755},
	{"/usr/local/bin", 0o755},
	{"/usr/local/etc", 0o755},
	{"/usr/local/lib", 0o755},
	{"/usr/local/sbin", 0o755},
	{"/usr/local/share", 0o755},
	{"/var", 0o755},
	{"/var/cache", 0o755},
	{"/var/lib", 0o755},
	{"/var/log", 0o755},
	{"/var/spool", 0o755},
	{"/var/tmp", 0o1777},
}

// skeleton puts the directories that every program expects, and the links of a
// merged /usr when the host has them.
func (p *planner) skeleton(binds []string) {
	for _, top := range []string{"/bin", "/sbin", "/lib", "/lib32", "/libx32", "/lib64"} {
		if e, err := p.look(top); err == nil && !slices.Contains(binds, top) {
			if _, ok := p.take(top); !ok && e.kind == unix.S_IFDIR {
				p.putDir(top, 0o755)
			}
		}
	}
	for _, d := range skeletonDirs {
		p.putDir(d.path, d.mode)
	}
	p.putLink("/var/run", "/run")
	p.putLink("/var/lock", "/run/lock")
}

// put makes a generated file part of the image.
func (p *planner) put(name string, data []byte, mode uint32) {
	p.known[name] = &entry{
		path: name, kind: unix.S_IFREG, mode: mode, size: int64(len(data)), data: data, taken: true, open: true,
	}
}

func (p *planner) putLink(name, target string) {
	p.known[name] = &entry{path: name, kind: unix.S_IFLNK, mode: 0o777, target: target, taken: true}
}

// putDir makes a directory part of the image, unless something of the host
// already stands there (/usr/sbin is a link on some) or will be bound over it.
func (p *planner) putDir(name string, mode uint32) {
	if e := p.known[name]; e != nil && e.taken || p.isBound(name) {
		return
	}
	if e, err := p.look(name); err == nil && e.kind == unix.S_IFLNK && inSystem(name) {
		if _, ok := p.take(name); ok {
			return
		}
	}
	p.known[name] = &entry{path: name, kind: unix.S_IFDIR, mode: mode, taken: true, open: true}
}
