package trial_test

import (
	"context"
	"os"
	"testing"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/sbxtest"
	"github.com/sbx-run/sbx/internal/trial"
	"github.com/sbx-run/sbx/userns"
)

// The throw-away processes are the test binary, executed again.
func TestMain(m *testing.M) {
	if os.Args[0] == trial.Name {
		os.Exit(trial.Main())
	}
	os.Exit(m.Run())
}

func facts(t *testing.T) plan.Facts {
	t.Helper()
	f, held, err := plan.Look(context.Background(), plan.Spec{Program: "true"}, plan.LookOptions{})
	held.Close()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNamespaces(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	for _, r := range trial.Namespaces(context.Background()) {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
}

// What a sandbox needs is had on a machine that runs sandboxes, under each
// identity, and the directory of the trial is gone afterwards.
func TestSetup(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.SubordinateRange())
	f := facts(t)
	for _, mode := range []userns.Mode{userns.NoMap, userns.KeepID, userns.Single} {
		if mode == userns.KeepID && f.Caller.UID == 0 {
			continue
		}
		t.Run(string(mode), func(t *testing.T) {
			id, err := plan.StoreIdentity(plan.Spec{Userns: mode}, f)
			if err != nil {
				t.Fatal(err)
			}
			parent := t.TempDir()
			dir, remove, err := trial.NewDir(parent, id)
			if err != nil {
				t.Fatal(err)
			}
			results := trial.Setup(context.Background(), trial.Request{Identity: id, CgroupNS: f.Kernel.CgroupNS, LandlockABI: f.Kernel.LandlockABI, Dir: dir})
			for _, r := range results {
				t.Logf("%-16s %v %s", r.Try, r.OK, r.Text)
				if !r.OK && r.Try != trial.Reflink && r.Try != trial.Overlay {
					t.Errorf("%+v", r)
				}
			}
			for _, try := range []trial.Try{trial.Maps, trial.Nested, trial.Third, trial.Seccomp, trial.Root} {
				if !results.OK(try) {
					t.Errorf("%s did not succeed", try)
				}
			}
			if err := remove(); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
