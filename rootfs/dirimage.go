package rootfs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenDirImage opens the tree that the user gave with --image DIR. It must be a
// directory with something like a root in it: usr or bin, or the path program
// (absolute, inside; "" for none), else the error says what is lacking. dir is
// followed as written; everything below is only reached through the Root.
func OpenDirImage(dir, program string) (*Root, error) {
	root, err := OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	want := []string{"/usr", "/bin"}
	if program != "" {
		want = append(want, program)
	}
	for _, name := range want {
		if _, err := root.Stat(name); err == nil {
			if err := readable(root, dir); err != nil {
				root.Close()
				return nil, err
			}
			return root, nil
		}
	}
	root.Close()
	return nil, fmt.Errorf("use %s as an image: %w", shown(dir),
		explain(unix.ENOENT, "it has neither usr nor bin in it, so it is no root file system"))
}

// readable checks that the directory can be listed, which a mount of it as the
// lower layer and a copy both need.
func readable(root *Root, dir string) error {
	fd, err := root.OpenFD("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("use %s as an image: %w", shown(dir), err)
	}
	return unix.Close(fd)
}
