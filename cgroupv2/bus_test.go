package cgroupv2

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
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

// Nothing looks for a bus beside the places that are named, and nothing starts one: a
// library for D-Bus can do both.
func TestNoBusIsStarted(t *testing.T) {
	f := newUserHost(t)
	dir := t.TempDir()
	trace := filepath.Join(dir, "started")
	program := filepath.Join(dir, "dbus-launch")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n: >"+trace+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	remote, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	accepted := make(chan string, 2)
	for _, listener := range []net.Listener{other, remote} {
		go func() {
			if c, err := listener.Accept(); err == nil {
				_ = c.Close()
				accepted <- listener.Addr().String()
			}
		}()
	}
	t.Setenv("PATH", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	_, port, err := net.SplitHostPort(remote.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f.vars = map[string]string{"DBUS_SESSION_BUS_ADDRESS": "autolaunch:;unixexec:path=" + program + ";tcp:host=127.0.0.1,port=" + port}
	for _, own := range []string{"unix:path=" + other.Addr().String(), ""} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", own)
		if own == "" {
			os.Unsetenv("DBUS_SESSION_BUS_ADDRESS")
		}
		if err := f.kernel().newScope(t.Context(), "sbx-1.scope"); err == nil {
			t.Error("a scope was made")
		}
	}
	if _, err := os.Lstat(trace); err == nil {
		t.Error("a program was started")
	}
	select {
	case where := <-accepted:
		t.Errorf("%s was asked", where)
	default:
	}
}

// A socket that belongs to somebody else is told nothing.
func TestForeignBus(t *testing.T) {
	f := newUserHost(t)
	name := "sbx-" + strconv.Itoa(os.Getpid()) + "/foreign"
	f.vars = map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:abstract=" + name}
	k := f.kernel()
	k.uid = os.Getuid() + 7
	listening := make(chan net.Listener)
	go func() {
		if os.Getuid() == 0 {
			// Root's own sockets are trusted. This thread ends with the goroutine.
			runtime.LockOSThread()
			_, _, _ = unix.RawSyscall(unix.SYS_SETRESUID, 1234, 1234, 1234)
		}
		listener, err := net.Listen("unix", "@"+name)
		if err != nil {
			t.Error(err)
		}
		listening <- listener
	}()
	listener := <-listening
	if listener == nil {
		return
	}
	defer listener.Close()
	told := make(chan string, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			told <- err.Error()
			return
		}
		text, _ := io.ReadAll(c)
		_ = c.Close()
		told <- string(text)
	}()
	_, err := dial(t.Context(), k.managers()[0], k.uid)
	wants(t, err, errPeer.Error())
	if text := <-told; text != "" {
		t.Errorf("it was told %q", text)
	}
}

// FuzzManager has a manager say anything: the library must neither panic nor wait for
// what cannot come.
func FuzzManager(f *testing.F) {
	f.Add("", []byte("l\x02\x00\x01\x08\x00\x00\x00\x01\x00\x00\x00\x0f\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00\x08\x01g\x00\x01o\x00\x00\x03\x00\x00\x00/a\x00\x00"))
	f.Add("REJECTED EXTERNAL\r\nERROR\r\nREJECTED\r\n", []byte("B"))
	f.Add("REJECTED \r\n", []byte{})
	f.Fuzz(func(t *testing.T, greeting string, data []byte) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var ends [2]*net.UnixConn
		for i, fd := range fds {
			file := os.NewFile(uintptr(fd), "")
			c, err := net.FileConn(file)
			_ = file.Close()
			if err != nil {
				t.Fatal(err)
			}
			ends[i] = c.(*net.UnixConn)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			in := bufio.NewReader(ends[1])
			if greeting != "" {
				_, _ = io.WriteString(ends[1], greeting)
			} else if authenticate(ends[1], in) == nil {
				_, _ = ends[1].Write(data)
			}
			_ = ends[1].CloseWrite()
			_, _ = io.Copy(io.Discard, in)
			_ = ends[1].Close()
		}()
		if c, err := converse(t.Context(), ends[0], true, os.Getuid()); err == nil {
			_ = c.newScope("sbx-1.scope")
			c.close()
		}
		<-done
	})
}
