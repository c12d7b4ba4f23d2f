package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbx-run/sbx/internal/pull"
)

// fake is a registry in this process that can be made to misbehave.
type fake struct {
	*httptest.Server
	// before may answer in the registry's place; it returns whether it did.
	before func(http.ResponseWriter, *http.Request) bool

	mu       sync.Mutex
	requests []*http.Request
}

func newFake(t *testing.T, serve func(http.Handler) *httptest.Server) *fake {
	t.Helper()
	f := &fake{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	f.Server = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r)
		before := f.before
		f.mu.Unlock()
		if before == nil || !before(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) misbehave(before func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests, f.before = nil, before
}

func (f *fake) host() string { return f.Listener.Addr().String() }

// asked are the requests so far whose path has the word in it.
func (f *fake) asked(word string) (list []*http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.Contains(r.URL.Path, word) {
			list = append(list, r)
		}
	}
	return list
}

// attempt is one fetch from a fake, in this process.
type attempt struct {
	pool, layout string
	task         task
	stall        time.Duration
}

func newAttempt(t *testing.T, f *fake, repository string) *attempt {
	t.Helper()
	a := &attempt{pool: t.TempDir(), stall: 5 * time.Second}
	a.task.Request = pull.Request{
		Source:    pull.Source{Registry: f.host(), Repository: repository, Tag: "1"},
		Platform:  pull.Platform{OS: "linux", Architecture: runtime.GOARCH},
		PlainHTTP: f.TLS == nil, SkipVerify: f.TLS != nil, Limits: pull.DefaultLimits(),
	}
	return a
}

func (a *attempt) fetch(t *testing.T) (pull.Result, error) {
	t.Helper()
	a.layout = t.TempDir()
	pool, err := os.Open(a.pool)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	layout, err := os.Open(a.layout)
	if err != nil {
		t.Fatal(err)
	}
	defer layout.Close()
	c, err := newClient(a.task)
	if err != nil {
		t.Fatal(err)
	}
	c.pauses = pauses{first: time.Millisecond, longest: 20 * time.Millisecond, tries: 4}
	c.stall = a.stall
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.fetch(ctx, pool, layout, &reporter{out: &events{to: io.Discard}})
}

// mustFetch checks that all of the layout is there.
func (a *attempt) mustFetch(t *testing.T) pull.Result {
	t.Helper()
	result, err := a.fetch(t)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(a.layout, "blobs", "sha256", strings.TrimPrefix(result.Manifest, "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(m.Layers, m.Config) {
		info, err := os.Stat(filepath.Join(a.layout, "blobs", "sha256", d.Digest.Hex))
		if err != nil || info.Size() != d.Size {
			t.Errorf("blob %s: %v, %v", d.Digest, info, err)
		}
	}
	return result
}

func (a *attempt) mustFail(t *testing.T, kind pull.Kind, words string) {
	t.Helper()
	result, err := a.fetch(t)
	var f *pull.Failure
	if !errors.As(err, &f) || f.Kind != kind || !strings.Contains(f.Text, words) {
		t.Fatalf("got %+v and the error %v, want one of kind %q with %q", result, err, kind, words)
	}
	if _, err := os.Stat(filepath.Join(a.layout, "index.json")); err == nil {
		t.Error("the layout names an image")
	}
}

// isBlob picks requests for layers: the configuration is small.
func isBlob(r *http.Request, digest string) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/"+digest)
}

const bigLayer = 3 << 20

// pushed puts an image with one big layer into the fake and gives the layer's digest and content.
func pushed(t *testing.T, f *fake) (digest string, content []byte) {
	t.Helper()
	layer := layerOf(t, "big", bigLayer)
	client := f.Client().Transport
	push(t, f.host()+"/tool:1", imageOf(t, runtime.GOARCH, layer, layerOf(t, "small", 10)), client, authn.Anonymous)
	d, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if content, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return d.String(), content
}

