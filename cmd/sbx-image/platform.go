package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbx-run/sbx/internal/pull"
)

// choose finds the manifest for the platform in an index, by its digest.
func (s stored) choose(want pull.Platform) (string, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(s.data))
	if err != nil {
		return "", &pull.Failure{Kind: pull.Registry, Text: fmt.Sprintf("read the index %s: %v", s.digest, err)}
	}
	var unnamed []string
	var present []string
	for _, d := range index.Manifests {
		if !d.MediaType.IsImage() {
			continue
		}
		if d.Platform == nil {
			unnamed = append(unnamed, d.Digest.String())
			continue
		}
		have := pull.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant}
		if have.OS == "unknown" || have.Architecture == "unknown" {
			continue // what build tools say about the image, not an image
		}
		if usual(have) == usual(want) {
			return d.Digest.String(), pull.CheckDigest(d.Digest.String())
		}
		present = append(present, have.String())
	}
	if len(present) == 0 && len(unnamed) == 1 {
		return unnamed[0], pull.CheckDigest(unnamed[0])
	}
	return "", noPlatform(want, present)
}

func noPlatform(want pull.Platform, present []string) error {
	slices.Sort(present)
	text := "the image is not made for " + want.String()
	switch present = slices.Compact(present); {
	case len(present) == 0:
		text += ", nor for any other platform that it names"
	default:
		const most = 20
		text += ", but for " + strings.Join(present[:min(most, len(present))], ", ")
		if len(present) > most {
			text += " and others"
		}
		text += ": choose one with --platform"
	}
	return &pull.Failure{Kind: pull.NoPlatform, Text: text}
}

// usual leaves out a variant that the architecture has anyway: every arm64 is a v8, and images say so or not.
func usual(p pull.Platform) pull.Platform {
	switch p.Architecture + "/" + p.Variant {
	case "arm64/v8", "amd64/v1", "arm/v7":
		p.Variant = ""
	}
	return p
}

// checkConfig looks whether a configuration is one for the platform. An image that does not say what it is for is taken.
func checkConfig(data []byte, want pull.Platform) error {
	var have struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	}
	if err := json.Unmarshal(data, &have); err != nil {
		return &pull.Failure{Kind: pull.Registry, Text: "the registry sends a configuration of the image that is no JSON"}
	}
	if have.Architecture == "" {
		return nil
	}
	p := pull.Platform{OS: have.OS, Architecture: have.Architecture, Variant: have.Variant}
	if p.OS != want.OS || p.Architecture != want.Architecture {
		return noPlatform(want, []string{p.String()})
	}
	return nil
}
