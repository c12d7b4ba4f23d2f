// Package unpack applies the layers of an image, each an uncompressed tar
// stream, to one directory, lowest layer first. Archives come from strangers:
// nothing outside of the directory is read, changed or removed, whatever is in
// them (SECURITY D2 to D11).
//
// How an entry gets its place:
//
//   - The name is checked as text: no "..", no component above 255 bytes, no
//     more than Limits.Depth components. A leading "/" is dropped.
//   - The parent is resolved from the directory's descriptor as after chroot(2)
//     (openat2(2) with RESOLVE_IN_ROOT), so absolute links such as
//     /var/run → /run lead where they would in the running image. Missing
//     parents are made, links to nothing are not followed.
//   - What is there already is taken away first, unless it and the entry are
//     directories. The entry is then made new (O_EXCL), never written through.
//   - Owner, mode and times are set through the new file's descriptor. Times of
//     directories come last, and those that the layer changes without listing
//     them keep theirs.
//
// Whiteouts (".wh.NAME", ".wh..wh..opq") remove what lower layers made, and
// never what the same layer made. Links are data: they are stored as they are.
//
// What is left out, and noted in [State]: devices, fifos, attributes other than
// user.*, ids beyond the range. A character device 0:0 would be a whiteout of
// overlayfs, and is left out like any other device.
//
// [Layer] wants the rights of root over the tree: capabilities in a user
// namespace in which the owners are mapped are enough. Run it in a process that
// is confined to the directory all the same. With Options.Single no capability
// is needed as long as no directory of a lower layer lacks u+rwx.
//
// Do not use this package
//   - on a tree that another process changes meanwhile: nothing outside can be
//     reached then either, but the result may be neither old nor new;
//   - to go on after an error: the tree is half made, and to be thrown away;
//   - for archives that are compressed, or to verify a digest: the caller wraps
//     the reader. A layer is read to its end, so a hash is complete afterwards;
//   - as a tar command: there is no choice of entries and no renaming.
package unpack
