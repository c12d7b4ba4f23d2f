package rootfs

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// identify finds out what kind of program r is, as the kernel does: by its
// first bytes.
func (p *Program) identify(r io.ReaderAt) error {
	if p.Size == 0 {
		return &ProgramError{Path: p.Path, Problem: EmptyProgram, Detail: "the file is empty", Err: unix.ENOEXEC}
	}
	head := make([]byte, shebangBytes)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return &ProgramError{Path: p.Path, Problem: Unreachable, Err: err}
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return p.identifyScript(head)
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return p.identifyELF(r)
	default:
		problem, detail := otherFormat(head)
		return &ProgramError{Path: p.Path, Problem: problem, Detail: detail, Err: unix.ENOEXEC}
	}
}

func (p *Program) identifyScript(head []byte) error {
	script, err := ParseShebang(head)
	if err != nil {
		return &ProgramError{Path: p.Path, Problem: BadInterpreterLine, Detail: err.Error(), Err: unix.ENOEXEC}
	}
	if script.hasCarriageReturn() {
		return &ProgramError{
			Path: p.Path, Problem: BadInterpreterLine, Err: unix.ENOENT,
			Detail: "interpreter path ends in a carriage return: the file has Windows line ends; `sed -i 's/\\r$//'` takes them off",
		}
	}
	p.Kind, p.Script = KindScript, script
	return nil
}

func (p *Program) identifyELF(r io.ReaderAt) error {
	e, err := ReadELF(r)
	switch {
	case errors.Is(err, ErrBadELF):
		return damagedProgram(p.Path, err)
	case err != nil:
		return &ProgramError{Path: p.Path, Problem: Unreachable, Err: err}
	case e.foreign() != "":
		return foreignProgram(p.Path, e)
	}
	if system := e.foreignSystem(); system != "" {
		return &ProgramError{
			Path: p.Path, Problem: ForeignProgram, Detail: "for " + system + ", this system is Linux", Err: unix.ENOEXEC,
		}
	}
	if what := e.noProgram(); what != "" {
		return &ProgramError{Path: p.Path, Problem: NotAProgram, Detail: what, Err: unix.ENOEXEC}
	}
	p.Kind, p.ELF = KindStatic, e
	if e.Interp != "" {
		p.Kind = KindDynamic
	}
	return nil
}

// noProgram says what a native ELF file is that the kernel does not run, or
// that it would run into its first instruction and no further.
func (e *ELF) noProgram() string {
	switch e.Type {
	case elfTypeExec:
		return ""
	case elfTypeDyn:
		// A library without PT_INTERP is mapped by the kernel like a static-pie
		// program, jumps to its entry, and crashes. The dynamic loader itself
		// is such a file and does run: it needs nothing.
		if e.Interp == "" && !e.PIE && (len(e.Needed) > 0 || e.Entry == 0) {
			return "a shared library, not a program"
		}
		return ""
	case elfTypeRel:
		return "an object file that is not linked yet"
	case elfTypeCore:
		return "a core dump"
	default:
		return "an ELF file of unknown type"
	}
}

// otherFormat names what the first bytes of a file show when they are neither
// ELF nor "#!".
func otherFormat(head []byte) (Problem, string) {
	for _, f := range []struct{ magic, what string }{
		{"MZ", "a Windows or DOS program"},
		{"\xcf\xfa\xed\xfe", "a macOS program"},
		{"\xce\xfa\xed\xfe", "a macOS program"},
		{"\xca\xfe\xba\xbe", "a Java class or macOS program"},
		{"\x00asm", "a WebAssembly module"},
		{"!<arch>\n", "a static library or Debian package"},
		{"PK\x03\x04", "a zip or jar archive"},
		{"\x1f\x8b", "gzip data; unpack it first"},
		{"\xfd7zXZ\x00", "xz data; unpack it first"},
		{"\x28\xb5\x2f\xfd", "zstd data; unpack it first"},
		{"BZh", "bzip2 data; unpack it first"},
		{"\xed\xab\xee\xdb", "an RPM package"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return NotAProgram, f.what
		}
	}
	text := bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	switch {
	case len(text) < len(head) && bytes.HasPrefix(text, []byte("#!")):
		return BadInterpreterLine, "a byte order mark stands before the #!; save the file as UTF-8 without one"
	case !isText(head):
		return NotAProgram, "neither an ELF program nor a script"
	case looksLikeHTML(text):
		return NotAProgram, "an HTML page; perhaps a download that went wrong"
	default:
		return NoInterpreterLine, "a text without interpreter; add a #! line such as #!/bin/sh"
	}
}

func looksLikeHTML(text []byte) bool {
	start := bytes.ToLower(bytes.TrimSpace(text))
	return bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html"))
}

// isText is true for UTF-8 (it may be cut at the end) or single-byte text
// without control characters other than blanks and line ends.
func isText(head []byte) bool {
	for _, c := range head {
		if c < ' ' && !bytes.ContainsRune([]byte("\t\n\v\f\r\b\x1b"), rune(c)) || c == 0x7f {
			return false
		}
	}
	return len(head) < utf8.UTFMax || utf8.Valid(head[:len(head)-lastRuneCut(head)]) || highBytes(head)*4 < len(head)
}

// lastRuneCut is the number of bytes at the end that may be the beginning of a
// longer character.
func lastRuneCut(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

func highBytes(b []byte) (n int) {
	for _, c := range b {
		if c >= 0x80 {
			n++
		}
	}
	return n
}
