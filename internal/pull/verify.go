package pull

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxManifest bounds a manifest or an index in bytes, as registries do.
const MaxManifest = 4 << 20

// descriptors is what is read of the layout's index.json and of an image index: both list manifests.
type descriptors struct {
	Manifests []struct {
		Digest string `json:"digest"`
	} `json:"manifests"`
}

// verify holds the helper to what was asked for. The layout's index must name the manifest that the result has, and only
// that. With a digest in the source that manifest is the one with this digest, or one in the index that has it. An image that
// is said to be known must be one of those that were named, and its manifest must say so too.
func verify(q Request, result Result, layout *os.File) error {
	asked := q.Source
	var index descriptors
	data, err := readSmall(layout, "index.json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &index); err != nil || len(index.Manifests) != 1 || index.Manifests[0].Digest != result.Manifest {
		return fmt.Errorf("%s says that it fetched %s, and the layout it wrote has something else", Name, result.Manifest)
	}
	if result.Known != "" {
		var manifest struct {
			Config struct {
				Digest string `json:"digest"`
			} `json:"config"`
		}
		if err := readBlob(layout, result.Manifest, &manifest); err != nil {
			return err
		}
		if manifest.Config.Digest != result.Known || !slices.Contains(q.Have, result.Known) {
			return &Failure{Kind: Digest, Text: fmt.Sprintf("%s says that %s is known, which it is not", Name, result.Manifest)}
		}
	}
	if asked.Digest == "" || asked.Digest == result.Manifest {
		return nil
	}
	var several descriptors
	if err := readBlob(layout, asked.Digest, &several); err != nil {
		return err
	}
	if !slices.ContainsFunc(several.Manifests, func(m struct {
		Digest string `json:"digest"`
	},
	) bool {
		return m.Digest == result.Manifest
	}) {
		return &Failure{Kind: Digest, Text: fmt.Sprintf("%s fetched %s, which does not belong to %s", Name, result.Manifest, asked.Digest)}
	}
	return nil
}

// readBlob reads a blob of the layout, which must have its digest.
func readBlob(layout *os.File, digest string, into any) error {
	data, err := readSmall(layout, "blobs/sha256/"+strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if "sha256:"+hex.EncodeToString(sum[:]) != digest {
		return &Failure{Kind: Digest, Text: fmt.Sprintf("%s fetched something else in place of %s", Name, digest)}
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s of the download: %w", digest, err)
	}
	return nil
}

// readSmall reads a file of the layout. Nothing in it may lead out of it.
func readSmall(layout *os.File, name string) ([]byte, error) {
	fd, err := unix.Openat2(int(layout.Fd()), name, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of the download: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s of the download: %w", name, err)
	}
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("read %s of the download: %w", name, unix.EFBIG)
	}
	return data, nil
}
