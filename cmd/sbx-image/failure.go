package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/pull"
)

// failure puts an error into the form in which it crosses over to sbx.
func failure(err error) *pull.Failure {
	var f *pull.Failure
	if errors.As(err, &f) {
		return f
	}
	return &pull.Failure{Kind: pull.Local, Text: err.Error(), Errno: errnoOf(err)}
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	_ = errors.As(err, &errno)
	return errno
}

// unwrapPath takes off the path that an error of package os has in front.
func unwrapPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// explain says in the user's words why the registry did not give what was asked for. what is "the tag 1 of a/b" or the like.
func (c *client) explain(err error, what string) error {
	var f *pull.Failure
	if errors.As(err, &f) {
		return f
	}
	registry := c.repository.RegistryStr()
	var answer *transport.Error
	if errors.As(err, &answer) {
		var asked *pausedError
		_ = errors.As(err, &asked)
		return c.explainAnswer(answer, what, asked)
	}
	if text := explainTLS(err, registry); text != "" {
		return &pull.Failure{Kind: pull.TLS, Text: text}
	}
	switch {
	case errors.Is(err, errPlain):
		return &pull.Failure{Kind: pull.TLS, Text: registry + ": " + errPlain.Error()}
	case errors.Is(err, errInside):
		return &pull.Failure{Kind: pull.Unsupported, Text: registry + ": " + errInside.Error()}
	case strings.Contains(err.Error(), "realm"): // the library has no type for it
		return &pull.Failure{Kind: pull.Unsupported, Text: fmt.Sprintf("%s names a token server that must not be asked: %v", registry, err)}
	}
	return &pull.Failure{Kind: pull.Network, Text: "reach " + registry + ": " + explainNetwork(err), Errno: errnoOf(err)}
}

// explainAnswer is for an answer with a status from 400 on; asked is not nil when it says when to come back.
func (c *client) explainAnswer(answer *transport.Error, what string, asked *pausedError) error {
	registry, said := c.repository.RegistryStr(), quoted(answer)
	if asked != nil {
		said += fmt.Sprintf(", and asks to wait %v", asked.pause)
	}
	switch {
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		return &pull.Failure{Kind: pull.Unauthorized, Text: registry + " refuses " + what + said + c.whoAsked()}
	case answer.StatusCode == http.StatusNotFound && has(answer, transport.NameUnknownErrorCode):
		return &pull.Failure{Kind: pull.NotFound, Text: fmt.Sprintf("%s has no image %s", registry, c.repository.RepositoryStr())}
	case answer.StatusCode == http.StatusNotFound:
		return &pull.Failure{Kind: pull.NotFound, Text: registry + " does not have " + what + said}
	case answer.StatusCode == http.StatusTooManyRequests:
		return &pull.Failure{Kind: pull.RateLimit, Text: registry + " answers that there were too many requests" + said + c.whoAsked()}
	}
	return &pull.Failure{Kind: pull.Registry, Text: fmt.Sprintf("%s answers with %d %s%s", registry, answer.StatusCode,
		strings.ToLower(http.StatusText(answer.StatusCode)), said)}
}

// whoAsked says which credentials were used, or where none were found.
func (c *client) whoAsked() string {
	l := c.task.Login
	switch {
	case l.found() && l.User != "":
		return fmt.Sprintf("; asked as %s, with the credentials in %s", l.User, l.From)
	case l.found():
		return fmt.Sprintf("; asked with the token in %s", l.From)
	case len(l.Searched) == 0:
		return "; asked without credentials"
	}
	return fmt.Sprintf("; asked without credentials, since there are none for it in %s: log in with docker or podman, or name a file with --authfile",
		strings.Join(l.Searched, ", "))
}

// quoted is what the registry itself says, shortened.
func quoted(answer *transport.Error) string {
	for _, d := range answer.Errors {
		if d.Message != "" {
			return fmt.Sprintf(" (it says: %.120s)", d.Message)
		}
	}
	return ""
}

func has(answer *transport.Error, code transport.ErrorCode) bool {
	for _, d := range answer.Errors {
		if d.Code == code {
			return true
		}
	}
	return false
}

// explainTLS is "" for an error that has nothing to do with TLS.
func explainTLS(err error, registry string) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &authority):
		return fmt.Sprintf("the certificate of %s is signed by no authority that is trusted here: name the authority's certificate with --ca-file", registry)
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate of %s is not valid: %v", registry, host)
	case errors.As(err, &invalid):
		return fmt.Sprintf("the certificate of %s is not valid: %v", registry, invalid)
	case errors.As(err, &verification):
		return fmt.Sprintf("the certificate of %s is not valid: %v", registry, verification.Err)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("%s does not speak TLS: if it is meant to be asked without encryption, add --plain-http", registry)
	case errors.As(err, &alert):
		return fmt.Sprintf("%s ends the TLS handshake: %v", registry, alert)
	}
	return ""
}

// explainNetwork takes off what net and net/http put around an errno.
func explainNetwork(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var outer *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no whole answer in time"
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("no address is known for %s", dns.Name)
	case errors.As(err, &dns):
		return fmt.Sprintf("find the address of %s: %s", dns.Name, dns.Err)
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy: " + explainNetwork(op.Err)
	case errors.As(err, &op) && op.Addr != nil:
		if errno := errnoOf(op.Err); errno != 0 {
			return fmt.Sprintf("%s at %s: %v", op.Op, op.Addr, errno)
		}
		return fmt.Sprintf("%s at %s: %v", op.Op, op.Addr, op.Err)
	case errors.As(err, &outer):
		return outer.Err.Error()
	}
	return err.Error()
}
