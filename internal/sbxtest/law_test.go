package sbxtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goPackage is the part of go list -json that the rules look at.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

// leaves know no other package of the module: each is one kernel concern.
var leaves = []string{
	"userns", "mounts", "cgroupv2", "rootfs",
	"internal/seccomp", "internal/console", "internal/landlock", "internal/forkexec", "internal/vfork", "internal/reaper", "internal/quote", "internal/early",
	"internal/probe",
}

// below are parts of a leaf in packages of their own, by the leaf: they may
// import it, each other and internal/quote, and whoever may import the leaf may
// import them.
var below = map[string]string{
	"rootfs/archive": "rootfs",
	"rootfs/export":  "rootfs",
	"rootfs/pack":    "rootfs",
	"rootfs/unpack":  "rootfs",
}

// arrows are the imports allowed above the leaves; everything there may use
// any leaf but the probe.
var arrows = map[string][]string{
	"internal/plan":          {},
	"internal/launch":        {"internal/plan", "internal/initproc"},
	"internal/initproc":      {"internal/plan"},
	"internal/trial":         {"internal/plan", "internal/launch"},
	"internal/doctor":        {"internal/plan", "internal/trial"},
	"internal/selftest":      {"internal/probe"},
	"internal/importer":      {"internal/plan"},
	"internal/pull":          {},
	"cmd/sbx-image":          {"internal/plan", "internal/importer", "internal/pull"},
	"cmd/sbx":                {"internal/plan", "internal/launch", "internal/initproc", "internal/trial", "internal/doctor", "internal/selftest", "internal/pull"},
	"internal/sbxtest":       {"internal/probe"},
	"internal/sbxtest/probe": {"internal/probe"},
	"scripts/testsum":        {},
	"scripts/benchloop":      {},
	"scripts/benchcopy":      {},
}

// Data goes one way, and so do imports: cmd → launch, initproc → plan → the
// leaves. A package that is not in the lists needs a place in them first.
func TestImportLaw(t *testing.T) {
	for _, p := range listPackages(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, known := arrows[name]
		if !known && !slices.Contains(leaves, name) && below[name] == "" {
			t.Errorf("%s has no place in the import law", name)
			continue
		}
		for _, imported := range p.Imports {
			other, own := strings.CutPrefix(imported, module+"/")
			if !own {
				continue
			}
			leaf := known && (slices.Contains(leaves, other) || below[other] != "") && other != "internal/probe"
			part := below[name] != "" && (below[name] == other || below[name] == below[other] || other == "internal/quote")
			if !leaf && !part && !slices.Contains(allowed, other) {
				t.Errorf("%s must not import %s", name, other)
			}
		}
	}
}

// Only the command knows the command-line library.
func TestOnlyCommandImportsKong(t *testing.T) {
	for _, p := range listPackages(t, "./...") {
		if p.ImportPath != module+"/cmd/sbx" && slices.Contains(p.Imports, "github.com/alecthomas/kong") {
			t.Errorf("%s imports kong", p.ImportPath)
		}
	}
}

// What is bounded about the other end of a bus is bounded in one place.
func TestOnlyCgroupsImportGodbus(t *testing.T) {
	for _, p := range listPackages(t, "./...") {
		if p.ImportPath != module+"/cgroupv2" && slices.Contains(p.Imports, "github.com/godbus/dbus/v5") {
			t.Errorf("%s imports godbus", p.ImportPath)
		}
	}
}

// Packages that must not be part of the program, with the reason. Each exec of
// sbx pays for what is linked into it, and pid 1 and its helpers are such execs.
var forbidden = map[string]string{
	"net/http":         "costs a millisecond at every start",
	"crypto/tls":       "costs a millisecond at every start",
	"testing":          "is for tests",
	"runtime/cgo":      "needs a C library of the host; the binary is static",
	"plugin":           "loads code",
	"encoding/gob":     "registers types in init functions",
	"expvar":           "brings net/http",
	"net/http/pprof":   "brings net/http",
	"html/template":    "is heavy at start",
	"go/parser":        "is for tools",
	"database/sql":     "has no use here",
	"golang.org/x/net": "brings net/http",

	"github.com/klauspost/compress/zstd": "costs, with xz, a third of a millisecond at every start; sbx-image has it",
	"github.com/ulikunitz/xz":            "costs, with zstd, a third of a millisecond at every start; sbx-image has it",
}

