package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestReadELF(t *testing.T) {
	spec := elfSpec{
		interp: testLoader, needed: []string{"libfoo.so.1", "./libbar.so"}, soname: "libme.so.3",
		rpath: "/a:/b", runpath: "$ORIGIN/../lib", flags1: df1NoDefaultLibs | df1Pie,
	}
	e, err := ReadELF(bytes.NewReader(spec.bytes()))
	must(t, err)
	want := &ELF{
		Bits: 64, BigEndian: nativeBigEndian(), Machine: nativeELF(), Type: elfTypeDyn, Interp: testLoader,
		Needed: spec.needed, SoName: spec.soname, RPath: spec.rpath, RunPath: spec.runpath,
		NoDefaultLibs: true, PIE: true, Entry: 0x40,
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("ReadELF = %+v\nwant %+v", e, want)
	}
}

func TestReadELFOfCompiledFiles(t *testing.T) {
	dir := t.TempDir()
	const empty = "int main(void) { return 0; }"
	for _, c := range []struct {
		name   string
		args   []string
		source string
		check  func(e *ELF) bool
	}{
		{"static", []string{"-static"}, empty, func(e *ELF) bool {
			return e.Interp == "" && e.Type == elfTypeExec && len(e.Needed) == 0 && e.noProgram() == ""
		}},
		{"static-pie", []string{"-static-pie"}, empty, func(e *ELF) bool {
			return e.Interp == "" && e.Type == elfTypeDyn && e.PIE && e.noProgram() == ""
		}},
		{"pie", []string{"-pie", "-fPIE"}, empty, func(e *ELF) bool {
			return strings.HasPrefix(e.Interp, "/lib") && e.PIE && reflect.DeepEqual(e.Needed, []string{"libc.so.6"})
		}},
		{"no-pie", []string{"-no-pie"}, empty, func(e *ELF) bool {
			return e.Interp != "" && e.Type == elfTypeExec && !e.PIE
		}},
		{"rpath", []string{"-Wl,--disable-new-dtags,-rpath,$ORIGIN/x"}, empty, func(e *ELF) bool {
			return e.RPath == "$ORIGIN/x" && e.RunPath == ""
		}},
		{"runpath", []string{"-Wl,--enable-new-dtags,-rpath,$ORIGIN/x", "-Wl,-z,nodefaultlib"}, empty, func(e *ELF) bool {
			return e.RunPath == "$ORIGIN/x" && e.RPath == "" && e.NoDefaultLibs
		}},
		{"library", []string{"-shared", "-fPIC", "-Wl,-soname,libq.so.7"}, "int q;", func(e *ELF) bool {
			return e.SoName == "libq.so.7" && e.noProgram() != ""
		}},
		{"object", []string{"-c"}, empty, func(e *ELF) bool { return e.Type == elfTypeRel && e.noProgram() != "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := os.Open(cc(t, filepath.Join(dir, c.name), c.source, c.args...))
			must(t, err)
			defer func() { _ = f.Close() }()
			e, err := ReadELF(f)
			must(t, err)
			if !c.check(e) || !e.native() {
				t.Errorf("ReadELF = %+v", e)
			}
		})
	}
}

// The names of a C++ program lie anywhere in a string table of megabytes; they
// are read without the table.
func TestReadELFLargeStringTable(t *testing.T) {
	spec := elfSpec{needed: []string{"libfirst.so", strings.Repeat("x", 2*strTabAtOnce), "lib" + strings.Repeat("y", 600) + ".so"}}
	if _, err := ReadELF(bytes.NewReader(spec.bytes())); !errors.Is(err, ErrBadELF) {
		t.Errorf("a name of %d bytes: %v", 2*strTabAtOnce, err)
	}
	spec.needed[1] = "libc.so.6"
	spec.soname = strings.Repeat("s", maxELFString)
	for range 10 {
		spec.needed = append(spec.needed, strings.Repeat("z", maxELFString))
	}
	e, err := ReadELF(bytes.NewReader(spec.bytes()))
	must(t, err)
	if !reflect.DeepEqual(e.Needed, spec.needed) || e.SoName != spec.soname {
		t.Errorf("%d names, soname of %d bytes", len(e.Needed), len(e.SoName))
	}
}

