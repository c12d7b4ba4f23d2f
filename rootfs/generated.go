package rootfs

// Passwd gives an /etc/passwd with root, daemon, nobody, and the payload as
// "sbx" with home /home/sbx when its id is not one of these. shell "" is
// /bin/sh. See passwd(5).
func Passwd(uid, gid uint32, shell string) []byte { return nil }

// Group gives the /etc/group that goes with Passwd. See group(5).
func Group(uid, gid uint32) []byte { return nil }

// Hosts gives an /etc/hosts that knows localhost and the sandbox's own name.
func Hosts(hostname string) []byte { return nil }