func TestForbiddenDependencies(t *testing.T) {
	for _, p := range listPackages(t, "./cmd/sbx") {
		for _, dependency := range p.Deps {
			if reason, bad := forbidden[dependency]; bad {
				t.Errorf("%s depends on %s, which %s", p.ImportPath, dependency, reason)
			}
		}
	}
}

// The network belongs to the registry client: no other program of the module, and no package that one of them could come to
// use, speaks HTTP.
func TestOnlyImageHelperSpeaksHTTP(t *testing.T) {
	for _, p := range listPackages(t, "./...") {
		for _, imported := range p.Imports {
			if p.ImportPath != module+"/cmd/sbx-image" && (imported == "net/http" || strings.HasPrefix(imported, "github.com/google/go-containerregistry")) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

// helperModules pins what is linked into sbx-image: all of it runs where the answers of registries are read.
var helperModules = map[string]string{
	"github.com/docker/cli":                       "of go-containerregistry: docker's file of credentials",
	"github.com/docker/docker-credential-helpers": "of docker/cli",
	"github.com/docker/go-units":                  "sizes, in package plan",
	"github.com/godbus/dbus/v5":                   "the service manager, in package cgroupv2",
	"github.com/google/go-containerregistry":      "the registry client",
	"github.com/klauspost/compress":               "gzip and zstd of layers",
	"github.com/moby/sys/mountinfo":               "reading mount tables",
	"github.com/opencontainers/go-digest":         "of go-containerregistry",
	"github.com/sirupsen/logrus":                  "of docker/cli",
	"github.com/ulikunitz/xz":                     "xz of layers",
	"golang.org/x/sys":                            "system calls",
}

func TestHelperModules(t *testing.T) {
	Need(t, GoCommand())
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/sbx-image")
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	for _, path := range linked {
		if _, known := helperModules[path]; !known && path != module {
			t.Errorf("sbx-image links %s, which is not in the list of its modules", path)
		}
	}
	for path := range helperModules {
		if !slices.Contains(linked, path) {
			t.Errorf("sbx-image does not link %s, which is in the list of its modules", path)
		}
	}
}

// directDependencies pins what go.mod asks for directly: one more is a
// decision, to be made here with a reason.
var directDependencies = map[string]string{
	"github.com/alecthomas/kong":             "the command line",
	"github.com/docker/go-units":             "sizes and ulimits as docker writes them",
	"github.com/godbus/dbus/v5":              "the exchange with the service manager",
	"github.com/google/go-containerregistry": "the registry client of sbx-image, which sbx does not link",
	"github.com/klauspost/compress":          "zstd, in sbx-image only",
	"github.com/moby/sys/mountinfo":          "reading mount tables",
	"github.com/rogpeppe/go-internal":        "testscript, in tests only",
	"github.com/ulikunitz/xz":                "xz, in sbx-image only",
	"golang.org/x/sys":                       "system calls",
}

func TestDirectDependencies(t *testing.T) {
	Need(t, GoCommand())
	out, err := exec.Command("go", "mod", "edit", "-json", "../../go.mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if _, known := directDependencies[r.Path]; !known && !r.Indirect {
			t.Errorf("go.mod requires %s, which is not in the list of direct dependencies", r.Path)
		}
	}
}

func listPackages(t *testing.T, pattern string) []goPackage {
	t.Helper()
	Need(t, GoCommand())
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Standard", pattern)
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0") // as it is built
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var list []goPackage
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}
