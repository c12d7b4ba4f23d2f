package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"
)

// pauses says how long to wait before another try, and how often to try.
type pauses struct {
	first, longest time.Duration
	tries          int
}

func defaultPauses() pauses {
	return pauses{first: 500 * time.Millisecond, longest: 60 * time.Second, tries: 6}
}

// moment tells a try that may have been the first word to the registry from a later one. A refused connection or an unknown
// name is for the first what it is for good, and later a server that is being started again.
type moment int

const (
	firstContact moment = iota
	underWay
)

// pausedError is an error of which the registry said when to try again.
type pausedError struct {
	error
	pause time.Duration
}

func (e *pausedError) Unwrap() error { return e.error }

// retry carries out a step until it succeeds, fails for good or was tried often enough.
func (c *client) retry(ctx context.Context, m moment, step func() error) error {
	for try := 1; ; try++ {
		err := step()
		if err == nil || try >= c.pauses.tries || ctx.Err() != nil || !transient(err, m) || c.pauses.tooLong(err) {
			return err
		}
		if !c.sleep(ctx, c.pauses.before(try, err), err) {
			return err
		}
	}
}

// tooLong says that the registry asks for a longer pause than anybody waits for.
func (p pauses) tooLong(err error) bool {
	var asked *pausedError
	return errors.As(err, &asked) && asked.pause > p.longest
}

// before is the pause after the n-th try: twice as long each time, of which half is chance, so that many clients do not come
// back together; but what the registry asked for, if it did.
func (p pauses) before(n int, err error) time.Duration {
	var asked *pausedError
	if errors.As(err, &asked) {
		return min(asked.pause, p.longest)
	}
	pause := min(p.first<<min(n-1, 20), p.longest)
	return pause/2 + rand.N(pause/2+1)
}

// sleep waits, and says so when it takes long enough to be wondered at.
func (c *client) sleep(ctx context.Context, pause time.Duration, reason error) bool {
	if pause >= time.Second {
		c.waiting(fmt.Sprintf("another try in %.0f s: %s", pause.Seconds(), shortly(reason)))
		defer c.waiting("")
	}
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}

// shortly names a reason in two or three words.
func shortly(err error) string {
	var answer *transport.Error
	switch {
	case errors.As(err, &answer):
		return strings.ToLower(http.StatusText(answer.StatusCode))
	case errors.Is(err, errStalled):
		return errStalled.Error()
	}
	return "the connection broke"
}

// transient tells what may go away by itself.
func transient(err error, m moment) bool {
	var answer *transport.Error
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &answer):
		switch answer.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		}
		return answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented
	case errors.As(err, &dns):
		return dns.IsTemporary || m == underWay
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return m == underWay
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNABORTED),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, errStalled):
		return true
	case errors.As(err, &network) && network.Timeout():
		return m == underWay
	}
	return isStreamError(err)
}

// isStreamError tells what HTTP/2 says in place of a reset; net/http keeps the types of it to itself.
func isStreamError(err error) bool {
	text := err.Error()
	return strings.Contains(text, "http2: ") || strings.Contains(text, "stream error: ") ||
		strings.Contains(text, "server closed idle connection")
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	if when, err := http.ParseTime(value); err == nil {
		return max(0, when.Sub(now))
	}
	return 0
}
