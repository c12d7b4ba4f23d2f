package seccomp

import "golang.org/x/sys/unix"

const forkNumber = unix.SYS_FORK
