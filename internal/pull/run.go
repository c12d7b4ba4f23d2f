package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
)

// passed are the variables that the helper gets, and nothing else of the user's environment. PATH and those of the second and
// third row are for credential helpers, which are the user's own programs; the fourth says how the network is reached, the
// last whose certificates are trusted.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "LANG",
	"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "PASSWORD_STORE_DIR",
	"DOCKER_CONFIG", "REGISTRY_AUTH_FILE",
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
}

// Name is the file name of the helper program.
const Name = "sbx-image"

// Fetch has the helper, an open program, fetch an image into layout, an empty directory, by way of pool, where blobs wait
// that are not complete yet. When the context ends, so does the helper; what it has written stays in pool.
//
// The error is a *Failure for what the helper has met, with an errno in its chain where there is one. A digest in the
// request's source is compared with what is in layout; that the blobs there have the digests which the manifest gives them is
// for the one who reads them to check.
func Fetch(ctx context.Context, helper *os.File, q Request, pool, layout *os.File, progress func(Progress)) (Result, error) {
	q.Protocol = Protocol
	q.Have = q.Have[:min(len(q.Have), maxHave)]
	result, err := run(ctx, helper, q, pool, layout, progress)
	if err != nil {
		return Result{}, err
	}
	if err := verify(q, result, layout); err != nil {
		return Result{}, err
	}
	return result, nil
}

func run(ctx context.Context, helper *os.File, q Request, pool, layout *os.File, progress func(Progress)) (Result, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return Result{}, fmt.Errorf("encode the request: %w", err)
	}
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", helper.Fd()))
	cmd.Args = []string{Name}
	cmd.Dir = "/"
	cmd.Env = environment(os.LookupEnv)
	cmd.ExtraFiles = []*os.File{PoolFD - 3: pool, LayoutFD - 3: layout}
	said := &tail{}
	cmd.Stderr = said
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return Result{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, fmt.Errorf("make a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return Result{}, fmt.Errorf("start %s: %w", helper.Name(), err)
	}
	// An error here is one of a helper that has gone, which the reading end says better.
	_, _ = in.Write(append(line, '\n'))
	result, err := follow(out, progress)
	if !errors.Is(err, errNoEnd) {
		_ = cmd.Process.Kill() // it has nothing left to do, whatever it thinks
	}
	in.Close()
	waitErr := cmd.Wait()
	if errors.Is(err, errNoEnd) && interrupted(waitErr) {
		// Ctrl-C goes to both of us, and the other one was quicker.
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	switch {
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case errors.Is(err, errNoEnd):
		return Result{}, fmt.Errorf("%s ended without a result (%s)%s", helper.Name(), ending(waitErr), said.last())
	}
	return result, err
}

// interrupted tells whether a process was ended by a signal that a terminal sends.
func interrupted(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && (status.Signal() == unix.SIGINT || status.Signal() == unix.SIGQUIT || status.Signal() == unix.SIGHUP)
}

func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// environment is the helper's, of the user's.
func environment(lookup func(string) (string, bool)) []string {
	var list []string
	for _, name := range passed {
		if value, found := lookup(name); found {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	const limit = 4096
	t.kept = append(t.kept, p[max(0, len(p)-limit):]...)
	t.kept = t.kept[max(0, len(t.kept)-limit):]
	return len(p), nil
}

// last gives the first line of what was kept, as the end of a message: Go's own last words begin with the reason.
func (t *tail) last() string {
	text := string(bytes.TrimSpace(t.kept))
	if text == "" {
		return ""
	}
	first, _, _ := strings.Cut(text, "\n")
	return ": " + quote.Line(first)
}
