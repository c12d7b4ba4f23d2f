package launch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// Commit makes an image of the sandbox, under a name. change, which may be nil,
// alters the configuration that it has from the image below. When it fails, or
// ctx ends, nothing stays of it.
func (k *Kept) Commit(ctx context.Context, store *rootfs.Store, name rootfs.Reference, change func(*rootfs.ImageConfig) error, progress func(rootfs.Progress)) (ImportResult, error) {
	config, err := k.config(change)
	if err != nil {
		return ImportResult{}, err
	}
	owner := k.Sandbox.State.Owner
	staging, err := store.NewStaging(owner)
	if err != nil {
		return ImportResult{}, err
	}
	imported, err := k.commitInto(ctx, staging, owner, progress)
	if err == nil {
		imported.Info.Config = config
		imported.Info.Digest, err = configured(imported.Info)
	}
	if err == nil {
		err = checkImported(imported)
	}
	if err != nil {
		return ImportResult{}, errors.Join(withSpaceAdvice(err, store.Path()), discard(k.ID, store, staging))
	}
	return commit(k.ID, store, staging, imported, "sandbox "+k.Sandbox.State.ID, []rootfs.Reference{name})
}

// config is the configuration of the image below with the changes.
func (k *Kept) config(change func(*rootfs.ImageConfig) error) (*rootfs.ImageConfig, error) {
	var config *rootfs.ImageConfig
	if k.Image != nil {
		if len(k.Image.Binds) > 0 {
			return nil, fmt.Errorf("its image is %s, whose programs are the host's own and not in the sandbox's copy; use a sandbox of another image", k.Image.Name)
		}
		config = k.Image.Config
	}
	if change == nil {
		return config, nil
	}
	changed := rootfs.ImageConfig{}
	if config != nil {
		changed = *config
	}
	return &changed, change(&changed)
}

func (k *Kept) commitInto(ctx context.Context, staging *rootfs.Staging, owner rootfs.Ownership, progress func(rootfs.Progress)) (*plan.Imported, error) {
	job := plan.CommitJob{Tree: k.Tree, Staging: staging.Tree.Name(), Owner: owner}
	var imported *plan.Imported
	err := workerRun{ctx: ctx, id: k.ID, job: plan.Job{Commit: &job}, handle: func(rep plan.Report) error {
		if rep.Progress != nil && progress != nil {
			progress(*rep.Progress)
		}
		imported = rep.Imported
		return nil
	}}.do()
	if err == nil && imported == nil {
		err = errors.New("the helper process that works in the store said nothing (please report this)")
	}
	return imported, err
}

// configured is the digest of an image: of its files, and of its configuration
// where it has one.
func configured(info rootfs.ImageInfo) (string, error) {
	if info.Config == nil {
		return info.Digest, nil
	}
	text, err := json.Marshal(info.Config)
	if err != nil {
		return "", fmt.Errorf("encode the configuration: %w", err)
	}
	sum := sha256.Sum256(append(text, info.Digest...))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
