package archive

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// blockSize is that of tar; a header is one block.
const blockSize = 512

// isTar tells whether a stream begins with the header of an entry, whose
// checksum every kind of tar has had since the first, or with the end of an
// empty archive.
func isTar(head []byte) bool {
	if len(head) < blockSize {
		return false
	}
	head = head[:blockSize]
	if bytes.Count(head, []byte{0}) == blockSize {
		return true
	}
	field := bytes.Trim(head[148:156], " \x00")
	want, err := strconv.ParseInt(string(field), 8, 64)
	if err != nil {
		return false
	}
	var unsigned, signed int64
	for i, b := range head {
		if i >= 148 && i < 156 {
			b = ' ' // the checksum counts itself as spaces
		}
		unsigned += int64(b)
		signed += int64(int8(b))
	}
	return want == unsigned || want == signed
}

// strangers are things that people may take for an image, by the bytes at an
// offset, with what to do about each.
var strangers = []struct {
	offset int
	magic  string
	text   string
}{
	{0, "PK\x03\x04", "it is a zip archive; unpack it, and import the directory"},
	{0, "7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it, and import the directory"},
	{0, "Rar!", "it is a RAR archive; unpack it, and import the directory"},
	{0, "hsqs", "it is a squashfs file system; unsquashfs unpacks it, then import the directory"},
	{0, "sqsh", "it is a squashfs file system; unsquashfs unpacks it, then import the directory"},
	{0, "QFI\xfb", "it is a qcow2 disk image, not a root file system"},
	{0, "conectix", "it is a disk image, not a root file system"},
	{0, "KDMV", "it is a disk image, not a root file system"},
	{0, "\x7fELF", "it is a program, not an image; sbx run runs programs"},
	{0, "!<arch>\n", "it is a Debian package or a library; dpkg-deb -x unpacks a package into a directory"},
	{0, "\xed\xab\xee\xdb", "it is an RPM package, not an image"},
	{0, "070701", "it is a cpio archive; cpio -i unpacks it into a directory"},
	{0, "070702", "it is a cpio archive; cpio -i unpacks it into a directory"},
	{0, "\xc7\x71", "it is a cpio archive; cpio -i unpacks it into a directory"},
	{0, "\x04\x22\x4d\x18", "it is compressed with lz4; decompress it first (lz4 -d)"},
	{0, "\x02\x21\x4c\x18", "it is compressed with lz4; decompress it first (lz4 -d)"},
	{0, "LZIP", "it is compressed with lzip; decompress it first (lzip -d)"},
	{0, "\x89LZO", "it is compressed with lzop; decompress it first (lzop -d)"},
	{0, "\x1f\x9d", "it is compressed with compress; decompress it first (gzip -d)"},
	{0, "\x5d\x00\x00", "it is compressed with lzma; decompress it first (xz -d)"},
	{0, "\x1f\x8b", "its gzip data has an unknown form"},
	{32, "SIF_MAGIC", "it is a Singularity image; singularity build --sandbox makes a directory of it"},
	{0, "Salted__", "it is encrypted; decrypt it first"},
	{0, "-----BEGIN PGP", "it is encrypted or signed; decrypt it first (gpg -d)"},
	{0, "age-encryption", "it is encrypted; decrypt it first (age -d)"},
	{0, "<!DOCTYPE", "it is a web page, not an image: the download went wrong"},
	{0, "<!doctype", "it is a web page, not an image: the download went wrong"},
	{0, "<html", "it is a web page, not an image: the download went wrong"},
	{0, "{", "it is a JSON document, not an image; give the directory or the archive that it belongs to"},
	{0, "FROM ", "it is a Dockerfile; podman build or buildah makes an image of it"},
	{1080, "\x53\xef", "it is an ext file system; mount it, or use debugfs -R 'rdump / DIR', and import the directory"},
	{0, "XFSB", "it is an XFS file system; mount it, and import the directory"},
	{510, "\x55\xaa", "it is a disk with partitions, not a root file system"},
}

// sniffed is how much of the beginning stranger looks at.
const sniffed = 2 << 10

// stranger says what something is that is no tar.
func stranger(head []byte) error {
	switch {
	case len(head) == 0:
		return fault(unix.EINVAL, "it is empty")
	case bytes.HasPrefix(head, []byte("PK\x03\x04")) && len(head) > 6 && head[6]&1 != 0:
		return fault(unix.EINVAL, "it is an encrypted zip archive; unpack it, and import the directory")
	}
	for _, s := range strangers {
		if len(head) >= s.offset && bytes.HasPrefix(head[s.offset:], []byte(s.magic)) {
			return fault(unix.EINVAL, "%s", s.text)
		}
	}
	if len(head) < blockSize {
		return fault(unix.EINVAL, "it is no tar archive: it has %d bytes only", len(head))
	}
	return fault(unix.EINVAL, "it is neither a tar archive, plain or compressed with gzip, xz, zstd or bzip2, nor anything else that is known here")
}
