package cgroupv2

import (
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string][]address{
		"":                             nil,
		"unix:path=/run/user/1000/bus": {{path: "/run/user/1000/bus"}},
		"unix:path=/tmp/a%20b,guid=12": {{path: "/tmp/a b"}},
		"unix:abstract=/tmp/x;unix:path=/y": {
			{path: "@/tmp/x"},
			{path: "/y"},
		},
		"autolaunch:;unixexec:path=/bin/sh;tcp:host=a": nil,
		"unix:path=%zz":    nil,
		"unix:tmpdir=/tmp": nil,
	} {
		got := parseAddress(text)
		if len(got) != len(want) {
			t.Errorf("%q: %v", text, got)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}

func TestBusEscape(t *testing.T) {
	for name, want := range map[string]string{
		"a.scope":                     "a_2escope",
		"1x-y.service":                "_31x_2dy_2eservice",
		"app-org.gnome\\x2dA@1.scope": "app_2dorg_2egnome_5cx2dA_401_2escope",
	} {
		if got := busEscape(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("unix:path=/tmp/a%20b,guid=12;unix:abstract=x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range parseAddress(text) {
			if a.path == "" || a.direct {
				t.Errorf("%q gives %+v", text, a)
			}
		}
	})
}
