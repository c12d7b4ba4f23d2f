// Package pack writes files of a root tree as a tar stream, the opposite of
// rootfs/unpack. The tree may be one that a hostile program could write
// (SECURITY E1): links are stored and never followed, nothing blocks on a fifo
// or opens a device, and mounts are not entered.
//
// The same tree gives the same bytes: entries come in the order of their names,
// each directory before what is in it, without user names, access times or
// anything else that reading changes. The format is POSIX.1-2001 (PAX) where a
// name, a number or a fraction of a second needs it.
//
// Kept: modes, owners mapped back to the numbers of an image, modification times
// to the nanosecond, user.* attributes without user.overlay.*, hard links among
// the files, and holes, in the sparse format 1.0 of GNU tar. Left out, and noted:
// sockets, devices, mounts, and names that would mean a removal in an image.
//
// Do not use this package
//   - on a tree that is being changed: nothing outside can be reached then, but a
//     file that shrinks while it is read ends the archive with an error;
//   - on the upper layer of an overlay: its whiteouts are left out like other
//     devices.
package pack
