package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sbx-run/sbx/internal/pull"
)

// wantsBasic answers 401 with a challenge to requests without the credentials.
func wantsBasic(w http.ResponseWriter, r *http.Request) bool {
	if user, password, ok := r.BasicAuth(); ok && user == "alice" && password == "secret" {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// wantsBearer answers as a registry whose tokens come from its own /token, and from realm if that is not "".
func wantsBearer(f *fake, realm string) func(http.ResponseWriter, *http.Request) bool {
	if realm == "" {
		realm = f.URL + "/token"
	}
	return func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/token"):
			if user, password, ok := r.BasicAuth(); !ok || user != "alice" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
			} else {
				fmt.Fprint(w, `{"token":"the-token"}`)
			}
			return true
		case r.Header.Get("Authorization") == "Bearer the-token":
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="test"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// A registry that leads to another place does not lead the credentials there.
func TestRedirectsCarryNoCredentials(t *testing.T) {
	for name, wants := range map[string]func(*fake) func(http.ResponseWriter, *http.Request) bool{
		"basic":  func(*fake) func(http.ResponseWriter, *http.Request) bool { return wantsBasic },
		"bearer": func(f *fake) func(http.ResponseWriter, *http.Request) bool { return wantsBearer(f, "") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, httptest.NewServer)
			digest, content := pushed(t, f)
			elsewhere := newFake(t, httptest.NewServer)
			elsewhere.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				sendRange(w, r, content, len(content))
				return true
			})
			asks := wants(f)
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if asks(w, r) {
					return true
				}
				if isBlob(r, digest) {
					http.Redirect(w, r, elsewhere.URL+"/storage/"+digest+"?signature=x", http.StatusTemporaryRedirect)
					return true
				}
				return false
			})
			a := newAttempt(t, f, "tool")
			a.task.Login = login{User: "alice", Password: "secret", From: "a file"}
			a.mustFetch(t)
			asked := elsewhere.asked("/storage/")
			if len(asked) != 1 {
				t.Fatalf("%d requests at the other place", len(asked))
			}
			for header, value := range asked[0].Header {
				if header == "Authorization" || header == "Cookie" || strings.Contains(strings.Join(value, ""), "token") {
					t.Errorf("the other place was sent %s: %s", header, value)
				}
			}
		})
	}
}

// A place that a registry redirects to may ask for credentials of its own. It gets none.
func TestChallengeElsewhere(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, _ := pushed(t, f)
	elsewhere := newFake(t, httptest.NewServer)
	elsewhere.misbehave(wantsBearer(elsewhere, ""))
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if wantsBasic(w, r) {
			return true
		}
		if isBlob(r, digest) {
			http.Redirect(w, r, elsewhere.URL+"/storage", http.StatusFound)
			return true
		}
		return false
	})
	a := newAttempt(t, f, "tool")
	a.task.Login = login{User: "alice", Password: "secret", From: "a file"}
	a.mustFail(t, pull.Unauthorized, "refuses the blob")
	if len(elsewhere.asked("/token")) > 0 {
		t.Error("the other place's token server was asked")
	}
}

func TestTokenServers(t *testing.T) {
	for name, test := range map[string]struct {
		tls   bool
		realm string
		kind  pull.Kind // "": it works
		words string
	}{
		"its own":              {},
		"its own, with TLS":    {tls: true},
		"without encryption":   {true, "http://auth.example.com/token", pull.Unsupported, "not allowed for a secure registry"},
		"metadata of clouds":   {false, "http://169.254.169.254/latest", pull.Unsupported, "private or link-local"},
		"the same, in decimal": {true, "https://2852039166/latest", pull.Unsupported, "private or link-local"},
		"a file":               {false, "file:///etc/passwd", pull.Unsupported, "not allowed"},
		"nothing":              {false, ":", pull.Unsupported, "realm"},
	} {
		t.Run(name, func(t *testing.T) {
			serve := httptest.NewServer
			if test.tls {
				serve = httptest.NewTLSServer
			}
			f := newFake(t, serve)
			pushed(t, f)
			f.misbehave(wantsBearer(f, test.realm))
			a := newAttempt(t, f, "tool")
			a.task.Login = login{User: "alice", Password: "secret", From: "a file"}
			if test.kind == "" {
				a.mustFetch(t)
				return
			}
			a.mustFail(t, test.kind, test.words)
		})
	}
}

// An encrypted registry cannot lead to a place that is not.
func TestNoDowngrade(t *testing.T) {
	f := newFake(t, httptest.NewTLSServer)
	digest, _ := pushed(t, f)
	elsewhere := newFake(t, httptest.NewServer)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, digest) {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
			return true
		}
		return false
	})
	newAttempt(t, f, "tool").mustFail(t, pull.TLS, "a place without encryption")
	if len(elsewhere.asked("")) > 0 {
		t.Error("the place without encryption was asked")
	}
}

