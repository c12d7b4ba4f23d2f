package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/pull"
)

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
			kind: pull.RateLimit, words: "too many requests (it says: slow down\x1b[31m), and asks to wait 1h0m0s",
			check: func(t *testing.T, asked []*http.Request, _ pull.Result) { atMost(t, asked, 1) },
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
			if name == "stalls" {
				a.stall = 300 * time.Millisecond
			}
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

// An answer that does not end is given up: a small one as a whole, wherever it comes from.
func TestAnswersWithoutEnd(t *testing.T) {
	for name, path := range map[string]string{"token": "/token", "manifest": "/v2/tool/manifests/1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, httptest.NewServer)
			pushed(t, f)
			asks := wantsBearer(f, "")
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != path {
					return name == "token" && asks(w, r)
				}
				_, _ = w.Write([]byte("{"))
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			})
			a := newAttempt(t, f, "tool")
			a.task.Login = login{User: "alice", Password: "secret"}
			a.small = 200 * time.Millisecond
			a.mustFail(t, pull.Network, "no whole answer in time")
		})
	}
}

// Layers are fetched side by side, and not all at once.
func TestParallel(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	var layers []v1.Layer
	for i := range 10 {
		layers = append(layers, layerOf(t, strconv.Itoa(i), 100))
	}
	push(t, f.host()+"/tool:1", imageOf(t, runtime.GOARCH, layers...), f.Client().Transport, authn.Anonymous)
	var now, most atomic.Int64
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, "") {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
		}
		return false
	})
	if newAttempt(t, f, "tool").mustFetch(t); most.Load() < 2 || most.Load() > parallel {
		t.Errorf("%d requests at once, want at most %d, and more than one", most.Load(), parallel)
	}
}

// HTTP/2 has other words for a broken connection.
func TestCutOffInHTTP2(t *testing.T) {
	f := newFake(t, func(h http.Handler) *httptest.Server {
		server := httptest.NewUnstartedServer(h)
		server.EnableHTTP2 = true
		server.StartTLS()
		return server
	})
	digest, content := pushed(t, f)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, digest) {
			return false
		}
		sendRange(w, r, content, 700_000)
		return true
	})
	newAttempt(t, f, "tool").mustFetch(t)
	asked := f.asked("/blobs/" + digest)
	if last := asked[len(asked)-1]; len(asked) < 4 || last.ProtoMajor != 2 || last.Header.Get("Range") == "" {
		t.Errorf("%d requests, the last one %s with %v", len(asked), last.Proto, last.Header)
	}
}

// A full disk is said to be one.
func TestDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	p := &part{file: full, want: v1.Descriptor{Size: 3}, sum: sha256.New(), done: new(atomic.Int64)}
	err = p.receive(strings.NewReader("abc"), func() {})
	if f := failure(err); !errors.Is(f, unix.ENOSPC) || f.Kind != pull.Local || f.Text != "write the download to the store: no space left on device" {
		t.Errorf("%+v", f)
	}
}

// An image that does not fit is not begun.
func TestNoRoom(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, _ := pushed(t, f)
	a := newAttempt(t, f, "tool")
	a.task.Request.Limits.MinFree = 1 << 60
	f.misbehave(nil)
	_, err := a.fetch(t)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "--limit min-free") {
		t.Errorf("error %v", err)
	}
	atMost(t, f.asked("/blobs/"+digest), 0)
}

// What an error says when nothing answers, in words without the library's own.
func TestExplainNetwork(t *testing.T) {
	address := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	for want, err := range map[string]error{
		"dial at 192.0.2.1:443: network is unreachable":            &url.Error{Op: "Get", URL: "https://x", Err: &net.OpError{Op: "dial", Addr: address, Err: os.NewSyscallError("connect", unix.ENETUNREACH)}},
		"no address is known for registry.example.com":             &net.DNSError{Name: "registry.example.com", IsNotFound: true},
		"find the address of registry.example.com: server failure": &net.DNSError{Name: "registry.example.com", Err: "server failure"},
		"the proxy: connection refused":                            &net.OpError{Op: "proxyconnect", Err: unix.ECONNREFUSED},
		"unexpected EOF":                                           &url.Error{Op: "Get", URL: "https://x", Err: io.ErrUnexpectedEOF},
	} {
		if got := explainNetwork(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
