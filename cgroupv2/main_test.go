package cgroupv2

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary a program that runs in a leaf.
const roleVariable = "CGROUPV2_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// play is what the programs in leaves do. Those that use up something end by
// themselves when nobody stops them: a test that fails must not harm its machine.
func play(role string) int {
	timeout := time.AfterFunc(60*time.Second, func() { os.Exit(3) })
	defer timeout.Stop()
	fmt.Println("started")
	switch role {
	case "sleep":
		time.Sleep(time.Minute)
	case "true":
	case "spin":
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			_ = end
		}
	case "fork":
		return forkBomb()
	case "anonymous", "memfd", "shm", "pipes":
		return eat(role)
	case "hoard":
		return startAndWait("anonymous")
	case "share", "shared":
		return share(role)
	case "find":
		return findAndHold()
	case "crash":
		return findAndCrash()
	case "namespace":
		return namespace()
	}
	return 0
}

// eatenBytes is how much a hungry program takes at most.
const eatenBytes = 256 << 20

func eat(kind string) int {
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i)
	}
	var kept [][]byte
	fd := -1
	var err error
	switch kind {
	case "memfd":
		fd, err = unix.MemfdCreate("eaten", 0)
	case "shm":
		fd, err = unix.Open("/dev/shm", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	}
	if err != nil {
		fmt.Println(err)
		return 2
	}
	for n := 0; n < eatenBytes; n += len(chunk) {
		switch kind {
		case "anonymous":
			kept = append(kept, append([]byte(nil), chunk...))
		case "pipes":
			if err := fillPipe(chunk); err != nil {
				fmt.Println(err)
				return 2
			}
		default:
			if _, err := unix.Write(fd, chunk); err != nil {
				fmt.Println(err)
				return 2
			}
		}
	}
	fmt.Println("ate", len(kept))
	return 0
}

// fillPipe makes a pipe that holds what it can. The kernel gives a user 64 MiB of
// buffers, after that each pipe has two pages.
func fillPipe(chunk []byte) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK); err != nil {
		return err
	}
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, len(chunk))
	for {
		if _, err := unix.Write(p[1], chunk); err != nil {
			return nil
		}
	}
}

// forkBomb starts processes that do the same, until none can be started.
func forkBomb() int {
	for {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=fork")
		if err := cmd.Start(); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// startAndWait runs a role as a child, so that the memory is not the first process's.
func startAndWait(role string) int {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // which the signal is bound to
	_ = cmd.Run()
	return 0
}

// share maps 64 MiB of one file, in the process itself and in a child.
func share(role string) int {
	const size = 64 << 20
	fd := 3
	if role == "share" {
		var err error
		if fd, err = unix.MemfdCreate("shared", 0); err != nil {
			return 2
		}
		if err := unix.Ftruncate(fd, size); err != nil {
			return 2
		}
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 2
	}
	for i := 0; i < size; i += 4096 {
		data[i] = 1
	}
	if role == "shared" {
		time.Sleep(time.Minute)
		return 0
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=shared")
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "shared")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	_ = cmd.Run()
	return 0
}

// findAndHold takes a place and a leaf, tells of it, and waits for its standard input
// to end.
func findAndHold() int {
	ctx := contextForRole()
	p, err := Find(ctx, "memory", "pids")
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	l, err := p.NewLeaf(ctx, "r"+strconv.Itoa(os.Getpid()), Limits{Memory: 64 << 20, Pids: 64})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(l.Dir)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if err := l.Kill(ctx); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	if err := l.Remove(ctx); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	if err := p.Close(ctx); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("closed")
	return 0
}

// born starts a role in a leaf, by CLONE_INTO_CGROUP where the leaf allows it, and waits
// until it runs.
func born(t *testing.T, l *Leaf, role string) *exec.Cmd {
	t.Helper()
	if l.FD() < 0 {
		cmd := started(t, role, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
		if err := l.Add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	return started(t, role, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: l.FD(), Pdeathsig: syscall.SIGKILL})
}

// started starts a role and waits for its first line.
func started(t *testing.T, role string, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "GOMAXPROCS=1")
	cmd.SysProcAttr = attr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
		t.Fatalf("start %s: %q, %v", role, line, err)
	}
	return cmd
}

// findAndCrash starts a program in a leaf, tells of the leaf and ends without a trace of
// care for it.
func findAndCrash() int {
	ctx := contextForRole()
	p, err := Find(ctx, "pids")
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	l, err := p.NewLeaf(ctx, "crashed", Limits{Pids: 64})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=sleep")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: l.FD()}
	if err := cmd.Start(); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(l.Dir)
	return 0
}

// namespace tells where it is in its cgroup namespace, and in one of its own making.
func namespace() int {
	runtime.LockOSThread()
	_, _ = io.ReadAll(os.Stdin)
	for range 2 {
		text, err := os.ReadFile("/proc/thread-self/cgroup")
		if err != nil {
			return 2
		}
		fmt.Print(string(text))
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			fmt.Println(err)
			return 2
		}
	}
	return 0
}
