package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ends makes the two ends of a stream: pumpEnd is given to the pump, testEnd is the other one.
type ends func(t *testing.T, write bool) (pumpEnd, testEnd *os.File)

func pipeEnds(t *testing.T, write bool) (pumpEnd, testEnd *os.File) {
	r, w := newPipe(t)
	if write {
		return os.NewFile(uintptr(w), "pipe"), os.NewFile(uintptr(r), "pipe")
	}
	return os.NewFile(uintptr(r), "pipe"), os.NewFile(uintptr(w), "pipe")
}

func socketEnds(t *testing.T, _ bool) (pumpEnd, testEnd *os.File) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(p[0]), "socket"), os.NewFile(uintptr(p[1]), "socket")
}

func fileEnds(flags int) ends {
	return func(t *testing.T, write bool) (pumpEnd, testEnd *os.File) {
		path := filepath.Join(t.TempDir(), "file")
		pumpFlags, testFlags := os.O_RDONLY, os.O_WRONLY
		if write {
			pumpFlags, testFlags = os.O_WRONLY|flags, os.O_RDONLY
		}
		for _, f := range []struct {
			file  **os.File
			flags int
		}{{&pumpEnd, pumpFlags}, {&testEnd, testFlags}} {
			var err error
			if *f.file, err = os.OpenFile(path, f.flags|os.O_CREATE, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return pumpEnd, testEnd
	}
}

// take returns a duplicate of the descriptor for the pump to own, and closes the file.
func take(t *testing.T, f *os.File) int {
	t.Helper()
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := -1
	raw.Control(func(fd uintptr) { n = dup(t, int(fd)) })
	return n
}

// Streams of any size arrive as they were sent, whatever the two ends are.
func TestPumpIsBinaryClean(t *testing.T) {
	kinds := map[string]ends{"pipe": pipeEnds, "socket": socketEnds, "file": fileEnds(0), "appended file": fileEnds(os.O_APPEND)}
	for from, fromEnds := range kinds {
		for to, toEnds := range kinds {
			for _, size := range []int{0, 1, 4096, 65537, 3<<20 + 1} {
				for _, dir := range []string{"in", "out", "out with tap"} {
					t.Run(fmt.Sprintf("%s to %s, %d bytes, %s", from, to, size, dir), func(t *testing.T) {
						testPump(t, fromEnds, toEnds, size, dir)
					})
				}
			}
		}
	}
}

func testPump(t *testing.T, from, to ends, size int, dir string) {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	src, feed := from(t, false)
	dst, drain := to(t, true)
	fed := make(chan error, 1)
	go func() {
		_, err := feed.Write(data)
		feed.Close()
		fed <- err
	}()
	if src.Name() != "pipe" && src.Name() != "socket" {
		fed <- <-fed // a file must be there before it is read
	}
	dstFD, srcFD := take(t, dst), take(t, src)
	ran := make(chan error, 1)
	tap := new(Tap)
	go func() {
		switch dir {
		case "in":
			ran <- PumpIn(context.Background(), dstFD, srcFD)
		case "out":
			ran <- PumpOut(context.Background(), dstFD, srcFD, PumpOptions{})
		default:
			ran <- PumpOut(context.Background(), dstFD, srcFD, PumpOptions{Tap: tap})
		}
	}()
	if dst.Name() != "pipe" && dst.Name() != "socket" {
		ran <- <-ran
	}
	got, err := io.ReadAll(drain)
	drain.Close()
	if err := errors.Join(err, <-fed, <-ran); err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("%d bytes became %d others", len(data), len(got))
	}
	if dir == "out with tap" && !bytes.Equal(tap.Bytes(), data[max(0, size-TapSize):]) {
		t.Error("the tap has not the end of the stream")
	}
	for _, fd := range []int{dstFD, srcFD} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
			t.Error("a descriptor was left open")
		}
	}
}

// "sbx run yes | head": the program gets SIGPIPE, as without a relay.
func TestPumpReaderGone(t *testing.T) {
	for name, o := range map[string]PumpOptions{"spliced": {}, "copied": {Tap: new(Tap)}} {
		t.Run(name, func(t *testing.T) {
			fromYes, toPump := newPipe(t)
			head, toHead := newPipe(t)
			yes := exec.Command("yes")
			w := os.NewFile(uintptr(toPump), "pipe")
			yes.Stdout = w
			if err := yes.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			ran := make(chan error, 1)
			go func() { ran <- PumpOut(context.Background(), toHead, fromYes, o) }()
			b := make([]byte, 4)
			if _, err := unix.Read(head, b); err != nil || string(b) != "y\ny\n" {
				t.Errorf("%q, %v", b, err)
			}
			unix.Close(head)
			within(t, 5*time.Second, "the end of yes", func() { yes.Wait() })
			if st := yes.ProcessState.Sys().(syscall.WaitStatus); st.Signal() != syscall.SIGPIPE {
				t.Errorf("yes ended with %v", yes.ProcessState)
			}
			if err := <-ran; err != nil {
				t.Error(err)
			}
		})
	}
}

// The end of a reader is seen even when nothing is written: an idle program gets SIGPIPE with its first write, and the user's
// input is not read for a program that has closed its own.
func TestPumpReaderGoneWhileIdle(t *testing.T) {
	for _, dir := range []string{"in", "out"} {
		t.Run(dir, func(t *testing.T) {
			src, feed := newPipe(t)
			drain, dst := newPipe(t)
			ran := make(chan error, 1)
			go func() {
				if dir == "in" {
					ran <- PumpIn(context.Background(), dst, src)
				} else {
					ran <- PumpOut(context.Background(), dst, src, PumpOptions{})
				}
			}()
			time.Sleep(20 * time.Millisecond)
			unix.Close(drain)
			within(t, 5*time.Second, "the pump", func() {
				if err := <-ran; err != nil {
					t.Error(err)
				}
			})
			if _, err := unix.Write(feed, []byte("x")); !errors.Is(err, unix.EPIPE) {
				t.Error("the writer is not told:", err)
			}
			unix.Close(feed)
		})
	}
}

func TestPumpFilters(t *testing.T) {
	src, feed := newPipe(t)
	drain, dst := newPipe(t)
	tap := new(Tap)
	in := "\x1b[31mred\x1b]0;title\a\x1b[?25l"
	write(t, feed, in)
	unix.Close(feed)
	if err := PumpOut(context.Background(), dst, src, PumpOptions{Filter: new(Filter), Tap: tap}); err != nil {
		t.Error(err)
	}
	c := collect(drain)
	<-c.done
	if want := "\x1b[31mred\x1b[?25l\x1b[?25h\x1b[0m"; c.String() != want {
		t.Errorf("%q, want %q", c, want)
	}
	if string(tap.Bytes()) != in {
		t.Errorf("the tap has %q", tap.Bytes())
	}
	unix.Close(drain)
}

func TestPumpErrors(t *testing.T) {
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("cannot: no /dev/full here")
	}
	src, feed := newPipe(t)
	write(t, feed, "x")
	unix.Close(feed)
	err = PumpOut(context.Background(), full, src, PumpOptions{})
	if !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), "relay the program's output: ") {
		t.Error(err)
	}
	if err := PumpIn(context.Background(), 9999, 9998); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
}
