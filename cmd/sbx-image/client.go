package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sbx-run/sbx/internal/pull"
)

// client speaks to one registry about one repository.
type client struct {
	task       task
	repository name.Repository
	// bare sends requests without credentials, signed with them. Only requests to the registry itself are ever signed: what
	// it redirects to is asked through bare.
	bare   *guard
	signed http.RoundTripper
	pauses pauses
	small  time.Duration
	stall  time.Duration
	// waiting is told why nothing moves, and "" when it does again.
	waiting func(string)
}

// repositoryOf gives the repository in the library's form. Its own guess that a registry on this machine speaks http is held
// off in [guard].
func repositoryOf(q pull.Request) (name.Repository, error) {
	var options []name.Option
	if q.PlainHTTP {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(q.Source.Registry, options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("use the registry %s: %w", q.Source.Registry, err)
	}
	return registry.Repo(q.Source.Repository), nil
}

// How long the parts of a request may take, and all of one with a small answer. The body of a blob has no such limit, see
// [stallTime].
const (
	connectTime = 20 * time.Second
	answerTime  = 60 * time.Second
	smallTime   = 2 * time.Minute
)

// maxHeader bounds the headers of an answer in bytes.
const maxHeader = 256 << 10

func newClient(t task) (*client, error) {
	repository, err := repositoryOf(t.Request)
	if err != nil {
		return nil, err
	}
	roots, err := trustedRoots(t)
	if err != nil {
		return nil, err
	}
	dials := newDialer(repository.RegistryStr(), os.Getenv)
	base := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: dials.dial,
		TLSClientConfig: &tls.Config{
			RootCAs: roots, MinVersion: tls.VersionTLS12,
			InsecureSkipVerify: t.Request.SkipVerify, //nolint:gosec // the user asked for it, see --tls-verify
		},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // digests are of what is sent
		MaxConnsPerHost:        2 * parallel,
		MaxIdleConnsPerHost:    parallel,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    connectTime,
		ResponseHeaderTimeout:  answerTime,
		MaxResponseHeaderBytes: maxHeader,
	}
	return &client{
		task: t, repository: repository, pauses: defaultPauses(), small: smallTime, stall: stallTime, waiting: func(string) {},
		bare: &guard{inner: base, registry: repository.RegistryStr(), plain: t.Request.PlainHTTP},
	}, nil
}

func trustedRoots(t task) (*x509.CertPool, error) {
	if t.Request.CAFile == "" {
		return nil, nil // the system's
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(t.CAs) {
		return nil, &pull.Failure{Kind: pull.Local, Text: fmt.Sprintf("read the certificates in %s: none in PEM", t.Request.CAFile)}
	}
	return roots, nil
}

// connect finds out how the registry wants to be asked and gets a token where that is the way.
func (c *client) connect(ctx context.Context) error {
	return c.retry(ctx, firstContact, func() error {
		ctx, cancel := context.WithTimeout(ctx, c.small)
		defer cancel()
		signed, err := transport.NewWithContext(ctx, c.repository.Registry, c.task.Login.authenticator(), c.bare,
			[]string{c.repository.Scope(transport.PullScope)})
		if err != nil {
			return c.bare.meant(err)
		}
		c.signed = signed
		return nil
	})
}

// guard refuses requests that must not be made, whoever builds them: by the library, after a guess that a registry on a
// private address speaks http, or by an answer that redirects to a place that is not encrypted.
type guard struct {
	inner    http.RoundTripper
	registry string
	plain    bool

	mu     sync.Mutex
	failed error // the last one of a request that was made
}

// errPlain is why a request over http was not made, errEncrypted why one over https was not: --plain-http is for a registry
// that does not speak it.
var (
	errPlain     = errors.New("the registry leads to a place without encryption")
	errEncrypted = errors.New("asked over http")
)

// RoundTrip makes the request if it may be made.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Scheme != "https" && r.URL.Scheme != "http":
		return nil, fmt.Errorf("%q is no scheme of a registry", r.URL.Scheme)
	case r.URL.Scheme == "http" && !g.plain:
		return nil, errPlain
	case r.URL.Scheme == "https" && g.plain && r.URL.Host == g.registry:
		return nil, errEncrypted
	}
	response, err := g.inner.RoundTrip(r)
	if err != nil {
		g.mu.Lock()
		g.failed = err
		g.mu.Unlock()
	}
	return response, err //nolint:wrapcheck // a RoundTripper must not change it
}

// meant takes the guard's own refusal out of an error in which the library joined it with the one that counts.
func (g *guard) meant(err error) error {
	var answer *transport.Error
	if errors.As(err, &answer) || !errors.Is(err, errPlain) && !errors.Is(err, errEncrypted) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return cmp.Or(g.failed, err)
}

// maxRedirects is how often one request may be sent on.
const maxRedirects = 5

// get asks the registry, and follows redirects: those that stay at the registry with the credentials, all others without.
// The caller closes the body of the answer, which has a status below 400.
func (c *client) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	scheme := "https"
	if c.task.Request.PlainHTTP {
		scheme = "http"
	}
	where := &url.URL{Scheme: scheme, Host: c.repository.RegistryStr(), Path: path}
	for range maxRedirects + 1 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", where.Redacted(), err)
		}
		request.Header = header.Clone()
		response, err := c.through(where).RoundTrip(request)
		if err != nil {
			return nil, err //nolint:wrapcheck // explained at the end
		}
		if response.StatusCode < 300 {
			return response, nil
		}
		next, err := onward(where, response)
		if err != nil {
			return nil, err
		}
		where = next
	}
	return nil, &pull.Failure{Kind: pull.Registry, Text: fmt.Sprintf("%s redirects more than %d times", c.repository.RegistryStr(), maxRedirects)}
}

func (c *client) through(where *url.URL) http.RoundTripper {
	scheme := "https"
	if c.task.Request.PlainHTTP {
		scheme = "http"
	}
	if where.Host == c.repository.RegistryStr() && where.Scheme == scheme {
		return c.signed
	}
	return c.bare
}

// onward gives the place that an answer redirects to, or the error that it is.
func onward(from *url.URL, response *http.Response) (*url.URL, error) {
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err := from.Parse(response.Header.Get("Location"))
		if err != nil {
			return nil, &pull.Failure{Kind: pull.Registry, Text: from.Host + " redirects to what is no address"}
		}
		next.User, next.Fragment = nil, ""
		return next, nil
	}
	err := transport.CheckError(response, http.StatusOK)
	if pause := retryAfter(response.Header.Get("Retry-After"), time.Now()); pause > 0 {
		return nil, &pausedError{err, pause}
	}
	return nil, err
}

// readBody reads a body that must not have more than limit bytes.
func readBody(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &pull.Failure{Kind: pull.TooLarge, Text: fmt.Sprintf("the registry sends a manifest of more than %d bytes", limit)}
	}
	return data, nil
}