// Addresses of this machine are for registries of this machine.
func TestDialer(t *testing.T) {
	for name, test := range map[string]struct {
		registry []string // addresses that its name was found to have
		to       string
		refused  bool
	}{
		"public to public":           {[]string{"192.0.2.1:443"}, "198.51.100.1:443", false},
		"public to private":          {[]string{"192.0.2.1:443"}, "10.0.0.1:443", false},
		"public to loopback":         {[]string{"192.0.2.1:443"}, "127.0.0.1:443", true},
		"public to metadata":         {[]string{"192.0.2.1:443"}, "169.254.169.254:80", true},
		"public to mapped loopback":  {[]string{"192.0.2.1:443"}, "[::ffff:127.0.0.1]:443", true},
		"public to any":              {[]string{"192.0.2.1:443"}, "0.0.0.0:443", true},
		"public to ::1":              {[]string{"[2001:db8::1]:443"}, "[::1]:443", true},
		"public to link":             {[]string{"[2001:db8::1]:443"}, "[fe80::1%eth0]:443", true},
		"public to multicast":        {[]string{"192.0.2.1:443"}, "224.0.0.1:443", true},
		"loopback to loopback":       {[]string{"127.0.0.1:443"}, "127.0.0.2:443", false},
		"two-faced to loopback":      {[]string{"127.0.0.1:443", "192.0.2.1:443"}, "127.0.0.1:8080", true},
		"two-faced, the other way":   {[]string{"192.0.2.1:443", "127.0.0.1:443"}, "127.0.0.1:8080", true},
		"never reached, to loopback": {nil, "127.0.0.1:443", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDialer("registry.example.com", func(string) string { return "" })
			for _, address := range test.registry {
				if err := d.learn("tcp", address, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.check("tcp", test.to, nil); errors.Is(err, errInside) != test.refused {
				t.Errorf("error %v, want one: %v", err, test.refused)
			}
		})
	}
	if _, err := newDialer("registry.example.com", func(string) string { return "" }).dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, errInside) {
		t.Errorf("dialled: %v", err)
	}
	proxies := newDialer("r.example.com", func(name string) string {
		return map[string]string{"HTTPS_PROXY": "http://u:p@127.0.0.1:3128", "http_proxy": "[::1]:8080", "NO_PROXY": "x"}[name]
	}).proxies
	slices.Sort(proxies)
	if !slices.Equal(proxies, []string{"127.0.0.1:3128", "[::1]:8080"}) {
		t.Errorf("proxies %q", proxies)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "99999999": time.Hour, "99999999999999999999": 0, "soon": 0,
		"Thu, 01 Jan 2026 00:00:09 GMT": 9 * time.Second, "Thu, 01 Jan 2020 00:00:09 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	if got := defaultPauses().before(1, &pausedError{errStalled, time.Hour}); got != defaultPauses().longest {
		t.Errorf("an hour becomes %v", got)
	}
	for n := range 100 {
		if got := defaultPauses().before(n+1, errStalled); got <= 0 || got > defaultPauses().longest {
			t.Fatalf("pause %d: %v", n, got)
		}
	}
}

