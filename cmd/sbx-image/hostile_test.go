package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/pull"
)

const someDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// manifestWith is a manifest with one layer, with something put in the place of something else.
func manifestWith(old, replacement string) string {
	const honest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + someDigest + `","size":2},
		"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + someDigest + `","size":10}]}`
	if !strings.Contains(honest, old) {
		panic("the manifest lacks " + old)
	}
	return strings.Replace(honest, old, replacement, 1)
}

// A registry may answer with any text where a manifest should be. Nothing is fetched after it, and no other place asked.
func TestHostileManifests(t *testing.T) {
	const manifestType, indexType = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
	layer := `"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip"`
	for name, test := range map[string]struct {
		kind, text string
		want       pull.Kind
		words      string
	}{
		"huge":             {manifestType, `{"x":"` + strings.Repeat("x", pull.MaxManifest) + `"}`, pull.TooLarge, "more than 4194304 bytes"},
		"no JSON":          {manifestType, "<html>", pull.Registry, "no JSON"},
		"empty":            {manifestType, "", pull.Registry, "no JSON"},
		"deep":             {manifestType, strings.Repeat("[", 100_000), pull.Registry, "no JSON"},
		"wrong types":      {manifestType, `{"schemaVersion":2,"layers":{},"config":{}}`, pull.Registry, "read the manifest"},
		"of version 1":     {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`, pull.Unsupported, "version 1"},
		"of another kind":  {"application/vnd.example+json", `{"schemaVersion":2}`, pull.Unsupported, "application/vnd.example+json"},
		"two kinds":        {indexType, manifestWith("", ""), pull.Unsupported, "and the registry that it is"},
		"image and index":  {manifestType, manifestWith(`"layers"`, `"manifests":[],"layers"`), pull.Unsupported, "both an image and an index"},
		"index and image":  {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[],"layers":[]}`, pull.Unsupported, "both an image and an index"},
		"artifact":         {manifestType, manifestWith("vnd.oci.image.config", "vnd.cncf.helm.config"), pull.Unsupported, "is no image"},
		"foreign layer":    {manifestType, manifestWith("vnd.oci.image.layer.v1.tar+gzip", "vnd.docker.image.rootfs.foreign.diff.tar.gzip"), pull.Unsupported, "registries do not hold"},
		"restricted layer": {manifestType, manifestWith("layer.v1.tar", "layer.nondistributable.v1.tar"), pull.Unsupported, "registries do not hold"},
		"layer with URLs":  {manifestType, manifestWith(layer, layer+`,"urls":["http://169.254.169.254/latest"]`), pull.Unsupported, "where sbx does not go"},
		"config with URLs": {manifestType, manifestWith(`"size":2`, `"size":2,"urls":["http://127.0.0.1/"]`), pull.Unsupported, "where sbx does not go"},
		"unknown layer":    {manifestType, manifestWith("vnd.oci.image.layer.v1.tar+gzip", "vnd.example"), pull.Unsupported, "which sbx does not know"},
		"no digest":        {manifestType, manifestWith(`"digest":"`+someDigest+`","size":10`, `"size":10`), pull.Unsupported, "no digest"},
		"path as digest":   {manifestType, manifestWith(someDigest+`","size":10`, `../../etc/passwd","size":10`), pull.Registry, "read the manifest"},
		"weak digest":      {manifestType, manifestWith(someDigest+`","size":10`, `md5:11111111111111111111111111111111","size":10`), pull.Registry, "read the manifest"},
		"negative size":    {manifestType, manifestWith(`"size":10`, `"size":-10`), pull.Unsupported, "below 0"},
		"sum overflows":    {manifestType, manifestWith(`"size":10}`, `"size":9223372036854775807},{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"`+someDigest+`","size":9223372036854775807}`), pull.TooLarge, "--limit download"},
		"huge config":      {manifestType, manifestWith(`"size":2`, `"size":99999999`), pull.TooLarge, "configuration has 99999999 bytes"},
		"many layers": {manifestType, manifestWith(`"layers":[`, `"layers":[`+strings.Repeat(
			`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"`+someDigest+`","size":1},`, 300)), pull.TooLarge, "301 layers"},
		"index in index": {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[{"mediaType":"` + indexType +
			`","digest":"` + someDigest + `","size":2}]}`, pull.NoPlatform, "nor for any other"},
		"index of attestations": {indexType, `{"schemaVersion":2,"manifests":[{"mediaType":"` + manifestType + `","digest":"` + someDigest +
			`","size":2,"platform":{"os":"unknown","architecture":"unknown"}}]}`, pull.NoPlatform, "nor for any other"},
		"index lies": {indexType, `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[{"mediaType":"` + manifestType +
			`","digest":"` + someDigest + `","size":2}]}`, pull.Digest, "in place of " + someDigest},
		"escape sequences in a platform": {indexType, `{"schemaVersion":2,"manifests":[{"mediaType":"` + manifestType + `","digest":"` + someDigest +
			`","size":2,"platform":{"os":"linux","architecture":"\u001b[2J"}}]}`, pull.NoPlatform, "linux/\x1b[2J"}, // quoted where it is printed
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, httptest.NewServer)
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.Header().Set("Content-Type", test.kind)
					fmt.Fprint(w, test.text)
				}
				return strings.Contains(r.URL.Path, "/manifests/")
			})
			newAttempt(t, f, "tool").mustFail(t, test.want, test.words)
			if asked := f.asked("/blobs/"); len(asked) > 0 {
				t.Errorf("blobs were asked for: %v", asked[0].URL)
			}
		})
	}
}

// What was asked for by its digest is compared, whatever the registry says of it.
func TestDigestOfManifest(t *testing.T) {
	f := newFake(t, httptest.NewServer)
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", someDigest)
			fmt.Fprint(w, manifestWith("", ""))
			return true
		}
		return false
	})
	a := newAttempt(t, f, "tool")
	a.task.Request.Source.Digest = someDigest
	a.mustFail(t, pull.Digest, "in place of "+someDigest)
}

// Whatever passes for a manifest has blobs with digests that are file names, and sizes within the limits.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(manifestWith("", "")))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := sha256.Sum256(data)
		s := stored{data: data, digest: "sha256:" + hex.EncodeToString(sum[:])}
		s.kind = "application/vnd.oci.image.manifest.v1+json"
		if s.check() != nil {
			return
		}
		if s.kind.IsIndex() {
			if digest, err := s.choose(pull.Platform{OS: "linux", Architecture: "amd64"}); err == nil && pull.CheckDigest(digest) != nil {
				t.Errorf("chose %q", digest)
			}
			return
		}
		m, err := s.image(pull.DefaultLimits())
		if err != nil {
			return
		}
		var total int64
		for _, d := range append(m.Layers, m.Config) {
			total += d.Size
			if d.Size < 0 || pull.CheckDigest(d.Digest.String()) != nil || len(d.URLs) > 0 || strings.ContainsAny(blobName(d), "/\x00") {
				t.Errorf("took %+v", d)
			}
		}
		if total > pull.DefaultLimits().Bytes || total < 0 {
			t.Errorf("took %d bytes", total)
		}
	})
}

func FuzzCheckConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"amd64","variant":"v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkConfig(data, pull.Platform{OS: "linux", Architecture: "amd64"}) == nil && !json.Valid(data) {
			t.Error("took what is no JSON")
		}
	})
}
