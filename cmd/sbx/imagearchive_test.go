package main_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdArchive makes a docker-archive as another program would:
//
//	archive OUT TREE CONFIG [TAG…]
//
// with the directory TREE as its one layer, all of it root's but what is called
// *.UID, which belongs to UID, and the file CONFIG, the "config" of the image's
// configuration.
func cmdArchive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: archive OUT TREE CONFIG [TAG…]")
	}
	config, err := os.ReadFile(ts.MkAbs(args[2]))
	ts.Check(err)
	var out bytes.Buffer
	ts.Check(writeArchive(&out, ts.MkAbs(args[1]), config, args[3:]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o644))
}

func writeArchive(out *bytes.Buffer, tree string, config []byte, tags []string) error {
	layer, err := layerOf(tree)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	configuration, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": json.RawMessage(config), "created": "2020-01-02T03:04:05Z",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": tags, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	for _, part := range []struct {
		name string
		data []byte
	}{{"manifest.json", manifest}, {"config.json", configuration}, {"layer.tar", layer}} {
		if err := w.WriteHeader(&tar.Header{Name: part.name, Mode: 0o644, Size: int64(len(part.data))}); err != nil {
			return err
		}
		if _, err := w.Write(part.data); err != nil {
			return err
		}
	}
	return w.Close()
}

// layerOf packs a tree. A file "x.1001" belongs to 1001; the ending stays.
func layerOf(tree string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == tree {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(name); err != nil {
				return err
			}
		}
		hdr, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		hdr.Name = strings.TrimPrefix(name, tree+"/")
		hdr.Uname, hdr.Gname, hdr.Uid, hdr.Gid = "", "", 0, 0
		if uid, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(name), ".")); err == nil {
			hdr.Uid, hdr.Gid = uid, uid
		}
		if err := w.WriteHeader(hdr); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}
