package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// helperPrefix is what the names of all credential helpers begin with.
const helperPrefix = "docker-credential-"

// A helper may ask the user for the password of his key ring.
const helperTime = 2 * time.Minute

// maxHelperOutput bounds what a helper writes, in bytes.
const maxHelperOutput = 64 << 10

// tokenUser is the user name that stands for "the secret is an identity token".
const tokenUser = "<token>"

// askHelper runs docker-credential-NAME get, a program of the user's, as docker does: the registry on standard input, an
// answer in JSON on standard output. A helper that knows no credentials exits 1 and says so in words that are a part of the
// protocol; all others are an error.
func askHelper(helper string, registry name.Registry) (login, error) {
	if strings.Trim(helper, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return login{}, fmt.Errorf("%q is no name of a credential helper", helper)
	}
	path, err := exec.LookPath(helperPrefix + helper) //nolint:forbidigo // that is where docker has them, and they are the user's own
	if err != nil {
		return login{}, fmt.Errorf("run the credential helper %s%s: %w", helperPrefix, helper, plain(err))
	}
	server := registry.RegistryStr()
	if server == name.DefaultRegistry {
		server = authn.DefaultAuthKey
	}
	ctx, cancel := context.WithTimeout(context.Background(), helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.Stdin = strings.NewReader(server)
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	said := strings.TrimSpace(stdout.String() + " " + stderr.String())
	switch {
	case ctx.Err() != nil:
		return login{}, fmt.Errorf("run the credential helper %s: no answer within %v", path, helperTime)
	case err != nil && strings.Contains(said, "credentials not found"):
		return login{}, nil
	case err != nil:
		return login{}, fmt.Errorf("run the credential helper %s: %w: %s", path, err, said)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
		return login{}, fmt.Errorf("run the credential helper %s: its answer is no JSON", path) // and may be a secret
	}
	if answer.Username == tokenUser {
		return login{IdentityToken: answer.Secret}, nil
	}
	return login{User: answer.Username, Password: answer.Secret}, nil
}

// capped keeps the beginning of what is written to it.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), max(0, maxHelperOutput-c.Len()))])
	return len(p), nil
}

// plain takes off what an error of the os packages puts around the reason: the path stands in the message already.
func plain(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return unwrapPath(err)
}
