package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/pull"
)

// login are the credentials for one registry, and where they come from.
type login struct {
	User, Password string
	// IdentityToken is exchanged for others at the token server, RegistryToken sent as it is.
	IdentityToken, RegistryToken string
	// From is the file that holds them or names the helper that does. Searched are those that were looked at in vain.
	From     string
	Searched []string
}

func (l login) found() bool {
	return l.User != "" || l.Password != "" || l.IdentityToken != "" || l.RegistryToken != ""
}

// authenticator is the login as the library takes it.
func (l login) authenticator() authn.Authenticator {
	if !l.found() {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: l.User, Password: l.Password, IdentityToken: l.IdentityToken, RegistryToken: l.RegistryToken,
	})
}

// place is a file of credentials. One that must exist was named by the user.
type place struct {
	path string
	must bool
}

// places are the files of credentials in the order in which they are asked: the one named by --authfile alone, or the one of
// $REGISTRY_AUTH_FILE alone, else docker's, then podman's (containers-auth.json(5)).
func places(getenv func(string) string, authFile string) []place {
	for _, path := range []string{authFile, getenv("REGISTRY_AUTH_FILE")} {
		if path != "" {
			return []place{{path, true}}
		}
	}
	var list []place
	home := getenv("HOME")
	add := func(dir string, rest ...string) {
		if filepath.IsAbs(dir) {
			list = append(list, place{path: filepath.Join(append([]string{dir}, rest...)...)})
		}
	}
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}
	add(getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	return list
}

// authFile is the file of docker and podman, as far as it is of use here.
type authFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// maxAuthFile bounds a file of credentials in bytes.
const maxAuthFile = 1 << 20

// findLogin looks for credentials for the repository. The first file that has some counts. In a file, a helper for this
// registry goes before what stands there, and that before a helper for all registries.
func findLogin(list []place, repository name.Repository) (login, error) {
	var searched []string
	for _, p := range list {
		l, err := loginFrom(p.path, repository)
		switch {
		case errors.Is(err, unix.ENOENT) && !p.must || errors.Is(err, unix.ENOTDIR) && !p.must:
			searched = append(searched, p.path)
			continue
		case err != nil:
			return login{}, &pull.Failure{Kind: pull.Credentials, Text: fmt.Sprintf("use the credentials in %s: %v", p.path, plain(err)), Errno: errnoOf(err)}
		case l.found():
			l.From = p.path
			return l, nil
		}
		searched = append(searched, p.path)
	}
	return login{Searched: searched}, nil
}

func loginFrom(path string, repository name.Repository) (login, error) {
	data, err := readBounded(path, maxAuthFile)
	if err != nil {
		return login{}, err
	}
	var file authFile
	if err := json.Unmarshal(data, &file); err != nil {
		return login{}, fmt.Errorf("it is not as docker and podman write it: %w", err)
	}
	for key, helper := range file.CredHelpers {
		if matches(key, repository) > 0 && helper != "" {
			return askHelper(helper, repository.Registry)
		}
	}
	best, length := authEntry{}, 0
	for key, entry := range file.Auths {
		if n := matches(key, repository); n > length && entry != (authEntry{}) {
			best, length = entry, n
		}
	}
	if length > 0 {
		return best.login()
	}
	if file.CredsStore != "" {
		return askHelper(file.CredsStore, repository.Registry)
	}
	return login{}, nil
}

// matches says how much of the repository's name a key of the file covers, 0 for nothing. A key is a registry, with a scheme
// and /v1/ or /v2/ in old files, or a registry and the beginning of a path in podman's.
func matches(key string, repository name.Repository) int {
	for _, scheme := range []string{"https://", "http://"} {
		key = strings.TrimPrefix(key, scheme)
	}
	key = strings.TrimSuffix(key, "/")
	for _, version := range []string{"/v1", "/v2"} {
		key = strings.TrimSuffix(key, version)
	}
	host, path, _ := strings.Cut(key, "/")
	// This knows a registry that has more than one name.
	registry, err := name.NewRegistry(host)
	if err != nil || host == "" || registry.RegistryStr() != repository.RegistryStr() {
		return 0
	}
	if path == "" || path == repository.RepositoryStr() || strings.HasPrefix(repository.RepositoryStr(), path+"/") {
		return 1 + len(path)
	}
	return 0
}

// login takes an entry apart: "auth" is USER:PASSWORD in base 64.
func (e authEntry) login() (login, error) {
	l := login{User: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return l, nil
	}
	// docker once padded with zero bytes, and others leave out the padding.
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(e.Auth, "="))
	user, password, found := strings.Cut(strings.TrimRight(string(text), "\x00"), ":")
	if err != nil || !found {
		return login{}, errors.New(`its "auth" is not USER:PASSWORD in base64`)
	}
	l.User, l.Password = user, password
	return l, nil
}

// readCertificates reads a file of certificates. What is in it is checked where it is used.
func readCertificates(path string) ([]byte, error) {
	data, err := readBounded(path, maxAuthFile)
	if err != nil {
		return nil, &pull.Failure{Kind: pull.Local, Text: fmt.Sprintf("read the certificates in %s: %v", path, plain(err)), Errno: errnoOf(err)}
	}
	return data, nil
}

// readBounded reads a file and does not wait for a pipe's other end.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes: %w", limit, unix.EFBIG)
	}
	return data, nil
}
