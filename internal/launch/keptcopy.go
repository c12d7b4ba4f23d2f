package launch

import (
	"errors"
	"os"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// CopyOut copies out of the sandbox, into the open directory or archive to.
func (k *Kept) CopyOut(job plan.CopyOutJob, to *os.File) (plan.Copied, error) {
	job.Tree, job.Owner = k.Tree, k.Sandbox.State.Owner
	return k.copy(plan.Job{CopyOut: &job}, to)
}

// CopyIn copies into the sandbox. What is copied belongs to its program's user.
func (k *Kept) CopyIn(job plan.CopyInJob, from *os.File) (plan.Copied, error) {
	st := k.Sandbox.State
	job.Tree = k.Tree
	job.Owner = rootfs.Ownership{Single: st.Owner.Single, UID: int(st.UID), GID: int(st.GID)}
	return k.copy(plan.Job{CopyIn: &job}, from)
}

func (k *Kept) copy(job plan.Job, other *os.File) (plan.Copied, error) {
	var result *plan.Copied
	err := workerRun{id: k.ID, job: job, files: []*os.File{other}, handle: func(rep plan.Report) error {
		result = rep.Copied
		return nil
	}}.do()
	if err == nil && result == nil {
		err = errors.New("the helper process that works in the store said nothing (please report this)")
	}
	if err != nil {
		return plan.Copied{}, err
	}
	return *result, nil
}
