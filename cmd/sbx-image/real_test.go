package main

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// The whole way: sbx, the helper in both halves, a real registry, the import.
func TestPullFromRegistry(t *testing.T) {
	s := startRegistry(t, setup{})
	host := runtime.GOARCH
	digest := s.push(t, "team/tool:1", imageOf(t, host, layerOf(t, "one", 300_000), layerOf(t, "two", 5)))
	other := imageOf(t, "s390x", layerOf(t, "three", 10))
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, host, layerOf(t, "four", 10)), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: host}}},
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}})
	indexDigest := s.push(t, "team/several:latest", index)
	wrong := "sha256:" + strings.Repeat("0", 64)

	for name, test := range map[string]struct {
		args []string
		out  string
		err  string
	}{
		"tag":               {[]string{"/team/tool:1"}, digest, ""},
		"digest":            {[]string{"/team/tool@" + digest}, digest, ""},
		"tag and digest":    {[]string{"/team/tool:1@" + digest}, digest, ""},
		"index":             {[]string{"/team/several"}, indexDigest, ""},
		"index by digest":   {[]string{"/team/several@" + indexDigest}, indexDigest, ""},
		"platform":          {[]string{"/team/several", "other", "--platform", "linux/s390x"}, indexDigest, ""},
		"no such tag":       {[]string{"/team/tool:2"}, "", "does not have the tag 2 of team/tool"},
		"no such image":     {[]string{"/team/nothing"}, "", "does not have the tag latest of team/nothing"},
		"no such digest":    {[]string{"/team/tool@" + wrong}, "", "does not have the digest " + wrong},
		"no such platform":  {[]string{"/team/several", "--platform", "linux/riscv64"}, "", "not made for linux/riscv64, but for linux/" + host + ", linux/s390x"},
		"another's machine": {[]string{"/team/tool:1", "--platform", "linux/riscv64"}, "", "not made for linux/riscv64, but for linux/" + host},
		"too large":         {[]string{"/team/tool:1", "--limit", "download=1000"}, "", "more than 1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			box := sbxtest.NewStore(t)
			args := append([]string{"image", "pull", "--plain-http", s.host + test.args[0]}, test.args[1:]...)
			result := box.Run(t, args...)
			if (result.Exit == 0) != (test.err == "") || !strings.Contains(result.Stderr, test.out) || !strings.Contains(result.Stderr, test.err) {
				t.Fatalf("want %q and %q on stderr:\n%v", test.out, test.err, result)
			}
			left, _ := filepath.Glob(filepath.Join(box.Store(), "downloads", "[^.]*"))
			for _, path := range left {
				// A refused image may leave its configuration for the next try.
				if info, err := os.Stat(path); err != nil || info.IsDir() || test.err == "" {
					t.Errorf("left behind: %s", path)
				}
			}
		})
	}
}

// A real registry sends the rest of a blob.
func TestResumeFromRegistry(t *testing.T) {
	s := startRegistry(t, setup{})
	layer := layerOf(t, "one", 300_000)
	s.push(t, "tool:1", imageOf(t, runtime.GOARCH, layer))
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	box := sbxtest.NewStore(t)
	downloads := filepath.Join(box.Store(), "downloads")
	if err := os.MkdirAll(downloads, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(downloads, digest.Algorithm+"-"+digest.Hex), string(content[:123_000]))
	if result := box.MustRun(t, "image", "pull", "--plain-http", s.host+"/tool:1"); !strings.Contains(result.Stderr, "123kB of them from an earlier try") {
		t.Errorf("%v", result)
	}
}

// A registry of this machine is asked over TLS as any other one, unless the flag says so.
func TestLoopbackIsNoExcuse(t *testing.T) {
	s := startRegistry(t, setup{})
	s.push(t, "tool:1", imageOf(t, runtime.GOARCH, layerOf(t, "one", 10)))
	result := sbxtest.NewStore(t).Run(t, "image", "pull", s.host+"/tool:1")
	if result.Exit != 125 || !strings.Contains(result.Stderr, "does not speak TLS") || !strings.Contains(result.Stderr, "--plain-http") {
		t.Fatalf("%v", result)
	}
}

func TestPullWithTLSAndPassword(t *testing.T) {
	s := startRegistry(t, setup{tls: true, password: true})
	digest := s.push(t, "tool:1", imageOf(t, runtime.GOARCH, layerOf(t, "one", 10)))
	ref := s.host + "/tool:1"
	good := `{"auths": {"` + s.host + `": {"auth": "YWxpY2U6c2VjcmV0"}}}`
	bad := `{"auths": {"https://` + s.host + `/v2/": {"username": "bob", "password": "x"}}}`

	for name, test := range map[string]struct {
		files map[string]string
		env   []string
		args  []string
		err   []string // none: it works
	}{
		"docker's file":        {files: map[string]string{".docker/config.json": good}, args: []string{"--ca-file", s.ca}},
		"DOCKER_CONFIG":        {files: map[string]string{"x/config.json": good}, env: []string{"DOCKER_CONFIG=$HOME/x"}, args: []string{"--ca-file", s.ca}},
		"podman's file":        {files: map[string]string{".config/containers/auth.json": good}, args: []string{"--ca-file", s.ca}},
		"REGISTRY_AUTH_FILE":   {files: map[string]string{"a.json": good, ".docker/config.json": bad}, env: []string{"REGISTRY_AUTH_FILE=$HOME/a.json"}, args: []string{"--ca-file", s.ca}},
		"--authfile":           {files: map[string]string{"a.json": good, ".docker/config.json": bad}, args: []string{"--ca-file", s.ca, "--authfile", "$HOME/a.json"}},
		"SSL_CERT_FILE":        {files: map[string]string{".docker/config.json": good}, env: []string{"SSL_CERT_FILE=" + s.ca}},
		"no look at it":        {files: map[string]string{".docker/config.json": good}, args: []string{"--tls-verify=false"}},
		"unknown authority":    {files: map[string]string{".docker/config.json": good}, err: []string{"signed by no authority", "--ca-file"}},
		"no credentials":       {args: []string{"--ca-file", s.ca}, err: []string{s.host + " refuses", "there are none for it in", "/.docker/config.json"}},
		"wrong password":       {files: map[string]string{".docker/config.json": bad}, args: []string{"--ca-file", s.ca}, err: []string{"asked as bob", "credentials in", "/.docker/config.json"}},
		"broken file":          {files: map[string]string{".docker/config.json": "{"}, args: []string{"--ca-file", s.ca}, err: []string{"/.docker/config.json", "as docker and podman write it"}},
		"no such authfile":     {args: []string{"--authfile", "$HOME/nothing"}, err: []string{"--authfile", "no such file"}},
		"no http where TLS is": {args: []string{"--plain-http"}, err: []string{"400 bad request"}},
	} {
		t.Run(name, func(t *testing.T) {
			box := sbxtest.NewStore(t)
			for file, text := range test.files {
				path := filepath.Join(box.Home, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, path, text)
			}
			fill := func(list []string) (filled []string) {
				for _, s := range list {
					filled = append(filled, strings.ReplaceAll(s, "$HOME", box.Home))
				}
				return filled
			}
			box.Env = fill(test.env)
			result := box.Run(t, fill(append([]string{"image", "pull", ref}, test.args...))...)
			if (result.Exit == 0) != (test.err == nil) || test.err == nil && !strings.Contains(result.Stderr, digest) {
				t.Fatalf("%v", result)
			}
			for _, words := range test.err {
				if !strings.Contains(result.Stderr, words) {
					t.Errorf("stderr lacks %q:\n%v", words, result)
				}
			}
		})
	}
}
