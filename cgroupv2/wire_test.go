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

func FuzzDecode(f *testing.F) {
	f.Add(startScope("sbx-1.scope").encode())
	f.Add(message{kind: typeSignal, path: "/a", iface: "a.b", member: "C", signature: "s", sender: ":1.2", replySerial: 7}.encode())
	f.Add([]byte("B\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x08\x05\x01u\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, n, err := decode(data)
		if n < 0 || n > len(data) {
			t.Fatalf("took %d of %d bytes", n, len(data))
		}
		if err != nil || n == 0 {
			return
		}
		_ = m.refusal()
		if d, err := m.values("uoss"); err == nil {
			d.uint32()
			_, _, _ = d.string(), d.string(), d.string()
		}
		// What is understood is written in the same words.
		again, _, err := decode(m.encode())
		if err != nil || again.member != m.member || again.replySerial != m.replySerial || string(again.body) != string(m.body) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
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
