package initproc

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/pack"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// commit makes an image of what a program has left. The copy goes through a tar
// stream: that has a digest, which is the same for the same files, and what
// comes out has been held to the rules and limits for an image of a stranger.
func commit(job *plan.CommitJob, progress func(rootfs.Progress)) (*plan.Imported, error) {
	staging, err := openTree(job.Staging)
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	defer staging.Close()
	root, _, err := keptView(job.Tree, true)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	tree, err := openInside(root, "/")
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's root: %w", err)
	}
	defer tree.Close()
	info, err := repack(tree, staging, job.Owner, progress)
	if err != nil {
		return nil, err
	}
	return &plan.Imported{Kind: "sandbox", Info: info}, nil
}

// repack copies a tree as a tar stream and says what it was.
func repack(tree, to *os.File, owner rootfs.Ownership, progress func(rootfs.Progress)) (rootfs.ImageInfo, error) {
	uids, gids := mapped(owner.UIDMap), mapped(owner.GIDMap)
	in, out := io.Pipe()
	sum, count := sha256.New(), &counter{}
	var packed pack.Stats
	go func() {
		var err error
		packed, err = pack.Tree(context.Background(), tree, out, pack.Options{
			UIDOffset: uint32(owner.UID), GIDOffset: uint32(owner.GID), UIDCount: uids, GIDCount: gids, Single: owner.Single,
		})
		out.CloseWithError(err)
	}()
	var st unpack.State
	layer := bufio.NewReaderSize(io.TeeReader(in, io.MultiWriter(sum, count)), 1<<20)
	err := unpack.Layer(context.Background(), to, layer, unpack.Options{
		UIDOffset: uint32(owner.UID), GIDOffset: uint32(owner.GID), UIDCount: uids, GIDCount: gids, Single: owner.Single,
		Progress: func(entries, bytes int64) {
			progress(rootfs.Progress{Stage: rootfs.StageUnpack, Files: entries, Bytes: bytes})
		},
	}, &st)
	_ = in.CloseWithError(err) // ends the other side, if it still writes
	if err != nil {
		return rootfs.ImageInfo{}, limited("copy it", err)
	}
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	info := rootfs.ImageInfo{
		Digest: digest, Files: st.Entries, Bytes: st.Bytes,
		Layers: []rootfs.LayerInfo{{Digest: digest, DiffID: digest, Size: count.n, MediaType: "application/vnd.oci.image.layer.v1.tar"}},
	}
	for _, n := range append(packed.Notes, st.Notes...) {
		if n.Kind != unpack.NoteSingle {
			info.Notes = append(info.Notes, n.String())
		}
	}
	return info, nil
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
