// Package rootfs keeps the root file systems that sandboxes run on: a store of
// images and private copies below one 0700 directory, the images copied from
// this host (base, host, scratch), copies of whole trees, and their removal.
//
// The order of a run, and the process that does each part:
//
//	supervisor  StorePath → OpenStore → Store.Collect
//	supervisor  Store.FindImage: a current image, held by a shared lock, or ErrNoImage
//	worker (U1) Build, after ErrNoImage; then FindImage once more
//	supervisor  Store.NewSandbox: sandboxes/<id>, held by an exclusive lock
//	pid 1 (U1)  PrepareOverlay, or PrepareTree and CopyTree, in the sandbox's directory
//	supervisor  Sandbox.Discard: rename to trash, delete; a part that only the
//	            id map may delete is left to EmptyTrash in a worker
//
// "Worker" is a process in the setup user namespace (U1) that the caller
// starts; everything it needs is plain data with a JSON form.
//
// All paths below a tree are resolved by openat2(2) from a descriptor with
// RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS (Linux 5.6), or are single
// components opened with O_NOFOLLOW. No program or library of a tree is ever
// run or loaded; ELF files and caches are read as bytes.
//
// Do not use this package
//   - to extract archives of strangers: that needs a confined process of its own;
//   - to copy between trees that a running program can still write: every
//     function here that walks a tree wants it quiet, and only promises that a
//     tree that is not quiet cannot lead it outside;
//   - as a general file utility: it refuses set-id bits, devices and extended
//     attributes other than user.*, on purpose.
package rootfs
