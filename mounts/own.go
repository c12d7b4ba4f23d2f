package mounts

// Own refuses, with EPERM, what is not the sandbox's own: a file or directory,
// by its descriptor, that is in a mount of the host's. A path inside may lead
// there through a link that the tree has.
func (b *Builder) Own(fd int) error {
	id, _, err := mountID(fd)
	if err != nil {
		return err
	}
	return b.isOurs(found{fd: fd, id: id})
}
