// Benchcopy does one copy or removal as sbx does it, and nothing else, for
// scripts/bench-copy; and it makes the trees that are copied.
//
//	benchcopy make usr|large|tiny DIR     prints the numbers of files and bytes
//	benchcopy full|reflink SRC DST        rootfs.CopyTree into the new directory DST
//	benchcopy overlay SRC DST             mounts an overlay over SRC on DST/merged
//	benchcopy remove DIR                  rootfs.RemoveTree
//
// A copy keeps the owners as they are, so it has to run where they have ids. An
// overlay takes a user namespace with a mount namespace of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchcopy:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "make":
		return makeTree(args[1], args[2])
	case len(args) == 3 && args[0] == "full":
		return copyTree(args[1], args[2], rootfs.CopyFull)
	case len(args) == 3 && args[0] == "reflink":
		return copyTree(args[1], args[2], rootfs.CopyReflink)
	case len(args) == 3 && args[0] == "overlay":
		return overlay(args[1], args[2])
	case len(args) == 2 && args[0] == "remove":
		return remove(args[1])
	}
	return fmt.Errorf("want make KIND DIR, full|reflink|overlay SRC DST, or remove DIR")
}

func copyTree(from, to string, method rootfs.Method) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	dst, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	_, err = rootfs.CopyTree(context.Background(), src, dst, rootfs.CopyOptions{Method: method})
	return err
}

// overlay mounts with the options of a sandbox's root (package mounts), and
// unmounts again, since a later removal must find nothing mounted.
func overlay(lower, dir string) error {
	for _, sub := range []string{"", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr,volatile", lower, dir, dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay on %s: %w", merged, err)
	}
	return unix.Unmount(merged, 0)
}

func remove(dir string) error {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return rootfs.RemoveTree(parent, filepath.Base(dir))
}
