// Package plan decides what a run will do, as plain data, before anything is
// done.
//
//	argv ─kong→ Spec ─Look: reads the host→ Facts ─Build: pure→ Plan ─Stages→ launch, initproc
//
// Spec is what was asked, Facts what this host is, Plan what will be done. None
// holds a live thing; all three survive a round trip through JSON. Everything
// that can be refused is refused in Build, before the first side effect.
// `sbx plan` prints [Plan.Stages]; pid 1 carries out the same list; an error
// carries the index of its stage. So the dry run, the log, the execution and
// the error message cannot tell different stories.
package plan
