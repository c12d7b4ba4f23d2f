package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs/unpack"
)

// refuse imports the source and holds that it fails with these words, and with
// an errno that can cross the border of a process.
func refuse(t *testing.T, name string, src Source, words string, change ...func(*Options)) {
	t.Helper()
	_, dir, err := unpacked(t, src, change...)
	if err == nil {
		t.Errorf("%s: imported", name)
		return
	}
	var errno unix.Errno
	if !strings.Contains(err.Error(), words) || !errors.As(err, &errno) && !errors.Is(err, tar.ErrHeader) {
		t.Errorf("%s: %v (errno %d), want %q", name, err, errno, words)
	}
	if strings.ContainsAny(err.Error(), "\x1b\x00\n") {
		t.Errorf("%s: the message has control bytes: %q", name, err)
	}
	if content(t, dir, "canary") == "taken" {
		t.Errorf("%s: a file of the host is in the image", name)
	}
}

// Documents of a layout (SECURITY D13): each of these is refused, with a reason.
func TestHostileLayouts(t *testing.T) {
	const evil = "sha256:../../../../../../../../../../../../../../../../../etc/passwd"
	long := strings.Repeat("a", 64)
	for _, test := range []struct {
		name, words string
		spoil       func(d disk, m descriptor) []descriptor
	}{
		{"a digest that is a path", "not sha256:", func(_ disk, m descriptor) []descriptor { m.Digest = evil; return []descriptor{m} }},
		{"a digest of upper case", "not sha256:", func(_ disk, m descriptor) []descriptor {
			m.Digest = "sha256:" + strings.Repeat("A", 64)
			return []descriptor{m}
		}},
		{"an unknown kind of digest", "not sha256:", func(_ disk, m descriptor) []descriptor { m.Digest = "md5:" + long[:32]; return []descriptor{m} }},
		{"a digest with escapes", "not sha256:", func(_ disk, m descriptor) []descriptor { m.Digest = "\x1b[31m"; return []descriptor{m} }},
		{"a blob that is not there", "is not in it", func(_ disk, m descriptor) []descriptor { m.Digest = "sha256:" + long; return []descriptor{m} }},
		{"a wrong size", "should have 7", func(_ disk, m descriptor) []descriptor { m.Size = 7; return []descriptor{m} }},
		{"a changed manifest", "damaged or changed", func(d disk, m descriptor) []descriptor {
			data := d[digest(m.Digest).path()]
			data[len(data)-2] = ' '
			return []descriptor{m}
		}},
		{"a changed layer", "damaged", func(d disk, m descriptor) []descriptor {
			for name, data := range d {
				if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
					data[9] ^= 0xff // the operating system, which gzip itself does not look at
					d[name] = data
				}
			}
			return []descriptor{m}
		}},
		{"a layer that was cut off", "but should have", func(d disk, m descriptor) []descriptor {
			for name, data := range d {
				if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
					d[name] = data[:len(data)-4]
				}
			}
			return []descriptor{m}
		}},
		{"an index announced as a manifest", "but the content of an image index", func(d disk, m descriptor) []descriptor {
			return []descriptor{d.blob(ociManifest, must(json.Marshal(object{"manifests": []descriptor{m}})))}
		}},
		{"a manifest announced as an index", "but the content of an image manifest", func(_ disk, m descriptor) []descriptor { m.MediaType = ociIndex; return []descriptor{m} }},
		{"a document of both kinds", "two ways", func(d disk, m descriptor) []descriptor {
			return []descriptor{d.blob(ociIndex, must(json.Marshal(object{"manifests": []descriptor{m}, "layers": []descriptor{}})))}
		}},
		{"a document of both kinds, in other letters", "two ways", func(d disk, _ descriptor) []descriptor {
			return []descriptor{d.blob(ociIndex, []byte(`{"MANIFESTS": [], "LayerS": []}`))}
		}},
		{"a document that says it is another", "says of itself", func(d disk, m descriptor) []descriptor {
			return []descriptor{d.blob(ociIndex, must(json.Marshal(object{"mediaType": dockerIndex, "manifests": []descriptor{m}})))}
		}},
		{"a manifest of nothing", "neither manifests nor layers", func(d disk, _ descriptor) []descriptor { return []descriptor{d.blob(ociManifest, []byte(`{}`))} }},
		{"a manifest of schema 1", "schema 1", func(d disk, _ descriptor) []descriptor {
			return []descriptor{d.blob(ociManifest, []byte(`{"schemaVersion": 1, "fsLayers": []}`))}
		}},
		{"a manifest that is no JSON", "is no JSON", func(d disk, _ descriptor) []descriptor {
			return []descriptor{d.blob(ociManifest, []byte("\x1b]0;x\x07"))}
		}},
		{"a manifest of 5 MiB", "may have 4194304", func(d disk, _ descriptor) []descriptor {
			return []descriptor{d.blob(ociManifest, bytes.Repeat([]byte(" "), 5<<20))}
		}},
		{"an artifact", "artifact of the type", func(d disk, _ descriptor) []descriptor {
			chart := d.json(t, "application/vnd.cncf.helm.config.v1+json", object{})
			return []descriptor{d.json(t, ociManifest, object{"config": chart, "layers": []descriptor{}})}
		}},
		{"no image at all", "lists no image", func(disk, descriptor) []descriptor { return []descriptor{} }},
		{"a layer of less than no bytes", "has the size -1", func(d disk, _ descriptor) []descriptor {
			l := d.blob("application/vnd.oci.image.layer.v1.tar+gzip", gz(t, hello(t)))
			l.Size = -1
			return []descriptor{d.imageOf(t, host(t), []descriptor{l}, hello(t))}
		}},
		{"provenance only", "lists no image", func(_ disk, m descriptor) []descriptor {
			m.Annotations = map[string]string{attestation: "attestation-manifest"}
			return []descriptor{m}
		}},
	} {
		d := disk{}
		m := d.image(t, host(t), hello(t))
		for name, data := range d {
			d[name] = bytes.Clone(data)
		}
		d.index(t, test.spoil(d, m)...)
		refuse(t, test.name, onDir(t, d.dir(t)), test.words)
		refuse(t, test.name+", in a tar", onPipe(t, d.tar(t, false)), test.words)
	}
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// Layers of a layout: what the manifest says of each must be so.
func TestHostileLayers(t *testing.T) {
	content := hello(t)
	other := tarOf(t, file{name: "etc/other", content: "x"})
	gzType := "application/vnd.oci.image.layer.v1.tar+gzip"
	for _, test := range []struct {
		name, words string
		image       func(d disk) descriptor
	}{
		{"not compressed, but said to be", "is uncompressed", func(d disk) descriptor {
			return d.imageOf(t, host(t), []descriptor{d.blob(gzType, content)}, content)
		}},
		{"compressed in another way", "is zstd", func(d disk) descriptor {
			return d.imageOf(t, host(t), []descriptor{d.blob(gzType, zst(t, content))}, content)
		}},
		{"another content", "but the configuration says", func(d disk) descriptor {
			return d.imageOf(t, host(t), []descriptor{d.blob(gzType, gz(t, other))}, content)
		}},
		{"encrypted", "layer 1 is encrypted", func(d disk) descriptor {
			return d.imageOf(t, host(t), []descriptor{d.blob(gzType+"+encrypted", content)}, content)
		}},
		{"of an unknown type", "not one of a layer", func(d disk) descriptor {
			return d.imageOf(t, host(t), []descriptor{d.blob("application/x-shockwave-flash", content)}, content)
		}},
		{"no layers", "has no layers", func(d disk) descriptor { return d.imageOf(t, host(t), []descriptor{}) }},
		{"more layers than digests", "tells 1 layers, and the manifest 2", func(d disk) descriptor {
			l := d.blob(gzType, gz(t, content))
			return d.imageOf(t, host(t), []descriptor{l, l}, content)
		}},
		{"129 layers", "has 129 layers", func(d disk) descriptor {
			l := d.blob(gzType, gz(t, content))
			list, tars := make([]descriptor, 129), make([][]byte, 129)
			for i := range list {
				list[i], tars[i] = l, content
			}
			return d.imageOf(t, host(t), list, tars...)
		}},
		{"cut off in the compressed data", "ends too early", func(d disk) descriptor {
			data := gz(t, bytes.Repeat(content, 20))
			return d.imageOf(t, host(t), []descriptor{d.blob(gzType, data[:len(data)/2])}, content)
		}},
		{"not a tar", "tar", func(d disk) descriptor {
			noTar := bytes.Repeat([]byte("x"), 2048)
			return d.imageOf(t, host(t), []descriptor{d.blob(gzType, gz(t, noTar))}, noTar)
		}},
	} {
		d := disk{}
		d.index(t, test.image(d))
		refuse(t, test.name, onDir(t, d.dir(t)), test.words)
	}
}

