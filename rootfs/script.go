package rootfs

import (
	"bytes"
	"errors"
	"path"
	"strings"
)

// shebangBytes is how much of a file the kernel looks at for a "#!" line
// (BINPRM_BUF_SIZE, 256 since Linux 5.1, 128 before).
const shebangBytes = 256

// Shebang is the "#!" line of a script as the kernel reads it; see execve(2).
type Shebang struct {
	// Interp is the path of the interpreter as it stands there; it may be
	// relative to the working directory.
	Interp string
	// Arg is the rest of the line, which the interpreter gets as one single
	// argument, blanks and all; empty when there is none.
	Arg string
}

// The reasons of ParseShebang.
var (
	errNotScript      = errors.New("no #! line")
	errNoInterpreter  = errors.New("the #! line names no interpreter")
	errShebangTooLong = errors.New("the interpreter path in the #! line is cut off: the kernel reads 255 bytes")
)

// ParseShebang reads the "#!" line at the start of head, the first 256 bytes of
// a file or the whole of a shorter one, by the kernel's rules: blanks and tabs
// around the path are skipped, a NUL ends it, an argument that does not fit is
// cut short, a path that does not fit is an error.
func ParseShebang(head []byte) (*Shebang, error) {
	if !bytes.HasPrefix(head, []byte("#!")) {
		return nil, errNotScript
	}
	buf := make([]byte, shebangBytes) // the kernel's buffer, filled up with NUL
	copy(buf, head)
	line := buf[2:]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = bytes.TrimRight(line[:end], " \t")
	} else {
		start := bytes.TrimLeft(line, " \t")
		if len(start) == 0 || !bytes.ContainsAny(start, " \t\x00") {
			return nil, errShebangTooLong
		}
		line = bytes.TrimRight(line[:len(line)-1], " \t") // the last byte gives way to a NUL
	}
	line = bytes.TrimLeft(line, " \t")
	s := &Shebang{}
	end := bytes.IndexAny(line, " \t\x00")
	if end < 0 {
		s.Interp = string(line)
	} else {
		s.Interp = string(line[:end])
		if line[end] != 0 {
			arg, _, _ := bytes.Cut(bytes.TrimLeft(line[end:], " \t"), []byte{0})
			s.Arg = string(arg)
		}
	}
	if s.Interp == "" {
		return nil, errNoInterpreter
	}
	return s, nil
}

// hasCarriageReturn is true when the line ends as Windows ends lines and cannot
// work for that: the name of the interpreter, or of the command that env is to
// find, ends in it.
func (s *Shebang) hasCarriageReturn() bool {
	if s.Arg == "" {
		return strings.HasSuffix(s.Interp, "\r")
	}
	return s.isEnv() && strings.HasSuffix(s.Arg, "\r")
}

func (s *Shebang) isEnv() bool { return path.Base(s.Interp) == "env" }

// EnvCommand returns the command that a line such as "#!/usr/bin/env python3"
// or "#!/usr/bin/env -S python3 -u" makes env(1) look up in PATH. ok is false
// when the interpreter is not env, or when the command cannot be told by
// reading: it depends on a variable, or PATH is changed.
func (s *Shebang) EnvCommand() (name string, ok bool) {
	if !s.isEnv() || s.Arg == "" {
		return "", false
	}
	text, split := envSplitOption(s.Arg)
	if !split {
		// Without -S the whole rest of the line is one word.
		if s.Arg[0] == '-' || strings.Contains(s.Arg, "=") {
			return "", false
		}
		return s.Arg, true
	}
	words, ok := splitEnvString(text)
	if !ok {
		return "", false
	}
	return envOperand(words)
}

// envSplitOption returns the text after -S, which may follow other flags in one
// word ("-iS", "-vS"), or after --split-string.
func envSplitOption(arg string) (text string, ok bool) {
	if rest, ok := strings.CutPrefix(arg, "--split-string"); ok {
		return strings.TrimPrefix(rest, "="), true
	}
	if !strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "--") {
		return "", false
	}
	flags := strings.TrimLeft(arg[1:], "iv0")
	return strings.CutPrefix(flags, "S")
}

// envOperand skips options and assignments in the words of env and returns the
// command.
func envOperand(words []string) (name string, ok bool) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--":
		case word == "-u", word == "-C", word == "--unset", word == "--chdir":
			if len(words) == 0 {
				return "", false
			}
			words = words[1:]
		case strings.HasPrefix(word, "PATH="):
			return "", false
		case strings.HasPrefix(word, "-"), strings.Contains(word, "="):
		default:
			return word, true
		}
	}
	return "", false
}

// splitEnvString splits the text of env -S into words as its manual describes:
// blanks separate, quotes and backslashes protect, "#" at the start of a word
// begins a comment. ok is false for an unfinished quote and for ${VARIABLE}.
func splitEnvString(text string) (words []string, ok bool) {
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '$' && quote != '\'':
			return nil, false
		case c == '\\' && i+1 < len(text) && (quote != '\'' || text[i+1] == '\'' || text[i+1] == '\\'):
			i++
			if text[i] == 'c' && quote == 0 {
				i = len(text)
				break
			}
			if text[i] == '_' && quote == 0 {
				words, inWord = endWord(words, &word, inWord), false
				break
			}
			word.WriteByte(envEscape(text[i]))
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && strings.IndexByte(" \t\n\v\f\r", c) >= 0:
			words, inWord = endWord(words, &word, inWord), false
		case quote == 0 && c == '#' && !inWord:
			i = len(text)
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	return endWord(words, &word, inWord), quote == 0
}

func endWord(words []string, word *strings.Builder, inWord bool) []string {
	if inWord {
		words = append(words, word.String())
	}
	word.Reset()
	return words
}

// envEscape is the character that a backslash and c stand for.
func envEscape(c byte) byte {
	switch c {
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	case '_':
		return ' '
	}
	return c
}
