package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// dialer makes the connections. A registry must not make this process knock at doors of this machine, or at the address where
// clouds hand out credentials, by a redirect to there or by a token server that lies there; nor by a name that means such an
// address. Through a proxy it is the proxy that decides.
type dialer struct {
	registry, proxies []string // HOST:PORT

	mu    sync.Mutex
	known bool // whether the registry's address was seen
	local bool // and all that were seen are of this machine
}

// errInside is why a connection was not made.
var errInside = errors.New("the registry leads to an address of this machine or of its local link, which it may not")

func newDialer(registry string, getenv func(string) string) *dialer {
	d := &dialer{}
	for _, port := range []string{"443", "80"} {
		d.registry = append(d.registry, withPort(registry, port))
	}
	for _, variable := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		if value := getenv(variable); value != "" {
			d.proxies = append(d.proxies, proxyAddress(value))
		}
	}
	return d
}

// proxyAddress is where the proxy of a variable is, as net/http will dial it: the scheme may be left out.
func proxyAddress(value string) string {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	proxy, err := url.Parse(value)
	if err != nil {
		return ""
	}
	port := map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	if port == "" {
		port = "80"
	}
	return withPort(proxy.Host, port)
}

// withPort adds the port to HOST, unless it has one.
func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := net.Dialer{Timeout: connectTime, Control: d.check}
	switch {
	case slices.Contains(d.registry, address):
		dial.Control = d.learn
	case slices.Contains(d.proxies, address):
		dial.Control = nil
	}
	return dial.DialContext(ctx, network, address) //nolint:wrapcheck // net/http wraps it
}

// learn notes whether the registry is on this machine itself, in which case it may lead to other places there.
func (d *dialer) learn(_, address string, _ syscall.RawConn) error {
	inside := isInside(address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.local = inside && (d.local || !d.known)
	d.known = true
	return nil
}

// check is for all other places. The address is the one that the kernel will connect to, after the name was resolved.
func (d *dialer) check(_, address string, _ syscall.RawConn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if isInside(address) && !d.local {
		return errInside
	}
	return nil
}

// isInside tells the addresses that reach this machine or its link alone. Private ranges are not among them: registries of
// companies keep their blobs there.
func isInside(address string) bool {
	where, err := netip.ParseAddrPort(address)
	if err != nil {
		return true
	}
	ip := where.Addr().Unmap()
	return !ip.IsGlobalUnicast()
}
