package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func cat(args []string) error {
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}

func write(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o644) }

func appendTo(args []string) error {
	file, err := os.OpenFile(args[0], os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(args[1]); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func sink([]string) error {
	hash := sha256.New()
	n, err := io.Copy(hash, os.Stdin)
	if err != nil {
		return err
	}
	fmt.Printf("%d %x\n", n, hash.Sum(nil))
	return nil
}

// pattern is what source repeats: every byte value, so that a stream that is
// not binary clean shows.
func pattern() []byte {
	p := make([]byte, 1<<16)
	for i := range p {
		p[i] = byte(i ^ i>>8)
	}
	return p
}

func source(args []string) error {
	left, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	block := pattern()
	for left > 0 {
		n, err := os.Stdout.Write(block[:min(left, int64(len(block)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func exit(args []string) error {
	status, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	os.Exit(status)
	return nil
}

func die(args []string) error {
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	signal.Reset(syscall.Signal(number))
	if err := restoreDefault(syscall.Signal(number)); err != nil {
		return err
	}
	if err := unix.Kill(os.Getpid(), syscall.Signal(number)); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	return fmt.Errorf("survived signal %d", number)
}

// restoreDefault undoes the Go runtime's own handler, which would turn the
// signal into a crash report.
func restoreDefault(number syscall.Signal) error {
	// struct sigaction of the kernel: handler, flags, restorer, mask.
	var action [4]uint64
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(number), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	if errno != 0 && number != unix.SIGKILL && number != unix.SIGSTOP {
		return errno
	}
	return nil
}

func crash([]string) error {
	if err := restoreDefault(unix.SIGSEGV); err != nil {
		return err
	}
	debug.SetPanicOnFault(false)
	var nowhere *int
	*nowhere = 1 // the fault is what is asked for
	return nil
}

func sleep(args []string) error {
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	return nil
}

// sigwait prints "ready" when signals are caught from then on.
func sigwait(args []string) error {
	count := -1
	if len(args) > 0 {
		var err error
		if count, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGALRM)
	fmt.Println("ready")
	for s := range signals {
		number, _ := s.(syscall.Signal)
		fmt.Println(unix.SignalName(number))
		count--
		if count == 0 || number == unix.SIGTERM && count < 0 {
			return nil
		}
	}
	return nil
}

func orphan(args []string) error {
	child := exec.Command("/proc/self/exe", "sleep", args[0])
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println(child.Process.Pid)
	return child.Process.Release()
}

func forkbomb(args []string) error {
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for n := range count {
		child := exec.Command("/proc/self/exe", "sleep", "30")
		if err := child.Start(); err != nil {
			fmt.Printf("%d: %v\n", n, err)
			return nil
		}
	}
	fmt.Printf("%d: no limit met\n", count)
	return nil
}

func memhog(args []string) error {
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	fmt.Println("touched", size)
	return nil
}

func killGroup([]string) error {
	signal.Ignore(unix.SIGUSR1)
	if err := unix.Kill(0, unix.SIGUSR1); err != nil {
		return err
	}
	fmt.Println("sent")
	return nil
}
