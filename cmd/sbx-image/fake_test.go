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
	small, stall time.Duration
}

func newAttempt(t *testing.T, f *fake, repository string) *attempt {
	t.Helper()
	a := &attempt{pool: t.TempDir(), small: 10 * time.Second, stall: 5 * time.Second}
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
	c.small, c.stall = a.small, a.stall
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

func atMost(t *testing.T, asked []*http.Request, most int) {
	t.Helper()
	if len(asked) > most {
		t.Errorf("%d requests, want at most %d", len(asked), most)
	}
}