func TestForeignELF(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("cannot: the texts are those of x86-64")
	}
	for _, c := range []struct {
		spec elfSpec
		want string
	}{
		{elfSpec{}, ""},
		{elfSpec{machine: 183}, "for aarch64, this machine is x86_64"},
		{elfSpec{machine: 243}, "for riscv64, this machine is x86_64"},
		{elfSpec{machine: 22, data: elfBig}, "for s390x, this machine is x86_64"},
		{elfSpec{machine: 62, data: elfBig}, "for x86_64 with the other byte order"},
		{elfSpec{machine: 3, class: elfClass32}, "a 32-bit program (i386); sbx runs 64-bit programs (x86_64) only"},
		{elfSpec{machine: 62, class: elfClass32}, "a 32-bit program (x32); sbx runs 64-bit programs (x86_64) only"},
		{elfSpec{machine: 40, class: elfClass32}, "a 32-bit program for arm, this machine is x86_64"},
		{elfSpec{machine: 8, class: elfClass32, data: elfBig}, "a 32-bit program for mips, this machine is x86_64"},
		{elfSpec{machine: 0x7777}, "for machine 30583, this machine is x86_64"},
	} {
		e, err := ReadELF(bytes.NewReader(c.spec.bytes()))
		must(t, err)
		if got := e.foreign(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.spec, got, c.want)
		}
	}
}

func TestDamagedELF(t *testing.T) {
	whole := elfSpec{interp: testLoader, needed: []string{"libc.so.6"}}.bytes()
	patch := func(at int, value uint64, size int) []byte {
		b := bytes.Clone(whole)
		var v [8]byte
		binary.NativeEndian.PutUint64(v[:], value)
		copy(b[at:at+size], v[:size])
		return b
	}
	const dynamicHeader, interpHeader = elfHeaderSize64 + elfPhdrSize64, elfHeaderSize64 + 2*elfPhdrSize64
	for what, data := range map[string][]byte{
		"cut in the identification":           whole[:10],
		"cut in the header":                   whole[:40],
		"cut in the program headers":          whole[:100],
		"cut in the dynamic section":          whole[:len(whole)-24],
		"class 3":                             patch(4, 3, 1),
		"byte order 0":                        patch(5, 0, 1),
		"program headers of odd size":         patch(54, 32, 2),
		"65535 program headers":               patch(56, 0xffff, 2),
		"program headers behind the end":      patch(32, 1<<40, 8),
		"program headers that wrap round":     patch(32, ^uint64(0)-10, 8),
		"a loader name of one byte":           patch(interpHeader+32, 1, 8),
		"a loader name of a megabyte":         patch(interpHeader+32, 1<<20, 8),
		"a loader name without an end":        patch(interpHeader+32, uint64(len(testLoader)), 8),
		"a loader name behind the end":        patch(interpHeader+8, 1<<63, 8),
		"no segment holds the strings":        patch(elfHeaderSize64, 0, 4),
		"a huge dynamic section, not mapped":  patch(dynamicHeader+16, 1<<50, 8), // its size is 16 bytes later
		"the string table at another address": patch(len(whole)-32-8, 1<<50, 8),
	} {
		if what == "a huge dynamic section, not mapped" {
			binary.NativeEndian.PutUint64(data[dynamicHeader+32:], 1<<40)
		}
		if e, err := ReadELF(bytes.NewReader(data)); !errors.Is(err, ErrBadELF) {
			t.Errorf("%s: %+v, %v", what, e, err)
		}
	}
	for _, data := range [][]byte{nil, []byte("\x7fEL"), []byte("#!/bin/sh\n")} {
		if _, err := ReadELF(bytes.NewReader(data)); !errors.Is(err, ErrNotELF) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// A header may not make the reader work for long or take much memory.
func FuzzReadELF(f *testing.F) {
	f.Add(elfSpec{interp: testLoader, needed: []string{"libc.so.6"}, runpath: "$ORIGIN"}.bytes())
	f.Add(elfSpec{class: elfClass32}.bytes())
	f.Add(elfSpec{data: elfBig, machine: 22, needed: []string{"libc.so.6"}}.bytes())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		e, err := ReadELF(bytes.NewReader(data))
		if err == nil && e.Bits == 64 && len(e.Needed) > maxELFTexts {
			t.Errorf("%d names", len(e.Needed))
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
	})
}
