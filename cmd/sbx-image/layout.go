package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/pull"
)

// layout is an OCI image layout that is being written into an empty directory; see the image specification. Blobs are links
// to the pool's files, so that nothing is lost when what comes after fails.
type layout struct {
	dir, blobs *os.File
}

func newLayout(dir *os.File) (*layout, error) {
	l := &layout{dir: dir}
	for _, name := range []string{"blobs", "blobs/sha256"} {
		if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil {
			return nil, fmt.Errorf("make the layout: %w", err)
		}
	}
	fd, err := unix.Openat(int(dir.Fd()), "blobs/sha256", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the layout: %w", err)
	}
	l.blobs = os.NewFile(uintptr(fd), "blobs/sha256")
	return l, nil
}

// add takes over a blob from the pool.
func (l *layout) add(pool *os.File, d v1.Descriptor) error {
	err := unix.Linkat(int(pool.Fd()), blobName(d), int(l.blobs.Fd()), d.Digest.Hex, 0)
	if err != nil && !errors.Is(err, unix.EEXIST) { // an image may have one layer twice
		return fmt.Errorf("put a blob into the layout: %w", err)
	}
	return nil
}

// write adds a manifest.
func (l *layout) write(s stored) error {
	return writeNew(l.blobs, s.digest[len("sha256:"):], s.data)
}

// finish adds the manifest, and the index that it was chosen from, and names the image: only then it is a layout.
func (l *layout) finish(top, chosen stored, q pull.Request) error {
	if err := l.write(chosen); err != nil {
		return err
	}
	if top.digest != chosen.digest {
		if err := l.write(top); err != nil {
			return err
		}
	}
	digest, err := v1.NewHash(chosen.digest)
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	p := q.Platform
	index, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: chosen.kind, Digest: digest, Size: int64(len(chosen.data)),
			Platform:    &v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant},
			Annotations: map[string]string{"org.opencontainers.image.ref.name": q.Source.String()},
		}},
	})
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	if err := writeNew(l.dir, "index.json", index); err != nil {
		return err
	}
	return writeNew(l.dir, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func (l *layout) close() { l.blobs.Close() }

func writeNew(dir *os.File, name string, data []byte) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	return nil
}
