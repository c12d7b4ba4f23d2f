package initproc

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// run starts the payload and stays with it until it ends, then ends everything
// else in the sandbox and empties the sandbox's directory.
func (p *process) run() int {
	last := len(p.stages) - 1
	p.awaitTerminal()
	pid, err := 0, ignoreFaults()
	if err == nil {
		pid, err = p.start()
	}
	if err != nil {
		p.report(last, err)
		p.killAll()
		p.discard()
		return 1
	}
	if err := p.letGo(); err != nil {
		p.report(last, err)
		return 1
	}
	p.send(plan.Message{Op: plan.MsgStarted, SHA256: p.sha256, Copy: p.copied})

	var payload atomic.Int64
	payload.Store(int64(pid))
	go p.obey(&payload)
	status := p.reap(pid)
	payload.Store(0)

	p.killAll()
	m := plan.Message{Op: plan.MsgExited, Status: status.ExitStatus()}
	if status.Signaled() {
		m.Signal = int(status.Signal())
	}
	m.Leftover = !p.discard()
	p.send(m)
	return 0
}

// letGo closes what pid 1 has no more use for. Its own 0, 1 and 2 are the
// payload's: as long as they are open here, nobody sees their end.
func (p *process) letGo() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return err
		}
	}
	if p.slave >= 0 {
		_ = unix.Close(p.slave)
		p.slave = -1
	}
	p.proc = -1
	return errors.Join(unix.Close(null), p.builder.Close())
}

// obey does what the supervisor says until the supervisor is gone, and then
// ends the sandbox: the parent-death signal should have come first.
func (p *process) obey(payload *atomic.Int64) {
	for _, m := range p.early {
		p.order(m, payload)
	}
	for {
		m, _, err := p.conn.Receive()
		if err != nil {
			os.Exit(1)
		}
		p.order(m, payload)
	}
}

// order carries out one order of the supervisor's.
func (p *process) order(m plan.Message, payload *atomic.Int64) {
	switch m.Op {
	case plan.MsgSignal:
		// To the group, as a terminal would: a shell script and the
		// program it waits for both get it.
		if pid := int(payload.Load()); pid > 0 {
			_ = unix.Kill(-pid, unix.Signal(m.Signal))
		}
	case plan.MsgKill:
		_ = unix.Kill(-1, unix.SIGKILL)
	}
}

// awaitTerminal waits until the supervisor has given the terminal its size and
// modes: a program may ask for them first of all. Orders that come earlier are
// kept for the program.
func (p *process) awaitTerminal() {
	for p.slave >= 0 {
		m, _, err := p.conn.Receive()
		if err != nil {
			os.Exit(1)
		}
		if m.Op == plan.MsgTerminal {
			return
		}
		p.early = append(p.early, m)
	}
}

// reap collects every process that ends, orphans included, until the payload
// has, and tells the supervisor when it was stopped.
func (p *process) reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return status // ECHILD: cannot happen while the payload is unreaped
		}
		if got != pid {
			continue
		}
		if !status.Stopped() {
			return status
		}
		p.send(plan.Message{Op: plan.MsgStopped, Signal: int(status.StopSignal())})
	}
}

// killAll ends what the payload left behind. A process that forks faster than
// kill(2) walks is met by the next round; pid 1's own end is the last word.
func (p *process) killAll() {
	for {
		if err := unix.Kill(-1, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
			return
		}
		for {
			_, err := unix.Wait4(-1, nil, 0, nil)
			if errors.Is(err, unix.ECHILD) {
				break
			}
		}
	}
}

// discard empties the sandbox's directory. Nothing runs in it any more, and
// only from here, inside the id map, can files of all ids be removed without
// another process. The directory itself and its lock stay the supervisor's.
func (p *process) discard() bool {
	if p.plan.Root.Keep || p.dir < 0 {
		return true
	}
	dir := os.NewFile(uintptr(p.dir), p.plan.Root.Sandbox)
	defer dir.Close()
	for _, name := range []string{"upper", "work", "tree"} {
		if err := rootfs.RemoveTree(dir, name); err != nil {
			return false
		}
	}
	return true
}
