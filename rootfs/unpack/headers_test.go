package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// D11: sizes in headers are claims. Nothing is allocated for them.
func TestHeadersThatLie(t *testing.T) {
	w := newWorld(t)
	hdr := file("huge", "").Header
	hdr.Size = 15 << 30
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	must(t, out.WriteHeader(&hdr))
	_, err := out.Write([]byte("a few bytes"))
	must(t, err)
	err = w.apply(b.Bytes())
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if st := w.stat("huge"); st.Blocks > 1024 {
		t.Errorf("%d blocks are allocated", st.Blocks)
	}
	plain := archive(t, file("x", "").when(at.Truncate(time.Second)))
	for _, size := range []string{"-1", "9223372036854775807", "99999999999999999999"} {
		w := newWorld(t)
		if err := w.apply(append(pseudoEntry('x', record("size", size)), plain...)); err == nil {
			t.Errorf("a size of %s is taken", size)
		}
		must(t, w.apply(append(pseudoEntry('x', record("comment", size)), plain...)))
		w.has("x f")
	}
}

// record is one line of an extended header.
func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest) + 1
	for len(fmt.Sprint(n)+rest) != n {
		n++
	}
	return fmt.Sprint(n) + rest
}

// D11: an extended header is read to a bound.
func TestLongHeaders(t *testing.T) {
	for name, data := range map[string][]byte{
		"PAX":  pseudoEntry('x', strings.Repeat("x", 1<<20+1)),
		"name": pseudoEntry('L', strings.Repeat("x", 1<<20+1)),
		"link": pseudoEntry('K', strings.Repeat("x", 1<<20+1)),
	} {
		w := newWorld(t)
		if err := w.apply(append(data, archive(t, file("f", ""))...)); !errors.Is(err, tar.ErrFieldTooLong) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// One of just under the bound is fine; its contents have bounds of their own.
	w := newWorld(t)
	w.layers([]item{file("f", "data").pax("VENDOR.long", strings.Repeat("x", 1<<20-200))})
	w.has("f f data")
	w.refuses(append(pseudoEntry('L', strings.Repeat("x/", 1<<18)+"\x00"), archive(t, file("f", ""))...), unix.ENAMETOOLONG)
}

// pseudoEntry is a header that describes the next entry.
func pseudoEntry(kind byte, body string) []byte {
	block := make([]byte, 512)
	copy(block, "pseudo")
	copy(block[100:], "0000644\x000000000\x000000000\x00")
	copy(block[124:], fmt.Sprintf("%011o\x0000000000000\x00", len(body)))
	block[156] = kind
	copy(block[257:], "ustar\x0000")
	if kind != 'x' && kind != 'g' {
		copy(block[257:], "ustar  \x00")
	}
	checksum(block, 0)
	return append(append(block, body...), make([]byte, -len(body)&511)...)
}
