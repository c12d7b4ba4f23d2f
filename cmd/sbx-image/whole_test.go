package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// sentFirst is how much of the big layer a slow registry sends before it falls silent.
const sentFirst = 1_200_000

// slow makes the registry send the beginning of the big layer and then nothing.
func slow(f *fake, digest string, content []byte) {
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, digest) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content[:sentFirst])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
}

// well makes it behave, with ranges.
func well(f *fake, digest string, content []byte) {
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, digest) {
			sendRange(w, r, content, len(content))
			return true
		}
		return false
	})
}

// waitFor waits until a condition holds that another process brings about.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func sizeOfFile(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return info.Size()
}

// Ctrl-C, and worse, leave the part that has come and no image. The next try goes on from there.
func TestInterruptedPull(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, httptest.NewServer)
			digest, content := pushed(t, f)
			slow(f, digest, content)
			box := sbxtest.NewStore(t)
			downloads := filepath.Join(box.Store(), "downloads")
			part := filepath.Join(downloads, strings.Replace(digest, ":", "-", 1))
			cmd := box.Command(t, "image", "pull", "--plain-http", f.host()+"/tool:1")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the first part", func() bool { return sizeOfFile(part) == sentFirst })
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if signal == syscall.SIGINT && (cmd.ProcessState.ExitCode() != 130 || !strings.Contains(stderr.String(), "interrupted; what has come is kept")) {
				t.Errorf("exit status %d, stderr %q", cmd.ProcessState.ExitCode(), stderr.String())
			}
			// The lock of the blob goes with the helper.
			waitFor(t, "the end of the helper", func() bool {
				file, err := os.OpenFile(part, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
			})
			if images, _ := filepath.Glob(filepath.Join(box.Store(), "images/imported/*/image.json")); len(images) > 0 {
				t.Errorf("there is an image: %v", images)
			}
			well(f, digest, content)
			result := box.MustRun(t, "image", "pull", "--plain-http", f.host()+"/tool:1")
			// With the configuration, or without: it may have been on its way.
			if !strings.Contains(result.Stderr, "1.202MB of them from an earlier try") && !strings.Contains(result.Stderr, "1.2MB of them from an earlier try") {
				t.Errorf("%v", result)
			}
			if asked := f.asked("/blobs/" + digest); len(asked) != 1 || asked[0].Header.Get("Range") != fmt.Sprintf("bytes=%d-", sentFirst) {
				t.Errorf("%d requests, the first with %v", len(asked), asked[0].Header)
			}
			box.MustRun(t, "gc")
			if left, _ := filepath.Glob(filepath.Join(downloads, "[^.]*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// On a terminal, the helper is interrupted too.
func TestInterruptedOnATerminal(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, content := pushed(t, f)
	slow(f, digest, content)
	box := sbxtest.NewStore(t)
	term := sbxtest.StartOnTerminal(t, box.Command(t, "image", "pull", "--plain-http", f.host()+"/tool:1"), 200, 24)
	term.Expect(t, "1 of 3 MB")
	term.Type(t, "\x03")
	if status, output := term.Wait(t); status != 130 || !strings.HasSuffix(output, "interrupted; what has come is kept for another try\r\n") {
		t.Errorf("exit status %d, output %q", status, output)
	}
	if left, _ := filepath.Glob(filepath.Join(box.Store(), "downloads/pull-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Two pulls of one image at once share its layers, and both succeed.
func TestTwoPullsAtOnce(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, content := pushed(t, f)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, digest) {
			time.Sleep(300 * time.Millisecond) // until the other is there too
			sendRange(w, r, content, len(content))
			return true
		}
		return false
	})
	box := sbxtest.NewStore(t)
	var commands []*exec.Cmd
	var said [2]bytes.Buffer
	for i := range 2 {
		cmd := box.Command(t, "image", "pull", "--plain-http", f.host()+"/tool:1")
		cmd.Stderr = &said[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, cmd)
	}
	for i, cmd := range commands {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, said[i].String())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(box.Store(), "downloads/[^.]*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The line of progress is for terminals.
func TestPullProgress(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, content := pushed(t, f)
	var goOn atomic.Bool
	serve := func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, digest) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content[:sentFirst])
		w.(http.Flusher).Flush()
		for !goOn.Load() && r.Context().Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		_, _ = w.Write(content[sentFirst:])
		return true
	}
	f.misbehave(serve)
	box := sbxtest.NewStore(t)
	term := sbxtest.StartOnTerminal(t, box.Command(t, "image", "pull", "--plain-http", f.host()+"/tool:1"), 200, 24)
	term.Expect(t, "1 of 3 MB, 1 of 2 layers")
	goOn.Store(true)
	if status, output := term.Wait(t); status != 0 || !strings.Contains(output, "\r\x1b[Ksbx: fetching "+f.host()+"/tool:1: ") {
		t.Errorf("exit status %d, output %q", status, output)
	}
	result := sbxtest.NewStore(t).MustRun(t, "image", "pull", "--plain-http", f.host()+"/tool:1")
	if strings.Contains(result.Stderr, "\r") || strings.Count(result.Stderr, "\n") > 1 || result.Stdout != f.host()+"/tool:1\n" {
		t.Errorf("without a terminal: %v", result)
	}
	if result := sbxtest.NewStore(t).MustRun(t, "image", "pull", "-q", "--plain-http", f.host()+"/tool:1", "tool"); result.Stderr != "" || result.Stdout != "tool:latest\n" {
		t.Errorf("with -q: %v", result)
	}
}

// What the store has is not fetched again, under another name neither.
func TestPullAgain(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, content := pushed(t, f)
	box := sbxtest.NewStore(t)
	box.MustRun(t, "image", "pull", "--plain-http", f.host()+"/tool:1")
	well(f, digest, content)
	result := box.MustRun(t, "image", "pull", "--plain-http", f.host()+"/tool:1", "other:2")
	if !strings.Contains(result.Stderr, "the store had this image already") || result.Stdout != "other:2\n" {
		t.Errorf("%v", result)
	}
	if asked := f.asked("/blobs/" + digest); len(asked) > 0 {
		t.Errorf("the layer was asked for: %v", asked[0].URL)
	}
	names := readAll(t, filepath.Join(box.Store(), "images/imported/names.json"))
	if !strings.Contains(names, f.host()+"/tool:1") || !strings.Contains(names, "other:2") {
		t.Errorf("names: %s", names)
	}
	// Under another id map it is another image.
	if result := box.MustRun(t, "image", "pull", "--plain-http", "--userns", "single", f.host()+"/tool:1", "single"); strings.Contains(result.Stderr, "already") {
		t.Errorf("%v", result)
	}
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A proxy is obeyed, and may be on this machine.
func TestPullThroughProxy(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	digest, content := pushed(t, f)
	well(f, digest, content)
	box := sbxtest.NewStore(t)
	box.Env = []string{"HTTP_PROXY=" + f.URL} // it answers itself what it is asked to pass on
	box.MustRun(t, "image", "pull", "--plain-http", "registry.example.com/tool:1")
	if asked := f.asked("/blobs/" + digest); len(asked) != 1 || asked[0].Host != "registry.example.com" {
		t.Errorf("%d requests: %v", len(asked), asked)
	}
	box.Env = []string{"HTTP_PROXY=http://127.0.0.1:1"}
	result := box.Run(t, "image", "pull", "--plain-http", "registry.example.com/tool:1")
	if result.Exit != 125 || !strings.Contains(result.Stderr, "the proxy: dial at 127.0.0.1:1: connection refused") {
		t.Errorf("%v", result)
	}
}

// What a registry says reaches the terminal quoted.
func TestPullQuotes(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"\u001b[2J\u202epwned\nsbx: all is well"}]}`)
		return true
	})
	result := sbxtest.NewStore(t).Run(t, "image", "pull", "--plain-http", f.host()+"/tool:1")
	if result.Exit != 125 || strings.ContainsAny(result.Stderr, "\x1b\u202e") || strings.Count(result.Stderr, "\n") != 1 || !strings.Contains(result.Stderr, `\x1b[2J`) {
		t.Errorf("%v", result)
	}
}

// What was pulled runs, as its configuration says.
func TestPullAndRun(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	probe, err := os.ReadFile(sbxtest.Probe(t))
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "bin/probe", Mode: 0o755, Size: int64(len(probe)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(probe)
	w.Close()
	img := imageOf(t, runtime.GOARCH, static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer))
	if img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/bin/probe"}, Cmd: []string{"env"}, Env: []string{"FROM=the image"}}); err != nil {
		t.Fatal(err)
	}
	f := newFake(t, httptest.NewServer)
	push(t, f.host()+"/team/probe:1", img, f.Client().Transport, authn.Anonymous)
	box := sbxtest.NewStore(t)
	box.MustRun(t, "image", "pull", "--plain-http", f.host()+"/team/probe:1")
	if result := box.MustRun(t, "run", "--image", f.host()+"/team/probe:1"); !strings.Contains(result.Stdout, "FROM=the image\n") {
		t.Errorf("%v", result)
	}
}
