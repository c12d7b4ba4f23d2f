package mounts

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// Several runs may need one placeholder, also of users and stores that do not
// know of each other. What they share is the placeholder itself. Each of them
// holds it by a shared lock, flock(2), and removes it only under an exclusive
// one. So it stands as long as somebody needs it, and the last one takes it
// away, whoever made it. A payload can open it as well, and lock it, but never
// alone while the supervisor of any sandbox holds it.
//
// Those who did not make it know it by a mark, which is a time of change that no
// file has by chance. Anybody who can write to a file can mark it. But only what was marked
// as soon as it was born is removed: neither the time of birth nor that of the
// last change of the inode can be set. So nobody can have the user's own
// directory removed by marking it.

// markSeconds is the time of change of a placeholder: 2001-02-03 04:05:06 UTC.
const markSeconds = 981173106

// markedWithin is how old a placeholder is, in nanoseconds, when it is marked
// and gets its name.
const markedWithin = 10e9

// mark makes a new file known to other users and to other stores. They have to
// read it, whatever the umask is: otherwise they could not hold it.
func mark(fd int, directory bool) error {
	mode := uint32(0o644)
	if directory {
		mode = 0o755
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	var random [4]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return fmt.Errorf("random number: %w", err)
	}
	// Where there is no time of birth, it tells this one from the next one.
	part := (int64(random[0]) | int64(random[1])<<8 | int64(random[2])<<16 | int64(random[3])<<24) % 1e9
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: markSeconds, Nsec: part}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), times, 0); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// wantedTimes are what bornMarked looks at.
const wantedTimes = unix.STATX_BTIME | unix.STATX_MTIME | unix.STATX_CTIME

// bornMarked reports whether what bears the mark was made with it.
func bornMarked(x *unix.Statx_t) bool {
	age := nanoseconds(x.Ctime) - nanoseconds(x.Btime)
	return x.Mask&wantedTimes == wantedTimes && x.Mtime.Sec == markSeconds && age >= 0 && age < markedWithin
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// identify returns what tells a file from all others, of its time and later.
// Where the file system knows no time of birth, that of the last change of the
// content stands for it: a placeholder's does not change.
func identify(fd int) (dev, ino uint64, born int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, 0, fmt.Errorf("stat: %w", err)
	}
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME|unix.STATX_MTIME, &x); err != nil {
		return 0, 0, 0, fmt.Errorf("statx: %w", err)
	}
	when := x.Mtime
	if x.Mask&unix.STATX_BTIME != 0 {
		when = x.Btime
	}
	return st.Dev, st.Ino, nanoseconds(when), nil
}

// lock takes a lock without waiting. Where files cannot be locked, as on some
// file systems of the network, nobody is held up.
func lock(fd, how int) error {
	for {
		switch err := unix.Flock(fd, how|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrHeld
		case unix.EBADF, unix.ENOLCK, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL:
			return nil
		default:
			return err
		}
	}
}

// open opens and locks what has the name if it is what Create made.
func (p Placeholder) open(dir int, name string, how int) (*os.File, error) {
	if err := p.check(dir, name); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	hold := os.NewFile(uintptr(fd), p.Path)
	// It may have been removed, and made anew, before it was locked.
	if err = lock(fd, how); err == nil {
		err = p.check(dir, name)
	}
	if err == nil {
		err = sameFile(fd, dir, name)
	}
	if err != nil {
		hold.Close()
		return nil, err
	}
	return hold, nil
}

// sameFile compares an open file with what has the name now.
func sameFile(fd, dir int, name string) error {
	var open, named unix.Stat_t
	if err := unix.Fstat(fd, &open); err != nil {
		return err
	}
	if err := unix.Fstatat(dir, name, &named, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if open.Dev != named.Dev || open.Ino != named.Ino {
		return ErrChanged
	}
	return nil
}

// Hold holds the placeholder if it is there as Create made it: until the file is
// closed, nobody removes it. ErrHeld says that somebody is just removing it.
func (p Placeholder) Hold() (*os.File, error) {
	if p.Ino == 0 {
		return nil, ErrChanged
	}
	dir, err := openDir(path.Dir(p.Path))
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	return p.open(dir, path.Base(p.Path), unix.LOCK_SH)
}

// Adopt holds what has the name and bears the mark: the placeholder of another
// user, or of another store of the caller's. note is told its identity, and from
// then on it is the caller's to remove as well, when nobody else holds it.
// What is marked and perhaps the user's own is held, and never removed.
//
// ENOENT says that it is gone by now, ErrHeld that somebody is just removing it,
// ErrChanged that it bears no mark.
func (p Placeholder) Adopt(note func(Placeholder) error) (Placeholder, *os.File, error) {
	adopted, hold, err := p.adopt()
	if err != nil {
		return p, nil, fmt.Errorf("hold placeholder %s: %w", quote(p.Path), err)
	}
	if err := note(adopted); err != nil {
		hold.Close()
		return p, nil, err
	}
	return adopted, hold, nil
}

func (p Placeholder) adopt() (_ Placeholder, hold *os.File, err error) {
	p.Adopted, p.Leave = true, false
	if p.Temp, err = tempName(); err != nil {
		return p, nil, err
	}
	dir, err := openDir(path.Dir(p.Path))
	if err != nil {
		return p, nil, err
	}
	defer unix.Close(dir)
	name := path.Base(p.Path)
	fd, err := openName(dir, name)
	if err != nil {
		return p, nil, err
	}
	hold = os.NewFile(uintptr(fd), p.Path)
	if err = p.marked(fd); err == nil {
		err = lock(fd, unix.LOCK_SH)
	}
	if err == nil {
		err = sameFile(fd, dir, name)
	}
	if err != nil {
		hold.Close()
		return p, nil, err
	}
	p.Dev, p.Ino, p.Born, err = identify(fd)
	var x unix.Statx_t
	p.Leave = unix.Statx(fd, "", unix.AT_EMPTY_PATH, wantedTimes, &x) != nil || !bornMarked(&x) || p.check(dir, name) != nil
	return p, hold, err
}

// marked tells whether an open file bears the mark and is of the right kind.
func (p Placeholder) marked(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mtim.Sec != markSeconds || !p.isKind(st.Mode) {
		return ErrChanged
	}
	return nil
}
