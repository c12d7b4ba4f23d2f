package console

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The end of the context ends a pump at once when there is nothing to do, and soon when there is always something.
func TestPumpStops(t *testing.T) {
	forever := func(t *testing.T, fd int) { // a writer that never ends, until it gets EPIPE
		go func() {
			for b := make([]byte, 64<<10); ; {
				if _, err := unix.Write(fd, b); err != nil && !errors.Is(err, unix.EINTR) {
					unix.Close(fd)
					return
				}
			}
		}()
	}
	nobody := func(t *testing.T, fd int) { t.Cleanup(func() { unix.Close(fd) }) }
	reads := func(t *testing.T, fd int) { collect(fd) }
	for _, tc := range []struct {
		name         string
		feed, drain  func(t *testing.T, fd int)
		in, out, tap time.Duration // limits
	}{
		{"nothing comes", nobody, reads, time.Second, time.Second, time.Second},
		{"nobody reads", forever, nobody, time.Second, pumpDrain + time.Second, pumpDrain + time.Second},
		{"it never ends", forever, reads, time.Second, pumpDrain + time.Second, pumpDrain + time.Second},
	} {
		for dir, limit := range map[string]time.Duration{"in": tc.in, "out": tc.out, "out with tap": tc.tap} {
			t.Run(tc.name+", "+dir, func(t *testing.T) {
				t.Parallel()
				src, feed := newPipe(t)
				drain, dst := newPipe(t)
				tc.feed(t, feed)
				tc.drain(t, drain)
				ctx, cancel := context.WithCancel(context.Background())
				ran := make(chan error, 1)
				go func() {
					switch dir {
					case "in":
						ran <- PumpIn(ctx, dst, src)
					case "out":
						ran <- PumpOut(ctx, dst, src, PumpOptions{})
					default:
						ran <- PumpOut(ctx, dst, src, PumpOptions{Tap: new(Tap)})
					}
				}()
				time.Sleep(30 * time.Millisecond)
				cancel()
				within(t, limit, "the end", func() {
					if err := <-ran; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// What the program has written before its end arrives, even if the context ends first.
func TestPumpOutDrains(t *testing.T) {
	src, feed := newPipe(t)
	drain, dst := newPipe(t)
	text := strings.Repeat("x", 60000)
	write(t, feed, text)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := PumpOut(ctx, dst, src, PumpOptions{}); err != nil {
		t.Error(err)
	}
	c := collect(drain)
	<-c.done
	if c.String() != text {
		t.Errorf("%d bytes of %d", len(c.String()), len(text))
	}
	unix.Close(feed)
	unix.Close(drain)
}

// What the user has typed ahead for whatever comes next is not taken.
func TestPumpInLeavesTheRest(t *testing.T) {
	src, feed := newPipe(t)
	keep := dup(t, src)
	drain, dst := newPipe(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	write(t, feed, "next command")
	if err := PumpIn(ctx, dst, src); err != nil {
		t.Error(err)
	}
	if !readable(keep) {
		t.Error("it was read")
	}
	for _, fd := range []int{feed, keep, drain} {
		unix.Close(fd)
	}
}

// The caller's open file descriptions are left blocking while a pump runs, and two pumps may share one.
func TestPumpSharedDescription(t *testing.T) {
	src, feed := newPipe(t)
	drain, dst := newPipe(t)
	other := dup(t, src)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { PumpIn(ctx, dst, src) })
	wg.Go(func() { PumpIn(ctx, dup(t, dst), other) })
	got := collect(drain)
	for range 50 {
		write(t, feed, "x")
		time.Sleep(time.Millisecond)
		if nonblocking(t, feed) || nonblocking(t, drain) || nonblocking(t, src) || nonblocking(t, dst) {
			t.Fatal("O_NONBLOCK was set")
		}
	}
	eventually(t, "all of it arrives", func() bool { return len(got.String()) == 50 })
	cancel()
	within(t, time.Second, "the end of both", wg.Wait)
	unix.Close(feed)
	<-got.done
	unix.Close(drain)
}

// partPump pumps its stdin to its stdout, and says where 0, 1 and 2 lead afterwards.
func partPump() int {
	err := PumpIn(context.Background(), 1, 0)
	if err == nil {
		var saved int
		saved, err = unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
		src, feed := -1, -1
		if err == nil {
			var p [2]int
			err = unix.Pipe2(p[:], unix.O_CLOEXEC)
			src, feed = p[0], p[1]
		}
		if err == nil {
			unix.Close(feed)
			err = PumpOut(context.Background(), 2, src, PumpOptions{})
			out := os.NewFile(uintptr(saved), "stderr")
			for fd := range 3 {
				link, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
				out.WriteString(link + "\n")
			}
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

// The numbers 0, 1 and 2 do not become free for the next file that is opened.
func TestPumpLeavesNoHole(t *testing.T) {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CONSOLE_TEST_PART=pump")
	c.Stdin = strings.NewReader("data")
	var out, err strings.Builder
	c.Stdout, c.Stderr = &out, &err
	if e := c.Run(); e != nil {
		t.Fatal(e, err.String())
	}
	if out.String() != "data" || err.String() != strings.Repeat("/dev/null\n", 3) {
		t.Errorf("stdout %q, stderr %q", out.String(), err.String())
	}
}

func TestTap(t *testing.T) {
	for _, pieces := range [][]int{{}, {1}, {TapSize}, {TapSize - 1, 1, 1}, {3, TapSize}, {TapSize + 1}, {10 * TapSize, 7}, {1000, 1000, 1000, 1000, 1000}} {
		tap := new(Tap)
		var all []byte
		for i, n := range pieces {
			p := []byte(strings.Repeat(string(rune('a'+i)), n))
			all = append(all, p...)
			if w, err := tap.Write(p); w != n || err != nil {
				t.Error(w, err)
			}
		}
		if want := string(all[max(0, len(all)-TapSize):]); string(tap.Bytes()) != want {
			t.Errorf("%v: wrong bytes", pieces)
		}
	}
}

func BenchmarkPump(b *testing.B) {
	for name, o := range map[string]PumpOptions{"spliced": {}, "copied": {Tap: new(Tap)}, "filtered": {Filter: new(Filter)}} {
		b.Run(name, func(b *testing.B) {
			var in, out [2]int
			if err := errors.Join(unix.Pipe2(in[:], unix.O_CLOEXEC), unix.Pipe2(out[:], unix.O_CLOEXEC)); err != nil {
				b.Fatal(err)
			}
			ran := make(chan error, 1)
			go func() { ran <- PumpOut(context.Background(), out[1], in[0], o) }()
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				for b := make([]byte, 128<<10); ; {
					if n, err := unix.Read(out[0], b); n <= 0 && !errors.Is(err, unix.EINTR) {
						return
					}
				}
			}()
			piece := []byte(strings.Repeat("0123456789abcde\n", 4096))
			b.SetBytes(int64(len(piece)))
			for b.Loop() {
				if _, err := unix.Write(in[1], piece); err != nil {
					b.Fatal(err)
				}
			}
			unix.Close(in[1])
			<-ran
			<-drained
			unix.Close(out[0])
		})
	}
}
