package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/pull"
)

// fetch carries out the task: manifest, blobs, layout.
func fetch(t task, pool, dir *os.File, out *events) (pull.Result, error) {
	ctx := context.Background() // sbx ends us by ending the process
	c, err := newClient(t)
	if err != nil {
		return pull.Result{}, err
	}
	report := &reporter{out: out}
	c.waiting = report.wait
	return c.fetch(ctx, pool, dir, report)
}

func (c *client) fetch(ctx context.Context, pool, dir *os.File, report *reporter) (pull.Result, error) {
	q := c.task.Request
	if err := c.connect(ctx); err != nil {
		return pull.Result{}, c.explain(err, "access to "+c.repository.RepositoryStr())
	}
	reference := q.Source.Digest
	if reference == "" {
		reference = q.Source.Tag
	}
	top, err := c.manifest(ctx, reference)
	if err != nil {
		return pull.Result{}, err
	}
	chosen := top
	if top.kind.IsIndex() {
		digest, err := top.choose(q.Platform)
		if err != nil {
			return pull.Result{}, err
		}
		if chosen, err = c.manifest(ctx, digest); err != nil {
			return pull.Result{}, err
		}
		if !chosen.kind.IsImage() {
			return pull.Result{}, unsupported("the index has an index in it where an image should be")
		}
	}
	m, err := chosen.image(q.Limits)
	if err != nil {
		return pull.Result{}, err
	}
	l, err := newLayout(dir)
	if err != nil {
		return pull.Result{}, err
	}
	defer l.close()
	if err := c.config(ctx, pool, l, m); err != nil {
		return pull.Result{}, err
	}
	result := pull.Result{
		Top: top.digest, Manifest: chosen.digest, Platform: q.Platform, Bytes: sizeOf(m.Layers), Layers: len(m.Layers),
		Unconfined: c.task.Unconfined,
	}
	if config := m.Config.Digest.String(); slices.Contains(q.Have, config) {
		result.Known = config
	} else if result.Resumed, err = c.layers(ctx, pool, l, m, report); err != nil {
		return pull.Result{}, err
	}
	return result, l.finish(top, chosen, q)
}

// config fetches the configuration and looks whether it is one for the platform.
func (c *client) config(ctx context.Context, pool *os.File, l *layout, m *v1.Manifest) error {
	_, err := c.blob(ctx, pool, m.Config, new(atomic.Int64), func(file *os.File) error {
		config := make([]byte, m.Config.Size)
		if _, err := file.ReadAt(config, 0); err != nil && m.Config.Size > 0 {
			return fmt.Errorf("read the download: %w", unwrapPath(err))
		}
		return errors.Join(l.add(pool, m.Config), checkConfig(config, c.task.Request.Platform))
	})
	return err
}

// layers fetches them, and returns the bytes that were there before.
func (c *client) layers(ctx context.Context, pool *os.File, l *layout, m *v1.Manifest, report *reporter) (int64, error) {
	layers := distinct(m.Layers)
	if err := room(pool, layers, c.task.Request.Limits.MinFree); err != nil {
		return 0, err
	}
	report.begin(sizeOf(layers), len(layers))
	defer report.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var resumed atomic.Int64
	slots := make(chan struct{}, parallel)
	for _, layer := range layers {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			n, err := c.blob(ctx, pool, layer, &report.bytes, func(*os.File) error { return l.add(pool, layer) })
			if err != nil {
				cancel(err) // the first one counts, and the others end by it
				return
			}
			resumed.Add(n)
			report.layers.Add(1)
		})
	}
	all.Wait()
	return resumed.Load(), context.Cause(ctx)
}

// room looks whether the disk has room for what is still to come: better now than when it is full.
func room(pool *os.File, layers []v1.Descriptor, minFree int64) error {
	need := minFree
	for _, d := range layers {
		var st unix.Stat_t
		_ = unix.Fstatat(int(pool.Fd()), blobName(d), &st, unix.AT_SYMLINK_NOFOLLOW) // what is not there has no size
		need += max(0, d.Size-st.Size)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(pool.Fd()), &fs); err != nil {
		return fmt.Errorf("look at the disk of the store: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need {
		return &pull.Failure{Kind: pull.Local, Errno: unix.ENOSPC, Text: fmt.Sprintf(
			"the image's layers need %d MB, with what is to stay free (--limit min-free), and the disk of the store has %d MB: %v", need/1e6, free/1e6, unix.ENOSPC)}
	}
	return nil
}

// distinct leaves out what comes a second time.
func distinct(list []v1.Descriptor) []v1.Descriptor {
	seen := map[string]bool{}
	var kept []v1.Descriptor
	for _, d := range list {
		if !seen[d.Digest.Hex] {
			seen[d.Digest.Hex] = true
			kept = append(kept, d)
		}
	}
	return kept
}

func sizeOf(list []v1.Descriptor) int64 {
	var sum int64
	for _, d := range list {
		sum += d.Size
	}
	return sum
}

// reporter tells sbx how far it is, a few times a second.
type reporter struct {
	out    *events
	bytes  atomic.Int64
	layers atomic.Int64
	reason atomic.Pointer[string]

	totalBytes  int64
	totalLayers int
	stop        chan struct{}
}

const reportTime = 200 * time.Millisecond

func (r *reporter) begin(bytes int64, layers int) {
	r.totalBytes, r.totalLayers, r.stop = bytes, layers, make(chan struct{})
	go func() {
		tick := time.NewTicker(reportTime)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.tell()
			case <-r.stop:
				return
			}
		}
	}()
}

func (r *reporter) end() { close(r.stop) }

func (r *reporter) wait(reason string) {
	r.reason.Store(&reason)
	if r.stop == nil {
		r.tell() // nobody else does yet
	}
}

func (r *reporter) tell() {
	p := pull.Progress{Bytes: r.bytes.Load(), TotalBytes: r.totalBytes, Layers: int(r.layers.Load()), TotalLayers: r.totalLayers}
	if reason := r.reason.Load(); reason != nil {
		p.Waiting = *reason
	}
	r.out.send(pull.Event{Progress: &p})
}
