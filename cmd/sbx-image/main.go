// The Go runtime keeps two descriptors open on the host's cgroup files to follow CPU limits, which a download has no use for.
//
//go:debug containermaxprocs=0

// Command sbx-image is the part of sbx that is only needed for images of others: it reads their archives (package importer)
// and fetches them from registries, which is what the rest of this directory does. sbx starts it and finds it beside itself;
// by itself it is of no use.
//
// What is to be fetched comes on standard input, and the directories to write to as descriptors, see package pull. It is done
// in two halves. The first finds credentials, which means reading the user's files and running his credential helpers, and
// has not yet spoken to anyone. Then the process gives up what it does not need any more and executes itself again: the
// second half speaks to the registry, and can read certificates and write the download, but nothing else.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/importer"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/pull"
)

// secondHalf is the argument by which the process knows itself again.
const secondHalf = "fetch"

func main() {
	if os.Args[0] == plan.ImporterName {
		os.Exit(importer.Main())
	}
	os.Exit(pullMain())
}

func pullMain() int {
	// Credentials are in memory: no core dump, and no other process of the user's that reads it.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	out := &events{to: os.Stdout}
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == secondHalf:
		err = second(os.Args[2], out)
	case len(os.Args) == 1 && isPipe(os.Stdin) && isPipe(os.Stdout):
		err = first()
	default:
		fmt.Fprintln(os.Stderr, "sbx-image is a part of sbx and is started by it: sbx image pull HOST/NAME")
		return 125
	}
	if err != nil {
		out.send(pull.Event{Failure: failure(err)})
		return 1
	}
	return 0
}

func isPipe(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// first finds what the second half needs and cannot have any more then, and becomes it.
func first() error {
	request, err := pull.ReadRequest(os.Stdin)
	if err != nil {
		return err
	}
	repository, err := repositoryOf(request)
	if err != nil {
		return err
	}
	login, err := findLogin(places(os.Getenv, request.AuthFile), repository)
	if err != nil {
		return err
	}
	t := task{Request: request, Login: login}
	if request.CAFile != "" {
		if t.CAs, err = readCertificates(request.CAFile); err != nil {
			return err
		}
	}
	return become(t)
}

// second does the work.
func second(memory string, out *events) error {
	if err := filterCalls(); err != nil {
		return err
	}
	t, err := readTask(memory)
	if err != nil {
		return err
	}
	go func() {
		// The request's pipe says nothing more, and ends with sbx.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	pool, layout := os.NewFile(pull.PoolFD, "downloads"), os.NewFile(pull.LayoutFD, "layout")
	result, err := fetch(t, pool, layout, out)
	if err != nil {
		return err
	}
	out.send(pull.Event{Result: &result})
	return nil
}

// events is the way to sbx.
type events struct {
	mu sync.Mutex
	to io.Writer
}

// send writes one line. Nobody is left to be told when it fails: sbx is gone, and the end of standard input ends us too.
func (e *events) send(event pull.Event) {
	line, err := json.Marshal(event)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = e.to.Write(append(line, '\n'))
}
