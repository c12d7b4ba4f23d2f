package reaper_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/internal/vfork"
)

// sandbox is a pid namespace whose pid 1 is the reaper, with a shell script as
// its payload.
type sandbox struct {
	t    *testing.T
	init *vfork.Process
	conn reaper.Conn
	end  int
	out  *os.File
}

func run(t *testing.T, script string) *sandbox {
	t.Helper()
	return start(t, true, script)
}

// start runs the script, in a process group of its own as initproc does, or in pid 1's.
func start(t *testing.T, group bool, script string) *sandbox {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	program, err := reaper.Open()
	if err != nil {
		t.Fatal(err)
	}
	var list forkexec.Program
	fill(t, &list, w, group, script)
	report, err := forkexec.NewReport()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	p, err := vfork.Start(unix.CLONE_NEWUSER | unix.CLONE_NEWPID)
	if errors.Is(err, unix.EPERM) && os.Getenv("SBX_MUST_WORK") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	child, err := forkexec.StartReporting(&list, 0, report)
	if err == nil {
		err = become(p, pair[1], program)
	}
	if err != nil {
		p.Exit(1)
		t.Fatal(err)
	}
	unix.Close(pair[1])
	unix.Close(program)
	w.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t: t, init: p, conn: reaper.NewConn(pair[0]), end: pair[0], out: r}
	t.Cleanup(func() {
		unix.Close(s.end)
		r.Close()
		_, _ = unix.Wait4(p.Pid, nil, 0, nil)
	})
	s.send(reaper.Reap, child.Pid)
	return s
}

func fill(t *testing.T, list *forkexec.Program, w *os.File, group bool, script string) {
	t.Helper()
	if group {
		list.Add("a process group", unix.SYS_SETPGID, 0, 0)
	}
	list.Add("standard output", unix.SYS_DUP3, w.Fd(), 1, 0)
	list.UnblockSignals()
	if err := list.Execute("run", "/bin/sh", []string{"sh", "-c", script}, []string{"PATH=/usr/bin:/bin"}); err != nil {
		t.Fatal(err)
	}
}

// become is the last part of what initproc does.
func become(p *vfork.Process, control, program int) error {
	children, err := unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGCHLD - 1)}}, unix.SFD_NONBLOCK)
	if err != nil {
		return err
	}
	fds := []int{control, children, program}
	for i := range fds {
		if fds[i], err = unix.FcntlInt(uintptr(fds[i]), unix.F_DUPFD_CLOEXEC, 10); err != nil {
			return err
		}
	}
	return p.Exec(fds[2], "", []string{"sbx-init"}, nil, unix.AT_EMPTY_PATH,
		vfork.Move{From: fds[0], To: reaper.Control}, vfork.Move{From: fds[1], To: reaper.Children})
}

func (s *sandbox) send(op reaper.Op, value int) {
	s.t.Helper()
	if err := s.conn.Send(reaper.Packet{Op: op, Value: uint32(value)}); err != nil {
		s.t.Fatal(err)
	}
}

// want receives one packet; a timeout is a failure.
func (s *sandbox) want(op reaper.Op) uint32 {
	s.t.Helper()
	timeout := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(s.end, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		s.t.Fatal(err)
	}
	p, _, err := s.conn.Receive()
	if err != nil || p.Op != op {
		s.t.Fatalf("%+v, %v, want operation %d", p, err, op)
	}
	return p.Value
}

// line reads what the payload says first.
func (s *sandbox) line() string {
	s.t.Helper()
	var b []byte
	one := make([]byte, 1)
	for {
		if n, err := s.out.Read(one); n == 0 || one[0] == '\n' {
			if err != nil && !errors.Is(err, io.EOF) {
				s.t.Fatal(err)
			}
			return string(b)
		}
		b = append(b, one[0])
	}
}

func TestHowThePayloadEnds(t *testing.T) {
	for script, want := range map[string]unix.WaitStatus{
		"exit 0":                        0,
		"exit 3":                        3 << 8,
		"kill -9 $$":                    unix.WaitStatus(unix.SIGKILL),
		"kill -15 $$":                   unix.WaitStatus(unix.SIGTERM),
		"(sleep 100 &) ; exit 5":        5 << 8, // what is left is ended
		"(exit 9) & (exit 8); wait":     0,      // others are reaped and not mistaken for it
		"(sleep .05; exit 9)& exit 1":   1 << 8,
		"kill -9 1; kill -15 1; exit 2": 2 << 8, // out of reach
	} {
		s := run(t, script)
		if status := unix.WaitStatus(s.want(reaper.Exited)); status != want {
			t.Errorf("%s: status %#x, want %#x", script, status, want)
		}
		if _, _, err := s.conn.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after its last word: %v", script, err)
		}
	}
}

func TestSignals(t *testing.T) {
	s := run(t, `trap 'echo got; exit 4' USR1; echo ready; while :; do sleep .01; done`)
	if got := s.line(); got != "ready" {
		t.Fatalf("%q", got)
	}
	s.send(reaper.Signal, int(unix.SIGUSR1))
	if got := s.line(); got != "got" {
		t.Errorf("%q", got)
	}
	if status := unix.WaitStatus(s.want(reaper.Exited)); status.ExitStatus() != 4 {
		t.Errorf("status %v", status)
	}
}

func TestStopAndGoOn(t *testing.T) {
	s := run(t, `kill -STOP $$; echo on; exit 6`)
	if sig := s.want(reaper.Stopped); unix.Signal(sig) != unix.SIGSTOP {
		t.Errorf("stopped by %d", sig)
	}
	s.send(reaper.Signal, int(unix.SIGCONT))
	if got := s.line(); got != "on" {
		t.Errorf("%q", got)
	}
	if status := unix.WaitStatus(s.want(reaper.Exited)); status.ExitStatus() != 6 {
		t.Errorf("status %v", status)
	}
}