// sendRange answers as a server that knows ranges, and breaks off after so many bytes.
func sendRange(w http.ResponseWriter, r *http.Request, content []byte, most int) {
	from := 0
	if value, found := strings.CutPrefix(r.Header.Get("Range"), "bytes="); found {
		from, _ = strconv.Atoi(strings.TrimSuffix(value, "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
	}
	rest := content[from:]
	w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(rest[:min(most, len(rest))])
	if most < len(rest) {
		panic(http.ErrAbortHandler)
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		// answer stands in for the registry at requests for the big layer; n counts them from 1.
		answer func(w http.ResponseWriter, r *http.Request, content []byte, n int)
		before func(t *testing.T, pool, digest string, content []byte)
		kind   pull.Kind
		words  string
		check  func(t *testing.T, asked []*http.Request, result pull.Result)
	}{
		"cut off": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) { sendRange(w, r, content, 700_000) },
			check: func(t *testing.T, asked []*http.Request, result pull.Result) {
				if got := asked[1].Header.Get("Range"); got == "" || len(asked) < 4 {
					t.Errorf("%d requests, the second with the range %q", len(asked), got)
				}
			},
		},
		"a byte at a time": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) { sendRange(w, r, content, 1) },
			kind:   pull.Network,
			check:  func(t *testing.T, asked []*http.Request, _ pull.Result) { atMost(t, asked, 8) }, // net/http repeats one on a reused connection
		},
		"knows no ranges": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				r.Header.Del("Range")
				sendRange(w, r, content, map[bool]int{true: 100_000, false: len(content)}[n < 3])
			},
		},
		"knows no ranges and always breaks off": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				r.Header.Del("Range")
				sendRange(w, r, content, 2<<20)
			},
			kind:  pull.Network,
			check: func(t *testing.T, asked []*http.Request, _ pull.Result) { atMost(t, asked, 6) },
		},
		"another range than asked for": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				if n == 2 {
					r.Header.Set("Range", "bytes=7-")
				}
				sendRange(w, r, content, map[bool]int{true: 100_000, false: len(content)}[n == 1])
			},
			kind: pull.Digest, words: "bytes of the blob",
		},
		"wrong bytes": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				wrong := append([]byte(nil), content...)
				wrong[len(wrong)/2] ^= 1
				sendRange(w, r, wrong, len(wrong))
			},
			kind: pull.Digest, words: "something else than the blob",
		},
		"too short": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) { _, _ = w.Write(content[:1000]) },
			kind:   pull.Digest, words: "sends 1000 bytes of the blob",
		},
		"without end": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				for r.Context().Err() == nil {
					if _, err := w.Write(content); err != nil {
						return
					}
				}
			},
			kind: pull.Digest, words: "more than the",
		},
		"stalls": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				if n > 1 {
					sendRange(w, r, content, len(content))
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(content[:1000])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			},
		},
		"busy": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				if n < 3 {
					w.Header().Set("Retry-After", "0")
					w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[n-1])
					return
				}
				sendRange(w, r, content, len(content))
			},
		},
		"always busy": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
				fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down\u001b[31m"}]}`)
			},
			kind: pull.RateLimit, words: "too many requests (it says: slow down",
		},
		"gone": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) { http.NotFound(w, r) },
			kind:   pull.NotFound, words: "does not have the blob sha256:",
			check: func(t *testing.T, asked []*http.Request, _ pull.Result) { atMost(t, asked, 1) },
		},
		"redirects for ever": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
			},
			kind: pull.Registry, words: "redirects more than 5 times",
		},
		"redirects to a file": {
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				http.Redirect(w, r, "file:///etc/passwd", http.StatusTemporaryRedirect)
			},
			kind: pull.Network, words: `"file" is no scheme of a registry`,
		},
		"a part from before": {
			before: func(t *testing.T, pool, digest string, content []byte) {
				write(t, filepath.Join(pool, strings.Replace(digest, ":", "-", 1)), string(content[:1234567]))
			},
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				sendRange(w, r, content, len(content))
			},
			check: func(t *testing.T, asked []*http.Request, result pull.Result) {
				if asked[0].Header.Get("Range") != "bytes=1234567-" || result.Resumed != 1234567 {
					t.Errorf("asked for %q, resumed %d", asked[0].Header.Get("Range"), result.Resumed)
				}
			},
		},
		"all of it from before": {
			before: func(t *testing.T, pool, digest string, content []byte) {
				write(t, filepath.Join(pool, strings.Replace(digest, ":", "-", 1)), string(content))
			},
			check: func(t *testing.T, asked []*http.Request, result pull.Result) { atMost(t, asked, 0) },
		},
		"a wrong part from before": {
			before: func(t *testing.T, pool, digest string, content []byte) {
				write(t, filepath.Join(pool, strings.Replace(digest, ":", "-", 1)), strings.Repeat("x", 5000))
			},
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				sendRange(w, r, content, len(content))
			},
			check: func(t *testing.T, asked []*http.Request, result pull.Result) { atMost(t, asked, 2) },
		},
		"too much from before": {
			before: func(t *testing.T, pool, digest string, content []byte) {
				write(t, filepath.Join(pool, strings.Replace(digest, ":", "-", 1)), string(content)+"x")
			},
			answer: func(w http.ResponseWriter, r *http.Request, content []byte, n int) {
				sendRange(w, r, content, len(content))
			},
		},
		"a link in the pool": {
			before: func(t *testing.T, pool, digest string, content []byte) {
				if err := os.Symlink("/etc/passwd", filepath.Join(pool, strings.Replace(digest, ":", "-", 1))); err != nil {
					t.Fatal(err)
				}
			},
			kind: "", words: "too many levels of symbolic links",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, httptest.NewServer)
			digest, content := pushed(t, f)
			a := newAttempt(t, f, "tool")
			a.stall = 300 * time.Millisecond
			if test.before != nil {
				test.before(t, a.pool, digest, content)
			}
			var n atomic.Int64
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, digest) || test.answer == nil {
					return false
				}
				test.answer(w, r, content, int(n.Add(1)))
				return true
			})
			var result pull.Result
			switch {
			case test.kind != "":
				a.mustFail(t, test.kind, test.words)
			case test.words != "":
				if _, err := a.fetch(t); err == nil || !strings.Contains(err.Error(), test.words) {
					t.Fatalf("error %v, want %q", err, test.words)
				}
			default:
				result = a.mustFetch(t)
			}
			if test.check != nil {
				test.check(t, f.asked("/blobs/"+digest), result)
			}
			if _, err := os.Stat(filepath.Join(a.pool, strings.Replace(digest, ":", "-", 1))); test.kind == pull.Digest && name == "wrong bytes" && err == nil {
				t.Error("wrong bytes are kept for the next try")
			}
		})
	}
}

func atMost(t *testing.T, asked []*http.Request, most int) {
	t.Helper()
	if len(asked) > most {
		t.Errorf("%d requests, want at most %d", len(asked), most)
	}
}