func TestFindLogin(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("alice:se:cret"))
	for title, test := range map[string]struct {
		file     string
		registry string
		want     login
		err      string
	}{
		"docker":            {`{"auths":{"r.example.com":{"auth":"` + basic + `"}}}`, "r.example.com/a/b", login{User: "alice", Password: "se:cret"}, ""},
		"with a port":       {`{"auths":{"r.example.com:5000":{"auth":"` + basic + `"}}}`, "r.example.com:5000/a", login{User: "alice", Password: "se:cret"}, ""},
		"another port":      {`{"auths":{"r.example.com:5000":{"auth":"` + basic + `"}}}`, "r.example.com/a", login{}, ""},
		"another host":      {`{"auths":{"r.example.com":{"auth":"` + basic + `"}}}`, "r.example.com.evil.example/a", login{}, ""},
		"old key":           {`{"auths":{"https://r.example.com/v1/":{"auth":"` + basic + `"}}}`, "r.example.com/a", login{User: "alice", Password: "se:cret"}, ""},
		"path of podman":    {`{"auths":{"r.example.com":{"username":"x","password":"y"},"r.example.com/a":{"auth":"` + basic + `"}}}`, "r.example.com/a/b", login{User: "alice", Password: "se:cret"}, ""},
		"half a word":       {`{"auths":{"r.example.com/te":{"auth":"` + basic + `"}}}`, "r.example.com/team/b", login{}, ""},
		"name and word":     {`{"auths":{"r.example.com":{"username":"x","password":"y"}}}`, "r.example.com/a", login{User: "x", Password: "y"}, ""},
		"identity token":    {`{"auths":{"r.example.com":{"identitytoken":"t"}}}`, "r.example.com/a", login{IdentityToken: "t"}, ""},
		"nothing in it":     {`{"auths":{"r.example.com":{}}}`, "r.example.com/a", login{}, ""},
		"no padding":        {`{"auths":{"r.example.com":{"auth":"` + strings.TrimRight(basic, "=") + `"}}}`, "r.example.com/a", login{User: "alice", Password: "se:cret"}, ""},
		"no base64":         {`{"auths":{"r.example.com":{"auth":"%%"}}}`, "r.example.com/a", login{}, "USER:PASSWORD in base64"},
		"no JSON":           {`[]`, "r.example.com/a", login{}, "as docker and podman write it"},
		"helper":            {`{"credHelpers":{"r.example.com":"good"},"auths":{"r.example.com":{"username":"x","password":"y"}}}`, "r.example.com/a", login{User: "of r.example.com", Password: "s"}, ""},
		"helper of another": {`{"credHelpers":{"q.example.com":"good"}}`, "r.example.com/a", login{}, ""},
		"store":             {`{"credsStore":"good","auths":{"r.example.com":{}}}`, "r.example.com/a", login{User: "of r.example.com", Password: "s"}, ""},
		"store has none":    {`{"credsStore":"none"}`, "r.example.com/a", login{}, ""},
		"token of a store":  {`{"credsStore":"token"}`, "r.example.com/a", login{IdentityToken: "t"}, ""},
		"helper fails":      {`{"credsStore":"bad"}`, "r.example.com/a", login{}, "the keyring is locked"},
		"helper babbles":    {`{"credsStore":"babble"}`, "r.example.com/a", login{}, "no JSON"},
		"helper missing":    {`{"credsStore":"missing"}`, "r.example.com/a", login{}, "docker-credential-missing"},
		"helper elsewhere":  {`{"credsStore":"../../bin/sh"}`, "r.example.com/a", login{}, "no name of a credential helper"},
	} {
		t.Run(title, func(t *testing.T) {
			dir := t.TempDir()
			for helper, body := range map[string]string{
				"good":   `printf '{"Username":"of %s","Secret":"s"}' "$(cat)"`,
				"none":   `echo 'credentials not found in native keychain'; exit 1`,
				"token":  `echo '{"Username":"<token>","Secret":"t"}'`,
				"bad":    `echo 'the keyring is locked' >&2; exit 1`,
				"babble": `echo hello`,
			} {
				path := filepath.Join(dir, helperPrefix+helper)
				write(t, path, "#!/bin/sh\n[ \"$1\" = get ] || exit 7\n"+body+"\n")
				if err := os.Chmod(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			file := filepath.Join(dir, "config.json")
			write(t, file, test.file)
			repository, err := name.NewRepository(test.registry)
			if err != nil {
				t.Fatal(err)
			}
			got, err := findLogin([]place{{path: filepath.Join(dir, "none")}, {path: file}}, repository)
			var f *pull.Failure
			if test.err != "" {
				if !errors.As(err, &f) || f.Kind != pull.Credentials || !strings.Contains(f.Text, test.err) || !strings.Contains(f.Text, file) {
					t.Fatalf("got %+v and %v", got, err)
				}
				return
			}
			if test.want.found() {
				test.want.From = file
			} else {
				test.want.Searched = []string{filepath.Join(dir, "none"), file}
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Fatalf("got %+v and %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		file string
		want []place
	}{
		"usual":              {map[string]string{"HOME": "/h"}, "", []place{{"/h/.docker/config.json", false}, {"/h/.config/containers/auth.json", false}}},
		"all":                {map[string]string{"HOME": "/h", "DOCKER_CONFIG": "/d", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c"}, "", []place{{"/d/config.json", false}, {"/r/containers/auth.json", false}, {"/c/containers/auth.json", false}}},
		"one":                {map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/a"}, "", []place{{"/a", true}}},
		"flag":               {map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/a"}, "/f", []place{{"/f", true}}},
		"no home":            {nil, "", nil},
		"relative, not used": {map[string]string{"HOME": "h"}, "", nil},
	} {
		if got := places(func(v string) string { return test.env[v] }, test.file); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://r.example.com/v1/":{"auth":"YTpi"},"r.example.com/a":{"identitytoken":"t"}}}`))
	repository, err := name.NewRepository("r.example.com/a/b")
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "auth.json")
	f.Setenv("PATH", "") // no helper of the machine's is run
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := loginFrom(path, repository); err != nil && l.found() {
			t.Errorf("an error, and a login: %v", err)
		}
	})
}

func TestNothingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, httptest.NewServer)
	a := newAttempt(t, f, "tool")
	a.task.Request.Source.Registry = l.Addr().String()
	l.Close()
	a.mustFail(t, pull.Network, "connection refused")
	a.task.Request.Source.Registry = "registry.invalid"
	a.mustFail(t, pull.Network, "registry.invalid")
}