// A program can leave its process group, for that of pid 1 or of a child.
func TestSignalToWhoLeftTheGroup(t *testing.T) {
	s := start(t, false, `kill -STOP $$; trap 'exit 5' TERM; echo on; while :; do sleep 0.01; done`)
	s.want(reaper.Stopped)
	s.send(reaper.Signal, int(unix.SIGCONT))
	if got := s.line(); got != "on" {
		t.Errorf("%q", got)
	}
	s.send(reaper.Signal, int(unix.SIGTERM))
	if status := unix.WaitStatus(s.want(reaper.Exited)); status.ExitStatus() != 5 {
		t.Errorf("status %v", status)
	}
}

func TestKill(t *testing.T) {
	s := run(t, `trap '' TERM INT HUP; sleep 100 & echo ready; sleep 100`)
	s.line()
	s.send(reaper.Kill, 0)
	if status := unix.WaitStatus(s.want(reaper.Exited)); status.Signal() != unix.SIGKILL {
		t.Errorf("status %v", status)
	}
}

// An order that comes too late does not take the last word along.
func TestLateOrder(t *testing.T) {
	for range 20 {
		s := run(t, `exit 3`)
		for range 5 {
			if s.conn.Send(reaper.Packet{Op: reaper.Signal, Value: uint32(unix.SIGWINCH)}) != nil {
				break
			}
		}
		if status := unix.WaitStatus(s.want(reaper.Exited)); status.ExitStatus() != 3 {
			t.Errorf("status %v", status)
		}
	}
}

// What it does not know, it does not obey, and it goes on.
func TestUnknownOrder(t *testing.T) {
	s := run(t, `echo ready; sleep 100`)
	s.line()
	s.send(reaper.Op(77), 9)
	s.send(reaper.Signal, int(unix.SIGTERM))
	if status := unix.WaitStatus(s.want(reaper.Exited)); status.Signal() != unix.SIGTERM {
		t.Errorf("status %v", status)
	}
}

// With the supervisor's end it ends, and with it the pid namespace.
func TestEndsWithTheSupervisor(t *testing.T) {
	s := run(t, `echo ready; sleep 100`)
	s.line()
	unix.Close(s.end)
	if got := s.line(); got != "" {
		t.Errorf("%q", got)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(s.init.Pid, &status, 0, nil); err != nil || status.ExitStatus() != 1 {
		t.Errorf("status %v, %v", status, err)
	}
	s.end = -1
}

// Nothing of the caller's is in it: arguments, environment, memory, files.
func TestNothingOfTheCallers(t *testing.T) {
	s := run(t, `echo ready; sleep 100`)
	s.line()
	proc := "/proc/" + itoa(s.init.Pid)
	for file, want := range map[string]string{"cmdline": "sbx-init\x00", "comm": "sbx-init\n"} {
		if data, err := os.ReadFile(proc + "/" + file); err != nil || string(data) != want {
			t.Errorf("%s is %q, %v", file, data, err)
		}
	}
	if os.Geteuid() == 0 { // it is not dumpable
		if data, err := os.ReadFile(proc + "/environ"); err != nil || len(data) > 0 {
			t.Errorf("environ is %q, %v", data, err)
		}
		if to, err := os.Readlink(proc + "/exe"); err != nil || !strings.HasPrefix(to, "/memfd:sbx-init") {
			t.Errorf("exe is %q, %v", to, err)
		}
		if f, err := os.OpenFile(proc+"/exe", os.O_WRONLY, 0); err == nil {
			if _, err := f.Write([]byte{0}); err == nil {
				t.Error("it can be written to while it runs")
			}
			f.Close()
		}
	}
	s.send(reaper.Kill, 0)
	s.want(reaper.Exited)
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestImage(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(reaper.Image()))
	if err != nil {
		t.Fatal(err)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	if f.Machine != machine || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
		t.Errorf("%+v", f.FileHeader)
	}
	p := f.Progs[0]
	if p.Flags != elf.PF_R|elf.PF_X || p.Filesz > 4096 || f.Entry <= p.Vaddr || f.Entry >= p.Vaddr+p.Filesz {
		t.Errorf("%+v, entry %#x", p.ProgHeader, f.Entry)
	}
}

// Who holds it cannot change it, whatever he may do to files.
func TestSealed(t *testing.T) {
	fd, err := reaper.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Pwrite(fd, []byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
	if err := unix.Ftruncate(fd, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncate: %v", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("more seals: %v", err)
	}
}

func TestConn(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	a, b := reaper.NewConn(pair[0]), reaper.NewConn(pair[1])
	want := reaper.Packet{Op: reaper.Signal, Value: 1<<32 - 1}
	if err := a.Send(want, 0, 1); err != nil {
		t.Fatal(err)
	}
	got, fds, err := b.Receive()
	if err != nil || got != want || len(fds) != 2 {
		t.Errorf("%+v with %v, %v", got, fds, err)
	}
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("a descriptor came without close-on-exec, %v", err)
		}
		unix.Close(fd)
	}
	for _, data := range []string{"x", "1234567", "123456789"} {
		if err := unix.Sendmsg(pair[0], []byte(data), nil, nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Receive(); !errors.Is(err, unix.EPROTO) {
			t.Errorf("%q: %v", data, err)
		}
	}
	unix.Close(pair[0])
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if err := b.Send(want); !errors.Is(err, unix.EPIPE) {
		t.Errorf("after the end: %v", err)
	}
}
