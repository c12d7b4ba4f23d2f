package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// The trees. Each is the same at every call.
const (
	usrFiles  = 30_000
	largeSize = 1 << 30
	tinyFiles = 200_000
)

func makeTree(kind, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m := maker{random: rand.New(rand.NewPCG(5, 7))}
	m.noise = make([]byte, 1<<20)
	for i := range m.noise {
		m.noise[i] = byte(m.random.Uint32())
	}
	var err error
	switch kind {
	case "usr":
		err = m.usr(dir)
	case "large":
		err = m.large(dir)
	case "tiny":
		err = m.tiny(dir)
	default:
		err = fmt.Errorf("%q is no kind of tree", kind)
	}
	if err == nil {
		fmt.Println(m.files, m.bytes)
	}
	return err
}

type maker struct {
	random       *rand.Rand
	noise        []byte
	files, bytes int64
}

// usr is like the /usr of a small system: half of the files below 3 kB, a few of
// megabytes, a tenth of them links.
func (m *maker) usr(root string) error {
	dirs := []string{root}
	for i := range usrFiles {
		if i%12 == 0 {
			dir := filepath.Join(dirs[m.random.IntN(len(dirs))], fmt.Sprintf("dir%d", i))
			if err := m.dir(dir); err != nil {
				return err
			}
			dirs = append(dirs, dir)
		}
		name := filepath.Join(dirs[max(0, len(dirs)-1-m.random.IntN(40))], fmt.Sprintf("lib-%d.so", i))
		if m.random.IntN(10) == 0 {
			m.files++
			if err := os.Symlink(fmt.Sprintf("lib-%d.so.1", i), name); err != nil {
				return err
			}
			continue
		}
		size := min(int(3000*math.Exp(1.8*m.random.NormFloat64())), 8<<20)
		if err := m.file(name, size); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) large(root string) error {
	m.files, m.bytes = 1, largeSize
	f, err := os.Create(filepath.Join(root, "large"))
	if err != nil {
		return err
	}
	for range largeSize / len(m.noise) {
		if _, err := f.Write(m.noise); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}

func (m *maker) tiny(root string) error {
	for i := range tinyFiles {
		dir := filepath.Join(root, fmt.Sprintf("d%d", i/1000), fmt.Sprintf("d%d", i/100))
		if i%100 == 0 {
			if err := m.dir(dir); err != nil {
				return err
			}
		}
		if err := m.file(filepath.Join(dir, fmt.Sprintf("%d", i)), i%200); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) dir(name string) error {
	m.files++
	return os.MkdirAll(name, 0o755)
}

func (m *maker) file(name string, size int) error {
	m.files++
	m.bytes += int64(size)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	for size > 0 && err == nil {
		n := min(size, len(m.noise))
		_, err = f.Write(m.noise[:n])
		size -= n
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
