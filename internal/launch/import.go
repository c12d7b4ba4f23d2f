package launch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// ImportRequest is an image to bring into the store.
type ImportRequest struct {
	// Source is the open archive, pipe, or directory (of a root tree or an OCI
	// layout). It stays the caller's.
	Source *os.File
	// Origin is what the store says the image was made from; "" is the name
	// in the options.
	Origin string
	// Names are what the image will be called, as [rootfs.ParseReference]
	// takes them. Without any the source's own are used, else Fallback.
	Names    []string
	Fallback string
	plan.ImportOptions
}

// ImportResult is what became of an [ImportRequest].
type ImportResult struct {
	Kind  string   // what the source was
	Names []string // what the image is called now
	Info  rootfs.ImageInfo
	// Known is set when the store had the same image already, and only the
	// names are new.
	Known bool
}

// ImportImage reads an image that may be hostile, in a child that can reach
// nothing but the directory it unpacks into, and puts it into the store. When
// it fails, or ctx ends, nothing stays of it. id is [plan.StoreIdentity]'s.
func ImportImage(ctx context.Context, id plan.Identity, store *rootfs.Store, req ImportRequest, progress func(rootfs.Progress)) (ImportResult, error) {
	names, err := references(req.Names)
	if err != nil {
		return ImportResult{}, err
	}
	job := plan.ImportJob{Owner: id.Ownership(), ImportOptions: req.ImportOptions}
	ctx, stop := limitTime(ctx, &job.ImportOptions)
	defer stop()
	job.NeedRef = job.NeedRef || len(names) == 0 && req.Fallback == ""
	if err := sourceDirectory(&job, req.Source, store.Path()); err != nil {
		return ImportResult{}, err
	}
	staging, err := store.NewStaging(job.Owner)
	if err != nil {
		return ImportResult{}, err
	}
	job.Tree = staging.Tree.Name()
	imported, err := runImporter(ctx, id, job, req.Source, progress)
	if err != nil {
		return ImportResult{}, errors.Join(explainImport(err, store), discard(id, store, staging))
	}
	if len(names) == 0 {
		names = ownNames(imported, req.Fallback)
	}
	return commit(id, store, staging, imported, req.origin(), names)
}

// limitTime takes the limit of the time out of the options, and ends the context
// by it: whoever reads what is hostile has no say in that.
func limitTime(ctx context.Context, opt *plan.ImportOptions) (context.Context, context.CancelFunc) {
	limit := &unpack.LimitError{Limit: unpack.LimitTime, Max: plan.ImportTime}
	if seconds := opt.Limits[plan.LimitTime]; seconds > 0 {
		limit.Max = seconds
	}
	opt.Limits = maps.Clone(opt.Limits)
	delete(opt.Limits, plan.LimitTime)
	return context.WithTimeoutCause(ctx, time.Duration(limit.Max)*time.Second, fmt.Errorf("import %s: %w", opt.Name, limit))
}

// commit makes the unpacked tree an image of the store.
func commit(id plan.Identity, store *rootfs.Store, staging *rootfs.Staging, imported *plan.Imported, origin string, names []rootfs.Reference) (ImportResult, error) {
	defer staging.Close()
	result := ImportResult{Kind: imported.Kind}
	for _, n := range names {
		result.Names = append(result.Names, n.String())
	}
	info := imported.Info
	info.Source = origin
	begun := time.Now().UTC()
	var err error
	if result.Info, err = staging.Commit(info, names...); err != nil {
		emptyTrash(id, store)
		return result, err
	}
	result.Known = result.Info.Created.Before(begun)
	if result.Known {
		emptyTrash(id, store)
	} else {
		_ = ShareImage(id, store, result.Info.Key) // it only saves space
	}
	return result, nil
}

func (r *ImportRequest) origin() string {
	if r.Origin != "" {
		return r.Origin
	}
	return r.Name
}

func references(names []string) ([]rootfs.Reference, error) {
	list := make([]rootfs.Reference, len(names))
	for i, name := range names {
		var err error
		if list[i], err = rootfs.ParseReference(name); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ownNames are the names that an image brings along, as far as they can be
// names, or else the fallback, with the tag that it brings.
func ownNames(imported *plan.Imported, fallback string) []rootfs.Reference {
	var names []rootfs.Reference
	for _, ref := range imported.Refs {
		if name, err := rootfs.ParseReference(ref); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 || fallback == "" {
		return names
	}
	for _, ref := range []string{fallback + ":" + imported.Tag, fallback} {
		if name, err := rootfs.ParseReference(ref); err == nil {
			return []rootfs.Reference{name}
		}
	}
	return nil
}

// discard removes what was unpacked so far.
func discard(id plan.Identity, store *rootfs.Store, staging *rootfs.Staging) error {
	left, err := staging.Discard()
	if left == nil {
		return err
	}
	return errors.Join(err, EmptyTrash(id, store, *left))
}

// emptyTrash deletes what a commit left in the trash: the copy of an image that
// was there already, whose files may belong to subordinate ids. What it cannot
// delete is for `sbx gc` to complain about.
func emptyTrash(id plan.Identity, store *rootfs.Store) {
	_ = runWorker(id, plan.Job{EmptyTrash: &plan.TrashJob{Store: store.Path()}}, nil)
}

// explainImport adds the next step where the errno tells it.
func explainImport(err error, store *rootfs.Store) error {
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; free some space on the disk of %s, or set XDG_DATA_HOME to another disk", err, store.Path())
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && remote(store.Path()):
		return fmt.Errorf("%w; the store is on a network file system, whose server takes no files of your subordinate ids: set XDG_DATA_HOME to a directory on a local disk", err)
	}
	return err
}

// sourceDirectory fills in what the child needs to find a directory again. It
// is given by name, since a descriptor of the caller's mounts cannot be mounted
// by the child, whose mounts are a copy.
func sourceDirectory(job *plan.ImportJob, source *os.File, store string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", job.Name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", source.Fd()))
	if err != nil {
		return fmt.Errorf("find the path of %s: %w", job.Name, err)
	}
	if path == "/" || store == path || strings.HasPrefix(store, path+"/") {
		return fmt.Errorf("import %s: the store of images, %s, lies in it", job.Name, store)
	}
	job.Directory, job.Dev, job.Ino = path, st.Dev, st.Ino
	return nil
}
