package vfork

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func deep(n int) int {
	var pad [256]byte
	pad[n%256] = byte(n)
	if n == 0 {
		return int(pad[0])
	}
	return deep(n-1) + int(pad[n%256])&1
}

func TestBorrow(t *testing.T) {
	stop := make(chan bool)
	for range 2 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					x := make([]byte, 100000)
					_ = x
					runtime.GC()
				}
			}
		}()
	}
	defer close(stop)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			runtime.LockOSThread()
			for i := range 300 {
				pids := make(chan int, 1)
				work := make(chan int)
				go func() { <-pids; work <- 1 }()
				p, err := Start(unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS)
				if err != nil {
					t.Error(err)
					return
				}
				pids <- p.Pid
				<-work
				inside := os.Getpid()
				s := make([][]byte, 0)
				for j := range 100 {
					s = append(s, make([]byte, j*10))
				}
				d := deep(i * 10)
				fd, _ := unix.Open("/proc/self/status", unix.O_RDONLY, 0)
				unix.Close(fd)
				if (i+g)%2 == 0 {
					p.Exit(3)
				} else if err := p.Exec(unix.AT_FDCWD, "/bin/true", []string{"true"}, nil, 0); err != nil {
					p.Exit(4)
				}
				var st unix.WaitStatus
				if _, err := unix.Wait4(p.Pid, &st, 0, nil); err != nil {
					t.Error(err)
				}
				want := 0
				if (i+g)%2 == 0 {
					want = 3
				}
				if st.ExitStatus() != want || inside != 1 {
					t.Error(st, inside, d)
				}
			}
		})
	}
	wg.Wait()
}
