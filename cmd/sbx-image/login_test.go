package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sbx-run/sbx/internal/pull"
)

func TestFindLogin(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("alice:se:cret"))
	for title, test := range map[string]struct {
		file     string
		registry string
		want     login
		err      string
	}{
		"docker":            {`{"auths":{"r.example.com":{"auth":"` + basic + `"}}}`, "r.example.com/a/b", login{User: "alice", Password: "se:cret"}, ""},
		"with a port":       {`{"auths":{"r.example.com:5000":{"auth":"` + basic + `"}}}`, "r.example.com:5000/a", login{User: "alice", Password: "se:cret"}, ""},
		"another port":      {`{"auths":{"r.example.com:5000":{"auth":"` + basic + `"}}}`, "r.example.com/a", login{}, ""},
		"another host":      {`{"auths":{"r.example.com":{"auth":"` + basic + `"}}}`, "r.example.com.evil.example/a", login{}, ""},
		"old key":           {`{"auths":{"https://r.example.com/v1/":{"auth":"` + basic + `"}}}`, "r.example.com/a", login{User: "alice", Password: "se:cret"}, ""},
		"path of podman":    {`{"auths":{"r.example.com":{"username":"x","password":"y"},"r.example.com/a":{"auth":"` + basic + `"}}}`, "r.example.com/a/b", login{User: "alice", Password: "se:cret"}, ""},
		"half a word":       {`{"auths":{"r.example.com/te":{"auth":"` + basic + `"}}}`, "r.example.com/team/b", login{}, ""},
		"name and word":     {`{"auths":{"r.example.com":{"username":"x","password":"y"}}}`, "r.example.com/a", login{User: "x", Password: "y"}, ""},
		"identity token":    {`{"auths":{"r.example.com":{"identitytoken":"t"}}}`, "r.example.com/a", login{IdentityToken: "t"}, ""},
		"nothing in it":     {`{"auths":{"r.example.com":{}}}`, "r.example.com/a", login{}, ""},
		"no padding":        {`{"auths":{"r.example.com":{"auth":"` + strings.TrimRight(basic, "=") + `"}}}`, "r.example.com/a", login{User: "alice", Password: "se:cret"}, ""},
		"no base64":         {`{"auths":{"r.example.com":{"auth":"%%"}}}`, "r.example.com/a", login{}, "USER:PASSWORD in base64"},
		"no JSON":           {`[]`, "r.example.com/a", login{}, "as docker and podman write it"},
		"helper":            {`{"credHelpers":{"r.example.com":"good"},"auths":{"r.example.com":{"username":"x","password":"y"}}}`, "r.example.com/a", login{User: "of r.example.com", Password: "s"}, ""},
		"helper of another": {`{"credHelpers":{"q.example.com":"good"}}`, "r.example.com/a", login{}, ""},
		"store":             {`{"credsStore":"good","auths":{"r.example.com":{}}}`, "r.example.com/a", login{User: "of r.example.com", Password: "s"}, ""},
		"store has none":    {`{"credsStore":"none"}`, "r.example.com/a", login{}, ""},
		"token of a store":  {`{"credsStore":"token"}`, "r.example.com/a", login{IdentityToken: "t"}, ""},
		"helper fails":      {`{"credsStore":"bad"}`, "r.example.com/a", login{}, "the keyring is locked"},
		"helper babbles":    {`{"credsStore":"babble"}`, "r.example.com/a", login{}, "no JSON"},
		"helper missing":    {`{"credsStore":"missing"}`, "r.example.com/a", login{}, "docker-credential-missing"},
		"helper elsewhere":  {`{"credsStore":"../../bin/sh"}`, "r.example.com/a", login{}, "no name of a credential helper"},
	} {
		t.Run(title, func(t *testing.T) {
			dir := t.TempDir()
			for helper, body := range map[string]string{
				"good":   `printf '{"Username":"of %s","Secret":"s"}' "$(cat)"`,
				"none":   `echo 'credentials not found in native keychain'; exit 1`,
				"token":  `echo '{"Username":"<token>","Secret":"t"}'`,
				"bad":    `echo 'the keyring is locked' >&2; exit 1`,
				"babble": `echo hello`,
			} {
				path := filepath.Join(dir, helperPrefix+helper)
				write(t, path, "#!/bin/sh\n[ \"$1\" = get ] || exit 7\n"+body+"\n")
				if err := os.Chmod(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			file := filepath.Join(dir, "config.json")
			write(t, file, test.file)
			repository, err := name.NewRepository(test.registry)
			if err != nil {
				t.Fatal(err)
			}
			got, err := findLogin([]place{{path: filepath.Join(dir, "none")}, {path: file}}, repository)
			var f *pull.Failure
			if test.err != "" {
				if !errors.As(err, &f) || f.Kind != pull.Credentials || !strings.Contains(f.Text, test.err) || !strings.Contains(f.Text, file) {
					t.Fatalf("got %+v and %v", got, err)
				}
				return
			}
			if test.want.found() {
				test.want.From = file
			} else {
				test.want.Searched = []string{filepath.Join(dir, "none"), file}
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Fatalf("got %+v and %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		file string
		want []place
	}{
		"usual":              {map[string]string{"HOME": "/h"}, "", []place{{"/h/.docker/config.json", false}, {"/h/.config/containers/auth.json", false}}},
		"all":                {map[string]string{"HOME": "/h", "DOCKER_CONFIG": "/d", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c"}, "", []place{{"/d/config.json", false}, {"/r/containers/auth.json", false}, {"/c/containers/auth.json", false}}},
		"one":                {map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/a"}, "", []place{{"/a", true}}},
		"flag":               {map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/a"}, "/f", []place{{"/f", true}}},
		"no home":            {nil, "", nil},
		"relative, not used": {map[string]string{"HOME": "h"}, "", nil},
	} {
		if got := places(func(v string) string { return test.env[v] }, test.file); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://r.example.com/v1/":{"auth":"YTpi"},"r.example.com/a":{"identitytoken":"t"}}}`))
	repository, err := name.NewRepository("r.example.com/a/b")
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "auth.json")
	f.Setenv("PATH", "") // no helper of the machine's is run
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := loginFrom(path, repository); err != nil && l.found() {
			t.Errorf("an error, and a login: %v", err)
		}
	})
}
