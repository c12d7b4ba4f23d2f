package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

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
