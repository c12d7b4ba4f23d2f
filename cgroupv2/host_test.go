package cgroupv2

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestLook(t *testing.T) {
	const v1 = "31 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	for _, c := range []struct {
		name      string
		mounts    string // TREE stands for the fake tree
		cgroup    string
		hierarchy Hierarchy
		own       string // below the tree; - for none
		text      string // a part of the prospect's reason
	}{
		{
			name:      "unified",
			mounts:    "30 1 0:28 / TREE rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
			cgroup:    "0::/box\n",
			hierarchy: Unified, own: "/box",
		},
		{
			name:      "hybrid, with the controllers in version 1",
			mounts:    v1 + "30 1 0:28 / TREE rw - cgroup2 cgroup2 rw\n",
			cgroup:    "4:memory:/a\n3:cpu,cpuacct:/\n1:name=systemd:/b\n0::/empty\n",
			hierarchy: Hybrid, own: "/empty", text: "bound to cgroup v1",
		},
		{
			name:      "version 1 alone",
			mounts:    v1,
			cgroup:    "4:memory:/a\n1:name=systemd:/b\n",
			hierarchy: Legacy, own: "-", text: "cgroup v1 only",
		},
		{
			name:      "nothing mounted",
			mounts:    "30 1 0:28 / /proc rw - proc proc rw\n",
			cgroup:    "0::/\n",
			hierarchy: NoCgroup, own: "-", text: "no cgroup file system",
		},
		{
			name:      "a part of the tree is mounted",
			mounts:    "30 1 0:28 /outer TREE rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/outer/box\n",
			hierarchy: Unified, own: "/box",
		},
		{
			name:      "another part of the tree is mounted",
			mounts:    "30 1 0:28 /outer TREE rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/outermost/box\n",
			hierarchy: Unified, own: "-", text: "is not below what is mounted",
		},
		{
			name:      "outside of the cgroup namespace",
			mounts:    "30 1 0:28 / TREE rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/../box\n",
			hierarchy: Unified, own: "-", text: "is not below what is mounted",
		},
		{
			name:      "mounted from outside of the namespace",
			mounts:    "30 1 0:28 /../.. TREE rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/\n",
			hierarchy: Unified, own: "-", text: "is not below what is mounted",
		},
		{
			name: "a second mount that does not show the own cgroup",
			mounts: "30 1 0:28 / TREE rw - cgroup2 cgroup2 rw\n" +
				"31 1 0:28 /elsewhere /mnt rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/box\n",
			hierarchy: Unified, own: "/box",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, "/box", "memory", "pids")
			f.add("/empty")
			f.put(f.dir("/empty/cgroup.controllers"), "")
			if c.hierarchy == Hybrid {
				f.put(f.dir("/cgroup.controllers"), "hugetlb\n")
			}
			f.put(filepath.Join(f.proc, "self/mountinfo"), strings.ReplaceAll(c.mounts, "TREE", f.tree))
			f.put(filepath.Join(f.proc, "self/cgroup"), c.cgroup)
			h, err := look(f.kernel(), []string{"memory"})
			if err != nil {
				t.Fatal(err)
			}
			own := f.dir(c.own)
			if c.own == "-" {
				own = ""
			}
			if h.Hierarchy != c.hierarchy || h.Own != own {
				t.Errorf("%s, own %q", h.Hierarchy, h.Own)
			}
			if c.text == "" && h.Prospect.Rung != Own || !strings.Contains(h.Prospect.Text, c.text) {
				t.Errorf("prospect %+v", h.Prospect)
			}
			// What is foreseen is what happens.
			p, err := find(t.Context(), f.kernel(), []string{"memory"})
			if (err == nil) != (h.Prospect.Rung != "") {
				t.Errorf("found %+v, %v", p, err)
			}
			var back Host
			if text, err := json.Marshal(h); err != nil || json.Unmarshal(text, &back) != nil || !reflect.DeepEqual(h, back) {
				t.Errorf("%+v is %+v after JSON", h, back)
			}
		})
	}
}

func TestProspect(t *testing.T) {
	const service = "/user.slice/user-UID.slice/user@UID.service"
	for _, c := range []struct {
		name string
		own  string
		host func(*fake, string)
		want Rung
	}{
		{"a user manager listens", service + "/app.slice/terminal.scope", func(f *fake, run string) {
			f.put(run+"/bus", "")
		}, Scope},
		{"it listens on its own socket only", service + "/app.slice/terminal.scope", func(f *fake, run string) {
			f.put(run+"/systemd/private", "")
		}, Scope},
		{"it is gone", service + "/app.slice/terminal.scope", func(*fake, string) {}, ""},
		{"in a batch job", service + "/app.slice/terminal.scope", func(f *fake, run string) {
			f.put(run+"/bus", "")
			f.vars["PBS_JOBID"] = "1.host"
		}, Own}, // if the unit is delegated, which is asked later
		{"the manager's own cgroup", service + "/init.scope", func(*fake, string) {}, ""},
		{"a delegated unit of the system", "/system.slice/ci.service", func(*fake, string) {}, Own},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, "/box", "memory", "pids")
			uid := strings.NewReplacer("UID", strconv.Itoa(f.uid))
			f.add("/init.scope")
			f.add(uid.Replace(c.own))
			f.place(uid.Replace(c.own), fakePid)
			c.host(f, filepath.Join(f.run, "user", strconv.Itoa(f.uid)))
			h, err := look(f.kernel(), []string{"memory"})
			if err != nil || h.Prospect.Rung != c.want {
				t.Errorf("%+v, %v", h.Prospect, err)
			}
		})
	}
}

func TestParseOwn(t *testing.T) {
	own, legacy, err := parseOwn("12:cpu,cpuacct:/a\n1:name=systemd:/a:b\n0::/user.slice/a:b c\n")
	if own != "/user.slice/a:b c" || !slices.Equal(legacy, []string{"cpu", "cpuacct"}) || err != nil {
		t.Errorf("%q, %v, %v", own, legacy, err)
	}
	for _, text := range []string{"x", "0:/a", "0::a", "1:memory:"} {
		if _, _, err := parseOwn(text); !errors.Is(err, errForm) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseOwn(f *testing.F) {
	f.Add("12:cpu,cpuacct:/a\n0::/user.slice/b (deleted)\n")
	f.Fuzz(func(t *testing.T, text string) {
		own, _, err := parseOwn(text)
		if err == nil && own != "" && own[0] != '/' {
			t.Errorf("%q gives %q", text, own)
		}
	})
}

func TestUserManager(t *testing.T) {
	for dir, want := range map[string]string{
		"/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope": "1000",
		"/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope":                     "",
		"/sys/fs/cgroup/system.slice/user@.service.d":                                   "",
	} {
		if uid, ok := userManager(dir); uid != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", dir, uid, ok)
		}
	}
}