// Indexes that lead nowhere, or to each other, end soon.
func TestIndexesOfIndexes(t *testing.T) {
	d := disk{}
	inner := d.image(t, host(t), hello(t))
	for range maxDepth - 1 {
		inner = d.json(t, ociIndex, object{"manifests": []descriptor{inner}})
	}
	d.index(t, inner)
	if _, _, err := unpacked(t, onDir(t, d.dir(t))); err != nil {
		t.Errorf("%d indexes below each other: %v", maxDepth, err)
	}
	d.index(t, d.json(t, ociIndex, object{"manifests": []descriptor{inner}}))
	refuse(t, "one more", onDir(t, d.dir(t)), "below each other")

	// Four levels with 200 entries each, all of them the same, would be read
	// 1.6 thousand million times.
	d = disk{}
	wide := d.image(t, host(t), hello(t))
	for range maxDepth - 1 {
		list := make([]descriptor, 200)
		for i := range list {
			list[i] = wide
		}
		wide = d.json(t, ociIndex, object{"manifests": list})
	}
	d.index(t, wide)
	begin := time.Now()
	if _, _, err := unpacked(t, onDir(t, d.dir(t))); err != nil {
		t.Errorf("an image that is listed many times: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	// An index can list itself only where nobody looks at digests.
	d = disk{}
	self := d.blob(ociIndex, []byte(`{"manifests": []}`))
	data := must(json.Marshal(object{"manifests": []descriptor{self}}))
	d[digest(self.Digest).path()] = data
	self.Size = int64(len(data))
	d.index(t, self)
	refuse(t, "an index that lists itself", onDir(t, d.dir(t)), "damaged or changed")
}

// Files of a directory are reached inside it only, and nothing but regular files
// is opened (SECURITY E1).
func TestHostileDirectory(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(outside, []byte("taken"), 0o644); err != nil {
		t.Fatal(err)
	}
	layout := disk{}
	layout.index(t, layout.image(t, host(t), hello(t)))
	for name := range layout {
		for what, plant := range map[string]func(path string) error{
			"a link to a file outside": func(path string) error { return os.Symlink(outside, path) },
			"a link to itself":         func(path string) error { return os.Symlink(path, path) },
			"a fifo":                   func(path string) error { return unix.Mkfifo(path, 0o644) },
			"a directory":              func(path string) error { return os.Mkdir(path, 0o755) },
		} {
			dir := layout.dir(t)
			path := filepath.Join(dir, name)
			if err := errors.Join(os.Remove(path), plant(path)); err != nil {
				t.Fatal(err)
			}
			_, tree, err := unpacked(t, onDir(t, dir))
			if err == nil && (name == "index.json" || name == "oci-layout") {
				// Without the first it is a tree like another, and was copied
				// as one; without the second it is a layout all the same.
				continue
			}
			if err == nil {
				t.Errorf("%s as %s: imported", name, what)
			} else if strings.Contains(err.Error(), "taken") || content(t, tree, "canary") == "taken" {
				t.Errorf("%s as %s: %v", name, what, err)
			}
		}
	}
}

// manifest.json of a docker-archive has no digest, so all of it is suspect.
func TestHostileDockerArchives(t *testing.T) {
	layer := hello(t)
	config := must(json.Marshal(object{"os": "linux", "architecture": host(t).Architecture, "rootfs": object{"diff_ids": []string{sum(layer)}}}))
	good := dockerArchive(t, [][]byte{layer}, config, "a:b")
	with := func(change func(*saved)) []file {
		one := saved{Config: good[1].name, Layers: []string{good[0].name}}
		change(&one)
		return []file{good[0], good[1], {name: "manifest.json", content: string(must(json.Marshal([]saved{one})))}}
	}
	for _, test := range []struct {
		name, words string
		files       []file
	}{
		{"a configuration outside", "is not in it", with(func(s *saved) { s.Config = "../../../../etc/passwd" })},
		{"a layer outside", "is not in it", with(func(s *saved) { s.Layers = []string{"/etc/passwd"} })},
		{"a layer that links to itself", "is not in it", append(with(func(s *saved) { s.Layers = []string{"loop"} }), file{name: "loop", kind: tar.TypeSymlink, link: "loop"})},
		{"a configuration of another digest", "damaged or changed", []file{good[0], {name: good[1].name, content: string(config) + " "}, good[2]}},
		{"another layer", "one of them was changed", []file{{name: good[0].name, content: string(tarOf(t, file{name: "x"}))}, good[1], good[2]}},
		{"no manifest", "neither index.json nor manifest.json", good[:2]},
		{"two manifests", "twice", append(with(func(*saved) {}), good[2])},
		{"no image", "lists no image", []file{good[0], {name: "manifest.json", content: "[]"}}},
		{"no list", "where something else belongs", []file{good[0], {name: "manifest.json", content: "{}"}}},
		{"before docker 1.10", "before 1.10", []file{good[0], {name: "repositories", content: "{}"}}},
		{"a NUL in a variable", "has a NUL", func() []file {
			c := must(json.Marshal(object{"config": object{"Env": []string{"A=\x00"}}, "rootfs": object{"diff_ids": []string{sum(layer)}}}))
			return dockerArchive(t, [][]byte{layer}, c)
		}()},
	} {
		refuse(t, test.name, onFile(t, tarOf(t, test.files...)), test.words)
		refuse(t, test.name+", on a pipe", onPipe(t, gz(t, tarOf(t, test.files...))), test.words)
	}
	whole := tarOf(t, good...)
	for cut := 512; cut < len(whole)-1024-512; cut += 700 { // the last block is padding
		_, _, err := unpacked(t, onFile(t, whole[:cut]))
		if err == nil {
			t.Errorf("cut off after %d bytes: imported", cut)
		}
	}
}

// Bombs (SECURITY D11): each meets a limit before it meets the disk or the memory.
func TestBombs(t *testing.T) {
	var zeros bytes.Buffer
	w, err := gzip.NewWriterLevel(&zeros, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	big := tar.NewWriter(w)
	const size = 200 << 20
	if err := big.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: size}); err != nil {
		t.Fatal(err)
	}
	for range size >> 20 {
		if _, err := big.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(big.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	refuse(t, "200 MiB of zeros", onPipe(t, zeros.Bytes()), "--limit ratio=NUMBER")
	refuse(t, "more bytes than allowed", onFile(t, zeros.Bytes()), "--limit bytes=NUMBER", func(o *Options) { o.Limits.Bytes = 1 << 20 })
	refuse(t, "more entries than allowed", onFile(t, hello(t)), "--limit entries=NUMBER", func(o *Options) { o.Limits.Entries = 1 })
	if _, _, err := unpacked(t, onFile(t, zeros.Bytes()), func(o *Options) { o.Limits.Ratio = 5000 }); err != nil {
		t.Errorf("with a higher ratio: %v", err)
	}

	// Of all that is compressed only so much is read, whatever comes of it.
	few := func(o *Options) { o.Limits.Compressed, o.Limits.Ratio = 1000, 5000 }
	refuse(t, "more compressed bytes than allowed", onPipe(t, zeros.Bytes()), "--limit compressed=NUMBER", few)
	refuse(t, "members of gzip with nothing in them", onPipe(t, append(bytes.Repeat(gz(t, nil), 1000), gz(t, hello(t))...)), "--limit compressed=NUMBER", few)
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	if _, _, err := unpacked(t, onFile(t, tarOf(t, file{name: "noise", content: string(noise)})), few); err != nil {
		t.Errorf("what is not compressed: %v", err)
	}
	// Also what is passed over, and what is only stored on the way.
	pass := tarOf(t, file{name: "blobs/", kind: tar.TypeDir}, file{name: "blobs/x", kind: tar.TypeReg, content: string(make([]byte, 200<<20))})
	refuse(t, "zeros that are stored on the way", onPipe(t, gz(t, pass)), "--limit ratio=NUMBER")
	refuse(t, "a disk that would be full", onPipe(t, pass[:1024]), "--limit min-free=NUMBER", func(o *Options) { o.Limits.MinFree = 1 << 60 })
	pass[512+156] = 'Y' // a kind of entry that nobody knows
	rehash(pass[512:1024])
	refuse(t, "zeros that are passed over", onPipe(t, gz(t, pass)), "--limit ratio=NUMBER")
	refuse(t, "the same, not compressed", onPipe(t, pass), "--limit bytes=NUMBER", func(o *Options) { o.Limits.Bytes = 1 << 20 })

	// A layout with a layer that inflates, and one that is spooled.
	d := disk{}
	noLayer := d.blob("application/vnd.oci.image.layer.v1.tar+gzip", zeros.Bytes())
	d.index(t, d.imageOf(t, host(t), []descriptor{noLayer}, hello(t)))
	refuse(t, "in a layer", onDir(t, d.dir(t)), "--limit ratio=NUMBER")
	refuse(t, "in the archive that is stored on the way", onPipe(t, gz(t, d.tar(t, false))), "--limit bytes=NUMBER",
		func(o *Options) { o.Limits.Bytes = 100 << 10 })

	// zstd and xz that ask for much memory. The first is a frame whose header
	// asks for a window of 2 GiB: descriptor 0, window exponent 31-10.
	frame := []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")
	refuse(t, "a window of 2 GiB", onFile(t, append(frame, make([]byte, 600)...)), "window")
	large := zst(t, bytes.Repeat(hello(t), 10), zstd.WithWindowSize(maxWindow))
	if _, _, err := unpacked(t, onFile(t, large)); err != nil {
		t.Errorf("a window of 128 MiB: %v", err)
	}
	// Several threads, which xz has of its own accord since 5.6, make another header.
	stream := through(t, hello(t), "xz", "-c", "-0", "-T1")
	stream[16] = 40 // the dictionary is of 4 GiB now; the header's CRC is not looked at before
	refuse(t, "a dictionary of 4 GiB", onFile(t, stream), "dictionary")
	refuse(t, "a filter for programs", onFile(t, through(t, hello(t), "xz", "-c", "--x86", "--lzma2")), "filter for programs")
}

// rehash writes the checksum of a header that was changed.
func rehash(block []byte) {
	copy(block[148:156], "        ")
	total := 0
	for _, b := range block {
		total += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", total))
}

// An entry for the root that is a file of much data is not kept in memory.
func TestRootThatIsAFile(t *testing.T) {
	data := tarOf(t, file{name: "./", kind: tar.TypeDir}, file{name: "x"})
	data[156] = tar.TypeReg
	copy(data[124:136], "77777777777\x00")
	rehash(data[:512])
	refuse(t, "the root as a file of 8 GiB", onPipe(t, data), "no directory")
}

// Behind gzip data nothing goes unseen.
func TestBehindGzip(t *testing.T) {
	data := gz(t, hello(t))
	for name, tail := range map[string][]byte{
		"something": []byte("x"), "something behind zeros": []byte("\x00\x00x"), "a member behind zeros": append([]byte{0}, data...),
	} {
		refuse(t, name, onPipe(t, append(bytes.Clone(data), tail...)), "its gzip data is followed by something else")
	}
	refuse(t, "a member that is cut off", onPipe(t, append(bytes.Clone(data), data[:len(data)/2]...)), "ends too early")
	refuse(t, "the beginning of one", onPipe(t, append(bytes.Clone(data), 0x1f)), "ends too early")
}

// What a source tells of names and settings is bounded, and what of it cannot be
// used keeps the image from nothing.
func TestProposals(t *testing.T) {
	layer := hello(t)
	names := []string{strings.Repeat("a", 5000)}
	for i := range maxImages + 10 {
		names = append(names, fmt.Sprintf("example.com/t:%d", i))
	}
	config := must(json.Marshal(object{"rootfs": object{"diff_ids": []string{sum(layer)}}}))
	result, _, err := unpacked(t, onFile(t, tarOf(t, dockerArchive(t, [][]byte{layer}, config, names...)...)))
	if err != nil || len(result.Refs) != maxImages || result.Refs[0] != "example.com/t:0" {
		t.Errorf("%v, %d names", err, len(result.Refs))
	}
	d := disk{}
	m := d.image(t, host(t), layer)
	m.Annotations = map[string]string{refName: strings.Repeat("t", 5000)}
	d.index(t, m)
	if result, _, err := unpacked(t, onDir(t, d.dir(t))); err != nil || result.Tag != "" {
		t.Errorf("%v, a tag of %d bytes", err, len(result.Tag))
	}
	many := must(json.Marshal(object{
		"config": object{"Env": slices.Repeat([]string{"A=b"}, maxSettings+1)}, "rootfs": object{"diff_ids": []string{sum(layer)}},
	}))
	refuse(t, "many variables", onFile(t, tarOf(t, dockerArchive(t, [][]byte{layer}, many)...)), "may have 65536")
}

// An archive of layers has few entries.
func TestManyEntriesInAnArchiveOfLayers(t *testing.T) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := range maxIndexed + 1 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("blobs/%d", i), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	refuse(t, "very many", onFile(t, out.Bytes()), "entries")
}

// What is no image is called by its name.
func TestStrangers(t *testing.T) {
	block := func(head string) []byte { return append([]byte(head), make([]byte, 4096)...) }
	at := func(offset int, magic string) []byte {
		data := bytes.Repeat([]byte{1}, 4096)
		copy(data[offset:], magic)
		return data
	}
	for words, data := range map[string][]byte{
		"it is empty":                   {},
		"it has 5 bytes only":           []byte("hello"),
		"it is a zip archive":           block("PK\x03\x04\x14\x00\x00\x00"),
		"an encrypted zip archive":      block("PK\x03\x04\x14\x00\x01\x00"),
		"a squashfs":                    block("hsqs"),
		"an ext file system":            at(1080, "\x53\xef"),
		"a disk with partitions":        at(510, "\x55\xaa"),
		"a Singularity image":           at(32, "SIF_MAGIC"),
		"it is a program":               block("\x7fELF"),
		"a web page":                    block("<!DOCTYPE html>"),
		"a JSON document":               block(`{"schemaVersion": 2}`),
		"compressed with lz4":           block("\x04\x22\x4d\x18"),
		"compressed with lzma":          block("\x5d\x00\x00\x80\x00"),
		"neither a tar archive":         at(0, "\x01\x02"),
		"compressed twice":              gz(t, gz(t, hello(t))),
		"decompressed with gzip: it is": gz(t, block("\x7fELF")),
		"gzip data ends too early":      gz(t, hello(t))[:12],
		"there is nothing in it":        make([]byte, 1024),
		"gzip data is damaged":          block("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00"),
		"zstd data is damaged":          append([]byte("\x28\xb5\x2f\xfd"), bytes.Repeat([]byte{0xff}, 4096)...),
		"bzip2 data is damaged":         block("BZh9\x31\x41\x59\x26\x53\x59"),
		"xz data":                       block("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46"),
	} {
		refuse(t, words, onFile(t, data), words)
	}
	refuse(t, "an empty directory", onDir(t, t.TempDir()), "nothing in it")
	bundle := disk{"config.json": []byte("{}"), "rootfs/bin/sh": nil}
	refuse(t, "a bundle", onDir(t, bundle.dir(t)), "import it/rootfs")
	refuse(t, "a wrong platform", onFile(t, hello(t)), "OS/ARCH", func(o *Options) { o.Platform = "amd64" })
	refuse(t, "no name", onFile(t, hello(t)), "no name for the image", func(o *Options) { o.NeedRef = true })
}

// Which image of several is meant.
func TestChoice(t *testing.T) {
	want := host(t)
	other := Platform{OS: "linux", Architecture: "s390x"}
	d := disk{}
	mark := func(text string) []byte { return tarOf(t, file{name: "mark", content: text}) }
	plat := func(m descriptor, p Platform) descriptor { m.Platform = &p; return m }
	named := func(m descriptor, ref string) descriptor {
		m.Annotations = map[string]string{refName: ref}
		return m
	}
	mine, theirs := d.image(t, want, mark("mine")), d.image(t, other, mark("theirs"))
	armV6, armV7 := d.image(t, Platform{"linux", "arm", "v6"}, mark("v6")), d.image(t, Platform{"linux", "arm", "v7"}, mark("v7"))
	windows := d.image(t, Platform{OS: "windows", Architecture: want.Architecture}, mark("windows"))
	both := []descriptor{plat(theirs, other), plat(mine, want), plat(armV6, Platform{"linux", "arm", "v6"}), plat(armV7, Platform{"linux", "arm", "v7"})}
	set := func(change func(*Options)) func(*Options) { return change }
	platform := func(p string) func(*Options) { return set(func(o *Options) { o.Platform = p }) }
	ref := func(r string) func(*Options) { return set(func(o *Options) { o.Ref = r }) }
	for _, test := range []struct {
		name  string
		list  []descriptor
		opt   func(*Options)
		mark  string
		words string // of a refusal
	}{
		{"this host's", both, platform(""), "mine", ""},
		{"another one", both, platform("linux/s390x"), "theirs", ""},
		{"the better variant", both, platform("linux/arm"), "v7", ""},
		{"that variant", both, platform("linux/arm/v6"), "v6", ""},
		{"one that is not there", both, platform("linux/riscv64"), "", "it has linux/" + min(want.Architecture, "arm")},
		{"the only one, for another machine", []descriptor{theirs}, platform(""), "", "--platform linux/s390x imports it"},
		{"the same, asked for", []descriptor{theirs}, platform("linux/s390x"), "theirs", ""},
		{"two of one index", []descriptor{d.json(t, ociIndex, object{"manifests": []descriptor{plat(theirs, other), plat(mine, want), plat(d.image(t, want, mark("second")), want)}})}, platform(""), "mine", ""},
		{"two of the layout", []descriptor{plat(mine, want), plat(d.image(t, want, mark("second")), want)}, platform(""), "", "several images"},
		{"two of two indexes", []descriptor{
			d.json(t, ociIndex, object{"manifests": []descriptor{plat(mine, want)}}),
			d.json(t, ociIndex, object{"manifests": []descriptor{plat(d.image(t, want, mark("second")), want)}}),
		}, platform(""), "", "several images"},
		{"not for Linux", []descriptor{windows}, platform(""), "", "only those for linux"},
		{"without platforms in the index", []descriptor{theirs, mine}, platform(""), "mine", ""},
		{"by name", []descriptor{named(mine, "one"), named(theirs, "two")}, ref("one"), "mine", ""},
		{"by the end of a name", []descriptor{named(mine, "example.com/a/one:1"), named(theirs, "two")}, ref("one:1"), "mine", ""},
		{"by digest", []descriptor{named(mine, "one"), named(theirs, "two")}, ref(mine.Digest), "mine", ""},
		{"no name", []descriptor{named(mine, "one"), named(theirs, "two")}, ref(""), "", "--ref takes one of them: one, two"},
		{"a name that is not there", []descriptor{named(mine, "one"), named(theirs, "two")}, ref("x"), "", "it has one, two"},
		{"a name with escapes", []descriptor{named(mine, "\x1b[2J"), named(theirs, "two")}, ref(""), "", `"\x1b[2J"`},
	} {
		source := maps.Clone(d)
		source.index(t, test.list...)
		if test.words != "" {
			refuse(t, test.name, onDir(t, source.dir(t)), test.words, test.opt)
			continue
		}
		_, dir, err := unpacked(t, onDir(t, source.dir(t)), test.opt)
		if err != nil || content(t, dir, "mark") != test.mark {
			t.Errorf("%s: %v, it is %q", test.name, err, content(t, dir, "mark"))
		}
	}
}

// The limits have the names that package unpack knows them by.
func TestLimitErrorsAreTheirs(t *testing.T) {
	var limit *unpack.LimitError
	_, _, err := unpacked(t, onFile(t, hello(t)), func(o *Options) { o.Limits.Entries = 1 })
	if !errors.As(err, &limit) || limit.Limit != unpack.LimitEntries {
		t.Errorf("%v", err)
	}
}
