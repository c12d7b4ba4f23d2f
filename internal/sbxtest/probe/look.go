package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/probe"
)

func report(args []string) error {
	var facts probe.Facts
	if err := json.Unmarshal([]byte(args[0]), &facts); err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(probe.Run(facts))
}

func printArgs(args []string) error {
	if args == nil {
		args = []string{}
	}
	return json.NewEncoder(os.Stdout).Encode(args)
}

func printEnv([]string) error {
	for _, entry := range os.Environ() {
		fmt.Println(entry)
	}
	return nil
}

func printIDs([]string) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	session, err := unix.Getsid(0)
	if err != nil {
		return err
	}
	fmt.Printf("uid=%d gid=%d groups=%v pid=%d sid=%d pgrp=%d\n",
		os.Getuid(), os.Getgid(), groups, os.Getpid(), session, unix.Getpgrp())
	return nil
}

func fdList([]string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil {
			continue // the descriptor of the listing itself
		}
		if strings.HasPrefix(target, "anon_inode:") || strings.HasSuffix(target, "/fd") {
			continue // the Go runtime's own
		}
		fmt.Println(entry.Name(), target)
	}
	return nil
}

func stat(args []string) error {
	var st unix.Stat_t
	if err := unix.Lstat(args[0], &st); err != nil {
		return err
	}
	fmt.Printf("mode=%o uid=%d gid=%d size=%d links=%d\n", st.Mode, st.Uid, st.Gid, st.Size, st.Nlink)
	return nil
}

func list(args []string) error {
	entries, err := os.ReadDir(args[0])
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Println(entry.Name())
	}
	return nil
}

func access(args []string) error {
	mode := uint32(0)
	for _, letter := range args[0] {
		switch letter {
		case 'r':
			mode |= unix.R_OK
		case 'w':
			mode |= unix.W_OK
		case 'x':
			mode |= unix.X_OK
		default:
			return fmt.Errorf("access %q: not of the letters rwx", args[0])
		}
	}
	return unix.Access(args[1], mode)
}

func isTTY(args []string) error {
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		fmt.Println("no")
		return nil
	}
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	fmt.Printf("yes %dx%d\n", size.Col, size.Row)
	return nil
}

func dial(args []string) error {
	network := "tcp"
	if strings.HasPrefix(args[0], "@") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, args[0], 3*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("connected")
	return conn.Close()
}
