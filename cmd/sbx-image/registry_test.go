package main

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// server is the distribution's registry server on a port of the loopback.
type server struct {
	host string
	// client pushes to it; ca is the file with the authority that signed its certificate.
	client http.RoundTripper
	ca     string
	login  authn.Authenticator
}

// What startRegistry can be asked for.
type setup struct{ tls, password bool }

// The user alice with the password secret, as htpasswd -B writes it.
const htpasswd = "alice:$2y$05$Ez6TwiU3c1KLyc07luA6vOoNRAvGMGIY0pmQq3ZapScNjjBdNurde\n"

// startRegistry runs the program docker-registry (Debian's package of that name) until the end of the test.
func startRegistry(t *testing.T, s setup) *server {
	t.Helper()
	sbxtest.Need(t, sbxtest.Program("docker-registry"))
	dir := t.TempDir()
	srv := &server{host: freePort(t), client: http.DefaultTransport, login: authn.Anonymous}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s", dir, srv.host)
	if s.tls {
		srv.ca = filepath.Join(dir, "ca.pem")
		cert, key := certificates(t, srv.ca)
		config += fmt.Sprintf(", tls: {certificate: %s, key: %s}", cert, key)
		srv.client = trusting(t, srv.ca)
	}
	config += "}\n"
	if s.password {
		write(t, filepath.Join(dir, "htpasswd"), htpasswd)
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", filepath.Join(dir, "htpasswd"))
		srv.login = authn.FromConfig(authn.AuthConfig{Username: "alice", Password: "secret"})
	}
	write(t, filepath.Join(dir, "config.yml"), config)
	cmd := exec.Command("docker-registry", "serve", filepath.Join(dir, "config.yml"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the registry said:\n%s", said.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", srv.host)
		if err == nil {
			conn.Close()
			return srv
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not listen: %v", err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificates makes an authority and a certificate of 127.0.0.1 that it signed.
func certificates(t *testing.T, ca string) (certFile, keyFile string) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "registry"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
	}
	caKey, key := newKey(t), newKey(t)
	sign := func(path string, cert *x509.Certificate, public *ecdsa.PrivateKey) {
		der, err := x509.CreateCertificate(rand.Reader, cert, authority, &public.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	certFile, keyFile = ca+".cert", ca+".key"
	sign(ca, authority, caKey)
	sign(certFile, leaf, key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	return certFile, keyFile
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func trusting(t *testing.T, ca string) http.RoundTripper {
	t.Helper()
	pool := x509.NewCertPool()
	data, err := os.ReadFile(ca)
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatalf("read %s: %v", ca, err)
	}
	tr, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		t.Fatal("the default transport is another one")
	}
	tr = tr.Clone()
	tr.TLSClientConfig.RootCAs = pool
	return tr
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// layerOf is an uncompressed layer with one file of random bytes.
func layerOf(t *testing.T, name string, size int) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	source := mathrand.NewChaCha8([32]byte([]byte(strings.Repeat(name, 32)[:32])))
	if _, err := io.CopyN(w, source, int64(size)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer)
}

// imageOf is an image for this host's architecture, or another one.
func imageOf(t *testing.T, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{Env: []string{"FROM=" + arch}}})
	if err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// push puts an image or an index into the registry and gives its digest.
func (s *server) push(t *testing.T, ref string, what remote.Taggable) string {
	t.Helper()
	return push(t, s.host+"/"+ref, what, s.client, s.login)
}

func push(t *testing.T, ref string, what remote.Taggable, client http.RoundTripper, login authn.Authenticator) string {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	options := []remote.Option{remote.WithTransport(client), remote.WithAuth(login)}
	var digest v1.Hash
	switch w := what.(type) {
	case v1.Image:
		err = remote.Write(r, w, options...)
		digest, _ = w.Digest()
	case v1.ImageIndex:
		err = remote.WriteIndex(r, w, options...)
		digest, _ = w.Digest()
	default:
		t.Fatalf("%T is neither an image nor an index", what)
	}
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}
